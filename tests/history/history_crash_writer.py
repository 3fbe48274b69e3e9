"""Writes a history without end, and prints the number of each episode that is on the disk. The test kills it."""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace
from pathlib import Path

from mqtt_rig import episode, reading

from edge_sser.events import Phase, timestamp, to_line
from edge_sser.history.writer import HistoryWriter

if __name__ == "__main__":
    path = Path(sys.argv[1])
    writer = HistoryWriter(path, live=path.with_name("live.json"), readings=True)
    for number in itertools.count(int(sys.argv[2])):
        for second in range(120):
            event = replace(reading(120 * number + second), source=f"source-{second % 4}")
            writer.add(event, to_line(event))
        for phase in (Phase.START, Phase.END):
            begun = replace(episode(number), id=f"cab/desk/{number}", phase=phase, ts=timestamp(1e9 + 60 * number))
            writer.add(begun, to_line(begun))
        writer.commit()
        if number % 20 == 0:
            writer.prune(keep_days=36_500, max_bytes=1_000_000_000)
        print(number, flush=True)
