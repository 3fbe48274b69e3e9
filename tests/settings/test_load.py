"""Layers of settings: precedence of origins, and messages for wrong keys, types and ranges."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sser.errors import SettingsError
from edge_sser.settings.faults import WrongSettingsError
from edge_sser.settings.load import Flag, known_keys, load_settings, variable
from edge_sser.settings.schema import Settings
from edge_sser.settings.show import as_toml


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "config.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refusal(path: Path | None, environ: dict[str, str] | None = None, **flags: Flag) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(path, flags=flags, environ=environ or {})
    assert caught.value.exit_status == 2
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_without_anything_the_defaults_hold(tmp_path):
    loaded = load_settings(environ={"HOME": str(tmp_path)})
    assert loaded.settings == Settings()
    assert loaded.origin("gate.aggressiveness") == "default"


def test_a_flag_beats_the_environment_which_beats_the_file(write):
    path = write("[gate]\naggressiveness = 0\nmin_speech_ratio = 0.5\nfloor_dbfs = -50\n")
    environ = {"EDGE_SSER_GATE_AGGRESSIVENESS": "1", "EDGE_SSER_GATE_MIN_SPEECH_RATIO": "0.6"}
    loaded = load_settings(path, flags={"gate.aggressiveness": Flag("--gate", 3)}, environ=environ)
    gate = loaded.settings.gate
    assert (gate.aggressiveness, gate.min_speech_ratio, gate.floor_dbfs) == (3, 0.6, -50.0)
    assert loaded.origin("gate.aggressiveness") == "--gate"
    assert loaded.origin("gate.min_speech_ratio") == "EDGE_SSER_GATE_MIN_SPEECH_RATIO"
    assert loaded.origin("gate.floor_dbfs") == str(path)


def test_the_least_share_of_speech_is_the_models_to_say_unless_it_is_given(write):
    loaded = load_settings(write("[gate]\naggressiveness = 3\n"), environ={})
    assert loaded.settings.gate.min_speech_ratio is None
    assert "# min_speech_ratio =" in as_toml(loaded)
    loaded = load_settings(write("[gate]\nmin_speech_ratio = 0.0\n"), environ={})
    assert loaded.settings.gate.min_speech_ratio == 0.0
    assert "\nmin_speech_ratio = 0.0" in as_toml(loaded)


def test_the_file_is_looked_for_in_the_environment_and_then_in_the_home_folder(tmp_path):
    home = tmp_path / ".config" / "edge-sser" / "config.toml"
    home.parent.mkdir(parents=True)
    home.write_text('node = "from-home"')
    named = tmp_path / "named.toml"
    named.write_text('node = "from-variable"')
    environ = {"HOME": str(tmp_path)}
    assert load_settings(environ=environ).settings.node == "from-home"
    assert load_settings(environ=environ | {"EDGE_SSER_CONFIG": str(named)}).settings.node == "from-variable"


def test_the_folder_for_settings_of_the_user_may_be_named_by_the_environment(tmp_path):
    def settings_in(folder: str) -> None:
        path = tmp_path / folder / "edge-sser" / "config.toml"
        path.parent.mkdir(parents=True)
        path.write_text(f'node = "{path.parts[-3].strip(".")}"')

    environ = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "xdg")}
    settings_in(".config")  # where the service of a user has its settings
    assert load_settings(environ=environ).settings.node == "config"
    settings_in("xdg")
    assert load_settings(environ=environ).settings.node == "xdg"
    assert load_settings(environ=environ | {"XDG_CONFIG_HOME": "xdg"}).settings.node == "config"  # must be absolute


def test_a_source_from_elsewhere_replaces_the_tables_of_the_file(write):
    path = write('[[source]]\ndevice = "mic:usb"\nchannel = 3\nname = "desk"\n[[source]]\ndevice = "mic:hall"\n')
    (source,) = load_settings(path, environ={"EDGE_SSER_SOURCE": "talk.flac"}).settings.source
    assert (source.device, source.channel, source.name) == ("talk.flac", None, None)
    flags = {"source.device": Flag("--source", ["-"])}
    loaded = load_settings(path, flags=flags, environ={"EDGE_SSER_SOURCE": "x", "EDGE_SSER_SOURCE_RAW_RATE_HZ": "8000"})
    (source,) = loaded.settings.source
    assert (source.device, source.raw_rate_hz) == ("-", 8000)
    assert loaded.origin("source.device") == "--source"
    assert loaded.origin("source.raw_rate_hz") == "EDGE_SSER_SOURCE_RAW_RATE_HZ"


def test_other_keys_of_a_source_hold_for_every_source(write):
    path = write('[[source]]\ndevice = "mic:a"\n[[source]]\ndevice = "mic:b"\nchannel = 2\n')
    loaded = load_settings(path, flags={"source.channel": Flag("--channel", 1)}, environ={})
    assert [source.channel for source in loaded.settings.source] == [1, 1]


def test_a_variable_that_is_set_to_nothing_counts_as_not_set():
    assert load_settings(environ={"EDGE_SSER_GATE_AGGRESSIVENESS": ""}).settings == Settings()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[gate]\nagressiveness = 2", ["unknown key gate.agressiveness", "did you mean gate.aggressiveness?"]),
        ("aggressiveness = 2", ["unknown key aggressiveness: it belongs in [gate]"]),
        ("[gates]\naggressiveness = 2", ["unknown table [gates]: did you mean [gate]?"]),
        ("[[sorce]]\ndevice = 'mic'", ["unknown table [sorce]: did you mean [[source]]?"]),
        ("[logging]\nlevel = 'info'", ["unknown table [logging]: the tables are [[source]], [gate]"]),
        ("[rolling]\nurl = 'x'", ["unknown key rolling.url: it belongs in [mqtt] or in [[notify]]"]),
        ("[window]\nnode = 'x'", ["unknown key window.node: it belongs above all tables"]),
        ("[web]\nzzz = 1", ["unknown key web.zzz: [web] has address, port"]),
        ("[gate]\nsensitivty = 'quick'", ["did you mean rolling.sensitivity?"]),
        ("xxx = 1", ["unknown key xxx: edge-sser config schema has all"]),
        ("[[source]]\nchanel = 2", ["unknown key source[0].chanel", "did you mean source.channel?"]),
        ("[gate]\naggressiveness = 7", ["gate.aggressiveness", "a whole number from 0 to 3", "got 7"]),
        ('[gate]\naggressiveness = "2"', ["gate.aggressiveness", "a whole number from 0 to 3", 'got "2"']),
        ("[gate]\naggressiveness = true", ["gate.aggressiveness", "got true"]),
        ("[gate]\nfloor_dbfs = nan", ["gate.floor_dbfs", "a number from -120.0 to 0.0", "got NaN"]),
        ("[window]\nhop_seconds = 0.25", ["window.hop_seconds", "multiple of 0.1", "got 0.25"]),
        ("[rolling]\nelevated = 0.8\nhigh = 0.5", ["rolling", "elevated must be below high"]),
        ('[episode]\nlevel = "low"', ["episode.level", "must be elevated or high", 'got "low"']),
        ('[output]\nformat = "xml"', ["output.format", "one of auto, jsonl, text", 'got "xml"']),
        ("gate = 3", ["gate", "a table", "got 3"]),
        ("source = []", ["source", "[[source]]"]),
        ('[source]\ndevice = "mic"', ["source", "[[source]]"]),
        ("node = 1979-05-27", ["node", "text", "1979-05-27"]),
        ("[mqtt]\nclient_id = 'x'", ["mqtt.url is missing, expected a text as mqtts://"]),
        ('[[source]]\ndevice = "mic"\n[[source]]\ndevice = "mic"', ["two sources are called mic", "name"]),
        ("[gate]\naggressiveness = = 2", ["not valid TOML", "line 2"]),
        ("[gate]\n[gate]", ["not valid TOML", "line 2"]),
    ],
)
def test_a_wrong_file_is_refused_by_name_key_and_expectation(write, text, parts):
    path = write(text)
    message = refusal(path)
    assert message.startswith(f"{path}: ")
    for part in parts:
        assert part in message


def test_all_faults_of_a_file_are_known_and_one_is_told(write):
    path = write(
        'url = "x"\n[gate]\naggressiveness = 9\n'
        '[mqtt]\nurl = "mqtts://a:hunter2@host"\nca_file = "/x"\nkeepalive_seconds = "x"\n'
        '[[source]]\nname = "A"\n[mqqt]\n'
    )
    with pytest.raises(WrongSettingsError) as caught:
        load_settings(path, environ={})
    message, faults = str(caught.value), caught.value.faults
    assert [fault.removeprefix(f"{path}: ")[:24] for fault in faults] == [
        "mqtt.url has a password ",
        "source[0].name: expected",
        "gate.aggressiveness: exp",
        "mqtt.keepalive_seconds: ",
        "unknown key url: it belo",
        "unknown table [mqqt]: di",
    ]
    assert message == f"{faults[0]} (5 more: edge-sser config check FILE lists them)"
    assert "hunter2" not in "".join(faults)
    with pytest.raises(WrongSettingsError, match=r"got 9 \(1 more\)$"):  # a check of the file would not find them
        load_settings(environ={"EDGE_SSER_GATE_AGGRESSIVENESS": "9", "EDGE_SSER_GATE_FLOOR_DBFS": "x"})


def test_a_variable_that_is_no_setting_names_the_nearest():
    message = refusal(None, {"EDGE_SSER_GATE_AGRESSIVENESS": "1"})
    assert message.startswith("EDGE_SSER_GATE_AGRESSIVENESS: ")
    assert message.endswith("did you mean EDGE_SSER_GATE_AGGRESSIVENESS?")


@pytest.mark.parametrize("text", ["x", "9", "1.5", "2 3"])
def test_a_wrong_variable_names_itself_and_what_was_expected(text):
    message = refusal(None, {"EDGE_SSER_GATE_AGGRESSIVENESS": text})
    assert message.startswith("EDGE_SSER_GATE_AGGRESSIVENESS: expected a whole number from 0 to 3, got ")


def test_two_sources_of_one_name_on_the_command_line_are_told_where_names_are_set():
    message = refusal(None, **{"source.device": Flag("--source", ["a/talk.flac", "b/talk.flac"])})
    assert message.startswith("--source: two sources are called talk, expected different names: ")
    assert message.endswith("set a name in each [[source]] of a settings file")


def test_a_wrong_flag_names_itself():
    message = refusal(None, **{"output.format": Flag("--format", "xml")})
    assert message == '--format: expected one of auto, jsonl, text, got "xml"'


def test_a_file_that_cannot_be_read_says_why(tmp_path):
    assert "no such settings file" in refusal(tmp_path / "none.toml")
    assert "cannot be read" in refusal(tmp_path)
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'node = "caf\xe9"')
    assert "UTF-8" in refusal(latin)


def test_a_password_never_stands_in_the_message(write):
    for text in (
        '[mqtt]\nurl = "mqtt://me:hunter2@host"',
        '[mqtt]\nurl = "mqtt://host"\npassword = "hunter2"',
        '[mqtt]\nurl = "mqtt://me:hunter2@host"\nkeepalive_seconds = 1',
    ):
        message = refusal(write(text))
        assert "hunter2" not in message
        assert str(write(text)) in message


def test_every_key_has_a_variable_of_its_own():
    names = [variable(key) for key in known_keys()]
    assert len(set(names)) == len(names)


def test_shown_settings_read_back_as_the_same(write):
    path = write(
        'node = "k"\n[[source]]\ndevice = "mic:ä"\n[[source]]\ndevice = "-"\nraw_format = "f32le"\n'
        '[model]\npath = "/tmp/a \\u007f\\"b"\n[mqtt]\nurl = "mqtt://h"\n'
    )
    loaded = load_settings(path, environ={"EDGE_SSER_GATE_AGGRESSIVENESS": "3"})
    text = as_toml(loaded)
    assert load_settings(write(text), environ={}).settings == loaded.settings
    (line,) = [line for line in text.splitlines() if line.startswith("aggressiveness")]
    assert line.endswith("# EDGE_SSER_GATE_AGGRESSIVENESS")


@given(st.text())
def test_no_text_in_a_file_gets_anything_but_settings_or_one_line(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    message = ""
    try:
        load_settings(path, environ={})
    except SettingsError as error:
        message = str(error)
    assert len(message.splitlines()) <= 1


def test_a_choice_of_the_settings_prints_as_it_is_written() -> None:
    settings = Settings()
    assert [f"{settings.rolling.sensitivity}", f"{settings.model.runtime}"] == ["normal", "auto"]
    assert str(settings.gate.detector) == "network"
