"""Test rig: a real broker, a subscriber that records messages, a cable that can be cut, and events."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_sser.events import (
    BaselineState,
    Episode,
    Event,
    Health,
    HealthState,
    Level,
    Phase,
    Reading,
    Status,
    StatusState,
    timestamp,
    to_line,
)
from edge_sser.sinks.base import Sink

SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
MOSQUITTO = shutil.which("mosquitto", path=SEARCH)
LIMIT_SECONDS = 60.0  # for anything that must happen; reached only by a failing test
PORTS_EACH = 250  # for each process that runs tests
NODE = "cab12"
STATUS = Status(
    node=NODE,
    ts="2026-01-02T03:04:05.678Z",
    state=StatusState.ONLINE,
    version="0.1.0",
    model="sser-cnn@ab12cd34",
    provider="CPUExecutionProvider",
    host="cabinet",
)


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """Waits until a condition holds, and returns its value."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError(f"did not happen: {what}")


def _claim_ports() -> tuple[range, socket.socket]:
    """Reserves ports for this process among all that run tests on this machine, and the socket that holds the claim.

    They lie below the ports that Linux gives to connections, so that none of those sits on the port of a broker that is
    away for a moment.
    """
    for first in range(20_000, 32_500, PORTS_EACH):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0edge-sser-test-ports-{first}")  # an abstract name, free again when the process ends
        except OSError:
            claim.close()
        else:
            return range(first, first + PORTS_EACH), claim
    raise AssertionError("no stretch of ports is free: too many processes run tests on this machine")


_OWN_PORTS, _claim = _claim_ports()
_PORTS = itertools.cycle(_OWN_PORTS)


def free_port() -> int:
    """Returns a port of 127.0.0.1 that nobody has, nor is given while the test runs."""
    for port in itertools.islice(_PORTS, PORTS_EACH):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError(f"no port is free from {_OWN_PORTS.start} to {_OWN_PORTS.stop - 1}")


class Broker:
    """mosquitto on a loopback port, with its state in a directory."""

    def __init__(self, directory: Path, *extra: str, port: int | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self._config = directory / "mosquitto.conf"
        self._log = directory / "mosquitto.log"
        lines = [
            *(["user root"] if os.geteuid() == 0 else []),
            "per_listener_settings false",
            f"listener {self.port} 127.0.0.1",
            # With the defaults a killed broker forgets what it had acknowledged for a subscriber that is away.
            "persistence true",
            f"persistence_location {directory}/",
            "autosave_on_changes true",
            "autosave_interval 1",
            "max_queued_messages 1000000",
            *(extra or ("allow_anonymous true",)),
        ]
        self._config.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Broker:
        assert MOSQUITTO is not None
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([MOSQUITTO, "-c", str(self._config)], stdout=log, stderr=log)
        eventually(self._answers, f"mosquitto starts; see {self._log}")
        return self

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def kill(self) -> None:
        """Kills the broker, as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def log_text(self) -> str:
        """Returns the text of its log."""
        return self._log.read_text()

    def reload(self) -> None:
        """Makes it read its access rules and passwords again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None


@dataclass(frozen=True)
class Received:
    topic: str
    payload: bytes
    qos: int
    retained: bool
    properties: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.payload)


