"""`edge-sser analyze`: recordings, faster than real time, through the same path as a microphone.

Each recording's events come out in the order of the command line. With several jobs a recording's lines wait in a
temporary file (lines, never audio) until it is its turn, so that memory does not grow with their number or length.
"""

from __future__ import annotations

import csv
import ctypes
import io
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from enum import Enum
from functools import lru_cache
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TextIO

import typer

from edge_sser.audio.file import FileSource
from edge_sser.audio.source import SAMPLE_RATE, EndOfAudio
from edge_sser.errors import EdgeSserError, SettingsError, SinkError, SourceError, UsageError
from edge_sser.events import Episode, Event, Reading, as_dict, to_json
from edge_sser.model.model import Model
from edge_sser.monitor import Monitor
from edge_sser.pipeline.features import FEATURES
from edge_sser.settings.names import node_name, slug
from edge_sser.settings.schema import Settings
from edge_sser.sinks.stdout import OutputClosedError

PR_SET_PDEATHSIG = 1  # linux/prctl.h
WAITING_PER_JOB = 2  # recordings analysed ahead of the one that is printed
_NEVER_SECONDS = 60.0  # a recording that is not paced lets nobody wait


class Form(str, Enum):
    """How the results are written."""

    JSONL = "jsonl"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class Recording:
    """One file to analyse.

    Attributes:
        path: the file.
        name: its source's name in events, different for each.
        plot: where to draw it; None for nowhere.
    """

    path: Path
    name: str
    plot: Path | None


@dataclass(frozen=True, slots=True)
class Task:
    """What is the same for all recordings of a run."""

    settings: Settings
    form: Form
    channel: int | None


def run_analyze(
    files: Sequence[Path], *, settings: Settings, form: str, plot: Path | None, jobs: int, channel: int | None
) -> int:
    """Prints the readings and episodes of recordings. Returns the exit status: 1 when any of them failed.

    Args:
        files: recordings.
        settings: of gate, window, rolling, episodes and model; its sources are not used.
        form: `jsonl` (readings and episodes) or `csv` (readings).
        plot: a picture to draw; with several recordings each gets one, with its name added.
        jobs: recordings analysed at a time, each in a process of its own.
        channel: the channel to take, from 0; None averages all.

    Raises:
        EdgeSserError: nothing can be analysed at all; what is wrong with one recording is printed instead.
        OutputClosedError: nobody reads the results any more.
    """
    if form not in list(Form):
        raise UsageError(f"--format {form}: expected one of {', '.join(known.value for known in Form)}")
    if plot is not None:
        from edge_sser.commands.plot import check_plot

        check_plot(plot)
    task = Task(settings, Form(form), channel)
    model = _load(settings)  # also with several jobs: a bad model file is one error, not one a recording
    recordings = _recordings(files, plot)
    status = 0
    try:
        if task.form is Form.CSV:
            sys.stdout.write(_csv_line(field.name for field in fields(Reading)))
        with Progress(recordings) as bar:
            if jobs == 1 or len(recordings) == 1:
                failures = _analyze_here(recordings, task, model, bar)
            else:
                failures = _analyze_apart(recordings, task, min(jobs, len(recordings)), bar)
            for failure in failures:
                if failure is not None:
                    status = EdgeSserError.exit_status
                    print(f"edge-sser: error: {failure}", file=sys.stderr)
        sys.stdout.flush()
    except BrokenPipeError:
        raise OutputClosedError("standard output was closed by its reader, so the analysis ended") from None
    except OSError as error:
        raise SinkError(f"standard output cannot be written: {error.strerror}") from None
    return status


def _recordings(files: Sequence[Path], plot: Path | None) -> list[Recording]:
    out: list[Recording] = []
    names: set[str] = set()
    for path in files:
        name = unused = slug(path.stem, "recording")
        number = 1
        while unused in names:  # two files of one name in two folders
            number += 1
            unused = f"{name[:58]}-{number}"
        names.add(unused)
        picture = plot if plot is None or len(files) == 1 else plot.with_stem(f"{plot.stem}-{unused}")
        out.append(Recording(path, unused, picture))
    return out


def _analyze_one(
    recording: Recording, task: Task, model: Model, out: TextIO, advance: Callable[[float], None]
) -> str | None:
    """Writes the results of one recording, and draws it. Returns what was wrong with it, None when nothing was."""
    try:
        with closing(FileSource(recording.path, name=recording.name, channel=task.channel)) as source:
            _listen_to(source, recording, task, model, out, advance)
    except SettingsError:  # wrong for every recording
        raise
    except EdgeSserError as error:
        return str(error)
    finally:
        out.flush()
    return None


def _listen_to(
    source: FileSource, recording: Recording, task: Task, model: Model, out: TextIO, advance: Callable[[float], None]
) -> None:
    monitor = Monitor(
        node=node_name(task.settings),
        source_name=recording.name,
        started_at=source.started_at,
        live=False,
        model=model,
        settings=task.settings,
    )
    picture = None
    if recording.plot is not None:
        from edge_sser.commands.plot import Plot

        picture = Plot()
    broken: SourceError | None = None
    readings = 0
    while True:
        try:
            block = source.read(_NEVER_SECONDS)
        except EndOfAudio:
            break
        except SourceError as error:
            broken = error  # what came before counts, and its episode is closed
            break
        if block is None:  # of a paced recording only
            continue
        events = monitor.push(block)
        readings += _write(events, task.form, out)
        advance(block.samples.size / SAMPLE_RATE)
        if picture is not None:
            picture.push(block, events)
    events = monitor.finish()
    _write(events, task.form, out)
    if picture is not None and recording.plot is not None and readings:
        picture.add(events)
        picture.draw(recording.plot, recording.path.name)
    if broken is not None:
        raise broken
    if not readings:
        raise SourceError(
            f"{recording.path} is {monitor.counters.read / SAMPLE_RATE:.1f} s long, shorter than the "
            f"{FEATURES.window_samples / SAMPLE_RATE:.0f} s window that a reading describes: give a longer recording"
        )


