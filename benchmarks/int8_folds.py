"""Table of the loss of INT8 on strangers' voices, from the export reports of several folds.

Each folder comes from `edge-sser export RUN/fold-K/model.safetensors --int8 --target all --calibration TABLE`, which
judges by speakers that the checkpoint was not trained on.
usage: python benchmarks/int8_folds.py FOLDER... [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean
from typing import Any

SCORES = ("ua", "auroc", "ece", "agreement")


def read_reports(folders: list[Path]) -> dict[str, list[dict[str, Any]]]:
    """Reads the figures of each file, one entry per fold."""
    found: dict[str, list[dict[str, Any]]] = {}
    for folder in folders:
        report = json.loads((folder / "export-report.json").read_text(encoding="utf-8"))
        if not report["test"]["strangers"]:
            raise SystemExit(f"{folder}: its checkpoint was trained on the test speakers: give folders of folds")
        for item in report["artefacts"]:
            scores = {name: item["scores"][name] for name in SCORES}
            found.setdefault(item["file"], []).append(
                {"fold": folder.name, "bytes": item["size_bytes"], "clips": report["test"]["clips"], **scores}
            )
    return found


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    """Formats means over folds as Markdown, with the largest loss of any fold against the first file, which is FP32."""
    lines = [
        "| file | kB | UA % | largest loss | stress AUROC | largest loss | ECE | levels agree % (least) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    fp32 = next(iter(found.values()))
    for file, folds in found.items():
        means = {name: mean(fold[name] for fold in folds) for name in SCORES}
        loss = {name: max(a[name] - b[name] for a, b in zip(fp32, folds, strict=True)) for name in SCORES}
        lines.append(
            f"| {file} | {mean(fold['bytes'] for fold in folds) / 1000:.0f} | {100 * means['ua']:.2f} "
            f"| {100 * loss['ua']:.2f} | {means['auroc']:.4f} | {loss['auroc']:.4f} | {means['ece']:.4f} "
            f"| {100 * means['agreement']:.2f} ({100 * min(fold['agreement'] for fold in folds):.2f}) |"
        )
    return "\n".join(lines)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--json", type=Path, help="figures of each fold")
    options = parser.parse_args()
    found = read_reports(options.folders)
    print(table(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
