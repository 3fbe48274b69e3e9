"""Choice of the backend: a valid engine, else ONNX Runtime, with the reason in the log."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from models import changed_card, write_model
from tensorrt_board import Board
from unprivileged import as_ordinary_user, folder_for_all

from edge_sser.cli import main
from edge_sser.errors import ModelError
from edge_sser.model.engine_file import (
    EngineFile,
    EngineKey,
    engine_path,
    engines_folder,
    read_engine,
    write_engine,
)
from edge_sser.model.model import Model
from edge_sser.pipeline.features import FEATURES

CPU = "CPUExecutionProvider"


def windows(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(-60.0, 20.0, (count, FEATURES.frames, FEATURES.bands)).astype(np.float32)


@pytest.fixture
def loaded(caplog: pytest.LogCaptureFixture) -> Callable[..., tuple[Model, str]]:
    """Loads a model, and returns it with the one line that the log has on it."""

    def load(*arguments: Path, **options: object) -> tuple[Model, logging.LogRecord]:
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="edge_sser.model"):
            model = Model.load(*arguments, **options)  # type: ignore[arg-type]
        (record,) = [record for record in caplog.records if record.name == "edge_sser.model"]
        return model, record

    return load


def test_a_valid_engine_is_taken_and_gives_the_same_scores(board: Board, model: Path, engine: Path, loaded) -> None:
    taken, record = loaded(model)
    assert taken.provider == "TensorRT engine"
    assert record.levelno == logging.INFO
    assert f"{taken.label} is computed by an engine" in record.getMessage()
    reference, record = loaded(model, runtime="cpu")
    assert reference.provider == CPU
    assert "(runtime = cpu)" in record.getMessage()
    assert taken.label == reference.label
    assert taken.card == reference.card
    for window in windows(5):
        assert taken.score(window).stress == reference.score(window).stress


@pytest.mark.parametrize("count", [1, 3, 8, 9, 20])
def test_any_batch_goes_through_buffers_that_are_there_once(
    board: Board, model: Path, engine: Path, count: int
) -> None:
    taken, reference = Model.load(model, runtime="engine"), Model.load(model, runtime="cpu")
    before = board.memory()
    for _ in range(3):
        for found, expected in zip(taken.logits(windows(count)), reference.logits(windows(count)), strict=True):
            np.testing.assert_array_equal(found, expected)
    assert board.memory() == before


def test_windows_of_another_length_are_refused(board: Board, model: Path, engine: Path) -> None:
    with pytest.raises(ModelError, match=r"windows are \[200, 64\], expected \[300, 64\]"):
        Model.load(model, runtime="engine").logits(windows(1)[:, :200])


def test_without_an_engine_it_is_onnx_runtime_without_a_warning(board: Board, model: Path, loaded) -> None:
    taken, record = loaded(model)
    assert (taken.provider, record.levelno) == (CPU, logging.INFO)
    assert f"no engine: there is no {board.engines}" in record.getMessage()
    assert board.memory() == []
    assert "tensorrt" not in sys.modules


def of_another_model(engine: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(model, centre_db=44.0)
    engine.rename(engine_path(engine.parent, Model.load(model, runtime="cpu").sha256))


def of_another_version(engine: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorrt

    monkeypatch.setattr(tensorrt, "__version__", "10.9.0")


def of_another_gpu(engine: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_CUDA_NAME", "Thor")


def of_another_batch(engine: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_sser.model.tensorrt_backend.MAX_BATCH", 16)


def cut_short(engine: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.write_bytes(engine.read_bytes()[:-1])


def cut_in_its_header(engine: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.write_bytes(engine.read_bytes()[:100])


def empty(engine: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.write_bytes(b"")


def garbage(engine: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.write_bytes(np.random.default_rng(0).bytes(100_000))


def other_json(engine: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.write_bytes(b'{"edge_sser_engine": 1, "key": {"model_sha256": 3}}\n')


def of_a_later_format(engine: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.write_bytes(engine.read_bytes().replace(b'"edge_sser_engine": 1', b'"edge_sser_engine": 2', 1))


def writable_by_all(engine: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.chmod(0o666)


def a_pipe(engine: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.unlink()
    os.mkfifo(engine)


def what_tensorrt_does_not_take(engine: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = read_engine(engine, Model.load(model, runtime="cpu").sha256)
    write_engine(engine, EngineFile(key=file.key, card=file.card, data=b"no engine"))


def with_a_damaged_card(engine: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = read_engine(engine, Model.load(model, runtime="cpu").sha256)
    write_engine(engine, EngineFile(key=file.key, card="{}", data=file.data))


def with_other_outputs(engine: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = read_engine(engine, Model.load(model, runtime="cpu").sha256)
    card = changed_card(emotions=("glad", "sad")).to_json()
    write_engine(engine, EngineFile(key=file.key, card=card, data=file.data))


def without_numbers(engine: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = read_engine(engine, Model.load(model, runtime="cpu").sha256)
    other = write_model(model.with_name("lost.onnx"), slope=np.nan)
    data = file.data.partition(b"\n")[0] + b"\n" + other.read_bytes()
    write_engine(engine, EngineFile(key=file.key, card=file.card, data=data))


def without_memory(engine: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_sser.model.tensorrt_backend.math.prod", lambda shape: 1 << 40)


def without_a_gpu(engine: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_CUDA_NONE", "1")


def without_a_driver(engine: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_sser.model.cuda.LIBRARY", "libcuda.so.none")


def without_tensorrt(engine: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (of_another_model, "it was built from another model file"),
        (of_another_version, "its tensorrt is {version}, here 10.9.0"),
        (of_another_gpu, "its gpu is Orin, here Thor"),
        (of_another_batch, "its batch is 8, here 16"),
        (cut_short, "its sha256 is not what its header says"),
        (cut_in_its_header, "it is damaged"),
        (empty, "it is damaged"),
        (garbage, "it is damaged"),
        (other_json, "it is damaged"),
        (of_a_later_format, "no engine of this version"),
        (writable_by_all, "another user could have written it"),
        (a_pipe, "it is no file"),
        (what_tensorrt_does_not_take, "TensorRT does not take it (this is no engine)"),
        (with_a_damaged_card, "its card is damaged"),
        (with_other_outputs, "its emotion_logits has the shape [-1, 8], expected [-1, 2]"),
        (without_numbers, "it does not compute the model"),
        (without_memory, "CUDA_ERROR_OUT_OF_MEMORY"),
        (without_a_gpu, "CUDA_ERROR_NO_DEVICE"),
        (without_a_driver, "no NVIDIA driver can be loaded"),
        (without_tensorrt, "TensorRT cannot be imported"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_an_engine_that_cannot_be_used_is_a_miss_with_one_line(
    board: Board, model: Path, engine: Path, loaded, monkeypatch: pytest.MonkeyPatch, spoil, expected: str
) -> None:
    spoil(engine, model, monkeypatch)
    taken, record = loaded(model)
    assert (taken.provider, record.levelno) == (CPU, logging.WARNING)
    assert expected.format(version=board.version) in record.getMessage()
    assert len(record.getMessage().splitlines()) == 1
    assert taken.score(windows(1)[0]).stress == Model.load(model, runtime="cpu").score(windows(1)[0]).stress
    with pytest.raises(ModelError) as caught:
        Model.load(model, runtime="engine")
    assert expected.format(version=board.version) in str(caught.value)
    assert "--target tensorrt" in str(caught.value)


def test_what_a_refused_engine_took_of_the_gpu_is_given_back(
    board: Board, model: Path, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_numbers(engine, model, monkeypatch)
    before = len(board.memory())
    Model.load(model)
    after = [line.split() for line in board.memory()[before:]]
    taken, given = (sorted(size for word, size in after if word == what) for what in ("allocated", "freed"))
    assert len(taken) == 3
    assert taken == given


@pytest.mark.parametrize("version", ["10.3.0"])
def test_a_folder_that_cannot_be_read_is_a_miss(board: Board, model: Path, engine: Path, loaded) -> None:
    with folder_for_all() as folder:
        (folder / "tiny.onnx").write_bytes(model.read_bytes())
        (folder / "engines").mkdir(mode=0o700)
        (folder / "engines" / engine.name).write_bytes(engine.read_bytes())
        Model.load(folder / "tiny.onnx", runtime="cpu")  # imports modules that the user nobody cannot read
        with as_ordinary_user():
            taken, record = loaded(folder / "tiny.onnx", engines=folder / "engines")
    assert (taken.provider, record.levelno) == (CPU, logging.WARNING)
    assert "Permission denied" in record.getMessage()


@pytest.mark.parametrize("version", ["10.3.0"])
def test_a_folder_that_cannot_be_written_is_told(board: Board, model: Path, build) -> None:
    build(model)  # imports modules that the user nobody cannot read
    with folder_for_all() as folder:
        (folder / "tiny.onnx").write_bytes(model.read_bytes())
        with as_ordinary_user():
            _, err = build(folder / "tiny.onnx", "--engines", folder / "engines", status=1)
        assert "cannot be written (Permission denied)" in err
        assert [path.name for path in folder.iterdir()] == ["tiny.onnx"]


def test_what_another_user_wrote_is_not_run(board: Board, model: Path, engine: Path, loaded) -> None:
    if os.geteuid() != 0:
        pytest.fail("run as root: only root can give a file away")
    os.chown(engine, 65_534, 65_534)
    assert "another user could have written it" in loaded(model)[1].getMessage()


def test_where_engines_are(tmp_path: Path) -> None:
    service = {"CACHE_DIRECTORY": "/var/cache/edge-sser:/other", "XDG_CACHE_HOME": "/x"}
    assert engines_folder(None, service) == Path("/var/cache/edge-sser/engines")
    assert engines_folder(None, {"XDG_CACHE_HOME": "/x"}) == Path("/x/edge-sser/engines")
    assert engines_folder(None, {"XDG_CACHE_HOME": "relative"}) == Path.home() / ".cache" / "edge-sser" / "engines"
    assert engines_folder(tmp_path, service) == tmp_path


def test_a_key_says_what_differs_first() -> None:
    key = EngineKey(
        model_sha256="a", tensorrt="10.3.0", gpu="Orin", compute_capability="8.7", precision="int8", batch=8
    )
    assert key.difference(key) == ""


def test_listening_takes_the_engine_and_hears_the_same(board: Board, model: Path, engine: Path, speech: Path) -> None:
    command = [sys.executable, "-m", "edge_sser.cli", "analyze", speech, "--model", model, "--runtime"]
    said = {}
    for runtime in ("engine", "cpu"):
        done = subprocess.run([*command, runtime], env=board.environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        said[runtime] = done.stdout
    assert said["engine"] == said["cpu"]
    assert '"stress":0.' in said["engine"]
    listen = [sys.executable, "-m", "edge_sser.cli", "listen", "--source", speech, "--no-pace", "--model", model]
    done = subprocess.run(
        [*listen, "--log-level", "info"], env=board.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "is computed by an engine that was built for this machine" in done.stderr
    scores = [json.loads(line)["stress"] for line in done.stdout.splitlines() if '"reading"' in line]
    expected = [json.loads(line)["stress"] for line in said["cpu"].splitlines() if '"reading"' in line]
    assert scores == expected


def test_doctor_says_what_computes_the_model(board: Board, model: Path, engine: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("EDGE_SSER_MODEL_PATH", str(model))
    main(["doctor"])
    out = capsys.readouterr().out
    assert "computed by TensorRT engine" in out
    assert "; TensorRT: can be used on Orin (8.7)" in out


@pytest.mark.parametrize("version", ["11.4.0.106"])
def test_bench_says_what_computed(board: Board, model: Path, engine: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("edge_sser.commands.bench.INFERENCES", 3)
    monkeypatch.setattr("edge_sser.commands.bench.BATCH_INFERENCES", {1: 3, 8: 2, 32: 2})
    assert main(["bench", str(model), "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["computed_by"].values()) == ["TensorRT engine"]
    assert main(["bench", str(model), "--json", "--runtime", "cpu"]) == 0
    assert list(json.loads(capsys.readouterr().out)["computed_by"].values()) == [CPU]
    assert main(["bench", str(model), "--runtime", "tpu"]) == 2
