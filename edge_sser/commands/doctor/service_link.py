"""Search for a running service that is connected to a broker: by the open files of processes, as Linux shows them."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from edge_sser.settings.broker import BrokerAddress

ESTABLISHED = "01"  # in the fourth column of /proc/net/tcp


def connected_service(address: BrokerAddress, proc: Path = Path("/proc")) -> int | None:
    """Returns the pid of a process that holds an outbox open and a connection to a broker; None without one.

    Processes of other users show their files to root only.
    """
    connections = {f"socket:[{inode}]" for inode in _connections(address, proc)}
    if not connections:
        return None
    for process in proc.glob("[0-9]*"):
        files = set()
        with suppress(OSError):  # ended, or of another user
            for descriptor in (process / "fd").iterdir():
                with suppress(OSError):
                    files.add(os.readlink(descriptor))
        if files & connections and any(Path(name).name == "outbox.db" for name in files):
            return int(process.name)
    return None


def _connections(address: BrokerAddress, proc: Path) -> Iterator[str]:
    """Yields the inodes of this machine's connections to a broker."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return
    peers = {_kernel_form(family, str(where[0]), address.port) for family, _, _, _, where in found}
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (proc / "net" / table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == ESTABLISHED and columns[2] in peers:
                    yield columns[9]


def _kernel_form(family: int, host: str, port: int) -> str:
    """Returns an address as /proc/net/tcp writes it: words of 32 bits in the order of this machine."""
    packed = socket.inet_pton(family, host.partition("%")[0])
    words = (packed[start : start + 4] for start in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words) + f":{port:04X}"
