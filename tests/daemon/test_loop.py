"""The loop of `listen`: sources through monitors to sinks, to every kind of end."""

from __future__ import annotations

import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from listening import listen
from streams import RATE, make_monitor, play

from edge_sser.audio.file import FileSource
from edge_sser.audio.raw import RawSource
from edge_sser.audio.source import AudioBlock, EndOfAudio, Source
from edge_sser.daemon.inputs import Input
from edge_sser.daemon.listen import Stop, stop_on_signals
from edge_sser.daemon.session import SourceSession
from edge_sser.daemon.systemd import Notifier, ServiceReporter
from edge_sser.errors import SinkError, SourceError
from edge_sser.events import (
    BaselineCommand,
    Episode,
    Event,
    Health,
    HealthState,
    Phase,
    Reading,
    Status,
    StatusState,
    to_json,
)
from edge_sser.model.model import Model
from edge_sser.monitor.baselines import BaselineStore
from edge_sser.settings.names import node_name
from edge_sser.settings.schema import Settings
from edge_sser.sinks.base import Sink
from edge_sser.sinks.pause import PauseSwitch
from edge_sser.sinks.stdout import JsonLines, NonBlockingWriter

LIVELY = {"rolling": {"time_constant_seconds": 2.0, "dwell_seconds": 0.5, "elevated": 0.3, "high": 0.6}}
SETTINGS = Settings.model_validate({"node": "cab12", **LIVELY})


@pytest.fixture(scope="session")
def model(model_file: Path) -> Model:
    """Returns the tiny model, loaded."""
    return Model.load(model_file)


class Kept(Sink):
    """Keeps events, and calls a function with each."""

    def __init__(self, then: Callable[[Event], None] = lambda _event: None) -> None:
        self.events: list[Event] = []
        self._then = then

    def emit(self, event: Event, line: bytes) -> None:
        self.events.append(event)
        self._then(event)


class Failing(Sink):
    """Takes some events and then fails for good."""

    def __init__(self, after: int) -> None:
        self.taken = 0
        self._after = after

    def emit(self, event: Event, line: bytes) -> None:
        if self.taken == self._after:
            raise SinkError("the disk is gone")
        self.taken += 1


class Breaking(Source):
    """A microphone that is unplugged after some blocks: a fault that no real part shows on demand."""

    live = True

    def __init__(self, name: str, samples: np.ndarray, *, after: int, started_at: float = 100.0) -> None:
        self.name = name
        self.started_at = started_at
        self.closed = False
        self._samples = samples
        self._after = after
        self._reads = 0

    def read(self, timeout_seconds: float) -> AudioBlock | None:
        if self._reads == self._after:
            raise SourceError(f"{self.name} is gone: plug it in again")
        self._reads += 1
        return AudioBlock(self._samples[(self._reads - 1) * RATE : self._reads * RATE])

    def close(self) -> None:
        self.closed = True


def run(sources: list[Source], model: Model, **arguments: object) -> list[Event]:
    """Returns the events of a whole run."""
    sink = Kept()
    listen(SETTINGS, sources, [sink], model, threading.Event(), **arguments)  # type: ignore[arg-type]
    return sink.events


def of_kind(kind: type, events: list[Event], source: str | None = None) -> list:
    return [event for event in events if isinstance(event, kind) and source in (None, event.source)]


def recording(path: Path) -> FileSource:
    return FileSource(path, name="desk")


def test_a_recording_gives_its_events_between_online_and_stopped(model: Model, speech: Path) -> None:
    events = run([recording(speech)], model)
    first, *between, last = events
    assert isinstance(first, Status)
    assert isinstance(last, Status)
    assert (first.state, last.state) == (StatusState.ONLINE, StatusState.STOPPED)
    assert (first.node, first.model, first.provider) == ("cab12", model.label, "CPUExecutionProvider")
    with recording(speech) as source:
        monitor = make_monitor(model, LIVELY, started_at=source.started_at)
        audio: list[AudioBlock] = []
        while True:
            try:
                audio += [source.read(1.0)]
            except EndOfAudio:
                break
    assert [to_json(event) for event in between] == [to_json(event) for event in play(monitor, audio)]


