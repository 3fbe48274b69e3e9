"""The wall clock is set back and forward under the daemon, as on a board without a battery that finds a time server."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from listening import listen
from mqtt_rig import Cable, eventually, gaps
from preloaded_faults import Faults
from stressed_speech import EPISODE_TOPIC as TOPIC
from stressed_speech import WINDOW_SECONDS, episodes, feed_episodes, write_settings

from edge_sser.audio.raw import RawSource
from edge_sser.audio.source import AudioBlock, EndOfAudio, Source
from edge_sser.daemon.inputs import Input
from edge_sser.errors import SourceError
from edge_sser.events import Event, as_dict
from edge_sser.model.model import Model
from edge_sser.settings.load import load_settings
from edge_sser.sinks.base import Sink

DAY_SECONDS = 86_400
OPENINGS = 4
HOP_SECONDS = 0.5


def seconds(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["ts"].replace("Z", "+00:00")).timestamp()


def assert_steady(readings: list[dict[str, Any]]) -> None:
    """Checks for a reading every hop, by their own times."""
    steps = [seconds(after) - seconds(before) for before, after in itertools.pairwise(readings)]
    assert len(steps) > 10
    assert all(abs(step - HOP_SECONDS) < 0.002 for step in steps)


def assert_sane(reported: Iterable[dict[str, Any]]) -> None:
    """Checks that each episode starts, goes on and ends under one id, and lasts about as long as the stressed voice."""
    for _, phases in itertools.groupby(reported, key=lambda event: event["id"]):
        events = list(phases)
        assert [event["phase"] for event in events] == ["start", "update", "end"]
        assert 0.0 < events[-1]["duration_s"] < 2 * WINDOW_SECONDS
        assert [seconds(event) for event in events] == sorted(seconds(event) for event in events)


def assert_numbered(readings: list[dict[str, Any]]) -> None:
    numbers = [int(event["id"].removeprefix("cab12/desk/")) for event in readings]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


class Kept(Sink):
    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def emit(self, event: Event, line: bytes) -> None:
        self.events.append(as_dict(event))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]


class Unplugged(RawSource):
    """A pipe whose end is an error, like a microphone that is pulled out."""

    def read(self, timeout_seconds: float) -> AudioBlock | None:
        try:
            return super().read(timeout_seconds)
        except EndOfAudio:
            raise SourceError("desk is gone: plug it in again") from None


def test_setting_the_clock_changes_neither_cadence_nor_ids_nor_durations(sharp_model, tmp_path):
    """Each call of the wall clock finds it set by a day, forward or back; the microphone comes and goes."""
    jumps = itertools.cycle([0, -DAY_SECONDS, DAY_SECONDS])
    stop = threading.Event()
    openings = itertools.count(1)
    pipes: list[BinaryIO] = []

    def wall_clock() -> float:
        return time.time() + next(jumps)

    def open_source() -> Source:
        if next(openings) > OPENINGS:
            stop.set()
            raise SourceError("there is no desk: plug it in")
        reader, writer = os.pipe()
        pipes.append(os.fdopen(reader, "rb"))
        threading.Thread(target=speak, args=(writer,), daemon=True).start()
        return Unplugged(pipes[-1], name="desk", wall_clock=wall_clock)

    def speak(writer: int) -> None:
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(episodes(2))

    kept = Kept()
    now = [0.0]
    loaded = load_settings(write_settings(tmp_path / "config.toml", url="mqtt://unused"))
    settings = loaded.settings.model_copy(update={"node": "cab12"})
    listen(
        settings, [Input("desk", open_source, reopens=True)], [kept], Model.load(Path(sharp_model)), stop,
        wall_clock=wall_clock, clock=lambda: now[0], sleep=lambda pause: now.__setitem__(0, now[0] + pause),
    )  # fmt: skip
    for pipe in pipes:
        pipe.close()
    readings, reported = kept.of("reading"), kept.of("episode")
    assert_numbered(readings)
    openings_heard = [list(part) for part in cut_by_opening(readings)]
    assert len(openings_heard) == OPENINGS
    for part in openings_heard:
        assert_steady(part)
    assert_sane(reported)
    assert len({event["id"] for event in reported}) == 2 * OPENINGS


def cut_by_opening(readings: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    parts: list[list[dict[str, Any]]] = []
    for reading in readings:
        if reading["start_s"] == 0.0:
            parts.append([])
        parts[-1].append(reading)
    return parts


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
    assert_numbered(daemon.events("reading"))
    assert_steady(daemon.events("reading"))
    assert_sane(daemon.events("episode"))
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
