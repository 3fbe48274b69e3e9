"""A model is adapted to a site's clips, or says in one line why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from models import changed_card, write_model
from onnx import TensorProto
from speech_clips import RATE, speech_clip
from test_train_cli import edge_sser
from untrained_run import write_run

from edge_sser.commands.bench import demo_samples
from edge_sser.errors import EdgeSserError
from edge_sser.export.calibration import Method, find_range, observe
from edge_sser.export.card import make_card
from edge_sser.export.onnx import export_onnx
from edge_sser.export.quantize import Target, activations, quantise
from edge_sser.model.card import Card, OperatingPoint
from edge_sser.model.model import CARD_KEY, Model
from edge_sser.model.shipped import SSER_CNN, SSER_PLUS
from edge_sser.model.vote import EmotionVote
from edge_sser.pipeline.features import log_mel
from edge_sser.settings.schema import Runtime
from edge_sser.train.corpora.index import index
from edge_sser.train.corpora.table import Utterance, write_table
from edge_sser.train.data.audio import read_audio
from edge_sser.train.data.features import windows
from edge_sser.train.evaluate.metrics import auroc
from edge_sser.train.fit.adapt import adapt, advice
from edge_sser.train.fit.checkpoint import load_student
from edge_sser.train.fit.head import Embedder, Head, find_head, fit_head, read_head, with_float_head, write_head

POINT = OperatingPoint(
    baseline="off", false_alarms_per_hour=1.0, threshold=0.7, found=0.5, delay_median_s=2.0, delay_p95_s=4.0,
    hours=1.0, protocol="toy",
)  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    """Real speech of 6 made-up speakers: 4 clips each as it is, and 4 faster and higher, which are called stressed."""
    folder = tmp_path_factory.mktemp("site")
    random = np.random.default_rng(0)
    clips = []
    for speaker in range(6):
        for place in range(8):
            stressed = place % 2
            samples = speech_clip(random, speaker=speaker, stressed=bool(stressed), seconds=6.0)
            soundfile.write(folder / f"{speaker}-{place}.wav", samples, RATE)
            clips.append(f"{speaker}-{place}.wav,{speaker:02d},{stressed}")
    (folder / "site.csv").write_text("\n".join(["path,speaker,stress", *clips]))
    return list(index([("site", folder / "site.csv")]).utterances)


@pytest.fixture(scope="module")
def reversed_model(site: list[Utterance], toy_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student's file whose head ranks the site's clips the wrong way round."""
    folder = tmp_path_factory.mktemp("model")
    write_run(folder / "run", site, toy_recipe)
    student, recipe, header = load_student(folder / "run" / "final" / "model.safetensors")
    card = replace(
        make_card(recipe, {**header, "corpora": [{"name": "elsewhere", "utterances": 1, "speakers": 1}]}, {}, 1),
        operating_points=(POINT,),
    )
    path = folder / "toy.onnx"
    export_onnx(student.eval(), card, path)
    if stress_auroc(path, site) > 0.5:
        model = onnx.load(path)
        place = find_head(model, card, path)
        old = read_head(model, place)
        write_head(model, place, Head(-old.weights, -old.bias))
        path.write_bytes(model.SerializeToString())
    return path


def stress_auroc(path: Path, clips: list[Utterance]) -> float:
    model = Model.load(path, runtime=Runtime.CPU)
    scores = [model.logits(windows(log_mel(read_audio(clip.path))))[0].mean() for clip in clips]
    return auroc(np.array([int(clip.stress == 1.0) for clip in clips]), np.array(scores))


def table_of(folder: Path, clips: list[Utterance]) -> Path:
    write_table(folder / "site.csv", clips)
    return folder / "site.csv"


