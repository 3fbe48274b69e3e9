"""The evaluation as one HTML file that needs neither a network nor a script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined

from edge_sser import __version__
from edge_sser.train.evaluate.metrics import Check, Sense
from edge_sser.train.evaluate.scores import PROTOCOL
from edge_sser.train.evaluate.systems import System
from edge_sser.train.evaluate.verdict import Verdict, verdicts
from edge_sser.train.report import alarms, corpus, listening, sections
from edge_sser.train.report.blocks import Cell, Paragraph, Section, Table
from edge_sser.train.report.report import Report

CAUTION = (
    "All corpora are acted or labelled emotions. None of these figures says how well a person's stress is measured."
)


def page(report: Report) -> str:
    """Returns the whole document."""
    return render(
        f"edge-sser evaluation: {', '.join(_names(report))}",
        _sections(report),
        preset=report.preset,
        command="train evaluate",
        verdicts=verdicts(report.systems),
        remarks=report.notes,
    )


def render(
    title: str,
    sections: Sequence[Section],
    *,
    preset: str,
    command: str,
    protocol: str = PROTOCOL,
    verdicts: Sequence[Verdict] = (),
    remarks: Sequence[str] = (),
) -> str:
    """Returns a document of sections in the style of the evaluation.

    Args:
        title: heading.
        sections: in reading order.
        preset: named in the footer.
        command: that made it.
        protocol: named in the footer.
        verdicts: above everything.
        remarks: under the verdicts.
    """
    environment = Environment(
        loader=PackageLoader("edge_sser.train.report"), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("page.html").render(
        title=title,
        style=style_sheet("style.css") + style_sheet("charts.css"),
        verdicts=verdicts,
        caution=CAUTION,
        remarks=remarks,
        sections=sections,
        protocol=protocol,
        preset=preset,
        command=command,
        version=__version__,
    )


def style_sheet(name: str) -> str:
    """Returns the text of a style sheet of this package."""
    return (resources.files("edge_sser.train.report") / name).read_text("utf-8")


def _sections(report: Report) -> list[Section]:
    limits = list(_limits(report))
    found = [
        sections.scores(report.systems) if report.systems else None,
        _limits_section(limits) if limits else None,
        sections.transfer(report.matrix) if report.matrix else None,
        *(corpus.corpus(name, report.systems) for name in sections.corpora(report.systems)),
        None if report.robustness is None else listening.robustness(report.robustness),
        None if report.streaming is None else alarms.streaming(report.streaming),
        listening.seconds(report.seconds) if report.seconds else None,
        sections.histories(report.histories),
    ]
    return [section for section in found if section is not None]


def _names(report: Report) -> list[str]:
    systems = [system.name for system in report.systems if not system.origin.baseline]
    heard = [part.system for part in (report.robustness, report.streaming) if part is not None]
    return list(dict.fromkeys([*systems, *heard])) or [system.name for system in report.systems]


def _limits(report: Report) -> Iterator[tuple[str, Sequence[Check]]]:
    """Yields each system and corpus with its checks against limits."""
    for system in report.systems:
        if not system.origin.baseline:
            yield from _group_limits(system)
    if report.robustness is not None:
        for clean in report.robustness.clean:
            checks = [c for effect in report.robustness.effects if effect.corpus == clean.corpus for c in effect.checks]
            yield f"{report.robustness.system} on {clean.corpus}: robustness", checks
    if report.streaming is not None:
        checks = alarms.false_limits(report.streaming)
        if checks:
            yield f"{report.streaming.system}: false episodes on calm speech", checks
        if report.streaming.compared:
            checks = [Check("windows that differ", float(report.streaming.differing), Sense.AT_MOST, 0.0)]
            yield f"{report.streaming.system}: streaming equals offline", checks


def _group_limits(system: System) -> Iterator[tuple[str, Sequence[Check]]]:
    for name, measures in system.measures.items():
        checks = [*measures.speakers.checks, *(measures.sexes.checks if measures.sexes else ())]
        checks += [
            Check("stress rises with intensity", rise.strong - rise.normal, Sense.AT_LEAST, 0.0)
            for rise in measures.ordinal[:1]
        ]
        yield f"{system.name} on {name}: speakers, sexes, intensity", checks


def _limits_section(limits: Sequence[tuple[str, Sequence[Check]]]) -> Section:
    rows: list[list[Cell | str]] = []
    for name, checks in limits:
        known = [check for check in checks if check.passed is not None]
        kept = sum(bool(check.passed) for check in known)
        missed = [check.name for check in known if not check.passed]
        style = "" if not known else "kept" if kept == len(known) else "missed"
        text = f"{kept} of {len(known)}" if known else "not measured"
        rows.append([name, Cell(text, style), "; ".join(dict.fromkeys(missed))])
    explain = "How many of the battery's limits are kept; each stands beside its figure further down."
    return Section("limits", "Limits", [Paragraph(explain), Table(["system", "kept", "missed"], rows, style="limits")])
