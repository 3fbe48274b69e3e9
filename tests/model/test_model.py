"""Model files: the scores of a good one, and the one-line message for a bad one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import CARD, EMOTIONS, changed_card, save_graph, write_model
from onnx import TensorProto, helper

from edge_sser.errors import AudioInputError, ModelError
from edge_sser.model import onnx_backend as session
from edge_sser.model.model import Calibration, Card, Model
from edge_sser.model.onnx_backend import onnx_runtime
from edge_sser.pipeline.features import FEATURES

NAMES = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=64).filter(str.isprintable)


@pytest.fixture
def refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[[Path], str]:
    """Loads a file that must be refused, and returns the message."""

    def load(path: Path) -> str:
        with pytest.raises(ModelError) as caught:
            Model.load(path)
        message = str(caught.value)
        assert len(message.splitlines()) == 1
        assert str(path) in message
        assert ": " in message.removeprefix(f"model {path}: ")  # a finding and a remedy
        assert capfd.readouterr() == ("", "")  # nothing from ONNX Runtime on either stream
        return message

    return load


def card_with(**changes: Any) -> str:
    """The card's text with fields changed, or left out where the value is `...`."""
    values = {**json.loads(CARD.to_json()), **changes}
    return json.dumps({name: value for name, value in values.items() if value is not ...})


def window(contrast_db: float) -> np.ndarray:
    """A window whose loudest value stands that far above the mean."""
    mel = np.full((FEATURES.frames, FEATURES.bands), -60.0, dtype=np.float32)
    mel[0, 0] += contrast_db
    return mel


def test_a_good_file_scores_windows_and_says_what_it_is(tmp_path: Path) -> None:
    calibration = Calibration(temperature=2.0, bias=-0.5)
    path = write_model(tmp_path / "tiny.onnx", card=changed_card(calibration=calibration), slope=0.5, centre_db=40.0)
    model = Model.load(path)
    score = model.score(window(60.0))
    assert score.stress == pytest.approx(1.0 / (1.0 + math.exp(-(0.5 * 20.0 / 2.0 - 0.5))), abs=1e-3)
    assert score.emotions.shape == (len(EMOTIONS),)
    assert score.emotions.sum() == pytest.approx(1.0)
    assert model.label == f"tiny@{model.sha256[:8]}"
    assert model.provider == "CPUExecutionProvider"
    assert model.card == changed_card(calibration=calibration)


def test_a_batch_gives_what_its_windows_give(tmp_path: Path) -> None:
    model = Model.load(write_model(tmp_path / "tiny.onnx"))
    stress, emotions = model.logits(np.stack([window(20.0), window(50.0)]))
    assert stress.shape == (2,)
    assert emotions.shape == (2, len(EMOTIONS))
    assert stress[0] < stress[1]


