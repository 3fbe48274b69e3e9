"""A live signal is looked at as it goes on: its faults are told, and the best channel is taken."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from streams import LAW, cuts

from edge_sser.audio.convert import InputConverter
from edge_sser.audio.signal import Fault
from edge_sser.audio.watch import LASTING_LOOKS, PAUSE_LOOKS

RATE = 16_000
RANDOM = np.random.default_rng(0)
SPEECH_LIKE, OTHER = 0.05 * RANDOM.standard_normal((2, 60 * RATE))
ROOM = 1e-3 * RANDOM.standard_normal(60 * RATE)
ZEROS = np.zeros(60 * RATE)
Channels = list[NDArray[np.float64]]


def hum(hertz: float) -> NDArray[np.float64]:
    time = np.arange(60 * RATE) / RATE
    waves = [share * np.sin(2 * np.pi * number * hertz * time + number) for number, share in ((1, 0.1), (3, 0.05))]
    return np.add.reduce(waves) + ROOM


def sixteen_bits(samples: NDArray[np.float64]) -> NDArray[np.float32]:
    return (np.clip(np.rint(samples * 32_768), -32_768, 32_767) / 32_768).astype(np.float32)


def listen(
    channels: Channels, *, channel: int | None = None, rate_hz: int = RATE, seconds: float = 12.0
) -> tuple[InputConverter, NDArray[np.float32]]:
    """Returns the converter after so many seconds of 16-bit sound, and what came out of it."""
    frames = sixteen_bits(np.stack(channels, axis=1)[: round(seconds * rate_hz)])
    converter = InputConverter(rate_hz=rate_hz, channels=len(channels), channel=channel, origin="x", lasting=3)
    heard = [converter.push(frames[begin : begin + 1_600]).samples for begin in range(0, len(frames), 1_600)]
    return converter, np.concatenate(heard)


@pytest.mark.parametrize("channels", [[SPEECH_LIKE], [SPEECH_LIKE, SPEECH_LIKE], [SPEECH_LIKE, OTHER], [ROOM, OTHER]])
def test_channels_without_fault_are_averaged_without_a_word(channels: Channels) -> None:
    converter, heard = listen(channels)
    np.testing.assert_array_equal(heard, np.mean(sixteen_bits(np.stack(channels))[:, : heard.size], axis=0))
    assert converter.signal.note == ""
    assert converter.signal.nothing is None


@pytest.mark.parametrize(
    ("channels", "taken", "told"),
    [
        ([SPEECH_LIKE, ZEROS], 0, "channel 1 carries nothing but silence"),
        ([ZEROS, SPEECH_LIKE], 1, "channel 0 carries nothing but silence"),
        ([SPEECH_LIKE, ZEROS + 0.3], 0, "channel 1 is one value for ever, not zero"),
        ([SPEECH_LIKE, np.resize(OTHER[:1_234], OTHER.size)], 0, "channel 1 is one short piece over and over"),
        ([SPEECH_LIKE, -SPEECH_LIKE], 0, "channel 1 is the opposite of another"),
        ([OTHER, SPEECH_LIKE, -0.9 * SPEECH_LIKE], 1, "channel 2 is the opposite of another"),
        ([30 * OTHER, SPEECH_LIKE], 1, "channel 0 is cut off at full scale"),
        ([hum(50.0), OTHER], 1, "channel 0 is mostly mains hum (50 Hz)"),
        ([OTHER, hum(59.95)], 0, "channel 1 is mostly mains hum (60 Hz)"),
        ([ZEROS, OTHER, ZEROS], 1, "each of the channels 0, 2 carries nothing but silence"),
    ],
)
def test_the_best_channel_is_taken_and_the_fault_told(channels: Channels, taken: int, told: str) -> None:
    converter, heard = listen(channels)
    last = slice(-4 * RATE, None)
    np.testing.assert_array_equal(heard[last], sixteen_bits(channels[taken])[: heard.size][last])
    assert converter.signal.note.startswith(told)
    assert converter.signal.note.endswith(f"channel {taken} alone is used (--channel {taken} for good)")
    assert converter.signal.nothing is None


@pytest.mark.parametrize(
    ("channels", "told"),
    [
        ([30 * OTHER], "the sound is cut off at full scale when it is loud: lower the capture volume"),
        ([OTHER + 0.3], "the sound has a large constant offset: it is filtered out"),
        ([hum(50.0)], "the sound is mostly mains hum (50 Hz): check cable"),
        ([hum(50.0), hum(50.0)], "the sound is mostly mains hum (50 Hz): check cable"),
        ([SPEECH_LIKE, 0.005 * OTHER], "channel 1 is 40 dB below the loudest channel: check its cable"),
    ],
)
def test_faults_that_leave_no_better_channel_are_told_and_the_average_is_kept(channels: Channels, told: str) -> None:
    converter, heard = listen(channels)
    mean = np.mean(sixteen_bits(np.stack(channels))[:, : heard.size], axis=0, dtype=np.float32)
    np.testing.assert_allclose(heard, mean, atol=1e-7)
    assert converter.signal.note.startswith(told)
    assert "alone is used" not in converter.signal.note


@pytest.mark.parametrize(
    ("channels", "fault"),
    [
        ([ZEROS], Fault.SILENT),
        ([ZEROS, ZEROS], Fault.SILENT),
        ([np.sign(OTHER) / 32_768], Fault.SILENT),
        ([ZEROS - 1.0], Fault.STUCK),
        ([np.resize([0.5, -0.5, 0.25], OTHER.size)], Fault.REPEATS),
    ],
)
def test_a_signal_that_carries_nothing_is_named(channels: Channels, fault: Fault) -> None:
    assert listen(channels)[0].signal.nothing is fault
    assert listen(channels)[0].signal.note == ""


def test_a_quiet_room_and_a_pure_tone_in_it_carry_something() -> None:
    tone = 0.1 * np.sin(2 * np.pi * 440.0 * np.arange(60 * RATE) / RATE)
    for samples in (0.06 * ROOM, tone + 0.1 * ROOM):
        signal = listen([samples])[0].signal
        assert signal.nothing is None
        assert signal.note == ""


def test_the_channel_that_was_chosen_is_kept_and_only_its_faults_are_told() -> None:
    converter, heard = listen([SPEECH_LIKE, ZEROS], channel=1)
    assert not heard.any()
    assert converter.signal.nothing is Fault.SILENT
    assert listen([ZEROS, SPEECH_LIKE], channel=1)[0].signal.note == ""


def test_a_channel_that_dies_is_left_out_and_comes_back_when_it_is_well() -> None:
    dying = OTHER.copy()
    dying[20 * RATE : 30 * RATE] = 0.0
    seconds = 20.0 + 1 + PAUSE_LOOKS + LASTING_LOOKS
    converter, heard = listen([SPEECH_LIKE, dying], seconds=seconds)
    np.testing.assert_array_equal(heard[-RATE // 10 :], sixteen_bits(SPEECH_LIKE)[heard.size - RATE // 10 : heard.size])
    assert "channel 1 carries nothing" in converter.signal.note
    long = [np.tile(samples, 2) for samples in (SPEECH_LIKE, dying)]
    long[1][40 * RATE :] = np.tile(OTHER, 2)[40 * RATE :]
    assert listen(long, seconds=75.0)[0].signal.note == ""


def test_of_opposite_channels_the_other_is_taken_when_the_first_dies() -> None:
    dying = OTHER.copy()
    dying[12 * RATE :] = 0.0
    converter, heard = listen([dying, -OTHER], seconds=25.0)
    assert converter.signal.channel == 1
    np.testing.assert_array_equal(heard[-RATE:], sixteen_bits(-OTHER)[heard.size - RATE : heard.size])


@pytest.mark.parametrize("rate_hz", [4_000, 11_025, 44_100, 48_000])
@pytest.mark.parametrize("mains", [50.0, 60.0])
def test_hum_is_found_at_any_rate_and_a_voice_is_none(rate_hz: int, mains: float) -> None:
    time = np.arange(6 * rate_hz) / rate_hz
    room = 1e-3 * np.random.default_rng(0).standard_normal(time.size)
    for hertz, hums in ((2 * mains + 0.03, True), (2 * mains + 3.0, False)):
        tone = 0.1 * np.sin(2 * np.pi * hertz * time) + room
        note = listen([tone], rate_hz=rate_hz, seconds=6.0)[0].signal.note
        assert (f"mains hum ({mains:.0f} Hz)" in note) == hums


def test_speech_has_no_fault(samples: NDArray[np.float32]) -> None:
    converter, _ = listen([samples.astype(np.float64)], seconds=samples.size / RATE)
    assert converter.signal.note == ""
    assert converter.signal.nothing is None


def test_what_a_loudspeaker_plays_is_left_out_while_it_plays_too() -> None:
    plays = np.zeros(60 * RATE)
    for begin in (8, 18, 28, 38):
        plays[begin * RATE : (begin + 5) * RATE] = OTHER[: 5 * RATE]
    plays[48 * RATE :] = OTHER[: 12 * RATE]
    converter, heard = listen([ROOM, plays], seconds=60.0)
    assert "channel 1 is zero to the last bit between sounds" in converter.signal.note
    np.testing.assert_array_equal(heard[-RATE:], sixteen_bits(ROOM)[-RATE:])


def test_samples_that_are_no_numbers_are_no_sound_of_a_channel() -> None:
    frames = np.stack([OTHER[: 8 * RATE], np.full(8 * RATE, np.nan)], axis=1).astype(np.float32)
    frames[::3, 1] = 1e30
    converter = InputConverter(rate_hz=RATE, channels=2, channel=None, origin="x", lasting=3)
    heard = converter.push(frames).samples
    np.testing.assert_array_equal(heard[4 * RATE :], frames[4 * RATE :, 0])
    assert "channel 1 carries nothing" in converter.signal.note


@LAW
@given(data=st.data())
def test_chunking_changes_nothing(data: st.DataObject) -> None:
    parts = data.draw(
        st.lists(st.tuples(st.sampled_from(["same", "opposite", "dead", "stuck"]), st.integers(1, 16)), max_size=4)
    )
    rate_hz = 4_000  # the lowest, and quick
    second = {"same": 1.0, "opposite": -1.0, "dead": 0.0, "stuck": 0.0}
    left = OTHER[: rate_hz * sum(seconds for _, seconds in parts)]
    right = np.concatenate([np.repeat(second[kind], rate_hz * seconds) for kind, seconds in parts] or [left]) * left
    right += np.concatenate([np.repeat(0.2 * (kind == "stuck"), rate_hz * n) for kind, n in parts] or [left])
    frames = sixteen_bits(np.stack([left, right], axis=1))
    places = data.draw(cuts(len(frames)))

    def play(borders: list[int]) -> tuple[bytes, object]:
        converter = InputConverter(rate_hz=rate_hz, channels=2, channel=None, origin="x", lasting=3)
        heard = [converter.push(part).samples for part in np.split(frames, borders)]
        return np.concatenate([*heard, converter.finish().samples]).tobytes(), converter.signal

    assert play(places) == play([])
