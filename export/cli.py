"""`edge-sser export`: turns a checkpoint into the model files of a device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_sser.export.run import ExportRequest, TargetChoice, run_export

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

CheckpointArgument = Annotated[
    Path,
    typer.Argument(
        help="model.safetensors of a run of `edge-sser train fit`; or a model file (.onnx) to build an engine from."
    ),
]
OutOption = Annotated[Path | None, typer.Option(help="Folder to write NAME.onnx into; with --int8 a new one.")]
PredictionsOption = Annotated[
    list[Path] | None,
    typer.Option(
        help="Out-of-fold predictions from `train evaluate`, named like the recipe: the calibration and the scores of "
        "the card come from them. Files of other names are baselines. May be repeated."
    ),
]
EvaluationOption = Annotated[
    Path | None,
    typer.Option(
        help="JSON of `train evaluate RUN --streaming`: the card takes from it how far readings with little speech can "
        "be trusted."
    ),
]
Int8Option = Annotated[bool, typer.Option("--int8", help="Also write INT8 files, if they agree with FP32.")]
TargetOption = Annotated[
    TargetChoice | None,
    typer.Option(
        help="Runtime of INT8: ONNX Runtime on a CPU (the default), or TensorRT. For a model file: TensorRT, which "
        "builds for this machine, or TensorRT for RTX, which needs no GPU."
    ),
]
CalibrationOption = Annotated[
    Path | None, typer.Option(help="The run's table of utterances: INT8 is calibrated on its training speakers.")
]
TestOption = Annotated[
    Path | None, typer.Option(help="Table of strangers to judge INT8 by, instead of the fold that was left out.")
]
HeldOutOption = Annotated[
    int | None, typer.Option(help="Fold to judge INT8 by where the checkpoint was trained on all speakers.")
]
FloatOption = Annotated[
    list[str] | None,
    typer.Option(
        "--float",
        metavar="NODE",
        help="Node that stays in float, named as in the report of an earlier export. May be repeated.",
    ),
]
QatOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="EPOCHS",
        help="Quantisation-aware training for this many epochs: for INT8 that loses too much.",
    ),
]
CacheOption = Annotated[
    Path | None, typer.Option(help="For --qat: the features that `train fit` kept, mostly RUN/cache.")
]
AllowLossOption = Annotated[float, typer.Option(min=0.0, help="Allow this many times the loss that INT8 may have.")]
EnginesOption = Annotated[
    Path | None, typer.Option(help="Folder for TensorRT engines, instead of the one that `listen` reads.")
]
WorkspaceOption = Annotated[
    int | None, typer.Option(min=1, help="Most memory that a kernel of an engine may use for itself, MiB.")
]
CapabilityOption = Annotated[
    list[str] | None,
    typer.Option(
        "--compute-capability",
        help="GPUs to build for with TensorRT for RTX: sm75, sm80, sm86, sm89, sm120, sm121, current, or all (the "
        "default). May be repeated.",
    ),
]


@app.command()
def export(
    checkpoint: CheckpointArgument,
    out: OutOption = None,
    predictions: PredictionsOption = None,
    evaluation: EvaluationOption = None,
    int8: Int8Option = False,
    target: TargetOption = None,
    calibration: CalibrationOption = None,
    test: TestOption = None,
    held_out: HeldOutOption = None,
    float_nodes: FloatOption = None,
    qat: QatOption = None,
    cache: CacheOption = None,
    allow_loss: AllowLossOption = 1.0,
    engines: EnginesOption = None,
    workspace_mib: WorkspaceOption = None,
    compute_capability: CapabilityOption = None,
) -> None:
    """Turns a checkpoint into one ONNX file with its card, and checks that it computes the same.

    `edge-sser export FILE.onnx --target tensorrt` builds the engine of a model file, on the machine that will run it;
    --target tensorrt-rtx builds engines for RTX GPUs on any x86-64 machine.

    With --int8, quantised files are made beside it, and refused if on held-out speakers stress AUROC falls by more than
    0.005, the emotions' accuracy by more than 1 point, or more than 3 % of the levels differ.
    """
    run_export(
        ExportRequest(
            checkpoint=checkpoint,
            out=out,
            predictions=predictions or (),
            evaluation=evaluation,
            int8=int8,
            target=target,
            calibration=calibration,
            test=test,
            held_out=held_out,
            float_nodes=float_nodes or (),
            qat=qat,
            cache=cache,
            allow_loss=allow_loss,
            engines=engines,
            workspace_mib=workspace_mib,
            capabilities=compute_capability or (),
        )
    )
