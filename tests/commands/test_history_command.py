"""`edge-sser history`: a range in local time, as a table, lines, CSV, Parquet and a plot."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from components import require_package
from history_days import DAY, write_days

from edge_sser.commands.history.moments import parse_moment
from edge_sser.history.place import history_file
from edge_sser.history.summary import start_of_day
from edge_sser.settings.schema import Settings

NOW = datetime(2026, 11, 29, 9, 30)  # a Sunday


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def yesterday(own_home: Path, berlin: None) -> int:
    """The start of yesterday, in a history of three days and two sources where `listen` would write it."""
    path = history_file(Settings())
    path.parent.mkdir(parents=True)
    start = start_of_day(start_of_day(time.time()) - DAY / 2)
    write_days(path, start=start - DAY, days=3, sources=2, gap=(3, 5))
    return start


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", "2026-11-29T09:30:00+01:00"),
        ("Today", "2026-11-29T00:00:00+01:00"),
        ("yesterday", "2026-11-28T00:00:00+01:00"),
        ("2 hours ago", "2026-11-29T07:30:00+01:00"),
        ("an hour ago", "2026-11-29T08:30:00+01:00"),
        ("90 min ago", "2026-11-29T08:00:00+01:00"),
        ("1 week ago", "2026-11-22T09:30:00+01:00"),
        ("monday", "2026-11-23T00:00:00+01:00"),
        ("sunday", "2026-11-22T00:00:00+01:00"),
        ("7:05", "2026-11-29T07:05:00+01:00"),
        ("2026-07-01", "2026-07-01T00:00:00+02:00"),
        ("2026-07-01 14:30", "2026-07-01T14:30:00+02:00"),
        ("2026-07-01T14:30:00Z", "2026-07-01T16:30:00+02:00"),
    ],
)
def test_moments_as_people_write_them(text: str, moment: str) -> None:
    assert parse_moment("--since", text, NOW).isoformat() == moment


def test_show_me_yesterday(call: Callable[..., Any], yesterday: int) -> None:
    result = call("history", "--day", "yesterday")
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith(f"{datetime.fromtimestamp(yesterday):%a %d %b %Y} 00:00 to ")
    assert "(local time, CE" in result.out
    assert result.out == call("history", "--since", "yesterday", "--until", "today").out
    lines = [line.split() for line in result.out.splitlines()]
    assert [line[1:4] for line in lines if line and line[0] == "cab/source-1"] == [["22", "h", "00"]]
    (episode,) = [line for line in lines if line[-1:] == ["source-2"]]
    assert episode[3:7] == ["12:30:00", "95", "s", "high"]
    one = call("history", "--day", "yesterday", "--source", "source-1", "--level", "high").out
    assert "source-2" not in one


def test_rows_for_programs_are_in_utc(call: Callable[..., Any], yesterday: int, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in call("history", "--day", "yesterday", "--format", "jsonl").out.splitlines()]
    minutes = [line for line in lines if line["type"] == "minute"]
    assert len(minutes) == 2 * 22 * 60
    first = datetime.fromisoformat(minutes[0]["minute"].replace("Z", "+00:00")).timestamp()
    assert first == yesterday
    assert {line["type"] for line in lines} == {"minute", "episode"}
    table = list(csv.DictReader(io.StringIO(call("history", "--day", "yesterday", "--format", "csv").out)))
    assert [row["minute"] for row in table] == [line["minute"] for line in minutes]
    assert table[0]["mean"] == ""
    out = tmp_path / "x.parquet"
    assert call("history", "--day", "yesterday", "--format", "parquet", "--rows", "episodes", "--out", out).status == 0
    parquet = require_package("pyarrow.parquet", "parquet")
    rows = parquet.read_table(out).to_pylist()
    assert [row["started"].timestamp() for row in rows] == [yesterday + 12.5 * 3600] * 2
    high = call("history", "--day", "yesterday", "--format", "csv", "--level", "high").out.splitlines()
    assert 1 < len(high) < len(table)


def test_the_summary_by_hour_and_by_day(call: Callable[..., Any], yesterday: int) -> None:
    days = call("history", "summary", "--by", "day", "--since", "yesterday", "--until", "today", "--format", "csv").out
    rows = list(csv.DictReader(io.StringIO(days)))
    assert [(row["source"], row["seconds"], row["episodes"]) for row in rows] == [
        ("source-1", "79200.0", "1"),
        ("source-2", "79200.0", "1"),
    ]
    hours = call("history", "summary", "--day", "yesterday", "--source", "source-1")
    assert len(hours.out.splitlines()) == 3 + 22
    assert hours.status == 0


@pytest.mark.usefixtures("yesterday")
def test_a_plot_of_yesterday(call: Callable[..., Any], tmp_path: Path) -> None:
    require_package("matplotlib", "plot")
    result = call("history", "--day", "yesterday", "--plot", tmp_path / "day.png")
    assert (result.status, result.err) == (0, "")
    assert (tmp_path / "day.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("yesterday")
@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ("--since lately", 2, "--since lately: expected now, today"),
        ("--since 2026-13-01", 2, "expected now, today"),
        ("--since now --until today", 2, "--since now is not before --until today"),
        ("--day today --until now", 2, "--day is a range of its own"),
        ("--source desk", 2, "there is no such source"),
        ("--level loud", 2, "expected one of low, elevated, high"),
        ("--format xml", 2, "expected one of table, jsonl, csv, parquet"),
        ("--rows all --format csv", 2, "does not fit one table"),
        ("--rows readings --format csv", 2, "add --format jsonl"),
        ("--plot day.gif", 2, "expected a name that ends in .png"),
        ("--day 1999-01-01 --plot day.png", 1, "nothing to draw"),
        ("--file /etc/hostname", 1, "no history file"),
        ("--file nowhere.sqlite", 1, "no history has been written here yet: check the path"),
        ("--out /proc/no/file", 1, "cannot be written"),
    ],
)
def test_a_wrong_option_is_one_line(call: Callable[..., Any], arguments: str, status: int, message: str) -> None:
    call("history", *arguments.split()).refuses(status, message)


@pytest.mark.usefixtures("yesterday")
def test_a_range_without_rows_says_what_there_is(call: Callable[..., Any]) -> None:
    result = call("history", "--day", "1999-01-01")
    assert "nothing. The history holds " in result.out
    assert result.status == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (None, "home/.config/edge-sser/config.toml or /etc/edge-sser/config.toml): write [history]"),
        ('node = "a"', "config.toml has no [history]: write it there"),
        ("[history]\nenabled = false", "config.toml turns it off: set history.enabled"),
        (
            "[history]",
            "config.toml asks for one: run edge-sser listen",
        ),
    ],
)
def test_a_missing_history_is_explained_by_the_settings(
    call: Callable[..., Any], own_home: Path, settings: str | None, message: str
) -> None:
    if settings is not None:
        (own_home / ".config/edge-sser").mkdir(parents=True)
        (own_home / ".config/edge-sser/config.toml").write_text(settings)
    result = call("history")
    assert (result.status, result.out) == (1, "")
    assert message in result.err


def test_the_history_of_the_settings(call: Callable[..., Any], own_home: Path, tmp_path: Path) -> None:
    write_days(tmp_path / "mine.sqlite", start=time.time() - DAY, days=1)
    config = tmp_path / "config.toml"
    config.write_text(f'[history]\npath = "{tmp_path}/mine.sqlite"\n')
    assert "source-1" in call("history", "--since", "2 days ago", "--config", config).out
