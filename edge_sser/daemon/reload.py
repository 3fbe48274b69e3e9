"""Settings read again while listening goes on: what can change at once does, the rest waits for a restart."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from edge_sser.daemon.systemd import Supervisor
from edge_sser.errors import EdgeSserError
from edge_sser.model.model import Model
from edge_sser.pipeline.rolling import Thresholds
from edge_sser.settings.schema import Settings
from edge_sser.sinks.open import TABLES, Outputs

LIVE: Final = ("rolling", "episode", *TABLES)  # tables that change without a restart

log = logging.getLogger("edge_sser.daemon")


class Reloader:
    """Reads settings again when somebody asks for it, in a thread: outputs take their time to close and open.

    Settings that are wrong, or name an output that cannot be opened, are refused as a whole, with a line in the log.

    Args:
        settings: in effect.
        load: reads them; raises SettingsError.
        asked: how often somebody has asked for it so far.
        model: its card has a part in the thresholds.
        outputs: changed as the settings say.
        supervisor: is told when it begins and ends.
    """

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        *,
        asked: Callable[[], int],
        model: Model,
        outputs: Outputs,
        supervisor: Supervisor,
    ) -> None:
        self._settings = settings
        self._load = load
        self._model = model
        self._outputs = outputs
        self._supervisor = supervisor
        self._asked = asked
        self._answered = 0
        self._thread: threading.Thread | None = None
        self._news: Settings | None = None

    def news(self) -> Settings | None:
        """Settings that have come into effect since this was last asked; None when none have. Never waits."""
        if self._thread is not None and not self._thread.is_alive():
            self._thread = None
            self._supervisor.reloaded()
        asked = self._asked()
        if asked != self._answered and self._thread is None:
            self._answered = asked
            self._supervisor.reloading()
            self._thread = threading.Thread(target=self._reload, name="edge-sser-reload")
            self._thread.start()
        news, self._news = self._news, None
        return news

    def close(self) -> None:
        """Waits for a reload that has begun."""
        if self._thread is not None:
            self._thread.join()

    def _reload(self) -> None:
        try:
            loaded = self._load()
            Thresholds.of(loaded.rolling, elevated=self._model.card.elevated, high=self._model.card.high)
            new = self._settings.model_copy(update={table: getattr(loaded, table) for table in LIVE})
            self._outputs.apply(new)
        except EdgeSserError as error:
            log.error("settings refused, those before stay in effect: %s", error)
            return
        waiting = [name for name in type(new).model_fields if getattr(loaded, name) != getattr(new, name)]
        if waiting:
            log.warning("settings read again, but %s: changed only by a restart", ", ".join(waiting))
        else:
            log.info("settings read again")
        self._settings = self._news = new
