"""Nothing is kept and nobody is told: not even by the libraries underneath."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from edge_sser.model.onnx_backend import onnx_runtime


def test_a_run_leaves_nothing_in_the_home_folder(speech: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for name in ("EDGE_SSER_CONFIG", "ORT_DISABLE_TELEMETRY"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "edge_sser.cli", "listen", "--source", str(speech), "--no-pace"]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b'"reading"' in done.stdout
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_onnx_runtime_is_imported_in_one_place_only() -> None:
    root = Path(__file__).parents[1]
    found = [
        path.relative_to(root).as_posix()
        for folder in ("edge_sser", "train", "export", "benchmarks")
        for path in (root / folder).rglob("*.py")
        if "    import onnxruntime" in path.read_text("utf-8").replace("if TYPE_CHECKING:\n    import onnxruntime", "")
        or "\nimport onnxruntime" in path.read_text("utf-8")
    ]
    assert found == []
    assert onnx_runtime().__name__ == "onnxruntime"
