"""`edge-sser export --int8`: from a checkpoint to files that agree, or to a refusal that leaves nothing behind."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import pickle
import shutil
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from tensorrt_board import Board

from edge_sser.cli import main
from edge_sser.commands import bench
from edge_sser.errors import ModelError, TrainingError, UsageError
from edge_sser.export import choose, tensorrt
from edge_sser.export import int8 as int8_module
from edge_sser.export.calibration import draw_windows, split_speakers
from edge_sser.export.gate import Limits, Scores, score_models
from edge_sser.files import atomic_folder
from edge_sser.model import cuda
from edge_sser.model.model import Model
from edge_sser.train.corpora.table import read_table, write_table
from edge_sser.train.fit.checkpoint import Checkpoint, load_checkpoint, save_checkpoint


@dataclass(frozen=True)
class Run:
    table: Path
    left_out: Path
    """Checkpoint of fold 1."""
    final: Path
    """Checkpoint of all speakers."""


@pytest.fixture(scope="module")
def run(toy_table: Path, toy_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("toy-run")
    arguments = ["--recipe", str(toy_recipe), "--out", str(out), "--threads", "1", "--fold", "1"]
    assert main(["train", "fit", str(toy_table), *arguments]) == 0
    return Run(toy_table, out / "fold-1" / "model.safetensors", out / "final" / "model.safetensors")


@pytest.fixture
def export(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bench, "BATCH_INFERENCES", {1: 3, 8: 2, 32: 2})

    def call(*arguments: str | Path, status: int = 0) -> tuple[str, str]:
        capsys.readouterr()
        assert main(["export", *map(str, arguments)]) == status
        said = capsys.readouterr()
        errors = [line for line in said.err.splitlines() if line.startswith("edge-sser: error:")]
        assert len(errors) == (1 if status else 0)
        assert "Traceback" not in said.err
        return said.out, errors[0] if errors else ""

    return call


def left_behind(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_files_cards_and_report_agree_on_what_was_made(run: Run, export, tmp_path: Path) -> None:
    out = tmp_path / "models"
    # Of the toy's eight test windows one may lie on the edge of a level: that is more than the gate forgives.
    asked = ["--int8", "--target", "all", "--calibration", run.table, "--allow-loss", "5"]
    rows = [{"corpus": "toy", "seconds": at, "windows": 50, "auroc": area} for at, area in ((0.5, 0.6), (3.0, 0.9))]
    evaluation = {"preset": "quadrant", "systems": {"toy": {"origin": {"system": "toy"}}}, "seconds_of_speech": rows}
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation), encoding="utf-8")
    asked += ["--evaluation", tmp_path / "evaluation.json"]
    printed, _ = export(run.left_out, "--out", out, *asked)
    names = ["toy.onnx", "toy.int8.onnx", "toy.int8-tensorrt.onnx"]
    assert sorted(left_behind(out)) == sorted([*names, "export-report.json", "export-report.md"])
    assert sorted(left_behind(tmp_path)) == ["evaluation.json", "models"]
    facts = json.loads((out / "export-report.json").read_text("utf-8"))
    assert facts["test"] == {"clips": 8, "speakers": 1, "strangers": True}
    assert facts["checkpoint"]["sha256"] == hashlib.sha256(run.left_out.read_bytes()).hexdigest()
    assert [item["file"] for item in facts["artefacts"]] == names
    for item in facts["artefacts"]:
        data = (out / item["file"]).read_bytes()
        assert (item["size_bytes"], item["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        assert item["sha256"][:8] in printed
    fp32, cpu, tensorrt = facts["artefacts"]
    assert [(each["threads"], each["batch"]) for each in cpu["latencies"]] == [
        (threads, batch) for threads in (1, 2) for batch in (1, 8, 32)
    ]
    assert all(each["p95_ms"] >= each["median_ms"] > 0 for each in (*fp32["latencies"], *cpu["latencies"]))
    assert tensorrt["latencies"] == []
    assert fp32["scores"]["agreement"] == 1.0
    assert facts["allowance"] == 5.0
    assert cpu["scores"]["agreement"] >= 0.85
    assert tensorrt["scores"]["agreement"] >= 0.85
    assert printed.strip() == (out / "export-report.md").read_text("utf-8").strip()

    parent = Model.load(out / "toy.onnx").card
    assert parent.quantisation is None
    assert parent.speech_trust == ((0.5, 0.25), (3.0, 1.0))
    assert parent.parity is not None
    assert parent.parity <= 1e-4
    data = draw_windows(split_speakers(load_checkpoint(run.left_out).header, read_table(run.table)).training)
    for name, target in zip(names[1:], ("cpu", "tensorrt"), strict=True):
        card = Model.load(out / name).card
        assert card.precision == "int8"
        assert card.parent_sha256 == fp32["sha256"]
        assert card.speech_trust == parent.speech_trust
        assert card.quantisation is not None
        assert card.quantisation["target"] == target
        assert card.quantisation["calibration"] == {
            "windows": len(data.calibration),
            "seed": data.seed,
            "sha256": data.sha256,
        }
        assert card.quantisation["float_nodes"] == next(
            each["float_nodes"] for each in facts["quantisation"] if each["target"] == target
        )


def test_no_held_out_speaker_is_drawn_from(run: Run) -> None:
    speakers = split_speakers(load_checkpoint(run.left_out).header, read_table(run.table))
    assert {utterance.fold for utterance in speakers.test} == {1}
    assert 1 not in {utterance.fold for utterance in speakers.training}
    assert draw_windows(speakers.training).sha256 == draw_windows(speakers.training).sha256
    assert draw_windows(speakers.training).sha256 != draw_windows(speakers.training, seed=2).sha256
    data = draw_windows(speakers.training)
    assert not any((window == other).all() for window in data.calibration for other in data.tuning)


def test_a_checkpoint_of_all_speakers_is_compared_on_known_voices_and_says_so(run: Run, export, tmp_path: Path) -> None:
    _, error = export(run.final, "--out", tmp_path / "a", "--int8", "--calibration", run.table, status=2)
    assert "trained on all speakers" in error
    assert "--test TABLE" in error
    printed, _ = export(run.final, "--out", tmp_path / "b", "--int8", "--calibration", run.table, "--held-out", "2")
    assert "not those of strangers" in printed
    assert json.loads((tmp_path / "b" / "export-report.json").read_text("utf-8"))["test"]["strangers"] is False


def test_a_damaged_int8_file_is_refused_with_the_table_unless_the_loss_is_allowed(
    run: Run, export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "find_range", lambda seen, method, symmetric: (-0.02 if symmetric else 0.0, 0.02))
    monkeypatch.setattr(choose, "MIN_AGREEMENT", 0.0)  # nothing goes back to float
    arguments = (run.left_out, "--int8", "--calibration", run.table)
    printed, error = export(*arguments, "--out", tmp_path / "refused", status=1)
    assert "| toy.int8.onnx |" in printed
    assert "level decisions differs, at most 0.0300" in error
    assert "--allow-loss" in error
    assert left_behind(tmp_path) == []
    export(*arguments, "--out", tmp_path / "allowed", "--allow-loss", "1000")
    assert json.loads((tmp_path / "allowed" / "export-report.json").read_text("utf-8"))["allowance"] == 1000.0


def test_what_int8_may_lose_is_exact() -> None:
    fp32 = Scores(ua=0.70, auroc=0.900, ece=0.1, agreement=1.0)
    assert Limits().violations(fp32, Scores(ua=0.69, auroc=0.895, ece=0.5, agreement=0.97)) == []
    assert Limits().violations(fp32, Scores(ua=0.75, auroc=0.950, ece=0.1, agreement=1.0)) == []
    for worse, told in (
        (Scores(ua=0.689, auroc=0.9, ece=0.1, agreement=1.0), "UA falls by 0.0110"),
        (Scores(ua=0.70, auroc=0.894, ece=0.1, agreement=1.0), "AUROC falls by 0.0060"),
        (Scores(ua=0.70, auroc=0.9, ece=0.1, agreement=0.969), "0.0310 of the level decisions"),
        (Scores(ua=float("nan"), auroc=0.9, ece=0.1, agreement=1.0), "UA falls by nan"),
    ):
        assert told in Limits().violations(fp32, worse)[0]
    assert Limits(2.0).violations(fp32, Scores(ua=0.681, auroc=0.891, ece=0.1, agreement=0.941)) == []
    assert Limits(0.0).violations(fp32, Scores(ua=0.6999, auroc=0.9, ece=0.1, agreement=1.0)) != []


def test_training_on_in_8_bits_mends_what_quantising_broke(
    run: Run, export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = choose.find_range
    narrow = 0.35  # of each range: the rest is cut off

    def cut(seen, method, symmetric: bool) -> tuple[float, float]:
        low, high = found(seen, method, symmetric=symmetric)
        return narrow * low, narrow * high

    monkeypatch.setattr(choose, "find_range", cut)
    monkeypatch.setattr(choose, "MIN_AGREEMENT", 0.0)  # nothing goes back to float
    # Of eight toy windows one may lie on the edge of a level, depending on the processor: the same wide gate for both.
    arguments = (run.left_out, "--int8", "--calibration", run.table, "--allow-loss", "5")
    _, error = export(*arguments, "--out", tmp_path / "refused", status=1)
    assert "--qat" in error
    trained = ("--qat", "10", "--cache", run.left_out.parent.parent / "cache")
    printed, _ = export(*arguments, *trained, "--out", tmp_path / "mended")
    assert "trained on in 8 bits for 10 epochs (seed 1)" in printed
    report = json.loads((tmp_path / "mended" / "export-report.json").read_text("utf-8"))
    (quantisation,) = report["quantisation"]
    assert quantisation["error"] < 0.3 * min(quantisation["error_by_method"].values())
    card = Model.load(tmp_path / "mended" / "toy.int8.onnx").card
    assert card.quantisation is not None
    assert card.quantisation["qat"] == report["qat"] == {"epochs": 10, "seed": 1}


def test_training_on_gives_the_same_file_twice_and_shows_how_long_it_takes(run: Run, tmp_path: Path, capfd) -> None:
    made = []
    for name in ("one", "two"):
        out = tmp_path / name
        arguments = ["--int8", "--qat", "1", "--calibration", str(run.table), "--out", str(out)]
        assert main(["export", str(run.left_out), *arguments]) == 0
        model = onnx.load(out / "toy.int8.onnx")
        del model.metadata_props[:]  # the card has the time of its making
        made.append(model.SerializeToString())
    assert made[0] == made[1]
    said = capfd.readouterr()
    assert "in 8 bits: 100%" in said.err
    assert "in 8 bits:" not in said.out


def test_a_corpus_without_emotions_or_of_one_stress_class_is_judged_by_what_it_has(run: Run, tmp_path: Path) -> None:
    models = {"model": Model.load()}
    known = [utterance for utterance in read_table(run.table) if utterance.fold == 1]
    calm = [replace(utterance, corpus="calm", emotion="", stress=0.0) for utterance in known[:3]]
    both = [replace(each, corpus="stress only", emotion="", stress=float(each.emotion == "angry")) for each in known]
    alone, beside = score_models(models, known)["model"], score_models(models, [*known, *calm])["model"]
    assert (alone.ua, alone.auroc) == (beside.ua, beside.auroc)
    assert score_models(models, both)["model"].ua is None
    assert score_models(models, both)["model"].auroc == alone.auroc
    nothing = Scores(ua=None, auroc=0.9, ece=0.1, agreement=1.0)
    assert Limits().violations(nothing, nothing) == []
    with pytest.raises(TrainingError, match="no AUROC can be computed"):
        score_models(models, calm)


def test_calibration_data_that_overlaps_the_test_speakers_is_refused(run: Run, export, tmp_path: Path) -> None:
    arguments = ("--int8", "--calibration", run.table, "--out", tmp_path / "out", "--test")
    _, error = export(run.left_out, *arguments, run.table, status=1)
    assert "stands in fold" in error
    utterances = read_table(run.table)
    renamed = [utterance for utterance in utterances if utterance.fold == 2][:1]
    write_table(tmp_path / "test.csv", [replace(utterance, speaker="somebody else") for utterance in renamed])
    _, error = export(run.left_out, *arguments, tmp_path / "test.csv", status=1)
    assert "is the same recording as" in error
    assert left_behind(tmp_path) == ["test.csv"]


def test_a_table_of_other_recordings_is_refused(run: Run, export, tmp_path: Path) -> None:
    write_table(tmp_path / "other.csv", read_table(run.table)[:-1])
    _, error = export(
        run.left_out, "--int8", "--calibration", tmp_path / "other.csv", "--out", tmp_path / "out", status=1
    )
    assert "trained on other recordings" in error


def test_test_speakers_without_any_stress_cannot_judge(run: Run, export, tmp_path: Path) -> None:
    calm = [
        replace(utterance, speaker="calm one")
        for utterance in read_table(run.table)
        if utterance.fold == 1 and utterance.emotion == "calm"
    ]
    write_table(tmp_path / "calm.csv", calm)
    _, error = export(
        run.left_out, "--int8", "--calibration", run.table, "--test", tmp_path / "calm.csv", "--out",
        tmp_path / "out", status=1,
    )  # fmt: skip
    assert "no AUROC can be computed" in error
    assert left_behind(tmp_path) == ["calm.csv"]


def test_it_is_said_once_whom_to_judge_by(run: Run, export, tmp_path: Path) -> None:
    judges = ("--test", run.table, "--held-out", "1")
    _, error = export(run.left_out, "--int8", "--calibration", run.table, *judges, "--out", tmp_path / "out", status=2)
    assert "--test and --held-out both name test speakers" in error


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--int8",), "--calibration"),
        (("--target", "cpu"), "belong to --int8"),
        (("--allow-loss", "2"), "belong to --int8"),
        (("--qat", "2"), "belong to --int8"),
        (("--int8", "--allow-loss", "inf"), "--allow-loss inf: expected a number"),
        (("--int8", "--cache", "x"), "--cache belongs to --qat"),
        (("--int8", "--held-out", "9"), "the folds 1, 2, 3, 4, 5, 6"),
        (("--int8", "--held-out", "3"), "the checkpoint left out fold 1"),
    ],
)
def test_flags_that_do_not_fit_together(
    run: Run, export, tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    table = ("--calibration", run.table) if "--held-out" in arguments else ()
    _, error = export(run.left_out, "--out", tmp_path / "out", *arguments, *table, status=2)
    assert told in error


@pytest.mark.parametrize("version", ["10.3.0"])
def test_where_tensorrt_is_an_engine_is_built_of_the_graph_that_was_scored(
    board: Board, run: Run, export, tmp_path: Path
) -> None:
    out = tmp_path / "models"
    printed, _ = export(run.left_out, "--out", out, "--int8", "--target", "tensorrt", "--calibration", run.table)
    graph = out / "toy.int8-tensorrt.onnx"
    assert f"TensorRT {board.version}, int8, logits within" in printed
    engine, reference = Model.load(graph), Model.load(graph, runtime="cpu")
    assert (engine.provider, reference.provider) == ("TensorRT engine", "CPUExecutionProvider")
    windows = np.random.default_rng(0).normal(-60.0, 20.0, (9, 300, 64)).astype(np.float32)
    for found, expected in zip(engine.logits(windows), reference.logits(windows), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("version", ["10.3.0"])
def test_an_engine_passes_the_gate_or_is_removed(
    board: Board, run: Run, export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("--int8", "--target", "tensorrt", "--calibration", run.table)
    printed, _ = export(run.left_out, "--out", tmp_path / "good", *asked)
    assert "% of the levels agree with FP32" in printed
    assert len([*board.engines.glob("*.engine")]) == 1
    shutil.rmtree(board.engines)
    monkeypatch.setenv("STAND_IN_TENSORRT_WRONG", "0.45")  # too little for the comparison of logits to see
    monkeypatch.setattr(int8_module, "_violations", lambda artefacts, limits: [])
    printed, error = export(run.left_out, "--out", tmp_path / "bad", *asked, status=1)
    assert "the engine is not what FP32 is: a share of" in error
    assert "it was removed, the model files stand" in error
    assert [*board.engines.glob("*.engine")] == []
    assert (tmp_path / "bad" / "toy.int8-tensorrt.onnx").exists()


@pytest.mark.parametrize("version", ["10.3.0"])
def test_a_board_without_a_gpu_is_told_before_anything_takes_minutes(
    board: Board, run: Run, export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "LIBRARY", "libcuda-is-not-here.so")
    asked = ("--int8", "--calibration", run.table)
    printed, error = export(run.left_out, "--out", tmp_path / "one", *asked, "--target", "tensorrt", status=1)
    assert "TensorRT cannot be used here (no NVIDIA driver" in error
    assert (printed, left_behind(tmp_path)) == ("", [])
    export(run.left_out, "--out", tmp_path / "all", *asked, "--target", "all", "--allow-loss", "5")
    assert "toy.int8-tensorrt.onnx" in left_behind(tmp_path / "all")


def test_without_tensorrt_its_target_says_what_to_install(run: Run, export, tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("TensorRT is installed here")
    _, error = export(
        run.left_out, "--out", tmp_path / "out", "--int8", "--target", "tensorrt", "--calibration", run.table, status=1
    )
    assert 'pip install "edge-sser[tensorrt]"' in error
    assert "JetPack" in error
    assert left_behind(tmp_path) == []


def test_an_operator_that_the_target_lacks_is_named_with_its_node_and_nothing_remains(
    run: Run, export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt, "OPERATORS", tensorrt.OPERATORS - {"Softmax"})
    _, error = export(
        run.left_out, "--out", tmp_path / "out", "--int8", "--target", "all", "--calibration", run.table, status=1
    )
    assert "node node_softmax (Softmax): TensorRT has no operator Softmax" in error
    assert left_behind(tmp_path) == []


def test_a_folder_that_is_not_empty_or_cannot_be_made(run: Run, export, tmp_path: Path) -> None:
    arguments = ("--int8", "--calibration", run.table, "--out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine", encoding="utf-8")
    _, error = export(run.left_out, *arguments, tmp_path / "full", status=2)
    assert "not empty" in error
    assert left_behind(tmp_path / "full") == ["mine.txt"]
    _, error = export(run.left_out, *arguments, tmp_path / "full" / "mine.txt", status=2)
    assert "a file of that name" in error
    _, error = export(run.left_out, *arguments, tmp_path / "full" / "mine.txt" / "below", status=1)
    assert "cannot be written" in error


def test_a_folder_is_made_behind_a_link_and_not_where_it_could_not_be_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    with atomic_folder(tmp_path / "link", ModelError) as folder:
        (folder / "made").touch()
    assert left_behind(tmp_path / "disk") == ["made"]
    assert (tmp_path / "link").is_symlink()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UsageError, match="cannot be replaced"), atomic_folder(Path(), ModelError):
        pytest.fail("it was asked to write")
    monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path / "disk2")
    (tmp_path / "disk2").mkdir()
    with pytest.raises(UsageError, match="cannot be replaced"), atomic_folder(tmp_path / "disk2", ModelError):
        pytest.fail("it was asked to write")
    assert sorted(left_behind(tmp_path)) == ["disk", "disk2", "here", "link"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_no_folder(tmp_path: Path, number: signal.Signals) -> None:
    def write() -> None:
        with atomic_folder(tmp_path / "models", ModelError) as folder:
            (folder / "half").touch()
            signal.raise_signal(number)

    with pytest.raises(KeyboardInterrupt):
        write()
    assert left_behind(tmp_path) == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


class Trap:
    """A pickle that would write a file when loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


