"""`edge-sser export --int8`: FP32 and INT8 files, compared on held-out speakers, handed over only if they agree."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edge_sser.commands.latency import measure_latencies
from edge_sser.errors import ModelError
from edge_sser.export.calibration import Drawn, Sides, draw
from edge_sser.export.choose import Choice, choose
from edge_sser.export.folder import whole_folder
from edge_sser.export.half import with_half_precision
from edge_sser.export.onnx import write_model
from edge_sser.export.qat import Qat
from edge_sser.export.quantize import Target
from edge_sser.export.report import Artefact, make_artefact, table, write_report
from edge_sser.export.tensorrt_graph import check_tensorrt_graph
from edge_sser.export.verify import Limits, Scores, score
from edge_sser.model.model import CARD_KEY, Model

SUFFIXES = {Target.CPU: ".int8.onnx", Target.TENSORRT: ".int8-tensorrt.onnx"}
QAT_EPOCHS = 5  # recommended where INT8 loses too much
KNOWN_VOICES = (
    "The checkpoint was trained on these speakers too: only the differences between the files mean something, the "
    "scores are not those of strangers."
)


@dataclass(frozen=True, slots=True)
class Made:
    """A quantised file and how it came about."""

    path: Path
    choice: Choice


def export_int8(
    write_fp32: Callable[[Path], float],
    name: str,
    out: Path,
    *,
    checkpoint: Path,
    targets: Sequence[Target],
    sides: Sides,
    limits: Limits,
    say: Callable[[str], None],
    qat: Qat | None = None,
) -> str:
    """Writes the FP32 file, an INT8 file for each target, and the report into a new folder.

    Args:
        write_fp32: writes the FP32 file at a path and returns its difference from the checkpoint.
        name: of the model.
        out: folder to make.
        checkpoint: it comes from, for the report.
        targets: what to quantise for.
        sides: whom to calibrate on, and whom to judge by.
        limits: what INT8 may lose.
        say: told what is being done.
        qat: trains each INT8 file on, where it is asked for.

    Returns:
        The table and its remarks.

    Raises:
        ModelError: an INT8 file loses more than the limits allow, or has what its target lacks; the folder is not
            made. The message starts with the table.
    """
    with whole_folder(out) as folder:
        fp32 = folder / f"{name}.onnx"
        parity = write_fp32(fp32)
        say(f"drawing windows of {len(sides.training)} recordings")
        drawn = draw(sides.training)
        made = []
        for target in targets:
            say(f"quantising for {target.value}: methods, then a sweep over the nodes")
            made.append(_quantise(fp32, folder / f"{name}{SUFFIXES[target]}", target, drawn, qat))
        say(f"scoring {len(sides.test)} recordings of {_speakers(sides)} held-out speakers")
        paths = [fp32, *(item.path for item in made)]
        models = {path.name: Model.load(path, runtime="cpu") for path in paths}
        scores = score(models, sides.test)
        say("timing")
        timed = measure_latencies([fp32, *(item.path for item in made if item.choice.target is Target.CPU)])
        artefacts = [make_artefact(fp32, "fp32", parity, scores[fp32.name], timed[fp32])]
        for item in made:
            differs = _largest_difference(fp32, item.path, drawn)
            artefacts.append(
                make_artefact(
                    item.path, item.choice.target.value, differs, scores[item.path.name], timed.get(item.path, [])
                )
            )
        broken = _broken(artefacts, limits)
        remarks = _remarks(sides, drawn, made, qat)
        text = "\n\n".join([table(artefacts), *remarks])
        if broken:
            raise RefusedError(text, broken, qat)
        facts: dict[str, Any] = {
            "checkpoint": {"file": checkpoint.name, "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest()},
            "calibration": _calibration(drawn),
            "quantisation": [asdict(item.choice) for item in made],
            "test": {"clips": len(sides.test), "speakers": _speakers(sides), "strangers": sides.strangers},
            "allowance": limits.allowance,
            "qat": qat.describe() if qat else None,
        }
        write_report(folder, artefacts, facts, remarks)
    return text


def judge_engine(fp32: Path, graph: Path, engine: Path, *, sides: Sides, limits: Limits) -> str:
    """Lets an engine pass the same gate as the graph that it was built of, and says how it scored.

    Args:
        fp32: the FP32 file.
        graph: the file that the engine was built of.
        engine: removed where it does not pass.
        sides: whom to judge by.
        limits: what it may lose.

    Raises:
        RefusedError: it loses more than the limits allow.
    """
    models = {
        "fp32": Model.load(fp32, runtime="cpu"),
        "engine": Model.load(graph, runtime="engine", engines=engine.parent),
    }
    scores = score(models, sides.test)
    one = scores["engine"]
    told = (
        f"{engine.name}: UA {'-' if one.ua is None else format(100 * one.ua, '.2f')} %, stress AUROC {one.auroc:.4f}, "
        f"ECE {one.ece:.4f}, {100 * one.agreement:.2f} % of the levels agree with FP32"
    )
    broken = limits.broken(scores["fp32"], one)
    if broken:
        engine.unlink(missing_ok=True)
        raise EngineRefusedError(told, broken)
    return told


class RefusedError(ModelError):
    """INT8 lost too much.

    Attributes:
        report: the table, for standard output.
    """

    def __init__(self, report: str, broken: Sequence[str], qat: Qat | None) -> None:
        remedy = f"train longer than --qat {qat.epochs}" if qat else f"train it on in 8 bits with --qat {QAT_EPOCHS}"
        super().__init__(
            f"INT8 is not what FP32 is: {'; '.join(broken)}: nothing was written; "
            f"{remedy}, calibrate on more recordings, or allow the loss with --allow-loss"
        )
        self.report = report


class EngineRefusedError(RefusedError):
    """An engine lost too much; the files that it was built of stand.

    Attributes:
        report: how it scored, for standard output.
    """

    def __init__(self, report: str, broken: Sequence[str]) -> None:
        ModelError.__init__(
            self,
            f"the engine is not what FP32 is: {'; '.join(broken)}: it was removed, the model files stand; please "
            "report it with the board and the version of TensorRT",
        )
        self.report = report


def _quantise(fp32: Path, path: Path, target: Target, drawn: Drawn, qat: Qat | None) -> Made:
    model = onnx.load(fp32)
    card = Model.load(fp32, runtime="cpu").card
    made, choice = choose(model, card, target, drawn)
    if qat:
        made, choice = qat(model, card, made, choice, drawn)
    if target is Target.TENSORRT:
        check_tensorrt_graph(made)
        made = with_half_precision(made)
        check_tensorrt_graph(made)
    del made.metadata_props[:]
    own = replace(
        card,
        precision="int8",
        parent_sha256=hashlib.sha256(fp32.read_bytes()).hexdigest(),
        parity=None,
        quantisation=_for_card(choice, drawn, qat),
    )
    made.metadata_props.add(key=CARD_KEY, value=own.to_json())
    write_model(path, made)
    return Made(path, choice)


def _for_card(choice: Choice, drawn: Drawn, qat: Qat | None) -> dict[str, Any]:
    values = {
        "target": choice.target.value,
        "method": choice.method.value,
        "calibration": _calibration(drawn),
        "float_nodes": list(choice.float_nodes),
    }
    return {**values, "qat": qat.describe()} if qat else values


def _calibration(drawn: Drawn) -> dict[str, Any]:
    return {"windows": len(drawn.calibration), "seed": drawn.seed, "sha256": drawn.sha256}


def _largest_difference(fp32: Path, int8: Path, drawn: Drawn) -> float:
    one, other = (Model.load(path, runtime="cpu") for path in (fp32, int8))
    largest = 0.0
    for window in drawn.tuning:
        pairs = zip(one.logits(window[np.newaxis]), other.logits(window[np.newaxis]), strict=True)
        largest = max(largest, *(float(np.abs(a - b).max()) for a, b in pairs))
    return largest


def _broken(artefacts: Sequence[Artefact], limits: Limits) -> list[str]:
    fp32 = artefacts[0].scores
    assert fp32 is not None
    found: list[tuple[str, Scores]] = [(item.file, item.scores) for item in artefacts[1:] if item.scores]
    return [f"{file}: {reason}" for file, scores in found for reason in limits.broken(fp32, scores)]


def _remarks(sides: Sides, drawn: Drawn, made: Sequence[Made], qat: Qat | None) -> list[str]:
    speakers = _speakers(sides)
    lines = [
        f"Scored on {len(sides.test)} clips of {speakers} speakers, means over their corpora; levels agree window "
        f"by window. Calibrated on {len(drawn.calibration)} windows of the training side (seed {drawn.seed}, sha256 "
        f"{drawn.sha256[:8]})."
    ]
    if not sides.strangers:
        lines.append(KNOWN_VOICES)
    for item in made:
        errors = ", ".join(f"{method} {error:.3f}" for method, error in item.choice.error_by_method.items())
        kept = ", ".join(item.choice.float_nodes) or "no node"
        lines.append(
            f"{item.path.name}: {item.choice.method.value} (logits differ, root mean square, by {errors}); {kept} "
            "stays in float."
        )
        if qat:
            lines[-1] += (
                f" Then trained on in 8 bits for {qat.epochs} epochs (seed {qat.recipe.optimisation.seed}): logits "
                f"differ by {item.choice.error:.3f}."
            )
        if item.choice.target is Target.TENSORRT:
            lines.append("The file for TensorRT was scored on ONNX Runtime, not as an engine.")
    return lines


def _speakers(sides: Sides) -> int:
    return len({(utterance.corpus, utterance.speaker) for utterance in sides.test})
