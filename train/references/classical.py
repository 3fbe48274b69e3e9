"""Reference systems of one vector a clip under a support vector machine or logistic regression of scikit-learn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from edge_sser.errors import TrainingError, need_package
from edge_sser.settings.section import Positive, Section
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.evaluate.metrics import unweighted_accuracy
from edge_sser.train.references.feature_cache import FeatureCache
from edge_sser.train.references.system import Clip, Report, Samples, System

Matrix = NDArray[np.float64]

_EPSILON = 1e-5
_NEVER = -1e4  # logit of a class without a training clip
_TEMPERATURES = np.geomspace(0.05, 5.0, 81)
_STEPS = 2000  # of logistic regression; it converges earlier


class Classifier(Section):
    """Settings of the classifier. Each class of each corpus weighs the same."""

    kind: Literal["svm", "logistic-regression"]
    """svm: one against the rest, with radial basis functions."""
    c: list[Positive] = Field(min_length=1)
    """Weight of the errors against the size of the solution. The best on the validation speakers is taken; without any,
    the first."""
    gamma: Positive | None = None
    """svm alone: 1 / (2 x squared radius) on standardised features; None: 1 / their number."""


@dataclass(frozen=True, slots=True)
class Head:
    """A fitted classifier.

    Attributes:
        centre, scale: standardise the features: [dims].
        vectors: support vectors, standardised: [n, dims]; None for a linear classifier.
        gamma: of the radial basis functions.
        weights: [n, 8], or [dims, 8] for a linear classifier.
        bias: [8].
        temperature: divides the logits; from validation clips.
    """

    centre: Matrix
    scale: Matrix
    vectors: Matrix | None
    gamma: float
    weights: Matrix
    bias: Matrix
    temperature: float = 1.0

    @property
    def parameters(self) -> int:
        """Number of values in the classifier, the support vectors included."""
        stored = self.weights.size + self.bias.size + self.centre.size + self.scale.size
        return int(stored + (0 if self.vectors is None else self.vectors.size))

    def logits(self, features: Matrix) -> Matrix:
        """Returns the logits of labels.EMOTIONS, [n, 8], of features [n, dims]."""
        standard = (features - self.centre) / self.scale
        inputs = standard if self.vectors is None else _kernel(standard, self.vectors, self.gamma)
        return np.asarray((inputs @ self.weights + self.bias) / self.temperature)


class HeadNet(nn.Module):
    """A fitted `Head` in torch, to measure and export a whole system."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.gamma, self.temperature = head.gamma, head.temperature
        for name in ("centre", "scale", "vectors", "weights", "bias"):
            value = getattr(head, name)
            self.register_buffer(name, None if value is None else torch.from_numpy(value).float())

    def forward(self, features: Tensor) -> Tensor:
        """Returns logits, [batch, 8]; see `Head.logits`."""
        rows = (features - self.get_buffer("centre")) / self.get_buffer("scale")
        if self._buffers["vectors"] is not None:
            vectors = self.get_buffer("vectors")
            squared = rows.square().sum(1, keepdim=True) + vectors.square().sum(1) - 2.0 * rows @ vectors.T
            rows = torch.exp(-self.gamma * squared)
        return (rows @ self.get_buffer("weights") + self.get_buffer("bias")) / self.temperature


def fit_heads(features: Matrix, clips: Sequence[Clip], settings: Classifier, values: Sequence[float]) -> Iterator[Head]:
    """Yields a fitted classifier for each value of C.

    Args:
        features: [clips, dims].
        clips: their labels and corpora.
        settings: of the recipe.
        values: of C, some of `settings.c`.

    Raises:
        TrainingError: the clips have fewer than two emotions.
    """
    labels = np.array([clip.label for clip in clips])
    classes = np.unique(labels)
    if classes.size < 2:
        found = EMOTIONS[classes[0]] if classes.size else "nothing"
        raise TrainingError(f"the training side holds {found} alone: give a table with two emotions or more")
    weights = balanced_weights(clips)
    centre = np.average(features, axis=0, weights=weights)
    scale = np.sqrt(np.average((features - centre) ** 2, axis=0, weights=weights)) + _EPSILON
    standard = (features - centre) / scale
    gamma = settings.gamma or 1.0 / features.shape[1]
    kernel = _kernel(standard, standard, gamma) if settings.kind == "svm" else None
    for c in values:
        bias = np.full(len(EMOTIONS), _NEVER)
        if kernel is None:
            yield Head(centre, scale, None, gamma, _fit_regression(standard, labels, weights, c, bias), bias)
        else:
            matrix = _fit_svm(kernel, labels, weights, c, bias)
            used = matrix.any(axis=1)
            yield Head(centre, scale, standard[used], gamma, matrix[used], bias)


def balanced_weights(clips: Sequence[Clip]) -> Matrix:
    """Returns a weight for each clip, 1 on average, so that each class of each corpus weighs the same."""
    cells = [(clip.corpus, clip.label) for clip in clips]
    counts = Counter(cells)
    weights = np.array([1.0 / counts[cell] for cell in cells])
    return np.asarray(weights * len(clips) / weights.sum(), dtype=np.float64)


