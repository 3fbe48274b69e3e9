"""An evaluation from beginning to end: what is given, is scored, tried, printed and written."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from edge_sser.errors import TrainingError, UsageError
from edge_sser.files import write_file
from edge_sser.train.corpora.table import Utterance, read_table
from edge_sser.train.data.labels import read_preset
from edge_sser.train.evaluate.alarms import Point
from edge_sser.train.evaluate.by_speech import Share, by_seconds
from edge_sser.train.evaluate.conditions import choose_clips, conditions
from edge_sser.train.evaluate.models import Models, missing_line, open_models, read_histories
from edge_sser.train.evaluate.predictions import (
    Baseline,
    Origin,
    Prediction,
    read_origin,
    read_predictions,
    scorable,
    write_origin,
    write_predictions,
)
from edge_sser.train.evaluate.robustness import Robustness, try_all
from edge_sser.train.evaluate.score_table import ScoreTable
from edge_sser.train.evaluate.scores import PROTOCOL, table
from edge_sser.train.evaluate.streaming import CAUGHT, Streaming, catching, try_streams
from edge_sser.train.evaluate.streams import Sound, SoundFiles, check_unheard, parse_sounds, read_all
from edge_sser.train.evaluate.systems import Scored, group, guess, labels, matrix, matrix_table, score
from edge_sser.train.report.notes import heard_notes, notes
from edge_sser.train.report.page import page
from edge_sser.train.report.report import Report, check_place, write_json


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRequest:
    """What is to be evaluated, and how: the options of the command."""

    model: Path | None
    table: Path | None
    test: Path | None
    out: Path | None
    name: str | None
    predictions: Sequence[Path]
    preset: str | None
    gain_db: float
    robustness: bool
    streaming: bool
    sound: Sequence[str]
    clips: int
    threads: int
    html: Path | None
    as_json: Path | None


@dataclass(frozen=True, slots=True)
class _Audio:
    """A model and what it is to be scored on.

    Attributes:
        models: of a run, or a file.
        tested: utterances; may be none for a file.
        remarks: what was given and is not scored, a line each.
    """

    models: Models
    tested: Sequence[Utterance]
    remarks: Sequence[str]


def run(asked: EvaluationRequest, say: Callable[[str], None]) -> None:
    """Evaluates.

    Args:
        asked: what, and how.
        say: prints a line or a table.

    Raises:
        EdgeSserError: something that was given cannot be used, or a file cannot be written.
    """
    for place in (asked.html, asked.as_json, asked.out):  # not after an hour
        if place is not None:
            check_place(place)
    sounds = parse_sounds(asked.sound)
    given = [(read_origin(path), read_predictions(path)) for path in asked.predictions]
    audio = None if asked.model is None else _open(asked, asked.model)
    for line in audio.remarks if audio else ():
        say(f"{line}\n")
    origins = [*([audio.models.origin] if audio else []), *(origin for origin, _ in given)]
    labels(origins)
    preset = asked.preset or _common_preset(origins)
    read_preset(preset)  # there is one, said before an hour has gone
    if audio is not None and (asked.robustness or asked.streaming):
        _calibrating(origins, audio.models.origin)  # not after an hour
    if audio is not None and audio.tested:
        own = _predict(audio, asked.gain_db)
        if asked.out is not None:
            write_predictions(asked.out, own)
            write_origin(asked.out, replace(audio.models.origin, preset=preset))
        given.insert(0, (audio.models.origin, own))
    scored = [score(origin, predictions, preset) for origin, predictions in given]
    if not any(one.origin.system == Baseline.MAJORITY for one in scored) and scored:
        scored.append(guess(_first_of_each([predictions for _, predictions in given]), preset))
    if scored:
        names = labels([one.origin for one in scored])
        say(table(dict(zip(names, (one.evaluation for one in scored), strict=True))))
        say(f"\nProtocol: {PROTOCOL}.")
        cells = matrix(group(scored, draws=1))
        if len({cell.trained_on for cell in cells}) > 1 or any(cell.stranger for cell in cells):
            say(f"\nStress AUROC (worst fold) / the level meter's:\n\n{matrix_table(cells)}\n")
        for line in heard_notes([one.origin for one in scored]):
            say(line)
    if asked.html is not None or asked.as_json is not None:
        _write(asked, _report(asked, audio, scored, preset, sounds))


def _open(asked: EvaluationRequest, model: Path) -> _Audio:
    import torch

    torch.set_num_threads(asked.threads)
    fitted = read_table(asked.table) if asked.table is not None else []
    if model.is_dir() and asked.streaming:
        check_unheard(parse_sounds(asked.sound), fitted)
    given = read_table(asked.test) if asked.test is not None else fitted
    models = open_models(model, fitted, given, asked.name)
    judged = [clip for clip in given if models.judges(clip)]
    remarks = []
    if models.missing:
        line = missing_line(model, models.missing)
        remarks.append(f"{len(given) - len(judged)} clips are not scored: {line}")
    if not judged:
        return _Audio(models, [], remarks)
    preset = asked.preset or models.origin.preset
    try:
        tested = scorable(judged, preset)
    except TrainingError as error:
        raise TrainingError(f"{asked.test or asked.table}: {error}") from None
    kept = Counter(clip.corpus for clip in tested)
    for corpus, count in sorted(Counter(clip.corpus for clip in judged).items()):
        if kept[corpus] < count:
            remarks.append(
                f"{count - kept[corpus]} of {count} clips of {corpus} have no emotion that the model knows and no "
                "stress label: they are not scored"
            )
    return _Audio(models, tested, remarks)


def _predict(audio: _Audio, gain_db: float) -> list[Prediction]:
    with tqdm(total=len(audio.tested), unit=" recordings", desc="predict") as bar:
        return audio.models.predict(audio.tested, gain_db=gain_db, progress=lambda utterance: bar.update() and None)


def _report(
    asked: EvaluationRequest, audio: _Audio | None, scored: Sequence[Scored], preset: str, sounds: SoundFiles
) -> Report:
    systems = group(scored)
    remarks = [
        *(audio.remarks if audio else ()),
        *notes(scored, None if audio is None else audio.models.origin),
    ]
    report = Report(preset, systems, matrix(systems), notes=remarks)
    if audio is None:
        return report
    columns = None
    if asked.robustness or asked.streaming:
        own = _calibrating([one.origin for one in scored], audio.models.origin)
        columns = next((one.columns for one in scored if one.origin is own), None)
    if columns is not None:
        audio.models.calibrate(columns)
    if asked.robustness:
        report = replace(report, robustness=_robustness(audio, preset, sounds, asked.clips))
    if asked.streaming:
        streaming, shares = _streaming(audio, preset, sounds, columns, asked.clips)
        report = replace(report, streaming=streaming, seconds=shares)
    if asked.model is not None and asked.model.is_dir():
        report = replace(report, histories=read_histories(asked.model))
    return report


def _robustness(audio: _Audio, preset: str, sounds: SoundFiles, clips: int) -> Robustness:
    chosen = choose_clips(audio.tested, clips)
    tried, missing = conditions(audio.tested, sounds)
    with tqdm(total=len(chosen) * (len(tried) + 1), unit=" clips", desc="robustness") as bar:
        return try_all(
            audio.models, chosen, tried, preset=preset, missing=missing, progress=lambda: bar.update() and None
        )


def _streaming(
    audio: _Audio, preset: str, sounds: SoundFiles, columns: ScoreTable | None, clips: int
) -> tuple[Streaming, list[Share]]:
    card = audio.models.whole.card
    points = [Point("the card's levels", card.elevated, card.high)]
    if columns is not None and not math.isnan(catching(columns)):
        points.append(Point(f"{100 * CAUGHT:.0f} % of stressed clips", catching(columns), limited=True))
    stress = read_preset(preset)
    with tqdm(unit=" s", desc="streams") as bar:
        streaming = try_streams(
            audio.models, audio.tested, stress, sounds, points, progress=lambda seconds: bar.update(seconds) and None
        )
    chosen = choose_clips(audio.tested, clips)
    noise = read_all(sounds.get(Sound.NOISE, {}))
    with tqdm(total=len(chosen), unit=" clips", desc="seconds of speech") as bar:
        shares = by_seconds(audio.models, chosen, stress, noise, progress=lambda done: bar.update(done) and None)
    return streaming, shares


def _write(asked: EvaluationRequest, report: Report) -> None:
    if asked.as_json is not None:
        write_json(asked.as_json, report)
    if asked.html is not None:
        write_file(asked.html, page(report), TrainingError)


def _common_preset(origins: Sequence[Origin]) -> str:
    presets = sorted({origin.preset for origin in origins})
    if len(presets) > 1:
        raise UsageError(f"the systems were made for different presets ({', '.join(presets)}): give --preset")
    return presets[0]


def _calibrating(given: Sequence[Origin], model: Origin) -> Origin | None:
    """Whose predictions tell what a model's probabilities mean: its own, or the only ones of strangers that are given.

    Raises:
        UsageError: there are several others'.
    """
    strangers = [origin for origin in given if not origin.baseline and not origin.heard]
    own = [origin for origin in strangers if origin.system == model.system]
    same_seed = [origin for origin in own if origin.seed == model.seed]
    found = same_seed or own or strangers
    if len(found) > 1 and not own:
        raise UsageError(
            f"which --predictions are to calibrate {model.system}: {', '.join(origin.system for origin in found)}? "
            "Give only those of the same network's folds"
        )
    return found[0] if found else None


def _first_of_each(found: Sequence[Sequence[Prediction]]) -> list[Prediction]:
    """Predictions of each corpus, from the first that has it."""
    out: dict[str, list[Prediction]] = {}
    for predictions in found:
        for corpus in {item.corpus for item in predictions} - set(out):
            out[corpus] = [item for item in predictions if item.corpus == corpus]
    return [item for items in out.values() for item in items]
