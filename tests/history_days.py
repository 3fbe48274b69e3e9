"""A history file of made-up days: office hours, evenings without speech, a stressed hour after noon."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path

from edge_sser.events import Episode, Health, HealthState, Level, Phase, timestamp, to_line
from edge_sser.history.writer import HistoryWriter

DAY = 86_400


def write_days(path: Path, *, start: float, days: float, sources: int = 1, gap: tuple[float, float] = (0, 0)) -> None:
    """Writes days of minutes, one episode a day and source, and one change of health.

    Args:
        path: of the file to make.
        start: of the first day, unix seconds.
        days: number of days.
        sources: source-1, source-2, ...
        gap: hours of each day in which nobody listens.
    """
    writer = HistoryWriter(path, live=path.with_name("live.json"))
    for number in range(1, sources + 1):
        name = f"source-{number}"
        health = Health(
            node="cab",
            source=name,
            ts=timestamp(start),
            state=HealthState.OK,
            detail="",
            read_s=0.0,
            processed_s=0.0,
            dropped_s=0.0,
            overruns=0,
        )
        writer.add(health, to_line(health))
        for day in range(math.ceil(days)):
            for phase in (Phase.START, Phase.END):
                noon = start + day * DAY + 12.5 * 3600
                episode = Episode(
                    phase=phase,
                    id=f"cab/{name}/{day}",
                    node="cab",
                    source=name,
                    ts=timestamp(noon if phase is Phase.START else noon + 95.0),
                    level=Level.HIGH,
                    start_s=0.0,
                    end_s=95.0,
                    duration_s=95.0,
                    peak=0.93,
                    mean=0.81,
                    evidence_s=0.0,
                    declared_s=0.0,
                    model="model@0",
                )
                writer.add(episode, to_line(episode))
    writer.commit()
    writer.close()
    with sqlite3.connect(path) as db:
        for number in range(1, sources + 1):
            rows = (row(number, start, minute, gap) for minute in range(int(days * 1440)))
            db.executemany(f"INSERT INTO minutes VALUES ({', '.join(11 * '?')})", (each for each in rows if each))
    db.close()


def row(number: int, start: float, minute: int, gap: tuple[float, float]) -> tuple[object, ...] | None:
    """A row of the table of minutes; None in the gap."""
    hour = minute / 60 % 24
    at = int(start) // 60 * 60 + 60 * minute
    if gap[0] <= hour < gap[1]:
        return None
    if not 8 <= hour < 18:
        return number, at, 120, 0.0, None, None, None, 60.0, 0.0, 0.0, 0.0
    mean = 0.1 + 0.75 * math.exp(-((hour - 12.5) ** 2) * 4) + 0.05 * math.sin(minute * number)
    highest = min(1.0, mean + 0.1)
    level = "high" if highest > 0.8 else "elevated" if highest > 0.5 else "low"
    at_level = (60.0 * (level == name) for name in ("low", "elevated", "high"))
    return number, at, 120, 0.4 + 0.2 * math.sin(minute / 50), mean, highest, level, 60.0, *at_level
