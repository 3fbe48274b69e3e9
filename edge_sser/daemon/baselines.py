"""Files of baselines: one for each source, in the folder `baselines` of the state directory."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from edge_sser.errors import EdgeSserError, SinkError
from edge_sser.events import timestamp
from edge_sser.files import state_directory, write_file
from edge_sser.pipeline.baseline import Baseline

SCHEMA: Final = 1
MAX_BYTES: Final = 4096
FUTURE_SECONDS: Final = 86_400.0  # that a file's date may lie ahead of a clock that is wrong
FILE_MODE, FOLDER_MODE = 0o600, 0o700


@dataclass(frozen=True, slots=True)
class SavedBaseline:
    """Content of a file.

    Attributes:
        source: name of the source.
        model: label of the model whose log-odds were learned.
        updated: RFC 3339.
        baseline: the state.
    """

    source: str
    model: str
    updated: str
    baseline: Baseline


class BaselineFileError(EdgeSserError):
    """A file of a baseline that is damaged, from the future, or of another source."""


def baseline_path(source: str) -> Path:
    """Returns the path of a source's file, which may be missing.

    Raises:
        SettingsError: there is no state directory.
    """
    return state_directory() / "baselines" / f"{source}.json"


def saved_sources() -> list[str]:
    """Returns the names of the sources with a file, sorted.

    Raises:
        EdgeSserError: the folder cannot be read.
    """
    folder = baseline_path("any").parent
    try:
        return sorted(path.stem for path in folder.iterdir() if path.suffix == ".json" and path.stem[0] != ".")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise EdgeSserError(f"{folder}: cannot be read ({error.strerror}): check owner and mode") from None


def save_baseline(source: str, model: str, baseline: Baseline, *, now: float | None = None) -> Path:
    """Replaces the file of a source, and returns its path.

    Args:
        source: name of the source.
        model: label of the model.
        baseline: to save.
        now: seconds since the epoch; those of the clock when None.

    Raises:
        SinkError: the file cannot be written.
        SettingsError: there is no state directory.
    """
    path = baseline_path(source)
    values = {
        "schema": SCHEMA,
        "source": source,
        "model": model,
        "updated": timestamp(time.time() if now is None else now),
        **baseline.to_dict(),
    }
    text = json.dumps(values, indent=2) + "\n"
    write_file(path, text, SinkError, "the old file is unchanged", mode=FILE_MODE, folder_mode=FOLDER_MODE)
    return path


def load_baseline(source: str, *, now: float | None = None) -> SavedBaseline | None:
    """Reads the file of a source; None when there is none.

    Args:
        source: name of the source.
        now: seconds since the epoch; those of the clock when None.

    Raises:
        BaselineFileError: the file cannot be used; the message ends with the command that removes it.
        SettingsError: there is no state directory.
    """
    path = baseline_path(source)
    remedy = f"remove it with edge-sser baseline reset {source}"
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BaselineFileError(f"{path}: cannot be read ({error.strerror}): check owner and mode") from None
    try:
        saved = _parse(data)
    except (ValueError, RecursionError) as error:
        raise BaselineFileError(f"{path}: truncated or damaged ({error}): {remedy}") from None
    if saved.source != source:
        raise BaselineFileError(f"{path}: belongs to the source {saved.source[:64]}: {remedy}")
    ahead = datetime.fromisoformat(saved.updated.replace("Z", "+00:00")).timestamp()
    if ahead > (time.time() if now is None else now) + FUTURE_SECONDS:
        raise BaselineFileError(f"{path}: dated {saved.updated}, in the future: check the clock, or {remedy}")
    return saved


def remove_baseline(source: str) -> bool:
    """Removes the file of a source. Returns False when there was none.

    Raises:
        SinkError: the file cannot be removed.
        SettingsError: there is no state directory.
    """
    path = baseline_path(source)
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise SinkError(f"{path}: cannot be removed ({error.strerror}): check owner and mode") from None
    return True


def _parse(data: bytes) -> SavedBaseline:
    if len(data) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES} bytes")
    values: Any = json.loads(data)
    if not isinstance(values, dict) or values.get("schema") != SCHEMA:
        raise ValueError(f"schema is not {SCHEMA}")
    source, model, updated = (values.get(key) for key in ("source", "model", "updated"))
    if not (isinstance(source, str) and isinstance(model, str) and isinstance(updated, str)):
        raise ValueError("source, model or date is missing")
    if datetime.fromisoformat(updated.replace("Z", "+00:00")).tzinfo is None:
        raise ValueError("the date has no time zone")
    return SavedBaseline(source, model, updated, Baseline.from_dict(values))
