"""A student that starts from YAMNet's weights: what it computes, what it keeps, and files that it refuses."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from edge_sser.errors import SettingsError, TrainingError
from edge_sser.export.card import make_card
from edge_sser.train.corpora.folds import split
from edge_sser.train.corpora.table import Utterance, read_table
from edge_sser.train.data.features import FeatureStore
from edge_sser.train.fit.checkpoint import load_checkpoint, load_student
from edge_sser.train.fit.run import FitRequest, fit
from edge_sser.train.recipe import Recipe, read_recipe
from edge_sser.train.students.net import standardise
from edge_sser.train.students.yamnet import CHANNELS, FLOOR, OFFSET, STRIDES, Yamnet

ROOT = Path(__file__).parents[2]


def yamnet_arrays(layers: int = 8) -> dict[str, Tensor]:
    """Arrays with the names and shapes of YAMNet's, of random values."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        fan = max(1, torch.Size(shape[1:]).numel())
        return (torch.randn(shape, generator=generator) * (2.0 / fan) ** 0.5).half()

    found = {"01.pw.w": draw(CHANNELS[0], 1, 3, 3), "01.pw.b": 0.1 * draw(CHANNELS[0])}
    for layer in range(2, layers + 1):
        inputs, outputs = CHANNELS[layer - 2], CHANNELS[layer - 1]
        found |= {
            f"{layer:02d}.dw.w": draw(inputs, 1, 3, 3), f"{layer:02d}.dw.b": 0.1 * draw(inputs),
            f"{layer:02d}.pw.w": draw(outputs, inputs, 1, 1), f"{layer:02d}.pw.b": 0.1 * draw(outputs),
        }  # fmt: skip
    return found


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "yamnet.safetensors"
    save_file(yamnet_arrays(), path)
    return path


@pytest.fixture(scope="module")
def rows(toy_table: Path) -> Sequence[Utterance]:
    torch.set_num_threads(1)
    return read_table(toy_table)


@pytest.fixture
def small(toy_recipe: Path, weights_file: Path) -> Callable[..., Recipe]:
    """Makes a recipe of three layers, of which the first is frozen."""

    def make(**initial: object) -> Recipe:
        values = read_recipe(str(toy_recipe)).model_dump(mode="json", exclude_none=True)
        values["student"] |= {"kind": "yamnet", "width": 8, "layers": 3}
        values["initial"] = {"weights": str(weights_file), "frozen": 1, "rate": 0.5, **initial}
        return Recipe.model_validate(values)

    return make


@pytest.mark.parametrize("frozen", [0, 3, 5])
def test_before_training_the_layers_compute_what_yamnets_do(frozen: int) -> None:
    arrays = {name: values.float() for name, values in yamnet_arrays().items()}
    windows = torch.randn(40, 300, 64, generator=torch.Generator().manual_seed(2)) * 12 - 60
    net = Yamnet(width=8, layers=5, frozen=frozen, emotions=8, dropout=0.0)
    net.load_initial(arrays, windows)
    net.eval()
    planes = (standardise(windows) * (15.0 * torch.log(torch.tensor(10.0)) / 20.0) + OFFSET).clamp(min=FLOOR)[:, None]
    for layer in range(1, 6):
        name, stride = f"{layer:02d}", (4, 2) if layer == 1 else STRIDES[layer - 1]
        if layer == 1:
            planes = F.relu(F.conv2d(planes, arrays["01.pw.w"], arrays["01.pw.b"], stride, 1))
            continue
        depthwise = F.conv2d(planes, arrays[f"{name}.dw.w"], arrays[f"{name}.dw.b"], stride, 1, groups=planes.shape[1])
        planes = F.relu(F.conv2d(F.relu(depthwise), arrays[f"{name}.pw.w"], arrays[f"{name}.pw.b"]))
    with torch.no_grad():
        found = net.body(net.frozen_planes(windows))
    assert torch.allclose(found.transpose(2, 3), planes, atol=1e-3 * float(planes.max()))
    assert float(planes.std()) > 0.05


def test_six_layers_have_the_parameters_the_documents_say() -> None:
    net = Yamnet(width=72, layers=6, frozen=3, emotions=8, dropout=0.3)
    fixed = sum(value.numel() for value in net.frozen.buffers())
    assert sum(value.numel() for value in net.parameters()) + fixed == 281_715


