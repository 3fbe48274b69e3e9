"""Output of `edge-sser doctor`, by check."""

from __future__ import annotations

STATES = ("fine", "skipped", "warning", "problem")


def read_report(text: str) -> dict[str, str]:
    """The line of each check with the remedy below it, by the check's name."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if not line.startswith(" ") and line.partition(" ")[0] in STATES:
            name = line[9:21].strip()
        if name:
            found[name] = f"{found.get(name, '')} {line.strip()}".strip()
    return found
