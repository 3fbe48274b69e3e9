"""The work of `edge-sser analyze --out`: find recordings, leave out what is done, analyse the rest, sum up."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_sser.commands.archive.batch import FAILED, ArchiveOptions, killed_batch
from edge_sser.commands.archive.find import Item, batches, find_recordings
from edge_sser.commands.archive.results import ArchiveResults
from edge_sser.commands.archive.times import MODIFIED, TimeRule
from edge_sser.commands.archive.workers import Batch, Results, Worker, in_cluster, in_pool, in_process
from edge_sser.commands.history.overview import duration_text
from edge_sser.commands.process_pool import has_shared_memory
from edge_sser.commands.progress import Work, progress
from edge_sser.errors import EdgeSserError, UsageError, need_package, printable
from edge_sser.model.model import Model
from edge_sser.settings.schema import Settings

SHOWN_FAILURES: Final = 5


@dataclass(frozen=True, slots=True)
class ArchiveRequest:
    """Options of `edge-sser analyze --out`.

    Attributes:
        places: files and folders.
        recursive: also folders in folders.
        out: folder of the results.
        jobs: processes.
        dask: address of a scheduler; None for this machine.
        channel: channel to take, from 0; None for the average of all.
        times: text of a `TimeRule`.
    """

    places: Sequence[Path]
    recursive: bool
    out: Path
    jobs: int
    dask: str | None
    channel: int | None
    times: str


def archive_request(
    places: Sequence[Path],
    recursive: bool,
    out: Path | None,
    jobs: int,
    dask: str | None,
    channel: int | None,
    times: str | None,
    *,
    form: str,
    plot: Path | None,
) -> ArchiveRequest:
    """Returns the options of an archive.

    Raises:
        UsageError: --out is missing, or an option does not go with it.
    """
    if out is None:
        raise UsageError("--recursive, --times and --dask are for archives: name a folder for the results with --out")
    if form not in ("auto", "parquet"):
        raise UsageError(f"--format {form}: --out writes Parquet: leave one of the two out")
    if plot is not None:
        raise UsageError("--plot does not go with --out: leave one of the two out")
    return ArchiveRequest(places, recursive, out, jobs, dask, channel, times or MODIFIED)


def run_archive(request: ArchiveRequest, settings: Settings) -> int:
    """Analyses an archive, and prints a summary. Returns the exit status: 1 when a recording failed.

    Args:
        request: options.
        settings: of gate, window, rolling, episodes and model.

    Raises:
        EdgeSserError: nothing can be analysed or written.
    """
    need_package("pyarrow", "archive", "--out")
    options = ArchiveOptions(settings, request.channel, TimeRule(request.times))
    items = find_recordings(request.places, recursive=request.recursive)
    model = Model.of_settings(settings.model)
    with closing(ArchiveResults(request.out, options, model.label)) as results:
        left = [item for item in items if item.name not in results.done]
        if len(left) < len(items):
            _tell(f"{len(items) - len(left)} of {len(items)} recordings were tried before")
        began = time.monotonic()
        with progress("analyze", _bytes(left)) as work:
            _analyze(left, _worker(request, options, len(left), work), results, model.label)
        return _sum_up(results, items, left, time.monotonic() - began)


def _analyze(items: Sequence[Item], worker: Worker, results: ArchiveResults, model: str) -> None:
    """Hands out batches; the recordings of one that ended its worker are tried again one by one."""
    alone: list[Batch] = []
    for batch, result in worker(list(batches(items))):
        if result is not None:
            results.add(result)
        elif len(batch) == 1:
            results.add(killed_batch(batch[0], model))
        else:
            alone += [(item,) for item in batch]
    for batch, result in worker(alone) if alone else ():
        results.add(killed_batch(batch[0], model) if result is None else result)


def _worker(request: ArchiveRequest, options: ArchiveOptions, items: int, work: Work) -> Worker:
    """Returns the worker that the options ask for. It advances `work` by bytes."""
    if request.dask is not None:
        return _advancing(in_cluster(options, request.dask), work)
    if request.jobs > 1 and items > 1:
        if has_shared_memory():
            return in_pool(options, min(request.jobs, items), work.advance)
        _tell("warning: --jobs needs shared memory, and /dev/shm cannot be written here: jobs run one by one")
    return in_process(options, work.advance)


def _advancing(worker: Worker, work: Work) -> Worker:
    """Returns a worker that advances `work` with each batch that is not tried again."""

    def run(batches: Sequence[Batch]) -> Results:
        for batch, result in worker(batches):
            if result is not None or len(batch) == 1:
                work.advance(_bytes(batch))
            yield batch, result

    return run


def _bytes(items: Sequence[Item]) -> int:
    return sum(item.size for item in items)


def _sum_up(results: ArchiveResults, items: Sequence[Item], left: Sequence[Item], seconds: float) -> int:
    """Prints the summary of all recordings of this command. Returns the exit status.

    Args:
        results: of this and earlier runs.
        items: all recordings.
        left: those that this run has analysed.
        seconds: that it took.
    """
    names, new = {item.name for item in items}, {item.name for item in left}
    rows = [row for row in results.files().to_pylist() if row["path"] in names]
    failed = [row for row in rows if row["status"] == FAILED]
    failed_now = sum(row["path"] in new for row in failed)
    failed_before = len(failed) - failed_now
    audio, speech = (sum(row[name] for row in rows) for name in ("seconds", "speech_s"))
    levels = {name: sum(row[f"{name}_s"] for row in rows) for name in ("low", "elevated", "high")}
    judged = sum(levels.values())
    shares = ", ".join(f"{name} {100 * part / (judged or 1.0):.1f} %" for name, part in levels.items())
    untimed = sum(row["started"] is None and row["status"] != FAILED for row in rows)
    earlier = f", {failed_before} of them in an earlier run" if failed_before else ""
    lines = [
        f"recordings      {len(rows)}",
        f"  analysed now  {len(left) - failed_now}" + (f", in {duration_text(seconds)}" if left else ""),
        f"  done before   {len(rows) - len(left) - failed_before}",
        f"  failed        {len(failed)}{earlier}",
        f"audio           {duration_text(audio)}, of which speech {duration_text(speech)}",
        f"levels          {shares} of the {duration_text(judged)} judged",
        f"episodes        {sum(row['episodes'] for row in rows)}",
        f"results         {results.out}/readings, episodes and files (Parquet)",
    ]
    if untimed:
        lines.append(f"no time of day  {untimed}: --times found none")
    print("\n".join(lines))
    for row in failed[:SHOWN_FAILURES]:
        named = row["path"] in row["reason"]
        _tell(f"error: {printable(row['reason'] if named else row['path'] + ': ' + row['reason'])}")
    if len(failed) > SHOWN_FAILURES:
        _tell(f"error: and {len(failed) - SHOWN_FAILURES} more, each with its reason in {results.out}/files")
    return EdgeSserError.exit_status if failed else 0


def _tell(text: str) -> None:
    print(f"edge-sser: {text}", file=sys.stderr)
