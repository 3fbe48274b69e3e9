"""Log lines for the journal."""

from __future__ import annotations

import io
import logging
import os
import sys
from pathlib import Path

import pytest

from edge_sser.daemon.log import LINES_A_MINUTE, JournalFormatter, RateLimitFilter, log_health
from edge_sser.errors import goes_to_journal
from edge_sser.events import Health, HealthState, timestamp


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.DEBUG, 7), (logging.INFO, 6), (25, 6), (logging.WARNING, 4), (logging.ERROR, 3), (logging.CRITICAL, 2)],
)
def test_every_line_carries_the_priority_of_its_level(level: int, priority: int) -> None:
    record = logging.LogRecord("edge_sser.daemon", level, "", 0, "desk is %s\nplug it in", ("missing",), None)
    assert JournalFormatter("%(message)s").format(record) == f"<{priority}>desk is missing\n<{priority}>plug it in"


def test_an_empty_message_is_still_an_entry() -> None:
    record = logging.LogRecord("edge_sser", logging.INFO, "", 0, "", None, None)
    assert JournalFormatter("%(message)s").format(record) == "<6>"


def test_the_journal_is_recognised_by_its_device_and_inode(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w") as stream, (tmp_path / "other").open("w") as other:
        status = os.fstat(stream.fileno())
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert goes_to_journal(stream, environ)
        assert not goes_to_journal(other, environ)
        assert not goes_to_journal(stream, {})
    assert not goes_to_journal(io.StringIO(), environ)
    assert not goes_to_journal(sys.__stderr__, environ)


@pytest.mark.parametrize(
    ("state", "detail", "line"),
    [
        (HealthState.OK, "", "desk is ok"),
        (HealthState.OK, "the disk is full", "desk is ok, but the disk is full"),
        (HealthState.STALLED, "no audio", "desk is stalled: no audio"),
    ],
)
def test_trouble_beside_a_good_source_is_told_as_such(
    state: HealthState, detail: str, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    counts = {"read_s": 0.0, "processed_s": 0.0, "dropped_s": 0.0, "overruns": 0}
    with caplog.at_level(logging.INFO, "edge_sser.daemon"):
        log_health(Health(node="cab12", source="desk", ts=timestamp(0.0), state=state, detail=detail, **counts))
    assert caplog.messages == [line]


def test_lines_of_a_kind_are_limited_and_the_last_one_says_so() -> None:
    now = 0.0
    seldom = RateLimitFilter(clock=lambda: now)
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.addFilter(seldom)

    def log_line(text: str, *values: object) -> str:
        before = len(out.getvalue())
        handler.handle(logging.LogRecord("edge_sser.mqtt", logging.WARNING, "", 0, text, values, None))
        return out.getvalue()[before:].rstrip("\n")

    assert [log_line("ignored %r", n) for n in range(3)] == ["ignored 0", "ignored 1", "ignored 2"]
    lines = [log_line("ignored %r", n) for n in range(3, 5_000)]
    assert lines[LINES_A_MINUTE - 4] == f"ignored {LINES_A_MINUTE - 1} (more such lines are left out for a minute)"
    assert set(lines[LINES_A_MINUTE - 3 :]) == {""}
    assert log_line("%s is back", "desk") == "desk is back"
    now = 59.9
    assert log_line("ignored %r", 5_000) == ""
    now = 60.1
    assert log_line("ignored %r", 5_001) == "ignored 5001"
