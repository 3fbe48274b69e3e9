"""The status of this process as an event."""

from __future__ import annotations

import socket

from edge_sser import __version__
from edge_sser.events import Status, StatusState, timestamp
from edge_sser.model.model import Model
from edge_sser.monitor.operating import expected_rule
from edge_sser.settings.names import node_name
from edge_sser.settings.schema import Settings


def status_event(state: StatusState, now: float, *, settings: Settings, model: Model) -> Status:
    """Returns the status of this process.

    Args:
        state: online or stopped.
        now: seconds since the epoch.
        settings: in effect; they name the node and say what to expect.
        model: in use.

    Raises:
        SettingsError: the levels of settings and model card do not fit together.
    """
    return Status(
        node=node_name(settings),
        ts=timestamp(now),
        state=state,
        version=__version__,
        model=model.label,
        provider=model.provider,
        host=socket.gethostname(),
        expected=expected_rule(settings, model.card).expected,
    )
