"""The settings: one validated, frozen section for each concern, with the unit in each name."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator, model_validator

from edge_sser.events import Level, Word
from edge_sser.settings.notify import NotifySettings
from edge_sser.settings.section import Ratio, Section
from edge_sser.settings.sinks import FileSinkSettings, HistorySettings, MetricsSettings, MqttSettings
from edge_sser.settings.web import WebSettings


class SampleFormat(Word):
    """Coding of raw PCM on standard input."""

    S16LE = "s16le"
    S32LE = "s32le"
    F32LE = "f32le"


class SourceSettings(Section):
    """One source of audio. Several `[[source]]` tables make several."""

    device: str = "mic"
    """`mic` (the default microphone), `mic:ID` (as `edge-sser devices` prints it), a file, or `-` (raw PCM)."""
    name: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    """The name in events and topics; made from the device when it is not given."""
    channel: int | None = Field(default=None, ge=0)
    """Channel to take, from 0; when it is not given, all are averaged, or the best is taken of a live source."""
    raw_rate_hz: int = Field(default=16_000, ge=4_000, le=384_000)
    """Sample rate of raw PCM on standard input."""
    raw_channels: int = Field(default=1, ge=1, le=64)
    """Interleaved channels of raw PCM on standard input."""
    raw_format: SampleFormat = SampleFormat.S16LE
    """Sample coding of raw PCM on standard input."""
    buffer_seconds: float = Field(default=4.0, ge=0.5, le=60.0)
    """Audio held between capture and processing; beyond it the oldest is dropped, counted and reported."""


class Detector(Word):
    """Means of telling speech from other sound."""

    NETWORK = "network"
    """The small network that ships."""
    WEBRTC = "webrtc"
    """WebRTC's voice activity detector."""


class GateSettings(Section):
    """The speech gate: the boundary between speech and other sound."""

    detector: Detector = Detector.NETWORK
    """network (tells speech from music, hum, laughter and animals, at any gain), or webrtc (WebRTC's detector)."""
    aggressiveness: int = Field(default=2, ge=0, le=3)
    """0 lets most through, 3 the least: the mode of webrtc; for the network, a probability of speech above 0.3, 0.4,
    0.5 or 0.7."""
    floor_dbfs: float = Field(default=-80.0, ge=-120.0, le=0.0)
    """Below this level nothing is speech: a window for the network, a 30 ms frame for webrtc."""
    min_speech_ratio: Ratio | None = None
    """Share of a window that must be speech for it to be scored. When not given: 0.13 for the network; for webrtc the
    one from which the model's card trusts its scores, or 0.25 where the card does not say."""


class WindowSettings(Section):
    """Interval of the model's 3 s windows."""

    hop_seconds: float = Field(default=0.5, ge=0.1, le=3.0)
    """Step between readings, a multiple of 0.1 s."""

    @field_validator("hop_seconds")
    @classmethod
    def _whole_blocks(cls, value: float) -> float:
        if abs(value * 10 - round(value * 10)) > 1e-9:
            raise ValueError("must be a multiple of 0.1")
        return round(value * 10) / 10


class Sensitivity(Word):
    """False episodes an hour of ordinary speech that a threshold may cause."""

    budget: float

    QUICK = "quick", 4.0
    NORMAL = "normal", 1.0
    STRICT = "strict", 0.25

    def __new__(cls, value: str, budget: float) -> Sensitivity:
        """Makes a member that is its value, a string."""
        member = str.__new__(cls, value)
        member._value_, member.budget = value, budget
        return member


class RollingSettings(Section):
    """From the stress of single windows to a level."""

    sensitivity: Sensitivity = Sensitivity.NORMAL
    """False episodes an hour of ordinary speech: quick allows 4, normal 1, strict 0.25. It picks the threshold of
    elevated from the operating points in the model's card."""
    false_alarms_per_hour: float | None = Field(default=None, gt=0.0, le=60.0)
    """The same budget as a number, in place of `sensitivity`."""
    time_constant_seconds: float | None = Field(default=None, ge=0.1, le=600.0)
    """Makes the rolling stress an exponential average: seconds of SPEECH after which the past counts 1/e. The
    filter of stress when not given."""
    elevated: Ratio | None = None
    """Rolling stress at which the level becomes elevated, in place of the one that keeps to the budget (with
    `time_constant_seconds`, of the model card's)."""
    high: Ratio | None = None
    """Rolling stress at which the level becomes high; 0.8, or half-way from a higher elevated to 1 (with
    `time_constant_seconds`, the model card's)."""
    hysteresis: Ratio | None = None
    """Distance below a threshold at which the rolling stress leaves the level; log-odds of 2, about 0.25, when not
    given (with `time_constant_seconds`, 0.08)."""
    dwell_seconds: float | None = Field(default=None, ge=0.0, le=600.0)
    """A level changes only when the new one has held for this long; 0 when not given (with `time_constant_seconds`,
    2)."""

    @property
    def budget(self) -> float:
        """False episodes an hour of ordinary speech that are accepted."""
        return self.sensitivity.budget if self.false_alarms_per_hour is None else self.false_alarms_per_hour

    @model_validator(mode="after")
    def _rising(self) -> RollingSettings:
        if self.elevated is not None and self.high is not None and self.elevated >= self.high:
            raise ValueError("elevated must be below high")
        return self


