"""Makes the demo recording that ships with the package, edge_sser/data/demo.flac, from text.

Synthetic voices speak calmly (slow, low, even), then agitated (fast, high, loud, overdriven), and calmly again, with
pauses of faint room noise between the sentences. Voices and manners were chosen for what the shipped model makes of
them, so that an episode begins and ends. The recording shows the path from sound to level, and says nothing about
accuracy: a synthesiser does not feel stress, and the model has never heard one.

Needs espeak-ng and sox (apt install espeak-ng sox). One version of both gives one file, to the bit.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

RATE_HZ = 16_000
OUTPUT = Path(__file__).resolve().parent.parent / "edge_sser" / "data" / "demo.flac"
SEED = 1
NOISE_DBFS = -62.0  # of the room, all through: no microphone gives digital zeros
LEAD_SECONDS = 0.8


@dataclass(frozen=True)
class Manner:
    """Manner of speaking.

    Attributes:
        voice: espeak-ng's voice and variant.
        words_per_minute: espeak-ng's rate.
        pitch: espeak-ng's pitch, 0..99.
        pitch_range: range of the pitch, as in SSML's prosody.
        peak: highest magnitude of a sentence, 0..1.
        pause_seconds: pause after a sentence.
        effects: arguments of sox that change the sound.
    """

    voice: str
    words_per_minute: int
    pitch: int
    pitch_range: str
    peak: float
    pause_seconds: float
    effects: tuple[str, ...] = ()


OVERDRIVE = ("-R", "overdrive", "12", "10", "treble", "+5")  # -R: the same dither every time
CALM_MAN = Manner("en-gb+m3", 130, 30, "low", 0.18, 0.6)
CALM_WOMAN = Manner("en-us+f4", 135, 38, "low", 0.18, 0.6)
AGITATED_WOMAN = Manner("en-us+f5", 225, 88, "x-high", 0.8, 0.2, OVERDRIVE)
AGITATED_VOICE = Manner("en-us+Alicia", 225, 88, "x-high", 0.8, 0.2)

SCRIPT: tuple[tuple[Manner, str], ...] = (
    (CALM_MAN, "Good morning. The kettle is on, and there is no hurry at all."),
    (CALM_WOMAN, "The garden looks well today. I will water the beans after lunch."),
    (AGITATED_WOMAN, "Where is the ticket? It was on the table a minute ago, who took it?"),
    (AGITATED_VOICE, "I told you to check the bag! Now the doors are closing, run, run!"),
    (AGITATED_WOMAN, "Stop shouting at me! You had it last, look in your own pockets!"),
    (AGITATED_VOICE, "There is smoke coming out of the engine! Get away from the platform, now!"),
    (AGITATED_WOMAN, "Somebody call for help! Why does nobody answer the phone?"),
    (CALM_MAN, "It is over now. The next one goes in an hour, and we have found the ticket."),
    (CALM_WOMAN, "Good. Let us sit down, breathe, and drink some water."),
    (CALM_MAN, "There is a bench over there, in the shade, and the paper is from today."),
    (CALM_WOMAN, "Then I will read you the weather."),
)


def speak(manner: Manner, text: str) -> NDArray[np.float64]:
    """Returns a sentence as 16 kHz mono, float64 [n], with the manner's peak."""
    ssml = f'<speak><prosody range="{manner.pitch_range}">{text}</prosody></speak>'
    command = ["espeak-ng", "-m", "--stdout", "-v", manner.voice, "-s", str(manner.words_per_minute)]
    command += ["-p", str(manner.pitch), ssml]
    wav = subprocess.run(command, check=True, capture_output=True).stdout
    if manner.effects:
        option, *effects = manner.effects
        filtered = ["sox", option, "-t", "wav", "-", "-t", "wav", "-", *effects]
        wav = subprocess.run(filtered, input=wav, check=True, capture_output=True).stdout
    samples, rate_hz = soundfile.read(io.BytesIO(wav))
    speech: NDArray[np.float64] = soxr.resample(samples, rate_hz, RATE_HZ, quality="HQ")
    speech *= manner.peak / np.abs(speech).max()
    return speech


def room_noise(samples: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Returns noise at `NOISE_DBFS` that falls by 3 dB an octave, as of rooms and preamplifiers; float64 [samples]."""
    spectrum = np.fft.rfft(generator.standard_normal(samples))
    hertz = np.fft.rfftfreq(samples, 1 / RATE_HZ)
    noise: NDArray[np.float64] = np.fft.irfft(spectrum / np.sqrt(np.maximum(hertz, 50.0)), samples)
    noise *= 10 ** (NOISE_DBFS / 20) / np.sqrt(np.mean(noise**2))
    return noise


def make() -> NDArray[np.int16]:
    """Returns the whole recording, int16 [n]."""
    generator = np.random.default_rng(SEED)
    parts = [np.zeros(round(LEAD_SECONDS * RATE_HZ))]
    for manner, text in SCRIPT:
        pause_seconds = manner.pause_seconds * generator.uniform(0.8, 1.2)
        parts += [speak(manner, text), np.zeros(round(pause_seconds * RATE_HZ))]
    speech = np.concatenate(parts)
    return np.round((speech + room_noise(speech.size, generator)) * 32_767).astype(np.int16)


def main() -> None:
    """Writes the file named on the command line, or the one that ships."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, nargs="?", default=OUTPUT)
    output: Path = parser.parse_args().output
    try:
        recording = make()
    except FileNotFoundError as error:
        sys.exit(f"{error.filename} not found: apt install espeak-ng sox")
    soundfile.write(output, recording, RATE_HZ, format="FLAC", subtype="PCM_16")
    print(f"{output}: {recording.size / RATE_HZ:.1f} s, {output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
