"""The topics of one node. Their names are a contract with subscribers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edge_sser.errors import SettingsError

_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class Topics:
    """`BASE/NODE/…`: what is published where.

    Attributes:
        base: without a slash at either end, without wildcards.
        node: one level of a topic.

    Raises:
        SettingsError: the node cannot be a level of a topic.
    """

    base: str
    node: str

    def __post_init__(self) -> None:
        if not _NODE.fullmatch(self.node):
            raise SettingsError(
                f"node {self.node!r} cannot name this device in topics: "
                "1 to 64 letters, digits, dots, dashes or underscores, starting with a letter or digit"
            )

    @property
    def status(self) -> str:
        """Retained, QoS 1, and the last will."""
        return f"{self.base}/{self.node}/status"

    @property
    def listen_set(self) -> str:
        """Commands: ON or OFF."""
        return f"{self.base}/{self.node}/listen/set"

    @property
    def listen_state(self) -> str:
        """Retained, QoS 1: ON or OFF."""
        return f"{self.base}/{self.node}/listen/state"

    def reading(self, source: str) -> str:
        """QoS 0, the latest retained."""
        return f"{self.base}/{self.node}/{source}/reading"

    def episode(self, source: str) -> str:
        """QoS 1 through the outbox."""
        return f"{self.base}/{self.node}/{source}/episode"

    def health(self, source: str) -> str:
        """QoS 1 through the outbox, retained."""
        return f"{self.base}/{self.node}/{source}/health"
