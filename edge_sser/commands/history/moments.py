"""Moments as people write them: yesterday, 2 hours ago, 2026-11-28 14:30. In local time, unless a zone is written."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from typing import Final

from edge_sser.errors import UsageError

EXPECTED: Final = 'now, today, yesterday, monday, "2 hours ago", 14:30, 2026-11-28 or "2026-11-28 14:30"'
_WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_SECONDS: Final = {"second": 1, "minute": 60, "min": 60, "hour": 3600, "day": 86_400, "week": 604_800}
_AGO: Final = re.compile(rf"(\d+) ?({'|'.join(_SECONDS)})s? ago")
_ONE_AGO: Final = re.compile(r"\ban? (?=\w+ ago)")


def parse_moment(option: str, text: str, now: datetime) -> datetime:
    """Returns the moment that a text names. A day is its first moment, by the local clock.

    Args:
        option: the text is from, for messages.
        text: as in `EXPECTED`.
        now: the present, with or without a zone.

    Raises:
        UsageError: the text names no moment.

    Examples:
        >>> parse_moment("--since", "yesterday", datetime(2026, 11, 29, 9, 30)).strftime("%F %T")
        '2026-11-28 00:00:00'
        >>> parse_moment("--since", "2 hours ago", datetime(2026, 11, 29, 9, 30)).strftime("%F %T")
        '2026-11-29 07:30:00'
    """
    words = _ONE_AGO.sub("1 ", " ".join(text.lower().split()))
    try:
        if words == "now":
            return now.astimezone()
        if ago := _AGO.fullmatch(words):
            return now.astimezone() - timedelta(seconds=int(ago[1]) * _SECONDS[ago[2]])
        if (day := _day(words, now.date())) is not None:
            return start_of(day)
        if re.fullmatch(r"\d{1,2}:\d{2}(:\d{2})?", words):
            hour, minute, *second = map(int, words.split(":"))
            return datetime.combine(now.date(), time(hour, minute, second[0] if second else 0)).astimezone()
        return datetime.fromisoformat(" ".join(text.split()).replace("Z", "+00:00")).astimezone()
    except (ValueError, OverflowError):
        raise UsageError(f"{option} {text}: expected {EXPECTED}") from None


def start_of(day: date) -> datetime:
    """Returns the first moment of a day by the local clock."""
    return datetime.combine(day, time()).astimezone()


def _day(words: str, today: date) -> date | None:
    if words in ("today", "yesterday"):
        return today - timedelta(days=words == "yesterday")
    if words in _WEEKDAYS:  # the last one, which is not today
        return today - timedelta(days=(today.weekday() - _WEEKDAYS.index(words) - 1) % 7 + 1)
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", words):
        return date.fromisoformat(words)
    return None
