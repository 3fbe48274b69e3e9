"""Recipe of a training run: every setting except the data."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from edge_sser.errors import SettingsError, unreadable
from edge_sser.settings.file import tomllib
from edge_sser.settings.section import Positive, Ratio, Section
from edge_sser.train.data.settings import Augmentation, Twins

if TYPE_CHECKING:
    from importlib.abc import Traversable

AnySection = TypeVar("AnySection", bound=Section)

WIDEST = 256  # of a network that is trained from random weights


class StudentKind(str, Enum):
    """Architecture of a student."""

    COMPACT_CNN = "compact-cnn"
    COLUMN_VIT = "column-vit"
    WHISPER_TRUNK = "whisper-trunk"
    YAMNET = "yamnet"


class Student(Section):
    """Settings of the network."""

    kind: StudentKind
    width: int = Field(ge=2, le=512)
    """Size of the network. compact-cnn: channels of the stem, 8 (62 k parameters) to 22 (465 k). column-vit: values in
    a token, a multiple of 8 from 32 (49 k) to 104 (453 k). whisper-trunk: of the encoder, 384 for Whisper tiny. yamnet:
    of the embedding, 72 (282 k with six layers)."""
    token_frames: Literal[1, 2] = 2
    """column-vit alone: frames in a token."""
    layers: int = Field(default=2, ge=1, le=8)
    """whisper-trunk and yamnet: layers that are kept, from the first; of whisper-trunk at most 6."""
    companion: bool = False
    """whisper-trunk alone: trained students stand beside it, from `fit --companion`."""
    dropout: Ratio

    @model_validator(mode="after")
    def _check_width(self) -> Student:
        if self.kind is StudentKind.COLUMN_VIT and self.width % 8:
            raise ValueError("width: a column-vit's must be a multiple of 8")
        if self.kind is StudentKind.WHISPER_TRUNK and self.layers > 6:
            raise ValueError("layers: a whisper-trunk has at most 6")
        if self.kind is not StudentKind.WHISPER_TRUNK and self.width > WIDEST:
            raise ValueError(f"width: expected at most {WIDEST}")
        return self


class Trunk(Section):
    """Settings of a frozen encoder under a linear head, of a whisper-trunk alone. A run has no epochs."""

    weights: str
    """Folder with config.json and model.safetensors, or a name on huggingface.co."""
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    """SHA-256 of the file of weights; empty: not checked."""
    variants: int = Field(ge=1, le=50)
    """Augmented windows of a clip, beside the clip itself."""
    components: int = Field(ge=1)
    """Principal components of the embeddings that the head may use."""
    penalty: float = Field(ge=0.0)
    """Weight of the squared norm of the head's weights, for the sum of the losses of all windows."""
    loudness: Ratio = 0.0
    """Exponent of a step's power, in proportion to which it counts in the means over time; 0: all steps alike."""
    share: Ratio = 0.5
    """Share of the trunk in the mean of its logits and the companions', which have equal parts of the rest."""


class Initial(Section):
    """Initial weights of a student, of yamnet alone; without them it starts from random ones."""

    weights: str
    """File of YAMNet's weights (.safetensors): NN.dw.w, NN.dw.b, NN.pw.w and NN.pw.b of layer NN from 01."""
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    """SHA-256 of the file; empty: not checked."""
    frozen: int = Field(ge=0, le=8)
    """Layers that keep these weights, from the first."""
    rate: Ratio
    """Share of the learning rate for the other layers that start from them."""


class Optimisation(Section):
    """Settings of the training loop."""

    seed: int
    epochs: int = Field(default=100, ge=1)
    clips_per_epoch: int = Field(default=2400, ge=1)
    """Clips drawn with `Sampling` for an epoch, at most; a corpus of fewer clips has shorter epochs."""
    batch: int = Field(default=64, ge=2)
    learning_rate: Positive = 3e-3
    """Peak of a cosine that rises over the first `warmup` of the run."""
    warmup: Ratio = 0.05
    weight_decay: float = Field(default=0.02, ge=0.0)
    label_smoothing: Ratio = 0.1
    average: Ratio = 0.995
    """Decay of the running average of the weights in a step; the checkpoint keeps the average."""
    clip_gradient: Positive = 5.0
    """Largest norm of a step's gradient."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 where the processor multiplies it in hardware (AMX, AVX-512 BF16, CUDA), else float32."""


class Sampling(Section):
    """Sampling of clips into batches."""

    shares: dict[str, Ratio]
    """Share of a batch by corpus; the corpora not named share the rest by size."""


class Losses(Section):
    """Weights of the parts of the loss."""

    emotion: float = Field(ge=0.0)
    stress: float = Field(ge=0.0)
    intensity: float = Field(ge=0.0)


class TeacherInput(str, Enum):
    """Input of the teacher: the clip as recorded, or the student's window, which encoders do not take."""

    CLEAN = "clean"
    STUDENT = "student"


