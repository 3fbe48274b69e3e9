"""Files and messages of a running daemon, seen from outside: events, and no audio anywhere."""

from __future__ import annotations

import os
import re
import resource
import signal
import sqlite3
import sys
import urllib.request
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import soundfile
from components import require_strace
from daemon_process import Daemon
from mqtt_rig import eventually, free_port
from system_calls import Trace

# What libraries write or try to, besides what the settings name. None of it is audio of ours, and none is on a disk.
OF_LIBRARIES = (
    r"/dev/null",  # what C libraries print about sound goes there
    r"/dev/dsp\d*",  # PortAudio looks for OSS devices
    r"/dev/snd/.*",  # and ALSA opens cards
    r"/dev/shm/jack.*",  # JACK's client library, which PortAudio asks too, keeps names of ports there
)
# Whom libraries look for: JACK, and glibc's cache of user and host names. All are on this machine.
ON_THIS_MACHINE = (r"/dev/shm/jack.*", r"/(var/)?run/nscd/socket")
PROBE_SAMPLES = 8  # so many in a row, loud and different, are no accident
ROTATED = 3

SETTINGS = """
[[source]]
device = "mic"
name = "desk"

[window]
hop_seconds = 0.1

[rolling]
time_constant_seconds = 2.0
dwell_seconds = 0.5
elevated = 0.3
high = 0.6

[mqtt]
url = "mqtt://127.0.0.1:{broker}"

[file]
path = "{events}"
max_bytes = 16384
keep = {rotated}

[metrics]
port = {metrics}
"""


class Audio:
    """Audio that was played, to be searched for in bytes: as integers of 16 or 32 bits, or as floats.

    Args:
        samples: int16 [n].
    """

    def __init__(self, samples):
        runs = np.lib.stride_tricks.sliding_window_view(samples, PROBE_SAMPLES)[::PROBE_SAMPLES]
        loud = np.abs(runs.astype(np.int32)).max(axis=1) > 500
        different = (np.diff(np.sort(runs), axis=1) > 0).all(axis=1)
        runs = runs[loud & different]
        assert len(runs) > 1_000
        self._probes = [
            {run.tobytes() for run in runs.astype("<i2")},
            {run.tobytes() for run in runs.astype("<i4") << 16},
            {run.tobytes() for run in (runs / 2.0**15).astype("<f4")},
        ]

    def is_in(self, data):
        """Returns True when a run of the audio is anywhere in the bytes."""
        return any(
            data[start : start + size] in probes
            for probes in self._probes
            for size in {len(probe) for probe in probes}
            for start in range(len(data) - size + 1)
        )


