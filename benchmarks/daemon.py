"""Cost of `listen` with a broker to publish to, and with sixteen microphones at once, measured from outside.

The broker and the sound server are real ones, started by the benchmark on this machine.

usage: python benchmarks/daemon.py [MODEL] [--json FILE]
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from mosquitto import Mosquitto, find_program, subscriber
from numpy.typing import NDArray
from paho.mqtt.client import MQTTMessage
from processes import CHUNK_SECONDS, WARM_UP_SECONDS, ListenProcess, benchmark_parser, write_figures

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.commands.bench import Figure, demo_samples
from edge_sser.errors import EdgeSserError, MissingComponentError, need_package
from edge_sser.model.model import Model
from edge_sser.settings.load import PREFIX

SOURCES = 16
NODE, SOURCE = "bench", "mic"
LISTEN_SECONDS = 30.0
CROWD_SECONDS = 20.0
START_SECONDS = 15.0  # far more than a broker or sound server needs
_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class BrokerCost:
    """Cost of `listen` with a broker on this machine.

    Attributes:
        cpu_share: share of one core, after the warm-up.
        delivery_s: for each reading, seconds from the write of its window's last sample to the message at a subscriber.
    """

    cpu_share: float
    delivery_s: tuple[float, ...]

    @property
    def median_s(self) -> float:
        """Median of the delivery."""
        return statistics.median(self.delivery_s)

    @property
    def percentile_95_s(self) -> float:
        """95th percentile of the delivery."""
        return statistics.quantiles(self.delivery_s, n=20)[-1]


@dataclass(frozen=True, slots=True)
class CrowdCost:
    """Cost of one `listen` with many microphones, all of which hear speech.

    Attributes:
        cpu_share: share of one core, after the warm-up, without the work of the sound server.
        peak_mb: peak of resident memory, MB.
        dropped: samples at 16 kHz lost between capture and processing, of all sources, from the start.
        overruns: losses that devices reported, from the start.
    """

    cpu_share: float
    peak_mb: float
    readings: int
    dropped: int
    overruns: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    options = benchmark_parser("Cost of listen with a broker, and with many microphones.").parse_args(arguments)
    write_figures(daemon_figures(Model.load(options.model).path, demo_samples()), options.json)


def daemon_figures(model: Path, samples: NDArray[np.float32]) -> list[Figure]:
    """Measures `listen` with a model on speech, float32 [n], 16 kHz mono.

    Figures that need a missing program have no value, but a remark with the remedy.
    """
    silence = np.zeros(SAMPLE_RATE, dtype=np.float32)
    figures = []
    for source, microphone in {"a pipe": False, "a microphone": True}.items():
        listen = partial(broker_cost, model=model, seconds=LISTEN_SECONDS, microphone=microphone)

        def on_silence(folder: Path, listen: Callable[..., BrokerCost] = listen) -> list[float]:
            return [100.0 * listen(silence, folder=folder).cpu_share]

        def on_speech(folder: Path, listen: Callable[..., BrokerCost] = listen) -> list[float]:
            cost = listen(samples, folder=folder)
            return [1000.0 * cost.median_s, 1000.0 * cost.percentile_95_s]

        delivery = f"a window's last sample in {source} to an MQTT subscriber"
        figures += _measure(on_silence, (f"listen to {source} on silence with a broker", "% of a core"))
        figures += _measure(on_speech, (f"{delivery}, median", "ms"), (f"{delivery}, 95th percentile", "ms"))

    def with_a_crowd(folder: Path) -> list[float]:
        cost = crowd_cost(samples, model=model, seconds=CROWD_SECONDS, folder=folder)
        return [cost.dropped, cost.overruns, 100.0 * cost.cpu_share, cost.peak_mb]

    crowd = f"listen to {SOURCES} microphones on speech"
    names = (f"{crowd}, dropped", "samples"), (f"{crowd}, losses in the devices", ""), (crowd, "% of a core")
    return [*figures, *_measure(with_a_crowd, *names, (f"{crowd}, memory", "MB"))]


def _measure(measure: Callable[[Path], list[float]], *names: tuple[str, str]) -> list[Figure]:
    """Returns figures with these names and units; without values when a program is missing."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            values = measure(Path(folder))
        except MissingComponentError as error:
            return [Figure(name, None, unit, str(error)) for name, unit in names]
    return [Figure(name, value, unit) for (name, unit), value in zip(names, values, strict=True)]