def refusal(model: Path, table: Path, out: Path) -> str:
    with pytest.raises(EdgeSserError) as caught:
        adapt(model, table, out, None, lambda line: None)
    assert not out.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_model_that_errs_at_a_site_is_better_there_afterwards(
    site: list[Utterance], reversed_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "adapted.onnx"
    said = edge_sser("train", "adapt", reversed_model, table_of(tmp_path, site), "--out", out).stdout
    assert "48 clips (24 stressed) of 6 speakers, 5 folds" in said
    assert "by number of speakers that it is fitted on: 1: " in said
    assert stress_auroc(reversed_model, site) < 0.5
    assert stress_auroc(out, site) > 0.9
    old, new = (Model.load(path, runtime=Runtime.CPU).card for path in (reversed_model, out))
    assert new.version == f"{old.version}-adapted"
    assert new.training[-1] == {"name": "site", "utterances": 48, "speakers": 6, "licence": "your own"}
    assert (new.operating_points, new.parity) == (None, None)
    assert "not measured again" in new.notice
    assert new.calibration != old.calibration
    figures = new.accuracy["adapted"]
    assert figures["new"]["auroc"] > 0.8 > figures["old"]["auroc"]
    assert f"{figures['new']['auroc']:.3f}" in said


def test_only_the_stress_row_of_the_file_changes(site: list[Utterance], reversed_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "adapted.onnx"
    adapt(reversed_model, table_of(tmp_path, site), out, None, lambda line: None)
    before, after = onnx.load(reversed_model), onnx.load(out)
    assert [each.name for each in after.graph.output] == [each.name for each in before.graph.output]
    changed = [
        one.name for one, other in zip(before.graph.initializer, after.graph.initializer, strict=True) if one != other
    ]
    assert changed == ["student.head.weight", "student.head.bias"]
    sound = windows(log_mel(read_audio(site[0].path)))
    one, other = (Model.load(path, runtime=Runtime.CPU).logits(sound) for path in (reversed_model, out))
    assert np.array_equal(one[1], other[1])
    assert not np.allclose(one[0], other[0])


def test_a_head_is_fitted_around_the_vote_of_the_emotions(
    site: list[Utterance], reversed_model: Path, tmp_path: Path
) -> None:
    voting, out = tmp_path / "voting.onnx", tmp_path / "adapted.onnx"
    model = onnx.load(reversed_model)
    (entry,) = [each for each in model.metadata_props if each.key == CARD_KEY]
    card = replace(
        Card.from_json(entry.value), emotion_vote=EmotionVote(share=0.5, stressed=("sad",), unstressed=("calm",))
    )
    entry.value = card.to_json()
    voting.write_bytes(model.SerializeToString())
    said: list[str] = []
    adapt(voting, table_of(tmp_path, site), out, None, said.append)
    assert Model.load(out, runtime=Runtime.CPU).card.emotion_vote == card.emotion_vote
    assert stress_auroc(out, site) > 0.9
    entry.value = replace(card, emotion_vote=replace(card.emotion_vote, share=1.0)).to_json()
    voting.write_bytes(model.SerializeToString())
    assert "made of the emotions alone" in refusal(voting, table_of(tmp_path, site), tmp_path / "other.onnx")


def test_what_is_no_better_is_not_written(site: list[Utterance], reversed_model: Path, tmp_path: Path) -> None:
    good = tmp_path / "good.onnx"
    table = table_of(tmp_path, site)
    adapt(reversed_model, table, good, None, lambda line: None)
    done = edge_sser("train", "adapt", good, table, "--out", tmp_path / "again.onnx", status=1)
    assert "again.onnx is not written: stress AUROC of held-out speakers is" in done.stderr
    assert "keep good.onnx" in done.stderr
    assert not (tmp_path / "again.onnx").exists()


def test_a_file_in_8_bits_is_adapted_too_and_gets_a_head_in_float(
    site: list[Utterance], reversed_model: Path, tmp_path: Path
) -> None:
    model = onnx.load(reversed_model)
    heard = np.concatenate([windows(log_mel(read_audio(clip.path))) for clip in site[:8]])
    seen = observe(model, activations(model), heard)
    ranges = {name: find_range(tensor, Method.MINMAX, symmetric=False) for name, tensor in seen.items()}
    made = quantise(model, Target.CPU, ranges)
    card = replace(Model.load(reversed_model, runtime=Runtime.CPU).card, precision="int8", quantisation={})
    del made.metadata_props[:]
    made.metadata_props.add(key=CARD_KEY, value=card.to_json())
    (tmp_path / "toy.int8.onnx").write_bytes(made.SerializeToString())
    out = tmp_path / "adapted.onnx"
    adapt(tmp_path / "toy.int8.onnx", table_of(tmp_path, site), out, None, lambda line: None)
    assert stress_auroc(tmp_path / "toy.int8.onnx", site) < 0.5
    assert stress_auroc(out, site) > 0.9
    stored = {each.name: each.data_type for each in onnx.load(out).graph.initializer}
    before = {each.name for each in made.graph.initializer if each.data_type == TensorProto.INT8 and each.dims}
    head = {name for name in before if name.startswith("student.head.weight")}
    assert head
    assert {name for name in before - head if stored[name] == TensorProto.INT8} == before - head
    assert not head & stored.keys()


@pytest.mark.parametrize(
    "path",
    [SSER_CNN.int8, SSER_CNN.tensorrt, SSER_PLUS.int8, SSER_PLUS.tensorrt],
    ids=lambda path: path.name,
)
def test_the_heads_of_the_files_that_ship_in_8_bits_are_found(path: Path) -> None:
    loaded = Model.load(path, runtime=Runtime.CPU)
    model = with_float_head(onnx.load(path), loaded.card)
    place = find_head(model, loaded.card, path)
    sound = windows(log_mel(demo_samples()))[:1]
    embedding, vote = Embedder(model, loaded.card, place).embed(sound)
    share = loaded.card.emotion_vote.share if loaded.card.emotion_vote else 0.0
    own = read_head(model, place).logits(embedding[None])[0]
    assert (1.0 - share) * own + share * vote == pytest.approx(loaded.logits(sound)[0][0], abs=0.05)


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (lambda clip: clip.stress == 1.0, "only stressed clips"),
        (lambda clip: clip.speaker == "01", "the number of speakers with stressed and other clips is 1"),
        (
            lambda clip: (clip.stress == 1.0) == (clip.speaker == "01"),
            "the number of speakers with stressed and other clips is 0",
        ),
    ],
)
def test_a_table_that_cannot_be_scored_on_strangers_is_refused(
    keep: object, message: str, site: list[Utterance], reversed_model: Path, tmp_path: Path
) -> None:
    assert callable(keep)
    table = table_of(tmp_path, [clip for clip in site if keep(clip)])
    assert message in refusal(reversed_model, table, tmp_path / "out.onnx")