class Distillation(Section):
    """Weights of the distillation losses beside the labels; 0: not used."""

    teacher_hears: TeacherInput = TeacherInput.CLEAN
    views: int = Field(default=0, ge=0)
    """Augmented windows of each clip, made once, that teacher and student share; 0: a new one in each step."""
    temperature: Positive = 2.0
    """Divides the logits of both before they are compared as probabilities."""
    emotion: float = Field(default=0.0, ge=0.0)
    """Kullback-Leibler divergence of the emotions' probabilities."""
    stress: float = Field(default=0.0, ge=0.0)
    """Kullback-Leibler divergence of the probability of stress."""
    concordance: float = Field(default=0.0, ge=0.0)
    """1 - concordance correlation of the probability of stress over the batch."""
    features: float = Field(default=0.0, ge=0.0)
    """Distance of the student's embedding, after a projection, from the teacher's."""
    similarity: float = Field(default=0.0, ge=0.0)
    """Difference between the similarities of the batch's clips for teacher and student."""


class Validation(Section):
    """Validation speakers, held out of the training side to choose an epoch."""

    share: Ratio
    """Share of each corpus's training speakers, at least one where there are two."""
    every: int = Field(default=1, ge=1)
    """Epochs between two validations."""
    patience: int = Field(default=0, ge=0)
    """Epochs without a better score after which training ends; 0: never. The best epoch's weights are kept."""


class Recipe(Section):
    """Complete recipe of a trained system."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")
    version: str
    preset: str
    """Mapping of labels to stress: quadrant, sssr, arousal_valence, or a .toml file; see data/labels.py."""
    student: Student
    optimisation: Optimisation
    """A whisper-trunk uses the seed alone."""
    trunk: Trunk | None = None
    """Of a whisper-trunk alone."""
    initial: Initial | None = None
    """Of yamnet alone."""
    emotion_share: Ratio = 0.0
    """Share of the emotions' log-odds of stress in the model's stress logit; training does not use it."""
    sampling: Sampling
    losses: Losses
    augmentation: Augmentation
    twins: Twins | None = None
    distillation: Distillation | None = None
    validation: Validation | None = None

    @model_validator(mode="after")
    def _check_initial(self) -> Recipe:
        if self.initial and self.student.kind is not StudentKind.YAMNET:
            raise ValueError("[initial] belongs to student.kind = yamnet: leave it out")
        if self.initial and self.initial.frozen > self.student.layers:
            raise ValueError("initial.frozen: more than student.layers")
        return self

    @model_validator(mode="after")
    def _check_trunk(self) -> Recipe:
        frozen = self.student.kind is StudentKind.WHISPER_TRUNK
        if frozen is not (self.trunk is not None):
            raise ValueError("[trunk] and student.kind = whisper-trunk belong together: give both or neither")
        sounds, taught = self.augmentation, self.distillation
        if frozen and (taught or self.twins or self.validation or sounds.recorded_noise or sounds.babble):
            unused = "recorded_noise or babble, [distillation], [twins] or [validation]"
            raise ValueError(f"a whisper-trunk has no {unused}: leave them out")
        if taught and taught.views and (taught.teacher_hears is TeacherInput.CLEAN or sounds.mixup):
            raise ValueError('distillation.views needs teacher_hears = "student" and augmentation.mixup = 0')
        return self


def read_recipe(name: str, changes: Sequence[str] = ()) -> Recipe:
    """Reads a recipe from a file, or a shipped one by name.

    Args:
        name: of a shipped recipe, or a path.
        changes: overrides, each KEY=VALUE as in `optimisation.seed=2`.

    Raises:
        SettingsError: no such recipe, broken TOML, or a wrong key or value; the message names it.
    """
    return read_toml(Recipe, name, resources.files(__package__) / "recipes", changes)


def read_toml(kind: type[AnySection], name: str, shipped: Traversable, changes: Sequence[str] = ()) -> AnySection:
    """Reads a recipe of any kind; arguments and errors as for `read_recipe`.

    Args:
        kind: model of the content.
        name: path, or stem of a file in `shipped`.
        shipped: folder of the shipped files.
        changes: KEY=VALUE each.
    """
    found = {Path(entry.name).stem: entry for entry in shipped.iterdir() if entry.name.endswith(".toml")}
    try:
        text = found[name].read_text("utf-8") if name in found else Path(name).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(unreadable("recipe", name, error, sorted(found), "a .toml file")) from None
    try:
        values = tomllib.loads(text)
        for change in changes:
            _apply_change(values, change)
        return kind.model_validate(values)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"recipe {name}: not TOML: {error}") from None
    except ValidationError as error:
        faults = error.errors()
        # A misspelt key is both unknown and missing: the unknown key is the better message.
        first = next((each for each in faults if each["type"] == "extra_forbidden"), faults[0])
        reason = "unknown key, mend it or leave it out" if first["type"] == "extra_forbidden" else first["msg"]
        raise SettingsError(f"recipe {name}: {'.'.join(map(str, first['loc']))}: {reason}") from None


def _apply_change(values: dict[str, Any], change: str) -> None:
    key, separator, text = change.partition("=")
    *tables, last = key.strip().split(".")
    if not separator or not last:
        raise SettingsError(f"--set {change}: expected KEY=VALUE, for example optimisation.seed=2")
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise SettingsError(f"--set {change}: {table} is a value of the recipe, not a table")
    try:
        values[last] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        values[last] = text.strip()  # a bare word
