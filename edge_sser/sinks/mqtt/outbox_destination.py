"""The broker and node that an outbox was written for: events that wait for one are not sent to another.

When the settings name another broker or node, an outbox with waiting events is renamed, and stays on the disk. When
they name the first ones again, that file is the outbox again.
"""

from __future__ import annotations

import logging
import os
import zlib
from pathlib import Path
from typing import Final

from edge_sser.settings.names import slug
from edge_sser.sinks.mqtt.outbox_file import OutboxFile, remove_outbox

KEPT_PATTERN: Final = "outbox.*-*.db"  # of files that wait for another destination

log = logging.getLogger("edge_sser.outbox")


def open_outbox(path: Path, destination: str, mark: Path) -> OutboxFile:
    """Opens the outbox of a destination. One of another destination is kept under another name.

    Killed at any moment, it leaves each file whole, and the next call does the rest.

    Args:
        path: of the outbox in use.
        destination: broker and node in words, as `destination_text` returns them; empty to take any outbox.
        mark: witness of the outbox in use, removed when that is another one from now on.

    Raises:
        OSError: a file cannot be created or renamed.
        sqlite3.Error: as for `OutboxFile`.
    """
    if destination and path.exists():
        file = OutboxFile(path)
        if file.destination in ("", destination):
            return _claimed(file, destination)
        _keep(file, path, destination, mark)
    own = kept_path(path, destination)
    if destination and own.exists():
        mark.unlink(missing_ok=True)
        os.replace(own, path)
        log.warning("outbox %s: its events for %s, kept as %s, are sent now", path, destination, own.name)
    return _claimed(OutboxFile(path), destination)


def kept_path(path: Path, destination: str) -> Path:
    """Returns the name under which the outbox of a destination is kept while another one is in use."""
    return path.with_name(f"{path.stem}.{slug(destination, 'broker')}-{zlib.crc32(destination.encode()):08x}.db")


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
    """Renames the outbox of another destination; removes it when nothing waits in it."""
    before, waiting = file.destination, file.depth
    file.close()  # which moves the log into the file
    mark.unlink(missing_ok=True)
    if not waiting:
        remove_outbox(path)
        return
    kept = kept_path(path, before)
    os.replace(path, kept)
    log.warning(
        "outbox: %s for %s, and %s not sent to %s: kept as %s for when the settings name that broker and node again; "
        "remove the file if nobody wants it",
        *(waiting_text(waiting), before, "is" if waiting == 1 else "are", destination, kept),
    )
