"""Operating points: what each budget of false episodes gives, with and without a baseline, on streams of strangers."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tqdm import tqdm

from edge_sser import __version__
from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.commands.bench import describe_cpu
from edge_sser.errors import TrainingError, UsageError
from edge_sser.files import write_file
from edge_sser.model.card import Card, least_speech_ratio
from edge_sser.model.model import Model
from edge_sser.monitor.operating import BaselineKind
from edge_sser.pipeline.baseline import Baseline
from edge_sser.settings.schema import BaselineMode, BaselineSettings, Detector, GateSettings, RollingSettings, Settings
from edge_sser.train.corpora.table import Utterance, read_table
from edge_sser.train.data.labels import read_preset
from edge_sser.train.evaluate.budgets import BUDGETS, THRESHOLDS, choose_thresholds, figures, held_out
from edge_sser.train.evaluate.kept_windows import KeptWindows, check_made_of, made_of, read_windows, write_windows
from edge_sser.train.evaluate.models import Models, open_file, open_run
from edge_sser.train.evaluate.operating_result import draw, settings_used, streams_heard, summary
from edge_sser.train.evaluate.replay import (
    HeardStream,
    Outcome,
    declared_baseline,
    hear,
    rolling_stress,
    try_thresholds,
)
from edge_sser.train.evaluate.strangers import Kind, StrangerStream, calm_recordings, speaker_streams
from edge_sser.train.report.report import check_place

SCHEMA = 1
DEVICE = Settings()
BEFORE = Settings(
    gate=GateSettings(detector=Detector.WEBRTC, floor_dbfs=-65.0),
    rolling=RollingSettings(time_constant_seconds=8.0, elevated=0.6, high=0.8, hysteresis=0.08, dwell_seconds=2.0),
)
"""Settings of version 0.1, for comparison: WebRTC's detector, exponential average, thresholds of the card."""

_PARTS = {"calm": False, "lively": True}  # of the streams: without and with lively speech


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingRequest:
    """Options of `train operating`.

    Attributes:
        models: one model file, whose calibration and card count, and any number of runs of the same recipe.
        tables: of utterances; the first is that of the runs.
        calm: recordings and folders of calm speech that is in no table.
        preset: of stress; the model file's when None.
        as_json: file of figures to write.
        plot: picture to write.
        windows: file of the windows heard, written when it does not exist, else read in place of hearing the streams.
        threads: of the CPU.

    Raises:
        UsageError: there is not exactly one model file, or nothing to listen to.
    """

    models: Sequence[Path]
    tables: Sequence[Path]
    calm: Sequence[Path]
    preset: str | None
    as_json: Path
    plot: Path | None
    windows: Path | None
    threads: int

    def __post_init__(self) -> None:
        files = [path for path in self.models if not path.is_dir()]
        if len(files) != 1 or files[0].suffix != ".onnx":
            raise UsageError("give one .onnx model file, and the folders of its runs: its card calibrates all of them")
        if len(self.models) > 1 and not self.tables:
            raise UsageError("a run needs its table of utterances: give --table FILE")
        if not (self.tables or self.calm):
            raise UsageError("nothing to listen to: give --table FILE, --calm PATH or both")

    @property
    def file(self) -> Path:
        """The model file."""
        return next(path for path in self.models if not path.is_dir())


@dataclass(frozen=True, slots=True)
class Strangers:
    """Models by speaker: each speaker is heard by a model that was not trained on that speaker.

    Attributes:
        file: the model file; it hears corpora that it was not trained on.
        runs: their fold models hear the speakers of their folds.
    """

    file: Models
    runs: Sequence[Models]

    def model_for(self, clip: Utterance | None) -> Model | None:
        """Returns the model for a speaker, or None when all were trained on the speaker. Clip None: in no table."""
        if clip is None:
            return self.file.final
        for run in self.runs:
            fold = run.fold(clip)
            if fold is not None and fold not in run.missing:
                return run.by_fold[fold]
        return None if clip.corpus in (self.file.origin.trained_on or ()) else self.file.final