def test_a_recording_at_its_own_pace_gives_the_same_to_the_last_bit(model: Model, speech: Path) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    paced = FileSource(speech, name="desk", paced=True, clock=lambda: now[0], sleep=sleep)
    wall_clock = lambda: 0.0  # noqa: E731
    slow = run([paced], model, clock=lambda: now[0], wall_clock=wall_clock)
    fast = run([recording(speech)], model, wall_clock=wall_clock)
    assert now[0] == pytest.approx(soundfile.info(speech).duration, abs=0.1)
    assert [to_json(event) for event in slow] == [to_json(event) for event in fast]


def test_stopping_ends_the_open_episode(model: Model, speech: Path) -> None:
    stop = threading.Event()

    def stop_in_an_episode(event: Event) -> None:
        if isinstance(event, Episode):
            stop.set()

    sink = Kept(stop_in_an_episode)
    listen(SETTINGS, [FileSource(speech, name="desk")], [sink], model, stop)
    assert [event.phase for event in of_kind(Episode, sink.events)][-1] is Phase.END
    assert isinstance(sink.events[-1], Status)
    assert sink.events[-1].state is StatusState.STOPPED
    assert of_kind(Reading, sink.events)[-1].end_s < 30.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_listening_properly(model: Model, speech: Path, number: signal.Signals) -> None:
    def send(event: Event) -> None:
        if isinstance(event, Episode) and event.phase is Phase.START:
            os.kill(os.getpid(), number)

    stop = Stop()
    before = signal.getsignal(number)
    sink = Kept(send)
    with stop_on_signals(stop):
        listen(SETTINGS, [recording(speech)], [sink], model, stop)
    assert stop.signal_number == number
    assert of_kind(Episode, sink.events)[-1].phase is Phase.END
    assert sink.events[-1].state is StatusState.STOPPED  # type: ignore[union-attr]
    assert signal.getsignal(number) is before


def test_a_source_without_audio_is_stalled_until_audio_comes(model: Model, samples: np.ndarray) -> None:
    reader, writer = os.pipe()
    seconds = itertools.count(50.0)  # each call of the clock takes one
    pcm = (samples[: 4 * RATE] * 32767).astype("<i2").tobytes()
    speak = [pcm]

    def once_stalled(event: Event) -> None:
        if isinstance(event, Health) and event.state is HealthState.STALLED:
            os.write(writer, speak.pop()[: 1 << 16])
            os.close(writer)

    sink = Kept(once_stalled)
    with os.fdopen(reader, "rb") as stream:
        source = RawSource(stream, name="pipe", wall_clock=lambda: 2_000.0)
        listen(SETTINGS, [source], [sink], model, threading.Event(), clock=lambda: float(next(seconds)))
    states = [event.state for event in of_kind(Health, sink.events)]
    assert states == [HealthState.STALLED, HealthState.OK]
    assert of_kind(Health, sink.events)[0].detail


def test_the_status_line_names_a_stall_instead_of_the_level_before_it(model: Model, samples: np.ndarray) -> None:
    lines: list[str] = []

    class Reporter(ServiceReporter):
        def report(self, sessions: Sequence[SourceSession]) -> None:
            lines.extend(session.status_line for session in sessions)

    reader, writer = os.pipe()
    seconds = itertools.count(50.0)  # each call of the clock takes one

    def once_stalled(event: Event) -> None:
        if isinstance(event, Health) and event.state is HealthState.STALLED:
            os.close(writer)

    os.write(writer, (samples[: 4 * RATE] * 32767).astype("<i2").tobytes()[: 1 << 16])
    reporter = Reporter(Notifier(None), None)
    with os.fdopen(reader, "rb") as stream:
        source = RawSource(stream, name="pipe")
        sinks = [Kept(once_stalled)]
        listen(
            SETTINGS, [source], sinks, model, threading.Event(), clock=lambda: float(next(seconds)), reporter=reporter
        )
    assert lines[0] == "pipe: no speech yet"
    assert "pipe: stalled" in lines


