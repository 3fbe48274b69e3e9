from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edge_sser.errors import SettingsError
from edge_sser.train.corpora.table import Utterance, read_table
from edge_sser.train.data.features import FeatureStore
from edge_sser.train.data.labels import EMOTIONS, LABELS, PRESETS, read_preset
from edge_sser.train.fit.checkpoint import load_checkpoint
from edge_sser.train.fit.losses import label_losses, make_targets
from edge_sser.train.fit.run import fit
from edge_sser.train.fit.task import RunningAccuracy
from edge_sser.train.recipe import Losses, Recipe, read_recipe
from edge_sser.train.students.net import Logits

PLAIN = Utterance(
    path="", corpus="mine", speaker="1", sex="", emotion="", intensity="", fold=1, duration_s=1.0, sha256=""
)


def stress(preset: str, **labels: object) -> float | None:
    return read_preset(preset).stress(replace(PLAIN, **labels))  # type: ignore[arg-type]


def test_every_label_has_a_place_in_every_preset_and_the_models_classes_are_the_first_eight() -> None:
    assert all(set(table) == set(LABELS) for table in PRESETS.values())
    assert LABELS[: len(EMOTIONS)] == EMOTIONS
    assert len(EMOTIONS) == 8


def test_quadrant_is_anger_and_fear_and_sssr_is_every_negative_emotion() -> None:
    def stressed(preset: str) -> list[str]:
        return [name for name in LABELS if stress(preset, emotion=name) == 1.0]

    assert stressed("quadrant") == ["angry", "fearful"]
    assert stressed("sssr") == ["sad", "angry", "fearful", "disgust"]
    assert stress("quadrant", emotion="disgust") is None
    assert stress("quadrant", emotion="bored") == 0.0
    assert stress("quadrant", emotion="") is None


def test_votes_become_a_probability_of_stress() -> None:
    votes = {"angry": 0.5, "neutral": 0.25, "disgust": 0.25}
    assert stress("quadrant", emotion="neutral", soft=votes) == pytest.approx(2 / 3)
    assert stress("sssr", emotion="neutral", soft=votes) == pytest.approx(0.75)


def test_votes_that_are_mostly_for_what_is_left_out_say_nothing() -> None:
    assert stress("quadrant", soft={"disgust": 0.9, "angry": 0.1}) is None
    assert stress("quadrant", soft={"disgust": 0.5, "angry": 0.5}) == 1.0


def test_stress_that_the_corpus_gives_is_believed_under_every_preset() -> None:
    for preset in (*PRESETS, "arousal_valence"):
        assert stress(preset, emotion="angry", soft={"angry": 1.0}, stress=0.25, arousal=1.0, valence=0.0) == 0.25


def test_arousal_valence_wants_both_and_is_highest_where_the_quadrants_corner_is() -> None:
    assert stress("arousal_valence", emotion="angry") is None
    assert stress("arousal_valence", arousal=1.0, valence=0.0) == 1.0
    assert stress("arousal_valence", arousal=1.0, valence=1.0) == 0.0  # elation
    assert stress("arousal_valence", arousal=0.0, valence=0.0) == 0.0  # dejection
    assert stress("arousal_valence", arousal=0.5, valence=0.5) == 0.25


