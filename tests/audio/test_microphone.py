"""Recording from a microphone: a real PortAudio, a real sound server, a pipe for a membrane."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from components import require_pyaudio
from numpy.typing import NDArray
from virtual_microphone import VirtualMicrophone

from edge_sser.audio.microphone import STALL_SECONDS, MicrophoneSource, list_microphones
from edge_sser.audio.portaudio import alsa_card_ids, load_pyaudio, stable_id
from edge_sser.commands.devices import measure
from edge_sser.errors import MissingComponentError, SourceError

RATE_HZ = 16_000


def noise(seconds: float) -> NDArray[np.int16]:
    return np.random.default_rng(0).integers(-9_000, 9_000, int(seconds * RATE_HZ), dtype=np.int16)


def as_float(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    return samples.astype(np.float32) / np.float32(2**15)


def record(source: MicrophoneSource, samples: int) -> NDArray[np.float32]:
    """Reads until that many samples have come; 5 s without any is a failure."""
    blocks: list[NDArray[np.float32]] = []
    while sum(block.size for block in blocks) < samples:
        block = source.read(timeout_seconds=5.0)
        assert block is not None
        assert block.dropped == 0
        blocks.append(block.samples)
    return np.concatenate(blocks)


@pytest.mark.mic
def test_what_is_spoken_comes_out_to_the_last_bit(virtual_microphone: VirtualMicrophone) -> None:
    spoken = noise(1.2)
    with MicrophoneSource(name="desk") as source:
        virtual_microphone.wait_until_recorded()
        virtual_microphone.play(spoken)
        recorded = record(source, RATE_HZ)
    np.testing.assert_array_equal(recorded, as_float(spoken)[: recorded.size])
    assert source.overruns == 0


@pytest.mark.mic
def test_a_device_at_48_khz_and_two_channels_comes_out_at_16_khz_mono(virtual_microphone: VirtualMicrophone) -> None:
    seconds = np.arange(2 * RATE_HZ) / RATE_HZ
    tone = (0.5 * np.sin(2 * np.pi * 1_000 * seconds) * 2**15).astype(np.int16)
    with MicrophoneSource(name="desk", rate_hz=48_000) as source:
        virtual_microphone.play(tone)
        recorded = record(source, RATE_HZ)[RATE_HZ // 2 : RATE_HZ]
    spectrum = np.abs(np.fft.rfft(recorded * np.hanning(recorded.size)))
    assert np.argmax(spectrum) * RATE_HZ / recorded.size == pytest.approx(1_000, abs=2)
    assert np.sqrt(2 * np.mean(recorded**2)) == pytest.approx(0.5, rel=0.01)


@pytest.mark.mic
def test_a_device_that_refuses_16_khz_is_recorded_at_its_own_rate(
    virtual_microphone: VirtualMicrophone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raises PortAudio's error for such a device, since the sound server of the tests takes any rate."""
    pyaudio = load_pyaudio()
    open_stream, rates = pyaudio.PyAudio.open, []

    def open_unless_16_khz(audio: Any, *, rate: int, **options: Any) -> Any:
        rates.append(rate)
        if rate == RATE_HZ:
            raise OSError(pyaudio.paInvalidSampleRate, "Invalid sample rate")
        return open_stream(audio, rate=rate, **options)

    monkeypatch.setattr(pyaudio.PyAudio, "open", open_unless_16_khz)
    with MicrophoneSource(name="desk") as source:
        virtual_microphone.play(noise(1.5))
        recorded = record(source, RATE_HZ)
    assert rates == [RATE_HZ, 44_100]
    assert np.std(recorded[RATE_HZ // 2 :]) == pytest.approx(9_000 / np.sqrt(3) / 2**15, rel=0.1)
    with pytest.raises(SourceError, match="it does not record at 16000 Hz: choose another"):
        MicrophoneSource(name="desk", rate_hz=RATE_HZ)


@pytest.mark.mic
@pytest.mark.parametrize(
    ("number", "said", "remedy"),
    [(-9985, "Device unavailable", "another program holds it: stop that one"), (-9996, "Invalid device", "plug it in")],
)
def test_a_device_that_cannot_be_opened_is_one_error_with_a_remedy(
    virtual_microphone: VirtualMicrophone, monkeypatch: pytest.MonkeyPatch, number: int, said: str, remedy: str
) -> None:
    """Raises PortAudio's errors for a busy or unplugged device, since a virtual one is never either."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(number, said)

    monkeypatch.setattr(load_pyaudio().PyAudio, "open", refuse)
    with pytest.raises(SourceError, match=rf"microphone default cannot be opened: {remedy}.* PortAudio: {said}"):
        MicrophoneSource(name="desk")
    monkeypatch.undo()
    for name, value in virtual_microphone.environment.items():
        monkeypatch.setenv(name, value)
    with MicrophoneSource(name="desk") as source:
        virtual_microphone.play(noise(1.0))
        record(source, 3_200)


@pytest.mark.mic
def test_a_device_that_does_not_answer_is_opened_behind_and_read_once_it_does(
    virtual_microphone: VirtualMicrophone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_sser.audio.microphone.OPEN_SECONDS", 0.1)
    virtual_microphone.freeze()
    with MicrophoneSource(name="desk") as source:
        assert source.read(timeout_seconds=0.1) is None
        virtual_microphone.thaw()
        virtual_microphone.play(noise(1.0))
        record(source, 3_200)


@pytest.mark.mic
def test_a_device_that_answers_late_with_a_refusal_is_one_error_and_can_be_closed(
    virtual_microphone: VirtualMicrophone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_sser.audio.microphone.OPEN_SECONDS", 0.1)
    virtual_microphone.freeze()
    with MicrophoneSource(name="desk") as source:
        virtual_microphone.kill()
        with pytest.raises(SourceError, match="no microphone was found"):
            record(source, 1)


@pytest.mark.mic
def test_a_sound_server_that_does_not_answer_is_one_error_where_microphones_are_listed(
    virtual_microphone: VirtualMicrophone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_sser.audio.microphone.ANSWER_SECONDS", 0.1)
    virtual_microphone.freeze()
    with pytest.raises(SourceError, match="the sound system does not answer: restart the sound server"):
        list_microphones()
    virtual_microphone.thaw()
    monkeypatch.setattr("edge_sser.audio.microphone.ANSWER_SECONDS", 60.0)
    assert list_microphones()


@pytest.mark.mic
def test_a_card_that_portaudio_does_not_list_is_held_by_another_program(
    virtual_microphone: VirtualMicrophone, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cards").write_text(" 3 [Device         ]: USB-Audio - USB PnP Sound Device\n")
    monkeypatch.setattr("edge_sser.audio.portaudio.ALSA_CARDS", tmp_path / "cards")
    for microphone_id in ("device", "device-1"):
        with pytest.raises(SourceError, match=f"microphone {microphone_id} is there, but another program holds it"):
            MicrophoneSource(microphone_id, name="desk")
    with pytest.raises(SourceError, match="there is no microphone devices"):
        MicrophoneSource("devices", name="desk")


@pytest.mark.mic
def test_after_the_program_was_suspended_the_timeouts_of_the_microphone_start_again(
    virtual_microphone: VirtualMicrophone,
) -> None:
    now = 0.0
    with MicrophoneSource(name="desk", clock=lambda: now) as source:
        now = 60.0  # no read for a minute
        while now <= 60.0 + STALL_SECONDS:
            assert source.read(timeout_seconds=0.0) is None
            now += 0.5
        with pytest.raises(SourceError, match=r"has delivered nothing for 5\.5 s"):
            source.read(timeout_seconds=0.0)


@pytest.mark.mic
def test_a_reader_that_sleeps_loses_the_oldest_audio_and_is_told_how_much(
    virtual_microphone: VirtualMicrophone,
) -> None:
    spoken = noise(1.6)
    with MicrophoneSource(name="desk", buffer_seconds=0.5) as source:
        virtual_microphone.wait_until_recorded()
        virtual_microphone.play(spoken)
        virtual_microphone.wait_until_played()
        block = source.read(timeout_seconds=5.0)
    assert block is not None
    assert block.samples.size == RATE_HZ // 2
    assert block.dropped > 0
    np.testing.assert_array_equal(block.samples, as_float(spoken)[block.dropped :][: block.samples.size])


@pytest.mark.mic
def test_a_microphone_that_vanishes_is_one_error_and_no_library_chatter(
    virtual_microphone: VirtualMicrophone, capfd: pytest.CaptureFixture[str]
) -> None:
    with MicrophoneSource(name="desk") as source:
        virtual_microphone.play(noise(5.0))
        record(source, 1_600)
        virtual_microphone.kill()
        with pytest.raises(SourceError, match="default is gone: plug it in again"):
            record(source, 10 * RATE_HZ)
    assert capfd.readouterr() == ("", "")


@pytest.mark.mic
def test_a_microphone_that_stalls_is_an_error_after_the_set_time(virtual_microphone: VirtualMicrophone) -> None:
    with MicrophoneSource(name="desk", stall_seconds=0.4) as source:
        virtual_microphone.play(noise(0.5))
        with pytest.raises(SourceError, match="delivered nothing for"):
            record(source, 10 * RATE_HZ)


@pytest.mark.mic
def test_nothing_within_the_timeout_is_none(virtual_microphone: VirtualMicrophone) -> None:
    with MicrophoneSource(name="desk") as source:
        assert source.read(timeout_seconds=0.05) is None


@pytest.mark.mic
def test_a_microphone_opens_again_after_its_server_came_back(
    virtual_microphone: VirtualMicrophone, monkeypatch: pytest.MonkeyPatch
) -> None:
    virtual_microphone.kill()
    with pytest.raises(SourceError, match="no microphone"):
        MicrophoneSource("pulse", name="desk")
    successor = VirtualMicrophone()
    try:
        for name, value in successor.environment.items():
            monkeypatch.setenv(name, value)
        spoken = noise(0.5)
        with MicrophoneSource("pulse", name="desk") as source:
            successor.wait_until_recorded()
            successor.play(spoken)
            recorded = record(source, 3_200)
        np.testing.assert_array_equal(recorded, as_float(spoken)[: recorded.size])
    finally:
        successor.close()


@pytest.mark.mic
def test_microphones_are_listed_with_one_default(virtual_microphone: VirtualMicrophone) -> None:
    microphones = {microphone.id: microphone for microphone in list_microphones()}
    assert microphones["pulse"].host_api == "ALSA"
    assert [microphone.name for microphone in microphones.values() if microphone.is_default] == ["default"]


@pytest.mark.mic
def test_two_devices_of_one_name_get_two_ids(virtual_microphone: VirtualMicrophone) -> None:
    with (virtual_microphone.home / ".asoundrc").open("a") as alsa:
        alsa.write("pcm.desk_mic { type pulse }\npcm.DESK_MIC { type pulse }\n")
    ids = [microphone.id for microphone in list_microphones()]
    assert {"desk_mic", "desk_mic-2"} <= set(ids)


@pytest.mark.mic
def test_an_unknown_microphone_is_refused_with_the_known_ones(virtual_microphone: VirtualMicrophone) -> None:
    with pytest.raises(SourceError, match=r"no microphone attic: name one of .*pulse"):
        MicrophoneSource("attic", name="desk")


@pytest.mark.mic
def test_a_channel_that_the_device_lacks_is_refused(virtual_microphone: VirtualMicrophone) -> None:
    with pytest.raises(SourceError, match="there is no channel 500"):
        MicrophoneSource(name="desk", channel=500)


@pytest.mark.mic
def test_the_level_meter_measures_in_dbfs(virtual_microphone: VirtualMicrophone) -> None:
    square = np.tile(np.repeat(np.array([1_638, -1_638], dtype=np.int16), 20), RATE_HZ // 10)
    virtual_microphone.play(square)
    assert measure(None, seconds=0.3).dbfs == pytest.approx(20 * np.log10(1_638 / 2**15), abs=0.01)


@pytest.mark.mic
def test_no_microphone_is_one_error_and_no_library_chatter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    require_pyaudio()
    (tmp_path / "alsa.conf").write_text("pcm.unplugged { type hw card 99 }\n")
    monkeypatch.setenv("ALSA_CONFIG_PATH", str(tmp_path / "alsa.conf"))
    with pytest.raises(SourceError, match="no microphone was found: plug one in"):
        MicrophoneSource(name="desk")
    assert list_microphones() == []
    assert capfd.readouterr() == ("", "")


def test_without_pyaudio_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyaudio", None)
    with pytest.raises(MissingComponentError, match=r'pip install "edge-sser\[mic\]".*apt install portaudio19-dev'):
        MicrophoneSource(name="desk")


def test_a_pyaudio_that_does_not_load_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pyaudio.py").write_text("print('chatter')\nraise ImportError('libportaudio.so.2: no such file')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pyaudio", raising=False)
    with pytest.raises(MissingComponentError, match=r"libportaudio\.so\.2.*apt install libportaudio2"):
        MicrophoneSource(name="desk")
    assert capfd.readouterr() == ("", "")


def test_hardware_is_named_by_its_card_not_by_a_number_that_changes() -> None:
    cards = alsa_card_ids(
        " 0 [PCH            ]: HDA-Intel - HDA Intel PCH\n"
        "                      HDA Intel PCH at 0xf7e30000 irq 31\n"
        " 3 [Device_1       ]: USB-Audio - USB PnP Sound Device\n"
        "                      C-Media USB PnP Sound Device at usb-1.4, full speed\n"
    )
    assert cards == {0: "PCH", 3: "Device_1"}
    assert stable_id("USB PnP Sound Device: Audio (hw:3,0)", cards) == "device_1"
    assert stable_id("HDA Intel PCH: ALC256 Alt Analog (hw:0,2)", cards) == "pch-2"
