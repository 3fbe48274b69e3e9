"""Settings of a recipe for the training data: augmentation of windows, and altered copies of clips."""

from __future__ import annotations

from pydantic import Field, model_validator

from edge_sser.settings.section import Positive, Ratio, Section


class Augmentation(Section):
    """Augmentation of a window of mel band powers; see data/augment.py."""

    overhang_frames: int = Field(ge=0)
    """A crop may reach this far beyond its clip's ends."""
    loop: Ratio
    """Probability that a clip shorter than a window is repeated; otherwise noise fills the rest."""
    piece: Ratio = 0.0
    """Probability that only a piece of the window's speech stays, and noise replaces the rest."""
    piece_s: tuple[Positive, Positive] = (0.5, 3.0)
    """Length of such a piece."""
    warp: Ratio
    """Probability that speed and time are scaled; other windows keep their frames."""
    speed: Ratio
    """Frequency and time scaled together by up to this, either way."""
    stretch: Ratio
    """Time alone scaled by up to this, either way."""
    room: Ratio
    """Probability of reverberation."""
    room_rt60_s: tuple[Positive, Positive]
    room_direct_db: tuple[float, float]
    """Energy of the direct sound over the reverberation."""
    tilt_db: float = Field(ge=0.0)
    """Equaliser: largest gain at either end of a line over the mel axis."""
    ripple_db: float = Field(ge=0.0)
    """Equaliser: largest gain of slow waves over the mel axis."""
    band_limit: Ratio
    """Probability that the band is limited as by a telephone or a cheap microphone."""
    noise: Ratio
    """Probability of added noise."""
    noise_snr_db: tuple[float, float]
    noise_tilt_db: tuple[float, float]
    """Colour: dB an octave, 0 is white, -3 pink, -6 brown."""
    recorded_noise: Ratio = 0.0
    """Probability that the noise is from recordings, in the folder of `fit --noise`, and not synthetic."""
    babble: Ratio = 0.0
    """Probability that the noise is several people of the training side who talk at once."""
    gain_db: float = Field(ge=0.0)
    mask_bands: int = Field(ge=0)
    """SpecAugment: two masks of up to this many bands."""
    mask_frames: int = Field(ge=0)
    """SpecAugment: two masks of up to this many frames."""
    mixup: float = Field(default=0.0, ge=0.0)
    """Windows mixed two by two, in shares drawn from Beta(mixup, mixup); 0: not mixed (Zhang et al., ICLR 2018)."""


class Twins(Section):
    """Twins: augmented copies of clips, made from samples; see data/waveform.py. Shares are probabilities."""

    count: int = Field(ge=0, le=20)
    """Twins of a clip made before training and kept; training draws among them and the clip itself."""
    fresh: Ratio = 0.0
    """Share of drawn clips that get a new twin instead, made during training."""
    noise: Ratio = 0.0
    """Recorded noise, from the folder of `fit --noise`."""
    noise_snr_db: tuple[float, float] = (5.0, 30.0)
    room: Ratio = 0.0
    """Measured impulse responses, from the folder of `fit --rooms`."""
    codec: Ratio = 0.0
    """Telephone codecs and low-rate MP3."""
    clipping: Ratio = 0.0
    clipping_percent: int = Field(default=10, ge=0, le=40)
    """At most this share of the samples is cut off at either side."""
    pitch: Ratio = 0.0
    pitch_semitones: Positive = 1.0
    """Small by default, because listeners hear arousal by pitch."""
    stretch: Ratio = 0.0
    stretch_by: float = Field(default=0.1, gt=0.0, le=0.5)
    """Tempo changed by up to this share without a change of pitch."""
    shift: Ratio = 0.0
    shift_s: Positive = 0.5
    """Circular shift by up to this, seconds."""

    @model_validator(mode="after")
    def _check_not_empty(self) -> Twins:
        if not self.count and not self.fresh:
            raise ValueError("count and fresh are both 0, so there are no twins: raise one, or leave [twins] out")
        return self
