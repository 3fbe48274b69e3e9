"""Listening is paused by a file that several programs share: MQTT, the web page, and a person with a shell."""

from __future__ import annotations

from pathlib import Path
from urllib.request import urlopen

import pytest
from mqtt_rig import NODE, STATUS, Broker, eventually, free_port

from edge_sser.settings.schema import Settings
from edge_sser.settings.sinks import MetricsSettings, MqttSettings
from edge_sser.sinks import pause
from edge_sser.sinks.open import ConfiguredSinks
from edge_sser.sinks.pause import PauseReason, PauseSwitch

STATE_TOPIC = f"edge-sser/{NODE}/listen/state"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state directory of this process."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    return tmp_path / "state"


def test_without_a_broker_the_file_pauses(state: Path) -> None:
    outputs = ConfiguredSinks(Settings(node=NODE), status=lambda: STATUS, sources=["desk"])
    assert not outputs.switch.reasons
    PauseSwitch(state / "paused").turn(False)  # as the web page does, in another process
    assert outputs.switch.reasons == {PauseReason.COMMAND}
    PauseSwitch(state / "paused").turn(True)
    assert not outputs.switch.reasons
    outputs.close()


def test_a_key_and_a_command_pause_apart(state: Path) -> None:
    switch, other = PauseSwitch(state / "paused"), PauseSwitch(state / "paused")
    switch.press_key()
    assert (switch.reasons, other.reasons) == ({PauseReason.KEY}, set())
    other.turn(False)
    assert switch.reasons == {PauseReason.KEY, PauseReason.COMMAND}
    switch.press_key()
    assert switch.reasons == {PauseReason.COMMAND}
    other.turn(True)
    assert not switch.reasons


def test_without_a_place_for_state_commands_hold_until_the_end() -> None:
    switch = PauseSwitch(None)
    assert switch.on
    switch.turn(False)
    assert switch.reasons == {PauseReason.COMMAND}


def test_the_metrics_know_of_a_pause_by_key(state: Path) -> None:
    port = free_port()
    settings = Settings(node=NODE, metrics=MetricsSettings(port=port))
    outputs = ConfiguredSinks(settings, status=lambda: STATUS, sources=["desk"])
    try:
        for listening in (b"1.0", b"0.0", b"1.0"):
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10.0) as answer:
                assert b"edge_sser_listening " + listening in answer.read()
            outputs.switch.press_key()
    finally:
        outputs.close()


def test_a_pause_holds_while_it_is_stored_again(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    switch = PauseSwitch(state / "paused")
    switch.turn(False)
    (state / "paused").unlink()  # by another program; this one is told OFF again, on a slow medium
    seen: list[bool] = []
    monkeypatch.setattr(pause, "make_folder", lambda path, mode: seen.append(switch.on))
    switch.turn(False)
    assert seen == [False]
    assert not switch.on


def test_a_pause_by_another_program_is_published_once(state: Path, broker: Broker, start_subscriber) -> None:
    subscriber = start_subscriber(broker.port)
    settings = Settings(
        node=NODE,
        mqtt=MqttSettings(url=f"mqtt://127.0.0.1:{broker.port}"),
        metrics=MetricsSettings(port=free_port()),
    )
    outputs = ConfiguredSinks(settings, status=lambda: STATUS, sources=["desk"])
    try:
        eventually(lambda: subscriber.on(STATE_TOPIC), "the first state")
        for on in (False, True, False):
            PauseSwitch(state / "paused").turn(on)
            before = len(subscriber.on(STATE_TOPIC))
            for _ in range(3):  # the loop asks again and again
                outputs.announce_pause()
            eventually(lambda count=before: len(subscriber.on(STATE_TOPIC)) > count, "the new state")
        subscriber.publish(f"edge-sser/{NODE}/listen/set", "ON")  # the same switch from the other side
        eventually(lambda: not (state / "paused").exists(), "the file is gone")
        eventually(lambda: outputs.switch.on, "listening goes on")
        eventually(lambda: len(subscriber.on(STATE_TOPIC)) >= 5, "the last state")
    finally:
        outputs.close()
    assert [message.payload for message in subscriber.on(STATE_TOPIC)] == [b"ON", b"OFF", b"ON", b"OFF", b"ON"]
