"""`edge-sser listen`: opens what the settings name, and shows or prints what is heard."""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from edge_sser.audio.open import is_microphone, open_source, source_name
from edge_sser.capture import Input
from edge_sser.daemon import Stop, listen, status_event, stop_on_signals
from edge_sser.errors import SourceError, UsageError
from edge_sser.events import Event, Reading, StatusState
from edge_sser.features import FEATURES
from edge_sser.journal import JournalFormatter, goes_to_journal
from edge_sser.model import Model, load_model
from edge_sser.node import node_name
from edge_sser.settings import OutputFormat, Settings
from edge_sser.sinks.base import Sink
from edge_sser.sinks.stdout import JsonLines, OutputClosedError
from edge_sser.sinks.terminal import LiveLog, LiveView, TextLines
from edge_sser.supervisor import Supervisor

if TYPE_CHECKING:
    from edge_sser.metrics import MetricsSink

INTERRUPTED = 130  # exit status after Ctrl-C
LOG_LEVELS = ("debug", "info", "warning", "error")
PROGRAM_LOG = "edge_sser"


def run_listen(settings: Settings, *, paced: bool, log_level: str) -> int:
    """Listens until the audio ends, or SIGTERM or Ctrl-C ends it. Returns the exit status.

    Args:
        settings: in effect.
        paced: play recordings in real time.
        log_level: one of `LOG_LEVELS`, for standard error.

    Raises:
        EdgeSserError: something cannot be opened or broke, or a source was too short for a reading.
        OutputClosedError: nobody reads standard output any more. The last episodes were closed.
    """
    if log_level not in LOG_LEVELS:
        raise UsageError(f"--log-level {log_level}: expected one of {', '.join(LOG_LEVELS)}")
    stop = Stop()
    with ExitStack() as stack:
        stack.enter_context(stop_on_signals(stop))
        output = _Output(_standard_output(settings.output.format))
        stack.callback(output.close)
        log = stack.enter_context(_log_to_stderr(log_level, output.inner))
        model = load_model(settings.model.path, provider=settings.model.provider.value, threads=settings.model.threads)
        names = [source_name(source) for source in settings.source]
        others, wanted = _open_sinks(settings, model, names, stack)
        inputs = [
            Input(name, partial(open_source, source, paced=paced), reopens=is_microphone(source))
            for name, source in zip(names, settings.source, strict=True)
        ]
        log.info("%s on %s, listening to %s", model.label, model.provider, ", ".join(names))
        supervisor = Supervisor.from_environment()
        listen(settings, inputs, [output, *others], model, stop, wanted=wanted, supervisor=supervisor)
    if output.reader_gone:
        raise OutputClosedError("standard output was closed by its reader, so listening ended")
    if not stop.is_set():
        _refuse_short(names, output.heard)
    return INTERRUPTED if stop.signal_number == signal.SIGINT else 0


def _open_sinks(
    settings: Settings, model: Model, names: Sequence[str], stack: ExitStack
) -> tuple[list[Sink], Callable[[], bool]]:
    """Every output but standard output, to be closed by the stack, and what says whether to listen.

    A sink's module is imported when the settings ask for it.
    """
    sinks: list[Sink] = []
    if settings.file is not None:
        from edge_sser.sinks.rotating import RotatingFileSink

        file = RotatingFileSink(settings.file)
        stack.callback(file.close)
        sinks.append(file)
    metrics: MetricsSink | None = None
    if settings.metrics is not None:
        from edge_sser.metrics import open_metrics

        metrics = open_metrics(settings.metrics)
        stack.callback(metrics.close)
        sinks.append(metrics)
    if settings.mqtt is None:
        return sinks, lambda: True
    from edge_sser.sinks.mqtt import open_mqtt

    node = node_name(settings)
    mqtt = open_mqtt(
        settings.mqtt,
        node=node,
        status=status_event(StatusState.ONLINE, node, model, time.time()),
        sources=names,
        on_listen=(lambda _on: None) if metrics is None else metrics.set_listening,
    )
    stack.callback(mqtt.close)
    sinks.append(mqtt)
    if metrics is not None:
        metrics.watch_mqtt(lambda: mqtt.report)
        metrics.set_listening(mqtt.listening)
    return sinks, lambda: mqtt.listening


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

    def emit(self, event: Event) -> None:
        if isinstance(event, Reading):
            self.heard.add(event.source)
        try:
            self.inner.emit(event)
        except OutputClosedError:
            self.reader_gone = True
            raise

    def close(self) -> None:
        self.inner.close()


def _standard_output(form: OutputFormat) -> Sink:
    if form is OutputFormat.JSONL or (form is OutputFormat.AUTO and not sys.stdout.isatty()):
        return JsonLines(sys.stdout.buffer)
    return LiveView(sys.stdout) if sys.stdout.isatty() else TextLines(sys.stdout)


@contextmanager
def _log_to_stderr(level: str, output: Sink) -> Iterator[logging.Logger]:
    """The program's log on standard error; above the live view where both are the same terminal."""
    handler: logging.Handler = logging.StreamHandler()
    if isinstance(output, LiveView) and sys.stderr.isatty():
        handler = LiveLog(output)
    form = JournalFormatter if goes_to_journal(sys.stderr) else logging.Formatter
    handler.setFormatter(form("edge-sser: %(message)s"))
    log = logging.getLogger(PROGRAM_LOG)
    level_before = log.level
    log.setLevel(level.upper())
    log.addHandler(handler)
    try:
        yield log
    finally:
        log.removeHandler(handler)
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
