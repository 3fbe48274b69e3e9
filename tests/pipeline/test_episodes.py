"""Episodes: each starts once, goes on, and ends once."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from streams import LAW, RATE

from edge_sser.events import Level, Phase
from edge_sser.pipeline.episodes import EpisodeReport, Episodes
from edge_sser.settings.schema import EpisodeSettings

HOP = RATE // 2
# Each hop has a rolling stress and a level, or no speech; in stretches, as speech does.
hops = st.lists(
    st.tuples(st.one_of(st.none(), st.tuples(st.floats(0.0, 1.0), st.sampled_from(list(Level)))), st.integers(1, 40)),
    min_size=1,
    max_size=12,
).map(lambda stretches: [each for each, times in stretches for _ in range(times)])


def run(sequence: list[tuple[float, Level] | None], settings: EpisodeSettings) -> list[tuple[int, EpisodeReport]]:
    """Returns each report with its time."""
    stage = Episodes(settings)
    out: list[tuple[int, EpisodeReport | None]] = []
    now = 0
    for hop in sequence:
        now += HOP
        out.append((now, stage.silence(now) if hop is None else stage.speech(*hop, now)))
    out.append((now, stage.finish()))
    assert stage.finish() is None
    return [(now, report) for now, report in out if report is not None]


@LAW
@given(sequence=hops, lowest=st.sampled_from([Level.ELEVATED, Level.HIGH]))
def test_every_episode_starts_goes_on_and_ends(sequence: list[tuple[float, Level] | None], lowest: Level) -> None:
    settings = EpisodeSettings(level=lowest, update_seconds=3.0, silence_seconds=5.0)
    episode: list[tuple[int, EpisodeReport]] = []
    for now, report in run(sequence, settings):
        assert (report.phase is Phase.START) == (not episode)
        episode.append((now, report))
        assert report.start <= report.end <= now
        assert report.start == episode[0][0]
        assert report.level.rank >= lowest.rank
        assert 0.0 <= report.mean <= report.peak + 1e-12 <= 1.0 + 1e-12
        for (earlier, before), (later, after) in itertools.pairwise(episode):
            assert before.end <= after.end
            assert before.peak <= after.peak
            assert before.level.rank <= after.level.rank
            if after.phase is Phase.UPDATE:
                assert later - earlier >= 3 * RATE
        if report.phase is Phase.END:
            episode = []
    assert not episode


@LAW
@given(sequence=hops)
def test_an_episode_is_open_exactly_while_speech_is_at_its_level(sequence: list[tuple[float, Level] | None]) -> None:
    reports = run(sequence, EpisodeSettings(silence_seconds=5.0))
    expected, silent, is_open = 0, 0, False
    for hop in sequence:
        silent = silent + HOP if hop is None else 0
        if hop is not None:
            expected += not is_open and hop[1] is not Level.LOW
            is_open = hop[1] is not Level.LOW
        elif silent >= 5 * RATE:
            is_open = False
    assert sum(report.phase is Phase.START for _, report in reports) == expected
    assert sum(report.phase is Phase.END for _, report in reports) == expected


def test_it_reports_peak_mean_and_the_highest_level_of_the_speech() -> None:
    sequence = [(0.5, Level.ELEVATED), (0.9, Level.HIGH), None, (0.7, Level.ELEVATED), (0.3, Level.LOW)]
    (_, start), (ended_at, end) = run(sequence, EpisodeSettings())
    assert (start.phase, start.level, start.start, start.end) == (Phase.START, Level.ELEVATED, HOP, HOP)
    assert (start.peak, start.mean) == (0.5, 0.5)
    assert (end.phase, end.level, end.start, end.end) == (Phase.END, Level.HIGH, HOP, 5 * HOP)
    assert (end.peak, round(end.mean, 12)) == (0.9, 0.6)
    assert ended_at == 5 * HOP


def test_it_ends_after_the_silence_and_lasts_to_the_last_speech() -> None:
    sequence = [(0.6, Level.ELEVATED)] * 4 + [None] * 100
    (_, _), (ended_at, end) = run(sequence, EpisodeSettings(silence_seconds=8.0))
    assert end.phase is Phase.END
    assert end.end == 4 * HOP
    assert ended_at == 4 * HOP + 8 * RATE


def test_updates_come_as_often_as_set_in_silence_too() -> None:
    sequence = [(0.6, Level.ELEVATED)] * 10 + [None] * 50
    reports = run(sequence, EpisodeSettings(update_seconds=2.0, silence_seconds=60.0))
    assert [report.phase for _, report in reports] == [Phase.START] + [Phase.UPDATE] * 14 + [Phase.END]
    assert [now // HOP for now, _ in reports[1:4]] == [5, 9, 13]


def test_below_the_level_that_was_set_there_is_no_episode() -> None:
    settings = EpisodeSettings(level=Level.HIGH)
    assert run([(0.6, Level.ELEVATED)] * 10, settings) == []
    assert len(run([(0.6, Level.ELEVATED), (0.9, Level.HIGH), (0.6, Level.ELEVATED)], settings)) == 2
