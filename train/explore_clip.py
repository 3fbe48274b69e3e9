"""One recording as pictures: waveform, spectrogram, mel, MFCC and chroma."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, signal

from edge_sser.errors import SourceError
from edge_sser.pipeline.features import FEATURES, log_mel
from edge_sser.pipeline.level import dbfs
from edge_sser.train.data.audio import read_audio
from edge_sser.train.explore import save

RATE = FEATURES.sample_rate
COEFFICIENTS = 13
CHROMA_FRAME = 2048  # samples: 7.8 Hz a bin, below a semitone from 130 Hz on
CHROMA_HZ = (130.0, 2_000.0)  # where pitch and its first harmonics are
PITCH_CLASSES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_SHOWN_DB = 80.0  # from the loudest value down

Array = NDArray[np.floating[Any]]


def spectrogram_db(samples: Array) -> Array:
    """Power spectra of the frames that the features are made of: [bins, frames], dB."""
    transform = signal.ShortTimeFFT(
        np.hanning(FEATURES.frame_samples), FEATURES.hop_samples, RATE, mfft=FEATURES.n_fft, scale_to="magnitude"
    )
    power = transform.spectrogram(samples, p0=0, p1=samples.size // FEATURES.hop_samples + 1)
    return np.asarray(10.0 * np.log10(np.maximum(power, 1e-12)))


def mfcc(features: Array, coefficients: int = COEFFICIENTS) -> Array:
    """Mel-frequency cepstral coefficients: [coefficients, frames].

    Args:
        features: log-mel [frames, bands], dB.
        coefficients: how many, the level (coefficient 0) included.
    """
    return np.asarray(fft.dct(features, type=2, norm="ortho", axis=1)[:, :coefficients].T)


def chroma(samples: Array) -> Array:
    """Share of the power in each pitch class, whatever the octave: [12, frames], the loudest of a frame 1."""
    transform = signal.ShortTimeFFT(np.hanning(CHROMA_FRAME), CHROMA_FRAME // 4, RATE, scale_to="magnitude")
    power = transform.spectrogram(samples, p0=0, p1=samples.size // transform.hop + 1)
    hertz = transform.f
    inside = (hertz >= CHROMA_HZ[0]) & (hertz <= CHROMA_HZ[1])
    pitch = np.round(69 + 12 * np.log2(hertz[inside] / 440.0)).astype(int) % 12  # MIDI: A4 is 69, C is 0 modulo 12
    folded = np.stack([power[inside][pitch == number].sum(axis=0) for number in range(12)])
    return np.asarray(folded / np.maximum(folded.max(axis=0), 1e-12))


def draw_clip(recording: Path, folder: Path) -> Path:
    """Draws a recording into `NAME.png`.

    Args:
        recording: any file that libsndfile reads; shown as training hears it, 16 kHz mono.
        folder: where the picture goes; it exists.

    Raises:
        SourceError: the recording cannot be read, or holds less than one frame.
        SinkError: the picture cannot be written.
    """
    from matplotlib.figure import Figure

    samples = read_audio(recording)
    if samples.size < CHROMA_FRAME:
        raise SourceError(f"{recording}: {samples.size / RATE:.3f} s long, too short to draw: give 0.13 s or more")
    seconds = samples.size / RATE
    features = log_mel(samples)
    figure = Figure(figsize=(12, 13), layout="constrained")
    wave, *others = figure.subplots(5, 1, sharex=True)
    level = dbfs(float(np.mean(samples.astype(np.float64) ** 2)))
    figure.suptitle(f"{recording.name}: {seconds:.2f} s, {level:.1f} dBFS")
    wave.plot(np.arange(samples.size) / RATE, samples, linewidth=0.5, color="#4a6fa5")
    peak = max(float(np.abs(samples).max()), 1e-4)
    wave.set(ylabel="waveform", ylim=(-peak, peak), xlim=(0.0, seconds))
    spectrogram = spectrogram_db(samples)
    pictures: list[tuple[str, Array, tuple[float, float], tuple[float, float]]] = [
        ("spectrogram, Hz", spectrogram, (0.0, RATE / 2), (spectrogram.max() - _SHOWN_DB, spectrogram.max())),
        ("log-mel, band", features.T, (0, FEATURES.bands), (features.max() - _SHOWN_DB, features.max())),
        (
            "MFCC 1 to 12",
            mfcc(features)[1:],
            (0.5, COEFFICIENTS - 0.5),
            (-60.0, 60.0),
        ),  # 0 is the level: it hides the rest
        ("chroma", chroma(samples), (-0.5, 11.5), (0.0, 1.0)),
    ]
    for axes, (name, values, heights, colours) in zip(others, pictures, strict=True):
        image = axes.imshow(
            values, origin="lower", aspect="auto", extent=(0.0, seconds, *heights), vmin=colours[0], vmax=colours[1]
        )
        axes.set(ylabel=name)
        figure.colorbar(image, ax=axes, pad=0.01)
    others[-1].set_yticks(range(12), PITCH_CLASSES)
    others[-1].set(xlabel="seconds")
    return save(figure, folder / f"{recording.stem}.png")
