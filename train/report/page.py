"""The page: one HTML file that needs nothing else, neither a network nor a script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from importlib import resources

from edge_sser import __version__
from edge_sser.train.evaluate.metrics import Check, Sense
from edge_sser.train.evaluate.scores import PROTOCOL
from edge_sser.train.evaluate.systems import System
from edge_sser.train.report import alarm_sections, corpus_section, listening_sections, sections
from edge_sser.train.report.alarm_sections import false_limits
from edge_sser.train.report.markup import Cell, notes, paragraph, section, table
from edge_sser.train.report.report import Report

CAUTION = (
    "All corpora are acted or labelled emotions. None of these figures says how well a person's stress is measured."
)


def page(report: Report) -> str:
    """The whole document."""
    corpora = sections.corpora(report.systems)
    parts: list[tuple[str, str, str]] = []
    if report.systems:
        parts.append(("scores", "Scores", sections.scores(report.systems)))
    limits = list(_limits(report))
    if limits:
        parts.append(("limits", "Limits", _limits_section(limits)))
    if report.matrix:
        parts.append(("matrix", "Trained on, tested on", sections.transfer(report.matrix)))
    parts += [(f"corpus-{name}", name, corpus_section.corpus(name, report.systems)) for name in corpora]
    if report.robustness is not None:
        parts.append(("robustness", "Robustness", listening_sections.robustness(report.robustness)))
    if report.streaming is not None:
        parts.append(("streaming", "Alarms", alarm_sections.streaming(report.streaming)))
    if report.seconds:
        parts.append(("seconds", "Seconds of speech", listening_sections.seconds(report.seconds)))
    training = sections.histories(report.histories)
    if training:
        parts.append(("training", "Training", training))
    links = "".join(f'<li><a href="#{escape(anchor)}">{escape(title)}</a></li>' for anchor, title, _ in parts)
    style = (resources.files(__package__) / "style.css").read_text("utf-8")
    title = f"edge-sser evaluation: {', '.join(_names(report))}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body>"
        f"<header><h1>{escape(title)}</h1>{paragraph(CAUTION)}{notes(report.notes)}</header>"
        f'<nav aria-label="Contents"><ul>{links}</ul></nav><main>{"".join(body for _, _, body in parts)}</main>'
        f"<footer>{paragraph(f'Protocol: {PROTOCOL}. Preset {report.preset}: what counts as stress.')}"
        f"{paragraph(f'Made by edge-sser {__version__}, train evaluate.')}</footer></body></html>\n"
    )


def _names(report: Report) -> list[str]:
    systems = [system.name for system in report.systems if not system.origin.baseline]
    heard = [part.system for part in (report.robustness, report.streaming) if part is not None]
    return list(dict.fromkeys([*systems, *heard])) or [system.name for system in report.systems]


def _limits(report: Report) -> Iterator[tuple[str, Sequence[Check]]]:
    """What was held to a limit: of which system and corpus, and how it went."""
    for system in report.systems:
        if not system.origin.baseline:
            yield from _group_limits(system)
    if report.robustness is not None:
        for clean in report.robustness.clean:
            checks = [c for effect in report.robustness.effects if effect.corpus == clean.corpus for c in effect.checks]
            yield f"{report.robustness.system} on {clean.corpus}: robustness", checks
    if report.streaming is not None:
        checks = false_limits(report.streaming)
        if checks:
            yield f"{report.streaming.system}: false episodes on calm speech", checks
        if report.streaming.compared:
            checks = [Check("windows that differ", float(report.streaming.differing), Sense.AT_MOST, 0.0)]
            yield f"{report.streaming.system}: streaming equals offline", checks


def _group_limits(system: System) -> Iterator[tuple[str, Sequence[Check]]]:
    for corpus, measures in system.measures.items():
        checks = [*measures.speakers.checks, *(measures.sexes.checks if measures.sexes else ())]
        checks += [
            Check("stress rises with intensity", rise.strong - rise.normal, Sense.AT_LEAST, 0.0)
            for rise in measures.ordinal[:1]
        ]
        yield f"{system.name} on {corpus}: speakers, sexes, intensity", checks


def _limits_section(limits: Sequence[tuple[str, Sequence[Check]]]) -> str:
    rows: list[list[Cell | str]] = []
    for name, checks in limits:
        known = [check for check in checks if check.passed is not None]
        kept = sum(bool(check.passed) for check in known)
        missed = [check.name for check in known if not check.passed]
        style = "" if not known else "kept" if kept == len(known) else "missed"
        text = f"{kept} of {len(known)}" if known else "not measured"
        rows.append([name, Cell(text, style), "; ".join(dict.fromkeys(missed))])
    explain = "How many of the battery's limits are kept; each stands beside its figure further down."
    return section("limits", "Limits", paragraph(explain), table(["what", "kept", "missed"], rows, style="limits"))
