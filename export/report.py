"""What an export made, as JSON and as a table: sizes, hashes, parity, scores, latencies."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_sser.commands.latency import Latency, latency_table
from edge_sser.export.verify import Scores

JSON_FILE = "export-report.json"
TABLE_FILE = "export-report.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """One file.

    Attributes:
        file: its name.
        made_for: fp32, cpu or tensorrt.
        size_bytes: of the file.
        sha256: of the file.
        parity: largest difference of a logit: of the FP32 file from the checkpoint, of INT8 from FP32.
        scores: on the held-out speakers, None where none were scored.
        latencies: on this machine's CPU; empty for a file that is made for something else.
    """

    file: str
    made_for: str
    size_bytes: int
    sha256: str
    parity: float
    scores: Scores | None
    latencies: Sequence[Latency]


def make_artefact(
    path: Path, made_for: str, parity: float, scores: Scores | None, latencies: Sequence[Latency]
) -> Artefact:
    """Describes a file."""
    data = path.read_bytes()
    return Artefact(
        file=path.name,
        made_for=made_for,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        parity=parity,
        scores=scores,
        latencies=latencies,
    )


def table(artefacts: Sequence[Artefact]) -> str:
    """The artefacts as Markdown: what they are, what they score, what they cost."""
    lines = [
        "| file | kB | sha256 | logits differ by | UA % | stress AUROC | ECE | levels agree % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for item in artefacts:
        scores = item.scores
        cells = (
            (
                "-" if scores.ua is None else f"{100 * scores.ua:.2f}",
                f"{scores.auroc:.4f}",
                f"{scores.ece:.4f}",
                f"{100 * scores.agreement:.2f}",
            )
            if scores
            else ("-", "-", "-", "-")
        )
        lines.append(
            f"| {item.file} | {item.size_bytes / 1000:.0f} | {item.sha256[:8]} | {item.parity:.1e} | "
            + " | ".join(cells)
            + " |"
        )
    timed = {item.file: item.latencies for item in artefacts if item.latencies}
    if timed:
        lines += ["", latency_table(timed)]
    return "\n".join(lines)


def write_report(folder: Path, artefacts: Sequence[Artefact], facts: Mapping[str, Any], remarks: Sequence[str]) -> None:
    """Writes the report in both forms.

    Args:
        folder: to write into.
        artefacts: the files.
        facts: what else belongs into the JSON.
        remarks: lines below the table.
    """
    values = {
        **facts,
        "machine": machine(),
        "remarks": list(remarks),
        "artefacts": [asdict(item) for item in artefacts],
    }
    (folder / JSON_FILE).write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    text = "\n\n".join([table(artefacts), *remarks])
    (folder / TABLE_FILE).write_text(text + "\n", encoding="utf-8")


def machine() -> str:
    """The processor, and whether it multiplies 8-bit numbers in one step."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.lower().startswith("model name")), "")
    flags = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    known = {"avx512_vnni", "avx_vnni", "asimddp"} & set(flags.split())
    return f"{model or platform.machine()}, {', '.join(sorted(known)) or 'no 8-bit dot products'}"