def best_temperature(logits: Matrix, labels: NDArray[np.int64]) -> float:
    """Returns the temperature of the least cross-entropy (Guo et al., 2017), 0.05..5."""
    trained = labels[logits.max(axis=0)[labels] > _NEVER]  # a class that was never trained says nothing
    rows = logits[np.isin(labels, trained)]
    if not trained.size:
        return 1.0
    losses = [
        -np.log(softmax(rows / value)[np.arange(trained.size), trained] + 1e-12).mean() for value in _TEMPERATURES
    ]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def softmax(logits: Matrix) -> Matrix:
    """Returns the probabilities of rows of logits."""
    likely = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(likely / likely.sum(axis=1, keepdims=True))


class ClassicalSystem(System):
    """One vector of features a clip, standardised, under a classifier."""

    def __init__(self, kind: str, compute: Callable[[Samples], NDArray[Any]], settings: Classifier) -> None:
        """Makes an untrained system.

        Args:
            kind: of the features, for `FeatureCache`.
            compute: computes the vector of a clip, [dims].
            settings: of the classifier.

        Raises:
            MissingComponentError: scikit-learn is not installed.
        """
        need_package("sklearn", "train", "A classical reference system")
        self.compute = compute
        self.features = FeatureCache(kind, compute)
        self.settings = settings
        self.head: Head | None = None

    def fit(self, training: Sequence[Clip], validation: Sequence[Clip], report: Report) -> None:
        """Chooses C and the temperature on the validation clips, then fits all clips."""
        vectors = self._vectors([*training, *validation])
        c, temperature = self.settings.c[0], 1.0
        if validation:
            learnt, held_back = np.split(vectors, [len(training)])
            labels = np.array([clip.label for clip in validation])
            corpora = np.array([clip.corpus for clip in validation])
            best = -1.0
            heads = fit_heads(learnt, training, self.settings, self.settings.c)
            for candidate, head in zip(self.settings.c, heads, strict=True):
                logits = head.logits(held_back)
                score = _mean_ua(logits, labels, corpora)
                if score > best:
                    best, c, temperature = score, candidate, best_temperature(logits, labels)
            report({"c": c, "temperature": temperature, "ua": best})
        (fitted,) = fit_heads(vectors, [*training, *validation], self.settings, [c])
        self.head = replace(fitted, temperature=temperature)

    def probabilities(self, clips: Sequence[Samples]) -> Matrix:
        """Returns the probabilities of each clip: [clips, 8]."""
        assert self.head is not None
        return softmax(self.head.logits(np.stack([self.features(samples) for samples in clips]).astype(np.float64)))

    @property
    def parameters(self) -> int:
        """Number of values of the classifier, 0 before it is fitted."""
        return self.head.parameters if self.head else 0

    def network(self) -> tuple[nn.Module, Tensor] | None:
        """Returns the classifier as a network of the features; None before it is fitted."""
        if self.head is None:
            return None
        return HeadNet(self.head).eval(), torch.zeros(1, self.head.centre.size)

    def front_end_window(self, samples: Samples) -> Any:
        """Computes the features of a window, without the cache."""
        return self.compute(samples)

    def _vectors(self, clips: Sequence[Clip]) -> Matrix:
        return np.asarray([self.features(clip.samples) for clip in clips], dtype=np.float64)


def _mean_ua(logits: Matrix, labels: NDArray[np.int64], corpora: NDArray[np.str_]) -> float:
    """Returns the unweighted accuracy over the classes of each corpus, mean over the corpora."""
    found = []
    for corpus in np.unique(corpora):
        inside = corpora == corpus
        classes = np.unique(labels[inside])
        decisions = classes[logits[inside][:, classes].argmax(axis=1)]
        found.append(unweighted_accuracy(labels[inside], decisions))
    return float(np.mean(found))


def _kernel(rows: Matrix, vectors: Matrix, gamma: float) -> Matrix:
    from sklearn.metrics.pairwise import rbf_kernel

    return np.asarray(rbf_kernel(rows, vectors, gamma=gamma))


def _fit_svm(kernel: Matrix, labels: NDArray[np.int64], weights: Matrix, c: float, bias: Matrix) -> Matrix:
    """Returns the weights of all clips, [n, 8], 0 but for support vectors; writes the bias of each class.

    One kernel, [n, n], for all classes takes a tenth of the time.
    """
    from sklearn.svm import SVC

    matrix = np.zeros((len(labels), len(EMOTIONS)))
    for label in np.unique(labels):
        machine = SVC(C=c, kernel="precomputed").fit(kernel, labels == label, weights)
        matrix[machine.support_, label] = machine.dual_coef_[0]
        bias[label] = machine.intercept_[0]
    return matrix


def _fit_regression(standard: Matrix, labels: NDArray[np.int64], weights: Matrix, c: float, bias: Matrix) -> Matrix:
    """Returns the weights of multinomial logistic regression, [dims, 8]; writes the bias of each class."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=c, max_iter=_STEPS).fit(standard, labels, weights)
    matrix = np.zeros((standard.shape[1], len(EMOTIONS)))
    if len(model.classes_) == 2:  # scikit-learn gives the second class alone
        matrix[:, model.classes_[1]] = model.coef_[0]
        bias[model.classes_] = 0.0, model.intercept_[0]
    else:
        matrix[:, model.classes_] = model.coef_.T
        bias[model.classes_] = model.intercept_
    return matrix
