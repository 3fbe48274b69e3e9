"""FP32 and INT8 files of a model with a report, written only if they agree on held-out speakers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edge_sser.commands.bench import Latency, describe_cpu, latency_table, measure_latencies
from edge_sser.errors import ModelError
from edge_sser.export.calibration import CalibrationData, SpeakerSplit, draw_windows
from edge_sser.export.choose import Choice, choose
from edge_sser.export.engine import inspect_layers
from edge_sser.export.gate import Limits, RefusedError, Scores, score_models
from edge_sser.export.onnx import write_model
from edge_sser.export.qat import Qat
from edge_sser.export.quantize import Target
from edge_sser.export.smooth import observe_channels, smooth
from edge_sser.export.tensorrt import check_tensorrt_graph, with_half_precision
from edge_sser.files import atomic_folder
from edge_sser.model.model import CARD_KEY, Model

SUFFIXES = {Target.CPU: ".int8.onnx", Target.TENSORRT: ".int8-tensorrt.onnx"}
JSON_FILE = "export-report.json"
TABLE_FILE = "export-report.md"
QAT_EPOCHS = 5  # recommended where INT8 loses too much
KNOWN_VOICES = (
    "The checkpoint was trained on these speakers too: only the differences between the files mean something, the "
    "scores are not those of strangers."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """Row of the report: one file.

    Attributes:
        made_for: fp32, cpu or tensorrt.
        parity: largest difference of a logit: of the FP32 file from the checkpoint, of INT8 from FP32.
        scores: on the held-out speakers.
        latencies: on this machine's CPU; empty for a file that is made for something else.
    """

    file: str
    made_for: str
    size_bytes: int
    sha256: str
    parity: float
    scores: Scores
    latencies: Sequence[Latency]


def export_int8(
    write_fp32: Callable[[Path], float],
    name: str,
    out: Path,
    *,
    checkpoint: Path,
    targets: Sequence[Target],
    speakers: SpeakerSplit,
    limits: Limits,
    progress: Callable[[str], None],
    float_nodes: Sequence[str] = (),
    qat: Qat | None = None,
) -> str:
    """Writes the FP32 file, an INT8 file for each target, and the report into a new folder.

    Args:
        write_fp32: writes the FP32 file at a path and returns its difference from the checkpoint.
        name: name of the model.
        out: folder to make.
        checkpoint: file of the checkpoint, for the report.
        targets: runtimes to quantise for.
        speakers: utterances to calibrate on, and to judge by.
        limits: limits on the loss of INT8.
        progress: callback with a line of text before each step.
        float_nodes: nodes that stay in float, beside those that the search finds.
        qat: quantisation-aware training of each INT8 file; None for none.

    Returns:
        The table and its remarks.

    Raises:
        UsageError: a node of `float_nodes` is not in the graph.
        ModelError: a file loses more than allowed (RefusedError), or TensorRT cannot read it; no folder is made.
    """
    with atomic_folder(out, ModelError) as folder:
        fp32 = folder / f"{name}.onnx"
        parity = write_fp32(fp32)
        progress(f"drawing windows of {len(speakers.training)} recordings")
        data = draw_windows(speakers.training)
        loaded = onnx.load(fp32)
        model = smooth(loaded, observe_channels(loaded, data.calibration))
        choices: dict[Path, Choice] = {}
        for target in targets:
            progress(f"quantising for {target.value}")
            path = folder / f"{name}{SUFFIXES[target]}"
            choices[path] = _quantise(fp32, model, path, target, data, float_nodes, qat)
        artefacts = _measure(fp32, parity, choices, data, speakers, progress)
        remarks = _remarks(speakers, data, choices, qat)
        text = "\n\n".join([table(artefacts), *remarks])
        violations = _violations(artefacts, limits)
        if violations:
            raise _refusal(text, violations, qat)
        facts: dict[str, Any] = {
            "checkpoint": {"file": checkpoint.name, "sha256": _sha256(checkpoint)},
            "calibration": data.describe(),
            "quantisation": [asdict(choice) for choice in choices.values()],
            "test": speakers.describe(),
            "allowance": limits.allowance,
            "qat": qat.describe() if qat else None,
            "machine": describe_cpu(),
            "remarks": remarks,
            "artefacts": [asdict(artefact) for artefact in artefacts],
        }
        (folder / JSON_FILE).write_text(json.dumps(facts, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        (folder / TABLE_FILE).write_text(text + "\n", encoding="utf-8")
    return text


def table(artefacts: Sequence[Artefact]) -> str:
    """Formats files, scores and latencies as Markdown."""
    lines = [
        "| file | kB | sha256 | logits differ by | UA % | stress AUROC | ECE | levels agree % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for item in artefacts:
        scores = item.scores
        ua = "-" if scores.ua is None else f"{100 * scores.ua:.2f}"
        lines.append(
            f"| {item.file} | {item.size_bytes / 1000:.0f} | {item.sha256[:8]} | {item.parity:.1e} | {ua} | "
            f"{scores.auroc:.4f} | {scores.ece:.4f} | {100 * scores.agreement:.2f} |"
        )
    timed = {item.file: item.latencies for item in artefacts if item.latencies}
    if timed:
        lines += ["", latency_table(timed)]
    return "\n".join(lines)


def _measure(
    fp32: Path,
    parity: float,
    choices: Mapping[Path, Choice],
    data: CalibrationData,
    speakers: SpeakerSplit,
    progress: Callable[[str], None],
) -> list[Artefact]:
    """Scores and times all files; the first artefact is the FP32 file."""
    progress(f"scoring {len(speakers.test)} recordings of {speakers.test_speakers} held-out speakers")
    scores = score_models({path.name: Model.load(path, runtime="cpu") for path in (fp32, *choices)}, speakers.test)
    progress("timing")
    latencies = measure_latencies([fp32, *(path for path, choice in choices.items() if choice.target is Target.CPU)])
    return [
        Artefact(
            file=path.name,
            made_for=choices[path].target.value if path in choices else "fp32",
            size_bytes=path.stat().st_size,
            sha256=_sha256(path),
            parity=_largest_difference(fp32, path, data) if path in choices else parity,
            scores=scores[path.name],
            latencies=latencies.get(path, []),
        )
        for path in (fp32, *choices)
    ]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _quantise(
    fp32: Path,
    model: onnx.ModelProto,
    path: Path,
    target: Target,
    data: CalibrationData,
    float_nodes: Sequence[str],
    qat: Qat | None,
) -> Choice:
    card = Model.load(fp32, runtime="cpu").card
    quantised, choice = choose(model, card, target, data, float_nodes)
    if qat:
        quantised, choice = qat.train(model, card, quantised, choice, data)
    if target is Target.TENSORRT:
        check_tensorrt_graph(quantised)
        quantised = with_half_precision(quantised)
        check_tensorrt_graph(quantised)
    del quantised.metadata_props[:]
    own_card = replace(
        card,
        precision="int8",
        parent_sha256=_sha256(fp32),
        parity=None,
        quantisation=_describe(choice, data, qat),
    )
    quantised.metadata_props.add(key=CARD_KEY, value=own_card.to_json())
    write_model(path, quantised)
    return choice


def _describe(choice: Choice, data: CalibrationData, qat: Qat | None) -> Mapping[str, Any]:
    """Plain values for the card."""
    values = {
        "target": choice.target.value,
        "method": choice.method.value,
        "calibration": data.describe(),
        "float_nodes": list(choice.float_nodes),
    }
    return {**values, "qat": qat.describe()} if qat else values


def _largest_difference(fp32: Path, int8: Path, data: CalibrationData) -> float:
    one, other = (Model.load(path, runtime="cpu") for path in (fp32, int8))
    largest = 0.0
    for window in data.tuning:
        pairs = zip(one.logits(window[np.newaxis]), other.logits(window[np.newaxis]), strict=True)
        largest = max(largest, *(float(np.abs(a - b).max()) for a, b in pairs))
    return largest


def _violations(artefacts: Sequence[Artefact], limits: Limits) -> list[str]:
    fp32, *others = artefacts
    return [f"{item.file}: {reason}" for item in others for reason in limits.violations(fp32.scores, item.scores)]


def _refusal(report: str, violations: Sequence[str], qat: Qat | None) -> RefusedError:
    remedy = f"train longer than --qat {qat.epochs}" if qat else f"train it on in 8 bits with --qat {QAT_EPOCHS}"
    return RefusedError(
        f"INT8 is not what FP32 is: {'; '.join(violations)}: nothing was written; "
        f"{remedy}, calibrate on more recordings, or allow the loss with --allow-loss",
        report,
    )


def _remarks(
    speakers: SpeakerSplit, data: CalibrationData, choices: Mapping[Path, Choice], qat: Qat | None
) -> list[str]:
    lines = [
        f"Scored on {len(speakers.test)} clips of {speakers.test_speakers} speakers, means over their corpora; "
        f"levels agree window by window. Calibrated on {len(data.calibration)} windows of the training side (seed "
        f"{data.seed}, sha256 {data.sha256[:8]})."
    ]
    if not speakers.strangers:
        lines.append(KNOWN_VOICES)
    for path, choice in choices.items():
        errors = ", ".join(f"{method} {error:.3f}" for method, error in choice.error_by_method.items())
        kept = ", ".join(choice.float_nodes) or "no node"
        line = (
            f"{path.name}: {choice.method.value} (logits differ, root mean square, by {errors}); {kept} stays in float."
        )
        if qat:
            line += (
                f" Then trained on in 8 bits for {qat.epochs} epochs (seed {qat.recipe.optimisation.seed}): logits "
                f"differ by {choice.error:.3f}."
            )
        lines.append(line)
        if choice.target is Target.TENSORRT:
            scored = "The file for TensorRT was scored on ONNX Runtime, not as an engine."
            lines.append(f"{scored} {inspect_layers(path)}".rstrip())
    return lines
