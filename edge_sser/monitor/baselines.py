"""Baselines of sources on disk: one JSON file a source in the state directory.

{"schema": 2, "source": "desk", "model": "sser-cnn@ab12cd34", "anchor": -1.9, "value": -1.8, "deviation": 0.2,
 "heard_seconds": 41.5, "declared": true, "updated": "2026-01-02T03:04:05.678Z"}
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_sser.errors import EdgeSserError, SinkError, SourceError, short
from edge_sser.events import epoch_seconds, timestamp
from edge_sser.files import state_directory, write_file
from edge_sser.pipeline.baseline import Baseline

SCHEMA: Final = 2
MAX_BYTES: Final = 4096  # a baseline has some 200
FUTURE_SECONDS: Final = 86_400.0  # a board without a clock of its own can be some hours behind after a start
SAVE_SECONDS: Final = 60.0  # between two writes of a source, at least: a memory card wears out
FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700

log = logging.getLogger("edge_sser.daemon")


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedBaseline:
    """A baseline as it was saved.

    Attributes:
        source: name of the source.
        model: label of the model that it belongs to.
        baseline: its state.
        updated: RFC 3339.
    """

    source: str
    model: str
    baseline: Baseline
    updated: str


def baselines_folder() -> Path:
    """Returns the folder of baselines.

    Raises:
        SettingsError: there is no state directory.
    """
    return state_directory() / "baselines"


def baseline_path(source: str) -> Path:
    """Returns the file of a source's baseline; errors as for `baselines_folder`."""
    return baselines_folder() / f"{source}.json"


def saved_names() -> list[str]:
    """Returns the names of the sources that have a file, in order; errors as for `baselines_folder`."""
    return sorted(path.stem for path in baselines_folder().glob("*.json") if not path.name.startswith("."))


def save_baseline(source: str, model: str, baseline: Baseline) -> Path:
    """Replaces the file of a source; returns its path.

    Args:
        source: name of the source.
        model: label of the model that scored the speech.
        baseline: state.

    Raises:
        EdgeSserError: the file cannot be written.
    """
    path = baseline_path(source)
    _write(path, _content(source, model, baseline, time.time()))
    _give_to_service(path)
    return path


def load_baseline(source: str) -> SavedBaseline:
    """Reads the file of a source.

    Raises:
        SourceError: there is no file, it is damaged, or its date lies in the future.
        SettingsError: there is no state directory.
    """
    return _read(baseline_path(source), source, time.time())


def remove_baseline(source: str) -> None:
    """Removes the file of a source, if there is one.

    Raises:
        EdgeSserError: it cannot be removed.
    """
    path = baseline_path(source)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise SinkError(f"{path}: cannot be removed ({error.strerror}): remove it as the user who owns it") from None


