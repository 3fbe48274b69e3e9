"""`edge-sser notify test`: one message, marked as a test, to each target."""

from __future__ import annotations

import time
from uuid import uuid4

import typer

from edge_sser.errors import EdgeSserError, UsageError
from edge_sser.events import Episode, Level, Phase, timestamp, to_line
from edge_sser.settings.names import node_name, source_name
from edge_sser.settings.schema import Settings
from edge_sser.sinks.notify.message import message_of
from edge_sser.sinks.notify.targets import DeliveryError, open_target


def send_test(settings: Settings, name: str | None) -> int:
    """Sends a message to the targets of the settings, at once. Returns the exit status: 1 when one was not reached.

    Args:
        settings: in effect.
        name: of the only target to test; None for all.

    Raises:
        UsageError: there is no such target.
    """
    tables = settings.notify or ()
    names = [table.name for table in tables]
    if not tables:
        raise UsageError("there is no [[notify]] in the settings: docs/notify.md shows some")
    if name is not None and name not in names:
        raise UsageError(f"no [[notify]] is called {name}: there are {', '.join(names)}")
    message = message_of(to_line(_episode(settings)), test=True)
    failed = False
    for table in tables:
        if name not in (None, table.name):
            continue
        try:
            target = open_target(table, show_errors=True)
            target.deliver(message, f"test-{uuid4().hex}")
            typer.echo(f"{table.name}: {target.label} took the test")
        except (EdgeSserError, DeliveryError) as error:
            failed = True
            reason = str(error).removeprefix(f"notify {table.name}: ")
            typer.echo(f"{table.name}: {reason}", err=True)
    return EdgeSserError.exit_status if failed else 0


def _episode(settings: Settings) -> Episode:
    node, source = node_name(settings), source_name(settings.source[0])
    return Episode(
        phase=Phase.START,
        id=f"{node}/{source}/test",
        node=node,
        source=source,
        ts=timestamp(time.time()),
        level=Level.HIGH,
        start_s=0.0,
        end_s=0.0,
        duration_s=0.0,
        peak=0.99,
        mean=0.99,
        evidence_s=0.0,
        declared_s=0.0,
        model="test",
    )
