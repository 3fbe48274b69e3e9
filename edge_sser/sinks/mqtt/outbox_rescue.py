"""Rescue of a damaged outbox file: its readable rows go into a new one, which takes its place in one step."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection
from contextlib import closing, suppress
from pathlib import Path

from edge_sser.files import move_into_place
from edge_sser.sinks.mqtt.outbox_file import (
    COLUMNS,
    Entry,
    Key,
    OutboxFile,
    connect,
    remove_log,
    remove_outbox,
    undecodable_is_damage,
    valid_entry,
)


def salvage(path: Path) -> list[Entry]:
    """Returns every row of a damaged file that can be read and has the right checksum, in order."""
    found: dict[int, Entry] = {}
    for direction in ("ASC", "DESC"):  # from both ends, up to the first unreadable row
        with suppress(sqlite3.Error), undecodable_is_damage(), closing(connect(path)) as db:
            for row in db.execute(f"SELECT {COLUMNS} FROM event ORDER BY n {direction}"):  # noqa: S608
                entry = valid_entry(row)
                if entry is not None:
                    found[row[0]] = entry
    return [found[n] for n in sorted(found)]


def rescue(path: Path, *, known: Collection[Key], lost: int, max_bytes: int, destination: str = "") -> int:
    """Replaces a damaged file by one with every row that can be read, and keeps the old one as PATH.damaged.

    Killed at any moment, it leaves the damaged file or the whole new one; `finish_rescue` then does the rest.

    Args:
        path: the damaged file.
        known: keys of entries to leave out.
        lost: as in `OutboxFile.commit`, before.
        max_bytes: likewise.
        destination: of the damaged file, where the caller knows it; empty to read it from the file.

    Returns:
        The number of rows that could be read, those left out included.

    Raises:
        OSError: the new file cannot be written.
        sqlite3.Error: likewise.
    """
    readable = salvage(path)
    saved = [entry for entry in readable if entry.key not in known]
    part = path.with_name(path.name + ".part")
    remove_outbox(part)  # of a killed process
    file = OutboxFile(part)
    try:
        file.commit(add=saved, lost=lost, max_bytes=max_bytes, durable=True)  # without a stream: a new one begins
        file.set_destination(destination or _destination(path))
    finally:
        file.close()  # which moves the log into the file
    move_into_place(part, path.with_name(path.name + ".rescued"))
    finish_rescue(path)
    return len(readable)


def _destination(path: Path) -> str:
    """Returns the destination of a damaged file; empty when it cannot be read."""
    with suppress(sqlite3.Error), undecodable_is_damage(), closing(connect(path)) as db:
        for (value,) in db.execute("SELECT value FROM fact WHERE name = 'destination'"):
            return str(value)
    return ""


def finish_rescue(path: Path) -> None:
    """Puts the new file of `rescue` in the place of the damaged one; does nothing when there is none.

    Raises:
        OSError: a file cannot be moved.
    """
    rescued = path.with_name(path.name + ".rescued")
    if not rescued.exists():
        return
    damaged = path.with_name(path.name + ".damaged")  # one at most, so that they cannot pile up
    with suppress(OSError):  # some file systems have no links; the copy is a convenience
        damaged.unlink(missing_ok=True)
        os.link(path, damaged)
    remove_log(path)  # which must not be applied to the new file
    move_into_place(rescued, path)
