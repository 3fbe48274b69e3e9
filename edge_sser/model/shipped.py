"""The models that ship, and their files."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from edge_sser.settings.schema import Runtime


def models_folder() -> Path:
    """Returns the folder of the shipped model files."""
    return Path(str(resources.files("edge_sser") / "data" / "models"))


@dataclass(frozen=True, slots=True)
class ShippedModel:
    """A model that can be given by name.

    Attributes:
        name: of the model, as in its card.
        has_fp32: an FP32 file ships too; it is left out where it would be larger than everything else.
    """

    name: str
    has_fp32: bool

    @property
    def int8(self) -> Path:
        """File for ONNX Runtime on a processor."""
        return models_folder() / f"{self.name}.int8.onnx"

    @property
    def tensorrt(self) -> Path:
        """INT8 file to build engines from."""
        return models_folder() / f"{self.name}.int8-tensorrt.onnx"

    @property
    def fp32(self) -> Path:
        """FP32 file, which every runtime takes; only with `has_fp32`."""
        return models_folder() / f"{self.name}.onnx"

    @property
    def trainable(self) -> Path:
        """File whose head `train adapt` fits anew, and that `train evaluate` scores."""
        return self.fp32 if self.has_fp32 else self.int8

    def for_engines(self) -> list[Path]:
        """Returns the files that an engine could have been built from, best first."""
        return [self.tensorrt, self.fp32] if self.has_fp32 else [self.tensorrt]

    def for_provider(self, provider: Runtime) -> Path:
        """Returns the file for a provider of ONNX Runtime: INT8 for a processor, else FP32 or that for TensorRT."""
        if provider is Runtime.CPU:
            return self.int8
        return self.fp32 if self.has_fp32 else self.tensorrt


SSER_CNN = ShippedModel("sser-cnn", has_fp32=True)
SSER_PLUS = ShippedModel("sser-plus", has_fp32=False)
DEFAULT = SSER_PLUS
MODELS = {model.name: model for model in (SSER_PLUS, SSER_CNN)}


def named_model(path: Path | None) -> ShippedModel | Path:
    """Returns the model that ships under a name, the default for None, and any other path as it is."""
    return DEFAULT if path is None else MODELS.get(str(path), path)


def model_file(path: Path | None = None) -> Path:
    """Returns the file for ONNX Runtime on a processor: of a model that ships, or the path itself."""
    found = named_model(path)
    return found if isinstance(found, Path) else found.int8


def trainable_file(path: Path) -> Path:
    """Returns an existing path as it is; else the file of a model that ships whose head can be fitted anew."""
    found = path if path.exists() else named_model(path)
    return found if isinstance(found, Path) else found.trainable
