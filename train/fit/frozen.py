"""Fits the linear head of a frozen trunk: embeddings once for all folds, then a convex problem for each.

The head is a logistic regression on the principal components of the embeddings, with a strong penalty: it must not
learn the training speakers. It is solved to convergence, so that the result does not depend on a seed or a schedule,
but for the draws of the augmentation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from edge_sser.errors import TrainingError
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.augment import Augmenter
from edge_sser.train.data.features import FeatureStore, load_array, save_array, windows
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.data.sampling import Sampler
from edge_sser.train.fit.checkpoint import (
    MODEL_FILE,
    Checkpoint,
    check_header,
    custom_preset,
    describe_run,
    load_checkpoint,
    load_student,
    make_student,
    run_folder,
    save_checkpoint,
    upgrade_header,
)
from edge_sser.train.fit.device import has_bfloat16
from edge_sser.train.fit.losses import Targets, check_labels, make_targets
from edge_sser.train.recipe import Losses, Recipe, Trunk
from edge_sser.train.students.net import Student
from edge_sser.train.students.whisper_trunk import WhisperTrunk
from edge_sser.train.teachers.encoder import find_weights, read_weights

_BATCH = 32  # windows at once
_STEPS = 100  # of L-BFGS; the loss is flat long before
_EPSILON = 1e-5


def load_trunk(recipe: Recipe) -> WhisperTrunk:
    """Builds the recipe's network with the encoder's weights and an empty head, in evaluation mode.

    Raises:
        MissingComponentError: transformers is not installed.
        TrainingError: the weights cannot be read, are not those of the recipe, or do not fit the network.
    """
    assert recipe.trunk is not None
    student = make_student(recipe, len(EMOTIONS))
    assert isinstance(student, WhisperTrunk)
    path, _ = find_weights(recipe.trunk.weights, recipe.trunk.sha256)
    try:
        student.load_encoder_weights(read_weights(path))
    except (KeyError, RuntimeError) as error:
        raise TrainingError(
            f"trunk {path}: it does not fit student.width = {recipe.student.width} and student.layers = "
            f"{recipe.student.layers} ({str(error).splitlines()[0]}): give an encoder of Whisper"
        ) from None
    return student.eval()


class EmbeddingStore:
    """Embeddings of each utterance: the mean over its own windows first, then augmented windows. Kept on disk."""

    def __init__(
        self,
        student: WhisperTrunk,
        recipe: Recipe,
        utterances: Sequence[Utterance],
        store: FeatureStore,
        folder: Path,
        progress: Callable[[Utterance], None] = lambda utterance: None,
    ) -> None:
        """Opens the store; computes it where it does not exist.

        Args:
            student: from `load_trunk`.
            recipe: its augmentation, and the number of augmented windows.
            utterances: all of a table.
            store: their features.
            folder: of the stores; the file name is a hash of the input.
            progress: called after each utterance.

        Raises:
            TrainingError: the store cannot be written.
        """
        assert recipe.trunk is not None
        settings = (recipe.augmentation, recipe.optimisation.seed, recipe.trunk.variants, recipe.trunk.loudness)
        key = hashlib.sha256(repr(settings).encode())
        key.update(store.key.encode())
        for name, value in student.state_dict().items():
            if not name.startswith(("companions.", "centre", "scale", "head.")):
                key.update(value.numpy().tobytes())
        path = folder / f"embeddings-{key.hexdigest()[:16]}.npy"
        if not path.exists():
            generator = torch.Generator().manual_seed(recipe.optimisation.seed)
            augmenter = Augmenter(recipe.augmentation)
            rows = []
            for utterance in utterances:
                rows.append(_embeddings(student, store[utterance], augmenter, generator, recipe.trunk.variants))
                progress(utterance)
            save_array(path, np.stack(rows))
        self._values: NDArray[np.float16] = load_array(path, mapped=True)
        self._row = {utterance.sha256: row for row, utterance in enumerate(utterances)}

    def select(self, utterances: Sequence[Utterance]) -> Tensor:
        """Returns the embeddings of some utterances: float32 [utterances, 1 + variants, embedding]."""
        rows = [self._row[utterance.sha256] for utterance in utterances]
        return torch.from_numpy(self._values[rows].astype(np.float32))


def _embeddings(
    student: WhisperTrunk,
    features: NDArray[np.float16],
    augmenter: Augmenter,
    generator: torch.Generator,
    variants: int,
) -> NDArray[np.float16]:
    own = torch.from_numpy(windows(features))
    clip = torch.from_numpy(features.copy())
    sound = torch.cat([own, augmenter([clip] * variants, generator)])
    device = torch.device("cpu")
    with torch.inference_mode():
        mel, weights = (torch.split(each, _BATCH) for each in (student.whisper_mel(sound), student.step_weights(sound)))
        with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
            found = torch.cat([student.encode(*batch) for batch in zip(mel, weights, strict=True)])
    first, augmented = found[: len(own)].mean(dim=0, keepdim=True), found[len(own) :]
    return np.asarray(torch.cat([first, augmented]).half().numpy())


def fit_head(
    student: WhisperTrunk,
    training: Sequence[Utterance],
    recipe: Recipe,
    embeddings: EmbeddingStore,
    companions: Sequence[Student] = (),
) -> None:
    """Fits the standardisation and the head of a network to a training side.

    Args:
        student: from `load_trunk`; its head is replaced.
        training: utterances to learn from; those without emotion and stress are left out.
        recipe: settings.
        embeddings: of at least these utterances.
        companions: students trained on the same side; none for a trunk alone.

    Raises:
        SettingsError: there is no such preset.
        TrainingError: the sampling leaves no corpus.
    """
    assert recipe.trunk is not None
    targets = make_targets(training, recipe.preset)
    known = targets.emotion.any(dim=1) | ~targets.stress.isnan()
    targets = targets[known]
    training = [clip for clip, use in zip(training, known.tolist(), strict=True) if use]
    values = embeddings.select(training)
    variants = values.shape[1]
    flat = values.flatten(0, 1)
    share = Sampler(training, recipe.sampling.shares, len(training)).weights()
    weights = torch.from_numpy(share).float().repeat_interleave(variants)
    centre = weights @ flat / weights.sum()
    scale = 1.0 / ((weights @ (flat - centre).square() / weights.sum()).sqrt() + _EPSILON)
    standard = (flat - centre) * scale
    axes = _principal_axes(standard, weights, recipe.trunk.components)
    inputs = standard if axes is None else standard @ axes
    places = torch.arange(len(training)).repeat_interleave(variants)
    matrix, bias = _solve(inputs, targets[places], weights, recipe.losses, recipe.trunk)
    head = nn.Linear(standard.shape[1], bias.numel())
    head.load_state_dict({"weight": (matrix if axes is None else axes @ matrix).T, "bias": bias})
    student.centre.copy_(centre)
    student.scale.copy_(scale)
    student.set_head(head, companions, recipe.trunk.share)


def keep_or_fit_head(
    path: Path,
    student: WhisperTrunk,
    training: Sequence[Utterance],
    recipe: Recipe,
    embeddings: EmbeddingStore,
    companions: Sequence[Student] = (),
    described: Mapping[str, Any] | None = None,
) -> None:
    """Fits the head of a training side and writes its checkpoint, unless that exists.

    Args:
        path: the checkpoint.
        student: from `load_trunk`; its head is replaced where it is fitted.
        training: utterances to learn from.
        recipe: settings.
        embeddings: of at least these utterances.
        companions: students trained on the same side; none for a trunk alone.
        described: the companions, for the header.

    Raises:
        SettingsError: there is no such preset.
        TrainingError: the labels give nothing to learn, the checkpoint is of another run, or cannot be written.
    """
    check_labels(training, recipe, has_teacher=False)
    header = {**describe_run(training, recipe), "history": [], **(described or {})}
    if path.exists():
        check_header(path, upgrade_header(load_checkpoint(path).header), header)
        return
    fit_head(student, training, recipe, embeddings, companions)
    save_checkpoint(path, Checkpoint(dict(student.state_dict()), header))


def load_companions(
    runs: Sequence[Path], fold: int | None, recipe: Recipe, data: str
) -> tuple[list[Student], Mapping[str, Any]]:
    """Loads a fold's students from runs of `train fit`, and describes them for the header of the trunk beside them.

    Args:
        runs: `fit --companion`; none for a trunk alone.
        fold: held out; None: all speakers.
        recipe: of the trunk.
        data: checkpoint.data_key of the training side.

    Returns:
        The students and the part of the header: the hash of each one's file, and its recipe. Nothing for no run.

    Raises:
        TrainingError: a checkpoint is missing, of another stress preset, has a trunk itself, or was trained on other
            recordings.
    """
    students, described = [], []
    for run in runs:
        path = run_folder(run, fold) / MODEL_FILE
        student, own, header = load_student(path)
        if own.trunk is not None:
            raise TrainingError(f"{path}: it has a frozen trunk itself: give the run of a small student")
        if (own.preset, header.get("preset")) != (recipe.preset, custom_preset(recipe.preset).get("preset")):
            raise TrainingError(
                f"{path} learnt stress under the preset {own.preset}, and recipe {recipe.name} has {recipe.preset}: "
                "train one of them with the other's"
            )
        if header["data"] != data:
            raise TrainingError(f"{path} was trained on other recordings than this table leaves: give the same table")
        students.append(student)
        described.append({"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "recipe": header["recipe"]})
    return students, {"companions": described} if described else {}


def _principal_axes(values: Tensor, weights: Tensor, components: int) -> Tensor | None:
    """Returns the axes of the largest variance of weighted rows: float32 [dims, components].

    None for all of them: a rotation alone changes nothing in a penalised regression.
    """
    if components >= values.shape[1]:
        return None
    covariance = (values * weights[:, None]).T @ values / weights.sum()
    _, vectors = torch.linalg.eigh(covariance.double())
    axes: Tensor = vectors.flip(1)[:, :components].float()
    return axes


def _solve(values: Tensor, targets: Targets, weights: Tensor, losses: Losses, trunk: Trunk) -> tuple[Tensor, Tensor]:
    """Returns the weights and biases of the least penalised loss: float32 [dims, outputs] and [outputs].

    The outputs stand as in `Net.head`: stress, intensity, emotions.
    """
    matrix = torch.zeros(values.shape[1], len(EMOTIONS) + 2, requires_grad=True)
    bias = torch.zeros(len(EMOTIONS) + 2, requires_grad=True)
    optimiser = torch.optim.LBFGS([matrix, bias], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        outputs = values @ matrix + bias
        total = trunk.penalty / len(values) * matrix.square().sum()
        for output, labels, weight in (
            (outputs[:, 0], targets.stress, losses.stress),
            (outputs[:, 1], targets.intensity, losses.intensity),
        ):
            known = ~labels.isnan()
            parts = F.binary_cross_entropy_with_logits(output[known], labels[known], reduction="none")
            total = total + weight * (weights[known] * parts).mean() if known.any() else total
        known = targets.emotion.any(dim=1)
        logits = outputs[:, 2:].masked_fill(~targets.allowed, -1e4).log_softmax(dim=1)
        parts = -(targets.emotion * logits).sum(dim=1)
        total = total + losses.emotion * (weights[known] * parts[known]).mean() if known.any() else total
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return matrix.detach(), bias.detach()
