"""The page of the settings lists every key, and no other."""

from __future__ import annotations

import re

from pages import ROOT

from edge_sser.settings.load import known_keys


def test_every_setting_has_its_row() -> None:
    """A row may hold several keys of one table; the table is written once, before the first."""
    text = (ROOT / "docs" / "settings.md").read_text("utf-8")
    keys = set()
    for cell in re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE):
        table = ""
        for name in re.findall(r"`([\w.]+)`", cell):
            prefix, dot, key = name.rpartition(".")
            table = prefix + dot or table
            keys.add(table + key)
    assert keys == set(known_keys())