def run(request: OperatingRequest, echo: Callable[[str], None]) -> None:
    """Measures, prints and writes the operating points.

    Args:
        request: the options.
        echo: prints a line.

    Raises:
        EdgeSserError: an input cannot be used, or a file cannot be written.
    """
    for path in (request.as_json, request.plot, request.windows):
        if path is not None:
            check_place(path)
    import torch

    torch.set_num_threads(request.threads)
    tables = [read_table(path) for path in request.tables]
    strangers = _open(request, tables[0] if tables else [])
    card = strangers.file.final.card
    clips = [clip for table in tables for clip in table]
    least = least_speech_ratio(card.speech_trust)
    before = BEFORE.model_copy(update={"gate": BEFORE.gate.model_copy(update={"min_speech_ratio": least})})
    kept = _windows(request, strangers, clips, before)
    heard, heard_before = kept.heard, kept.heard_before
    if all(each.kind is Kind.LIVELY for each in heard):
        raise TrainingError("nobody to listen to: the model was trained on all speakers, or their clips are too few")
    result = {
        **_origin(request, strangers),
        "settings": settings_used(DEVICE, before),
        "streams": streams_heard(heard),
        **measure(heard, heard_before, card, before),
    }
    write_file(request.as_json, json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n", TrainingError)
    for line in summary(result):
        echo(line)
    if request.plot is not None:
        draw(request.plot, result)


def measure(
    heard: Sequence[HeardStream], heard_before: Sequence[HeardStream], card: Card, before: Settings
) -> dict[str, Any]:
    """Returns the figures of all modes and of the settings of before.

    An episode in lively speech is false as one in calm speech is, and counts against the budget.

    Args:
        heard: streams as the device hears them.
        heard_before: the same streams with the gate of before.
        card: of the model file.
        before: settings of before.
    """
    modes: dict[str, Any] = {}
    for kind in BaselineKind:
        judged = judge_streams(heard, kind, card)
        parts = {
            name: [each for each in judged if (each.heard.kind is Kind.LIVELY) is lively]
            for name, lively in _PARTS.items()
        }
        places = choose_thresholds(judged)
        apart = held_out(judged)
        modes[kind.value] = [
            {
                "budget": budget,
                "threshold": round(float(THRESHOLDS[place]), 6),
                **figures(judged, place),
                "held_out": apart[number],
                **{name: figures(own, place) if own else None for name, own in parts.items()},
            }
            for number, (budget, place) in enumerate(zip(BUDGETS, places, strict=True))
        ]
    assert before.rolling.elevated is not None
    outcomes = [
        try_thresholds(windows, rolling_stress(windows, before, card), [before.rolling.elevated], before)
        for windows in heard_before
    ]
    return {"modes": modes, "before": figures(outcomes, 0)}


def judge_streams(heard: Sequence[HeardStream], kind: BaselineKind, card: Card) -> list[Outcome]:
    """Returns the episodes of streams at all `THRESHOLDS`, for streams with such a baseline.

    Args:
        heard: streams; those of kind lively take the baseline that is declared from another one of the speaker.
        kind: of baseline.
        card: of the model.
    """
    mode = BaselineMode.OFF if kind is BaselineKind.OFF else BaselineMode.ADAPTIVE
    settings = DEVICE.model_copy(update={"baseline": BaselineSettings(mode=mode)})
    thresholds = THRESHOLDS.tolist()
    out = []
    for windows in heard:
        baseline = _declared(windows, heard) if kind is BaselineKind.DECLARED else None
        if kind is BaselineKind.DECLARED and baseline is None:
            continue
        stress = rolling_stress(windows, settings, card, baseline)
        out.append(try_thresholds(windows, stress, thresholds, settings))
    return out


def _windows(
    request: OperatingRequest, strangers: Strangers, clips: Sequence[Utterance], before: Settings
) -> KeptWindows:
    """Returns the windows of all streams: those that are kept, or heard now, and then kept if that is wanted."""
    origin = strangers.file.origin
    models = {"file": strangers.file.final}
    for place, opened in enumerate(strangers.runs, start=1):
        models |= {f"run {place}, fold {fold}": model for fold, model in opened.by_fold.items()}
    wanted = made_of(
        models, clips, request.calm, [DEVICE, before],
        preset=request.preset or origin.preset, trained_on=list(origin.trained_on or ()),
    )  # fmt: skip
    if request.windows is not None and request.windows.exists():
        kept = read_windows(request.windows)
        check_made_of(request.windows, kept, wanted)
        return kept
    kept = KeptWindows(wanted, [], [])
    with tqdm(unit=" s", desc="streams") as bar:
        for stream, model in _streams(request, strangers, clips):
            windows = hear(stream, model, [DEVICE, before])
            kept.heard.extend(windows[:1])
            kept.heard_before.extend(windows[1:])
            bar.update(round(stream.samples.size / SAMPLE_RATE))
    if request.windows is not None:
        write_windows(request.windows, kept)
    return kept


def _open(request: OperatingRequest, fitted: Sequence[Utterance]) -> Strangers:
    file = open_file(request.file)
    card = file.final.card
    runs = [open_run(path, fitted, fitted) for path in request.models if path.is_dir()]
    for opened in runs:
        for model in opened.by_fold.values():
            model.card = replace(model.card, calibration=card.calibration, speech_trust=card.speech_trust)
    return Strangers(file, runs)


def _streams(
    request: OperatingRequest, strangers: Strangers, clips: Sequence[Utterance]
) -> Iterator[tuple[StrangerStream, Model]]:
    preset = read_preset(request.preset or strangers.file.origin.preset)
    speakers: dict[tuple[str, str], list[Utterance]] = {}
    for clip in clips:
        speakers.setdefault((clip.corpus, clip.speaker), []).append(clip)
    for _, own in sorted(speakers.items()):
        model = strangers.model_for(own[0])
        if model is not None:
            yield from ((stream, model) for stream in speaker_streams(own, preset))
    for path in request.calm:
        yield from ((stream, strangers.file.final) for stream in calm_recordings(path))


def _declared(windows: HeardStream, heard: Sequence[HeardStream]) -> Baseline | None:
    """Returns a stream's declared baseline: of its own calm speech, or for a lively one of the speaker's others."""
    if windows.kind is not Kind.LIVELY:
        return declared_baseline(windows)
    speaker = (windows.corpus, windows.speaker)
    others = (each for each in heard if (each.corpus, each.speaker) == speaker and each.kind is not Kind.LIVELY)
    return next((baseline for each in others if (baseline := declared_baseline(each)) is not None), None)


def _origin(request: OperatingRequest, strangers: Strangers) -> dict[str, Any]:
    model = strangers.file.final
    return {
        "schema": SCHEMA,
        "edge_sser": __version__,
        "date": datetime.now(tz=timezone.utc).date().isoformat(),
        "machine": f"{describe_cpu()}; Python {platform.python_version()}",
        "command": ["edge-sser", *sys.argv[1:]],
        "model": {"file": request.file.name, "label": model.label},
        "runs": [
            {"name": path.name, "folds": sorted(opened.by_fold)}
            for path, opened in zip([path for path in request.models if path.is_dir()], strangers.runs, strict=True)
        ],
    }
