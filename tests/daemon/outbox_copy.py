"""Contents of a daemon's outbox, read with SQL from a copy of its files."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class OutboxCopy:
    """An outbox at a moment.

    Attributes:
        stream: of the newest entry; empty in a new file.
        last: topic -> the newest number given.
        rows: (stream, topic, number) -> payload, of what waits.
        lost: entries dropped for want of room or to damage.
    """

    stream: str = ""
    last: dict[str, int] = field(default_factory=dict)
    rows: dict[tuple[str, str, int], bytes] = field(default_factory=dict)
    lost: int = 0


def read_outbox(path: Path) -> OutboxCopy:
    """Copies the files of an outbox and reads the copy: the contents for a fresh process. The files stay as they are.

    One that does not exist, or that a daemon has only begun to make, is empty.

    Raises:
        sqlite3.Error: it is damaged; or a daemon wrote to it while it was copied.
    """
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / path.name
        for suffix in ("", "-wal"):
            with suppress(FileNotFoundError):
                shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
        with closing(sqlite3.connect(copy)) as db:
            if db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
                return OutboxCopy()
            facts = dict(db.execute("SELECT name, value FROM fact"))
            rows = db.execute("SELECT stream, topic, seq, payload FROM event ORDER BY n")
            return OutboxCopy(
                stream=facts.get("stream", ""),
                last=dict(db.execute("SELECT name, last FROM topic")),
                rows={(stream, topic, number): payload for stream, topic, number, payload in rows},
                lost=facts.get("lost", 0),
            )


def waiting_in(path: Path, topic: str) -> list[bytes]:
    """Returns the payloads for a topic in the outbox of a running daemon; none while the daemon writes to the file."""
    with suppress(sqlite3.Error):
        return [payload for (_, its, _), payload in read_outbox(path).rows.items() if its == topic]
    return []


def is_drained(path: Path) -> bool:
    """Returns True when an outbox is empty; False while a daemon writes to the file."""
    with suppress(sqlite3.Error):
        return not read_outbox(path).rows
    return False
