"""`edge-sser analyze`: recordings, faster than real time, through the same pipeline as a microphone.

Recordings are printed in the order of the command line. With several jobs, the lines of a recording wait in a temporary
file (lines, never audio) for their turn, so that memory does not grow with the number or length of recordings.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import TextIO

from edge_sser.audio.file import FileSource
from edge_sser.audio.recording import Recording as OpenRecording
from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.commands.process_pool import Call, has_shared_memory, process_pool, report
from edge_sser.commands.progress import Work, progress
from edge_sser.commands.results import OutputFormat, csv_header, write_events
from edge_sser.commands.summary import Summary
from edge_sser.errors import (
    EdgeSserError,
    OutputClosedError,
    SettingsError,
    SinkError,
    SourceError,
    UsageError,
    printable,
    short,
)
from edge_sser.model.model import Model
from edge_sser.monitor.monitor import Monitor, too_short
from edge_sser.settings.names import is_latin, node_name, slug
from edge_sser.settings.schema import Settings

AUTO = "auto"  # format: by what standard output is
AHEAD_PER_JOB = 2  # recordings analysed ahead of the one that is printed


@dataclass(frozen=True, slots=True)
class Recording:
    """One file to analyse.

    Attributes:
        name: name of its source in events, unique in a run.
        plot: file of its plot; None for no plot.
        seconds: its length by its header; 0 when unknown.
    """

    path: Path
    name: str
    plot: Path | None
    seconds: float


@dataclass(frozen=True, slots=True)
class AnalysisOptions:
    """Options for all recordings of a run."""

    settings: Settings
    format: OutputFormat
    channel: int | None


def run_analyze(
    files: Sequence[Path], *, settings: Settings, form: str, plot: Path | None, jobs: int, channel: int | None
) -> int:
    """Prints the readings and episodes of recordings. Returns the exit status: 1 when any of them failed.

    Args:
        files: recordings.
        settings: settings of gate, window, rolling, episodes and model; their sources are not used.
        form: `jsonl` (readings and episodes), `csv` (readings), `text` (a summary), or `auto`: a summary on a terminal,
            jsonl elsewhere.
        plot: file of a plot; with several recordings each gets one, with its name added.
        jobs: recordings analysed at a time, each in a process of its own.
        channel: channel to take, from 0; None for the average of all.

    Raises:
        EdgeSserError: no recording can be analysed. The error of a single recording is printed instead.
        OutputClosedError: the reader of standard output has closed it.
    """
    if form == AUTO:
        form = OutputFormat.TEXT if sys.stdout.isatty() else OutputFormat.JSONL
    if form not in list(OutputFormat):
        raise UsageError(
            f"--format {form}: expected one of {', '.join((AUTO, *(known.value for known in OutputFormat)))}"
        )
    if plot is not None:
        from edge_sser.commands.plot import check_plot

        check_plot(plot)
    options = AnalysisOptions(settings, OutputFormat(form), channel)
    # Also with several jobs: a bad model file is one error, not one a recording.
    model = Model.of_settings(settings.model)
    recordings = _recordings(files, plot)
    status = 0
    try:
        if options.format is OutputFormat.CSV:
            sys.stdout.write(csv_header())
        elif options.format is OutputFormat.JSONL:
            for recording in recordings:
                if not is_latin(recording.path.stem):
                    _tell(f"source {recording.name} is {printable(recording.path)}")
        with _progress_bar(recordings, options.format) as work:
            if jobs > 1 and len(recordings) > 1 and not has_shared_memory():
                jobs = 1
                _tell("warning: --jobs needs shared memory, and /dev/shm cannot be written here: jobs run one by one")
            if jobs == 1 or len(recordings) == 1:
                failures = _analyze_in_process(recordings, options, model, work)
            else:
                failures = _analyze_in_pool(recordings, options, min(jobs, len(recordings)), work)
            for failure in failures:
                if failure is not None:
                    status = EdgeSserError.exit_status
                    _tell(f"error: {failure}")
        sys.stdout.flush()
    except BrokenPipeError:
        raise OutputClosedError("standard output was closed by its reader, so the analysis ended") from None
    except OSError as error:
        place = "standard output" if error.filename is None else error.filename
        raise SinkError(f"{place} cannot be written: {error.strerror}") from None
    return status


def _tell(text: str) -> None:
    print(f"edge-sser: {text}", file=sys.stderr)


def _recordings(files: Sequence[Path], plot: Path | None) -> list[Recording]:
    out: list[Recording] = []
    names: set[str] = set()
    for path in files:
        stem = name = slug(path.stem, "recording")
        number = 1
        while name in names:  # files of the same name in two folders
            number += 1
            name = f"{stem[:58]}-{number}"
        names.add(name)
        own_plot = plot if plot is None or len(files) == 1 else plot.with_stem(f"{plot.stem}-{name}")
        out.append(Recording(path, name, own_plot, _seconds(path)))
    return out


def _analyze_one(
    recording: Recording, options: AnalysisOptions, model: Model, out: TextIO, advance: Callable[[float], None]
) -> str | None:
    """Writes the results of one recording, and its plot. Returns the message of its error, None without one."""
    try:
        with closing(FileSource(recording.path, name=recording.name, channel=options.channel)) as source:
            _analyze_source(source, recording, options, model, out, advance)
    except (SettingsError, OSError):  # wrong for every recording: settings, or the output
        raise
    except EdgeSserError as error:
        return str(error)
    except Exception as error:  # of a library, about this recording: the others go on
        return printable(f"{recording.path} cannot be analysed ({type(error).__name__}: {short(error)})")
    finally:
        out.flush()
    return None


def _analyze_source(
    source: FileSource,
    recording: Recording,
    options: AnalysisOptions,
    model: Model,
    out: TextIO,
    advance: Callable[[float], None],
) -> None:
    monitor = Monitor(
        node=node_name(options.settings),
        source_name=recording.name,
        started_at=source.started_at,
        live=False,
        model=model,
        settings=options.settings,
    )
    plot = None
    if recording.plot is not None:
        from edge_sser.commands.plot import Plot

        plot = Plot()
    summary = Summary(recording.path, options.settings.window.hop_seconds)
    failure: SourceError | None = None
    readings = 0
    try:
        for block in source.blocks():
            events = monitor.push(block)
            readings += write_events(events, recording.path, options.format, out)
            summary.add(events)
            advance(block.samples.size / SAMPLE_RATE)
            if plot is not None:
                plot.push(block, events)
    except SourceError as error:
        failure = error  # the audio before it counts, and its episode is closed
    events = monitor.finish()
    write_events(events, recording.path, options.format, out)
    summary.add(events)
    if options.format is OutputFormat.TEXT and readings:
        out.write(summary.text(monitor.counters.read / SAMPLE_RATE, recording.plot))
    if plot is not None and recording.plot is not None and readings:
        plot.add(events)
        plot.draw(recording.plot, recording.path.name, monitor.rule.thresholds)
        if options.format is not OutputFormat.TEXT:
            _tell(f"plot: {recording.plot}")
    if failure is not None:
        raise failure
    if not readings:
        raise too_short(recording.path, monitor.read)


def _analyze_in_process(
    recordings: Sequence[Recording], options: AnalysisOptions, model: Model, work: Work
) -> Iterator[str | None]:
    for recording in recordings:
        if options.format is not OutputFormat.TEXT:
            with work.part(recording.seconds) as advance:
                failure = _analyze_one(recording, options, model, sys.stdout, advance)
            yield failure
            continue
        out = io.StringIO()  # a few lines: the bar must be out of their way
        with work.part(recording.seconds) as advance:
            failure = _analyze_one(recording, options, model, out, advance)
        with work.hidden():
            sys.stdout.write(out.getvalue())
            sys.stdout.flush()
        yield failure


def _analyze_in_pool(
    recordings: Sequence[Recording], options: AnalysisOptions, jobs: int, work: Work
) -> Iterator[str | None]:
    """Analyses recordings in other processes, a few ahead of the one that is printed."""
    ended = "ended by SIGTERM before all recordings were analysed: what was printed is whole"
    with _lines_folder() as folder, process_pool(jobs, ended, work.advance) as pool:
        ahead: deque[tuple[Recording, Path, Call[str | None]]] = deque()
        waiting = iter(enumerate(recordings))
        while True:
            room = 0 if pool.alone and ahead else jobs * AHEAD_PER_JOB - len(ahead)
            for number, recording in islice(waiting, room):
                lines = Path(folder) / str(number)
                call = pool.submit(partial(_analyze_into, lines, recording, options), recording.seconds)
                ahead.append((recording, lines, call))
            if not ahead:
                return
            recording, lines, call = ahead.popleft()
            try:
                failure = pool.result(call)
            except BrokenProcessPool:  # lines of the recording may be cut in two
                lines.unlink(missing_ok=True)
                work.advance(recording.seconds)
                yield printable(
                    f"{recording.path} cannot be analysed: the process that did was killed, or crashed: is there too "
                    "little memory? The lines of this recording are left out"
                )
                continue
            with lines.open(encoding="utf-8") as file, work.hidden():
                shutil.copyfileobj(file, sys.stdout)
            lines.unlink()
            yield failure


def _analyze_into(lines: Path, recording: Recording, options: AnalysisOptions) -> str | None:
    """Analyses a recording in a process of the pool, and writes its results into a file."""
    try:
        with lines.open("w", encoding="utf-8") as out:
            return _analyze_one(recording, options, _pool_model(options.settings.model), out, report)
    except OSError as error:
        raise _no_room(str(lines.parent), error) from None


def _lines_folder() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="edge-sser-")
    except OSError as error:
        raise _no_room("the folder for temporary files", error) from None


def _no_room(place: str, error: OSError) -> SinkError:
    return SinkError(
        f"{place} cannot be written ({error.strerror}), where lines of --jobs wait for their turn: set TMPDIR to "
        "another folder, or use --jobs 1"
    )


_pool_model = lru_cache(maxsize=1)(Model.of_settings)  # a process of the pool loads the model once


@contextmanager
def _progress_bar(recordings: Sequence[Recording], form: OutputFormat) -> Iterator[Work]:
    """Yields work to advance by seconds of audio; without a bar where lines of results would tear it."""
    if sys.stdout.isatty() and form is not OutputFormat.TEXT:
        yield Work("analyze", None)
        return
    with progress("analyze", sum(recording.seconds for recording in recordings)) as work:
        yield work


def _seconds(path: Path) -> float:
    """Returns the length of a recording by its header; 0 when it cannot be opened, which is reported in its turn."""
    try:
        with closing(OpenRecording(path)) as recording:
            return (recording.frames or 0) / recording.rate_hz
    except Exception:
        return 0.0