@pytest.mark.parametrize("logit", [-1e6, -30.0, 0.0, 30.0, 1e6])
def test_any_logit_gives_a_probability(logit: float) -> None:
    calibration = Calibration(temperature=0.5, bias=0.25)
    probability = calibration.probability(logit)
    assert 0.0 <= probability <= 1.0
    assert probability == pytest.approx(0.5 + 0.5 * math.tanh((logit / 0.5 + 0.25) / 2.0), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(elevated=st.floats(0.01, 0.5), gap=st.floats(0.01, 0.4), name=NAMES, bias=st.floats(-9, 9))
def test_a_card_survives_the_trip_through_its_text(elevated: float, gap: float, name: str, bias: float) -> None:
    calibration = Calibration(temperature=1.25, bias=bias)
    card = changed_card(name=name, elevated=elevated, high=elevated + gap, calibration=calibration)
    assert Card.from_json(card.to_json()) == card


@pytest.mark.parametrize("curve", [None, ((0.25, 0.0), (3.0, 1.0))])
def test_a_card_with_and_without_trust_by_speech_survives_too(curve: tuple[tuple[float, float], ...] | None) -> None:
    card = changed_card(speech_trust=curve)
    assert Card.from_json(card.to_json()) == card
    assert ("speech_trust" in card.to_json()) == (curve is not None)  # a runtime that does not know it reads the card


def test_a_file_that_is_not_there(refused: Callable[[Path], str], tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "absent.onnx")
    assert "Is a directory" in refused(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", bytes(4096), b"RIFF" + bytes(200)])
def test_a_file_that_is_no_model(refused: Callable[[Path], str], tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "wrong.onnx"
    path.write_bytes(content)
    assert "not a model that ONNX Runtime can use" in refused(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file(refused: Callable[[Path], str], tmp_path: Path, share: float) -> None:
    path = write_model(tmp_path / "torn.onnx")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert "copy it again" in refused(path)


def test_a_file_whose_text_is_no_text(refused: Callable[[Path], str], tmp_path: Path) -> None:
    path = write_model(tmp_path / "garbled.onnx")
    good = path.read_bytes()
    for name in (b"ReduceMax", b"quadrant", b"stress_logit"):  # of a node, in the card, of an output
        assert name in good
        path.write_bytes(good.replace(name, b"\xff" * len(name)))
        assert "not a model that ONNX Runtime can use" in refused(path)


def test_a_file_without_a_card(refused: Callable[[Path], str], tmp_path: Path) -> None:
    assert "it has no card" in refused(write_model(tmp_path / "bare.onnx", card=None))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"sample_rate": 8_000}, "sample_rate"),
        ({"bands": 80, "floor_db": -80.0}, "bands, floor_db"),
        ({"preemphasis": 0.97}, "preemphasis"),
    ],
)
def test_a_model_made_for_other_features(
    refused: Callable[[Path], str], tmp_path: Path, changes: dict[str, float], named: str
) -> None:
    card = card_with(features={**FEATURES.as_dict(), **changes})
    message = refused(write_model(tmp_path / "other.onnx", card=card))
    assert f"made for other features than this version computes ({named} differ)" in message


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ("[1, 2]", "card version is not 1"),
        ("[" * 100_000, "too deeply nested"),
        (card_with(card=2), "card version is not 1"),
        (card_with(mood="good"), "unknown field mood"),
        (card_with(licence=...), "licence"),
        (card_with(emotions=3), "emotions"),
        (card_with(name="a\n\x1b[2J"), "name is not 1 to 64 printable characters"),
        (card_with(name=""), "name is not 1 to 64 printable characters"),
        (card_with(name="\ud800"), "name is not 1 to 64 printable characters"),
        (card_with(calibration={"temperature": 0.0, "bias": 0.0}), "positive temperature"),
        (card_with(calibration={"temperature": math.inf, "bias": 0.0}), "positive temperature"),
        (card_with(calibration={"temperature": 1.0}), "calibration.bias"),
        (card_with(elevated=0.8), "0 < elevated < high < 1"),
        (card_with(high=math.nan), "0 < elevated < high < 1"),
        (card_with(speech_trust=[[1.0, 0.5], [3.0, 0.9]]), "speech_trust: its trust does not rise"),
        (card_with(speech_trust=[[1.0, 0.5], [4.0, 1.0]]), "speech_trust: its seconds do not rise"),
        (card_with(speech_trust=[[1.0]]), "speech_trust.0"),
    ],
)
def test_a_damaged_card(refused: Callable[[Path], str], tmp_path: Path, card: str, reason: str) -> None:
    message = refused(write_model(tmp_path / "damaged.onnx", card=card))
    assert "its card is damaged or of another version" in message
    assert reason in message


@pytest.mark.parametrize("changes", [{"input": "mel"}, {"outputs": ["stress_logit", "moods"]}])
def test_a_card_that_names_what_the_graph_has_not(
    refused: Callable[[Path], str], tmp_path: Path, changes: dict[str, Any]
) -> None:
    message = refused(write_model(tmp_path / "strange.onnx", card=card_with(**changes)))
    assert "its inputs and outputs are not what its card says" in message


@pytest.mark.parametrize("changes", [{"outputs": ["emotion_logits", "stress_logit"]}, {"emotions": ["glad", "sad"]}])
def test_outputs_of_another_shape(refused: Callable[[Path], str], tmp_path: Path, changes: dict[str, Any]) -> None:
    assert "its outputs have the shapes" in refused(write_model(tmp_path / "bent.onnx", card=card_with(**changes)))


def test_a_graph_for_windows_of_another_length(refused: Callable[[Path], str], tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["log_mel"], ["stress_logit"])]
    path = save_graph(tmp_path / "short.onnx", nodes, [], frames=200)
    refused(path)


