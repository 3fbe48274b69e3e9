"""`edge-sser train evaluate`: everything that is asked of a system, from predictions or from audio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_sser.errors import UsageError, missing_extra

if TYPE_CHECKING:
    from .battery.robustness import Robustness
    from .battery.seconds import Share
    from .battery.sounds import SoundFiles
    from .battery.streaming import Streaming
    from .battery.systems import Scored
    from .columns import Columns
    from .corpora.table import Utterance
    from .predictions import Prediction
    from .report.report import Report
    from .run_models import Models

CLIPS = 400  # of a corpus that distortions are tried on


def evaluate(
    model: Annotated[
        Path | None,
        typer.Argument(help="Folder of a run of `train fit` with all folds, an .onnx model file, or a checkpoint."),
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="The run's table of utterances; for a file, the table to score it on.")
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(
            help="Score the run on this table instead: speakers of its own table by the model of their fold, "
            "strangers by the final one."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Predictions to write (CSV), with what made them beside (JSON).")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What to call the system; the recipe's or file's name if not given.")
    ] = None,
    predictions: Annotated[
        list[Path] | None, typer.Option(help="Score these predictions, too or alone; may be repeated.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="How emotions become stress; the predictions' own if not given.")
    ] = None,
    gain_db: Annotated[float, typer.Option(help="Turn the recordings' level by this before scoring, dB.")] = 0.0,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Try the model under noise, rooms, telephones.")
    ] = False,
    streaming: Annotated[bool, typer.Option("--streaming", help="Try the model as an alarm on streams.")] = False,
    sound: Annotated[
        list[str] | None,
        typer.Option(
            help="Recordings for these two, KIND=PATH, a file or folder: noise, music, cough, room (impulse "
            "responses), calm (speech without stress); may be repeated."
        ),
    ] = None,
    clips: Annotated[int, typer.Option(min=0, help="Clips of a corpus to distort; 0 takes all.")] = CLIPS,
    html: Annotated[Path | None, typer.Option(help="Page to write.")] = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="Figures to write as JSON.")] = None,
) -> None:
    """Scores a run on the speakers each fold left out, a model file, or committed predictions; writes a report."""
    from .battery.sounds import parse_sounds
    from .battery.systems import guess, labels, score
    from .evaluate import PROTOCOL
    from .evaluate import table as render
    from .origin import read_origin, write_origin
    from .predictions import read_predictions, write_predictions
    from .report.notes import heard_notes

    _need("scipy")
    if model is None and not predictions:
        raise UsageError("give the folder of a run with --table, a model file, or --predictions FILE")
    if model is None and (table or test or out or robustness or streaming):
        raise UsageError("--table, --test, --out, --robustness and --streaming need a run or a model file")
    if (robustness or streaming) and not (html or as_json):
        raise UsageError("--robustness and --streaming go into a report: give --html FILE or --json FILE")
    sounds = parse_sounds(sound or [])
    given = {path: (read_origin(path), read_predictions(path)) for path in predictions or []}
    audio = None if model is None else _open(model, table, test, name)
    own: list[Prediction] = []
    origins = [origin for origin, _ in given.values()]
    if audio is not None:
        origins.insert(0, audio.models.origin)
    chosen = preset or _common_preset([origin.preset for origin in origins])
    scored: list[Scored] = []
    if audio is not None and audio.tested:
        own = _predict(audio, gain_db)
        scored.append(score(audio.models.origin, own, chosen))
        if out is not None:
            write_predictions(out, own)
            write_origin(out, replace(audio.models.origin, preset=chosen))
    scored += [score(origin, found, chosen) for origin, found in given.values()]
    if scored:
        everything = [own, *(found for _, found in given.values())]
        scored.append(guess(_first_of_each(everything), chosen))
        evaluations = [one.evaluation for one in scored]
        typer.echo(render(dict(zip(labels(scored), evaluations, strict=True))))
        typer.echo(f"\nProtocol: {PROTOCOL}.")
        for line in heard_notes([one.origin for one in scored]):
            typer.echo(line)
    elif not streaming:
        raise UsageError(
            "nothing to do: give --table FILE to score the model on, or --streaming with --sound calm=PATH"
        )
    if html is None and as_json is None:
        return
    report = _report(audio, scored, chosen, sounds, robustness=robustness, streaming=streaming, clips=clips)
    if model is not None and model.is_dir():
        from .battery.history import read_histories

        report = replace(report, histories=read_histories(model))
    _write(report, html, as_json)


@dataclass(frozen=True, slots=True)
class _Audio:
    """A model and what it is to be scored on.

    Attributes:
        models: of a run, or a file.
        tested: utterances; may be none for a file.
    """

    models: Models
    tested: Sequence[Utterance]


def _open(model: Path, table: Path | None, test: Path | None, name: str | None) -> _Audio:
    from .corpora.table import read_table
    from .run_models import open_models

    if not model.exists():
        raise UsageError(f"{model}: no such file or folder")
    _need("torch")
    fitted = read_table(table) if table is not None else []
    tested = read_table(test) if test is not None else fitted
    return _Audio(open_models(model, fitted, tested, name), tested)


def _predict(audio: _Audio, gain_db: float) -> list[Prediction]:
    from tqdm import tqdm

    with tqdm(total=len(audio.tested), unit=" recordings", desc="predict") as bar:
        return audio.models.predict(audio.tested, gain_db=gain_db, progress=lambda utterance: bar.update() and None)


def _report(
    audio: _Audio | None,
    scored: Sequence[Scored],
    preset: str,
    sounds: SoundFiles,
    *,
    robustness: bool,
    streaming: bool,
    clips: int,
) -> Report:
    from .battery.systems import group, matrix
    from .report.notes import notes
    from .report.report import Report

    systems = group(scored)
    found = Report(
        preset, systems, matrix(systems), notes=notes(scored, None if audio is None else audio.models.origin)
    )
    if audio is None:
        return found
    columns = next((one.columns for one in scored if not one.origin.baseline and not one.origin.heard), None)
    if columns is not None:
        audio.models.calibrate(columns)
    if robustness:
        found = replace(found, robustness=_robustness(audio, preset, sounds, clips))
    if streaming:
        alarms, shares = _streaming(audio, preset, sounds, columns, clips)
        found = replace(found, streaming=alarms, seconds=shares)
    return found


def _robustness(audio: _Audio, preset: str, sounds: SoundFiles, clips: int) -> Robustness:
    from tqdm import tqdm

    from .battery.conditions import choose_clips, conditions
    from .battery.robustness import try_all

    if not audio.tested:
        raise UsageError("--robustness distorts labelled clips: give --table FILE")
    chosen = choose_clips(audio.tested, clips)
    asked, missing = conditions(audio.tested, sounds)
    with tqdm(total=len(chosen) * (len(asked) + 1), unit=" clips", desc="robustness") as bar:
        return try_all(
            audio.models, chosen, asked, preset=preset, missing=missing, progress=lambda: bar.update() and None
        )


def _streaming(
    audio: _Audio, preset: str, sounds: SoundFiles, columns: Columns | None, clips: int
) -> tuple[Streaming, list[Share]]:
    from tqdm import tqdm

    from .battery.alarms import Point
    from .battery.conditions import choose_clips
    from .battery.seconds import by_seconds
    from .battery.sounds import Sound, read_all
    from .battery.streaming import CAUGHT, catching, try_streams
    from .evaluate import stress_preset

    if not audio.tested and not sounds:
        raise UsageError("--streaming needs something to listen to: give --table FILE, or --sound calm=PATH")
    card = audio.models.whole.card
    points = [Point("the card's levels", card.elevated, card.high)]
    if columns is not None:
        points.append(Point(f"{100 * CAUGHT:.0f} % of stressed clips", catching(columns)))
    stress = stress_preset(preset)
    with tqdm(unit=" s", desc="streams") as bar:
        alarms = try_streams(
            audio.models, audio.tested, stress, sounds, points, progress=lambda seconds: bar.update(seconds) and None
        )
    chosen = choose_clips(audio.tested, clips)
    noise = read_all(sounds.get(Sound.NOISE, {}))
    with tqdm(total=len(chosen), unit=" clips", desc="seconds of speech") as bar:
        return alarms, by_seconds(audio.models, chosen, stress, noise, progress=lambda done: bar.update(done) and None)


def _write(report: Report, html: Path | None, as_json: Path | None) -> None:
    from .report.page import page
    from .report.report import write_json, write_text

    if as_json is not None:
        write_json(as_json, report)
    if html is not None:
        write_text(html, page(report))


def _common_preset(presets: Sequence[str]) -> str:
    if len(set(presets)) > 1:
        raise UsageError(
            f"the systems were made for different presets ({', '.join(sorted(set(presets)))}): give --preset"
        )
    return presets[0]


def _first_of_each(found: Sequence[Sequence[Prediction]]) -> list[Prediction]:
    """Predictions of each corpus, from the first that has it."""
    out: dict[str, list[Prediction]] = {}
    for predictions in found:
        for corpus in {item.corpus for item in predictions} - set(out):
            out[corpus] = [item for item in predictions if item.corpus == corpus]
    return [item for items in out.values() for item in items]


def _need(package: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise missing_extra(package, "train", "Training")
