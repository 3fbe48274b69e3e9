"""Audio, settings and a model that make episodes at will."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import soundfile
from daemon_process import Daemon
from models import write_model
from mqtt_rig import eventually
from voices import RATE, voice

WINDOW_SECONDS = 3.0
EVENTS_AN_EPISODE = 3  # start, update, end
SOURCE = "desk"
EPISODE_TOPIC = f"edge-sser/cab12/{SOURCE}/episode"

_SETTINGS = """
[[source]]
device = "{device}"
name = "{source}"

[gate]
detector = "webrtc"  # takes these voices, which are too plain for the network, for speech

[rolling]
time_constant_seconds = 0.1
dwell_seconds = 0.0
elevated = 0.4
high = 0.6

[episode]
update_seconds = 2.0

[mqtt]
url = "{url}"
retry_min_seconds = 0.1
retry_max_seconds = 0.3
{mqtt}
"""


def write_settings(path: Path, *, url: str, device: str | Path = "-", more: str = "", **mqtt: object) -> Path:
    """Writes a settings file under which each of `episodes` is one.

    Args:
        path: to be written.
        url: of the broker.
        device: the source; standard input when not given.
        more: further tables.
        mqtt: further settings of the broker, paths or numbers.
    """
    lines = [f"{key} = {value if isinstance(value, int) else json.dumps(str(value))}" for key, value in mqtt.items()]
    path.write_text(_SETTINGS.format(device=device, source=SOURCE, url=url, mqtt="\n".join(lines)) + more)
    return path


def write_sharp_model(path: Path) -> Path:
    """Writes a model whose stress is near 0 for the calm voice and near 1 for the other."""
    return write_model(path, slope=2.0, centre_db=39.3)


def episodes(count: int) -> bytes:
    """Returns a calm voice, a stressed one and the calm one again, `count` times: 16-bit PCM, 16 kHz mono."""
    calm = voice(pitch_hz=200, syllables_hz=4, seconds=WINDOW_SECONDS, seed=1)
    stressed = voice(pitch_hz=90, syllables_hz=4, seconds=WINDOW_SECONDS, seed=2)
    return (np.concatenate((calm, stressed, calm)) * 2**15).astype("<i2").tobytes() * count


def write_recording(path: Path, count: int) -> Path:
    """Writes episodes into a WAV file."""
    soundfile.write(path, np.frombuffer(episodes(count), dtype="<i2"), RATE, subtype="PCM_16")
    return path


def recorded_at(path: Path, seconds: float) -> None:
    """Sets when a recording ended, seconds since the epoch: its episodes take their ids from that."""
    os.utime(path, (seconds, seconds))


def feed_episodes(daemon: Daemon, count: int) -> None:
    """Feeds episodes to a daemon, and waits until all their events are printed."""
    before = len(daemon.episode_lines())
    daemon.feed(episodes(count))
    printed = before + count * EVENTS_AN_EPISODE
    eventually(lambda: len(daemon.episode_lines()) == printed or daemon.ended, f"{count} episodes: {daemon.log}")
    assert not daemon.ended, daemon.log
