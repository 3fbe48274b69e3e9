"""Operating points for tests, and a card with them."""

from __future__ import annotations

from models import changed_card

from edge_sser.model.card import OperatingPoint


def point(kind: str, budget: float, threshold: float, found: float = 0.5) -> OperatingPoint:
    return OperatingPoint(
        baseline=kind,  # type: ignore[arg-type]
        false_alarms_per_hour=budget,
        threshold=threshold,
        found=found,
        delay_median_s=10.0,
        delay_p95_s=24.0,
        hours=3.95,
        protocol="streams of strangers",
    )


POINTS = (
    point("off", 0.5, 0.96, 0.2),
    point("off", 1.0, 0.91, 0.42),
    point("off", 4.0, 0.65, 0.69),
    point("adaptive", 0.25, 0.95, 0.31),
    point("adaptive", 1.0, 0.35, 0.63),
    point("adaptive", 4.0, 0.17, 0.69),
)
CARD = changed_card(operating_points=POINTS)
