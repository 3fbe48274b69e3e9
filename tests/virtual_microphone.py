"""A real microphone without hardware: a private PulseAudio whose only source is a pipe that the test writes to.

ALSA and PortAudio meet it as they meet any sound server. Bit-exact at 16 kHz, and audio comes in real time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 16_000
START_SECONDS = 15.0  # far more than the server takes; only a broken one runs into it
_WRITE_SAMPLES = RATE_HZ // 20
_ALSA = """
pcm.!default { type pulse }
ctl.!default { type pulse }
pcm.!pulse { type pulse }
"""


class VirtualMicrophone:
    """One mono microphone at 16 kHz. `environment` leads a process (this one or another) to it."""

    def __init__(self, *, alsa: str = "") -> None:
        """Starts the server.

        Args:
            alsa: further definitions for `~/.asoundrc`.
        """
        self.home = Path(tempfile.mkdtemp(prefix="vmic-"))
        self.environment = {
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.home),
            "PULSE_SERVER": f"unix:{self.home}/socket",
        }
        (self.home / ".asoundrc").write_text(_ALSA + alsa)
        self._stop = threading.Event()
        self._player: threading.Thread | None = None
        self._start()

    def _start(self) -> None:
        fifo = self.home / "fifo"
        self._server = subprocess.Popen(
            [
                "pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--realtime=no",
                "-L", f"module-native-protocol-unix socket={self.home}/socket auth-anonymous=1",
                "-L", f"module-pipe-source source_name=vmic file={fifo} format=s16le rate={RATE_HZ} channels=1",
            ],
            env={**os.environ, **self.environment},
            stderr=subprocess.PIPE,
        )  # fmt: skip
        self._wait_until(lambda: (self.home / "socket").exists() and fifo.exists(), "PulseAudio to start")
        self._pipe = os.open(fifo, os.O_WRONLY)

    def play(self, samples: NDArray[np.int16]) -> None:
        """Speaks into the microphone in real time. Afterwards it stalls: no audio comes, not even zeros."""
        self._player = threading.Thread(target=self._write, args=(samples.astype("<i2"),), daemon=True)
        self._player.start()

    def wait_until_played(self) -> None:
        """Waits for the end of what is played."""
        assert self._player is not None
        self._player.join()

    def wait_until_recorded(self) -> None:
        """Waits until some process records from the microphone."""
        self._wait_until(self.is_recorded, "somebody to record")

    def is_recorded(self) -> bool:
        """Whether some process records from the microphone."""
        listing = ["pactl", "list", "short", "source-outputs"]
        environment = {**os.environ, **self.environment}
        return bool(subprocess.run(listing, env=environment, capture_output=True, check=True).stdout)

    def kill(self) -> None:
        """The server dies, and the microphone with it."""
        self._server.kill()
        self._server.wait()

    def restart(self) -> None:
        """The server that was killed comes back, at the same place. What was played has ended."""
        if self._player is not None:
            self._player.join()
        os.close(self._pipe)
        assert self._server.stderr is not None
        self._server.stderr.close()
        for left in ("socket", "fifo"):
            (self.home / left).unlink(missing_ok=True)
        self._start()

    def close(self) -> None:
        """Ends everything and leaves nothing behind."""
        self._stop.set()
        self.kill()
        if self._player is not None:
            self._player.join()
        os.close(self._pipe)
        assert self._server.stderr is not None
        self._server.stderr.close()
        shutil.rmtree(self.home)

    def _write(self, samples: NDArray[np.int16]) -> None:
        begun_at = time.monotonic()
        for start in range(0, samples.size, _WRITE_SAMPLES):
            if self._stop.is_set():
                return
            try:
                os.write(self._pipe, samples[start : start + _WRITE_SAMPLES].tobytes())
            except BrokenPipeError:  # the server was killed
                return
            self._stop.wait(max(0.0, begun_at + (start + _WRITE_SAMPLES) / RATE_HZ - time.monotonic()))

    def _wait_until(self, condition, what: str) -> None:  # type: ignore[no-untyped-def]
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            if self._server.poll() is not None or time.monotonic() > deadline:
                self._server.kill()
                _, said = self._server.communicate()
                raise RuntimeError(f"waited in vain for {what}: {said.decode(errors='replace')}")
            time.sleep(0.02)
