"""Faults of a microphone while the daemon listens, and the health events that report them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from accounts import assert_accounted, newest_dbfs
from mqtt_rig import eventually
from virtual_microphone import VirtualMicrophone

RATE_HZ = 16_000
CYCLES = 20 if os.environ.get("EDGE_SSER_SOAK") == "1" else 3
FAULTS = {
    "kill": (VirtualMicrophone.kill, VirtualMicrophone.restart),
    "unplug": (VirtualMicrophone.unplug, VirtualMicrophone.plug_in),
    "freeze": (VirtualMicrophone.freeze, VirtualMicrophone.thaw),
}


def noise(seconds: float, *, amplitude: int = 9_000) -> np.ndarray:
    return np.random.default_rng(0).integers(-amplitude, amplitude, int(seconds * RATE_HZ), dtype=np.int16)


@pytest.fixture
def microphones(virtual_microphone):
    """Returns two microphones, one loud and one soft."""
    virtual_microphone.kill()
    virtual_microphone.restart(names=("desk", "door"))
    virtual_microphone.play(noise(60), into="desk")
    virtual_microphone.play(noise(60, amplitude=900), into="door")
    return virtual_microphone


@pytest.mark.mic
def test_microphones_that_come_back_in_another_order_are_told_apart_by_their_ids(start, microphones):
    daemon = start("--source", "mic:desk", "--source", "mic:door")
    for name in ("desk", "door"):
        daemon.await_readings(2, source=name)
    assert newest_dbfs(daemon.all_events, "desk") > newest_dbfs(daemon.all_events, "door") + 15
    microphones.kill()
    daemon.await_states("ok", "missing", source="desk")
    daemon.await_states("ok", "missing", source="door")
    microphones.restart(names=("attic", "cellar", "door", "desk"))
    for name, amplitude in {"attic": 90, "cellar": 90, "door": 900, "desk": 9_000}.items():
        microphones.play(noise(60, amplitude=amplitude), into=name)
    daemon.await_states("ok", "missing", "ok", source="desk")
    daemon.await_states("ok", "missing", "ok", source="door")
    for name in ("desk", "door"):
        daemon.await_readings(2, source=name)
    assert newest_dbfs(daemon.all_events, "desk") > newest_dbfs(daemon.all_events, "door") + 15 > -120 + 15 + 60
    assert daemon.stop() == 0


@pytest.mark.mic
def test_a_microphone_that_its_server_suspends_stalls_until_it_is_resumed(start, virtual_microphone):
    virtual_microphone.play(noise(60))
    daemon = start()
    daemon.await_readings(1)
    virtual_microphone.suspend(True)
    daemon.await_states("ok", "stalled")
    virtual_microphone.suspend(False)
    daemon.await_states("ok", "stalled", "ok")
    daemon.await_readings(2)
    assert daemon.stop() == 0
    assert assert_accounted(daemon.all_events) == 0.0


@pytest.mark.mic
def test_a_microphone_that_is_muted_is_silent_until_it_is_heard(start, virtual_microphone):
    virtual_microphone.play(noise(60))
    daemon = start(constants={"edge_sser.pipeline.health.SILENT_SECONDS": 2.0})
    daemon.await_readings(1)
    virtual_microphone.mute(True)
    daemon.await_states("ok", "silent")
    assert "muted" in daemon.events("health")[-1]["detail"]
    eventually(lambda: newest_dbfs(daemon.all_events, "mic") == -120.0, "a reading of the silence")
    virtual_microphone.mute(False)
    daemon.await_states("ok", "silent", "ok")
    assert daemon.stop() == 0
    assert assert_accounted(daemon.all_events) == 0.0


def connections(pid: int) -> int:
    """Returns the number of connections of a process to a sound server, by the threads that hold them."""
    return sum((task / "comm").read_text() == "threaded-ml\n" for task in Path(f"/proc/{pid}/task").iterdir())


@pytest.mark.mic
def test_a_sound_server_that_hangs_delays_neither_other_sources_nor_the_end(start, virtual_microphone, speech):
    virtual_microphone.play(noise(120))
    daemon = start("--source", "mic", "--source", speech)
    daemon.await_states("ok", source="mic")
    daemon.await_states("ok", source="demo")
    virtual_microphone.freeze()
    daemon.await_states("ok", "stalled", "missing", source="mic")
    eventually(lambda: connections(daemon.pid) == 2, "one that it cannot close, and one that it tries to open")
    daemon.await_readings(4, source="demo")
    assert connections(daemon.pid) == 2  # the readings came while it waited
    assert daemon.stop(within_seconds=20.0) == 0
    virtual_microphone.thaw()
    assert_accounted(daemon.all_events, "mic")
    assert assert_accounted(daemon.all_events, "demo") == 0.0


@pytest.mark.mic
def test_a_sound_server_that_hangs_from_the_start_is_missing_until_it_answers(start, virtual_microphone):
    virtual_microphone.play(noise(60))
    virtual_microphone.freeze()
    daemon = start(constants={"edge_sser.audio.microphone.ANSWER_SECONDS": 4.0})
    daemon.await_states("stalled", "missing")
    assert "microphone default does not answer: restart the sound server" in daemon.events("health")[-1]["detail"]
    virtual_microphone.thaw()
    daemon.await_states("stalled", "missing", "ok")
    daemon.await_readings(1)
    assert daemon.stop() == 0


@pytest.mark.mic
def test_a_microphone_that_stays_missing_ends_the_program_with_one_line(start, virtual_microphone):
    virtual_microphone.play(noise(60))
    daemon = start(constants={"edge_sser.daemon.session.GIVE_UP_MINUTES": 0.05})
    daemon.await_states("ok")
    virtual_microphone.kill()
    assert daemon.wait() == 1
    *_, told, end = daemon.log
    assert told.endswith("it is looked for until it is back")
    assert end.startswith("edge-sser: error: no microphone was found: plug one in")
    assert daemon.states() == ["ok", "missing"]
    assert daemon.events("status")[-1]["state"] == "stopped"


def held(pid: int) -> tuple[int, int]:
    """Returns the numbers of open files and threads of a process."""
    return len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))


@pytest.mark.mic
@pytest.mark.parametrize("fault", ["kill", "unplug", pytest.param("freeze", marks=pytest.mark.soak)])
def test_reopening_a_microphone_leaks_nothing(start, virtual_microphone, fault):
    """Three times, and twenty with EDGE_SSER_SOAK=1."""
    sound = noise(300)  # at hand: a microphone that is back and gives nothing for 2 s has stalled
    virtual_microphone.play(sound)
    daemon = start()
    states = ["ok"]
    daemon.await_readings(1)
    before = held(daemon.pid)
    for _ in range(CYCLES):
        lose, bring_back = FAULTS[fault]
        lose(virtual_microphone)
        states += ["stalled", "missing"] if fault == "freeze" else ["missing"]
        daemon.await_states(*states)
        bring_back(virtual_microphone)
        if fault != "freeze":
            virtual_microphone.play(sound)
        states.append("ok")
        daemon.await_states(*states)
    daemon.await_readings(2)
    eventually(lambda: held(daemon.pid) == before, f"it holds {before} again, not {held(daemon.pid)}")
    assert daemon.stop() == 0
    assert assert_accounted(daemon.all_events) == 0.0
