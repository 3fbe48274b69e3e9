"""`train evaluate`: reads predictions or makes them, scores them, prints a table and writes a report."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from edge_sser.errors import TrainingError, UsageError, is_bare, need_package, unknown_name
from edge_sser.files import write_file
from edge_sser.model.shipped import MODELS
from edge_sser.train.corpora.table import Utterance, read_table
from edge_sser.train.data.labels import read_preset
from edge_sser.train.evaluate.alarms import Point
from edge_sser.train.evaluate.by_speech import SpeechBin, score_by_speech
from edge_sser.train.evaluate.conditions import choose_clips, make_conditions
from edge_sser.train.evaluate.models import Models, missing_message, open_models, read_histories
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
from edge_sser.train.evaluate.robustness import Robustness, try_conditions
from edge_sser.train.evaluate.score_table import ScoreTable
from edge_sser.train.evaluate.scores import PROTOCOL, markdown_table
from edge_sser.train.evaluate.streaming import TARGET_RECALL, Streaming, threshold_at_recall, try_streams
from edge_sser.train.evaluate.streams import Sound, SoundFiles, check_not_trained_on, parse_sounds, read_recordings
from edge_sser.train.evaluate.systems import (
    Scored,
    group_systems,
    matrix,
    matrix_table,
    score,
    score_majority,
    system_labels,
)
from edge_sser.train.report.notes import heard_notes, notes
from edge_sser.train.report.page import page
from edge_sser.train.report.report import Report, check_place, write_json


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRequest:
    """Options of `train evaluate`; options that do not go together are refused.

    Attributes:
        model: folder of a run, a model file or a checkpoint; None to score predictions alone.
        table: table of the run, or the table to score a file on.
        test: another table to score a run on.
        out: file of predictions to write.
        name: of the system; that of the recipe or file when None.
        predictions: files to score.
        preset: of stress; that of the predictions when None.
        gain_db: change of the recordings' level before scoring.
        robustness: True to try the model under distortions.
        streaming: True to try the model as an alarm.
        sound: recordings for these two, KIND=PATH each.
        clips: of each corpus to distort; 0 takes all.
        threads: of the CPU.
        html: page to write.
        as_json: file of figures to write.

    Raises:
        UsageError: an option lacks another one; the message says which.
        MissingComponentError: a model is given and torch is not installed.
    """

    model: Path | None = None
    table: Path | None = None
    test: Path | None = None
    out: Path | None = None
    name: str | None = None
    predictions: Sequence[Path] = ()
    preset: str | None = None
    gain_db: float = 0.0
    robustness: bool = False
    streaming: bool = False
    sound: Sequence[str] = ()
    clips: int
    threads: int = 1
    html: Path | None = None
    as_json: Path | None = None

    def __post_init__(self) -> None:
        model, table = self.model, self.table or self.test
        if model is None and not self.predictions:
            raise UsageError("give the folder of a run with --table, a model file, or --predictions FILE")
        if model is None and (table or self.out or self.robustness or self.streaming):
            raise UsageError("--table, --test, --out, --robustness and --streaming need a run or a model file")
        if model is not None and not model.exists():
            if is_bare(str(model)):
                raise UsageError(unknown_name("model", str(model), MODELS, "the folder of a run, or a model file"))
            raise UsageError(f"{model}: no such file or folder")
        if (self.robustness or self.streaming) and not (self.html or self.as_json):
            raise UsageError("--robustness and --streaming go into a report: give --html FILE or --json FILE")
        if self.robustness and not table:
            raise UsageError("--robustness distorts labelled clips: give --table FILE")
        if self.streaming and not (table or self.sound):
            raise UsageError("--streaming needs something to listen to: give --table FILE, or --sound calm=PATH")
        if not (self.predictions or table or self.streaming) and not (model is not None and model.is_dir()):
            raise UsageError(
                "nothing to do: give --table FILE to score the model on, or --streaming with --sound calm=PATH"
            )
        if model is not None:
            need_package("torch", "train", "Training")


@dataclass(frozen=True, slots=True)
class _ModelTest:
    """A model and the utterances to score it on.

    Attributes:
        models: of a run, or a file.
        tested: utterances; may be none for a file.
        remarks: a line for each group of utterances that is not scored.
    """

    models: Models
    tested: Sequence[Utterance]
    remarks: Sequence[str]


def run(request: EvaluationRequest, echo: Callable[[str], None]) -> None:
    """Scores, tries, prints and writes what a request asks for.

    Args:
        request: the options.
        echo: prints a line or a table.

    Raises:
        EdgeSserError: an input cannot be used, or a file cannot be written.
    """
    # Errors come before an hour of work, not after it.
    for path in (request.html, request.as_json, request.out):
        if path is not None:
            check_place(path)
    sounds = parse_sounds(request.sound)
    given = [(read_origin(path), read_predictions(path)) for path in request.predictions]
    test = None if request.model is None else _open(request, request.model)
    for line in test.remarks if test else ():
        echo(f"{line}\n")
    origins = [*([test.models.origin] if test else []), *(origin for origin, _ in given)]
    system_labels(origins)
    preset = request.preset or _common_preset(origins)
    read_preset(preset)
    if test is not None and (request.robustness or request.streaming):
        _calibration_origin(origins, test.models.origin)
    if test is not None and test.tested:
        own = _predict(test, request.gain_db)
        if request.out is not None:
            write_predictions(request.out, own)
            write_origin(request.out, replace(test.models.origin, preset=preset))
        given.insert(0, (test.models.origin, own))
    scored = [score(origin, predictions, preset) for origin, predictions in given]
    if not any(each.origin.system == Baseline.MAJORITY for each in scored) and scored:
        scored.append(score_majority(_first_per_corpus([predictions for _, predictions in given]), preset))
    if scored:
        names = system_labels([each.origin for each in scored])
        echo(markdown_table(dict(zip(names, (each.evaluation for each in scored), strict=True))))
        echo(f"\nProtocol: {PROTOCOL}.")
        cells = matrix(group_systems(scored, draws=1))
        if len({cell.trained_on for cell in cells}) > 1 or any(cell.stranger for cell in cells):
            echo(f"\nStress AUROC (worst fold) / the level meter's:\n\n{matrix_table(cells)}\n")
        for line in heard_notes([each.origin for each in scored]):
            echo(line)
    if request.html is not None or request.as_json is not None:
        _write(request, _report(request, test, scored, preset, sounds))


def _open(request: EvaluationRequest, model: Path) -> _ModelTest:
    import torch

    torch.set_num_threads(request.threads)
    fitted = read_table(request.table) if request.table is not None else []
    if model.is_dir() and request.streaming:
        check_not_trained_on(parse_sounds(request.sound), fitted)
    given = read_table(request.test) if request.test is not None else fitted
    models = open_models(model, fitted, given, request.name)
    judged = [clip for clip in given if models.has_model_for(clip)]
    remarks = []
    if models.missing:
        line = missing_message(model, models.missing)
        remarks.append(f"{len(given) - len(judged)} clips are not scored: {line}")
    if not judged:
        return _ModelTest(models, [], remarks)
    preset = request.preset or models.origin.preset
    try:
        tested = scorable(judged, preset)
    except TrainingError as error:
        raise TrainingError(f"{request.test or request.table}: {error}") from None
    kept = Counter(clip.corpus for clip in tested)
    for corpus, count in sorted(Counter(clip.corpus for clip in judged).items()):
        if kept[corpus] < count:
            remarks.append(
                f"{count - kept[corpus]} of {count} clips of {corpus} have no emotion that the model knows and no "
                "stress label: they are not scored"
            )
    return _ModelTest(models, tested, remarks)


def _predict(test: _ModelTest, gain_db: float) -> list[Prediction]:
    with tqdm(total=len(test.tested), unit=" recordings", desc="predict") as bar:
        return test.models.predict(test.tested, gain_db=gain_db, progress=lambda utterance: bar.update() and None)


def _report(
    request: EvaluationRequest, test: _ModelTest | None, scored: Sequence[Scored], preset: str, sounds: SoundFiles
) -> Report:
    systems = group_systems(scored)
    remarks = [
        *(test.remarks if test else ()),
        *notes(scored, None if test is None else test.models.origin),
    ]
    report = Report(preset, systems, matrix(systems), notes=remarks)
    if test is None:
        return report
    table = None
    if request.robustness or request.streaming:
        own = _calibration_origin([each.origin for each in scored], test.models.origin)
        table = next((each.table for each in scored if each.origin is own), None)
    if table is not None:
        test.models.calibrate(table)
    if request.robustness:
        report = replace(report, robustness=_robustness(test, preset, sounds, request.clips))
    if request.streaming:
        streaming, bins = _streaming(test, preset, sounds, table, request.clips)
        report = replace(report, streaming=streaming, seconds=bins)
    if request.model is not None and request.model.is_dir():
        report = replace(report, histories=read_histories(request.model))
    return report


def _robustness(test: _ModelTest, preset: str, sounds: SoundFiles, clips: int) -> Robustness:
    chosen = choose_clips(test.tested, clips)
    tried, missing = make_conditions(test.tested, sounds)
    with tqdm(total=len(chosen) * (len(tried) + 1), unit=" clips", desc="robustness") as bar:
        return try_conditions(
            test.models, chosen, tried, preset=preset, missing=missing, progress=lambda: bar.update() and None
        )


def _streaming(
    test: _ModelTest, preset: str, sounds: SoundFiles, table: ScoreTable | None, clips: int
) -> tuple[Streaming, list[SpeechBin]]:
    card = test.models.final.card
    points = [Point("the card's levels", card.elevated, card.high)]
    if table is not None and not math.isnan(threshold_at_recall(table)):
        points.append(Point(f"{100 * TARGET_RECALL:.0f} % of stressed clips", threshold_at_recall(table), limited=True))
    stress = read_preset(preset)
    with tqdm(unit=" s", desc="streams") as bar:
        streaming = try_streams(
            test.models, test.tested, stress, sounds, points, progress=lambda seconds: bar.update(seconds) and None
        )
    chosen = choose_clips(test.tested, clips)
    noise = read_recordings(sounds.get(Sound.NOISE, {}))
    with tqdm(total=len(chosen), unit=" clips", desc="seconds of speech") as bar:
        bins = score_by_speech(test.models, chosen, stress, noise, progress=lambda done: bar.update(done) and None)
    return streaming, bins


def _write(request: EvaluationRequest, report: Report) -> None:
    if request.as_json is not None:
        write_json(request.as_json, report)
    if request.html is not None:
        write_file(request.html, page(report), TrainingError)


def _common_preset(origins: Sequence[Origin]) -> str:
    presets = sorted({origin.preset for origin in origins})
    if len(presets) > 1:
        raise UsageError(f"the systems were made for different presets ({', '.join(presets)}): give --preset")
    return presets[0]


def _calibration_origin(given: Sequence[Origin], model: Origin) -> Origin | None:
    """Chooses the predictions to calibrate a model on: its own, or the only given ones of strangers.

    Raises:
        UsageError: there are several, all of other systems.
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


def _first_per_corpus(found: Sequence[Sequence[Prediction]]) -> list[Prediction]:
    """Returns the predictions of each corpus, from the first system that has them."""
    out: dict[str, list[Prediction]] = {}
    for predictions in found:
        for corpus in {item.corpus for item in predictions} - set(out):
            out[corpus] = [item for item in predictions if item.corpus == corpus]
    return [item for items in out.values() for item in items]
