"""The health of a source, from its audio."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streams import LAW, RATE, blocks, cuts, losses, make_monitor, noise, play, silence

from edge_sser.audio.signal import Fault, Finding, Signal
from edge_sser.audio.source import AudioBlock
from edge_sser.events import Event, Health, HealthState, to_json
from edge_sser.model.model import Model
from edge_sser.monitor.stream_clock import StreamClock


def health(events: list[Event]) -> list[tuple[HealthState, float]]:
    """Returns each state with its stream time in seconds."""
    return [(event.state, event.read_s) for event in events if isinstance(event, Health)]


def test_the_first_audio_makes_a_source_well(model: Model) -> None:
    monitor = make_monitor(model)
    assert monitor.push(AudioBlock(silence(0.0))) == []
    assert monitor.health is None
    assert health(monitor.push(AudioBlock(noise(0.01, dbfs=-40.0)))) == [(HealthState.OK, 0.0)]
    assert health(monitor.push(AudioBlock(noise(9.0, dbfs=-40.0)))) == []


def test_ten_seconds_of_silence_are_told_and_so_is_their_end(model: Model) -> None:
    audio = np.concatenate((noise(5.0, dbfs=-60.0), silence(20.0), noise(5.0, dbfs=-60.0), silence(9.0)))
    events = play(make_monitor(model), [AudioBlock(audio)])
    assert health(events) == [(HealthState.OK, 0.0), (HealthState.SILENT, 15.0), (HealthState.OK, 25.5)]
    (silent,) = [event for event in events if isinstance(event, Health) and event.state is HealthState.SILENT]
    assert "muted" in silent.detail


def test_a_quiet_room_is_not_a_muted_microphone(model: Model) -> None:
    assert health(play(make_monitor(model), [AudioBlock(noise(30.0, dbfs=-85.0))])) == [(HealthState.OK, 0.0)]


def test_the_last_bit_of_a_muted_converter_is_silence(model: Model) -> None:
    dither = np.sign(noise(15.0, dbfs=-20.0)) / np.float32(32768)
    assert health(play(make_monitor(model), [AudioBlock(dither)]))[-1][0] is HealthState.SILENT


@pytest.mark.parametrize("fault", [Fault.STUCK, Fault.REPEATS])
def test_sound_that_carries_nothing_is_silence_at_any_level(model: Model, fault: Fault) -> None:
    monitor = make_monitor(model)
    events = play(monitor, [AudioBlock(noise(4.0, dbfs=-20.0))])
    events += monitor.observe(Signal(nothing=fault))
    events += play(monitor, [AudioBlock(noise(15.0, dbfs=-20.0))])
    assert [event.state for event in events if isinstance(event, Health)] == [HealthState.OK, HealthState.SILENT]
    (silent,) = [event for event in events if isinstance(event, Health) and event.state is HealthState.SILENT]
    assert silent.detail == f"for 10 s the sound {fault.text}: {fault.remedy}"
    monitor.observe(Signal())
    assert health(monitor.push(AudioBlock(noise(4.0, dbfs=-20.0))))[0][0] is HealthState.OK


def test_faults_of_the_signal_are_told_beside_the_state_while_they_last(model: Model) -> None:
    monitor = make_monitor(model)
    hum = Signal(findings=(Finding("the sound is mostly mains hum (50 Hz)", "check cable"),))
    monitor.push(AudioBlock(noise(4.0, dbfs=-40.0)))
    (told,) = monitor.observe(hum)
    assert isinstance(told, Health)
    assert (told.state, told.detail) == (HealthState.OK, "the sound is mostly mains hum (50 Hz): check cable")
    assert monitor.observe(hum) == []
    (both,) = monitor.note("the disk is full")
    assert isinstance(both, Health)
    assert both.detail == "the sound is mostly mains hum (50 Hz): check cable; the disk is full"
    (well,) = monitor.observe(Signal())
    assert isinstance(well, Health)
    assert well.detail == "the disk is full"


def test_a_fault_of_the_signal_changes_nothing_where_there_is_no_sound(model: Model) -> None:
    monitor = make_monitor(model)
    monitor.push(AudioBlock(noise(4.0, dbfs=-40.0)))
    assert monitor.report(HealthState.STALLED, "no audio for 2 s")
    assert monitor.observe(Signal(findings=(Finding("the sound is mostly mains hum (50 Hz)", "check cable"),))) == []


def test_lost_audio_is_told_and_forgiven_after_ten_seconds_without_loss(model: Model) -> None:
    monitor = make_monitor(model)
    audio = [AudioBlock(noise(5.0, dbfs=-40.0)), AudioBlock(noise(8.2, dbfs=-40.0), dropped=1600)]
    audio += [AudioBlock(noise(30.0, dbfs=-40.0), dropped=3200)]
    events = play(monitor, audio)
    # Reported with the reading after the loss. The second loss (at 13.4 s) restarts the ten seconds.
    assert health(events) == [(HealthState.OK, 0.0), (HealthState.OVERRUN, 5.6), (HealthState.OK, 23.8)]
    assert [event.dropped_s for event in events if isinstance(event, Health)] == [0.0, 0.1, 0.3]


def test_trouble_elsewhere_is_said_beside_the_state_for_as_long_as_it_lasts(model: Model) -> None:
    moment = [0.0]
    times = StreamClock(clock=lambda: moment[0], wall_clock=lambda: moment[0] + 100.5)
    monitor = make_monitor(model, live=True, started_at=0.0, times=times)
    assert monitor.note("the disk is full") == []  # there is no state yet to say it beside
    (first,) = [event for event in monitor.push(AudioBlock(noise(4.0, dbfs=-40.0))) if isinstance(event, Health)]
    assert (first.state, first.detail) == (HealthState.OK, "the disk is full")
    assert monitor.note("the disk is full") == []
    (silent,) = [event for event in play(monitor, [AudioBlock(silence(14.0))]) if isinstance(event, Health)]
    assert silent.state is HealthState.SILENT
    assert silent.detail.endswith("; the disk is full")
    moment[0] = 20.0  # long after the last audio
    (well,) = monitor.note("")
    assert isinstance(well, Health)
    assert (well.state, well.ts) == (HealthState.SILENT, "1970-01-01T00:02:00.500Z")
    assert "disk" not in well.detail


def test_a_loss_that_no_audio_follows_is_told_at_the_end(model: Model) -> None:
    events = play(make_monitor(model), [AudioBlock(noise(3.2, dbfs=-40.0)), AudioBlock(silence(0.0), dropped=800)])
    assert health(events) == [(HealthState.OK, 0.0), (HealthState.OVERRUN, 3.25)]
    last = events[-1]
    assert isinstance(last, Health)
    assert (last.processed_s, last.dropped_s) == (3.2, 0.05)


def test_what_only_the_device_noticed_is_told_too(model: Model) -> None:
    monitor = make_monitor(model)
    monitor.push(AudioBlock(noise(3.0, dbfs=-40.0)), overruns=0)
    (event,) = [e for e in monitor.push(AudioBlock(noise(0.5, dbfs=-40.0)), overruns=2) if isinstance(e, Health)]
    assert (event.state, event.overruns, event.dropped_s) == (HealthState.OVERRUN, 2, 0.0)
    assert health(monitor.push(AudioBlock(noise(15.0, dbfs=-40.0)), overruns=2)) == [(HealthState.OK, 13.5)]


def test_what_cannot_be_heard_is_told_once_and_ended_by_any_sound(model: Model) -> None:
    times = StreamClock(clock=lambda: 0.0, wall_clock=lambda: 1_767_400_000.5)
    monitor = make_monitor(model, live=True, times=times)
    monitor.push(AudioBlock(noise(3.2, dbfs=-40.0)))
    (stalled,) = monitor.report(HealthState.STALLED, "no audio for 2 s")
    assert isinstance(stalled, Health)
    assert (stalled.state, stalled.detail, stalled.read_s) == (HealthState.STALLED, "no audio for 2 s", 3.2)
    assert stalled.ts == "2026-01-03T00:26:40.500Z"
    assert monitor.report(HealthState.STALLED, "no audio for 3 s") == []
    assert health(monitor.report(HealthState.MISSING, "unplugged")) == [(HealthState.MISSING, 3.2)]
    assert health(monitor.push(AudioBlock(noise(0.01, dbfs=-40.0)))) == [(HealthState.OK, 3.2)]


def test_a_source_that_was_silent_before_it_stalled_is_silent_after_it(model: Model) -> None:
    monitor = make_monitor(model)
    monitor.push(AudioBlock(silence(15.0)))
    monitor.report(HealthState.STALLED, "no audio")
    assert health(monitor.push(AudioBlock(silence(0.1)))) == [(HealthState.SILENT, 15.0)]


def test_a_source_that_is_missing_stays_so_to_the_end(model: Model) -> None:
    monitor = make_monitor(model)
    monitor.push(AudioBlock(noise(4.0, dbfs=-40.0)))
    monitor.push(AudioBlock(silence(0.0), dropped=100))
    monitor.report(HealthState.MISSING, "unplugged")
    assert health(monitor.finish()) == []


@LAW
@given(data=st.data())
def test_chunking_changes_nothing(model: Model, data: st.DataObject) -> None:
    stretches = data.draw(st.lists(st.tuples(st.booleans(), st.floats(0.1, 14.0)), min_size=1, max_size=6))
    audio = np.concatenate([noise(s, dbfs=-60.0) if loud else silence(s) for loud, s in stretches])
    places = data.draw(cuts(audio.size))
    lost = data.draw(losses(audio.size))
    cut = [to_json(event) for event in play(make_monitor(model), blocks(audio, places, lost))]
    whole = [to_json(event) for event in play(make_monitor(model), blocks(audio, [], lost))]
    assert cut == whole


def test_seconds_in_health_add_up(model: Model) -> None:
    lost = {0: 7 * RATE, 4 * RATE: 123, 9 * RATE: 4567}
    events = play(make_monitor(model), blocks(noise(12.0, dbfs=-40.0), [], lost))
    reported = [event for event in events if isinstance(event, Health)]
    assert (reported[0].read_s, reported[0].processed_s, reported[0].dropped_s) == (7.0, 0.0, 7.0)
    assert len(reported) >= 2
    assert all(round(e.processed_s + e.dropped_s - e.read_s, 3) in (-0.001, 0.0, 0.001) for e in reported)
