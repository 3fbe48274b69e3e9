"""Limits that a broker sets, as it names them when it accepts a connection of MQTT 5."""

from __future__ import annotations

from dataclasses import dataclass

LARGEST_EVENT_BYTES = 800  # of an episode, about: below this limit of packets or messages events are lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Limits that a broker sets to a client.

    Attributes:
        retain: False when it keeps no retained messages.
        max_qos: highest QoS that it takes, 0 to 2.
        will: False to leave the last will out.
        receive_maximum: messages of QoS 1 without an acknowledgement at one time, at most.
        max_packet_bytes: size of a packet, at most.
    """

    keepalive_seconds: int
    retain: bool = True
    max_qos: int = 2
    will: bool = True
    receive_maximum: int = 65_535
    max_packet_bytes: int = 2**28


def losses(terms: Terms) -> tuple[str, ...]:
    """Returns what does not work under the terms of a broker, one sentence each, for a person."""
    found = []
    if not terms.retain:
        found.append(
            "keeps no retained messages: who subscribes later sees no status, health or reading until the next one, "
            "and Home Assistant finds the device only after it was started again"
        )
    if terms.max_qos < 1:
        found.append("takes QoS 0 only: episodes and health are lost when the connection breaks")
    if not terms.will:
        found.append("takes no packet as large as the last will: a device that dies stays online in its status")
    if terms.max_packet_bytes < LARGEST_EVENT_BYTES:
        found.append(f"takes packets of at most {terms.max_packet_bytes} bytes: larger events are lost")
    return tuple(found)
