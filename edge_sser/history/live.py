"""The live file: the newest events of each source, for programs on this machine that show values within a second.

The history file gets a minute when the minute is over, so that a memory card lives long. What happens now stands in a
small JSON file in memory (tmpfs), replaced atomically at most twice a second, and at least every 5 s while `listen`
runs. The history's table `facts` holds its path under `live`, so a reader needs the path of the history alone:

    {"schema": 1, "ts": unix seconds of writing, "pid": process id,
     "sources": [{"node": "cab12", "source": "desk", "reading": {...} or null, "health": {...} or null,
                  "episode": {...} or null, the open one}]}

The events are those of the contract. A file that is missing, or older than `STALE_SECONDS`, means that nobody listens.
Readers poll it: a read is one system call more than a stat, and needs no connection, no thread and no protocol.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_sser.events import Episode, Event, Health, Phase, Reading

SCHEMA: Final = 1
STALE_SECONDS: Final = 15.0  # age at which a live file counts as left behind
WRITE_SECONDS: Final = 0.5  # between two writes, at least
HEARTBEAT_SECONDS: Final = 5.0  # between two writes, at most


@dataclass(frozen=True, slots=True)
class LiveSource:
    """Newest events of a source, as plain values of the contract; None where there is none."""

    node: str
    source: str
    reading: Mapping[str, Any] | None
    health: Mapping[str, Any] | None
    episode: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Live:
    """Content of the live file.

    Attributes:
        ts: time of writing, unix seconds.
        sources: in the order of their names.
    """

    ts: float
    sources: tuple[LiveSource, ...]


def live_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Returns the folder of the live file: the service's runtime directory, the user's, or one in shared memory."""
    service = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if service:
        return Path(service)
    user = environ.get("XDG_RUNTIME_DIR", "")
    return Path(user) / "edge-sser" if os.path.isabs(user) else Path(f"/dev/shm/edge-sser-{os.getuid()}")  # noqa: S108


def live_path(history: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Returns the live file of a history file; each history has its own."""
    name = hashlib.sha256(str(history.absolute()).encode()).hexdigest()[:8]
    return live_directory(environ) / f"live-{name}.json"


def read_live(path: Path, *, now: float | None = None) -> Live | None:
    """Returns the content of a live file; None when nobody listens: it is missing, stale or not readable.

    Args:
        path: of the live file.
        now: unix seconds; the present when None.
    """
    try:
        content = json.loads(path.read_bytes())
        live = Live(
            float(content["ts"]),
            tuple(
                LiveSource(each["node"], each["source"], each["reading"], each["health"], each["episode"])
                for each in content["sources"]
            ),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return live if abs((time.time() if now is None else now) - live.ts) <= STALE_SECONDS else None


class LiveFile:
    """Keeps the newest events of each source, and writes them.

    Args:
        path: of the live file. Its folder is made for its owner alone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sources: dict[tuple[str, str], dict[str, bytes]] = {}
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}")

    def add(self, event: Event, line: bytes) -> None:
        """Takes an event with its JSON."""
        if not isinstance(event, (Reading, Episode, Health)):
            return
        newest = self._sources.setdefault((event.node, event.source), {})
        if isinstance(event, Episode) and event.phase is Phase.END:
            newest.pop("episode", None)
        else:
            newest[event.type] = line

    def write(self, now: float) -> None:
        """Replaces the file. No fsync: a file in memory has nothing to lose at a power cut.

        Args:
            now: unix seconds.

        Raises:
            OSError: the file cannot be written.
        """
        sources = b",".join(
            b'{"node":%b,"source":%b,%b}'
            % (
                json.dumps(node).encode(),
                json.dumps(source).encode(),
                b",".join(b'"%b":%b' % (kind.encode(), newest.get(kind, b"null")) for kind in _KINDS),
            )
            for (node, source), newest in sorted(self._sources.items())
        )
        content = b'{"schema":%d,"ts":%.3f,"pid":%d,"sources":[%b]}' % (SCHEMA, now, os.getpid(), sources)
        folder = self.path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid not in (0, os.getuid()):  # in /dev/shm anybody may make folders
            raise PermissionError(errno.EPERM, f"{folder} belongs to another user")
        descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(descriptor, content)
        finally:
            os.close(descriptor)
        os.replace(self._temporary, self.path)

    def remove(self) -> None:
        """Removes the file: nobody listens any more."""
        for path in (self._temporary, self.path):
            with suppress(OSError):
                path.unlink()


_KINDS: Final = ("reading", "health", "episode")
