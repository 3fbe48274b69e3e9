"""`edge-sser listen`: wires sources, model, sinks and signals to the loop, and runs it."""

from __future__ import annotations

import logging
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

from edge_sser.audio.open import is_microphone, is_recording, open_source
from edge_sser.daemon.inputs import Input
from edge_sser.daemon.log import log_to_stderr
from edge_sser.daemon.loop import EndReason, ListenLoop, ListenResult
from edge_sser.daemon.reload import Reloader
from edge_sser.daemon.status import status_event
from edge_sser.daemon.systemd import ServiceReporter
from edge_sser.errors import INTERRUPTED, OutputClosedError, SourceError, UsageError
from edge_sser.events import StatusState
from edge_sser.model.model import Model
from edge_sser.monitor.baselines import BaselineStore
from edge_sser.monitor.operating import expected_rule
from edge_sser.pipeline.features import FEATURES
from edge_sser.settings.names import source_name
from edge_sser.settings.schema import OutputFormat, Settings, SourceSettings
from edge_sser.sinks.base import Sink
from edge_sser.sinks.open import ConfiguredSinks
from edge_sser.sinks.stdout import JsonLines, NonBlockingWriter
from edge_sser.sinks.terminal import TextLines

if TYPE_CHECKING:
    from edge_sser.pipeline.rolling import Thresholds
    from edge_sser.sinks.live.view import LiveView

LOG_LEVELS = ("debug", "info", "warning", "error")


class Stop(threading.Event):
    """Request to end the loop.

    Attributes:
        signal_number: signal that set the event; None when it was not a signal.
        hangups: number of SIGHUPs so far that did not set the event.
    """

    signal_number: int | None = None
    hangups: int = 0


def run_listen(settings: Settings, *, paced: bool, log_level: str, load: Callable[[], Settings] | None = None) -> int:
    """Listens until the audio ends, or SIGTERM or Ctrl-C ends it. Returns the exit status.

    Args:
        settings: in effect.
        paced: play recordings in real time.
        log_level: one of `LOG_LEVELS`, for standard error.
        load: reads the settings again, as a service does on SIGHUP; None when there is no file to read. On a terminal
            SIGHUP means that the terminal was closed, and ends listening.

    Raises:
        EdgeSserError: something cannot be opened or broke, or a source was too short for a reading.
        OutputClosedError: the reader of standard output has gone. The last episodes were closed.
    """
    if log_level not in LOG_LEVELS:
        raise UsageError(f"--log-level {log_level}: expected one of {', '.join(LOG_LEVELS)}")
    # A core dump would hold audio. (Programs that collect core dumps honour this limit.)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    stop = Stop()
    reloads = load is not None and not any(map(os.isatty, (0, 1, 2)))
    names = [source_name(source) for source in settings.source]
    with ExitStack() as stack:
        stack.enter_context(stop_on_signals(stop, hangup_ends=not reloads))
        view = _live_view(settings, names)
        output = view or _standard_output(settings, stop)
        stack.callback(output.close)
        log = stack.enter_context(log_to_stderr(log_level, view.add_message if view else None))
        model = Model.of_settings(settings.model)
        online = partial(status_event, StatusState.ONLINE, settings=settings, model=model)
        outputs = ConfiguredSinks(settings, status=lambda: online(time.time()), sources=names)
        stack.callback(outputs.close)
        reporter = ServiceReporter.from_environment()
        reloader = Reloader(
            settings,
            load or (lambda: settings),
            requests=lambda: stop.hangups,
            model=model,
            outputs=outputs,
            reporter=reporter,
        )
        stack.callback(reloader.close)
        baselines = BaselineStore(model.label)
        stack.callback(baselines.close)
        inputs = [
            Input(
                name,
                partial(open_source, source, paced=paced),
                reopens=is_microphone(source),
                keeps_baseline=_keeps_baseline(source, baselines),
            )
            for name, source in zip(names, settings.source, strict=True)
        ]
        watched = not isinstance(output, JsonLines) and os.isatty(2)
        loop = ListenLoop(
            settings,
            inputs,
            [output, *outputs.sinks],
            model,
            stop,
            outputs=outputs,
            reloader=reloader,
            reporter=reporter,
            baselines=baselines,
            on_open=partial(_log_opened, log, settings, model, watched=watched),
        )
        stack.enter_context(_connected(view, stop, outputs, loop))
        result = loop.run()
        if result.error is not None:
            raise result.error
    if result.reason is EndReason.READER_GONE and stop.signal_number != signal.SIGINT:  # Ctrl-C ends a reader, too
        raise OutputClosedError("standard output was closed by its reader, so listening ended")
    if not stop.is_set():
        _check_readings(result, names)
    return INTERRUPTED if stop.signal_number == signal.SIGINT else 0


