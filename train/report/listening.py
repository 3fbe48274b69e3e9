"""Sections of the page that need audio: robustness, and seconds of speech in a window."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from edge_sser.train.evaluate.by_speech import SpeechBin
from edge_sser.train.evaluate.conditions import SNRS_DB
from edge_sser.train.evaluate.metrics import Check
from edge_sser.train.evaluate.robustness import Effect, Robustness
from edge_sser.train.report.blocks import (
    Block,
    Cell,
    Figure,
    Grid,
    Legend,
    Notes,
    Paragraph,
    Part,
    Section,
    Table,
    judged,
    limit,
    number,
    percent,
    signed,
)
from edge_sser.train.report.svg import Chart


def robustness(found: Robustness) -> Section:
    """Returns the section on noise, telephones, rooms and gain."""
    headers = ("condition", "UA", "emotions unchanged %", "stress AUROC", "stress UAR", "stress unchanged %", "limits")
    parts: list[Block] = []
    for clean in found.clean:
        effects = [effect for effect in found.effects if effect.corpus == clean.corpus]
        rows = [_effect(effect) for effect in effects]
        about = (
            f"{clean.clips} clips; as they are: UA {percent(clean.ua)} %, stress AUROC {number(clean.auroc)}, "
            f"UAR {percent(clean.uar)} %"
        )
        pictures = [
            Figure("UA by signal-to-noise ratio", [_by_snr(effects, "ua", clean.ua)]),
            Figure("Stress AUROC by signal-to-noise ratio", [_by_snr(effects, "auroc", clean.auroc)]),
        ]
        kinds = Legend([(kind, f"s{place}") for place, kind in enumerate(_noises(effects))])
        parts.append(Part(clean.corpus, [Paragraph(about, "about"), Table(headers, rows), kinds, Grid(pictures)]))
    explain = (
        "Change of each score, and share of the decisions that stay as they were. A figure with a mark has a limit."
    )
    missing = Notes([f"Not measured: {line}" for line in found.missing])
    blocks: list[Block] = [Paragraph(explain), missing, *parts]
    return Section("robustness", f"Robustness of {found.system}", blocks, link="Robustness")


def seconds(shares: Sequence[SpeechBin]) -> Section:
    """Returns the section on scores by the seconds of speech in a window."""
    corpora = list(dict.fromkeys(share.corpus for share in shares))
    pictures = []
    for title, name in (("Stress AUROC", "auroc"), ("Stress UAR", "uar"), ("UA of the emotions", "ua"),
                        ("Mean of |2 stress - 1|", "confidence")):  # fmt: skip
        low = 0.0 if name in ("ua", "confidence") else 0.4
        chart = Chart(title, x=(0.0, 3.0), y=(low, 1.0), x_label="seconds of speech in a window of 3 s", y_label=title)
        for place, corpus in enumerate(corpora):
            points = [(share.seconds, getattr(share, name)) for share in shares if share.corpus == corpus]
            chart.line(points, f"s{place}", corpus)
            chart.dots(points, f"s{place}", [f"{corpus}: {y:.2f}" for _, y in points])
        pictures.append(Figure(title, [chart.svg()]))
    rows = [
        [share.corpus, f"{share.seconds:g}", str(share.windows), number(share.auroc), percent(share.uar),
         percent(share.ua), number(share.confidence), number(share.ece)]
        for share in shares
    ]  # fmt: skip
    headers = ("corpus", "speech s", "windows", "stress AUROC", "UAR %", "UA %", "confidence", "ECE")
    explain = (
        "Utterances in noise 20 dB below them; the device's own window slides over them, its own gate counts the "
        "speech. Windows of one utterance count one by one."
    )
    lines = Legend([(corpus, f"s{place}") for place, corpus in enumerate(corpora)])
    blocks: list[Block] = [Paragraph(explain), lines, Grid(pictures), Table(headers, rows)]
    return Section("seconds", "Seconds of speech in a window", blocks, link="Seconds of speech")


def _effect(effect: Effect) -> list[Cell | str]:
    def worst(*names: str) -> Check | None:
        """Returns the check of a cell; of two, the one that was missed."""
        found = [check for check in effect.checks if check.name in names]
        return next((check for check in found if check.passed is False), found[0] if found else None)

    return [
        effect.condition,
        judged(signed(effect.ua_change), worst("UA change", "UA moved by")),
        judged(percent(effect.emotions_unchanged), worst("emotions unchanged")),
        judged(signed(effect.auroc_change), worst("AUROC moved by")),
        judged(signed(effect.uar_change), worst("UAR change of stress")),
        judged(percent(effect.stress_unchanged), worst("stress unchanged")),
        Cell(_limits(effect), "words"),
    ]


def _limits(effect: Effect) -> str:
    """Returns the limits of a condition; those of both decisions once."""
    short = {
        "UA change": "UA",
        "UAR change of stress": "UAR",
        "emotions unchanged": "unchanged",
        "UA moved by": "|UA|",
        "AUROC moved by": "|AUROC|",
    }
    return ", ".join(f"{short[check.name]} {limit(check)}" for check in effect.checks if check.name in short)


def _noises(effects: Sequence[Effect]) -> list[str]:
    """Returns the kinds of noise that were tried at several ratios."""
    kinds = [
        effect.condition.rpartition(", ")[0] for effect in effects if effect.condition.endswith(f", {SNRS_DB[-1]} dB")
    ]
    return list(dict.fromkeys(kinds))


def _by_snr(effects: Sequence[Effect], name: str, clean: float) -> Markup:
    ticks = [*((place, f"{snr}") for place, snr in enumerate(reversed(SNRS_DB))), (len(SNRS_DB), "clean")]
    chart = Chart(
        f"{name} by SNR", x=(0.0, float(len(SNRS_DB))), y=(0.4 if name == "auroc" else 0.0, 1.0), x_label="SNR, dB",
        y_label=name.upper(), x_ticks=[(float(place), text) for place, text in ticks],
    )  # fmt: skip
    for number_, kind in enumerate(_noises(effects)):
        points = []
        for place, snr in enumerate(reversed(SNRS_DB)):
            effect = next(effect for effect in effects if effect.condition == f"{kind}, {snr} dB")
            points.append((float(place), clean + getattr(effect, f"{name}_change")))
        points.append((float(len(SNRS_DB)), clean))
        chart.line(points, f"s{number_}", kind)
        chart.dots(points, f"s{number_}")
    return chart.svg()
