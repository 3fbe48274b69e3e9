"""Operating points: streams of strangers, the replay of the decision, budgets, and the command's result."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from pitch_model import write_pitch_model
from voices import RATE, voice

from edge_sser.errors import TrainingError, UsageError
from edge_sser.model.card import OperatingPoint, check_points
from edge_sser.model.model import Model
from edge_sser.settings.schema import BaselineMode, BaselineSettings, Detector, GateSettings, Settings
from edge_sser.train.corpora.table import Utterance, write_table
from edge_sser.train.data.labels import read_preset
from edge_sser.train.evaluate import operating
from edge_sser.train.evaluate.alarms import find_alarms
from edge_sser.train.evaluate.budgets import BUDGETS, THRESHOLDS, choose_thresholds, figures, half, held_out
from edge_sser.train.evaluate.kept_windows import KeptWindows, read_windows, write_windows
from edge_sser.train.evaluate.models import open_file
from edge_sser.train.evaluate.operating import OperatingRequest, Strangers, judge_streams, run
from edge_sser.train.evaluate.operating_result import operating_points
from edge_sser.train.evaluate.replay import (
    HeardStream,
    Outcome,
    declared_baseline,
    hear,
    rolling_stress,
    try_thresholds,
)
from edge_sser.train.evaluate.stamp import read_points, stamp
from edge_sser.train.evaluate.strangers import Kind, StrangerStream, calm_recordings, speaker_streams
from edge_sser.train.evaluate.streaming import play_stream
from edge_sser.train.evaluate.streams import Span

STRESS = read_preset("quadrant")
DEVICE = Settings(gate=GateSettings(detector=Detector.WEBRTC))  # to the network the toy voices are tones


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Utterance]:
    """One speaker with 30 s of calm, 70 s of angry and 10 s of happy clips."""
    folder = tmp_path_factory.mktemp("speaker")
    pitches = {"calm": 120.0, "happy": 120.0, "angry": 240.0}
    out = []
    for emotion, count in (("calm", 10), ("angry", 24), ("happy", 4)):
        for place in range(count):
            path = folder / f"{emotion}-{place}.flac"
            syllables = 5.0 if emotion == "angry" else 2.5
            soundfile.write(
                path, voice(pitch_hz=pitches[emotion], syllables_hz=syllables, seconds=2.4, seed=place % 3), RATE
            )
            out.append(
                Utterance(
                    path=str(path), corpus="toy", speaker="ann", sex="F", emotion=emotion, intensity="", fold=1,
                    duration_s=2.4, sha256=f"{emotion}{place}",
                )
            )  # fmt: skip
    return out


@pytest.fixture(scope="module")
def streams(clips: Sequence[Utterance]) -> Sequence[StrangerStream]:
    return list(speaker_streams(clips, STRESS))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model.load(write_pitch_model(tmp_path_factory.mktemp("model") / "pitch.onnx"))


@pytest.fixture(scope="module")
def heard(streams: Sequence[StrangerStream], model: Model) -> HeardStream:
    (windows,) = hear(streams[0], model, [DEVICE])
    return windows


def test_a_speaker_gives_streams_with_stress_a_calm_and_a_lively_one(streams: Sequence[StrangerStream]) -> None:
    assert [stream.kind for stream in streams] == [Kind.EVENT, Kind.EVENT, Kind.CALM, Kind.LIVELY]
    for stream in streams[:2]:
        (event,) = stream.events
        assert 60 * RATE <= event.start - 3 * RATE <= 64 * RATE  # the calm clips are repeated
        assert 28 * RATE <= event.end - event.start <= 33 * RATE
        assert 40 * RATE <= stream.samples.size - event.end - 3 * RATE <= 45 * RATE
    assert all(not stream.events for stream in streams[2:])
    assert not np.any(streams[0].samples[:RATE] == 0.0)  # no digital silence


def test_too_few_clips_give_no_stream(clips: Sequence[Utterance]) -> None:
    few = [clip for clip in clips if clip.emotion == "calm"][:2] + [clip for clip in clips if clip.emotion == "angry"]
    assert not list(speaker_streams(few, STRESS))


def test_calm_recordings_are_played_as_they_are_and_those_of_a_folder_joined(tmp_path: Path) -> None:
    samples = voice(pitch_hz=120.0, syllables_hz=2.5, seconds=30.0, seed=1)
    for place in range(11):
        soundfile.write(tmp_path / f"{place}.flac", samples, RATE)
    soundfile.write(tmp_path / "silence.flac", np.zeros(RATE), RATE)
    soundfile.write(tmp_path / "click.flac", samples[: RATE // 4], RATE)
    (one,) = calm_recordings(tmp_path / "1.flac")
    assert (one.corpus, one.clip, one.samples.size) == ("1", None, samples.size)
    (joined,) = calm_recordings(tmp_path)
    assert joined.samples.size / RATE == pytest.approx(10 * 30.55 + 6.0, rel=0.05)
    with pytest.raises(Exception, match="no such file"):
        list(calm_recordings(tmp_path / "none"))


@pytest.mark.parametrize("mode", [BaselineMode.OFF, BaselineMode.ADAPTIVE])
def test_the_replay_is_what_the_monitor_says(
    streams: Sequence[StrangerStream], heard: HeardStream, model: Model, mode: BaselineMode
) -> None:
    settings = DEVICE.model_copy(update={"baseline": BaselineSettings(mode=mode)})
    readings = play_stream(streams[0].samples, model, settings).readings
    stress = rolling_stress(heard, settings, model.card)
    assert len(stress) == len(readings)
    for own, reading in zip(stress, readings, strict=True):
        assert (own is None) == (reading.stress_rolling is None)
        assert own is None or own == pytest.approx(reading.stress_rolling, abs=2e-4)
    theirs = find_alarms(readings, settings, elevated=0.4)
    assert theirs
    outcome = try_thresholds(heard, stress, [0.4, 0.999999], settings)
    assert outcome.delays[0, 0] == (theirs[0].start - heard.events[0].start) / RATE
    assert np.isnan(outcome.delays[1, 0])
    assert outcome.false.tolist() == [len(theirs) - 1, 0]
    (event,) = heard.events
    assert outcome.calm_seconds == pytest.approx((heard.length - (event.end - event.start)) / RATE - 3.5)


def test_a_declared_baseline_knows_the_speech_in_front_of_the_stress(heard: HeardStream) -> None:
    baseline = declared_baseline(heard)
    assert baseline is not None
    assert baseline.declared
    assert 25.0 <= baseline.heard_seconds <= 30.0
    early = replace(heard, events=[Span(20 * RATE, 50 * RATE)])
    assert declared_baseline(early) is None


def test_lively_speech_of_a_speaker_who_is_known_is_judged_by_calm_speech(heard: HeardStream, model: Model) -> None:
    """Not by the first 30 s of itself, which the same stream without a calm one would be."""
    lively = replace(heard, kind=Kind.LIVELY, events=[])
    calm = replace(lively, kind=Kind.CALM)
    kind = operating.BaselineKind.DECLARED
    assert len(judge_streams([lively, calm], kind, model.card)) == 2
    assert len(judge_streams([lively, replace(calm, speaker="other")], kind, model.card)) == 1


def outcome_of(speaker: str, false: Sequence[int], found: Sequence[bool], hours: float = 1.0) -> Outcome:
    """An outcome at all thresholds: so many false episodes, and one stressed part found after 5 s or not."""
    windows = HeardStream(
        corpus="toy", speaker=speaker, sex="F", kind=Kind.EVENT, events=[], length=0, ends=[], scored=[], log_odds=[],
        speech_seconds=[],
    )  # fmt: skip
    delays = np.where(np.array(found)[:, np.newaxis], 5.0, np.nan)
    zeros = np.zeros(THRESHOLDS.size, dtype=np.int64)
    return Outcome(
        heard=windows, delays=delays, masked=zeros, false=np.array(false, dtype=np.int64),
        calm_seconds=3600.0 * hours, alarm_seconds=np.zeros(THRESHOLDS.size),
    )  # fmt: skip


def test_a_budget_gets_the_lowest_threshold_that_keeps_to_it() -> None:
    count = THRESHOLDS.size
    false = [1 if place < 10 else 6 if place < 50 else 3 if place < 100 else 0 for place in range(count)]
    outcome = outcome_of("ann", false, [place < 80 for place in range(count)], hours=1.0)
    # Below the tenth threshold all alarms run into one: that is no better than six.
    assert choose_thresholds([outcome], [0.5, 3.0, 5.9, 6.0]) == [100, 50, 50, 0]
    at = figures([outcome], 50)
    assert (at["found"], at["events"], at["delay_median_s"], at["false"]) == (1, 1, 5.0, 3)
    low, high = at["false_per_hour_95"]
    assert low < 3.0 < high
    assert figures([outcome], 100)["found"] == 0


def test_held_out_figures_take_the_threshold_of_the_other_half() -> None:
    count = THRESHOLDS.size
    names = [f"speaker {number}" for number in range(8)]
    quiet = [outcome_of(name, [0] * count, [True] * count) for name in names]
    halves = [half(outcome.heard) for outcome in quiet]
    assert set(halves) == {0, 1}
    loud = [
        replace(outcome, false=np.where(np.arange(count) < 100, 9, 0)) if half(outcome.heard) == 0 else outcome
        for outcome in quiet
    ]
    (own,) = held_out(loud, [1.0])
    # The quiet half's threshold is the lowest, and gives the loud half all its false episodes.
    assert own["false"] == 9 * halves.count(0)
    assert own["thresholds"] == [round(float(THRESHOLDS[100]), 4), round(float(THRESHOLDS[0]), 4)]


def request_of(tmp_path: Path, model: Model, clips: Sequence[Utterance], **changes: object) -> OperatingRequest:
    table = tmp_path / "table.csv"
    write_table(table, clips)
    values = {
        "models": [model.path],
        "tables": [table],
        "calm": [],
        "preset": "quadrant",
        "as_json": tmp_path / "o.json",
        "plot": None,
        "windows": None,
        "threads": 1,
        **changes,
    }
    return OperatingRequest(**values)  # type: ignore[arg-type]


def test_the_result_holds_figures_of_all_modes_and_every_setting(
    clips: Sequence[Utterance], model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(operating, "DEVICE", DEVICE)
    lines: list[str] = []
    request = request_of(tmp_path, model, clips, calm=[Path(clips[0].path)], plot=tmp_path / "o.png")
    run(request, lines.append)
    result = json.loads(request.as_json.read_text("utf-8"))
    assert set(result["modes"]) == {"off", "adaptive", "declared"}
    for points in result["modes"].values():
        assert [point["budget"] for point in points] == list(BUDGETS)
        assert all(point["false_per_hour"] <= point["budget"] for point in points)
        assert all(point["found"] == point["events"] == 2 for point in points)
        for point in points:
            assert point["lively"]["hours"] > 0.0
            for figure in ("hours", "false"):
                parts = point["calm"][figure] + point["lively"][figure]
                assert point[figure] == pytest.approx(parts, abs=2e-4)
    assert result["before"]["events"] == 2
    assert result["streams"]["event"]["toy"]["events"] == 2
    assert result["settings"]["filter"]["shares"] == [0.8, 0.15, 0.025, 0.025]
    assert result["settings"]["before"]["rolling"]["time_constant_seconds"] == 8.0
    check_points(operating_points(result))
    assert len(lines) == 3 + 3 * len(BUDGETS)
    assert (tmp_path / "o.png").stat().st_size > 1000


def test_kept_windows_give_the_same_figures_without_hearing_again(
    clips: Sequence[Utterance], model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operating, "DEVICE", DEVICE)
    request = request_of(tmp_path, model, clips, windows=tmp_path / "windows.json")
    run(request, lambda line: None)
    heard = json.loads(request.as_json.read_text("utf-8"))
    with monkeypatch.context() as patch:
        patch.setattr(operating, "hear", lambda *given: pytest.fail("the streams are heard again"))
        run(request, lambda line: None)
        assert json.loads(request.as_json.read_text("utf-8")) == heard
        for other, differs in (
            ({"tables": [], "calm": [Path(clips[0].path)]}, "speech"),
            ({"calm": [Path(clips[0].path)]}, "speech"),
            ({"preset": "arousal-valence"}, "settings"),
        ):
            with pytest.raises(TrainingError, match=f"windows were made with other {differs}; remove it"):
                run(request_of(tmp_path, model, clips, windows=request.windows, **other), print)
        renamed = [replace(clip, speaker="bob") for clip in clips]
        with pytest.raises(TrainingError, match="made with other speech"):
            run(request_of(tmp_path, model, renamed, windows=request.windows), print)
        loud = Model.load(write_pitch_model(tmp_path / "loud.onnx", slope=0.5))
        with pytest.raises(TrainingError, match="made with other models"):
            run(request_of(tmp_path, loud, clips, windows=request.windows), print)
        patch.setattr(operating, "DEVICE", Settings())
        with pytest.raises(TrainingError, match="made with other settings"):
            run(request_of(tmp_path, model, clips, windows=request.windows), print)


def short_column(content: str) -> str:
    kept = json.loads(content)
    kept["heard"][0]["ends"].pop()
    return json.dumps(kept)


@pytest.mark.parametrize("damage", [lambda text: "", lambda text: "[]", lambda text: text[:-9], short_column])
def test_a_file_that_holds_no_windows_is_refused(
    heard: HeardStream, tmp_path: Path, damage: Callable[[str], str]
) -> None:
    path = tmp_path / "windows.json"
    write_windows(path, KeptWindows({"models": {"file": 1.5}}, [heard], []))
    assert read_windows(path) == KeptWindows({"models": {"file": 1.5}}, [heard], [])
    path.write_text(damage(path.read_text("utf-8")), "utf-8")
    with pytest.raises(TrainingError, match="remove it, or name another file"):
        read_windows(path)


def test_speakers_that_the_model_was_trained_on_are_not_heard(clips: Sequence[Utterance], tmp_path: Path) -> None:
    trained = Model.load(write_pitch_model(tmp_path / "trained.onnx", trained_on=("toy",)))
    strangers = Strangers(open_file(trained.path), [])
    assert strangers.model_for(clips[0]) is None
    assert strangers.model_for(replace(clips[0], corpus="other")) is strangers.file.final
    assert strangers.model_for(None) is strangers.file.final
    with pytest.raises(TrainingError, match="nobody to listen to"):
        run(request_of(tmp_path, trained, clips), print)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": []}, "one .onnx model file"),
        ({"models": [Path("a.onnx"), Path("b.onnx")]}, "one .onnx model file"),
        ({"models": [Path("a.safetensors")]}, "one .onnx model file"),
        ({"tables": []}, "nothing to listen to"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    clips: Sequence[Utterance], model: Model, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        request_of(tmp_path, model, clips, **changes)


def test_a_run_needs_its_table(clips: Sequence[Utterance], model: Model, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs its table"):
        request_of(tmp_path, model, clips, models=[model.path, tmp_path], tables=[], calm=[tmp_path])


def test_a_stamp_changes_the_cards_and_no_graph(model: Model, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    parent, child, other = (tmp_path / name for name in ("pitch.onnx", "pitch.int8.onnx", "other.onnx"))
    write_pitch_model(parent)
    write_pitch_model(other, slope=0.5)
    write_pitch_model(child)
    graph = onnx.load(child)
    (entry,) = graph.metadata_props
    entry.value = replace(Model.load(child).card, precision="int8", parent_sha256=Model.load(parent).sha256).to_json()
    onnx.save(graph, child)
    graphs = {path: onnx.load(path).graph.SerializeToString() for path in (parent, child, other)}
    strange = other.read_bytes()
    point = OperatingPoint(
        baseline="off", false_alarms_per_hour=1.0, threshold=0.4, found=0.5, delay_median_s=9.0, delay_p95_s=None,
        hours=4.0, protocol="toy",
    )  # fmt: skip
    assert stamp(parent, [point]) == [parent, child]
    assert {path: onnx.load(path).graph.SerializeToString() for path in graphs} == graphs
    assert other.read_bytes() == strange
    stamped = Model.load(parent)
    assert stamped.card.operating_points == Model.load(child).card.operating_points == (point,)
    assert Model.load(child).card.parent_sha256 == stamped.sha256
    with pytest.raises(ValueError, match="operating_points"):
        stamp(parent, [replace(point, threshold=2.0)])
    assert Model.load(parent).sha256 == stamped.sha256


def test_only_results_of_the_command_can_be_stamped(tmp_path: Path) -> None:
    for content in ("", "[1]", '{"before": {"events": 3}, "modes": {}}'):
        (tmp_path / "o.json").write_text(content, "utf-8")
        with pytest.raises(TrainingError, match="make it with edge-sser train operating"):
            read_points(tmp_path / "o.json")
    with pytest.raises(TrainingError, match="No such file"):
        read_points(tmp_path / "none.json")


def test_a_result_without_stress_has_no_operating_points() -> None:
    with pytest.raises(TrainingError, match="no stressed parts"):
        operating_points({"before": {"events": 0}, "modes": {}})