def test_a_live_source_is_dated_by_its_first_block(model: Model, samples: np.ndarray) -> None:
    reader, writer = os.pipe()
    os.write(writer, (samples[:RATE] * 32767).astype("<i2").tobytes())
    os.close(writer)
    times = iter([1_000.0, 2_000.0])  # of opening, of the first block
    with os.fdopen(reader, "rb") as stream:
        (ok,) = of_kind(Health, run([RawSource(stream, name="pipe", wall_clock=lambda: next(times))], model))
    assert ok.ts == "1970-01-01T00:33:19.000Z"


def test_live_readings_carry_their_latency(model: Model, samples: np.ndarray) -> None:
    source = Breaking("mic", samples, after=4)
    sink = Kept()
    with pytest.raises(SourceError):
        listen(SETTINGS, [source], [sink], model, threading.Event())
    assert all(reading.latency_ms >= 0.0 for reading in of_kind(Reading, sink.events))


def test_one_source_that_breaks_is_missing_and_the_others_go_on(
    model: Model, speech: Path, samples: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Breaking("mic", samples[14 * RATE :], after=5)
    sink = Kept()
    with pytest.raises(SourceError, match="mic is gone"), caplog.at_level(logging.ERROR):
        listen(SETTINGS, [broken, recording(speech)], [sink], model, threading.Event())
    assert broken.closed
    (_, missing) = of_kind(Health, sink.events, "mic")
    assert (missing.state, missing.detail) == (HealthState.MISSING, "mic is gone: plug it in again")
    assert of_kind(Episode, sink.events, "mic")[-1].phase is Phase.END
    alone = [to_json(event) for event in run([recording(speech)], model) if not isinstance(event, Status)]
    assert [to_json(e) for e in sink.events if not isinstance(e, Status) and e.source == "desk"] == alone
    assert [record.getMessage() for record in caplog.records] == [
        "mic is gone: plug it in again; the other sources go on"
    ]


def test_the_error_of_the_last_source_is_raised_after_a_proper_end(model: Model, samples: np.ndarray) -> None:
    sources: list[Source] = [Breaking("left", samples, after=4), Breaking("right", samples, after=9)]
    sink = Kept()
    with pytest.raises(SourceError, match="right is gone"):
        listen(SETTINGS, sources, [sink], model, threading.Event())
    assert [event.source for event in of_kind(Health, sink.events) if event.state is HealthState.MISSING] == [
        "left",
        "right",
    ]
    assert sink.events[-1].state is StatusState.STOPPED  # type: ignore[union-attr]


def test_a_truncated_recording_gives_its_readings_and_then_the_error(
    model: Model, samples: np.ndarray, tmp_path: Path
) -> None:
    whole = tmp_path / "whole.wav"
    soundfile.write(whole, samples[: 10 * RATE], RATE)
    torn = tmp_path / "torn.wav"
    torn.write_bytes(whole.read_bytes()[: 6 * RATE * 2])
    sink = Kept()
    with pytest.raises(SourceError, match=r"torn\.wav is truncated"):
        listen(SETTINGS, [recording(torn)], [sink], model, threading.Event())
    assert of_kind(Reading, sink.events)[-1].end_s == 5.5
    assert of_kind(Health, sink.events)[-1].state is HealthState.MISSING


def test_a_reader_that_leaves_ends_listening_quietly(model: Model, speech: Path) -> None:
    reader, writer = os.pipe()
    kept = Kept(lambda event: os.close(reader) if isinstance(event, Reading) and event.end_s == 5.0 else None)
    with os.fdopen(writer, "wb") as stream:
        listen(SETTINGS, [recording(speech)], [kept, JsonLines(NonBlockingWriter(stream))], model, threading.Event())
    assert of_kind(Reading, kept.events)[-1].end_s < 10.0
    assert kept.events[-1].state is StatusState.STOPPED  # type: ignore[union-attr]


def test_a_program_whose_reader_leaves_logs_nothing(model_file: Path, speech: Path) -> None:
    program = f"""
import sys, threading
from pathlib import Path
from edge_sser.audio.file import FileSource
from edge_sser.daemon.loop import ListenLoop
from edge_sser.daemon.inputs import Input
from edge_sser.model.model import Model
from edge_sser.settings.schema import Settings
from edge_sser.sinks.stdout import NonBlockingWriter
from edge_sser.sinks.stdout import JsonLines
source = FileSource(Path({str(speech)!r}), name="desk", paced=True)
model = Model.load(Path({str(model_file)!r}))
desk = Input("desk", lambda: source, reopens=False)
ListenLoop(Settings(), [desk], [JsonLines(NonBlockingWriter(sys.stdout))], model, threading.Event()).run()
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["state"] == "online"
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 0


def test_a_sink_that_fails_is_left_out_and_the_others_go_on(
    model: Model, speech: Path, caplog: pytest.LogCaptureFixture
) -> None:
    failing, kept = Failing(after=3), Kept()
    with caplog.at_level(logging.ERROR):
        listen(SETTINGS, [recording(speech)], [failing, kept], model, threading.Event())
    assert failing.taken == 3
    assert [to_json(e) for e in kept.events[1:-1]] == [to_json(e) for e in run([recording(speech)], model)[1:-1]]
    assert [record.getMessage() for record in caplog.records] == ["the disk is gone; the other outputs go on"]


def test_listening_fails_without_any_sink_left(model: Model, speech: Path) -> None:
    with pytest.raises(SinkError, match="the disk is gone"):
        listen(SETTINGS, [recording(speech)], [Failing(after=5)], model, threading.Event())


class Troubled:
    """Outputs with the trouble that a script gives, by the number of the round."""

    def __init__(self, script: dict[int, str]) -> None:
        self.switch = PauseSwitch(None)
        self.script = script
        self.round = 0
        self.said = ""

    def announce_pause(self) -> None:
        pass

    def take_baseline_commands(self) -> list[tuple[str, BaselineCommand]]:
        return []

    @property
    def trouble(self) -> str:
        self.round += 1
        self.said = self.script.get(self.round, self.said)
        return self.said


def test_trouble_with_the_outputs_is_in_health_at_once_and_then_at_most_every_ten_seconds(
    model: Model, samples: np.ndarray
) -> None:
    now = [100.0]

    def clock() -> float:
        return now[0]

    def second_passes(event: Event) -> None:
        if isinstance(event, Reading):
            now[0] += 0.5

    many = {number: f"{number} events were lost" for number in range(40, 400)}
    sink = Kept(second_passes)
    with pytest.raises(SourceError):
        listen(SETTINGS, [Breaking("mic", samples, after=150)], [sink], model, threading.Event(),
               outputs=Troubled({20: "the disk is full"} | many), clock=clock)  # fmt: skip
    details = [event.detail for event in of_kind(Health, sink.events)]
    assert details[:2] == ["", "the disk is full"]
    lost = [detail for detail in details if "events were lost" in detail]
    readings = of_kind(Reading, sink.events)
    assert 1 <= len(lost) <= 1 + readings[-1].end_s / 10.0


def test_a_pause_is_told_when_it_begins_also_at_the_start_and_ends_with_sound(
    model: Model, samples: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    stop, outputs, pauses = threading.Event(), Troubled({}), 0
    outputs.switch.turn(False)

    def turn(event: Event) -> None:
        nonlocal pauses
        if isinstance(event, Health) and event.state is HealthState.PAUSED:
            pauses += 1
            outputs.switch.turn(True)
            if pauses == 3:
                stop.set()
        elif isinstance(event, Reading):
            outputs.switch.turn(False)

    sink = Kept(turn)
    microphone = Input("mic", lambda: Breaking("mic", samples, after=200), reopens=True)
    with caplog.at_level(logging.INFO):
        listen(SETTINGS, [microphone], [sink], model, stop, outputs=outputs)
    assert [event.state.value for event in of_kind(Health, sink.events)] == ["paused", "ok", "paused", "ok", "paused"]
    assert len([line for line in caplog.messages if "the microphone stays closed until one turns it on" in line]) == 3


def test_health_says_what_pauses_and_what_ends_it_as_reasons_come_and_go(model: Model, samples: np.ndarray) -> None:
    stop, outputs = threading.Event(), Troubled({})
    switch = outputs.switch
    steps = [
        switch.press_key,
        lambda: switch.turn(False),
        switch.press_key,
        switch.press_key,
        lambda: switch.turn(True),
        switch.press_key,
    ]

    def step(event: Event) -> None:
        if isinstance(event, Health) and event.state in (HealthState.OK, HealthState.PAUSED):
            if not steps:
                stop.set()
            else:
                steps.pop(0)()

    sink = Kept(step)
    microphone = Input("mic", lambda: Breaking("mic", samples, after=200), reopens=True)
    listen(SETTINGS, [microphone], [sink], model, stop, outputs=outputs)
    events = of_kind(Health, sink.events)
    assert [event.state.value for event in events] == ["ok", *["paused"] * 5, "ok"]
    key, command = "p is pressed again", ("until one turns it on", "until a command turns it on")
    told = [(key in event.detail, any(text in event.detail for text in command)) for event in events]
    assert told[1:-1] == [(True, False), (True, True), (False, True), (True, True), (True, False)]


def test_sources_take_turns(model: Model, samples: np.ndarray) -> None:
    stop = threading.Event()

    def stop_late(event: Event) -> None:
        if isinstance(event, Reading) and event.end_s >= 20.0:
            stop.set()

    sink = Kept(stop_late)
    sources: list[Source] = [Breaking(name, samples, after=99) for name in ("a", "b", "c")]
    listen(SETTINGS, sources, [sink], model, stop)
    last = [of_kind(Reading, sink.events, name)[-1].end_s for name in ("a", "b", "c")]
    assert max(last) - min(last) <= 1.0


def test_standard_output_has_json_lines_and_nothing_else(model: Model, speech: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with path.open("wb") as stream:
        listen(SETTINGS, [recording(speech)], [JsonLines(NonBlockingWriter(stream))], model, threading.Event())
    kinds = [json.loads(line)["type"] for line in path.read_bytes().splitlines()]
    assert (kinds[0], kinds[1], kinds[-1]) == ("status", "health", "status")


@pytest.mark.parametrize(
    ("host", "name"), [("cab-12.local", "cab-12.local"), ("-ä b_", "b"), ("", "node"), ("x" * 80, "x" * 64)]
)
def test_without_a_node_name_the_host_gives_one_that_the_settings_would_accept(host: str, name: str) -> None:
    assert node_name(Settings(), host) == name
    assert node_name(Settings(node=name), "other") == name


def test_a_live_source_keeps_its_baseline_over_restarts_and_a_recording_depends_on_nothing_but_itself(
    model: Model, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    settings = Settings.model_validate({"node": "cab12"})

    def shifts(*, keeps: bool) -> list[float | None]:
        sink, store = Kept(), BaselineStore(model.label)
        origin = Input("desk", lambda: recording(speech), reopens=False, keeps_baseline=keeps)
        listen(settings, [origin], [sink], model, threading.Event(), baselines=store)
        store.close()
        return [reading.baseline_shift for reading in of_kind(Reading, sink.events)]

    plain = shifts(keeps=False)
    assert shifts(keeps=False) == plain
    assert not list(tmp_path.iterdir())
    first = shifts(keeps=True)
    assert first == plain
    second = shifts(keeps=True)
    assert second[0] == pytest.approx(first[-1], abs=0.02)
    assert abs(first[-1] - first[0]) > 0.1
    assert (tmp_path / "baselines" / "desk.json").exists()