def test_one_recording_with_two_labels_is_refused(site: list[Utterance], reversed_model: Path, tmp_path: Path) -> None:
    table = table_of(tmp_path, [*site, replace(site[0], path="copy.wav", stress=1.0 - (site[0].stress or 0.0))])
    assert "copy.wav is the same recording as" in refusal(reversed_model, table, tmp_path / "out.onnx")


def test_clips_without_speech_are_left_out_and_all_of_them_are_an_error(
    site: list[Utterance], reversed_model: Path, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "hum.wav", 0.1 * np.sin(np.arange(32_000) * 0.05), 16_000)
    hums = [
        replace(clip, path=str(tmp_path / "hum.wav"), sha256=f"{place:064d}") for place, clip in enumerate(site[:8])
    ]
    lines: list[str] = []
    adapt(reversed_model, table_of(tmp_path, [*site, hums[0]]), tmp_path / "new.onnx", None, lines.append)
    assert "clips left out, in which the speech gate finds too little speech: 1" in lines
    two = [replace(clip, speaker=str(place // 4), stress=place % 2) for place, clip in enumerate(hums)]
    text = refusal(reversed_model, table_of(tmp_path, two), tmp_path / "out.onnx")
    assert "finds no speech in any of the 8 clips" in text


def test_files_without_a_head_to_fit_are_refused(site: list[Utterance], reversed_model: Path, tmp_path: Path) -> None:
    table, out = table_of(tmp_path, site), tmp_path / "out.onnx"
    assert "head cannot be found in the graph: give a file that edge-sser export wrote" in refusal(
        write_model(tmp_path / "tiny.onnx", card=changed_card()), table, out
    )
    other = onnx.load(reversed_model)
    (entry,) = [each for each in other.metadata_props if each.key == CARD_KEY]
    entry.value = entry.value.replace('"card": 1', '"card": 2')
    (tmp_path / "other.onnx").write_bytes(other.SerializeToString())
    assert "damaged or of another version" in refusal(tmp_path / "other.onnx", table, out)
    with pytest.raises(EdgeSserError, match="expected another file"):
        adapt(reversed_model, table, reversed_model, None, lambda line: None)


def test_a_large_penalty_keeps_the_old_head_and_classes_weigh_alike() -> None:
    random = np.random.default_rng(0)
    embeddings = random.standard_normal((300, 4)) * [1.0, 10.0, 0.1, 1.0] + 5.0
    labels = (embeddings[:, 0] > 5.8).astype(float)
    old = Head(np.array([0.0, 0.1, 0.0, 0.0]), -0.5)
    assert fit_head(old, embeddings, labels, penalty=1e6).weights == pytest.approx(old.weights, abs=1e-3)
    new = fit_head(old, embeddings, labels).logits(embeddings)
    assert auroc(labels.astype(np.int64), new) > 0.97
    probabilities = 1.0 / (1.0 + np.exp(-new))  # a free bias: the mean errors of the classes balance
    assert (1.0 - probabilities[labels == 1]).mean() == pytest.approx(probabilities[labels == 0].mean(), abs=1e-3)


def test_the_learning_curve_is_put_into_words() -> None:
    assert "are likely to help: the last doubling brought +0.050" in advice([(2, 0.6), (4, 0.65)])
    assert "not likely to help much" in advice([(2, 0.6), (4, 0.7), (8, 0.701)])
    assert "too few speakers" in advice([(1, 0.6)])
