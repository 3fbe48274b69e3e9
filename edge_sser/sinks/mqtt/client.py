"""paho-mqtt's client, made tolerant of brokers: any reason code is an answer, and no packet fills the memory."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

MAX_RECEIVED_BYTES = 65_536  # of a packet from the broker: a command has three bytes, and memory is small
UNSPECIFIED_ERROR = 0x80  # MQTT 5 reason codes, from here on those of failures
NOT_AUTHORIZED, TOPIC_NAME_INVALID, PACKET_TOO_LARGE, PAYLOAD_FORMAT_INVALID = 0x87, 0x90, 0x95, 0x99
_FINAL = {TOPIC_NAME_INVALID, PACKET_TOO_LARGE, PAYLOAD_FORMAT_INVALID}
_ACKNOWLEDGEMENTS = (PacketTypes.CONNACK, PacketTypes.PUBACK, PacketTypes.SUBACK, PacketTypes.DISCONNECT)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The broker's answer to a message that it does not take.

    Attributes:
        code: reason code of MQTT 5.
        reason: the same for a person.
    """

    code: int
    reason: str

    @property
    def final(self) -> bool:
        """True when the same message would be refused for ever."""
        return self.code in _FINAL


class TolerantClient(paho.Client):
    """A client that reads what paho-mqtt would take for a broken line.

    A reason code that MQTT 5 does not foresee in a packet (mosquitto answers 0x95 in PUBACK) is read as an unspecified
    error. Of a packet above MAX_RECEIVED_BYTES the first bytes are kept: enough to acknowledge and ignore a message.

    Attributes:
        reason_codes: those of the packet that is being handled, as the broker sent them.
    """

    reason_codes: tuple[int, ...] = ()

    def limit_keepalive(self, seconds: int) -> None:
        """Takes the keepalive of the broker if it is shorter; 0 is none. paho-mqtt 2.1 ignores it."""
        if seconds:
            self._keepalive = min(self._keepalive, seconds)

    def _sock_recv(self, bufsize: int) -> bytes:
        del self._in_packet["packet"][MAX_RECEIVED_BYTES:]
        return super()._sock_recv(min(bufsize, MAX_RECEIVED_BYTES))

    def _packet_handle(self) -> MQTTErrorCode:
        kind, packet = self._in_packet["command"] >> 4, self._in_packet["packet"]
        self.reason_codes = ()
        if self._protocol == MQTTProtocolVersion.MQTTv5:
            places = [place for place in _code_places(kind, packet) if place < len(packet)]
            self.reason_codes = tuple(packet[place] for place in places)
            for place in places:
                if not _name(kind, packet[place]):
                    packet[place] = UNSPECIFIED_ERROR if packet[place] >= UNSPECIFIED_ERROR else 0
        return super()._packet_handle()


def reason_name(code: int) -> str:
    """Returns the name of a reason code, whatever packet it came in."""
    names = (_name(kind, code) for kind in _ACKNOWLEDGEMENTS)
    return next(filter(None, names), f"reason code 0x{code:02X}")


def _code_places(kind: int, packet: bytearray) -> Iterable[int]:
    """Returns the places of the reason codes in an acknowledgement of MQTT 5."""
    if kind == PacketTypes.DISCONNECT:
        return (0,)
    if kind == PacketTypes.CONNACK:
        return () if len(packet) == 2 else (1,)  # of 3.1.1, which paho-mqtt tells apart by its length
    if kind == PacketTypes.PUBACK:
        return (2,)
    if kind == PacketTypes.SUBACK:  # behind the message number and the properties, whose length is at most four bytes
        length, place = 0, 2
        for place in range(2, min(6, len(packet))):
            length |= (packet[place] & 0x7F) << 7 * (place - 2)
            if packet[place] < 0x80:
                break
        return range(place + 1 + length, len(packet))
    return ()


def _name(kind: int, code: int) -> str:
    with suppress(KeyError, AssertionError, ValueError):  # paho-mqtt's ways to say that the packet never has this code
        return str(ReasonCode(kind, identifier=code))
    return ""