def test_training_moves_all_but_the_frozen_layers_and_the_checkpoint_holds_them(
    rows: Sequence[Utterance], small: Callable[..., Recipe], tmp_path: Path
) -> None:
    recipe = small()
    store = FeatureStore(rows, tmp_path / "cache")
    training = split(rows, 1)[0]
    path = fit(training, recipe, store, tmp_path / "run")
    tensors = load_checkpoint(path).tensors
    arrays = yamnet_arrays()
    assert torch.equal(tensors["frozen.0.weight"], arrays["01.pw.w"].float().transpose(2, 3))
    for name, place in (("02.dw", 0), ("02.pw", 1), ("03.dw", 2), ("03.pw", 3)):
        moved = tensors[f"body.{place}.convolution.weight"] - arrays[f"{name}.w"].float().transpose(2, 3)
        assert 0.0 < float(moved.abs().max()) < 1.0
    net, _, _ = load_student(path)
    assert isinstance(net, Yamnet)
    window = torch.from_numpy(store[rows[0]][:300].astype("float32"))[None]
    with torch.inference_mode():
        assert torch.isfinite(net(window).stress).all()
    again = fit(training, recipe, store, tmp_path / "again")
    other = load_checkpoint(again).tensors
    assert all(torch.equal(value, other[name]) for name, value in tensors.items())


def test_the_share_of_the_learning_rate_is_that_of_the_layers_alone(
    rows: Sequence[Utterance], small: Callable[..., Recipe], tmp_path: Path
) -> None:
    store = FeatureStore(rows, tmp_path / "cache")
    tensors = load_checkpoint(fit(split(rows, 1)[0], small(rate=0.0), store, tmp_path / "run")).tensors
    arrays = yamnet_arrays()
    assert torch.equal(tensors["body.3.convolution.weight"], arrays["03.pw.w"].float().transpose(2, 3))
    assert float(tensors["head.weight"].abs().max()) > 0.0


def test_a_file_that_is_not_yamnets_is_told_in_one_line(
    small: Callable[..., Recipe], rows: Sequence[Utterance], weights_file: Path, tmp_path: Path
) -> None:
    store = FeatureStore(rows, tmp_path / "cache")
    training = split(rows, 1)[0]
    for name, content, message in (
        ("gone", None, r"no such file: give YAMNet's with --set initial\.weights="),
        ("text", b"nothing", "cannot be read"),
        ("short", yamnet_arrays(2), r"not YAMNet's \(it has no 03\.dw\.w\)"),
        ("bent", yamnet_arrays() | {"02.pw.w": torch.zeros(9, 9, 1, 1)}, r"not YAMNet's \(The size of tensor"),
    ):
        path = tmp_path / f"{name}.safetensors"
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            save_file(content, path)
        with pytest.raises(TrainingError, match=message) as refused:
            fit(training, small(weights=str(path)), store, tmp_path / "run")
        assert "\n" not in str(refused.value)
    with pytest.raises(TrainingError, match=r"the recipe's initial\.sha256 is 0000"):
        fit(training, small(sha256="0" * 64), store, tmp_path / "run")
    found = hashlib.sha256(weights_file.read_bytes()).hexdigest()
    fit(training, small(sha256=found), store, tmp_path / "run")


def test_the_card_states_the_origin_and_licence_of_the_initial_weights() -> None:
    header = {"emotions": ["calm"], "corpora": [{"name": "mine", "utterances": 1, "speakers": 1}]}
    card = make_card(read_recipe("sser-yamnet"), header, {}, 270_003)
    assert card.licence == "Apache 2.0 (YAMNet, The TensorFlow Authors)"
    assert card.architecture.endswith("6 layers started from YAMNet's, 3 of them frozen")


def test_the_card_of_a_trunk_beside_it_states_both() -> None:
    names = ("sser-cnn", "sser-yamnet")
    beside = {"companions": [{"sha256": "0" * 64, "recipe": read_recipe(n).model_dump(mode="json")} for n in names]}
    header = {"emotions": ["calm"], "corpora": [{"name": "mine", "utterances": 1, "speakers": 1}], **beside}
    card = make_card(read_recipe("sser-plus", ["emotion_share=0"]), header, {}, 4_300_000)
    assert card.licence == "Apache 2.0 (YAMNet, The TensorFlow Authors), MIT (Whisper's encoder, OpenAI)"
    assert (
        "2 frozen layers of whisper-tiny, beside sser-cnn (compact-cnn, width 12) and sser-yamnet (yamnet, width 72, "
        in (card.architecture)
    )


