"""A toy corpus: voices made of harmonics, whose agitated manner is higher and faster, never louder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from voices import RATE, voice

torch = pytest.importorskip("torch", reason='pip install "edge-sser[train,export]"')


@pytest.fixture(scope="session")
def toy_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with RAVDESS's names: 6 actors, one a fold, 4 clips each of calm and angry; 1.5 to 3.4 s."""
    folder = tmp_path_factory.mktemp("toy")
    for actor in (1, 4, 8, 3, 2, 6):
        random = np.random.default_rng(actor)
        for statement in (1, 2):
            for repetition in (1, 2):
                for emotion, pitch, syllables in (("02", 120.0, 2.0), ("05", 240.0, 5.0)):
                    samples = voice(
                        pitch_hz=pitch * random.uniform(0.9, 1.1),
                        syllables_hz=syllables * random.uniform(0.9, 1.1),
                        seconds=random.uniform(1.5, 3.4),
                        seed=int(random.integers(1 << 30)),
                    )
                    name = f"03-01-{emotion}-01-{statement:02d}-{repetition:02d}-{actor:02d}.flac"
                    soundfile.write(folder / name, samples, RATE)
    return folder


@pytest.fixture(scope="session")
def toy_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that learns the toy corpus in seconds."""
    from edge_sser.train.recipe import read_recipe

    values = read_recipe("sser-cnn").model_dump(mode="json", exclude_none=True)
    values["name"] = "toy"
    del values["distillation"]
    values["student"]["width"] = 4
    values["optimisation"] |= {"epochs": 5, "clips_per_epoch": 160, "batch": 16, "average": 0.8, "precision": "float32"}
    milder = {"piece": 0.0, "babble": 0.0, "noise_snr_db": [10.0, 45.0], "band_limit": 0.1, "room": 0.3}
    values["augmentation"] |= milder  # so little training stands no harsh sound
    path = tmp_path_factory.mktemp("recipe") / "toy.toml"
    lines = []
    for key, value in values.items():
        if not isinstance(value, dict):
            lines.insert(0, f'{key} = "{value}"')
            continue
        lines.append(f"[{key}]")
        for name, item in value.items():
            inline = isinstance(item, dict)
            text = f"{{ {', '.join(f'{k} = {v}' for k, v in item.items())} }}" if inline else json.dumps(item)
            lines.append(f"{name} = {text}")
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def toy_table(toy_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus's table of utterances."""
    from edge_sser.train.corpora.index import index
    from edge_sser.train.corpora.table import write_table

    path = tmp_path_factory.mktemp("table") / "table.csv"
    write_table(path, index([("ravdess", toy_corpus)]).utterances)
    return path
