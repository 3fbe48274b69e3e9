"""What listening costs among other things: with a broker to publish to, and with sixteen microphones at once.

The broker and the sound server are real ones, started here for the purpose on this machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.commands.bench_processes import CHUNK_SECONDS, WARM_UP_SECONDS, ListenProcess
from edge_sser.errors import EdgeSserError, MissingComponentError, need_package
from edge_sser.settings.load import PREFIX

SOURCES = 16
NODE, SOURCE = "bench", "mic"
START_SECONDS = 15.0  # far more than a broker or sound server takes
_POLL_SECONDS = 0.02
_SYSTEM_PROGRAMS = "/usr/sbin:/usr/local/sbin"  # where a broker may be that is not on a user's path


@dataclass(frozen=True, slots=True)
class BrokerCost:
    """What `listen` does with a broker on this machine.

    Attributes:
        cpu_share: of one core, after the warm-up.
        delivery_s: for each reading, from its window's last sample, as it was written, to the message at a subscriber.
    """

    cpu_share: float
    delivery_s: tuple[float, ...]

    @property
    def median_s(self) -> float:
        """Of the delivery."""
        return statistics.median(self.delivery_s)

    @property
    def percentile_95_s(self) -> float:
        """Of the delivery."""
        return statistics.quantiles(self.delivery_s, n=20)[-1]


@dataclass(frozen=True, slots=True)
class CrowdCost:
    """What one `listen` does with many microphones, all speaking.

    Attributes:
        cpu_share: of one core, after the warm-up; the sound server's work is not in it.
        peak_mb: most resident memory, MB.
        readings: in all.
        dropped: samples at 16 kHz lost between capture and processing, of all sources, from the start.
        overruns: losses that devices reported, from the start.
    """

    cpu_share: float
    peak_mb: float
    readings: int
    dropped: int
    overruns: int


def broker_cost(
    samples: NDArray[np.float32], *, model: Path, seconds: float, microphone: bool, folder: Path
) -> BrokerCost:
    """Runs `listen --mqtt` on audio that comes as time passes, with a broker and a subscriber.

    Args:
        samples: float32 [n], 16 kHz mono; repeated as often as needed.
        model: the model file.
        seconds: of audio to measure over, after the warm-up.
        microphone: the audio comes from a virtual microphone of a sound server. Otherwise it is piped in.
        folder: for files of the broker, the sound server and `listen`; empty.

    Raises:
        MissingComponentError: there is no mosquitto, no PulseAudio or no PyAudio.
        EdgeSserError: something failed.
    """
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(_broker(folder))
        heard = stack.enter_context(_subscriber(port, f"edge-sser/{NODE}/{SOURCE}/reading"))
        into, environment = None, _environment(folder)
        if microphone:
            into, environment = stack.enter_context(_microphone(folder))
        device = "mic" if microphone else "-"
        arguments = ["--node", NODE, "--mqtt", f"mqtt://127.0.0.1:{port}", "--model", str(model)]
        process = ListenProcess(*_settings(folder, [SOURCE], device), *arguments, environment=environment)
        process.wait_until_open()  # from here on a microphone misses nothing
        cost = process.cost(samples, seconds=seconds, into=into)
    delivery_s = []
    for moment, payload in heard:
        last_chunk = round(json.loads(payload)["end_s"] / CHUNK_SECONDS) - 1
        if last_chunk * CHUNK_SECONDS >= WARM_UP_SECONDS:
            delivery_s.append(moment - cost.written_at[last_chunk])
    if len(delivery_s) < 2:
        raise EdgeSserError("the broker brought no readings: run the benchmark again on an idle machine")
    return BrokerCost(cost.cpu_share, tuple(delivery_s))


def crowd_cost(samples: NDArray[np.float32], *, model: Path, seconds: float, folder: Path) -> CrowdCost:
    """Runs `listen` with `SOURCES` microphones: as many recordings of one virtual microphone of a sound server.

    Args:
        samples: float32 [n], 16 kHz mono, spoken into the microphone in real time; repeated as often as needed.
        model: the model file.
        seconds: to measure over, after the warm-up.
        folder: for files of the sound server and of `listen`; empty.

    Raises:
        MissingComponentError: there is no PulseAudio or no PyAudio.
        EdgeSserError: something failed.
    """
    names = [f"{SOURCE}-{number:02d}" for number in range(1, SOURCES + 1)]
    with _microphone(folder) as (into, environment):
        arguments = [*_settings(folder, names, "mic"), "--model", str(model)]
        process = ListenProcess(*arguments, environment=environment)
        process.wait_until_open()
        cost = process.cost(samples, seconds=seconds, into=into)
    events = [json.loads(line) for _, line in process.lines]
    readings = [event for event in events if event["type"] == "reading"]
    unheard = set(names) - {reading["source"] for reading in readings}
    if unheard:
        raise EdgeSserError(f"{', '.join(sorted(unheard))} gave no reading: run the benchmark again on an idle machine")
    overruns = {event["source"]: event["overruns"] for event in events if event["type"] == "health"}  # the last of each
    return CrowdCost(
        cpu_share=cost.cpu_share,
        peak_mb=cost.peak_mb,
        readings=len(readings),
        dropped=round(SAMPLE_RATE * sum(reading["dropped_s"] for reading in readings)),
        overruns=sum(overruns.values()),
    )


@contextlib.contextmanager
def _broker(folder: Path) -> Iterator[int]:
    """A mosquitto that this machine alone can reach; gives its port."""
    program = _program("mosquitto", "mosquitto")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n", encoding="utf-8")

    def answers() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True
        return False

    with _running([program, "-c", str(config)], answers):
        yield port


@contextlib.contextmanager
def _subscriber(port: int, topic: str) -> Iterator[list[tuple[float, bytes]]]:
    """What comes on a topic: when, monotonic seconds, and the payload."""
    from paho.mqtt.client import Client, MQTTMessage
    from paho.mqtt.enums import CallbackAPIVersion

    heard: list[tuple[float, bytes]] = []
    subscribed = threading.Event()

    def subscribe(client: Client, *_: Any) -> None:
        client.subscribe(topic)

    def keep(_client: Client, _data: Any, message: MQTTMessage) -> None:
        heard.append((time.monotonic(), bytes(message.payload)))

    client = Client(CallbackAPIVersion.VERSION2)
    client.on_connect = subscribe
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = keep
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        if not subscribed.wait(START_SECONDS):
            raise EdgeSserError("the broker did not answer: run the benchmark again on an idle machine")
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()


@contextlib.contextmanager
def _microphone(folder: Path) -> Iterator[tuple[Callable[[bytes], object], dict[str, str]]]:
    """A PulseAudio with one microphone: what speaks into it, and the variables that lead `listen` to it."""
    program = _program("pulseaudio", "pulseaudio libasound2-plugins")
    need_package("pyaudio", "mic", "it")
    fifo, server = folder / "microphone", folder / "socket"
    environment = _environment(folder) | {"XDG_RUNTIME_DIR": str(folder), "PULSE_SERVER": f"unix:{server}"}
    (folder / ".asoundrc").write_text("pcm.!default { type pulse }\nctl.!default { type pulse }\n", encoding="utf-8")
    command = [
        program, "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no",
        "-L", f"module-native-protocol-unix socket={server} auth-anonymous=1",
        "-L", f"module-pipe-source file={fifo} format=s16le rate={SAMPLE_RATE} channels=1",
    ]  # fmt: skip
    with _running(command, lambda: server.exists() and fifo.exists(), environment), fifo.open("wb", 0) as pipe:
        yield pipe.write, environment


@contextlib.contextmanager
def _running(
    command: list[str], ready: Callable[[], bool], environment: dict[str, str] | None = None
) -> Iterator[None]:
    """A program for as long as it is needed.

    Raises:
        EdgeSserError: it did not get ready.
    """
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise EdgeSserError(f"{Path(command[0]).name} did not start: try {' '.join(command)}")
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        process.kill()
        process.wait()


def _program(name: str, packages: str) -> str:
    path = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), _SYSTEM_PROGRAMS)))
    if path is None:
        raise MissingComponentError(f"it needs {name}: apt install {packages}")
    return path


def _environment(folder: Path) -> dict[str, str]:
    """This process's variables, with a home of its own and without a user's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "PULSE_"))}
    return kept | {"HOME": str(folder), "STATE_DIRECTORY": str(folder / "state")}


def _settings(folder: Path, names: list[str], device: str) -> list[str]:
    """The arguments of `listen` that make it listen to one device under these names, and read no other settings."""
    path = folder / "bench.toml"
    path.write_text("".join(f'[[source]]\ndevice = "{device}"\nname = "{name}"\n' for name in names), encoding="utf-8")
    return ["--config", str(path)]
