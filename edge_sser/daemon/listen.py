"""`edge-sser listen`: opens what the settings name, and shows or prints what is heard."""

from __future__ import annotations

import logging
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

from edge_sser.audio.open import is_microphone, is_recording, open_source, source_name
from edge_sser.daemon.log import JournalFormatter, RateLimitFilter, goes_to_journal
from edge_sser.daemon.loop import Operator, Stop, listen, status_event, stop_on_signals
from edge_sser.daemon.reload import Reloader
from edge_sser.daemon.session import Input
from edge_sser.daemon.systemd import Supervisor
from edge_sser.errors import SinkError, SourceError, UsageError
from edge_sser.events import Event, Reading, StatusState
from edge_sser.model.model import Model
from edge_sser.pipeline.features import FEATURES
from edge_sser.settings.node import node_name
from edge_sser.settings.schema import OutputFormat, Settings
from edge_sser.sinks.base import Sink
from edge_sser.sinks.open import Outputs
from edge_sser.sinks.outlet import NonBlockingWriter, OutputClosedError
from edge_sser.sinks.stdout import JsonLines
from edge_sser.sinks.terminal import LiveLog, LiveView, TextLines

INTERRUPTED = 130  # exit status after Ctrl-C
LOG_LEVELS = ("debug", "info", "warning", "error")
PROGRAM_LOG = "edge_sser"


def run_listen(settings: Settings, *, paced: bool, log_level: str, load: Callable[[], Settings] | None = None) -> int:
    """Listens until the audio ends, or SIGTERM or Ctrl-C ends it. Returns the exit status.

    Args:
        settings: in effect.
        load: reads the settings again, which a service does on SIGHUP; None when there is no file to read. On a
            terminal SIGHUP says that it was closed, and ends listening.
        paced: play recordings in real time.
        log_level: one of `LOG_LEVELS`, for standard error.

    Raises:
        EdgeSserError: something cannot be opened or broke, or a source was too short for a reading.
        OutputClosedError: nobody reads standard output any more. The last episodes were closed.
    """
    if log_level not in LOG_LEVELS:
        raise UsageError(f"--log-level {log_level}: expected one of {', '.join(LOG_LEVELS)}")
    # The image of a crash would hold audio. (Where a program collects images, it is told of this limit and obeys it.)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    stop = Stop()
    reloads = load is not None and not any(map(os.isatty, (0, 1, 2)))
    with ExitStack() as stack:
        stack.enter_context(stop_on_signals(stop, hangup_ends=not reloads))
        output = _Output(_standard_output(settings, stop))
        stack.callback(output.close)
        log = stack.enter_context(_log_to_stderr(log_level, output.inner))
        wanted = settings.model
        model = Model.load(wanted.path, runtime=wanted.runtime, threads=wanted.threads, engines=wanted.engines)
        names = [source_name(source) for source in settings.source]
        online = partial(status_event, StatusState.ONLINE, node_name(settings), model)
        others = Outputs(settings, status=lambda: online(time.time()), sources=names)
        stack.callback(others.close)
        supervisor = Supervisor.from_environment()
        reloader = Reloader(
            settings,
            load or (lambda: settings),
            asked=lambda: stop.hangups,
            model=model,
            outputs=others,
            supervisor=supervisor,
        )
        stack.callback(reloader.close)
        inputs = [
            Input(name, partial(open_source, source, paced=paced), reopens=is_microphone(source))
            for name, source in zip(names, settings.source, strict=True)
        ]
        log.info("%s on %s, listening to %s", model.label, model.provider, ", ".join(names))
        operator = _Attended(others, reloader)
        listen(settings, inputs, [output, *others.sinks], model, stop, operator=operator, supervisor=supervisor)
    if output.reader_gone:
        raise OutputClosedError("standard output was closed by its reader, so listening ended")
    if not stop.is_set():
        _refuse_short(names, output.heard)
    return INTERRUPTED if stop.signal_number == signal.SIGINT else 0


class _Attended(Operator):
    """What the outputs and the settings file ask for."""

    def __init__(self, outputs: Outputs, reloader: Reloader) -> None:
        self._outputs = outputs
        self.news = reloader.news  # type: ignore[method-assign]

    @property
    def listening(self) -> bool:
        return self._outputs.listening

    @property
    def trouble(self) -> str:
        return self._outputs.trouble


class _Output(Sink):
    """Standard output, and what became of it.

    Attributes:
        inner: what writes.
        heard: names of the sources that gave a reading.
        reader_gone: whether the reader of standard output went away.
    """

    def __init__(self, inner: Sink) -> None:
        self.inner = inner
        self.heard: set[str] = set()
        self.reader_gone = False

    def emit(self, event: Event, line: bytes) -> None:
        if isinstance(event, Reading):
            self.heard.add(event.source)
        try:
            self.inner.emit(event, line)
        except OutputClosedError:
            self.reader_gone = True
            raise

    def close(self) -> None:
        self.inner.close()


def _standard_output(settings: Settings, stop: threading.Event) -> Sink:
    form, terminal = settings.output.format, sys.stdout.isatty()
    # A recording can wait for whoever reads. A microphone cannot, nor can what comes in through a pipe from one.
    patient = all(map(is_recording, settings.source))
    outlet = NonBlockingWriter(sys.stdout, patient_until=stop if patient else None)
    if form is OutputFormat.JSONL or (form is OutputFormat.AUTO and not terminal):
        return JsonLines(outlet)
    return LiveView(outlet) if terminal else TextLines(outlet)


class _StandardError(logging.Handler):
    """Log lines on standard error, which makes nobody wait either."""

    def __init__(self) -> None:
        super().__init__()
        self._outlet = NonBlockingWriter(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(SinkError):  # nobody reads it: there is nowhere left to say so
            self._outlet.say(self.format(record) + "\n")

    def close(self) -> None:
        with suppress(SinkError):
            self._outlet.close()
        super().close()


@contextmanager
def _log_to_stderr(level: str, output: Sink) -> Iterator[logging.Logger]:
    """The program's log on standard error; above the live view where both are the same terminal."""
    # Standard error may have been closed by whoever started this.
    handler: logging.Handler = logging.NullHandler() if sys.stderr is None else _StandardError()
    if isinstance(output, LiveView) and sys.stderr is not None and sys.stderr.isatty():
        handler = LiveLog(output)
    form = JournalFormatter if goes_to_journal(sys.stderr) else logging.Formatter
    handler.setFormatter(form("edge-sser: %(message)s"))
    handler.addFilter(RateLimitFilter())
    log = logging.getLogger(PROGRAM_LOG)
    level_before = log.level
    log.setLevel(level.upper())
    log.addHandler(handler)
    try:
        yield log
    finally:
        log.removeHandler(handler)
        handler.close()
        log.setLevel(level_before)


def _refuse_short(names: Sequence[str], heard: set[str]) -> None:
    """Says so when a source ended before the first window was full.

    Raises:
        SourceError: that is so.
    """
    unheard = [name for name in names if name not in heard]
    if unheard:
        raise SourceError(
            f"{', '.join(unheard)} ended before {FEATURES.window_samples / FEATURES.sample_rate:.0f} s of audio, the "
            "window that a reading describes: give more audio"
        )
