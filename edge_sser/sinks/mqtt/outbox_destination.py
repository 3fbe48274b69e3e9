"""The broker and node that an outbox was written for: events that wait for one are not sent to another.

When the settings name another broker or node, an outbox with waiting events is renamed, and stays on the disk. When
they name the first ones again, that file is the outbox again, once nothing waits in the one in use. No file that is
kept is ever replaced: another of the same destination gets a number.
"""

from __future__ import annotations

import logging
import os
import zlib
from pathlib import Path
from typing import Final

from edge_sser.settings.names import slug
from edge_sser.sinks.mqtt.outbox_file import OutboxFile, log_path, remove_outbox

KEPT_PATTERN: Final = "outbox.*-*.db"  # of files that wait for another destination
KEPT_FILES: Final = 99  # of one destination

log = logging.getLogger("edge_sser.outbox")


def open_outbox(path: Path, destination: str, mark: Path) -> OutboxFile:
    """Opens the outbox of a destination. One of another destination is kept under another name.

    Killed at any moment, it leaves each file whole, and the next call does the rest.

    Args:
        path: of the outbox in use.
        destination: broker and node in words, as `destination_text` returns them; empty to take any outbox.
        mark: witness of the outbox in use, removed when that is another one from now on.

    Raises:
        OSError: a file cannot be created or renamed, or not without a loss.
        sqlite3.Error: as for `OutboxFile`.
    """
    own = _first_kept(path, destination, exists=True) if destination else None
    if destination and path.exists():
        file = OutboxFile(path)
        if file.destination in ("", destination) and (file.depth or own is None):
            if own is not None:
                log.warning("outbox %s: %s waits until the outbox is opened with nothing in it", path, own.name)
            return _claimed(file, destination)
        _keep(file, path, destination, mark)
    if own is not None:
        mark.unlink(missing_ok=True)
        os.replace(own, path)
        log.warning("outbox %s: its events for %s, kept as %s, are sent now", path, destination, own.name)
    return _claimed(OutboxFile(path), destination)


def kept_path(path: Path, destination: str, number: int = 1) -> Path:
    """Returns the name under which an outbox of a destination is kept while another one is in use; 1 is the first."""
    suffix = ".db" if number == 1 else f".{number}.db"
    name = f"{path.stem}.{slug(destination, 'broker')}-{zlib.crc32(destination.encode()):08x}{suffix}"
    return path.with_name(name)


def destination_text(address: object, node: str) -> str:
    """Returns broker and node in words.

    Examples:
        >>> destination_text("broker.example:8883", "cab12")
        'broker.example:8883 (node cab12)'
    """
    return f"{address} (node {node})"


def waiting_text(events: int) -> str:
    """Returns the number of waiting events in words.

    Examples:
        >>> waiting_text(1), waiting_text(12)
        ('1 event waits', '12 events wait')
    """
    return "1 event waits" if events == 1 else f"{events} events wait"


def _first_kept(path: Path, destination: str, *, exists: bool) -> Path | None:
    """Returns the first name for kept files of a destination that is taken, or is free; None without one."""
    names = (kept_path(path, destination, number) for number in range(1, KEPT_FILES + 1))
    return next((name for name in names if name.exists() == exists), None)


def _claimed(file: OutboxFile, destination: str) -> OutboxFile:
    """Writes the destination into a new file, or one of a version that wrote none."""
    if destination and not file.destination:
        try:
            file.set_destination(destination)
        except BaseException:
            file.close()
            raise
    return file


def _keep(file: OutboxFile, path: Path, destination: str, mark: Path) -> None:
    """Renames the outbox of another destination; removes it when nothing waits in it.

    Raises:
        OSError: the outbox cannot be renamed without a loss; it is as it was.
    """
    before, waiting = file.destination, file.depth
    file.close()  # which moves the log into the file
    if not waiting:
        mark.unlink(missing_ok=True)
        remove_outbox(path)
        return
    if log_path(path).exists():  # as on a full disk
        raise OSError(f"{waiting_text(waiting)} for {before}, and the log cannot be moved into the file to keep them")
    kept = _first_kept(path, before, exists=False)
    if kept is None:
        raise OSError(f"{KEPT_FILES} files are kept for {before}: remove those that nobody wants")
    mark.unlink(missing_ok=True)
    os.replace(path, kept)
    log.warning(
        "outbox: %s for %s, and %s not sent to %s: kept as %s for when the settings name that broker and node again; "
        "remove the file if nobody wants it",
        *(waiting_text(waiting), before, "is" if waiting == 1 else "are", destination, kept),
    )
