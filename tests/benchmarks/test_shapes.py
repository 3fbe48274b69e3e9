"""benchmarks/shapes.py runs, and what its shapes are made of can be exported and quantised."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SHAPES = Path(__file__).parents[2] / "benchmarks" / "shapes.py"


def test_a_quick_sweep_prints_a_row_for_each_shape_and_writes_what_it_measured(tmp_path: Path) -> None:
    written = tmp_path / "shapes.json"
    names = ["as shipped", "groups of 12", "depthwise", "average pools", "max pools", "SiLU", "mean pool", "flatten"]
    only = [argument for name in names for argument in ("--only", name)]
    ran = subprocess.run(
        [sys.executable, str(SHAPES), "--quick", "--json", str(written), *only],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = ran.stdout.splitlines()[2:]
    found = json.loads(written.read_text("utf-8"))
    assert [shape["name"] for shape in found["shapes"]] == names
    assert all(row.startswith(f"| {name} |") for name, row in zip(names, rows, strict=True))
    shipped = found["shapes"][0]
    assert (shipped["name"], shipped["parameters"]) == ("as shipped", 139_223)
    assert 32e6 < shipped["multiplications"] < 34e6
    assert all(shape["int8_kb"] < shape["fp32_kb"] for shape in found["shapes"])
    assert all(shape["fp32_ms"] > 0 and shape["int8_ms"] > 0 for shape in found["shapes"])
    assert found["machine"]