def _write(events: Iterable[Event], form: Form, out: TextIO) -> int:
    """Writes readings and, as JSON Lines, episodes. Returns how many readings there were."""
    readings = 0
    for event in events:
        if isinstance(event, Reading):
            readings += 1
            out.write(_csv_line(as_dict(event).values()) if form is Form.CSV else to_json(event) + "\n")
        elif isinstance(event, Episode) and form is Form.JSONL:
            out.write(to_json(event) + "\n")
    return readings


def _csv_line(values: Iterable[Any]) -> str:
    buffer = io.StringIO()
    words = {None: "", True: "true", False: "false"}
    csv.writer(buffer, lineterminator="\n").writerow(
        words[value] if value is None or isinstance(value, bool) else value for value in values
    )
    return buffer.getvalue()


def _analyze_here(recordings: Sequence[Recording], task: Task, model: Model, bar: Progress) -> Iterator[str | None]:
    for recording in recordings:
        yield _analyze_one(recording, task, model, sys.stdout, bar.advance)


def _analyze_apart(recordings: Sequence[Recording], task: Task, jobs: int, bar: Progress) -> Iterator[str | None]:
    """Analyses recordings in other processes, a few ahead of the one that is printed."""
    context = multiprocessing.get_context("spawn")  # a fork would share what ONNX Runtime has running
    with tempfile.TemporaryDirectory(prefix="edge-sser-") as folder:
        executor = ProcessPoolExecutor(jobs, context, initializer=_follow, initargs=(os.getpid(),))
        before = signal.signal(signal.SIGTERM, _end)
        try:
            ahead: deque[tuple[Recording, Path, Future[str | None]]] = deque()
            waiting = iter(enumerate(recordings))
            while True:
                for number, recording in islice(waiting, jobs * WAITING_PER_JOB - len(ahead)):
                    lines = Path(folder) / str(number)
                    with _interrupts_held():  # a process that is started has them held for good
                        ahead.append((recording, lines, executor.submit(_analyze_into, lines, recording, task)))
                if not ahead:
                    return
                recording, lines, future = ahead.popleft()
                try:
                    failure = future.result()
                except BrokenProcessPool:
                    raise EdgeSserError(
                        f"a process that analysed recordings was killed, at {recording.path} or one after it: is there "
                        "too little memory? Use --jobs 1"
                    ) from None
                with lines.open(encoding="utf-8") as file:
                    shutil.copyfileobj(file, sys.stdout)
                lines.unlink()
                bar.advance(_seconds(recording.path))
                yield failure
        except SystemExit:
            raise EdgeSserError(
                "ended by SIGTERM before all recordings were analysed: what was printed is whole"
            ) from None
        finally:
            signal.signal(signal.SIGTERM, before)
            for process in multiprocessing.active_children():
                process.terminate()
            # Waited for: a pool that is still ending as Python does, prints a traceback now and then.
            executor.shutdown(wait=True, cancel_futures=True)


def _analyze_into(lines: Path, recording: Recording, task: Task) -> str | None:
    """Runs in another process."""
    with lines.open("w", encoding="utf-8") as out:
        return _analyze_one(recording, task, _model_of_process(task.settings), out, lambda seconds: None)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """Ends a run whose files and processes must not outlive it, past everything that takes care of errors."""
    raise SystemExit


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Holds Ctrl-C back, also from processes started meanwhile: it reaches all of a terminal, and is for the parent.

    A process could only ignore it after its imports, and would print a traceback when interrupted in them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _follow(parent: int) -> None:
    """Lets this process end with the one that started it, and only with it.

    Should that be killed, the kernel ends this one (PR_SET_PDEATHSIG, prctl(2)); it would wait for work for ever.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def _load(settings: Settings) -> Model:
    wanted = settings.model
    return Model.load(wanted.path, runtime=wanted.runtime, threads=wanted.threads, engines=wanted.engines)


_model_of_process = lru_cache(maxsize=1)(_load)  # a process that analyses many recordings loads the model once


class Progress:
    """A bar on standard error, when that is a terminal and the results go elsewhere."""

    def __init__(self, recordings: Sequence[Recording]) -> None:
        self._seconds = 0.0
        self._bar: Any = None
        if sys.stderr.isatty() and not sys.stdout.isatty():
            total = sum(_seconds(recording.path) for recording in recordings)
            self._bar = typer.progressbar(length=max(1, round(total)), label="analyze", file=sys.stderr)

    def advance(self, seconds: float) -> None:
        """Adds seconds of audio that are done."""
        if self._bar is not None:
            before, self._seconds = round(self._seconds), self._seconds + seconds
            self._bar.update(round(self._seconds) - before)

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)


def _seconds(path: Path) -> float:
    """Length of a recording by its header; 0 when it cannot be opened, which is told when its turn comes."""
    try:
        with closing(FileSource(path, name="length")) as source:
            return source.duration_seconds or 0.0
    except EdgeSserError:
        return 0.0
