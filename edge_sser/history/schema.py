"""The history file: SQLite in WAL mode, its schema, and the checks that it is one. All times are unix seconds, UTC.

* sources: each pair of node and source has a number.
* episodes: `ended` is null while an episode is open.
* health: one row for each change.
* minutes: one row for each minute with readings. `speech` is the mean share of speech; `mean`, `max` and `level` (the
  highest) are of the rolling stress in the windows with speech, and null in a minute without speech: silence is not
  calm. `seconds` is the time of its readings; `low_s`, `elevated_s` and `high_s` the part at each level, with speech.
* readings: each reading as JSON, only when asked for.
* facts: `live` is the path of the live file, see live.py.

A schema change raises `VERSION`. A file of a newer version, or of another program, is never written.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from edge_sser.errors import HistoryError

APPLICATION_ID: Final = 0x65735348  # "esSH", at byte 68 of the file
VERSION: Final = 2
FILE_NAME: Final = "history.sqlite"  # in the state directory
SUFFIXES: Final = ("", "-wal", "-shm")  # of the files that belong together
_MAGIC: Final = b"SQLite format 3\x00"
_HEADER_BYTES: Final = 100

CREATE: Final = """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
BEGIN IMMEDIATE;
CREATE TABLE sources (id INTEGER PRIMARY KEY, node TEXT NOT NULL, source TEXT NOT NULL, UNIQUE (node, source));
CREATE TABLE episodes (id TEXT PRIMARY KEY, source_id INTEGER NOT NULL, started REAL NOT NULL, ended REAL,
    level TEXT NOT NULL, peak REAL NOT NULL, mean REAL NOT NULL, duration_s REAL NOT NULL, model TEXT NOT NULL);
CREATE INDEX episodes_started ON episodes (started);
CREATE TABLE health (source_id INTEGER NOT NULL, ts REAL NOT NULL, state TEXT NOT NULL, detail TEXT NOT NULL,
    PRIMARY KEY (source_id, ts)) WITHOUT ROWID;
CREATE TABLE minutes (source_id INTEGER NOT NULL, minute INTEGER NOT NULL, readings INTEGER NOT NULL,
    speech REAL NOT NULL, mean REAL, max REAL, level TEXT, seconds REAL NOT NULL, low_s REAL NOT NULL,
    elevated_s REAL NOT NULL, high_s REAL NOT NULL, PRIMARY KEY (source_id, minute)) WITHOUT ROWID;
CREATE TABLE readings (source_id INTEGER NOT NULL, ts REAL NOT NULL, json TEXT NOT NULL,
    PRIMARY KEY (source_id, ts)) WITHOUT ROWID;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
PRAGMA application_id = {application};
PRAGMA user_version = {version};
COMMIT;
"""

# Version 1 knew the highest level of a minute only, and held readings of half a second.
_SECONDS_1: Final = "min(60.0, readings * 0.5)"
_DURATIONS_1: Final = {
    "seconds": _SECONDS_1,
    **{f"{level}_s": f"(level IS '{level}') * speech * {_SECONDS_1}" for level in ("low", "elevated", "high")},
}


class DamagedHistoryError(HistoryError):
    """The file is a history, but damaged."""


def check_file(path: Path) -> bool:
    """Returns True when a file is a history, False when there is none yet or it is empty.

    Raises:
        DamagedHistoryError: the file begins with nulls, as after a power cut.
        HistoryError: the file is something else, or of a newer version.
        OSError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except FileNotFoundError:
        return False
    if not header:
        return False
    if not any(header):
        raise DamagedHistoryError(f"{path}: the history file is damaged (it holds nothing)")
    if not header.startswith(_MAGIC):
        raise HistoryError(f"{path}: this is no history file, and is left as it is: name another path")
    application = int.from_bytes(header[68:72], "big")
    version = int.from_bytes(header[60:64], "big")
    if application == 0 and version == 0 and Path(f"{path}-wal").exists():
        return True  # killed while it was made: all that it holds may still stand in the log
    if application != APPLICATION_ID:
        raise foreign(path)
    if version > VERSION:
        raise HistoryError(
            f"{path}: written by a newer edge-sser (version {version} of the file, this one knows {VERSION}), and "
            "left as it is: update edge-sser, or name another path"
        )
    return True


def foreign(path: Path) -> HistoryError:
    """Returns the error for a database of another program."""
    return HistoryError(f"{path}: this is another program's database, and is left as it is: name another path")


def create(db: sqlite3.Connection) -> None:
    """Creates the tables in an empty file.

    Raises:
        sqlite3.Error: the file cannot be written.
    """
    db.executescript(CREATE.format(application=APPLICATION_ID, version=VERSION))


def upgrade(db: sqlite3.Connection) -> None:
    """Brings the tables of an older version up to date.

    Raises:
        sqlite3.Error: the file cannot be written.
    """
    if _version(db) != 1:
        return
    columns = [f"ALTER TABLE minutes ADD COLUMN {name} REAL NOT NULL DEFAULT 0;" for name in _DURATIONS_1]
    values = ", ".join(f"{name} = {sql}" for name, sql in _DURATIONS_1.items())
    db.executescript(
        f"BEGIN IMMEDIATE; {' '.join(columns)} UPDATE minutes SET {values}; "  # noqa: S608
        f"PRAGMA user_version = {VERSION}; COMMIT;"
    )


def read_as_current(db: sqlite3.Connection) -> None:
    """Lets queries find the columns of this version in a file of an older one, which is not changed."""
    if _version(db) == 1:
        values = ", ".join(f"{sql} AS {name}" for name, sql in _DURATIONS_1.items())
        db.execute(f"CREATE TEMP VIEW minutes AS SELECT *, {values} FROM main.minutes")  # noqa: S608


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def is_damage(error: sqlite3.Error) -> bool:
    """Returns True for an error of a damaged file, False for one of the disk, of permissions or of locks."""
    return any(part in str(error) for part in ("malformed", "not a database", "no such", "has no column"))