def test_checkpoints_that_cannot_be_used(run: Run, export, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out", "--int8", "--calibration", run.table)
    _, error = export(tmp_path / "gone.safetensors", *out, status=1)
    assert "gone.safetensors" in error

    whole = run.left_out.read_bytes()
    torn = tmp_path / "torn.safetensors"
    for length in (0, 7, 200, len(whole) // 2, len(whole) - 1):
        torn.write_bytes(whole[:length])
        _, error = export(torn, *out, status=1)
        assert "damaged" in error

    pickled = tmp_path / "pickled.safetensors"
    pickled.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    _, error = export(pickled, *out, status=1)
    assert "damaged or not a checkpoint" in error
    assert not (tmp_path / "sprung").exists()

    other = tmp_path / "other.safetensors"
    checkpoint = load_checkpoint(run.left_out)
    tensors = {f"encoder.{name}": tensor for name, tensor in checkpoint.tensors.items()}
    save_checkpoint(other, Checkpoint(tensors, checkpoint.header))
    _, error = export(other, *out, status=1)
    assert "not a trained student of this version" in error
    assert not (tmp_path / "out").exists()


def test_the_levels_of_windows_are_those_of_the_card() -> None:
    card = Model.load().card
    logits = np.linspace(-6, 6, 200)
    probabilities = np.array([card.calibration.probability(float(value)) for value in logits])
    found = choose.levels(card, logits)
    assert (found == (probabilities >= card.elevated).astype(int) + (probabilities >= card.high)).all()
    assert set(found.tolist()) == {0, 1, 2}
