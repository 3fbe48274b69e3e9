"""`kill -9`, fifty times: every episode that the outbox took reaches a subscriber."""

from __future__ import annotations

import itertools
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import Any

from mqtt_rig import Cable, eventually, gaps, once_each
from outbox_copy import read_outbox
from stressed_speech import EPISODE_TOPIC as TOPIC
from stressed_speech import feed_episodes, recorded_at, write_recording, write_settings

KILLS = 50
SEED = 20_261_121
RECORDED_EPISODES = 150
FIRST_RECORDING_ENDS = 1_767_323_045.678  # 2026-01-02T03:04:05.678Z
APART_SECONDS = 10_000.0  # between the recordings of two runs, which are shorter: no two episodes have one id


class When(Enum):
    """Activity in the middle of which a daemon is killed."""

    START_UP = "start-up"
    RUNNING = "running"
    CLOSING = "closing"


@dataclass
class Run:
    """Files and output of a killed daemon.

    Attributes:
        printed: its episode events on standard output, in order.
        first: how many the outbox had taken before it.
        last: how many when it was dead.
    """

    printed: list[bytes]
    first: int
    last: int

    @property
    def promised(self) -> list[bytes]:
        """Returns the lines that were printed and stored; standard output and outbox may differ at the end."""
        return self.printed[: self.last - self.first]


def kill(daemon: Any, when: When, chance: random.Random) -> None:
    if when is When.START_UP:
        time.sleep(chance.uniform(0.0, 0.5))
    else:
        eventually(lambda: daemon.episode_lines() or daemon.ended, "an episode")
        time.sleep(chance.uniform(0.0, 0.3))
    if when is When.CLOSING and not daemon.ended:
        daemon.terminate()
        time.sleep(chance.uniform(0.0, 0.1))
    daemon.kill()


def test_a_daemon_killed_fifty_times_keeps_every_promise(start, broker, start_subscriber, sharp_model, tmp_path):
    chance = random.Random(SEED)
    subscriber = start_subscriber(broker.port, "edge-sser/+/+/episode", "edge-sser/+/+/health")
    cable = Cable(broker.port)
    recording = write_recording(tmp_path / "day.wav", RECORDED_EPISODES)
    url = f"mqtt://127.0.0.1:{cable.port}"
    config = write_settings(tmp_path / "day.toml", url=url, device=recording)
    outbox = tmp_path / "state" / "outbox.db"
    runs: list[Run] = []
    kills: Counter[When] = Counter()
    streams = set()
    moments = itertools.cycle([*[When.START_UP] * 2, *[When.RUNNING] * 5, *[When.CLOSING] * 3])
    for number in itertools.count():
        if kills.total() == KILLS:
            break
        assert number < 2 * KILLS, "the recording is too short: daemons end by themselves"
        recorded_at(recording, FIRST_RECORDING_ENDS + number * APART_SECONDS)
        (cable.shut if chance.random() < 0.3 else cable.admit)()  # what piles up outlives several daemons
        daemon = start("--config", config, "--no-pace", "--model", sharp_model)
        when = next(moments)
        kill(daemon, when, chance)
        kills[when] += daemon.wait() == -signal.SIGKILL
        left = read_outbox(outbox)
        assert left.lost == 0
        streams |= {left.stream} - {""}
        runs.append(Run(daemon.episode_lines(), runs[-1].last if runs else 0, left.last.get(TOPIC, 0)))
        assert not any("damaged" in line or "memory" in line for line in daemon.log)

    cable.admit()
    recording.unlink()
    daemon = start("--config", write_settings(tmp_path / "last.toml", url=url), "--model", sharp_model, fed=True)
    feed_episodes(daemon, 2)
    eventually(lambda: daemon.episode_lines()[-1] in subscriber.payloads(TOPIC), "what waited before them has gone")
    assert daemon.stop() == 0
    runs.append(Run(daemon.episode_lines(), runs[-1].last, read_outbox(outbox).last[TOPIC]))
    assert len(runs[-1].printed) == runs[-1].last - runs[-1].first, "an orderly end promises all"

    taken = runs[-1].last
    eventually(lambda: len(once_each(subscriber.on(TOPIC))) >= taken, "everything promised arrives")
    heard = subscriber.on(TOPIC)
    arrived = once_each(heard)
    ends = [message.json["id"] for message in arrived if message.json["phase"] == "end"]
    unpromised = [len(run.printed) - len(run.promised) for run in runs]
    print(
        f"\n{kills.total()} kills ({', '.join(f'{count} {when.value}' for when, count in kills.items())}),"
        f" {len(ends)} episodes ended and promised in {taken} events, {len(heard) - len(arrived)} duplicates,"
        f" printed but not yet promised at a kill: {sum(unpromised)} events, at most {max(unpromised)} a kill"
    )
    (stream,) = streams
    numbers = [(message.properties["stream"], int(message.properties["seq"])) for message in arrived]
    assert numbers == [(stream, 1 + place) for place in range(taken)], "in order, each once, and nothing else"
    for run in runs:
        got = [message.payload for message in arrived[run.first : run.last]]
        assert got[: len(run.promised)] == run.promised, "byte for byte what was printed"
    assert len(set(ends)) == len(ends) > KILLS
    assert gaps(subscriber.received) == []
    cable.close()
