"""States of a source and its retries, while the program runs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from edge_sser.errors import SourceError


class SessionState(Enum):
    """State of a source; `SourceSession._enter` is the only place that changes it."""

    WAITING = "waiting"  # closed; opened with the next read
    OPEN = "open"
    PAUSED = "paused"  # closed until `resume`
    MISSING = "missing"  # retried with backoff until audio comes; an open source without audio is still missing
    ENDED = "ended"


TRANSITIONS: Final = {
    SessionState.WAITING: (SessionState.OPEN, SessionState.PAUSED, SessionState.MISSING, SessionState.ENDED),
    SessionState.OPEN: (SessionState.WAITING, SessionState.PAUSED, SessionState.MISSING, SessionState.ENDED),
    SessionState.PAUSED: (SessionState.WAITING, SessionState.PAUSED, SessionState.ENDED),
    SessionState.MISSING: (SessionState.OPEN, SessionState.PAUSED, SessionState.MISSING, SessionState.ENDED),
    SessionState.ENDED: (SessionState.ENDED,),
}


@dataclass(slots=True)
class Absence:
    """A missing source and its retries, in monotonic seconds."""

    error: SourceError
    since: float
    retry_seconds: float
    retry_at: float
