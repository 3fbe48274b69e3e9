"""A program that closes episodes until it is killed. Run as: mqtt_publisher.py PORT STATE LEDGER RUN.

Each episode that the outbox has taken is written to the ledger: from then on it is promised to arrive.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

from mqtt_rig import NODE, STATUS, emit, episode

from edge_sser.events import Phase
from edge_sser.settings.sinks import MqttSettings
from edge_sser.sinks.mqtt.sink import MqttSink


def main(port: str, state: str, ledger: str, run: str) -> None:
    settings = MqttSettings(url=f"mqtt://127.0.0.1:{port}", retry_min_seconds=0.05, retry_max_seconds=0.2)
    sink = MqttSink(settings, node=NODE, status=STATUS, sources=["desk"], directory=Path(state))
    promised = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    number = 0
    while True:
        batch = [episode(number + extra, Phase.END, run=run) for extra in range(random.randint(1, 8))]
        number += len(batch)
        for event in batch:
            emit(sink, event)
        while sink.report.stored < number:
            time.sleep(0.0005)
        os.write(promised, "".join(f"{event.id}\n" for event in batch).encode())
        time.sleep(random.uniform(0.0, 0.01))


if __name__ == "__main__":
    main(*sys.argv[1:])
