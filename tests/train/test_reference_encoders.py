"""eGeMAPS, frozen encoders and fine-tuned encoders as references. Tiny encoders with random weights stand in."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from components import require_package, require_transformers
from voices import voice

torch = pytest.importorskip("torch", reason='pip install "edge-sser[train,references]"')

from edge_sser.errors import MissingComponentError, ModelError, SettingsError, TrainingError, UsageError  # noqa: E402
from edge_sser.model.model import Model  # noqa: E402
from edge_sser.train.corpora.table import read_table, write_table  # noqa: E402
from edge_sser.train.evaluate.predictions import read_origin, read_predictions  # noqa: E402
from edge_sser.train.references import classical  # noqa: E402
from edge_sser.train.references.classical import Classifier, HeadNet, balanced_weights, fit_heads  # noqa: E402
from edge_sser.train.references.encoders import EncoderSettings, keep_layers, open_encoder  # noqa: E402
from edge_sser.train.references.finetune import FinetunedEncoder  # noqa: E402
from edge_sser.train.references.frozen_encoder import (  # noqa: E402
    StatisticsTrunk,
    WindowHeadSettings,
    make_window_head,
)
from edge_sser.train.references.recipe import read_reference_recipe  # noqa: E402
from edge_sser.train.references.registry import make  # noqa: E402
from edge_sser.train.references.run import ReferenceRequest, run  # noqa: E402
from edge_sser.train.references.system import Clip, System  # noqa: E402

HUBERT = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64, "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
WHISPER = {
    "d_model": 32, "encoder_layers": 3, "encoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_layers": 1,
    "decoder_attention_heads": 4, "decoder_ffn_dim": 16, "vocab_size": 60, "max_target_positions": 8,
    "pad_token_id": 1, "bos_token_id": 1, "eos_token_id": 1, "decoder_start_token_id": 1,
}  # fmt: skip
LARGE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
CALM, ANGRY = 1, 4

FROZEN = ("encoder-svm", "encoder-svm-tiny", "ssl-windows-50", "ssl-windows-100", "ssl-windows-149")
STAND_INS = ("whisper-windows-50", "whisper-windows-100", "whisper-windows-149", "whisper-finetune")
TRAINED = ("hubert-finetune", "wavlm-finetune", "wav2vec2-finetune", "hubert-random")


@pytest.fixture(scope="module", autouse=True)
def _library(tmp_path_factory: pytest.TempPathFactory) -> Any:
    require_transformers()
    require_package("opensmile", "references")
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def clips(count: int, voices: str, *, corpus: str = "toy", seconds: float = 3.4) -> list[Clip]:
    """Voices of two emotions."""
    out = []
    for number in range(count):
        pitch, syllables, label = ((120.0, 2.0, CALM), (240.0, 5.0, ANGRY))[number % 2]
        samples = voice(pitch_hz=pitch + number, syllables_hz=syllables, seconds=seconds, seed=number)
        out.append(Clip(samples.astype(np.float32), label, corpus))
    return out


def tiny(family: str) -> dict[str, Any]:
    return {"random": family, "sizes": WHISPER if family == "whisper" else HUBERT}


def build(name: str, family: str, **settings: Any) -> System:
    """A system of a recipe that ships, over a tiny encoder, trained briefly."""
    recipe = read_reference_recipe(name)
    values = {**recipe.settings, "encoder": tiny(family), **settings}
    if "training" in values:
        values["training"] = {**values["training"], "epochs": 2, "batch": 8, "learning_rate": 1e-3}
    return make(recipe.system, values, 1)


def accuracy(system: System, held: Sequence[Clip]) -> float:
    found = system.probabilities([clip.samples for clip in held])
    return float(np.mean(found.argmax(axis=1) == [clip.label for clip in held]))


@pytest.mark.parametrize("name", ["egemaps-svm", "egemaps-lr"])
def test_egemaps_recipes_tell_calm_from_angry_voices(name: str):
    recipe = read_reference_recipe(name)
    system = make(recipe.system, recipe.settings, 1)
    figures: list[Any] = []
    system.fit(clips(12, "a"), clips(4, "b"), figures.append)
    strangers = clips(6, "c", seconds=2.1)
    assert accuracy(system, strangers) == 1.0
    assert figures[0]["c"] in recipe.settings["classifier"]["c"]
    found = system.probabilities([clip.samples for clip in strangers])
    assert found.sum(axis=1) == pytest.approx(1.0)
    assert found[:, [CALM, ANGRY]].sum(axis=1) == pytest.approx(1.0)  # nobody showed it another emotion


@pytest.mark.parametrize("family", ["hubert", "whisper"])
@pytest.mark.parametrize("name", ["encoder-svm", "encoder-svm-tiny"])
def test_encoder_svm_tells_calm_from_angry_voices(name: str, family: str):
    system = build(name, family)
    system.fit(clips(12, "a"), clips(4, "b"), lambda figures: None)
    assert accuracy(system, clips(6, "c")) == 1.0


@pytest.mark.parametrize(
    ("name", "family"),
    [(name, "wav2vec2") for name in FROZEN if name.startswith("ssl")]
    + [(name, "whisper") for name in STAND_INS]
    + [(name, name.split("-")[0]) for name in TRAINED],
)
def test_networks_train_a_few_steps(name: str, family: str):
    system = build(name, family)
    figures: list[Any] = []
    system.fit(clips(8, "a"), clips(4, "b"), figures.append)
    assert len(figures) == 2
    assert all(np.isfinite(epoch["loss"]) for epoch in figures)
    found = system.probabilities([clip.samples for clip in clips(3, "c", seconds=1.0)])
    assert found.shape == (3, 8)
    assert found.sum(axis=1) == pytest.approx(1.0)


@pytest.mark.parametrize("family", ["hubert", "wavlm", "wav2vec2", "whisper"])
def test_fine_tuning_freezes_the_convolutions_alone(family: str):
    system: Any = build("hubert-finetune", family)
    before = {name: value.clone() for name, value in system._new_net().named_parameters()}
    system.fit(clips(4, "a"), [], lambda figures: None)
    frozen = {name for name, value in system.net.named_parameters() if not value.requires_grad}
    assert frozen
    assert all("conv" in name for name in frozen)
    for name, value in system.net.named_parameters():
        if name in frozen:
            assert torch.equal(value, before[name]), name
    layers = [name for name in before if ".layers.0." in name and name.endswith("weight")]
    assert layers
    assert any(not torch.equal(system.net.get_parameter(name), before[name]) for name in layers)


@pytest.mark.parametrize(
    ("family", "sizes"), [("hubert", HUBERT), ("wavlm", HUBERT), ("hubert", {**HUBERT, **LARGE}), ("whisper", WHISPER)]
)
def test_statistics_are_those_of_the_first_layers_of_the_whole_encoder(family: str, sizes: dict[str, Any]):
    settings = EncoderSettings(random=family, sizes=sizes)
    whole, _ = open_encoder(settings, 3)
    outputs = []
    for block in whole.blocks[:2]:
        block.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    sound = torch.randn(2, 48_000, generator=torch.Generator().manual_seed(0))
    trunk = StatisticsTrunk(open_encoder(settings, 3)[0], [0, 1]).eval()
    with torch.inference_mode():
        whole.model(sound, output_hidden_states=True)
        found = trunk(sound)
    states = [output[0] if isinstance(output, tuple) else output for output in outputs]
    expected = torch.cat([part for state in states for part in (state.mean(1), state.std(1))], dim=1)
    assert found.shape == (2, 2 * 2 * 32)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_encoders_and_heads_have_the_published_sizes():
    with torch.device("meta"):
        hubert = FinetunedEncoder(open_encoder(EncoderSettings(random="hubert"), 1)[0])
        flatten = make_window_head(
            768, WindowHeadSettings(encoder=tiny("hubert"), hop_frames=50, pool="flatten", training={})
        )
        mean = make_window_head(768, WindowHeadSettings(encoder=tiny("hubert"), hop_frames=50, training={}))
    hubert_size, flatten_size, mean_size = (
        sum(value.numel() for value in net.parameters()) for net in (hubert, flatten, mean)
    )
    assert hubert_size == 94_371_712 + 8 * 769
    assert flatten_size == 117_187_592  # the study's 117 million
    assert mean_size == 795_656


@pytest.mark.parametrize(("hop", "windows"), [(50, 4), (100, 3), (149, 2)])
def test_windows_follow_the_hop(hop: int, windows: int):
    system: Any = build(f"ssl-windows-{hop}", "hubert")
    assert system.inputs(np.ones(96_000, np.float32)).shape == (windows, 32)


def test_flatten_keeps_all_frames_of_a_window():
    system: Any = build("whisper-windows-50", "whisper", pool="flatten", width=8)
    assert system.inputs(clips(1, "a")[0].samples).shape == (2, 149, 32)
    system.fit(clips(4, "a"), [], lambda figures: None)
    assert system.probabilities([clips(1, "b")[0].samples]).shape == (1, 8)


@pytest.mark.parametrize("name", ["encoder-svm", "whisper-windows-50"])
def test_the_whole_network_gives_the_probabilities_of_a_window(name: str):
    system = build(name, "whisper")
    system.fit(clips(8, "a"), clips(4, "b"), lambda figures: None)
    window = clips(1, "c", seconds=3.0)[0].samples[:48_000]
    network = system.network()
    assert network is not None
    with torch.inference_mode():
        found = network[0](system.front_end_window(window)).softmax(dim=1).numpy()
    assert found == pytest.approx(system.probabilities([window]), abs=0.02)  # the features may be bfloat16
    trunk = sum(value.numel() for value in network[0].parameters())
    assert system.parameters >= trunk > 0


@pytest.mark.parametrize("name", ["egemaps-svm", "egemaps-lr", "encoder-svm", "whisper-windows-50", "whisper-finetune"])
def test_the_network_as_onnx_computes_the_same_and_a_device_says_why_it_refuses_it(name: str, tmp_path: Path):
    require_package("onnx", "export")
    require_package("onnxruntime", "export")
    from edge_sser.train.references.onnx import export_reference

    recipe = read_reference_recipe(name)
    system = make(recipe.system, recipe.settings, 1) if name.startswith("egemaps") else build(name, "whisper")
    system.fit(clips(8, "a"), clips(4, "b"), lambda figures: None)
    file = tmp_path / "net.onnx"
    export_reference(system, recipe, ["toy"], file)
    assert file.stat().st_size > 1_000
    with pytest.raises(ModelError, match=rf"reference-{name} .* is a reference system, whose features this device"):
        Model.load(file, runtime="cpu")


@pytest.mark.parametrize("kind", ["svm", "logistic-regression"])
def test_the_head_as_a_network_gives_the_same_logits(kind: str):
    random = np.random.default_rng(0)
    labelled = [Clip(np.zeros(1, np.float32), label, "a") for label in (0, 1, 4) for _ in range(10)]
    features = random.standard_normal((30, 5)) + np.array([clip.label for clip in labelled])[:, None]
    head = replace(next(fit_heads(features, labelled, Classifier(kind=kind, c=[1.0]), [1.0])), temperature=0.5)
    own = head.logits(features)
    assert np.mean(own.argmax(axis=1) == [clip.label for clip in labelled]) > 0.8
    assert HeadNet(head)(torch.from_numpy(features).float()).numpy() == pytest.approx(own, rel=1e-3, abs=1e-3)


def test_each_class_of_each_corpus_weighs_the_same():
    cells = {("a", 0): 2, ("a", 1): 6, ("b", 1): 12}
    labelled = [Clip(np.zeros(1, np.float32), label, corpus) for (corpus, label), n in cells.items() for _ in range(n)]
    weights = balanced_weights(labelled)
    assert weights.mean() == pytest.approx(1.0)
    sums = [weights[:2].sum(), weights[2:8].sum(), weights[8:].sum()]
    assert sums == pytest.approx([sums[0]] * 3)


def test_the_temperature_is_the_most_likely_one():
    random = np.random.default_rng(0)
    logits = 3.0 * random.standard_normal((2000, 8))
    labels = np.array([random.choice(8, p=row) for row in classical.softmax(logits / 2.0)])
    assert classical.best_temperature(logits, labels) == pytest.approx(2.0, rel=0.15)


def test_c_is_chosen_on_the_validation_speakers():
    def compute(samples: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return samples

    random = np.random.default_rng(1)
    noise = [
        Clip(random.standard_normal(40).astype(np.float32) + 0.5 * (label == ANGRY), label, "a")
        for label in (CALM, ANGRY)
        for n in range(30)
    ]
    system = classical.ClassicalSystem("noise", compute, Classifier(kind="logistic-regression", c=[1e4, 1e-3]))
    figures: list[Any] = []
    system.fit(noise[::2], noise[1::2], figures.append)
    assert figures[0]["c"] == 1e-3


def test_features_are_computed_once_for_all_folds(monkeypatch: pytest.MonkeyPatch):
    system: Any = build("encoder-svm", "hubert")
    known = clips(4, "once", seconds=1.7)
    system.fit(known, [], lambda figures: None)
    again: Any = build("encoder-svm", "hubert")
    monkeypatch.setattr(again.trunk, "forward", lambda sound: pytest.fail("computed again"))
    again.fit(known, [], lambda figures: None)


def test_a_clip_shorter_than_a_quarter_second_is_repeated():
    recipe = read_reference_recipe("egemaps-lr")
    system = make(recipe.system, recipe.settings, 1)
    system.fit(clips(6, "a"), [], lambda figures: None)
    assert np.isfinite(system.probabilities([clips(1, "d")[0].samples[:400]])).all()


def test_a_table_of_other_speakers_is_predicted_as_fold_0(toy_table: Path, tmp_path: Path):
    rows = read_table(toy_table)
    write_table(tmp_path / "train.csv", [row for row in rows if row.fold != 6])
    strangers = [replace(row, corpus="elsewhere") for row in rows if row.fold == 6]
    write_table(tmp_path / "other.csv", strangers)
    request = ReferenceRequest(
        name="egemaps-lr", table=tmp_path / "train.csv", out=tmp_path / "out", folds=[1], test=tmp_path / "other.csv"
    )
    lines: list[str] = []
    run(request, lines.append, lines.append)
    found = read_predictions(tmp_path / "out" / "egemaps-lr.csv")
    assert {(item.corpus, item.fold) for item in found} == {("ravdess", 1), ("elsewhere", 0)}
    assert sum(item.fold == 0 for item in found) == len(strangers)
    assert read_origin(tmp_path / "out" / "egemaps-lr.csv").trained_on == ("ravdess",)
    run(request, lines.append, lines.append)  # finished: nothing is added
    assert len(read_predictions(tmp_path / "out" / "egemaps-lr.csv")) == len(found)


def test_a_test_table_of_the_same_speakers_is_refused(toy_table: Path, tmp_path: Path):
    request = ReferenceRequest(name="egemaps-lr", table=toy_table, out=tmp_path, folds=[1], test=toy_table)
    with pytest.raises(TrainingError, match="speaker"):
        run(request, lambda line: None, lambda line: None)
    with pytest.raises(UsageError, match="leave out --original-protocol"):
        run(replace(request, original=True, folds=()), lambda line: None, lambda line: None)


def test_stand_ins_and_random_weights_say_so():
    assert EncoderSettings(weights="/x/whisper-tiny", stands_for="facebook/hubert-base-ls960").remark == (
        "whisper-tiny in place of facebook/hubert-base-ls960"
    )
    assert build("hubert-random", "hubert").remark == "random weights of hubert in place of pretrained ones"
    for name in STAND_INS:
        assert read_reference_recipe(name).settings["encoder"]["stands_for"]


def test_missing_weights_name_the_folder_and_the_files(tmp_path: Path):
    for name in (*FROZEN, *STAND_INS, *(each for each in TRAINED if each != "hubert-random")):
        recipe = read_reference_recipe(name)
        settings = {**recipe.settings, "encoder": {"weights": str(tmp_path)}}
        with pytest.raises(TrainingError, match=r"expected config\.json and model\.safetensors") as caught:
            make(recipe.system, settings, 1)
        assert str(tmp_path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("package", "name", "extra"),
    [("opensmile", "egemaps-svm", "references"), ("transformers", "hubert-random", "teacher")],
)
def test_missing_packages_give_the_command(package: str, name: str, extra: str, monkeypatch: pytest.MonkeyPatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda module, *rest: None if module == package else found(module, *rest)
    )
    recipe = read_reference_recipe(name)
    with pytest.raises(MissingComponentError, match=rf'{package}: pip install "edge-sser\[{extra}\]"'):
        make(recipe.system, recipe.settings, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hop_frames": 150}, r"settings\.hop_frames: Input should be less than or equal to 149"),
        ({"hop_frames": 0}, r"settings\.hop_frames: Input should be greater than or equal to 1"),
        ({"pool": "max"}, r"settings\.pool: Input should be 'mean' or 'flatten'"),
        ({"hop": 50}, r"settings\.hop: unknown key"),
        ({"encoder": {"weights": "x", "random": "hubert"}}, "give weights or random, not both"),
        ({"encoder": {}}, "give weights or random, not both"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str):
    recipe = read_reference_recipe("ssl-windows-50")
    with pytest.raises(SettingsError, match=message):
        make(recipe.system, {**recipe.settings, **settings}, 1)


def test_layers_and_sizes_that_an_encoder_lacks_are_refused():
    encoder, _ = open_encoder(EncoderSettings(random="hubert", sizes=HUBERT), 1)
    with pytest.raises(TrainingError, match="3 layers only"):
        keep_layers(encoder, 4)
    with pytest.raises(TrainingError, match="give sizes of transformers' hubert"):
        open_encoder(EncoderSettings(random="hubert", sizes={**HUBERT, "num_attention_heads": 5}), 1)


def test_a_single_emotion_cannot_be_learnt():
    recipe = read_reference_recipe("egemaps-lr")
    system = make(recipe.system, recipe.settings, 1)
    with pytest.raises(TrainingError, match="holds calm alone"):
        system.fit(clips(4, "a")[::2], [], lambda figures: None)
