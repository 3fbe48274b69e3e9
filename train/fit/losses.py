"""What a student learns from a teacher beside its labels.

A clip has one set of teacher outputs: the mean over its windows, as a clip's score is the mean of its windows' logits.
The student hears a random piece of the clip, faster or slower, in noise; whatever piece it is, it is taught what the
teacher makes of the whole clip, just as it is taught the clip's label. The window nearest to the piece would be closer
in time, but clips are hardly longer than a window, a warped or looped piece has no nearest one, and what differs
between a clip's windows is mostly the teacher's own noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_sser.train.recipe import Distillation
from edge_sser.train.students.net import Logits
from edge_sser.train.teachers.outputs import Outputs


class Distiller(nn.Module):
    """The projection of the student's embedding onto the teacher's features, and the losses. Dropped after training."""

    def __init__(self, settings: Distillation, embedding: int, outputs: Outputs) -> None:
        """Makes the projection.

        Args:
            settings: weights of the losses.
            embedding: values in the student's embedding.
            outputs: of the teacher for all training clips: the scale of its features is taken from them.
        """
        super().__init__()
        self.settings = settings
        self._mean = outputs.features.mean(dim=0)
        self._deviation = outputs.features.std(dim=0, correction=0) + 1e-3 * outputs.features.std(correction=0) + 1e-6
        self.project = nn.Linear(embedding, outputs.features.shape[1])

    def losses(self, logits: Logits, embedded: Tensor, taught: Outputs, allowed: Tensor) -> dict[str, Tensor]:
        """The weighted parts that are not switched off, each the mean over the batch.

        Args:
            logits: the student's.
            embedded: the student's, [batch, embedding].
            taught: the teacher's, [batch].
            allowed: bool [batch, classes], the classes that the clip's corpus has: the only ones compared.
        """
        settings = self.settings
        features = (taught.features - self._mean.to(embedded.device)) / self._deviation.to(embedded.device)
        parts: dict[str, tuple[float, Callable[[], Tensor]]] = {
            "taught emotion": (settings.emotion, lambda: self._emotion(logits.emotions, taught.emotions, allowed)),
            "taught stress": (settings.stress, lambda: self._stress(logits.stress, taught.stress)),
            "concordance": (
                settings.concordance,
                lambda: 1.0 - concordance(logits.stress.sigmoid(), taught.stress.sigmoid()),
            ),
            "features": (settings.features, lambda: feature_distance(self.project(embedded), features)),
            "similarity": (settings.similarity, lambda: similarity_difference(embedded, features)),
        }
        return {name: weight * value() for name, (weight, value) in parts.items() if weight > 0.0}

    def _emotion(self, student: Tensor, teacher: Tensor, allowed: Tensor) -> Tensor:
        """KL at the temperature, times its square, so that its gradients keep their size (Hinton et al., 2015)."""
        temperature = self.settings.temperature
        said, wanted = (
            (values / temperature).masked_fill(~allowed, -1e4).log_softmax(dim=1) for values in (student, teacher)
        )
        return F.kl_div(said, wanted, reduction="batchmean", log_target=True) * temperature**2

    def _stress(self, student: Tensor, teacher: Tensor) -> Tensor:
        temperature = self.settings.temperature
        said, wanted = (
            torch.stack((F.logsigmoid(values / temperature), F.logsigmoid(-values / temperature)), dim=1)
            for values in (student, teacher)
        )
        return F.kl_div(said, wanted, reduction="batchmean", log_target=True) * temperature**2


def concordance(first: Tensor, second: Tensor) -> Tensor:
    """Concordance correlation coefficient of two float [n] (Lin, Biometrics, 1989): -1..1, 1 where they are equal."""
    one, two = first - first.mean(), second - second.mean()
    shift = (first.mean() - second.mean()).square()
    return 2.0 * (one * two).mean() / (one.square().mean() + two.square().mean() + shift + 1e-6)


def feature_distance(projected: Tensor, features: Tensor) -> Tensor:
    """L1 and cosine distance of float [batch, dims], as for DistilHuBERT (Chang et al., ICASSP 2022)."""
    cosine = F.cosine_similarity(projected, features, dim=1)
    return F.l1_loss(projected, features) + (1.0 - cosine).mean()


def similarity_difference(embedded: Tensor, features: Tensor) -> Tensor:
    """Mean squared difference of the cosines between all pairs of a batch (after Tung and Mori, ICCV 2019).

    The student's embeddings are centred over the batch as the teacher's features are over the corpus: all of them are
    positive, and would all be alike otherwise.
    """
    alike = [F.normalize(values, dim=1) for values in (embedded - embedded.mean(dim=0), features)]
    difference = alike[0] @ alike[0].T - alike[1] @ alike[1].T
    return difference.square().mean()


def blend(first: Mapping[str, Tensor], second: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Losses of a batch that is `share` of the first and the rest of the second."""
    return {name: share * value + (1.0 - share) * second[name] for name, value in first.items()}