def test_the_recipe_refuses_a_missing_file_before_the_table_is_read(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"initial weights yamnet\.safetensors: no such file"):
        FitRequest(table=tmp_path / "gone.csv", out=tmp_path, recipe="sser-yamnet")


@pytest.mark.parametrize(
    ("recipe", "change", "message"),
    [
        ("sser-yamnet", "initial.frozen=7", r"initial\.frozen: more than student\.layers"),
        ("sser-yamnet", "student.kind=compact-cnn", r"\[initial\] belongs to student\.kind = yamnet"),
        ("sser-yamnet", "student.layers=9", "less than or equal to 8"),
        ("sser-plus", "student.layers=7", "a whisper-trunk has at most 6"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(recipe: str, change: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_recipe(recipe, [change])


def test_the_script_folds_the_batch_norms_of_a_keras_file() -> None:
    random = np.random.default_rng(5)

    def norm(name: str, channels: int) -> dict[str, np.ndarray]:
        values = {"beta": 0.0, "moving_mean": 1.0, "moving_variance": 2.0}
        return {
            f"{name}/bn/{name}/bn/{key}:0": random.uniform(low, low + 1.0, channels).astype(np.float32)
            for key, low in values.items()
        }

    arrays = {
        "layer1/conv/layer1/conv/kernel:0": random.normal(size=(3, 3, 1, 4)).astype(np.float32),
        **norm("layer1/conv", 4),
        "layer2/depthwise_conv/layer2/depthwise_conv/depthwise_kernel:0": random.normal(size=(3, 3, 4, 1)).astype(
            np.float32
        ),
        **norm("layer2/depthwise_conv", 4),
        "layer2/pointwise_conv/layer2/pointwise_conv/kernel:0": random.normal(size=(1, 1, 4, 6)).astype(np.float32),
        **norm("layer2/pointwise_conv", 6),
        "dense/dense/kernel:0": np.ones((6, 2), np.float32),
    }
    path = ROOT / "scripts" / "yamnet_weights.py"
    specification = importlib.util.spec_from_file_location("yamnet_weights", path)
    assert specification is not None
    assert specification.loader is not None
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    folded = {name: value.float() for name, value in script.fold(arrays).items()}
    assert {*folded} == {"01.pw.w", "01.pw.b", "02.dw.w", "02.dw.b", "02.pw.w", "02.pw.b"}

    def normalised(planes: Tensor, name: str) -> Tensor:
        beta, mean, variance = (
            torch.from_numpy(arrays[f"{name}/bn/{name}/bn/{key}:0"])
            for key in ("beta", "moving_mean", "moving_variance")
        )
        return F.batch_norm(planes, mean, variance, bias=beta, eps=1e-4)

    sound = torch.randn(1, 1, 9, 8)
    kernel = torch.from_numpy(arrays["layer1/conv/layer1/conv/kernel:0"]).permute(3, 2, 0, 1)
    first = normalised(F.conv2d(sound, kernel), "layer1/conv")
    assert torch.allclose(first, F.conv2d(sound, folded["01.pw.w"], folded["01.pw.b"]), atol=1e-2)
    kernel = torch.from_numpy(arrays["layer2/depthwise_conv/layer2/depthwise_conv/depthwise_kernel:0"])
    second = normalised(F.conv2d(first, kernel.permute(2, 3, 0, 1), groups=4), "layer2/depthwise_conv")
    assert torch.allclose(second, F.conv2d(first, folded["02.dw.w"], folded["02.dw.b"], groups=4), atol=2e-2)
    kernel = torch.from_numpy(arrays["layer2/pointwise_conv/layer2/pointwise_conv/kernel:0"]).permute(3, 2, 0, 1)
    third = normalised(F.conv2d(second, kernel), "layer2/pointwise_conv")
    assert torch.allclose(third, F.conv2d(second, folded["02.pw.w"], folded["02.pw.b"]), atol=3e-2)
