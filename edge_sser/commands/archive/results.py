"""Results of an archive on disk: Parquet datasets of readings, episodes and files, written batch by batch.

A batch is three parts of one name. Its part in `files/` is written last: a recording is done when it stands there.
Parts without it, left by a kill, are removed at the next start.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edge_sser import __version__
from edge_sser.commands.archive.batch import ArchiveOptions, BatchResult
from edge_sser.errors import SinkError, UsageError
from edge_sser.files import atomic_replace, write_file

if TYPE_CHECKING:
    import pyarrow as pa

READINGS, EPISODES, FILES = TABLES = ("readings", "episodes", "files")
DESCRIPTION: Final = "archive.json"
_LOCK: Final = ".lock"
_REMEDY: Final = "make room and start again: what is done is not done twice"


class ArchiveResults:
    """The folder of an archive's results; a new one, or one to go on with.

    Args:
        out: the folder.
        options: of the analysis.
        model: label of the model.

    Attributes:
        done: paths of the recordings that are done, as in the tables.

    Raises:
        UsageError: the folder holds something else, or results of other options, or another process writes it.
        SinkError: it cannot be written.
    """

    def __init__(self, out: Path, options: ArchiveOptions, model: str) -> None:
        self.out = out
        description = {"edge_sser": __version__, "model": model, "options": _fingerprint(options)}
        self._lock = -1
        try:
            self._open(description)
        except OSError as error:
            raise SinkError(f"--out {out}: cannot be written ({error.strerror}): choose another folder") from None
        self.done = set(self.files(["path"]).column("path").to_pylist())

    def add(self, result: BatchResult) -> None:
        """Writes a batch.

        Raises:
            SinkError: the folder cannot be written.
        """
        from pyarrow import parquet

        name = f"{uuid.uuid4().hex}.parquet"
        for table, content in zip(TABLES, (result.readings, result.episodes, result.files), strict=True):
            with atomic_replace(self.out / table / name, SinkError, _REMEDY) as temporary:
                parquet.write_table(content, temporary, compression="zstd")
        self.done.update(result.files.column("path").to_pylist())

    def files(self, columns: list[str] | None = None) -> pa.Table:
        """Returns the table of files.

        Raises:
            SinkError: it cannot be read.
        """
        import pyarrow as pa
        from pyarrow import parquet

        from edge_sser.commands.archive.tables import file_schema

        schema = file_schema()
        wanted = schema if columns is None else pa.schema([schema.field(name) for name in columns])
        parts = sorted((self.out / FILES).glob("*.parquet"))
        try:
            tables = [parquet.ParquetFile(part).read(columns=wanted.names) for part in parts]
        except (OSError, pa.ArrowException) as error:
            raise SinkError(f"{self.out / FILES}: a part cannot be read ({error}): remove it, to do it again") from None
        return pa.concat_tables([wanted.empty_table(), *tables])

    def close(self) -> None:
        """Lets other processes write the folder."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _open(self, description: dict[str, Any]) -> None:
        known = self.out / DESCRIPTION
        if self.out.is_dir() and not known.exists() and {path.name for path in self.out.iterdir()} - {_LOCK}:
            raise UsageError(f"--out {self.out}: the folder holds something else: choose a new or an empty one")
        for table in TABLES:
            (self.out / table).mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.out / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"--out {self.out}: another edge-sser writes there: wait, or choose another folder"
            ) from None
        if known.exists():
            self._check(json.loads(known.read_text("utf-8")), description)
        else:
            write_file(known, json.dumps(description, indent=2) + "\n", SinkError)
        whole = {path.name for path in (self.out / FILES).glob("*.parquet")}
        for path in (path for table in TABLES for path in (self.out / table).iterdir()):
            if path.name not in whole:
                path.unlink()

    def _check(self, before: dict[str, Any], now: dict[str, Any]) -> None:
        for key, value in now.items():
            if before.get(key) != value:
                name = {"edge_sser": "another version of edge-sser", "model": "another model"}.get(
                    key, "other settings"
                )
                raise UsageError(f"--out {self.out}: was begun with {name}: choose another folder, or remove this one")


def _fingerprint(options: ArchiveOptions) -> str:
    """Returns a digest of all that a result depends on beside the model and the version."""
    sections = ("gate", "window", "rolling", "baseline", "episode")
    parts = [getattr(options.settings, section).model_dump_json() for section in sections]
    text = "\n".join((*parts, str(options.channel), options.times.text))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
