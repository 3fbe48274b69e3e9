"""Real microphones without hardware: a private PulseAudio whose sources are pipes that the test writes to.

ALSA and PortAudio meet them as they meet any sound server. Bit-exact at 16 kHz, and audio comes in real time.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 16_000
START_SECONDS = 15.0  # far more than the server takes; only a broken one runs into it
NAME = "vmic"
_WRITE_SAMPLES = RATE_HZ // 20
_CATCH_UP_SECONDS = 0.5  # of sleeping too long; what a server that hung did not take is not caught up with
_ALSA = """
pcm.!default { type pulse }
ctl.!default { type pulse }
pcm.!pulse { type pulse }
"""


class VirtualMicrophone:
    """Microphones at 16 kHz, one mono if nothing is said. `environment` leads a process (this one or another) to them.

    The first is the default one. Each is also `mic:NAME`, which ALSA resamples from its own rate like any device.
    """

    def __init__(self, *, names: Sequence[str] = (NAME,), alsa: str = "", channels: int = 1) -> None:
        """Starts the server.

        Args:
            names: of the microphones.
            alsa: further definitions for `~/.asoundrc`.
            channels: of each microphone.
        """
        self.home = Path(tempfile.mkdtemp(prefix="vmic-"))
        self.environment = {
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.home),
            "PULSE_SERVER": f"unix:{self.home}/socket",
        }
        self._alsa = alsa
        self._channels = channels
        self._stop = threading.Event()
        self._players: dict[str, threading.Thread] = {}
        self._pipes: dict[str, int] = {}
        self._modules: dict[str, str] = {}
        self._start(names)

    def _start(self, names: Sequence[str]) -> None:
        listed = "".join(f"pcm.{name} {{ type pulse device {name} }}\n" for name in names)
        (self.home / ".asoundrc").write_text(_ALSA + listed + self._alsa)
        self._server = subprocess.Popen(
            [
                "pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--realtime=no",
                "-L", f"module-native-protocol-unix socket={self.home}/socket auth-anonymous=1",
            ],
            env={**os.environ, **self.environment},
            stderr=subprocess.PIPE,
        )  # fmt: skip
        self._wait_until((self.home / "socket").exists, "PulseAudio to start")
        for name in names:
            self.plug_in(name)

    def play(self, samples: NDArray[np.int16], *, into: str = NAME) -> None:
        """Speaks into a microphone, int16 [n] or [n, channels], in real time.

        Afterwards it stalls: no audio comes, not even zeros.
        """
        arguments = (self._pipes[into], samples.astype("<i2"))
        self._players[into] = threading.Thread(target=self._write, args=arguments, daemon=True)
        self._players[into].start()

    def wait_until_played(self) -> None:
        """Waits for the end of what is played."""
        assert self._players
        for player in self._players.values():
            player.join()

    def wait_until_recorded(self) -> None:
        """Waits until a microphone runs for some process: what is played from now on is recorded from its first sample.

        A busy server gets there a moment after that process has opened it.
        """
        self._wait_until(lambda: "RUNNING" in self._pactl("list", "short", "sources"), "somebody to record")

    def is_recorded(self) -> bool:
        """True while some process records from a microphone."""
        return bool(self._pactl("list", "short", "source-outputs"))

    def plug_in(self, name: str = NAME) -> None:
        """The microphone is there, behind all others."""
        fifo = self.home / f"{name}.fifo"
        self._modules[name] = self._pactl(
            "load-module", "module-pipe-source", f"source_name={name}", f"file={fifo}", "format=s16le",
            f"rate={RATE_HZ}", f"channels={self._channels}",
        )  # fmt: skip
        self._pipes[name] = os.open(fifo, os.O_WRONLY)

    def unplug(self, name: str = NAME) -> None:
        """The microphone is gone, and what was played into it has ended."""
        self._pactl("unload-module", self._modules.pop(name))
        if name in self._players:
            self._players.pop(name).join()
        os.close(self._pipes.pop(name))

    def suspend(self, on: bool) -> None:
        """The server puts the microphone to sleep, as it does with one that somebody takes from it."""
        self._pactl("suspend-source", NAME, str(int(on)))

    def mute(self, on: bool) -> None:
        """Somebody mutes the microphone."""
        self._pactl("set-source-mute", NAME, str(int(on)))

    def freeze(self) -> None:
        """The server hangs."""
        self._server.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """The server goes on."""
        self._server.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """The server dies, and its microphones with it."""
        self._server.kill()
        self._server.wait()

    def restart(self, *, names: Sequence[str] = (NAME,)) -> None:
        """The server that was killed comes back, at the same place. What was played has ended."""
        self._clear()
        for left in ("socket", *(f"{name}.fifo" for name in names)):
            (self.home / left).unlink(missing_ok=True)
        self._start(names)

    def close(self) -> None:
        """Ends everything and leaves nothing behind."""
        self._stop.set()
        self.kill()
        self._clear()
        shutil.rmtree(self.home)

    def _clear(self) -> None:
        for player in self._players.values():
            player.join()
        self._players.clear()
        for pipe in self._pipes.values():
            os.close(pipe)
        self._pipes.clear()
        assert self._server.stderr is not None
        self._server.stderr.close()

    def _pactl(self, *arguments: str) -> str:
        environment = {**os.environ, **self.environment}
        done = subprocess.run(["pactl", *arguments], env=environment, capture_output=True, check=True, text=True)
        return done.stdout.strip()

    def _write(self, pipe: int, samples: NDArray[np.int16]) -> None:
        begun_at = time.monotonic()
        for start in range(0, len(samples), _WRITE_SAMPLES):
            if self._stop.is_set():
                return
            try:
                os.write(pipe, samples[start : start + _WRITE_SAMPLES].tobytes())
            except BrokenPipeError:  # the server was killed, or the microphone unplugged
                return
            played_seconds = (start + _WRITE_SAMPLES) / RATE_HZ
            begun_at = max(begun_at, time.monotonic() - played_seconds - _CATCH_UP_SECONDS)
            self._stop.wait(max(0.0, begun_at + played_seconds - time.monotonic()))

    def _wait_until(self, condition, what: str) -> None:  # type: ignore[no-untyped-def]
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            if self._server.poll() is not None or time.monotonic() > deadline:
                self._server.kill()
                _, said = self._server.communicate()
                raise RuntimeError(f"waited in vain for {what}: {said.decode(errors='replace')}")
            time.sleep(0.02)
