"""Soak test: a day of audio through the real daemon, with checks of memory, files, threads and readings.

`edge-sser listen --source -` runs as a process of its own, with all long-running outputs: MQTT, an event file that
rotates, metrics that are scraped. Audio is pushed as fast as the daemon takes it. Every few audio-minutes the resources
of the idle process are sampled from outside. Needs mosquitto.

With --broker none, every reading of an episode is an update, and the outbox overflows.

Drift: the time after the warm-up is divided into eight parts; drift is the largest median of resident memory in a part,
less the smallest. A median ignores a single outlier; a leak raises the last parts, and a step all parts after it.

usage: python benchmarks/soak.py --hours 24 --out docs/results/soak-24h.json
exit status: 0 when all checks pass, 1 when not
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import soundfile
from mosquitto import Mosquitto, free_ports, subscriber
from soak_rig import MINUTE_SAMPLES, SETTINGS, Daemon, Sample, expected_readings, minute, scrape, wait_until

from edge_sser.commands.bench import this_machine

PARTS = 8
# The recording crosses these levels often, so that episodes start and end all day.
WITH_BROKER = {"elevated": 0.36, "high": 0.5, "update_seconds": 10.0, "outbox_bytes": 2**26}
# An update with every reading of an episode, and an outbox that is full within minutes.
WITHOUT_BROKER = {"elevated": 0.1, "high": 0.2, "update_seconds": 0.1, "outbox_bytes": 2**18}


def main() -> int:
    """Runs the test, and prints and writes the result."""
    parser = argparse.ArgumentParser(description="A day of audio through the real daemon.")
    parser.add_argument("--hours", type=float, default=24.0, help="of audio")
    parser.add_argument("--every", type=int, default=10, help="audio-minutes between two samples")
    parser.add_argument("--warm-up", type=int, default=30, help="audio-minutes that do not count")
    parser.add_argument("--max-drift", type=float, default=2.0, help="MiB")
    parser.add_argument("--broker", choices=("mosquitto", "none"), default="mosquitto")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edge-sser-soak-") as folder:
        result = soak(
            round(60 * arguments.hours),
            every=arguments.every,
            warm_up=arguments.warm_up,
            max_drift_mib=arguments.max_drift,
            with_broker=arguments.broker == "mosquitto",
            folder=Path(folder),
        )
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for name in ("machine", "figures"):
        for key, value in result[name].items():
            print(f"{key:24} {value}")
    for failure in result["failures"]:
        print(f"FAILED: {failure}")
    return 1 if result["failures"] else 0


def soak(
    minutes: int, *, every: int, warm_up: int, max_drift_mib: float, with_broker: bool, folder: Path
) -> dict[str, Any]:
    """Pushes minutes of audio. Returns the machine, the figures, the failures and every sample."""
    speech, _ = soundfile.read(str(resources.files("edge_sser") / "data" / "demo.flac"), dtype="int16")
    port, metrics_port = free_ports(2)
    config, values = folder / "config.toml", WITH_BROKER if with_broker else WITHOUT_BROKER
    received: Counter[str] = Counter()  # messages at a subscriber, by the last level of the topic
    samples: list[Sample] = []
    scraped: dict[str, float] = {}
    start = time.monotonic()
    with ExitStack() as stack:
        if with_broker:
            port = stack.enter_context(Mosquitto(folder, queue=1_000_000)).port
            stack.enter_context(
                subscriber(port, "edge-sser/#", lambda event: received.update([Path(event.topic).name]))
            )
        text = SETTINGS.format(folder=folder, port=port, metrics_port=metrics_port, **values)
        config.write_text(text, encoding="utf-8")
        daemon = Daemon(config, folder)
        try:
            for number in range(1, minutes + 1):
                daemon.push(minute(number, speech))
                if number % every == 0:
                    samples.append(daemon.sample(number))
                    scraped = scrape(metrics_port)
            status = daemon.end()
        finally:
            daemon.kill()
        wall_seconds = round(time.monotonic() - start, 1)
        events = daemon.counts["episode"] + daemon.counts["health"]
        if with_broker:
            wait_until(lambda: received["episode"] + received["health"] >= events, "the last episode arrives")
    counted = [sample for sample in samples if sample.audio_minutes >= warm_up]
    medians = part_medians([sample.rss_kib for sample in counted])
    figures = {
        "audio_hours": minutes / 60,
        "wall_seconds": wall_seconds,
        "model": daemon.model,
        "readings": daemon.readings,
        "readings_expected": expected_readings(minutes * MINUTE_SAMPLES),
        "readings_scored": daemon.counts["scored"],
        "dropped_audio_seconds": scraped['edge_sser_dropped_audio_seconds_total{source="stdin"}'],
        "episodes": daemon.counts["episode start"],
        "episode_and_health_events": events,
        "passed_on_by_broker": received["episode"] + received["health"] if with_broker else None,
        "outbox_bytes": scraped["edge_sser_outbox_bytes"],
        "outbox_bytes_at_most": values["outbox_bytes"],
        "outbox_lost": scraped["edge_sser_outbox_lost"],
        "looks": len(counted),
        "rss_part_medians_kib": medians,
        "rss_drift_mib": round((max(medians) - min(medians)) / 1024, 3),
        "rss_peak_mib": round(max(sample.rss_kib for sample in samples) / 1024, 1),
        "fds": sorted({sample.fds for sample in counted}),
        "threads": sorted({sample.threads for sample in counted}),
    }
    failures = [*daemon.unexpected[:3], *([f"exit status {status}: {daemon.log}"] if status != 0 else [])]
    failures += check_figures(figures, max_drift_mib=max_drift_mib, with_broker=with_broker)
    failures += check_event_files(folder / "events.jsonl", (daemon.first or 0) + daemon.readings)
    return {
        "machine": this_machine(),
        "broker": "mosquitto" if with_broker else "none",
        "figures": figures,
        "failures": failures,
        "looks": [asdict(sample) for sample in samples],
    }


def part_medians(values: Sequence[int]) -> list[float]:
    """Returns the medians of eight parts of about the same length."""
    bounds = [len(values) * part // PARTS for part in range(PARTS + 1)]
    return [statistics.median(values[begin:end]) for begin, end in pairwise(bounds)]


def check_figures(figures: dict[str, Any], *, max_drift_mib: float, with_broker: bool) -> list[str]:
    """Returns a line for each check that fails."""
    checks = {
        "every reading is there": figures["readings"] == figures["readings_expected"],
        "no audio was dropped": figures["dropped_audio_seconds"] == 0,
        "episodes came and went": figures["episodes"] > 0,
        f"memory drifted by less than {max_drift_mib} MiB": figures["rss_drift_mib"] < max_drift_mib,
        "as many files were open at every sample": len(figures["fds"]) == 1,
        "as many threads ran at every sample": len(figures["threads"]) == 1,
        "the outbox kept its bound": figures["outbox_bytes"] <= figures["outbox_bytes_at_most"],
    }
    if with_broker:
        events = figures["episode_and_health_events"]
        checks["each episode and health event arrived once"] = figures["passed_on_by_broker"] == events
        checks["nothing was lost from the outbox"] = figures["outbox_lost"] == 0
    else:
        checks["the outbox overflowed, and counted it"] = figures["outbox_lost"] > 0
    return [f"not so: {name}" for name, passed in checks.items() if not passed]


def check_event_files(path: Path, end: int) -> list[str]:
    """Checks that the event file and its rotated files end with the readings before number `end`, in order."""
    files = [older for number in (2, 1) if (older := path.with_name(f"{path.name}.{number}")).exists()]
    lines = [json.loads(line) for file in [*files, path] for line in file.read_text(encoding="utf-8").splitlines()]
    numbers = [int(line["id"].rpartition("/")[2]) for line in lines if line["type"] == "reading"]
    if numbers != list(range(end - len(numbers), end)) or lines[-1].get("state") != "stopped":
        return ["not so: the event files end with the last events"]
    return []


if __name__ == "__main__":
    sys.exit(main())