@contextmanager
def default_interrupt() -> Iterator[None]:
    """Lets Ctrl-C end the program at once, while there is nothing to clean up.

    KeyboardInterrupt can get lost: pydantic catches one that comes while it makes the schema of a default that it
    cannot serialise, warns, and goes on.
    """
    handler = signal.getsignal(signal.SIGINT)
    if handler is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


@contextmanager
def stop_on_signals(stop: Stop, *, hangup_ends: bool = True) -> Iterator[None]:
    """Lets SIGTERM and SIGINT end listening properly; a second one of a kind ends the program at once.

    Only the main thread may enter. It must not wait on `stop` meanwhile: the handler would wait for a lock of its own.

    Args:
        stop: is set.
        hangup_ends: True when SIGHUP ends listening as well; otherwise it is counted. An ignored SIGHUP (`nohup`) stays
            ignored.
    """

    def handle(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        if stop.signal_number is None:
            stop.signal_number = number
            stop.set()

    def count(_number: int, _frame: FrameType | None) -> None:
        stop.hangups += 1

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    if (hangup := signal.getsignal(signal.SIGHUP)) is not signal.SIG_IGN:
        before[signal.SIGHUP] = hangup
        signal.signal(signal.SIGHUP, handle if hangup_ends else count)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _keeps_baseline(source: SourceSettings, baselines: BaselineStore) -> bool:
    """Returns True for a source whose baseline is kept across restarts.

    A recording's events depend on nothing but itself. A pipe without a name of its own may bring another room each
    time, so that it keeps only what `edge-sser baseline learn` has begun.
    """
    if is_microphone(source):
        return True
    return not is_recording(source) and (source.name is not None or baselines.has(source_name(source)))


def _log_opened(log: logging.Logger, settings: Settings, model: Model, *, watched: bool) -> None:
    """Logs the model, the sources, and what to expect; the last for a person who watches, whatever the log level."""
    names = ", ".join(map(source_name, settings.source))
    log.info("%s on %s, listening to %s", model.label, model.provider, names)
    rule = expected_rule(settings, model.card)
    if rule.warning:
        log.warning("%s", rule.warning)
    log.log(logging.WARNING if watched else logging.INFO, "%s", rule.outlook)


def _live_view(settings: Settings, sources: list[str]) -> LiveView | None:
    """Returns the live view when the settings ask for it and standard output is a terminal that can show it."""
    if settings.output.format is not OutputFormat.AUTO or not sys.stdout.isatty():
        return None
    from edge_sser.sinks.live.screen import is_capable
    from edge_sser.sinks.live.view import LiveView

    return LiveView(NonBlockingWriter(sys.stdout), sources) if is_capable() else None


@contextmanager
def _connected(view: LiveView | None, stop: Stop, outputs: ConfiguredSinks, loop: ListenLoop) -> Iterator[None]:
    """Lets the keys of the view, where there is one, act on the program, and Ctrl-Z give the terminal back."""
    if view is None:
        yield
        return
    from edge_sser.sinks.live.view import Controls

    def thresholds(source: str) -> Thresholds:
        return loop.sessions[source].thresholds

    view.connect(
        Controls(
            quit=stop.set,
            stopping=stop.is_set,
            pause=outputs.switch.press_key,
            pauses=lambda: outputs.switch.reasons,
            thresholds=thresholds,
        )
    )
    with view.restored_on_stop():
        yield


def _standard_output(settings: Settings, stop: threading.Event) -> Sink:
    """Returns the sink of standard output where there is no live view."""
    form = settings.output.format
    # A recording can wait for the reader. A microphone cannot, nor can a pipe that one may be behind.
    can_wait = all(map(is_recording, settings.source))
    writer = NonBlockingWriter(sys.stdout, wait_until=stop if can_wait else None)
    if form is OutputFormat.JSONL or (form is OutputFormat.AUTO and not sys.stdout.isatty()):
        return JsonLines(writer)
    return TextLines(writer)


def _check_readings(result: ListenResult, names: list[str]) -> None:
    """Checks that every source gave a reading.

    Raises:
        SourceError: a source ended before the first window was full.
    """
    without = [name for name in names if name not in result.with_readings]
    if without:
        raise SourceError(
            f"{', '.join(without)} ended before {FEATURES.window_samples / FEATURES.sample_rate:.0f} s of audio, the "
            "window that a reading describes: give more audio"
        )
