"""The name of this device."""

from __future__ import annotations

import re
import socket

from edge_sser.settings.schema import Settings


def node_name(settings: Settings, host: str | None = None) -> str:
    """What events and topics call this device: the name that was set, or one made from the host's.

    Args:
        settings: of the program.
        host: the host's name; asked for when None.

    Examples:
        >>> node_name(Settings(), host="Küche 2.local")
        'K-che-2.local'
    """
    if settings.node:
        return settings.node
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", socket.gethostname() if host is None else host)
    return plain.strip("-_.")[:64] or "node"
