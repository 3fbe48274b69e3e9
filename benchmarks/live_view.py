"""Measures what the live view of `listen` costs: CPU time beside that of `listen` into a pipe, on the same audio.

    python benchmarks/live_view.py [--seconds 60] [--sources 1] [--json FILE]

Both run at the same time, on the recording that ships, in real time. CPU time hardly depends on what else runs.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from pathlib import Path

import soundfile
from processes import COMMAND, WARM_UP_SECONDS, cpu_seconds

from edge_sser.commands.bench import demo_samples

ROWS, COLUMNS = 24, 80


def write_settings(folder: Path, sources: int, seconds: float) -> Path:
    """Writes settings with sources that play a long recording, and the recording."""
    sound, recording = demo_samples(), folder / "long.flac"
    with soundfile.SoundFile(recording, "w", 16_000, 1) as file:
        for _ in range(int(seconds * 16_000 / sound.size) + 1):
            file.write(sound)
    tables = [f'[[source]]\ndevice = "{recording}"\nname = "desk-{number}"\n' for number in range(1, sources + 1)]
    path = folder / "settings.toml"
    path.write_text("\n".join(tables))
    return path


def start_view(command: list[str], environment: dict[str, str]) -> tuple[subprocess.Popen[bytes], threading.Thread]:
    """Starts a command on a terminal of its own. Returns it, and the thread that takes what it draws."""
    terminal, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    process = subprocess.Popen(
        command,
        stdin=inside,
        stdout=inside,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(1, termios.TIOCSCTTY, 0),
    )
    os.close(inside)

    def read() -> None:
        try:
            while os.read(terminal, 65_536):
                pass
        except OSError:  # the command has ended
            os.close(terminal)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return process, thread


def main() -> None:
    """Runs both, and prints the share of a core that each takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--sources", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = write_settings(folder, given.sources, WARM_UP_SECONDS + given.seconds + 30.0)
        environment = {**os.environ, "XDG_STATE_HOME": name, "TERM": "xterm-256color", "LANG": "C.UTF-8"}
        command = [*COMMAND, "listen", "--config", str(settings)]
        piped = subprocess.Popen([*command, "--format", "jsonl"], env=environment, stdout=subprocess.DEVNULL)
        viewed, reader = start_view(command, environment)
        try:
            time.sleep(WARM_UP_SECONDS)
            before, began = [cpu_seconds(each.pid) for each in (piped, viewed)], time.monotonic()
            time.sleep(given.seconds)
            after, seconds = [cpu_seconds(each.pid) for each in (piped, viewed)], time.monotonic() - began
            if piped.poll() is not None or viewed.poll() is not None:
                sys.exit("listen has ended before the measurement")
        finally:
            for each in (piped, viewed):
                each.terminate()
                each.wait(30)
            reader.join(30)
    without, with_view = (100.0 * (last - first) / seconds for first, last in zip(before, after, strict=True))
    found = {
        "sources": given.sources,
        "seconds": round(seconds, 1),
        "listen_percent": round(without, 2),
        "with_view_percent": round(with_view, 2),
        "view_percent": round(with_view - without, 2),
    }
    print(json.dumps(found, indent=2))
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
