"""Live view of `listen`: a sink that keeps the latest, and a thread that draws it and reads keys.

A slow terminal can hold up that thread only. `emit` never touches the terminal.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Final

from edge_sser.errors import SinkError, printable
from edge_sser.events import Event
from edge_sser.pipeline.rolling import Thresholds
from edge_sser.sinks.base import Sink
from edge_sser.sinks.live.layout import ASCII, UNICODE, Look, frame
from edge_sser.sinks.live.screen import Screen
from edge_sser.sinks.live.state import Message, Order, ViewState
from edge_sser.sinks.pause import PauseReason
from edge_sser.sinks.stdout import NonBlockingWriter
from edge_sser.sinks.terminal import clock_text

REFRESH_SECONDS: Final = 0.5  # between two frames
JOIN_SECONDS: Final = 2.0  # for the last frame, and for the terminal to be restored
_PAGE_ROWS: Final = 10
_TO_THE_END: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """Connections of the view to the program. Called from the view's thread.

    Attributes:
        quit: ends listening.
        stopping: returns True once listening is ending.
        pause: pauses listening by the key, or ends that.
        pauses: returns all that pauses listening now.
        thresholds: returns those of a source in force.
    """

    quit: Callable[[], None] = field(default=lambda: None)
    stopping: Callable[[], bool] = field(default=lambda: False)
    pause: Callable[[], None] = field(default=lambda: None)
    pauses: Callable[[], frozenset[PauseReason]] = field(default=frozenset)
    thresholds: Callable[[str], Thresholds | None] = field(default=lambda _name: None)


class LiveView(Sink):
    """A full screen for all sources. It opens with the first event, and leaves a summary behind when it closes.

    Attributes:
        failure: error of the terminal, which the next event raises; None without one.
    """

    def __init__(self, writer: NonBlockingWriter, sources: Sequence[str] = (), *, output_fd: int | None = None) -> None:
        """Prepares the view.

        Args:
            writer: to a terminal that knows ANSI control sequences.
            sources: names, in the order of the settings.
            output_fd: of the terminal; that of standard output when None.
        """
        self._writer = writer
        self._state = ViewState(sources)
        self._lock = threading.RLock()  # of the state
        self._controls = Controls()
        self._screen = Screen(writer, sys.stdout.fileno() if output_fd is None else output_fd)
        self._glyphs = UNICODE if _can_encode(writer.encoding, UNICODE.bars + UNICODE.mark) else ASCII
        self._scroll = 0
        self._held = False  # the program is about to be stopped by Ctrl-Z
        self._closing = False
        self._closed = False
        self.failure: SinkError | None = None
        self._left = threading.Event()  # the terminal is as it was
        self._wake_read, self._wake_write = os.pipe()
        self._thread = threading.Thread(target=self._run, name="edge-sser-view", daemon=True)

    def connect(self, controls: Controls) -> None:
        """Lets keys act on the program."""
        self._controls = controls

    def emit(self, event: Event, line: bytes) -> None:
        """Takes in an event, which the next frame shows.

        Raises:
            SinkError: the terminal has gone.
        """
        if self.failure is not None:
            raise self.failure
        with self._lock:
            self._state.take(event, time.monotonic())
        if self._thread.ident is None:
            self._thread.start()

    def add_message(self, text: str) -> None:
        """Shows a line of the log."""
        with self._lock:
            line = printable(text.removeprefix("edge-sser: "))
            self._state.messages.append(Message(time.time(), time.monotonic(), line))

    def hold(self) -> None:
        """Restores the terminal until `release`, and waits for that."""
        self._left.clear()
        self._held = True
        if self._thread.is_alive():
            self._wake()
            self._left.wait(JOIN_SECONDS)
            self._screen.restore_keys()  # also when the terminal takes nothing

    def release(self) -> None:
        """Lets the view come back, once the program is in the foreground."""
        self._held = False

    def close(self) -> None:
        """Restores the terminal and prints what is worth keeping. Safe to call twice."""
        if self._closed:
            return
        self._closed = self._closing = True
        if self._thread.is_alive():
            self._wake()
            self._thread.join(JOIN_SECONDS)
        if self._thread.is_alive():  # the terminal takes nothing
            self._screen.restore_keys()
            return
        self._screen.close()
        os.close(self._wake_write)
        os.close(self._wake_read)
        with suppress(SinkError):
            if self.failure is None:
                self._writer.write_text("".join(f"{line}\n" for line in self.farewell()))
            self._writer.close()

    def farewell(self) -> list[str]:
        """Returns the lines that stay on the terminal: messages, and the latest of each source."""
        lines = [f"edge-sser: {message.text}" for message in self._state.messages]
        for source in self._state.sources.values():
            if source.reading is not None:
                level = "no speech" if source.reading.level is None else source.reading.level.value
                count = f"{source.episodes} {'episode' if source.episodes == 1 else 'episodes'}"
                lines.append(f"{source.name}  {clock_text(source.reading.end_s)}  {level}  {count}")
        return lines

    @contextmanager
    def restored_on_stop(self) -> Iterator[None]:
        """Gives the terminal back while Ctrl-Z has stopped the program, and before Ctrl-Backslash ends it.

        Only the main thread may enter.
        """

        def handle(number: int, _frame: FrameType | None) -> None:
            self.hold()
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)  # SIGTSTP: stopped here until SIGCONT
            signal.signal(number, handle)
            self.release()

        before = {number: signal.signal(number, handle) for number in (signal.SIGTSTP, signal.SIGQUIT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # ---- in the view's thread

    def _run(self) -> None:
        try:
            while not self._closing:
                self._show()
                self._press(self._screen.wait(self._wake_read, REFRESH_SECONDS))
        except SinkError as error:
            self.failure = error
        except Exception as error:  # a fault of this program: the other outputs go on
            self.failure = SinkError(f"the live view has failed: {error!r}")
        finally:
            with suppress(SinkError):
                self._screen.leave()
            self._left.set()

    def _show(self) -> None:
        # A second Ctrl-C ends the program at once: from the first one on, the terminal is left as it was.
        if self._held or self._controls.stopping() or not self._screen.in_foreground:
            self._screen.leave()
            self._left.set()
            return
        if not self._screen.active:
            self._screen.enter()
        columns, rows = self._screen.size
        look = Look(
            columns=columns,
            rows=rows,
            now=time.monotonic(),
            clock=time.time(),
            scroll=self._scroll,
            glyphs=self._glyphs,
            keys=self._screen.keys,
            pauses=self._controls.pauses(),
            thresholds=self._controls.thresholds,
        )
        with self._lock:
            shown, self._scroll = frame(self._state, look)
        self._screen.draw(shown)

    def _press(self, keys: str) -> None:
        steps = {"j": 1, "k": -1, " ": _PAGE_ROWS, "b": -_PAGE_ROWS, "g": -_TO_THE_END, "G": _TO_THE_END}
        for key in keys:
            if key in steps:
                self._scroll = max(0, self._scroll + steps[key])
            elif key == "q":
                self._controls.quit()
            elif key == "p":
                self._controls.pause()
            elif key == "s":
                orders = list(Order)
                self._state.order = orders[(orders.index(self._state.order) + 1) % len(orders)]

    def _wake(self) -> None:
        with suppress(OSError):
            os.write(self._wake_write, b"w")


def _can_encode(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except (LookupError, UnicodeEncodeError):
        return False
    return True
