"""SIGKILL, a hundred times for the daemon and a hundred times for the broker: which events of the outbox do not arrive.

The daemon: `edge-sser listen` on a recording is killed at a random moment, and started anew on the same state. An event
is promised when its number is in the outbox. A last run ends in an orderly way. Each promised event must have reached a
subscriber.

The broker: mosquitto with the settings for persistence in docs/mqtt.md (`autosave_on_changes true`, `autosave_interval
1`) is killed at random moments while a daemon publishes. What the daemon's outbox does not hold at the end, the broker
has acknowledged; what did not arrive then, the broker lost. This is counted, not asserted: it is not in our hands. Once
with a subscriber that comes back at once, and once with a subscriber that is away at every second kill.

usage: python benchmarks/kills.py --out docs/results/kills.json
exit status: 0 when nothing promised was lost by edge-sser, 1 when something was
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as paho
import soundfile
from mosquitto import Mosquitto, find_mosquitto, free_ports
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from processes import COMMAND
from soak import WITH_BROKER
from soak_rig import SETTINGS, Daemon, minute, scrape, wait_until

from edge_sser.commands.bench import this_machine

VALUES = {**WITH_BROKER, "update_seconds": 2.0}  # ten events and more between two kills
RUN_SECONDS = 1.0  # a daemon is killed within so long after its start or, in seven of ten runs, after its first event
BROKER_SECONDS = 1.0  # the broker is killed within so long after the daemon has connected
RECORDING_REPEATS = 40  # of 45 s, so that no daemon ends by itself before it is killed
QUIET_SECONDS = 5.0  # without a message: nothing more will come
NUMBERED = ("episode", "health")


class Subscriber:
    """Client with a session that outlives connections, which notes the number of each message.

    Attributes:
        seen: messages by topic, stream and number.
        numbers: topics, streams and numbers in the order of arrival.
    """

    def __init__(self, port: int) -> None:
        self.seen: Counter[tuple[str, str, int]] = Counter()
        self.numbers: list[tuple[str, str, int]] = []
        self.last = time.monotonic()
        self._subscribed = threading.Event()
        self._port = port
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, "kills", protocol=paho.MQTTv5)
        self._client.on_connect = lambda client, *_: client.subscribe(
            [(f"edge-sser/+/+/{kind}", 1) for kind in NUMBERED]
        )
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._note
        self._client.reconnect_delay_set(0.1, 0.1)  # type: ignore[arg-type]
        self.start()

    def start(self) -> None:
        """Connects, to the session of before."""
        self._subscribed.clear()
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600
        self._client.connect_async("127.0.0.1", self._port, clean_start=False, properties=properties)
        self._client.loop_start()
        wait_until(self._subscribed.is_set, "the subscriber gets through")

    def _note(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        pairs = dict(getattr(message.properties, "UserProperty", []))
        if "seq" not in pairs or message.retain:  # a retained copy of the latest health, on each subscription
            return
        key = (message.topic, pairs["stream"], int(pairs["seq"]))
        self.seen[key] += 1
        self.numbers += [key] if self.seen[key] == 1 else []
        self.last = time.monotonic()

    def figures(self, promised: int) -> dict[str, int]:
        """Waits for the last message; returns the counts of what arrived, beside what was promised."""
        wait_until(lambda: len(self.numbers) >= promised or time.monotonic() > self.last + QUIET_SECONDS, "silence")
        wait_until(lambda: time.monotonic() > self.last + 1.0, "silence")
        series: dict[tuple[str, str], list[int]] = {}
        for topic, stream, number in self.numbers:
            series.setdefault((topic, stream), []).append(number)
        return {
            "promised": promised,
            "arrived": len(self.numbers),
            "lost": promised - len(self.numbers),
            "duplicates": self.seen.total() - len(self.numbers),
            "out_of_order": sum(numbers != sorted(numbers) for numbers in series.values()),
        }

    def stop(self) -> None:
        """Disconnects."""
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def rig(folder: Path, *, device: str) -> Iterator[tuple[Mosquitto, Subscriber, Path, int]]:
    """Yields a broker with the documented persistence, a subscriber, settings of a daemon, and its port for metrics."""
    folder.mkdir()
    config, (metrics_port,) = folder / "config.toml", free_ports(1)
    with Mosquitto(folder, "changes", queue=1_000_000) as broker:
        text = SETTINGS.format(folder=folder, port=broker.port, metrics_port=metrics_port, **VALUES)
        config.write_text(text.replace('device = "-"', f"device = {json.dumps(device)}"), encoding="utf-8")
        subscriber = Subscriber(broker.port)
        try:
            yield broker, subscriber, config, metrics_port
        finally:
            subscriber.stop()


def promised_numbers(state: Path) -> int:
    """Returns how many numbers of the topics for episodes and health an outbox of no running daemon has given."""
    with tempfile.TemporaryDirectory() as name:  # opening the original would mend it
        copy = Path(name) / "outbox.db"
        for suffix in ("", "-wal"):
            with suppress(FileNotFoundError):
                shutil.copy(f"{state / 'outbox.db'}{suffix}", f"{copy}{suffix}")
        with (
            closing(sqlite3.connect(copy)) as db,
            suppress(sqlite3.OperationalError),
        ):  # killed before it made the table
            rows = db.execute("SELECT name, last FROM topic").fetchall()
            return sum(last for topic, last in rows if topic.rpartition("/")[2] in NUMBERED)
    return 0


def kill_daemons(kills: int, folder: Path, chance: random.Random) -> dict[str, Any]:
    """Kills daemons; returns the counts."""
    speech, rate = soundfile.read(str(resources.files("edge_sser") / "data" / "demo.flac"), dtype="int16")
    recording = folder / "day.wav"
    soundfile.write(recording, np.tile(speech, RECORDING_REPEATS), rate)
    with rig(folder / "daemon", device=str(recording)) as (_, subscriber, config, _port):
        state = config.parent / "state"
        command = [*COMMAND, "listen", "--config", str(config), "--no-pace", "--format", "jsonl"]
        environ = {**os.environ, "STATE_DIRECTORY": str(state)}
        done = at_start_up = 0
        before, lines = 0, config.parent / "lines"
        while done < kills:
            with (
                lines.open("wb") as out,
                subprocess.Popen(command, env=environ, stdout=out, stderr=subprocess.DEVNULL) as daemon,
            ):
                if chance.random() < 0.7:
                    wait_until(lambda: lines.stat().st_size or daemon.poll() is not None, "a daemon's first event")
                time.sleep(chance.uniform(0.0, RUN_SECONDS))
                daemon.kill()
                done += daemon.wait() == -signal.SIGKILL
            promised = promised_numbers(state)
            at_start_up += promised == before
            before = promised
        soundfile.write(recording, speech, rate)
        subprocess.run(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        figures = subscriber.figures(promised_numbers(state))
    return {"kills": done, "kills_before_the_first_event_of_a_run": at_start_up, **figures}


def kill_brokers(kills: int, folder: Path, chance: random.Random, *, away: bool) -> dict[str, Any]:
    """Kills brokers under a daemon that publishes; returns the counts.

    Args:
        kills: how many.
        folder: for the files.
        chance: draws the moments.
        away: True for a subscriber that is not connected at every second kill.
    """
    speech, _ = soundfile.read(str(resources.files("edge_sser") / "data" / "demo.flac"), dtype="int16")
    with rig(folder / f"broker-{away}", device="-") as (broker, subscriber, config, metrics_port):
        daemon = Daemon(config, config.parent)
        daemon.push(minute(0, speech))  # when its readings have come, the metrics are served
        stop = threading.Event()

        def talk() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                daemon.push(minute(number, speech))
                time.sleep(chance.uniform(0.0, 0.2))

        talker = threading.Thread(target=talk)
        talker.start()
        try:
            for number in range(kills):
                wait_until(lambda: scrape(metrics_port)["edge_sser_mqtt_connected"] == 1, "the daemon connects")
                time.sleep(chance.uniform(0.0, BROKER_SECONDS))
                if away and number % 2 == 0:
                    subscriber.stop()
                    time.sleep(chance.uniform(0.0, BROKER_SECONDS))
                broker.kill()
                broker.start()
                if away and number % 2 == 0:
                    subscriber.start()
        finally:
            stop.set()
            talker.join()
        wait_until(lambda: scrape(metrics_port)["edge_sser_outbox_depth"] == 0, "the outbox is empty")
        in_outbox = scrape(metrics_port)
        status = daemon.end()
        figures = subscriber.figures(promised_numbers(config.parent / "state"))
    return {
        "kills": kills,
        "connections_of_the_daemon": round(in_outbox["edge_sser_mqtt_reconnects_total"]) + 1,
        "lost_in_the_outbox": round(in_outbox["edge_sser_outbox_lost"]),
        "daemon_exit_status": status,
        **figures,
    }


def main() -> int:
    """Runs both, and prints and writes the counts."""
    parser = argparse.ArgumentParser(description="Kills of the daemon and of the broker.")
    parser.add_argument("--kills", type=int, default=100, help="of each")
    parser.add_argument("--seed", type=int, default=20_261_129, help="of the moments")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    banner = subprocess.run([find_mosquitto(), "-h"], capture_output=True, text=True, check=False).stdout
    with tempfile.TemporaryDirectory(prefix="edge-sser-kills-") as name:
        result = {
            "machine": this_machine(),
            "broker": banner.splitlines()[0],
            "seed": arguments.seed,
            "daemon": kill_daemons(arguments.kills, Path(name), chance),
            "mosquitto": kill_brokers(arguments.kills, Path(name), chance, away=False),
            "mosquitto_subscriber_away": kill_brokers(arguments.kills, Path(name), chance, away=True),
        }
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text + "\n", encoding="utf-8")
    with_broker = (result["mosquitto"], result["mosquitto_subscriber_away"])
    ours = [result["daemon"]["lost"], *(figures["lost_in_the_outbox"] for figures in with_broker)]
    return 1 if any([*ours, *(figures["daemon_exit_status"] for figures in with_broker)]) else 0


if __name__ == "__main__":
    sys.exit(main())
