"""Settings read again while listening goes on: some change at once, the rest needs a restart."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from edge_sser.daemon.systemd import ServiceReporter
from edge_sser.errors import EdgeSserError
from edge_sser.model.model import Model
from edge_sser.monitor.operating import expected_rule
from edge_sser.settings.schema import Settings
from edge_sser.sinks.open import TABLES, ConfiguredSinks

LIVE: Final = ("rolling", "baseline", "episode", *TABLES)  # tables that change without a restart

log = logging.getLogger("edge_sser.daemon")


class Reloader:
    """Reads settings again on request, in a worker thread: outputs take their time to close and open.

    Settings that are wrong, or name an output that cannot be opened, are refused as a whole, with a line in the log.

    Args:
        settings: in effect.
        load: reads the settings; raises SettingsError.
        requests: number of reloads that were requested so far.
        model: its card has a part in the thresholds.
        outputs: changed as the settings say.
        reporter: notifies the service manager when a reload begins and ends.
    """

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        *,
        requests: Callable[[], int],
        model: Model,
        outputs: ConfiguredSinks,
        reporter: ServiceReporter,
    ) -> None:
        self._settings = settings
        self._load = load
        self._requests = requests
        self._model = model
        self._outputs = outputs
        self._reporter = reporter
        self._answered = 0
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="edge-sser-reload")
        self._reload: Future[Settings | None] | None = None

    def poll(self) -> Settings | None:
        """Starts a requested reload; returns the settings of a finished one if they were accepted. Never blocks."""
        settings = None
        if self._reload is not None and self._reload.done():
            settings, self._reload = self._reload.result(), None
            self._settings = settings or self._settings
            self._reporter.reloaded()
        requests = self._requests()
        if requests != self._answered and self._reload is None:
            self._answered = requests
            self._reporter.reloading()
            self._reload = self._worker.submit(self._load_and_apply, self._settings)
        return settings

    def close(self) -> None:
        """Waits for a reload that has begun."""
        self._worker.shutdown()

    def _load_and_apply(self, before: Settings) -> Settings | None:
        """Changes the outputs; returns the settings that the sources need, or None when the new ones are refused."""
        try:
            loaded = self._load()
            new = before.model_copy(update={table: getattr(loaded, table) for table in LIVE})
            rule = expected_rule(new, self._model.card)
            if rule.warning:
                log.warning("%s", rule.warning)
            log.info("%s", rule.outlook)
            self._outputs.apply(new)
        except EdgeSserError as error:
            log.error("settings refused, those before stay in effect: %s", error)
            return None
        except Exception:  # a defect must not end listening
            log.exception("settings could not be read again, those before stay in effect")
            return None
        waiting = [name for name in type(new).model_fields if getattr(loaded, name) != getattr(new, name)]
        if waiting:
            log.warning("settings read again, but %s: changed only by a restart", ", ".join(waiting))
        else:
            log.info("settings read again")
        return new
