"""Names made from what people call their devices and files."""

from __future__ import annotations

import re
import unicodedata

MAX_NAME_LENGTH = 64  # characters; what `SourceSettings.name` and a topic level allow


def slug(text: str, fallback: str) -> str:
    """A name of lower-case letters, digits, '-' and '_' that starts with a letter or digit.

    Args:
        text: anything, in any script. Accents are dropped; what has no Latin form is left out.
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