def stored_bytes(database):
    """Returns the bytes of all values in a SQLite file, whose log grows with each transaction, whatever is stored."""
    with closing(sqlite3.connect(database)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = [row for table in tables for row in connection.execute(f'SELECT * FROM "{table}"')]
    return sum(len(value if isinstance(value, bytes) else str(value)) for row in rows for value in row)


def test_audio_is_found_in_any_coding(speech):
    samples, _ = soundfile.read(speech, dtype="int16")
    audio = Audio(samples)
    begin = int(np.argmax(np.abs(samples)))
    some = samples[begin - 77 : begin + 123]
    for data in (some.astype("<i2"), some.astype("<i4") << 16, some.astype("<f4") / np.float32(2**15)):
        assert audio.is_in(b"{}\n" + data.tobytes() + b"\n")
    assert not audio.is_in(np.random.default_rng(0).bytes(100_000))


@pytest.fixture
def traced(tmp_path):
    """Starts `edge-sser listen` under strace."""
    require_strace()
    daemons = []

    def start(*arguments, **environment):
        trace = Trace(tmp_path / "trace")
        # Python's own cache of compiled modules is none of the program's business.
        environment = {"STATE_DIRECTORY": str(tmp_path / "state"), "PYTHONDONTWRITEBYTECODE": "1", **environment}
        daemons.append(Daemon(*map(str, arguments), environment=environment, prefix=trace.command))
        return daemons[-1], trace

    yield start
    for daemon in daemons:
        daemon.kill()


def strangers(names, *patterns):
    """Returns the names that no pattern allows."""
    return sorted(name for name in names if not any(re.fullmatch(pattern, name) for pattern in patterns))


@pytest.mark.mic
def test_a_daemon_writes_only_events_and_connects_only_to_its_broker(
    traced, tmp_path, broker, start_subscriber, virtual_microphone, speech, model
):
    samples, _ = soundfile.read(speech, dtype="int16")
    state, events, metrics = tmp_path / "state", tmp_path / "events" / "events.jsonl", free_port()
    config = tmp_path / "config.toml"
    config.write_text(SETTINGS.format(broker=broker.port, events=events, metrics=metrics, rotated=ROTATED))
    subscriber = start_subscriber(broker.port)
    virtual_microphone.play(np.tile(samples, 20))
    daemon, trace = traced("--config", config, "--model", model)

    # Everything that a daemon does: readings and episodes, a pause and its end, files that are full, a scrape.
    eventually(lambda: subscriber.episodes() or daemon.ended, "an episode is published")
    assert not daemon.ended, daemon.log
    subscriber.publish("edge-sser/cab12/listen/set", "OFF")
    eventually((state / "paused").exists, "the pause is written down")
    subscriber.publish("edge-sser/cab12/listen/set", "ON")
    eventually(lambda: not (state / "paused").exists(), "its end is written down")
    eventually(lambda: events.with_name(f"events.jsonl.{ROTATED}").exists(), "the files turn")
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=10) as response:
        scraped = response.read()
    running = {path: path.read_bytes() for path in (*state.iterdir(), *events.parent.iterdir())}
    assert daemon.stop() == 0
    trace.await_end()

    of_ours = [
        *(str(state / name) for name in ("outbox.db", "outbox.db-journal", "outbox.db-wal", "outbox.mark", "paused")),
        *(str(events.with_name(name)) for name in ("events.jsonl", *(f"events.jsonl.{n + 1}" for n in range(ROTATED)))),
    ]
    folders = [str(state), str(events.parent)]
    assert set(of_ours) <= trace.written | {str(state / "outbox.db-journal")}  # the trace sees what is known to happen
    ours = [re.escape(path) for path in (*of_ours, *folders)]
    assert strangers(trace.written, *ours, *OF_LIBRARIES) == []
    bus = rf"127\.0\.0\.1:{broker.port}"
    sound_server = re.escape(str(virtual_microphone.home / "socket"))
    assert any(re.fullmatch(bus, address) for address in trace.reached)
    assert strangers(trace.reached, bus, sound_server, *ON_THIS_MACHINE) == []
    # 0.0.0.0:0 is the near end of the connection to the broker.
    assert strangers(trace.bound, rf"127\.0\.0\.1:{metrics}", r"0\.0\.0\.0:0") == []
    # The sound server's library shares memory with it, which is how the audio comes; its own program lists its sources.
    lister = r'execve\("[^"]*/pactl", \["pactl", "--format=json", "list", "(sources|source-outputs)"\].*'
    shared = r"memfd_create\(\"pulseaudio\".*"
    assert strangers(trace.others, shared, lister, rf'execve\("{re.escape(sys.executable)}".*') == []

    audio = Audio(samples)
    written = [path.read_bytes() for path in map(Path, trace.written) if path.is_file()] + list(running.values())
    printed = b"\n".join(daemon.lines) + "\n".join(daemon.log).encode()
    for data in (*written, scraped, printed, *(message.payload for message in subscriber.received)):
        assert not audio.is_in(data)
    # The files hold the lines that were printed, which take a fraction of what the audio would; so does the outbox.
    for path, data in running.items():
        if path.parent == events.parent:
            assert set(data.splitlines()) <= set(daemon.lines)
    heard_bytes = daemon.events("reading")[-1]["end_s"] * 16_000 * samples.itemsize
    assert len(printed) < heard_bytes / 4
    # While the daemon runs, the outbox's log grows with each transaction, whatever is stored.
    assert sum(path.stat().st_size for path in state.iterdir()) < heard_bytes / 2
    assert 0 < stored_bytes(state / "outbox.db") < heard_bytes / 4


def test_a_crash_leaves_no_image_of_memory(tmp_path, model, speech):
    images = tmp_path / "images"
    images.mkdir()
    unlimited = ("sh", "-c", 'ulimit -c "$(ulimit -H -c)"; exec "$0" "$@"')
    daemon = Daemon("--model", model, "--source", str(speech), environment={}, prefix=unlimited, cwd=images)
    daemon.await_readings(1)
    assert resource.prlimit(daemon.pid, resource.RLIMIT_CORE) == (0, 0)
    os.kill(daemon.pid, signal.SIGABRT)
    assert daemon.wait() == -signal.SIGABRT
    assert list(images.iterdir()) == []
