"""What the tests with hostile input have in common: how many examples, and what a message may look like."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

MANY = 50 if os.environ.get("EDGE_SSER_SOAK") == "1" else 1
MESSAGE_CHARACTERS = 500  # besides the path: a person reads it


def examples(count: int) -> settings:
    """So many examples, and fifty times as many with EDGE_SSER_SOAK=1; how long one takes is no matter."""
    return settings(max_examples=count * MANY, deadline=None, suppress_health_check=list(HealthCheck))


def check_message(message: str, *paths: object) -> None:
    """A message for a person: one line, legible on a terminal, and not a screenful."""
    assert message
    assert message.isprintable(), "it is not one line, or has control characters in it"
    length = len(message) - sum(len(str(path)) for path in paths)
    assert length <= MESSAGE_CHARACTERS, message