def broker_cost(
    samples: NDArray[np.float32], *, model: Path, seconds: float, microphone: bool, folder: Path
) -> BrokerCost:
    """Runs `listen --mqtt` on audio in real time, with a broker and a subscriber.

    Args:
        samples: float32 [n], 16 kHz mono; repeated as often as needed.
        model: model file.
        seconds: seconds of audio to measure over, after the warm-up.
        microphone: True for a virtual microphone of a sound server, False for a pipe.
        folder: empty folder for files of the broker, the sound server and `listen`.

    Raises:
        MissingComponentError: mosquitto, PulseAudio or PyAudio is missing.
        EdgeSserError: a program failed.
    """
    messages: list[tuple[float, bytes]] = []

    def receive(message: MQTTMessage) -> None:
        messages.append((time.monotonic(), message.payload))

    _program("mosquitto", "mosquitto")
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(Mosquitto(folder)).port
        stack.enter_context(subscriber(port, f"edge-sser/{NODE}/{SOURCE}/reading", receive))
        write, environment = None, _environment(folder)
        if microphone:
            write, environment = stack.enter_context(_microphone(folder))
        device = "mic" if microphone else "-"
        arguments = ["--node", NODE, "--mqtt", f"mqtt://127.0.0.1:{port}", "--model", str(model)]
        process = ListenProcess(*_settings(folder, [SOURCE], device), *arguments, environment=environment)
        process.wait_until_open()  # from here on no audio of a microphone is lost
        cost = process.cost(samples, seconds=seconds, write=write)
    delivery_s = []
    for moment, payload in messages:
        last_chunk = round(json.loads(payload)["end_s"] / CHUNK_SECONDS) - 1
        if last_chunk * CHUNK_SECONDS >= WARM_UP_SECONDS:
            delivery_s.append(moment - cost.written_at[last_chunk])
    if len(delivery_s) < 2:
        raise EdgeSserError("no readings came through the broker: run the benchmark again on an idle machine")
    return BrokerCost(cost.cpu_share, tuple(delivery_s))


def crowd_cost(samples: NDArray[np.float32], *, model: Path, seconds: float, folder: Path) -> CrowdCost:
    """Runs `listen` with `SOURCES` microphones: as many clients of one virtual microphone of a sound server.

    Arguments as of `broker_cost`; the samples are played into the microphone in real time.

    Raises:
        MissingComponentError: PulseAudio or PyAudio is missing.
        EdgeSserError: a program failed.
    """
    names = [f"{SOURCE}-{number:02d}" for number in range(1, SOURCES + 1)]
    with _microphone(folder) as (write, environment):
        arguments = [*_settings(folder, names, "mic"), "--model", str(model)]
        process = ListenProcess(*arguments, environment=environment)
        process.wait_until_open()
        cost = process.cost(samples, seconds=seconds, write=write)
    events = [json.loads(line) for _, line in process.lines]
    readings = [event for event in events if event["type"] == "reading"]
    missing = set(names) - {reading["source"] for reading in readings}
    if missing:
        raise EdgeSserError(f"{', '.join(sorted(missing))} gave no reading: run the benchmark again on an idle machine")
    overruns = {event["source"]: event["overruns"] for event in events if event["type"] == "health"}  # the last of each
    return CrowdCost(
        cpu_share=cost.cpu_share,
        peak_mb=cost.peak_mb,
        readings=len(readings),
        dropped=round(SAMPLE_RATE * sum(reading["dropped_s"] for reading in readings)),
        overruns=sum(overruns.values()),
    )


@contextlib.contextmanager
def _microphone(folder: Path) -> Iterator[tuple[Callable[[bytes], object], dict[str, str]]]:
    """Runs a PulseAudio with one microphone. Yields a function that plays PCM into it, and variables for `listen`."""
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
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not (server.exists() and fifo.exists()):
            if process.poll() is not None or time.monotonic() > deadline:
                raise EdgeSserError(f"pulseaudio did not start: try {' '.join(command)}")
            time.sleep(_POLL_SECONDS)
        with fifo.open("wb", 0) as pipe:
            yield pipe.write, environment
    finally:
        process.kill()
        process.wait()


def _program(name: str, packages: str) -> str:
    path = find_program(name)
    if path is None:
        raise MissingComponentError(f"it needs {name}: apt install {packages}")
    return path


def _environment(folder: Path) -> dict[str, str]:
    """Returns the variables of this process, with another home folder and without the user's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "PULSE_"))}
    return kept | {"HOME": str(folder), "STATE_DIRECTORY": str(folder / "state")}


def _settings(folder: Path, names: list[str], device: str) -> list[str]:
    """Returns arguments of `listen` for sources with these names, all of one device, and no other settings."""
    path = folder / "bench.toml"
    path.write_text("".join(f'[[source]]\ndevice = "{device}"\nname = "{name}"\n' for name in names), encoding="utf-8")
    return ["--config", str(path)]


if __name__ == "__main__":
    main()
