"""Names of nodes and sources: set by a person, or made from the names of hosts, devices and files."""

from __future__ import annotations

import re
import socket
import unicodedata
from pathlib import Path

from edge_sser.settings.schema import Settings, SourceSettings

MAX_NAME_LENGTH = 64  # characters; the limit of `SourceSettings.name` and of a topic level
MICROPHONE = "mic"
STANDARD_INPUT = "-"


def slug(text: str, fallback: str) -> str:
    """Returns a name of lower-case letters, digits, '-' and '_' that starts with a letter or digit.

    Args:
        text: anything, in any script. Accents are dropped; characters without a Latin form are left out.
        fallback: the name when nothing is left of `text`; itself a valid name.

    Examples:
        >>> slug("USB PnP Sound Device", "mic")
        'usb-pnp-sound-device'
        >>> slug("Gespräch_02", "recording")
        'gesprach_02'
        >>> slug("録音", "recording")
        'recording'
    """
    latin = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii").lower()
    name = re.sub(r"[^a-z0-9_]+", "-", latin).strip("-_")[:MAX_NAME_LENGTH].rstrip("-_")
    return name or fallback


def is_latin(text: str) -> bool:
    """Returns True when `slug` keeps every letter and digit of a text, accents aside.

    Examples:
        >>> is_latin("Gespräch 2"), is_latin("録音 2")
        (True, False)
    """
    return all(unicodedata.normalize("NFKD", char).encode("ascii", "ignore") for char in text if char.isalnum())


def source_name(settings: SourceSettings) -> str:
    """Returns the source's name in events: the one that is set, or one made from the device.

    Examples:
        >>> source_name(SourceSettings(device="mic:USB Audio"))
        'usb-audio'
        >>> source_name(SourceSettings(device="interviews/Day 1.flac"))
        'day-1'
    """
    if settings.name is not None:
        return settings.name
    if settings.device == STANDARD_INPUT:
        return "stdin"
    microphone = microphone_id(settings.device)
    return slug(Path(settings.device).stem, "recording") if microphone is None else slug(microphone, MICROPHONE)


def microphone_id(device: str) -> str | None:
    """Returns the id in `mic:ID`; empty for `mic`, the default one; None when the device is no microphone."""
    kind, _, given = device.partition(":")
    return given if kind == MICROPHONE else None


def node_name(settings: Settings, host: str | None = None) -> str:
    """Returns this device's name in events and topics: the one that is set, or one made from the host's name.

    Args:
        settings: of the program.
        host: the host's name; the system's when None.

    Examples:
        >>> node_name(Settings(), host="Küche 2.local")
        'K-che-2.local'
    """
    if settings.node:
        return settings.node
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", socket.gethostname() if host is None else host)
    return plain.strip("-_.")[:MAX_NAME_LENGTH] or "node"
