"""The wall clock is set back and forward under the daemon, as on a board without a battery that finds a time server."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from listening import listen
from mqtt_rig import LIMIT_SECONDS, Cable, eventually, gaps
from preloaded_faults import Faults
from stressed_speech import EPISODE_TOPIC as TOPIC
from stressed_speech import WINDOW_SECONDS, episodes, feed_episodes, write_settings

from edge_sser.audio.source import SAMPLE_RATE, AudioBlock, Source
from edge_sser.daemon.inputs import Input
from edge_sser.errors import SourceError
from edge_sser.events import Event, as_dict
from edge_sser.model.model import Model
from edge_sser.settings.load import load_settings
from edge_sser.sinks.base import Sink

DAY_SECONDS = 86_400
HOP_SECONDS = 0.5
IN_AN_EPISODE = 4.5  # seconds of audio: in the middle of the first of `episodes`
BACK_SECONDS = 4.0
RIGHT_SECONDS = 0.15  # a window ends at most a block after its audio came
SOON_SECONDS = 1.5  # a hop, and what a busy machine takes


def seconds(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["ts"].replace("Z", "+00:00")).timestamp()


def assert_steady(readings: list[dict[str, Any]]) -> None:
    """Checks for a reading every hop of audio."""
    steps = [after["end_s"] - before["end_s"] for before, after in itertools.pairwise(readings) if after["start_s"]]
    assert len(steps) > 10
    assert all(step == HOP_SECONDS for step in steps)


def assert_sane(reported: Iterable[dict[str, Any]], moment: Callable[[dict[str, Any]], float] = seconds) -> None:
    """Checks that each episode starts, goes on and ends under one id, and lasts about as long as the stressed voice."""
    for _, phases in itertools.groupby(reported, key=lambda event: event["id"]):
        events = list(phases)
        assert [event["phase"] for event in events] == ["start", "update", "end"]
        assert 0.0 < events[-1]["duration_s"] < 2 * WINDOW_SECONDS
        assert [moment(event) for event in events] == sorted(moment(event) for event in events)


def assert_numbered(readings: list[dict[str, Any]]) -> None:
    numbers = [int(event["id"].removeprefix("cab12/desk/")) for event in readings]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


class FakeClocks:
    """Clocks that only the test moves.

    Attributes:
        now: of the monotonic clock, seconds.
        ahead: of the wall clock against it, seconds.
    """

    def __init__(self) -> None:
        self.now = 1_000.0
        self.ahead = 1_700_000_000.0

    def wall(self) -> float:
        return self.now + self.ahead

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def set_by(self, seconds: float) -> None:
        """Sets the wall clock. A machine that has slept looks the same."""
        self.ahead += seconds


class Desk(Source):
    """A microphone that two episodes are spoken into, while the clocks are set, and which is pulled out then.

    Args:
        clocks: to move on.
        changes: of the clocks, by the seconds of audio before which each happens.
    """

    live = True
    name = "desk"

    def __init__(self, clocks: FakeClocks, changes: dict[float, Callable[[], None]]) -> None:
        self._clocks = clocks
        self._samples = np.frombuffer(episodes(2), dtype="<i2").astype(np.float32) / 2**15
        self._changes = changes
        self._heard = 0
        self.started_at = clocks.wall()

    def read(self, timeout_seconds: float) -> AudioBlock | None:
        self._changes.get(self._heard / SAMPLE_RATE, lambda: None)()
        block = self._samples[self._heard : self._heard + SAMPLE_RATE // 10]
        if block.size == 0:
            raise SourceError("desk is gone: plug it in again")
        self._clocks.now += block.size / SAMPLE_RATE
        if self._heard == 0:
            self.started_at = self._clocks.wall() - block.size / SAMPLE_RATE
        self._heard += block.size
        return AudioBlock(block)


class Kept(Sink):
    """Keeps all events, and how late each was."""

    def __init__(self, clocks: FakeClocks) -> None:
        self.events: list[dict[str, Any]] = []
        self.late: list[float] = []
        self._clocks = clocks

    def emit(self, event: Event, line: bytes) -> None:
        self.events.append(as_dict(event))
        self.late.append(self._clocks.wall() - seconds(self.events[-1]))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]


def listen_while_clocks_are_set(
    model: str, folder: Path, changes: Callable[[FakeClocks], list[dict[float, Callable[[], None]]]]
) -> Kept:
    """Listens to a microphone that comes and goes.

    Args:
        model: file of the model.
        folder: for settings.
        changes: returns the changes of the clocks during each opening.
    """
    clocks = FakeClocks()
    openings = iter(changes(clocks))
    stop = threading.Event()

    def open_source() -> Source:
        try:
            return Desk(clocks, next(openings))
        except StopIteration:
            stop.set()
            raise SourceError("there is no desk: plug it in") from None

    kept = Kept(clocks)
    settings = load_settings(write_settings(folder / "config.toml", url="mqtt://unused")).settings
    listen(
        settings.model_copy(update={"node": "cab12"}), [Input("desk", open_source, reopens=True)], [kept],
        Model.load(Path(model)), stop, wall_clock=clocks.wall, clock=lambda: clocks.now, sleep=clocks.sleep,
    )  # fmt: skip
    assert_numbered(kept.of("reading"))
    assert_steady(kept.of("reading"))
    return kept


def test_ts_follows_a_clock_that_is_set_and_never_runs_backwards(sharp_model, tmp_path):
    """Forward, a little back and asleep; while the microphone is there, and while it is not."""

    def changes(clocks: FakeClocks) -> list[dict[float, Callable[[], None]]]:
        back = partial(clocks.set_by, -BACK_SECONDS)
        return [
            {IN_AN_EPISODE: partial(clocks.set_by, DAY_SECONDS)},
            {0.0: partial(clocks.set_by, 3_600.0), IN_AN_EPISODE: back},
            {IN_AN_EPISODE: partial(clocks.sleep, 15.0)},  # a stall
            {0.0: back, 12.0: partial(clocks.set_by, 8 * 3_600.0)},
        ]

    kept = listen_while_clocks_are_set(sharp_model, tmp_path, changes)
    assert_sane(kept.of("episode"))
    times = [seconds(event) for event in kept.events]
    assert times == sorted(times)
    waiting = [late for late in kept.late if abs(late) > RIGHT_SECONDS]
    assert all(-BACK_SECONDS <= late < 0.0 for late in waiting)
    assert 2 <= len(waiting) <= 4 * (BACK_SECONDS / HOP_SECONDS + 1)  # right again after as many seconds
    readings = [seconds(event) for event in kept.of("reading")]
    assert len(set(readings)) == len(readings)
    assert len({event["id"] for event in kept.of("episode")}) == 8


def test_a_clock_that_is_set_back_by_a_day_makes_the_only_step_backwards(sharp_model, tmp_path):
    kept = listen_while_clocks_are_set(
        sharp_model, tmp_path, lambda clocks: [{IN_AN_EPISODE: partial(clocks.set_by, -DAY_SECONDS)}, {}]
    )
    assert_sane(kept.of("episode"), moment=itemgetter("end_s"))
    steps = [seconds(after) - seconds(before) for before, after in itertools.pairwise(kept.events)]
    (back,) = [step for step in steps if step < 0.0]
    assert back == pytest.approx(-DAY_SECONDS, abs=1.0)
    assert max(map(abs, kept.late)) < RIGHT_SECONDS
    assert len({event["id"] for event in kept.of("episode")}) == 4


def test_a_running_daemon_is_right_within_seconds_after_its_clock_was_set(start, sharp_model, tmp_path):
    """Set forward by an hour, back by 3 s, and frozen for 3 s; audio comes at the pace of a microphone."""
    faults = Faults(tmp_path / "faults")
    config = write_settings(tmp_path / "config.toml", url="mqtt://127.0.0.1:9")
    daemon = start("--config", config, "--model", sharp_model, fed=True, **faults.environment)
    pcm = episodes(3)
    fed = 0

    def speak(for_seconds: float, ahead: int) -> None:
        """Speaks on until a reading is as late as a busy machine makes it, and for that long at least."""
        nonlocal fed
        before = len(daemon.events("reading"))
        begin = time.monotonic()
        first = fed
        while True:
            time.sleep(0.1)  # first, as nothing to feed would end the audio
            passed = time.monotonic() - begin
            due = first + 2 * round(SAMPLE_RATE * passed)
            daemon.feed(bytes(itertools.islice(itertools.cycle(pcm), fed % len(pcm), fed % len(pcm) + due - fed)))
            fed = due
            readings = daemon.events("reading")[before:]
            late = time.time() + ahead - seconds(readings[-1]) if readings else None
            if passed >= for_seconds and late is not None and abs(late) < SOON_SECONDS:
                return
            assert passed < LIMIT_SECONDS, f"the last reading is late by {late} s"

    eventually(lambda: daemon.log, "it listens")
    speak(6.0, 0)
    for ahead in (3_600, 3_597):
        faults.set_clock(ahead)
        speak(5.0, ahead)
    daemon.send(signal.SIGSTOP)
    time.sleep(3.0)
    daemon.send(signal.SIGCONT)
    speak(4.0, ahead)
    assert daemon.stop() == 0
    times = [seconds(event) for event in daemon.all_events if event["type"] != "status"]
    assert times == sorted(times)
    assert {event["phase"] for event in daemon.events("episode")} == {"start", "update", "end"}


def test_no_timer_of_a_daemon_depends_on_the_wall_clock(start, start_broker, start_subscriber, sharp_model, tmp_path):
    """Timers of the link without a broker, of the outbox without a file, and of its worker without access."""
    rules = tmp_path / "rules"
    allowed = (
        "topic readwrite homeassistant/#\ntopic readwrite edge-sser/+/status\ntopic readwrite edge-sser/+/+/health\n"
    )
    rules.write_text(allowed)
    rules.chmod(0o600)
    broker = start_broker("allow_anonymous true", f"acl_file {rules}")
    faults = Faults(tmp_path / "faults")
    cable = Cable(broker.port)
    cable.shut()
    state = tmp_path / "state"
    state.write_text("a file where the directory should be")
    config = write_settings(tmp_path / "config.toml", url=f"mqtt://127.0.0.1:{cable.port}")
    daemon = start("--config", config, "--model", sharp_model, "--log-level", "info", fed=True, **faults.environment)

    def logged(words: str) -> int:
        return sum(words in line for line in daemon.log)

    feed_episodes(daemon, 1)
    eventually(lambda: logged("hangs up") and logged("kept in memory"), "broker and outbox are tried again later")
    for off_by in (-DAY_SECONDS, DAY_SECONDS):  # a wait of either clock that began before either step
        faults.set_clock(off_by)
        before = cable.connections
        eventually(lambda before=before: cable.connections >= before + 3, "the broker is tried again")
        feed_episodes(daemon, 1)
    faults.set_clock(-DAY_SECONDS)
    cable.admit()
    eventually(lambda: logged("connected (MQTT 5)"), "it connects")
    eventually(lambda: logged(f"refuses {TOPIC}"), "the topic is tried again later")
    state.unlink()
    eventually(lambda: logged("outbox.db works again"), "the outbox is tried again")
    faults.set_clock(DAY_SECONDS)
    feed_episodes(daemon, 1)
    faults.set_clock(-DAY_SECONDS)
    subscriber = start_subscriber(broker.port, TOPIC)
    rules.write_text(allowed + "topic readwrite edge-sser/+/+/episode\n")
    broker.reload()
    eventually(lambda: subscriber.payloads(TOPIC) == daemon.episode_lines(), "the topic is tried again; all in order")
    faults.set_clock(0)
    cable.cut()
    feed_episodes(daemon, 1)
    eventually(lambda: subscriber.payloads(TOPIC) == daemon.episode_lines(), "all arrives, in order")
    assert daemon.stop() == 0
    assert gaps(subscriber.received) == []
    readings = daemon.events("reading")
    assert_numbered(readings)
    assert_steady(readings)
    assert_sane(daemon.events("episode"))
    steps = [seconds(after) - seconds(before) - HOP_SECONDS for before, after in itertools.pairwise(readings)]
    offsets = list(itertools.accumulate(step for step in steps if abs(step) > 1.0))
    assert offsets[:2] == pytest.approx([-DAY_SECONDS, DAY_SECONDS], abs=1.0)
    assert offsets[-1] == pytest.approx(0.0, abs=1.0)  # between, a last reading may fall into the second step back
    assert len(offsets) <= 4
    cable.close()


def test_an_out_of_date_certificate_makes_the_log_mention_the_clock(
    authority, start, start_broker, start_subscriber, sharp_model, tmp_path
):
    certificate, key = authority.issue("broker")
    broker = start_broker("allow_anonymous true", f"certfile {certificate}", f"keyfile {key}")
    cable = Cable(broker.port)
    faults = Faults(tmp_path / "faults")
    faults.set_clock(-3 * DAY_SECONDS)
    url = f"mqtts://127.0.0.1:{cable.port}"
    config = write_settings(tmp_path / "config.toml", url=url, ca_file=authority.ca)
    daemon = start("--config", config, "--model", sharp_model, "--log-level", "info", fed=True, **faults.environment)
    feed_episodes(daemon, 1)
    for off_by, said in ((-3 * DAY_SECONDS, "not yet valid"), (3 * DAY_SECONDS, "expired")):
        faults.set_clock(off_by)
        eventually(lambda said=said: any(said in line for line in daemon.log), said)
        before = cable.connections
        eventually(lambda before=before: cable.connections >= before + 3, "it is tried again")
        (line,) = [line for line in daemon.log if said in line]
        assert "device's clock" in line
        assert " says 20" in line  # the day
    faults.set_clock(0)
    eventually(lambda: any("connected (MQTT 5)" in line for line in daemon.log), "it connects when the clock is right")
    assert daemon.stop() == 0
    cable.close()