def test_a_graph_for_another_type_of_number(refused: Callable[[Path], str], tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["log_mel"], ["single"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["single"], ["flat"]),
        helper.make_node("ReduceMean", ["flat"], ["mean"], keepdims=0),
        helper.make_node("Identity", ["mean"], ["stress_logit"]),
        helper.make_node("Identity", ["flat"], ["emotion_logits"]),
    ]
    refused(save_graph(tmp_path / "half.onnx", nodes, [], input_type=TensorProto.FLOAT16))


def test_a_window_of_another_length_is_named(tmp_path: Path) -> None:
    model = Model.load(str(write_model(tmp_path / "tiny.onnx")))
    with pytest.raises(AudioInputError, match=r"the window has the shape \[98, 64\], expected .* 3 s at 16 kHz"):
        model.score(window(0.0)[:98])


@pytest.mark.parametrize("slope", [math.nan, math.inf])
def test_a_model_that_gives_no_numbers(refused: Callable[[Path], str], tmp_path: Path, slope: float) -> None:
    assert "as a stress logit" in refused(write_model(tmp_path / "lost.onnx", slope=slope))


def test_numbers_that_end_later_are_an_error_too(tmp_path: Path) -> None:
    model = Model.load(write_model(tmp_path / "tiny.onnx"))
    mel = window(20.0)
    mel[5, 5] = math.inf
    with pytest.raises(ModelError, match=r"tiny\.onnx: it gave .* as a stress logit"):
        model.score(mel)


def test_a_provider_that_is_not_here(tmp_path: Path) -> None:
    path = write_model(tmp_path / "tiny.onnx")
    with pytest.raises(ModelError, match=r"ONNX Runtime here has no TensorrtExecutionProvider, only .*--runtime auto"):
        Model.load(path, runtime="tensorrt")


@pytest.mark.parametrize("fails", [False, True], ids=["left out in silence", "raises"])
def test_a_provider_that_does_not_work_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    """As ONNX Runtime's builds for a GPU do where the libraries of CUDA are not: the provider is there by name only."""
    real = onnx_runtime()

    tried: list[list[str]] = []

    def opened(*arguments: Any, providers: list[str], **options: Any) -> Any:
        tried.append(providers)
        if fails and providers[0] != "CPUExecutionProvider":
            raise RuntimeError("Please install TensorRT libraries")
        return real.InferenceSession(*arguments, providers=["CPUExecutionProvider"], **options)

    names = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    library = SimpleNamespace(
        get_available_providers=lambda: names,
        InferenceSession=opened,
        SessionOptions=real.SessionOptions,
        RunOptions=real.RunOptions,
    )
    monkeypatch.setattr(session, "onnx_runtime", lambda: library)
    path = write_model(tmp_path / "tiny.onnx")
    for runtime, name in (("cuda", names[1]), ("tensorrt", names[0])):
        with pytest.raises(ModelError, match=f"{name} is in this ONNX Runtime and cannot be used here: use --runtime"):
            Model.load(path, runtime=runtime)
    tried.clear()
    assert Model.load(path).provider == "CPUExecutionProvider"
    assert tried[0] == names[1:], "auto leaves TensorRT's provider out: it would build an engine at every start"
    assert Model.load(path).provider == Model.load(path, runtime="cpu").provider == "CPUExecutionProvider"
    path.write_bytes(b"no model")
    with pytest.raises(ModelError, match="not a model that ONNX Runtime can use"):
        Model.load(path, runtime="cuda")


def test_a_model_that_ships_is_given_by_name() -> None:
    assert Model.load(Path("sser-cnn"), runtime="cpu").card.name == "sser-cnn"
    assert Model.load(Path("sser-plus"), runtime="cpu").card.name == "sser-plus"
    assert Model.load(Path("sser-plus"), runtime="cpu").sha256 == Model.load(runtime="cpu").sha256


def test_another_name_is_refused_with_those_that_ship_and_another_path_as_a_file(
    refused: Callable[[Path], str],
) -> None:
    assert "did you mean sser-plus? ones that ship: sser-plus, sser-cnn" in refused(Path("sser-pluss"))
    assert "No such file" in refused(Path("models/sser-pluss"))
