"""A network that breaks while a PUBLISH is half sent."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from enum import Enum
from typing import BinaryIO

PUBLISH_QOS_1 = 0x32  # the first byte of the packet: type 3, QoS 1, neither retained nor a repetition


class Break(Enum):
    """Ways in which a connection ends."""

    RESET = "reset"  # as by a router that has forgotten it
    HOLE = "hole"  # nothing comes through any more, in silence, as with a cable pulled behind the next switch


class HalfCable:
    """A TCP proxy on loopback that forwards MQTT packets of a client whole, except the one it breaks.

    Args:
        target: the broker's port.

    Attributes:
        breaks: how many connections it broke.
        connections: how many it took.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._next: Break | None = None
        self._sockets: list[socket.socket] = []
        self.breaks = 0
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def break_next(self, how: Break) -> None:
        """Breaks the connection that carries the next PUBLISH, in its middle."""
        self._next = how

    def close(self) -> None:
        """Ends every connection."""
        for sock in (self._listener, *self._sockets):
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self.connections += 1
                self._sockets += [client, server]
                broken = threading.Event()
                threading.Thread(target=self._answers, args=(server, client, broken), daemon=True).start()
                threading.Thread(target=self._requests, args=(client, server, broken), daemon=True).start()

    def _answers(self, server: socket.socket, client: socket.socket, broken: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while (data := server.recv(65536)) and not broken.is_set():
                client.sendall(data)
        if not broken.is_set():
            client.close()

    def _requests(self, client: socket.socket, server: socket.socket, broken: threading.Event) -> None:
        with contextlib.suppress(OSError), client.makefile("rb") as stream:
            while packet := _read_packet(stream):
                how = self._next
                if how is None or packet[0] != PUBLISH_QOS_1:
                    server.sendall(packet)
                    continue
                self._next = None
                broken.set()
                server.sendall(packet[: len(packet) // 2])
                if how is Break.RESET:
                    for sock in (client, server):
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        sock.close()
                self.breaks += 1
                return
        server.close()


def _read_packet(stream: BinaryIO) -> bytes:
    """Returns the next MQTT packet; empty at the end."""
    head = stream.read(1)
    if not head:
        return b""
    length = shift = 0
    while True:
        byte = stream.read(1)
        head += byte
        length |= (byte[0] & 0x7F) << shift
        shift += 7
        if not byte[0] & 0x80:
            return head + stream.read(length)
