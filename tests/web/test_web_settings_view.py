"""Settings on the page: what they say, and what they never show."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sser.settings.load import known_keys, load_settings
from edge_sser.web.facts import MASK, level_rule, masked, settings_tables


def test_every_setting_in_force_is_listed_with_its_origin(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('node = "cab12"\n[gate]\naggressiveness = 3\n[mqtt]\nurl = "mqtts://cab12@broker.example"\n')
    tables = settings_tables(load_settings(file, environ={}))
    found = {(table["name"], row["key"]): row for table in tables for row in table["rows"]}
    listed = {f"{table}.{key}".lstrip(".") for table, key in found}
    unset = ("file.", "metrics.", "history.", "web.")  # tables that are not there
    missing = {key for key in known_keys() if not key.startswith(unset)} - listed
    assert {key for key in missing if not key.startswith("notify")} == set()
    assert found["gate", "aggressiveness"]["value"] == "3"
    assert found["gate", "aggressiveness"]["origin"] == str(file)
    assert found["gate", "floor_dbfs"]["origin"] == "default"
    assert found["mqtt", "url"]["value"] == "mqtts://cab12@broker.example"
    assert all(row["meaning"] for row in found.values())


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("token", "abc", MASK),
        ("headers", {"Authorization": "Bearer x"}, MASK),
        ("options", {"api_key": "abc", "port": 5}, {"api_key": MASK, "port": 5}),
        ("url", "https://ntfy.example/my-topic", f"https://ntfy.example/{MASK}"),
        ("url", "https://user:pw@hook.example", f"https://user:{MASK}@hook.example"),
        ("urls", ["https://hook.example/a?key=b"], [f"https://hook.example/{MASK}"]),
        ("url", "https://[broken/secret", MASK),
        ("password_file", "/etc/edge-sser/mqtt-password", "/etc/edge-sser/mqtt-password"),
        ("password", "", ""),
        ("port", 1883, 1883),
    ],
)
def test_secrets_are_masked(key: str, value: object, shown: object) -> None:
    assert masked(key, value) == shown


def test_thresholds_are_those_that_listening_uses(tmp_path: Path) -> None:
    from edge_sser.model.model import Model
    from edge_sser.monitor.operating import expected_rule

    settings = load_settings(None, environ={"EDGE_SSER_ROLLING_SENSITIVITY": "strict", "HOME": str(tmp_path)}).settings
    rule = level_rule(settings)
    assert rule is not None
    assert rule == expected_rule(settings, Model.of_settings(settings.model).card)


def test_a_model_that_cannot_be_read_gives_no_thresholds(tmp_path: Path) -> None:
    settings = load_settings(None, environ={"EDGE_SSER_MODEL_PATH": str(tmp_path / "gone.onnx")}).settings
    assert level_rule(settings) is None
