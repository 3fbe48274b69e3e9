"""Python calls from a block to its reading: how many functions `listen` calls for a scored window.

`edge-sser listen --source -` runs in this process with a real pipe at standard output and a real broker. The main
thread is profiled. A round begins when the source delivers the block that completes a window. It ends when the reading
was written to standard output and handed to the MQTT link's thread, in whichever order. Rounds without an inference do
not count. The budget is 60 calls, functions of libraries included. Needs mosquitto.

usage: python benchmarks/calls.py
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from importlib import resources
from pathlib import Path
from types import FrameType
from typing import Any

import soundfile
from mosquitto import Mosquitto

from edge_sser.__main__ import main as edge_sser

RATE_HZ = 16_000
BLOCK_SECONDS = 0.1
SPEEDUP = 5.0  # faster than real time
FIRST_SECONDS = 1.0  # for the broker to accept the connection, before there is audio
SOURCE_FILE = "/audio/raw.py"
OUTPUT_CALLS = ("write", "send")  # of os, to standard output, and of the socket that wakes the link's thread


class Tracer:
    """Counts calls of Python functions between two reads of the source, up to the last output.

    Attributes:
        rounds: counts by module and function, one counter for each round with an inference.
    """

    def __init__(self) -> None:
        self.rounds: list[Counter[str]] = []
        self._calls: list[str] | None = None  # None while the source is being read
        self._until_output = 0
        self._scored = False

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        """Takes in one event of `sys.setprofile`."""
        code = frame.f_code
        if event == "call":
            if code.co_name == "read" and code.co_filename.endswith(SOURCE_FILE):
                self._end_round()
            elif self._calls is not None:
                module = frame.f_globals.get("__name__", "?")
                name = f"{module}:{getattr(code, 'co_qualname', code.co_name)}"
                self._calls.append(name)
                self._scored |= name == "onnxruntime.capi.onnxruntime_inference_collection:Session.run"
        elif event == "return":
            if code.co_name == "read" and code.co_filename.endswith(SOURCE_FILE) and argument is not None:
                self._calls, self._until_output, self._scored = [], 0, False
        elif event == "c_call" and self._calls is not None and argument.__name__ in OUTPUT_CALLS:
            self._until_output = len(self._calls)

    def _end_round(self) -> None:
        if self._calls is not None and self._scored:
            self.rounds.append(Counter(self._calls[: self._until_output]))
        self._calls = None


def main() -> int:
    """Runs `listen` and prints the calls of a typical round."""
    parser = argparse.ArgumentParser(description="Python calls from a block to its reading.")
    demo = Path(str(resources.files("edge_sser"))) / "data" / "demo.flac"
    parser.add_argument("--recording", type=Path, default=demo, help="speech, 16 kHz mono")
    recording: Path = parser.parse_args().recording
    samples, rate_hz = soundfile.read(recording, dtype="int16")
    if rate_hz != RATE_HZ or samples.ndim != 1:
        raise SystemExit(f"{recording} has {rate_hz} Hz, expected a mono recording at {RATE_HZ} Hz: convert it first")
    tracer = Tracer()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STATE_DIRECTORY"] = folder
        with Mosquitto(Path(folder)) as broker:
            status = traced_listen(tracer, samples.tobytes(), f"mqtt://127.0.0.1:{broker.port}")
    if status != 0 or not tracer.rounds:
        raise SystemExit(f"edge-sser listen ended with status {status} after {len(tracer.rounds)} scored windows")
    show(tracer.rounds)
    return 0


def traced_listen(tracer: Tracer, pcm: bytes, broker: str) -> int:
    """Runs `listen` on 16-bit samples at 16 kHz from a pipe, profiled by the tracer. Returns its exit status."""
    audio_out, audio_in = os.pipe()
    lines_out, lines_in = os.pipe()
    saved = os.dup(0), os.dup(1)
    os.dup2(audio_out, 0)
    os.dup2(lines_in, 1)
    os.close(audio_out)
    os.close(lines_in)
    feeder = threading.Thread(target=feed, args=(audio_in, pcm), daemon=True)
    drain = threading.Thread(target=read_all, args=(lines_out,), daemon=True)
    feeder.start()
    drain.start()
    sys.argv[1:] = ["listen", "--source", "-", "--node", "bench", "--mqtt", broker, "--format", "jsonl"]
    sys.setprofile(tracer)
    try:
        return edge_sser()
    finally:
        sys.setprofile(None)
        for number, file in enumerate(saved):
            os.dup2(file, number)
            os.close(file)
        drain.join()


def feed(pipe: int, pcm: bytes) -> None:
    """Writes samples block by block, and closes the pipe."""
    time.sleep(FIRST_SECONDS)
    size = round(BLOCK_SECONDS * RATE_HZ) * 2
    for first in range(0, len(pcm), size):
        os.write(pipe, pcm[first : first + size])
        time.sleep(BLOCK_SECONDS / SPEEDUP)
    os.close(pipe)


def read_all(pipe: int) -> None:
    """Reads a pipe to its end and closes it."""
    while os.read(pipe, 65_536):
        pass
    os.close(pipe)


def show(rounds: list[Counter[str]]) -> None:
    """Prints the median round: the total, and the calls by module and function."""
    totals = [calls.total() for calls in rounds]
    median = statistics.median_low(totals)
    typical = rounds[totals.index(median)]
    own = sum(count for name, count in typical.items() if name.startswith("edge_sser."))
    print(f"{median} Python calls for a scored window (median of {len(totals)}; {min(totals)} to {max(totals)})")
    print(f"{own} of them to functions of edge_sser, the others to functions of libraries")
    for name, count in typical.most_common():
        print(f"{count:5}  {name}")


if __name__ == "__main__":
    sys.exit(main())
