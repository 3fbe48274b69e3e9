"""Faults of a signal in plain words, each with what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple


class Fault(Enum):
    """Fault of one channel: its description, with the sound or a channel as the subject, and a remedy."""

    SILENT = ("carries nothing but silence", "check its cable, and unmute it")
    STUCK = ("is one value for ever, not zero", "the converter is stuck: plug the device in again")
    REPEATS = (
        "is one short piece over and over, to the last bit",
        "plug the device in again, or restart the sound server or program that sends it",
    )
    FAINT = ("is 40 dB below the loudest channel", "check its cable and gain")
    OPPOSITE = (
        "is the opposite of another, as at a balanced microphone, so that their average cancels",
        "swap its two wires, or choose one channel",
    )
    LOOPBACK = (
        "is zero to the last bit between sounds, as what a loudspeaker plays is and no microphone",
        "it is left out; choose it as the channel if it is a microphone after all",
    )
    CLIPPED = ("is cut off at full scale when it is loud", "lower the capture volume")
    HUM_50 = ("is mostly mains hum (50 Hz)", "check cable and shield, and try another power supply")
    HUM_60 = ("is mostly mains hum (60 Hz)", "check cable and shield, and try another power supply")
    OFFSET = ("has a large constant offset", "it is filtered out, but takes room from loud sounds: check the device")

    @property
    def text(self) -> str:
        """Description."""
        return self.value[0]

    @property
    def remedy(self) -> str:
        """Advice."""
        return self.value[1]


NOTHING: Final = frozenset((Fault.SILENT, Fault.STUCK, Fault.REPEATS))
"""Faults of a channel that carries nothing."""


class Finding(NamedTuple):
    """A fault in words.

    Attributes:
        text: description.
        remedy: advice.
    """

    text: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.text}: {self.remedy}"


@dataclass(frozen=True, slots=True)
class Signal:
    """Faults of the signal of a source.

    Attributes:
        nothing: fault of the last second, where the sound that is used carried nothing.
        findings: lasting faults, except that there is nothing.
        channel: the one that is used because of faults of others; None for the average, or one that was given.
    """

    nothing: Fault | None = None
    findings: tuple[Finding, ...] = ()
    channel: int | None = None

    @property
    def note(self) -> str:
        """Findings in one line; empty for none."""
        return "; ".join(map(str, self.findings))


CLEAR: Final = Signal()


def findings(faults: Mapping[Fault, list[int]], *, channels: int, chosen: int | None) -> tuple[Finding, ...]:
    """Describes faults.

    Args:
        faults: each with its channels.
        channels: of which all is said as of «the sound».
        chosen: channel that is used because of the faults; None when that is no matter.
    """
    found = []
    for fault, numbers in faults.items():
        if len(numbers) == channels:
            subject = "the sound"
        elif len(numbers) == 1:
            subject = f"channel {numbers[0]}"
        else:
            subject = f"each of the channels {', '.join(map(str, numbers))}"
        found.append(Finding(f"{subject} {fault.text}", fault.remedy))
    if chosen is not None and found:
        last = found.pop()
        found.append(Finding(last.text, f"{last.remedy}; channel {chosen} alone is used (--channel {chosen} for good)"))
    return tuple(found)