@dataclass
class Subscriber:
    """A client with a session that outlives connections, which remembers all messages."""

    port: int
    filters: tuple[str, ...] = ("#",)
    qos: int = 1
    protocol: paho.MQTTProtocolVersion = paho.MQTTv5
    tls: Any = None
    login: tuple[str, str] | None = None
    client_id: str = ""
    received: list[Received] = field(default_factory=list)

    def start(self) -> Subscriber:
        v5 = self.protocol == paho.MQTTv5
        clean = {} if v5 else {"clean_session": False}
        client_id = self.client_id or f"subscriber-{id(self)}"
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id, protocol=self.protocol, **clean)
        if self.tls is not None:
            self.client.tls_set_context(self.tls)
        if self.login is not None:
            self.client.username_pw_set(*self.login)
        self.subscribed = threading.Event()
        self.client.on_connect = lambda client, *_: client.subscribe([(name, self.qos) for name in self.filters])
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.on_disconnect = lambda *_: self.subscribed.clear()
        self.client.on_message = self._on_message
        self.client.reconnect_delay_set(0.1, 0.1)  # type: ignore[arg-type]
        if v5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 3600
            self.client.connect_async("127.0.0.1", self.port, clean_start=False, properties=properties)
        else:
            self.client.connect_async("127.0.0.1", self.port)
        self.client.loop_start()
        self.ready()
        return self

    def ready(self) -> None:
        assert self.subscribed.wait(LIMIT_SECONDS), "the subscriber did not get through"

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        pairs = getattr(message.properties, "UserProperty", []) if message.properties else []
        self.received.append(Received(message.topic, message.payload, message.qos, message.retain, dict(pairs)))

    def on(self, topic: str) -> list[Received]:
        return [message for message in list(self.received) if message.topic == topic]

    def payloads(self, topic: str) -> list[bytes]:
        """Returns the payloads on a topic, without duplicates, in the order of first arrival."""
        return list(dict.fromkeys(message.payload for message in self.on(topic)))

    def episodes(self) -> list[Received]:
        return [message for message in list(self.received) if message.topic.endswith("/episode")]

    def publish(self, topic: str, payload: str | bytes, *, retain: bool = False) -> None:
        self.client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(LIMIT_SECONDS)

    def stop(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


class Cable:
    """A TCP proxy on loopback between a client and the broker, to be cut or held up.

    Args:
        target: the broker's port.
        cut_after: closes each connection when the client has sent so many bytes; None for never.
        answer: called with the client's first bytes; what it returns is sent back and the connection closed.
            None lets the connection through.
    """

    def __init__(
        self, target: int, *, cut_after: int | None = None, answer: Callable[[bytes], bytes | None] | None = None
    ) -> None:
        self._target = target
        self.cut_after = cut_after
        self._answer = answer
        self._flow = threading.Event()
        self._flow.set()
        self._shut = False
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        if self._shut:
            client.close()
            return
        first = client.recv(65536) if self._answer is not None else b""
        reply = self._answer(first) if self._answer is not None else None
        if reply is not None:
            client.sendall(reply)
            client.close()
            return
        try:
            server = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            client.close()
            return
        server.sendall(first)
        self._pairs.append((client, server))
        threading.Thread(target=self._pump, args=(server, client, None), daemon=True).start()
        self._pump(client, server, self.cut_after)

    def _pump(self, source: socket.socket, drain: socket.socket, left: int | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._flow.wait()
                if left is not None:
                    data, left = data[:left], left - len(data)
                drain.sendall(data)
                if left is not None and left <= 0:
                    break
        for sock in (source, drain):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def cut(self) -> None:
        """Breaks every connection; new ones may come."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for sock in pair:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def shut(self) -> None:
        """Breaks every connection and turns new ones away until `admit`."""
        self._shut = True
        self.cut()

    def admit(self) -> None:
        self._shut = False

    def hold(self) -> None:
        """Lets nothing through, silently."""
        self._flow.clear()

    def release(self) -> None:
        self._flow.set()

    def close(self) -> None:
        self._listener.close()
        self.release()
        self.cut()


def episode(number: int, phase: Phase = Phase.END, *, source: str = "desk", run: str = "a") -> Episode:
    return Episode(
        phase=phase,
        id=f"{NODE}/{source}/{run}-{number:06d}",
        node=NODE,
        source=source,
        ts=timestamp(1_767_323_045.678 + number),
        level=Level.HIGH,
        start_s=float(number),
        end_s=number + 14.5,
        duration_s=14.5,
        peak=0.91,
        mean=0.78,
        evidence_s=float(number),
        declared_s=float(number),
        model="sser-cnn@ab12cd34",
    )


def reading(number: int, *, source: str = "desk", level: Level | None = Level.ELEVATED) -> Reading:
    return Reading(
        id=f"{NODE}/{source}/{number:06d}",
        node=NODE,
        source=source,
        ts=timestamp(1_767_323_045.678 + number),
        start_s=number * 0.5,
        end_s=number * 0.5 + 3.0,
        speech_ratio=0.74 if level else 0.0,
        stress=0.62 if level else None,
        stress_rolling=0.55 if level else None,
        level=level,
        confidence=0.81 if level else None,
        dbfs=-27.4,
        clipped=False,
        latency_ms=4.1,
        dropped_s=0.0,
        baseline=BaselineState.READY,
        baseline_shift=0.1,
        model="sser-cnn@ab12cd34",
    )


def health(state: HealthState = HealthState.OK, detail: str = "", *, source: str = "desk") -> Health:
    return Health(
        node=NODE,
        source=source,
        ts="2026-01-02T03:04:05.678Z",
        state=state,
        detail=detail,
        read_s=20.0,
        processed_s=20.0,
        dropped_s=0.0,
        overruns=0,
    )


def emit(sink: Sink, *events: Event) -> None:
    """Hands events to a sink, each with its line of JSON, as the listening loop does."""
    for event in events:
        sink.emit(event, to_line(event))


def once_each(received: Iterable[Received]) -> list[Received]:
    """Returns the messages without duplicates by id and phase, in the order of first arrival."""
    first: dict[tuple[str, str], Received] = {}
    for message in received:
        first.setdefault((message.json["id"], message.json["phase"]), message)
    return list(first.values())


def gaps(received: Iterable[Received]) -> list[str]:
    """Returns the numbers that are missing from 1, 2, 3, … of each stream and topic."""
    numbers: dict[tuple[str, str], set[int]] = defaultdict(set)
    for message in received:
        numbers[message.properties["stream"], message.topic].add(int(message.properties["seq"]))
    return [
        f"{stream} {topic}: {sorted(set(range(1, max(seen) + 1)) - seen)}"
        for (stream, topic), seen in numbers.items()
        if seen != set(range(1, max(seen) + 1))
    ]