class BaselineStore:
    """Baselines of the sources of a running program: read at the start, written at most once a minute and at the end.

    A file that another program changed or removed meanwhile, as `edge-sser baseline` does, wins over the own state.
    Writing is done by a worker thread, because a disk can take seconds. A fault is logged once and does not end
    listening.
    """

    def __init__(self, model: str, wall_clock: Callable[[], float] = time.time) -> None:
        """Prepares a store; nothing is read yet.

        Args:
            model: label of the model in use.
            wall_clock: seconds since the epoch.
        """
        self._model = model
        self._wall_clock = wall_clock
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="edge-sser-baseline")
        self._seen: dict[str, tuple[int, ...] | None] = {}  # identity of each file as last read or written
        self._saved: dict[str, dict[str, Any]] = {}
        self._writing: dict[str, Future[None]] = {}
        self._failed = False

    def has(self, source: str) -> bool:
        """Returns True when there is a file of a source."""
        try:
            return baseline_path(source).exists()
        except EdgeSserError:
            return False

    def load(self, source: str) -> Baseline | None:
        """Returns the saved baseline of a source; None when there is none that can be used, with a line in the log."""
        try:
            path = baseline_path(source)
            self._seen[source] = _identity(path)
            if self._seen[source] is None:
                return None
            saved = _read(path, source, self._wall_clock())
            if saved.model != self._model:
                raise SourceError(f"baseline {path}: it belongs to the model {short(saved.model)}, not {self._model}")
        except EdgeSserError as error:
            log.warning("%s; it is not used, and is learned again", error)
            return None
        self._saved[source] = saved.baseline.to_dict()
        return saved.baseline

    def sync(self, source: str, baseline: Baseline) -> Baseline | None:
        """Writes a baseline that has changed, in the background.

        Returns:
            another baseline to use from now on, when another program changed or removed the file; else None.
        """
        writing = self._writing.get(source)
        if writing is not None and not writing.done():
            return None
        try:
            path = baseline_path(source)
        except EdgeSserError as error:
            self._fail(error)
            return None
        if source in self._seen and _identity(path) != self._seen[source]:
            log.warning("%s: its baseline was changed by another program and is read again", source)
            return self.load(source) or Baseline()
        state = baseline.to_dict()
        if baseline.heard_seconds > 0.0 and state != self._saved.get(source):
            self._saved[source] = state
            content = _content(source, self._model, baseline, self._wall_clock())
            self._writing[source] = self._worker.submit(self._write, source, path, content)
        return None

    def reset(self, source: str) -> None:
        """Removes the file of a source in the background, after a write that is under way."""
        self._saved.pop(source, None)
        self._writing[source] = self._worker.submit(self._remove, source)

    def close(self) -> None:
        """Waits for the last writes."""
        self._worker.shutdown()

    def _write(self, source: str, path: Path, content: str) -> None:
        try:
            _write(path, content)
            self._seen[source] = _identity(path)
        except EdgeSserError as error:
            self._fail(error)

    def _remove(self, source: str) -> None:
        try:
            remove_baseline(source)
            self._seen[source] = None
        except EdgeSserError as error:
            self._fail(error)

    def _fail(self, error: EdgeSserError) -> None:
        if not self._failed:
            log.warning("%s; baselines are lost when listening ends", error)
        self._failed = True


def _content(source: str, model: str, baseline: Baseline, now: float) -> str:
    values = {"schema": SCHEMA, "source": source, "model": model, **baseline.to_dict(), "updated": timestamp(now)}
    return json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n"


def _write(path: Path, content: str) -> None:
    remedy = "make room, or give the folder to the user who runs edge-sser; the old baseline is unchanged"
    write_file(path, content, SinkError, remedy, mode=FILE_MODE, folder_mode=FOLDER_MODE)


def _give_to_service(path: Path) -> None:
    """As root, gives a file and its folder to the owner of the state directory, which is the user of the service."""
    if os.geteuid() == 0:
        owner = path.parent.parent.stat()
        for each in (path.parent, path):
            os.chown(each, owner.st_uid, owner.st_gid)


def _read(path: Path, source: str, now: float) -> SavedBaseline:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError("it is too large")
        values = json.loads(content.decode())
        if not isinstance(values, dict) or values.get("schema") != SCHEMA:
            raise ValueError(f"it is not of schema {SCHEMA}")
        if values.get("source") != source:
            raise ValueError("it is of another source")
        model, updated = values.get("model"), values.get("updated")
        if not isinstance(model, str) or not isinstance(updated, str):
            raise ValueError("model or date is missing")
        if epoch_seconds(updated) > now + FUTURE_SECONDS:
            raise ValueError(f"its date {short(updated)} lies in the future")
        baseline = Baseline.from_dict(values)
    except (OSError, ValueError, RecursionError, OverflowError, TypeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(
            f"baseline {path}: it cannot be used ({short(str(reason))}): edge-sser baseline learn or reset {source}"
        ) from None
    return SavedBaseline(source=source, model=model, baseline=baseline, updated=updated)


def _identity(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_ino, status.st_mtime_ns, status.st_size)
