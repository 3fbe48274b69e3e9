"""The comparison of reference systems with ours, from made-up predictions, and its tables, page and pictures."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from edge_sser.errors import EdgeSserError, UsageError
from edge_sser.train.data.labels import EMOTIONS, read_preset
from edge_sser.train.evaluate.metrics import auroc, bootstrap_speakers, macro_f1, macro_roc_curve, unweighted_accuracy
from edge_sser.train.evaluate.predictions import Origin, Prediction, write_origin, write_predictions
from edge_sser.train.evaluate.score_table import ScoreTable
from edge_sser.train.evaluate.speaker_bootstrap import auroc_interval, ua_interval
from edge_sser.train.references.compare import Comparison, CorpusScores, compare, stress_under
from edge_sser.train.references.compare_table import leaky_table, score_tables
from edge_sser.train.references.goals import Claim, claims
from edge_sser.train.references.result_files import Kind, read_groups

SPEAKERS, CLIPS = 12, 16
DRAWS = 40


def predictions(sure: float, *, corpus: str = "ravdess", folds: Sequence[int] = range(1, 7)) -> list[Prediction]:
    """Two speakers a fold and two clips an emotion; the label is the likelier, the surer the system."""
    random = np.random.default_rng(7)
    out = []
    for speaker in range(SPEAKERS):
        for clip in range(CLIPS):
            emotion = clip % len(EMOTIONS)
            values = random.random(len(EMOTIONS))
            values[emotion] += sure
            likely = values / values.sum()
            fold = speaker // 2 + 1
            stress = float(likely[EMOTIONS.index("angry")] + likely[EMOTIONS.index("fearful")])
            out.append(
                Prediction(
                    path=f"{corpus}/{speaker}-{clip}.flac", corpus=corpus, speaker=f"s{speaker}", sex="F", fold=fold,
                    emotion=EMOTIONS[emotion], intensity="normal", emotions=tuple(likely.tolist()), stress=stress,
                )
            )  # fmt: skip
    return [each for each in out if each.fold in folds]


def write(
    folder: Path,
    name: str,
    found: Sequence[Prediction],
    *,
    system: str = "",
    baseline: bool = False,
    trained_on: tuple[str, ...] = ("ravdess",),
) -> None:
    path = folder / f"{name}.csv"
    write_predictions(path, found)
    write_origin(path, Origin(system=system or name, seed=1, trained_on=trained_on, baseline=baseline))


def write_facts(folder: Path, name: str, **facts: object) -> None:
    (folder / f"{name}.facts.json").write_text(json.dumps({"window_s": 3.0, "machine": "a", **facts}), "utf-8")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A complete reference with its original protocol, one of two folds, ours and a baseline."""
    write(tmp_path, "cnn1d-mfcc", predictions(0.4))
    write(tmp_path, "cnn1d-mfcc.ravdess", predictions(0.3), system="cnn1d-mfcc.ravdess")
    leaky = [replace(each, fold=0) for each in predictions(1.5)]
    write(tmp_path, "cnn1d-mfcc.original", leaky, system="cnn1d-mfcc.original")
    write(tmp_path, "rnn-mfcc", predictions(0.6, folds=(1, 2)))
    write(tmp_path, "ours", predictions(0.62))
    write(tmp_path, "level-only", predictions(0.0), baseline=True)
    write_facts(tmp_path, "cnn1d-mfcc", parameters=77_633, mflops=3.0, cpu_ms=2.0, fit_seconds=9.0)
    write_facts(tmp_path, "rnn-mfcc", parameters=48_681, mflops=1.0, cpu_ms=4.0, note="random weights")
    write_facts(tmp_path, "ours", parameters=1_000, mflops=0.5, cpu_ms=1.0)
    epochs = [{"loss": 2.0 / epoch, "ua": 0.1 * epoch} for epoch in range(1, 5)]
    (tmp_path / "cnn1d-mfcc.history.json").write_text(json.dumps({"1": epochs, "2": epochs}), "utf-8")
    return tmp_path


@pytest.fixture
def comparison(results: Path) -> Comparison:
    return compare(read_groups([results]), draws=DRAWS)


