"""Functionals of openSMILE's eGeMAPSv02 (Eyben et al., 2016) over a whole clip under a classical classifier."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.errors import need_package
from edge_sser.settings.section import Section
from edge_sser.train.references.classical import ClassicalSystem, Classifier
from edge_sser.train.references.system import Samples, read_settings

_LEAST_SAMPLES = SAMPLE_RATE // 4  # openSMILE fills clips shorter than its frames with NaN


class EgemapsSettings(Section):
    """Settings of the system."""

    classifier: Classifier


def make(settings: Mapping[str, Any], seed: int) -> ClassicalSystem:
    """Makes the system; it draws nothing, so the seed changes nothing. Errors as for `registry.make`."""
    chosen = read_settings(EgemapsSettings, settings, "egemaps")
    need_package("opensmile", "references", "eGeMAPS", "free for research, see openSMILE's licence")
    import opensmile

    smile = opensmile.Smile(
        feature_set=opensmile.FeatureSet.eGeMAPSv02, feature_level=opensmile.FeatureLevel.Functionals
    )

    def functionals(samples: Samples) -> NDArray[np.float32]:
        if samples.size < _LEAST_SAMPLES:
            samples = np.resize(samples, _LEAST_SAMPLES)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = smile.process_signal(samples, SAMPLE_RATE).to_numpy(dtype=np.float32)[0]
        return np.asarray(np.nan_to_num(values), np.float32)

    return ClassicalSystem(f"eGeMAPSv02 functionals {opensmile.__version__}", functionals, chosen.classifier)
