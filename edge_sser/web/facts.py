"""Facts for the page beside levels: settings in force without secrets, thresholds, and the doctor's findings."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from edge_sser.errors import EdgeSserError
from edge_sser.model.card_file import card_of
from edge_sser.monitor.operating import LevelRule, expected_rule
from edge_sser.settings.load import SOURCE, Loaded, known_keys, section_in
from edge_sser.settings.schema import Settings
from edge_sser.settings.section import Section

MASK: Final = "••••••"
DOCTOR_SECONDS: Final = 60.0  # timeout of the doctor's checks
_SECRET: Final = re.compile(r"password|passwd|secret|token|credential|authorization|headers|api_?key", re.IGNORECASE)
_PATH_NAME: Final = re.compile(r"_(file|path)$")


def level_rule(settings: Settings) -> LevelRule | None:
    """Returns thresholds and outlook of the settings; None when the model's card cannot be read."""
    try:
        return expected_rule(settings, card_of(settings.model.path))
    except EdgeSserError:
        return None


def settings_tables(loaded: Loaded) -> list[dict[str, Any]]:
    """Returns the tables of the settings, each with its rows: key, value, origin and meaning."""
    settings, schema = loaded.settings, known_keys()
    tables = [_table("", settings, loaded, schema)]
    tables += [_table(SOURCE, source, loaded, schema) for source in settings.source]
    for name, field in Settings.model_fields.items():
        section = getattr(settings, name)
        if name == SOURCE or section_in(field.annotation) is None:
            continue
        each = section if isinstance(section, tuple) else (section,)
        tables += [_table(name, one, loaded, schema) for one in each if isinstance(one, Section)]
    return tables


def _table(name: str, section: Section, loaded: Loaded, schema: Mapping[str, Any]) -> dict[str, Any]:
    values = section.model_dump(mode="json")
    prefix = f"{name}." if name else ""
    rows = [
        {
            "key": key,
            "value": _shown(masked(key, values[key])),
            "origin": loaded.origin(prefix + key),
            "meaning": " ".join((field.description or "").split()),
        }
        for key, field in type(section).model_fields.items()
        if section_in(field.annotation) is None
    ]
    return {"name": name, "meaning": (type(section).__doc__ or "").splitlines()[0], "rows": rows}


def masked(key: str, value: Any) -> Any:
    """Returns a value of the settings without secrets: passwords, tokens, and what a web address says beside its host.

    Examples:
        >>> masked("password", "hunter2"), masked("password_file", "/etc/secret")
        ('••••••', '/etc/secret')
        >>> masked("url", "https://hooks.example/T00/B00/x?key=1"), masked("url", "mqtts://cab12:pw@broker:8883")
        ('https://hooks.example/••••••', 'mqtts://cab12:••••••@broker:8883')
    """
    if value in (None, "", [], {}):
        return value
    if _SECRET.search(key) and not _PATH_NAME.search(key):
        return MASK
    if isinstance(value, Mapping):
        return {name: masked(str(name), each) for name, each in value.items()}
    if isinstance(value, list):
        return [masked(key, each) for each in value]
    return _masked_url(value) if isinstance(value, str) and "://" in value else value


def _masked_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        password = parts.password
    except ValueError:
        return MASK
    place = parts.netloc if password is None else parts.netloc.replace(f":{password}@", f":{MASK}@")
    hidden = parts.path.strip("/") or parts.query or parts.fragment
    return f"{parts.scheme}://{place}{f'/{MASK}' if hidden else parts.path}"


def _shown(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


class Doctor:
    """Runs the doctor's checks that open neither microphone nor connection, in a process of their own.

    The checks load the model's library, which this process does without.

    Args:
        config: file of the settings; None for the one that is found.
    """

    def __init__(self, config: Path | None) -> None:
        self._config = config
        self._lock = asyncio.Lock()
        self.findings: list[dict[str, str]] | None = None

    async def examine(self) -> list[dict[str, str]]:
        """Returns the findings of a new examination, or of the one that runs already."""
        waited = self._lock.locked()
        async with self._lock:
            if not waited or self.findings is None:
                self.findings = await self._run()
            return self.findings

    async def _run(self) -> list[dict[str, str]]:
        config = [] if self._config is None else ["--config", str(self._config)]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "edge_sser", "doctor", "--json", "--passive", *config),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            out, _ = await asyncio.wait_for(process.communicate(), DOCTOR_SECONDS)
            findings: list[dict[str, str]] = json.loads(out)
        except (asyncio.TimeoutError, ValueError):
            return [
                {
                    "name": "doctor",
                    "state": "problem",
                    "detail": "the checks did not end properly",
                    "remedy": "run edge-sser doctor in a terminal",
                }
            ]
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return findings
