"""Writes docs/results/references/table.json and the tables of docs/references.md from the committed predictions.

`python scripts/reference_tables.py` after new results; a test finds what was not written again. Blocks of the page
between `<!-- NAME -->` and `<!-- end -->` are replaced.
"""

from __future__ import annotations

import re
import statistics
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from edge_sser.train.references.compare import PRESETS, Comparison, compare
from edge_sser.train.references.compare_table import cost_table, json_text, leaky_table, remarks, score_tables
from edge_sser.train.references.goals import claims
from edge_sser.train.references.recipe import ReferenceRecipe, read_reference_recipe, reference_names
from edge_sser.train.references.result_files import read_groups
from edge_sser.train.report.blocks import signed

RESULTS = Path("docs/results")
OURS = (
    "sser-cnn", "sser-cnn-seed-2", "sser-cnn-seed-3", "sser-cnn.spanish", "sser-plus", "sser-plus.spanish",
    "whisper-base", "level-only",
)  # fmt: skip
PLACES = (RESULTS / "references", *(RESULTS / f"{name}.csv" for name in OURS))
LEAKY = tuple(RESULTS / f"{name}.csv" for name in ("whisper-trunk", "whisper-trunk.original"))  # no goal is for it
PAGE = Path("docs/references.md")
TABLE = RESULTS / "references" / "table.json"
WIDTH = 119


def contents(root: Path) -> dict[Path, str]:
    """Returns the text of each file that the committed predictions make.

    Args:
        root: of the repository.
    """
    comparison, ours = (compare(read_groups([root / place for place in places])) for places in (PLACES, LEAKY))
    comparison = replace(comparison, leaky=[*comparison.leaky, *ours.leaky])
    page = (root / PAGE).read_text("utf-8")
    return {TABLE: json_text(comparison), PAGE: with_blocks(page, blocks(comparison))}


def blocks(comparison: Comparison) -> dict[str, str]:
    """Returns the generated blocks of the page by name."""
    recipes = [read_reference_recipe(name) for name in reference_names()]
    cost = cost_table(comparison)
    short = replace(cost, headers=cost.headers[:-1], rows=[row[:-1] for row in cost.rows])
    return {
        "leaky": f"{leaky_table(comparison).markdown()}\n\n{_median_change(comparison)}",
        "goals": "\n".join(_goals(comparison)),
        "cost": "\n\n".join([short.markdown(), "\n".join(_bullet(line) for line in remarks(comparison))]),
        "scores": "\n\n".join(f"**{table.title}**\n\n{table.markdown()}" for table in score_tables(comparison)),
        "systems": "\n".join(_about(recipes)),
        "mended": "\n".join(_mended(recipes)),
    }


def with_blocks(page: str, found: Mapping[str, str]) -> str:
    """Returns the page with other blocks.

    Raises:
        KeyError: the page has a block of another name.
    """
    pattern = re.compile(r"<!-- (\w+) -->\n.*?<!-- end -->", re.DOTALL)
    return pattern.sub(lambda match: f"<!-- {match[1]} -->\n\n{found[match[1]].strip()}\n\n<!-- end -->", page)


def _median_change(comparison: Comparison) -> str:
    ua = statistics.median(pair.honest.ua - pair.leaky.ua for pair in comparison.leaky)
    areas = [(pair.honest.stress[PRESETS[0]].auroc, pair.leaky.stress[PRESETS[0]].auroc) for pair in comparison.leaky]
    area = statistics.median(honest - leaky for honest, leaky in areas)
    return f"Median change of {len(areas)} systems: {signed(100 * ua, 1)} points of UA, {signed(area)} of stress AUROC."


def _goals(comparison: Comparison) -> Iterable[str]:
    """Yields each goal, and below it a bullet for each of our systems."""
    found = claims(comparison)
    for goal in dict.fromkeys(claim.goal for claim in found):
        yield _bullet(f"{goal[0].upper()}{goal[1:]}:")
        for system in dict.fromkeys(claim.system for claim in found):
            parts = [
                f"{claim.corpus} no ({', '.join(name.split(' ')[0] for name in claim.against)})"
                if claim.against
                else f"{claim.corpus} yes"
                for claim in found
                if (claim.goal, claim.system) == (goal, system) and claim.compared
            ]
            yield _bullet(f"`{system}`: {', '.join(parts) or 'there is none'}", 4)


def _about(recipes: Iterable[ReferenceRecipe]) -> Iterable[str]:
    """Yields the data and the address of each study, and below it a bullet for each of its systems."""
    studies: dict[tuple[str, str], dict[str, list[str]]] = {}
    for recipe in recipes:
        title = recipe.title.partition(" with a hop")[0]  # one line for systems that differ in the hop of their name
        line = f"{title}; published: {recipe.published}" if recipe.published else title
        studies.setdefault((recipe.corpora, recipe.source), {}).setdefault(line, []).append(f"`{recipe.name}`")
    for (corpora, source), systems in studies.items():
        address = re.sub("^doi:", "https://doi.org/", source)
        yield _bullet(f"{corpora}{f' ([study]({address}))' if source else ''}:")
        yield from (_bullet(f"{', '.join(names)}: {line}", 4) for line, names in systems.items())


def _mended(recipes: Iterable[ReferenceRecipe]) -> Iterable[str]:
    """Yields a bullet for each fault, with the names of all recipes that mend it."""
    names: dict[str, list[str]] = {}
    for recipe in recipes:
        names.setdefault(recipe.mended, []).append(f"`{recipe.name}`")
    for fault, found in names.items():
        if fault:
            yield _bullet(f"{', '.join(found)}: {fault}")


def _bullet(text: str, indent: int = 0) -> str:
    first, later = f"{' ' * indent}- ", " " * (indent + 2)
    wrap = textwrap.TextWrapper(WIDTH, first, later, break_on_hyphens=False, break_long_words=False)
    return wrap.fill(text)


if __name__ == "__main__":
    here = Path(__file__).parents[1]
    for path, content in contents(here).items():
        (here / path).write_text(content, "utf-8")
        print(path)
