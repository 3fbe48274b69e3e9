"""Whatever a settings file or the environment holds: settings, or one line that gives no password away."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hostile import check_message, examples
from hypothesis import example, given
from hypothesis import strategies as st

from edge_sser.errors import SettingsError
from edge_sser.settings.load import PREFIX, known_keys, load_settings, variable
from edge_sser.settings.show import as_toml

SECRET = "hunter2"
KEYS = sorted(known_keys())
BOARDS = sorted((Path(__file__).parents[2] / "firmware_configs").glob("*.toml"))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings") / "config.toml"


def load(file: Path | None, environ: Mapping[str, str] = {}) -> str:
    """Loads settings. Returns the message if they were refused; good ones must read back as they are shown."""
    message = ""
    try:
        loaded = load_settings(file, environ=environ)
    except SettingsError as error:
        message = str(error)
    if message:
        check_message(message, file)
        assert SECRET not in message
    elif file is not None:
        file.write_text(as_toml(loaded), encoding="utf-8")
        assert load_settings(file, environ={}).settings == loaded.settings
    return message


# ---- files

TOKENS = st.sampled_from(
    ["[", "]", "[[", "]]", "=", ".", ",", "{", "}", '"', "'", '"""', "#", "\n", "\r", "\t", " ", "\\", "\\u0000", "\0"]
    + ["inf", "-nan", "0x", "1e999", "1979-05-27T07:32:00Z", "true", "_", "+", "9" * 40, "é", "\N{BYTE ORDER MARK}"]
    + [part for key in KEYS for part in key.split(".")]
)


@examples(60)
@given(data=st.binary(max_size=200) | st.lists(TOKENS, max_size=40).map(lambda tokens: "".join(tokens).encode()))
@example(data=b"a" + b".a" * 100_000 + b" = 1")
@example(data=b"a" + b".a" * 490 + b" = 1")
@example(data=b"a = " + b"[" * 990)
@example(data=b"\n".join([b"a = ["] + [b"["] * 5_000 + [b"]"] * 5_001))
@example(data=b"a = " + b"9" * 990)
@example(data=b"\n".join([b'a = """'] + [b"9" * 900] * 70 + [b'"""']))
@example(data=b'"\\u0000\\u001b[2J\\n" = 1')
@example(data=b"[model]\npath = '\\u0000'")
@example(data=b'[model]\npath = "\\u0000"')
@example(data=b"\xef\xbb\xbfnode = 'with-a-mark'")
def test_any_bytes(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    load(file)


@examples(40)
@given(board=st.sampled_from(BOARDS), data=st.data())
def test_a_good_file_that_was_damaged(file: Path, board: Path, data: st.DataObject) -> None:
    content = bytearray(board.read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(["change", "cut", "repeat", "insert"]))
        if kind == "change":
            content[place] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del content[place : place + data.draw(st.integers(1, 200))]
        elif kind == "repeat":
            content[place:place] = content[max(0, place - 100) : place]
        else:
            content[place:place] = data.draw(TOKENS).encode()
        content = content or bytearray(b"\n")
    file.write_bytes(content)
    load(file)


TOML_VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=80)
    | st.sampled_from(["mic", "-", "~nobody-is-called-so/a", "auto", "high", "mqtt://broker", "127.0.0.1", "x" * 900])
    | st.dates()
    | st.times()
    | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@examples(60)
@given(values=st.dictionaries(st.sampled_from([*KEYS, "mqtt", "gate", "source", "none"]), TOML_VALUES, max_size=4))
def test_any_value_of_any_key(file: Path, values: dict[str, Any]) -> None:
    file.write_text("".join(f"{key} = {toml(value)}\n" for key, value in values.items()), encoding="utf-8")
    load(file)


@examples(40)
@given(key=st.sampled_from([*KEYS, "mqtt", "gate", "none", "mqtt.password"]), data=st.data())
def test_a_password_in_a_url_is_never_shown_wherever_it_stands(file: Path, key: str, data: st.DataObject) -> None:
    url = data.draw(
        st.sampled_from(["mqtt", "mqtts", "http", "MQTT", ""]).flatmap(
            lambda scheme: st.sampled_from(
                [f"{scheme}://me:{SECRET}@host", f"{scheme}://me:{SECRET}@[host:1x", f"{scheme}://:{SECRET}@host\x1b"]
            )
        )
    )
    text = toml(url)
    wrapped = data.draw(st.sampled_from([text, f"[{text}]", f"{{ url = {text} }}", f"[{{ {text} = {text} }}]"]))
    file.write_text(f"{key} = {wrapped}\n{text} = {text}\n" if data.draw(st.booleans()) else f"{key} = {wrapped}\n")
    message = load(file)
    assert message or not key.startswith("mqtt.url")


def toml(value: Any) -> str:
    """A value in TOML."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{toml(str(key))} = {toml(part)}" for key, part in value.items()) + " }"
    if isinstance(value, list):
        return "[ " + ", ".join(map(toml, value)) + " ]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return repr(value).lower()


# ---- the environment

# Values of an environment: any bytes but NUL, decoded as Python does.
ENVIRONMENT_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60) | st.binary(
    max_size=20
).map(lambda data: data.replace(b"\0", b"").decode(errors="surrogateescape"))
VARIABLES = [variable(key) for key in KEYS]


@examples(60)
@given(
    environ=st.dictionaries(
        st.sampled_from([*VARIABLES, "HOME", "EDGE_SSER_CONFIG"]) | ENVIRONMENT_TEXT.map(lambda text: PREFIX + text),
        ENVIRONMENT_TEXT | st.sampled_from(["1", "0.5", "true", "mqtt://host", "9" * 5_000, "nan", "~nobody/x", "-"]),
        max_size=4,
    )
)
@example(environ={"HOME": "x" * 5_000})
@example(environ={"EDGE_SSER_" + "X" * 100_000: "1"})
def test_any_environment(environ: dict[str, str]) -> None:
    load(None, {name: value for name, value in environ.items() if name != "EDGE_SSER_CONFIG" or len(value) < 60})


@examples(25)
@given(name=st.sampled_from(VARIABLES), url=st.sampled_from(["mqtt://me:{}@host", "mqtt://:{}@", "//me:{}@host\udcff"]))
def test_a_password_in_a_variable_is_never_shown(name: str, url: str) -> None:
    load(None, {name: url.format(SECRET), "EDGE_SSER_NODE": "caf\udce9"})
    load(None, {name: url.format(SECRET)})
