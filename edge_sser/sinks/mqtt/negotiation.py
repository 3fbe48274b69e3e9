"""Choice of the protocol version and the last will that a broker accepts.

A broker that refuses a connection because of its last will names the limit in the reason, so that the next connection
keeps to it.
"""

from __future__ import annotations

from dataclasses import replace

from paho.mqtt.enums import MQTTProtocolVersion

from edge_sser.settings.sinks import MqttVersion
from edge_sser.sinks.mqtt.client import PACKET_TOO_LARGE
from edge_sser.sinks.mqtt.connection import Connection
from edge_sser.sinks.mqtt.terms import Terms

UNSUPPORTED_VERSION, CLIENT_ID_NOT_VALID = 0x84, 0x85  # MQTT 5 reason codes
RETAIN_NOT_SUPPORTED, QOS_NOT_SUPPORTED = 0x9A, 0x9B
SHORT_KEEPALIVE_SECONDS = 10  # the shortest that mosquitto's `max_keepalive` can demand
HANG_UPS = 2  # so many in a row are no coincidence
MOST_HANG_UPS = 16  # needed in a row, in a long outage


class Negotiation:
    """Version and terms of the next connection, from the ends of those before. Belongs to one thread.

    A broker that hangs up on MQTT 5, as older ones do instead of answering, is tried with 3.1.1. A broker that is just
    starting hangs up too, and so does a proxy in front of one that is away. So MQTT 5 comes first each time, and 3.1.1
    after the second hang-up in a row. After a hang-up on 3.1.1 too the number doubles, to at most 16, so that a broker
    that comes back is seldom met with 3.1.1. A broker whose last connection was 3.1.1 needs one hang-up.

    Args:
        version: from the settings.
        keepalive_seconds: from the settings.
        hang_ups: so many in a row are no coincidence.
    """

    def __init__(self, version: MqttVersion, keepalive_seconds: int, *, hang_ups: int) -> None:
        self._chosen = version
        self._suspicious_hang_ups = self._needed_hang_ups = hang_ups
        self._hang_ups = 0
        self._knows_old_version = False
        self._old_version = version is MqttVersion.V311
        self.terms = Terms(keepalive_seconds=keepalive_seconds)

    @property
    def version(self) -> MQTTProtocolVersion:
        """Version of the next connection."""
        return MQTTProtocolVersion.MQTTv311 if self._old_version else MQTTProtocolVersion.MQTTv5

    def learn(self, connection: Connection) -> bool:
        """Learns from the end of a connection. Returns True when another should follow at once, with other terms."""
        terms = self._stricter_terms(connection)
        if terms != self.terms:
            self.terms = terms
            return True
        if self._chosen is not MqttVersion.AUTO:
            return False
        tried_old, self._old_version = self._old_version, False
        if connection.accepted:
            self._knows_old_version = tried_old
            self._hang_ups, self._needed_hang_ups = 0, 1 if tried_old else self._suspicious_hang_ups
            return False
        if connection.refusal is not None:
            self._old_version = not tried_old and connection.refusal[0] == UNSUPPORTED_VERSION
        elif tried_old:
            self._hang_ups = 0  # the version was not the cause
            if not self._knows_old_version:
                self._needed_hang_ups = min(2 * self._needed_hang_ups, MOST_HANG_UPS)
        else:
            self._hang_ups += 1
            self._old_version = self._hang_ups >= self._needed_hang_ups
        return self._old_version

    def _stricter_terms(self, connection: Connection) -> Terms:
        terms, refused = self.terms, connection.refusal is not None
        code = connection.refusal[0] if connection.refusal is not None else connection.disconnect_code
        if code == RETAIN_NOT_SUPPORTED:
            return replace(terms, retain=False)
        if code == QOS_NOT_SUPPORTED:
            return replace(terms, max_qos=0)
        if code == PACKET_TOO_LARGE and refused:
            return replace(terms, will=False)
        if code == CLIENT_ID_NOT_VALID and refused and self._old_version:  # mosquitto's word for a long keepalive
            return replace(terms, keepalive_seconds=min(terms.keepalive_seconds, SHORT_KEEPALIVE_SECONDS))
        return terms
