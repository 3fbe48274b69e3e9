"""What INT8 costs on strangers' voices: the export reports of several folds as one table.

Each folder is what `edge-sser export RUN/fold-K/model.safetensors --int8 --target all --calibration TABLE` made: judged
by the speakers whom that checkpoint never heard.
usage: python benchmarks/int8_folds.py FOLDER... [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean
from typing import Any

SCORES = ("ua", "auroc", "ece", "agreement")


def read(folders: list[Path]) -> dict[str, list[dict[str, Any]]]:
    """Figures of each file, a fold each."""
    found: dict[str, list[dict[str, Any]]] = {}
    for folder in folders:
        report = json.loads((folder / "export-report.json").read_text(encoding="utf-8"))
        if not report["test"]["strangers"]:
            raise SystemExit(f"{folder}: its checkpoint knows the voices that it was judged by: give folders of folds")
        for item in report["artefacts"]:
            scores = {name: item["scores"][name] for name in SCORES}
            found.setdefault(item["file"], []).append(
                {"fold": folder.name, "bytes": item["size_bytes"], "clips": report["test"]["clips"], **scores}
            )
    return found


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    """The means over folds as Markdown, and the largest loss of any fold against the first file, which is FP32."""
    lines = [
        "| file | kB | UA % | largest loss | stress AUROC | largest loss | ECE | levels agree % (least) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    fp32 = next(iter(found.values()))
    for file, folds in found.items():
        value = {name: mean(fold[name] for fold in folds) for name in SCORES}
        lost = {name: max(a[name] - b[name] for a, b in zip(fp32, folds, strict=True)) for name in SCORES}
        lines.append(
            f"| {file} | {mean(fold['bytes'] for fold in folds) / 1000:.0f} | {100 * value['ua']:.2f} "
            f"| {100 * lost['ua']:.2f} | {value['auroc']:.4f} | {lost['auroc']:.4f} | {value['ece']:.4f} "
            f"| {100 * value['agreement']:.2f} ({100 * min(fold['agreement'] for fold in folds):.2f}) |"
        )
    return "\n".join(lines)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--json", type=Path, help="figures of each fold")
    asked = parser.parse_args()
    found = read(asked.folders)
    print(table(found))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