def train_compare(*arguments: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_sser.cli", "train", "compare", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize("seed", range(4))
def test_intervals_are_those_of_the_plain_bootstrap(seed: int) -> None:
    random = np.random.default_rng(seed)
    speakers = np.array([f"s{place}" for place in random.integers(7, size=120)])
    labels, decisions = (random.integers(5, size=120) for _ in range(2))
    labels[labels == 4] = np.where(random.random((labels == 4).sum()) < 0.2, 4, 0)  # a class that some draws lack
    scores = random.integers(20, size=120).astype(np.float64)  # with ties
    stress = (labels > 2).astype(np.int64)
    plain = bootstrap_speakers(
        lambda drawn: (unweighted_accuracy(labels[drawn], decisions[drawn]), auroc(stress[drawn], scores[drawn])),
        speakers,
        draws=DRAWS,
    )
    fast = (
        ua_interval(speakers, labels, decisions, draws=DRAWS),
        auroc_interval(speakers, stress, scores, draws=DRAWS),
    )
    for expected, found in zip(plain, fast, strict=True):
        assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_a_single_speaker_has_no_interval() -> None:
    labels = np.array([0, 1, 0, 1])
    found = [
        ua_interval(np.array(["a"] * 4), labels, labels, draws=DRAWS),
        auroc_interval(np.array(["a"] * 4), labels, labels.astype(float), draws=DRAWS),
    ]
    assert [each.value for each in found] == [1.0, 1.0]
    assert all(np.isnan(each.low) and np.isnan(each.high) for each in found)


def test_macro_f1_and_macro_roc_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import f1_score, roc_auc_score

    random = np.random.default_rng(3)
    labels, decisions = random.integers(4, size=300), random.integers(5, size=300)
    expected = f1_score(labels, decisions, labels=range(4), average="macro")
    assert macro_f1(labels, decisions) == pytest.approx(expected)
    likely = random.dirichlet(np.ones(4), 300)
    rates, recalls = macro_roc_curve(labels, likely)
    area = float(np.sum(np.diff(rates) * (recalls[1:] + recalls[:-1]) / 2))
    assert area == pytest.approx(roc_auc_score(labels, likely, multi_class="ovr", average="macro"), abs=0.01)


def test_stress_under_another_preset_comes_from_the_emotions() -> None:
    one = predictions(0.5)[:1]
    assert stress_under(one, "quadrant", read_preset("quadrant"))[0].stress == one[0].stress
    (other,) = stress_under(one, "quadrant", read_preset("sssr"))
    share = sum(one[0].emotions[EMOTIONS.index(name)] for name in ("sad", "angry", "fearful", "disgust"))
    assert other.stress == pytest.approx(share)


def test_systems_are_told_apart_by_their_part(comparison: Comparison) -> None:
    kinds = {system.name: system.group.kind for system in comparison.systems}
    assert kinds == {
        "cnn1d-mfcc": Kind.REFERENCE,
        "rnn-mfcc (folds 1,2)": Kind.REFERENCE,
        "ours": Kind.OURS,
        "ours (folds 1,2)": Kind.OURS,
        "level-only": Kind.BASELINE,
    }


def test_ours_stands_beside_an_incomplete_reference_on_its_folds(comparison: Comparison) -> None:
    subset = next(each for each in comparison.systems if each.name == "ours (folds 1,2)")
    table = ScoreTable(predictions(0.62, folds=(1, 2)), read_preset("quadrant"))
    clips = [table.fold == fold for fold in (1, 2)]
    expected = np.mean([unweighted_accuracy(table.emotion[inside], table.decided[inside]) for inside in clips])
    assert subset.corpora["ravdess"].ua == pytest.approx(expected)
    assert subset.corpora["ravdess"].folds == (1, 2)
    assert subset.corpora["ravdess"].clips == 4 * CLIPS


def test_leaky_against_honest_is_of_the_training_on_one_corpus(comparison: Comparison, results: Path) -> None:
    (pair,) = comparison.leaky
    assert pair.alone
    assert pair.leaky.ua > pair.honest.ua
    (row,) = leaky_table(comparison).rows
    assert row[:3] == ["cnn1d-mfcc", f"{100 * pair.leaky.ua:.1f}", f"{100 * pair.honest.ua:.1f}"]
    (results / "cnn1d-mfcc.ravdess.csv").unlink()
    (pair,) = compare(read_groups([results]), draws=DRAWS).leaky
    assert pair.alone
    write(results, "cnn1d-mfcc", predictions(0.4), trained_on=("ravdess", "tess"))
    (pair,) = compare(read_groups([results]), draws=DRAWS).leaky
    assert not pair.alone
    assert "honest: all corpora" in leaky_table(Comparison([], [pair])).rows[0][0]


def test_a_training_on_two_corpora_is_no_corpus_never_heard_and_pairs_with_the_same_two(results: Path) -> None:
    both = [*predictions(0.3), *predictions(0.3, corpus="tess")]
    write(results, "cnn1d-mfcc.ravdess+tess", both, trained_on=("ravdess", "tess"))
    (group,) = read_groups(sorted(results.glob("cnn1d-mfcc*.csv")))
    assert {each.corpus for each in group.honest[0].predictions} == {"ravdess"}
    assert set(group.alone) == {"ravdess", "ravdess+tess"}
    for original, corpora in (("ravdess",), {"ravdess"}), (("ravdess", "tess"), {"ravdess", "tess"}):
        leaky = [replace(each, fold=0) for each in both if each.corpus in corpora]
        write(results, "cnn1d-mfcc.original", leaky, trained_on=original)
        pairs = compare(read_groups([results]), draws=DRAWS).leaky
        assert {pair.honest.corpus for pair in pairs} == corpora
        assert all(pair.alone for pair in pairs)
    for name in ("cnn1d-mfcc.ravdess+tess", "cnn1d-mfcc"):
        (results / f"{name}.csv").unlink()
    assert not compare(read_groups([results]), draws=DRAWS).leaky  # ravdess alone learned less than the original


def test_a_training_on_one_corpus_stands_for_a_system_without_another(results: Path) -> None:
    (results / "cnn1d-mfcc.csv").unlink()
    systems = compare(read_groups([results]), draws=DRAWS).systems
    assert systems[0].name == "cnn1d-mfcc (ravdess alone)"
    assert systems[0].group.facts.parameters == 77_633


def test_goals_are_judged_on_the_same_folds(comparison: Comparison) -> None:
    above, cheaper = claims(comparison)
    ours = next(each for each in comparison.systems if each.name == "ours (folds 1,2)").corpora["ravdess"]
    theirs = next(each for each in comparison.systems if each.group.name == "rnn-mfcc").corpora["ravdess"]
    assert above.compared == 2
    assert (not above.against) == (ours.stress["quadrant"].auroc > theirs.stress["quadrant"].auroc)
    assert cheaper.compared == 1  # cnn1d-mfcc is more than 3 points below
    assert "4.00 ms, ours 1.00" in cheaper.against["rnn-mfcc (folds 1,2)"]


def test_goals_that_are_missed_name_the_reference(results: Path) -> None:
    write(results, "cnn1d-mfcc", predictions(2.0))
    (results / "cnn1d-mfcc.facts.json").unlink()

    def judged() -> tuple[Claim, Claim]:
        above, cheaper = claims(compare(read_groups([results]), draws=DRAWS))
        return above, cheaper

    above, cheaper = judged()
    assert "AUROC 1.000" in above.against["cnn1d-mfcc"]
    assert "cost not measured" in cheaper.against["cnn1d-mfcc"]
    write_facts(results, "cnn1d-mfcc", parameters=94_000_000 + 10_000_000, cpu_ms=500.0)
    above, cheaper = judged()
    assert "cnn1d-mfcc" not in {*above.against, *cheaper.against}


def test_seeds_of_one_system_are_averaged(results: Path) -> None:
    path = results / "ours-2.csv"
    write_predictions(path, predictions(1.0))
    write_origin(path, Origin(system="ours", seed=2))
    found = {each.name: each.corpora["ravdess"].ua for each in compare(read_groups([results]), draws=DRAWS).systems}
    alone = [
        compare(read_groups([results / name]), draws=DRAWS).systems[0].corpora["ravdess"].ua
        for name in ("ours.csv", "ours-2.csv")
    ]
    assert found["ours"] == pytest.approx(np.mean(alone))


def test_a_corpus_never_heard_joins_a_system_and_calibrates_no_other(results: Path) -> None:
    def ours() -> dict[str, CorpusScores]:
        (system,) = compare(read_groups(sorted(results.glob("ours*.csv"))), draws=DRAWS).systems
        assert not system.folds
        return dict(system.corpora)

    alone = ours()["ravdess"]
    foreign = [replace(each, fold=0, stress=each.stress / 4) for each in predictions(0.7, corpus="spanish")]
    write(results, "ours.spanish", foreign, system="ours")
    both = ours()
    assert list(both) == ["ravdess", "spanish"]
    assert both["spanish"].folds == (0,)
    assert both["ravdess"].stress["quadrant"] == alone.stress["quadrant"]


def test_the_command_prints_and_writes_everything(results: Path, tmp_path: Path) -> None:
    page, figures, plots = tmp_path / "page.html", tmp_path / "figures.json", tmp_path / "plots"
    done = train_compare(results, "--html", page, "--json", figures, "--plots", plots)
    for words in ("Leaky against honest: ravdess", "rnn-mfcc (folds 1,2)", "random weights", "ours on ravdess: above"):
        assert words in done.stdout
    values = json.loads(figures.read_text("utf-8"))
    assert [each["system"] for each in values["systems"]] == ["cnn1d-mfcc", "rnn-mfcc", "ours", "level-only", "ours"]
    assert values["leaky"][0]["difference"]["ua"] < 0.0
    assert values["systems"][0]["corpora"]["ravdess"]["stress"]["sssr"]["auroc"] is not None
    text = page.read_text("utf-8")
    assert "<script" not in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert text.count('role="img"') >= 10
    names = {path.name for path in plots.iterdir()}
    assert {
        "leaky-against-honest.svg", "metrics-ravdess.svg", "cnn1d-mfcc-confusion.svg", "cnn1d-mfcc-radar.svg",
        "cnn1d-mfcc-roc.svg", "cnn1d-mfcc-training-loss.svg", "ours-confusion.svg",
    } <= names  # fmt: skip
    for path in plots.iterdir():
        tags = [element.tag.rpartition("}")[2] for element in ElementTree.parse(path).iter()]
        assert {"rect", "text", "style"} <= set(tags)
        assert "var(" not in path.read_text("utf-8")


def test_the_contrast_of_hops_is_drawn(tmp_path: Path) -> None:
    from edge_sser.train.report.comparison import hop_contrast

    for hop, sure in ((50, 0.6), (149, 0.3)):
        write(tmp_path, f"ssl-windows-{hop}", predictions(sure))
    picture = hop_contrast(compare(read_groups([tmp_path]), draws=DRAWS))
    assert picture is not None
    assert picture.drawing.count("<circle") == 2
    assert [name for name, _ in picture.legend] == ["ssl-windows"]


def test_rows_of_a_corpus_are_ordered_by_part_and_score(comparison: Comparison) -> None:
    (table,) = score_tables(comparison)
    assert table.title == "ravdess"
    assert [row[0] for row in table.rows][:2] == ["cnn1d-mfcc", "rnn-mfcc (folds 1,2)"]
    assert len({len(row) for row in [table.headers, *table.rows]}) == 1


def test_bars_stand_in_the_order_of_the_table_under_whole_names(comparison: Comparison) -> None:
    from edge_sser.train.report.comparison import metric_bars

    names = re.findall(r'class="tick end"[^>]*>([^<]+)<', metric_bars(comparison, "ravdess").drawing)
    assert names == ["cnn1d-mfcc", "rnn-mfcc", "ours", "level-only"]


def test_a_single_epoch_is_no_curve(results: Path) -> None:
    (results / "rnn-mfcc.history.json").write_text(json.dumps({"1": [{"c": 1.0}]}), "utf-8")
    curves = {group.name: group.honest[0].histories for group in read_groups([results])}
    assert (len(curves["cnn1d-mfcc"]), len(curves["rnn-mfcc"])) == (2, 0)


def damage_facts(folder: Path) -> None:
    (folder / "ours.facts.json").write_text('{"cpu_ms": "soon"}', "utf-8")


def damage_history(folder: Path) -> None:
    (folder / "cnn1d-mfcc.history.json").write_text("[1]", "utf-8")


def add_twin(folder: Path) -> None:
    write(folder, "ours-again", predictions(0.5), system="ours")


def add_copy(name: str) -> Callable[[Path], None]:
    def add(folder: Path) -> None:
        (folder / "other").mkdir()
        for suffix in ("csv", "json"):
            (folder / "other" / f"{name}.{suffix}").write_bytes((folder / f"{name}.{suffix}").read_bytes())

    return add


def add_seed_of_fewer_folds(folder: Path) -> None:
    path = folder / "ours-2.csv"
    write_predictions(path, predictions(1.0, folds=(1, 2)))
    write_origin(path, Origin(system="ours", seed=2))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_facts, r"ours.facts.json: .*train reference"),
        (damage_history, r"cnn1d-mfcc.history.json: .*train reference"),
        (add_twin, r"are both ours with one seed"),
        (add_copy("cnn1d-mfcc.ravdess"), r"other/.* are both cnn1d-mfcc.ravdess with one seed: give one of them"),
        (add_copy("cnn1d-mfcc.original"), r"other/.* are both cnn1d-mfcc.original with one seed: give one of them"),
        (add_seed_of_fewer_folds, r"ours.csv are seeds of ours, and one alone has fold 3 of ravdess"),
    ],
)
def test_wrong_files_are_named(results: Path, damage: Callable[[Path], None], words: str) -> None:
    damage(results)
    with pytest.raises(EdgeSserError, match=words):
        read_groups([path for path in (results, results / "other") if path.exists()])


def test_a_place_is_given_once(results: Path) -> None:
    with pytest.raises(UsageError, match="given twice"):
        read_groups([results, results / "ours.csv"])


def test_a_place_without_predictions_is_refused_by_the_command(tmp_path: Path) -> None:
    assert "no predictions there" in train_compare(tmp_path, status=2).stderr