def table(folder: Path, text: str) -> str:
    path = folder / "factory.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_users_table_maps_what_it_names_and_leaves_out_the_rest(tmp_path: Path) -> None:
    name = table(tmp_path, '[emotions]\nanger = 1\nsurprised = 1\nneutral = 0\nsad = "leave out"\n')
    assert read_preset(name).name == "factory"
    found = {label: stress(name, emotion=label) for label in LABELS}
    assert {label: value for label, value in found.items() if value is not None} == {
        "angry": 1.0,
        "surprised": 1.0,
        "neutral": 0.0,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[emotions]\ncross = 1\n", "unknown emotion 'cross'"),
        ("[emotions]\nangry = 2\nneutral = 0\n", "angry = 2, expected 0, 1 or"),
        ("[emotions]\nangry = true\nneutral = 0\n", "angry = True"),
        ("[emotions]\nangry = 0.5\nneutral = 0\n", "angry = 0.5"),
        ("[emotions]\nangry = 1\nfearful = 1\n", "at least one emotion with 1 and one with 0"),
        ("[emotion]\nangry = 1\n", "unknown key emotion"),
        ("emotions = 3\n", "expected one table [emotions]"),
        ("", "expected one table [emotions]"),
        ("[emotions\n", "not TOML"),
    ],
)
def test_a_users_table_that_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=r"factory\.toml") as caught:
        read_preset(table(tmp_path, text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2


def test_a_preset_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(SettingsError, match=r"preset nowhere: .* quadrant, sssr, arousal_valence"):
        read_preset("nowhere")


def clips() -> list[Utterance]:
    named = [replace(PLAIN, emotion=name) for name in ("angry", "calm", "bored", "")]
    voted = replace(PLAIN, corpus="voted", emotion="sad", soft={"angry": 0.75, "neutral": 0.25})
    return [*named, voted, replace(PLAIN, corpus="levels", stress=0.5)]


def test_what_is_not_known_is_not_asked() -> None:
    found = make_targets(clips(), "quadrant")
    shares = [dict(zip(EMOTIONS, row, strict=True)) for row in found.emotion.tolist()]
    assert [{name: share for name, share in row.items() if share} for row in shares] == [
        {"angry": 1.0},
        {"calm": 1.0},
        {},
        {},
        {"angry": 0.75, "neutral": 0.25},
        {},
    ]
    assert found.stress.tolist()[:3] == [1.0, 0.0, 0.0]
    assert found.stress[3].isnan()
    assert found.stress.tolist()[4:] == [0.75, 0.5]
    classes = [{name for name, allowed in zip(EMOTIONS, row, strict=True) if allowed} for row in found.allowed.tolist()]
    assert classes[0] == {"angry", "calm"}
    assert classes[4] == {"sad", "angry", "neutral"}
    assert classes[5] == set()
    (bare,) = make_targets([replace(PLAIN, emotion="")], "quadrant").allowed.tolist()
    assert all(bare)  # no label of any kind: a teacher may name any emotion


def test_corpora_with_votes_levels_or_no_label_train_together(
    toy_table: Path, toy_recipe: Path, tmp_path: Path
) -> None:
    rows = list(read_table(toy_table))
    changes: list[dict[str, object]] = [
        {},
        {"corpus": "votes", "soft": {"angry": 0.5, "calm": 0.5}},
        {"corpus": "levels", "emotion": "", "stress": 0.5},
        {"corpus": "bored", "emotion": "bored"},
        {"corpus": "nothing", "emotion": ""},
    ]
    mixed = [replace(row, **changes[place % 5]) for place, row in enumerate(rows)]  # type: ignore[arg-type]
    values = read_recipe(str(toy_recipe)).model_dump(mode="json")
    values["preset"] = table(tmp_path, "[emotions]\nangry = 1\ncalm = 0\nbored = 0\n")
    values["optimisation"] |= {"epochs": 1}
    # A loss that is no number would stop the run.
    path = fit(mixed, Recipe.model_validate(values), FeatureStore(mixed, tmp_path), tmp_path / "run")
    assert load_checkpoint(path).header["recipe"]["preset"] == values["preset"]


def test_what_is_told_rightly_is_counted_where_there_are_labels_and_among_the_classes_of_a_corpus() -> None:
    found = make_targets(clips(), "quadrant")  # angry, calm, bored and no emotion; votes for anger; stress of a half
    emotions = torch.zeros(6, len(EMOTIONS))
    emotions[:, EMOTIONS.index("happy")] = 9.0  # which no corpus here has
    emotions[[0, 1, 4], EMOTIONS.index("angry")] = 1.0
    stress = torch.tensor([1.0, 1.0, -1.0, 1.0, -1.0, 1.0])
    accuracy = RunningAccuracy()
    for rows in (slice(0, 3), slice(3, 6)):
        accuracy.add(Logits(stress[rows], emotions[rows], stress[rows]), found[torch.arange(6)[rows]])
    assert accuracy.pop() == {"emotion": pytest.approx(2 / 3), "stress": pytest.approx(3 / 5)}
    assert accuracy.pop() == {}


def test_the_loss_of_clips_without_an_emotion_is_that_of_the_others() -> None:
    weights = Losses(emotion=1.0, stress=0.0, intensity=0.0)
    emotions = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    found = make_targets(clips(), "quadrant")

    def emotion_loss(*places: int) -> float:
        chosen = torch.tensor(places)
        nothing = torch.zeros(len(places))
        return float(label_losses(Logits(nothing, emotions[chosen], nothing), found[chosen], weights, 0.1)["emotion"])

    assert emotion_loss(0, 1, 2, 3, 4, 5) == pytest.approx(emotion_loss(0, 1, 4))
    assert emotion_loss(2, 3, 5) == 0.0
