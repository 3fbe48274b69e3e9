"""Options of `edge-sser train evaluate`, `operating` and `stamp`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_sser.errors import need_package

CLIPS = 400  # of each corpus to distort


def evaluate(
    model: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of a run of `train fit` with all folds, an .onnx model file, sser-cnn or sser-plus, or a "
            "checkpoint."
        ),
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="The run's table of utterances; for a file, the table to score it on.")
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(
            help="Score the run on this table: its own speakers by their fold's model, others by the final one."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Predictions to write (CSV); their origin beside (JSON).")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the system; the recipe's or file's by default.")] = None,
    predictions: Annotated[list[Path] | None, typer.Option(help="Predictions to score; may be repeated.")] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Preset of stress: quadrant, sssr, arousal_valence or a .toml file; the predictions' by default."
        ),
    ] = None,
    gain_db: Annotated[float, typer.Option(help="Turn the recordings' level by this before scoring, dB.")] = 0.0,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Try the model in noise, rooms, telephones.")
    ] = False,
    streaming: Annotated[bool, typer.Option("--streaming", help="Try the model as an alarm on streams.")] = False,
    sound: Annotated[
        list[str] | None,
        typer.Option(help="Recordings for these two, KIND=PATH: noise, music, cough, room, calm; may be repeated."),
    ] = None,
    clips: Annotated[int, typer.Option(min=0, help="Clips of a corpus to distort; 0 takes all.")] = CLIPS,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; more than one hardly help so small a model.")] = 1,
    html: Annotated[Path | None, typer.Option(help="Page to write.")] = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="Figures to write as JSON.")] = None,
) -> None:
    """Scores a run on the speakers each fold left out, a model file, or committed predictions; writes a report."""
    need_package("sklearn", "train", "Training")
    from edge_sser.model.shipped import trainable_file
    from edge_sser.train.evaluate.run import EvaluationRequest, run

    request = EvaluationRequest(
        model=trainable_file(model) if model is not None else None,
        table=table,
        test=test,
        out=out,
        name=name,
        predictions=predictions or (),
        preset=preset,
        gain_db=gain_db,
        robustness=robustness,
        streaming=streaming,
        sound=sound or (),
        clips=clips,
        threads=threads,
        html=html,
        as_json=as_json,
    )
    run(request, typer.echo)


def operating(
    model: Annotated[
        list[Path],
        typer.Argument(
            help="The .onnx model file, and folders of runs of `train fit` with its recipe, whose fold models hear the "
            "speakers it was trained on."
        ),
    ],
    as_json: Annotated[Path, typer.Option("--json", help="Figures to write as JSON, with every setting.")],
    table: Annotated[
        list[Path] | None,
        typer.Option(help="Table of utterances, the runs' first; may be repeated for corpora that nobody heard."),
    ] = None,
    calm: Annotated[
        list[Path] | None,
        typer.Option(help="Calm speech of strangers: a recording, or a folder of one speaker's; may be repeated."),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="How labels become stress; if not given, as the model's card says.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Picture to write (.png, .svg, .pdf).")] = None,
    windows: Annotated[
        Path | None,
        typer.Option(
            help="File of the windows heard: written when it does not exist, else read, so that another decision is "
            "measured on the same streams in a minute."
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Measures what each budget of false alarms gives: the share found and the delay, with and without a baseline."""
    for package, extra in (("torch", "train"), *((("matplotlib", "plot"),) if plot else ())):
        need_package(package, extra, "train operating")
    from edge_sser.train.evaluate.operating import OperatingRequest, run

    request = OperatingRequest(
        models=model,
        tables=table or (),
        calm=calm or (),
        preset=preset,
        as_json=as_json,
        plot=plot,
        windows=windows,
        threads=threads,
    )
    run(request, typer.echo)


def stamp(
    model: Annotated[Path, typer.Argument(help="The .onnx model file; INT8 files made from it are found beside it.")],
    result: Annotated[Path, typer.Argument(help="Figures that `train operating` measured (JSON).")],
) -> None:
    """Writes measured operating points into a model's card. The graph stays as it is; the file's sha256 changes."""
    need_package("onnx", "export", "train stamp")
    from edge_sser.train.evaluate.stamp import read_points, stamp

    for path in stamp(model, read_points(result)):
        typer.echo(path)
