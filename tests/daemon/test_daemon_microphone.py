"""A microphone that comes and goes under a running daemon."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from listening import listen
from mqtt_rig import LIMIT_SECONDS, eventually

from edge_sser.audio import microphone
from edge_sser.audio.source import AudioBlock, Source
from edge_sser.daemon.inputs import Input
from edge_sser.daemon.session import GIVE_UP_MINUTES, REOPEN_MAX_SECONDS, REOPEN_MIN_SECONDS
from edge_sser.errors import SourceError
from edge_sser.events import Health, HealthState, Reading, Status
from edge_sser.model.model import Model
from edge_sser.settings.schema import Settings
from edge_sser.sinks.base import Sink

RATE_HZ = 16_000


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(0).integers(-9_000, 9_000, int(seconds * RATE_HZ), dtype=np.int16)


@pytest.mark.mic
def test_a_sound_server_that_dies_is_missing_until_it_is_back(start, virtual_microphone):
    virtual_microphone.play(noise(60))
    daemon = start()
    daemon.await_readings(1)
    virtual_microphone.kill()
    eventually(lambda: daemon.states()[-1] == "missing", "the microphone is missing")
    virtual_microphone.restart()
    virtual_microphone.play(noise(60))
    eventually(lambda: daemon.states()[-1] == "ok", "the microphone is back")
    daemon.await_readings(1)
    assert daemon.states() == ["ok", "missing", "ok"]
    assert daemon.stop() == 0
    assert "is gone" in daemon.log[0]
    assert daemon.log[-1] == "edge-sser: mic is back"


@pytest.mark.mic
def test_without_its_microphone_the_daemon_reports_the_fault_and_does_not_start(start, virtual_microphone):
    virtual_microphone.kill()
    daemon = start()
    assert daemon.wait() == 1
    (line,) = daemon.log
    assert line.startswith("edge-sser: error: no microphone was found")
    assert [event.get("state") for event in daemon.all_events] == ["online", "missing", "stopped"]


@pytest.mark.mic
def test_a_microphone_that_is_missing_from_the_start_is_reported_while_another_source_works(
    start, virtual_microphone, speech
):
    daemon = start("--source", "mic:attic", "--source", speech)
    eventually(lambda: daemon.states() == ["missing", "ok"], "both are told")
    (missing,) = [event for event in daemon.events("health") if event["source"] == "attic"]
    assert missing["state"] == "missing"
    assert "there is no microphone attic" in missing["detail"]
    assert daemon.stop() == 0


@pytest.mark.mic
def test_a_device_that_does_not_close_is_abandoned(virtual_microphone, monkeypatch, caplog):
    never, released = threading.Event(), threading.Event()
    source = microphone.MicrophoneSource(name="desk")
    close = microphone._Recording.close

    def close_late(recording: microphone._Recording) -> None:
        never.wait()
        close(recording)
        released.set()

    monkeypatch.setattr(microphone, "CLOSE_SECONDS", 0.05)
    monkeypatch.setattr(microphone._Recording, "close", close_late)
    source.close()
    assert "cannot be closed" in caplog.text
    never.set()
    assert released.wait(LIMIT_SECONDS)


class Kept(Sink):
    def __init__(self) -> None:
        self.events: list = []

    def emit(self, event, line: bytes) -> None:
        self.events.append(event)


class Fickle(Source):
    """A microphone that gives some blocks and breaks: a fault that no real part shows on demand."""

    live = True
    started_at = 100.0
    name = "desk"

    def __init__(self, blocks: int) -> None:
        self._left = blocks

    def read(self, timeout_seconds: float) -> AudioBlock | None:
        if self._left == 0:
            raise SourceError("desk is gone: plug it in again")
        self._left -= 1
        tone = np.tile(np.float32([0.1, 0.1, -0.1, -0.1]), RATE_HZ // 4)  # a constant would be silence: an offset
        return AudioBlock(tone)


def run_fickle(model: str, opened_after: list[int | None]) -> tuple[list, list[float], Exception]:
    """Listens to a microphone of which each opening gives a number of blocks, or fails (None); later ones fail."""
    now = [0.0]
    tries: list[float] = []
    openings = iter(opened_after)

    def open_source() -> Source:
        tries.append(now[0])
        blocks = next(openings, None)
        if blocks is None:
            raise SourceError("there is no desk: plug it in")
        return Fickle(blocks)

    def sleep(seconds: float) -> None:
        now[0] += seconds

    sink = Kept()
    with pytest.raises(SourceError) as caught:
        listen(
            Settings(node="cab12"), [Input("desk", open_source, reopens=True)], [sink], Model.load(Path(model)),
            threading.Event(), clock=lambda: now[0], sleep=sleep,
        )  # fmt: skip
    return sink.events, tries, caught.value


def test_retries_back_off_and_end_after_ten_minutes(model):
    events, tries, error = run_fickle(model, [4])
    waits = np.diff(tries)
    assert waits[0] == pytest.approx(1.0, abs=0.3)
    assert np.all(waits[1:5] > 1.5 * waits[:4])
    assert max(waits) == pytest.approx(REOPEN_MAX_SECONDS, abs=0.3)
    assert tries[-1] == pytest.approx(60 * GIVE_UP_MINUTES, abs=REOPEN_MAX_SECONDS + 1)
    assert "there is no desk" in str(error)
    assert [event.state for event in events if isinstance(event, Health)] == [HealthState.OK, HealthState.MISSING]
    assert isinstance(events[-1], Status)


def test_a_microphone_that_opens_without_audio_stays_missing_until_the_daemon_gives_up(model):
    events, tries, _ = run_fickle(model, [4, *[0] * 500])
    assert tries[-1] <= 60 * GIVE_UP_MINUTES + 1
    assert len(tries) < 40
    assert [event.state for event in events if isinstance(event, Health)] == [HealthState.OK, HealthState.MISSING]


def test_audio_resets_the_backoff(model):
    events, tries, _ = run_fickle(model, [4, None, None, None, 4, 4])
    assert tries[5] - tries[4] == pytest.approx(REOPEN_MIN_SECONDS, abs=0.3)
    states = [event.state for event in events if isinstance(event, Health)]
    assert states == [HealthState.OK, HealthState.MISSING] * 3
    numbers = [int(event.id.rpartition("/")[2]) for event in events if type(event).__name__ == "Reading"]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@pytest.mark.parametrize("number", [pytest.param(1, id="number-as-before"), pytest.param(2, id="another-number")])
def test_a_card_that_is_plugged_in_beside_another_is_found(model, number):
    """PortAudio lists devices only while none is open. Its list is faked: no test machine has two sound cards."""
    cards = {0: "desk", 1: "door"}
    listed: dict[int, str] = {}
    opened: list[Source] = []
    rounds = [0]

    class Card(Fickle):
        def __init__(self, name: str) -> None:
            super().__init__(blocks=10**6)
            self.name = name
            if not opened:
                listed.clear()
                listed.update(cards)
            if name not in listed.values():
                raise SourceError(f"there is no {name}: plug it in")
            opened.append(self)

        def read(self, timeout_seconds: float) -> AudioBlock | None:
            if self.name not in cards.values():
                raise SourceError(f"{self.name} is gone: plug it in again")
            return super().read(timeout_seconds)

        def close(self) -> None:
            if self in opened:
                opened.remove(self)

    def sound_cards() -> dict[int, str]:
        rounds[0] += 1
        if rounds[0] == 10:
            cards[number] = "door"
        return dict(cards)

    heard = Counter()

    class Script(Kept):
        def emit(self, event, line: bytes) -> None:
            super().emit(event, line)
            if isinstance(event, Reading):
                heard[event.source] += 1
            if isinstance(event, Reading) and event.source == "door" and heard["door"] == 4:
                cards.clear()
                cards[0] = "desk"
                listed.pop(1)  # what is gone is not opened either
            # Found at once, the door has spoken long before the desk's 200th reading.
            if heard["door"] == 11 or heard["desk"] == 201:
                stop.set()

    stop = threading.Event()
    sink = Script()
    inputs = [Input(name, lambda name=name: Card(name), reopens=True) for name in ("desk", "door")]
    listen(Settings(node="cab12"), inputs, [sink], Model.load(Path(model)), stop, cards=sound_cards)
    states = [event.state for event in sink.events if isinstance(event, Health) and event.source == "door"]
    assert states == [HealthState.OK, HealthState.MISSING, HealthState.OK]
    desk = [event.state for event in sink.events if isinstance(event, Health) and event.source == "desk"]
    assert desk == [HealthState.OK] * 2, "opened again for the card that came, not for the one that went"
    assert opened == []