class BaselineMode(Word):
    """Use of a source's baseline."""

    OFF = "off"
    """Every source is judged as a stranger."""
    FIXED = "fixed"
    """A baseline that was learned before is used and stays as it is."""
    ADAPTIVE = "adaptive"
    """The baseline is learned while listening."""


class BaselineSettings(Section):
    """Calm speech of a source: voice, room and microphone."""

    mode: BaselineMode = BaselineMode.ADAPTIVE
    """off, fixed (as it was learned before) or adaptive (learned while listening). With
    `rolling.time_constant_seconds` there is none."""


class EpisodeSettings(Section):
    """Start, updates and end of an episode."""

    level: Level = Level.ELEVATED
    """Lowest level that makes an episode: elevated or high."""
    update_seconds: float = Field(default=10.0, ge=0.1, le=3600.0)
    """Time between updates of an open episode."""
    silence_seconds: float = Field(default=30.0, ge=1.0, le=3600.0)
    """An episode ends after this long without speech."""

    @field_validator("level")
    @classmethod
    def _not_low(cls, value: Level) -> Level:
        if value is Level.LOW:
            raise ValueError("must be elevated or high")
        return value


class Runtime(Word):
    """Backend of the model."""

    AUTO = "auto"
    """A valid engine of the model file, else ONNX Runtime with CUDA, or the processor where that does not work."""
    ENGINE = "engine"
    """The engine that `edge-sser export` built from the model file, with TensorRT or TensorRT for RTX."""
    TENSORRT = "tensorrt"
    """ONNX Runtime's TensorRT provider."""
    CUDA = "cuda"
    """ONNX Runtime's CUDA provider."""
    CPU = "cpu"
    """ONNX Runtime on the processor."""


class ModelSettings(Section):
    """The model and its backend."""

    path: Path | None = None
    """An .onnx file with a card, or a model that ships: sser-plus, the default, or sser-cnn, which takes a sixth of the
    time and finds less."""
    runtime: Runtime = Runtime.AUTO
    """Backend: an engine, a provider of ONNX Runtime (tensorrt, cuda, cpu), or auto. The log says which."""
    engines: Path | None = None
    """Folder of engines; the cache of the service or of the user when not given."""
    threads: int = Field(default=1, ge=1, le=64)
    """Threads of one inference. One is fastest for the model that ships."""


class OutputFormat(Word):
    """Format of standard output."""

    AUTO = "auto"
    JSONL = "jsonl"
    TEXT = "text"


class OutputSettings(Section):
    """Standard output."""

    format: OutputFormat = OutputFormat.AUTO
    """auto: a live view on a terminal, JSON Lines otherwise."""


class Settings(Section):
    """All settings of `edge-sser listen` and `analyze`."""

    node: str = Field(default="", pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]{0,63})?$")
    """Name of this device in events and topics; the host's name when empty."""
    source: tuple[SourceSettings, ...] = Field(default=(SourceSettings(),), min_length=1, max_length=64)
    """Sources of audio."""
    gate: GateSettings = GateSettings()
    window: WindowSettings = WindowSettings()
    rolling: RollingSettings = RollingSettings()
    baseline: BaselineSettings = BaselineSettings()
    episode: EpisodeSettings = EpisodeSettings()
    model: ModelSettings = ModelSettings()
    output: OutputSettings = OutputSettings()
    mqtt: MqttSettings | None = None
    file: FileSinkSettings | None = None
    metrics: MetricsSettings | None = None
    history: HistorySettings | None = None
    web: WebSettings | None = None
    notify: tuple[NotifySettings, ...] | None = Field(default=None, min_length=1, max_length=16)
    """Programs and people to tell."""
