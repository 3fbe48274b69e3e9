"""The command line itself: help, version, usage errors, what is imported, settings on it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

import edge_sser
from edge_sser import cli
from edge_sser.commands.order import ORDER
from edge_sser.errors import missing_extra
from edge_sser.events import json_schema
from edge_sser.model.card_file import card_of


def loaded_modules(*arguments: str) -> set[str]:
    """Returns the packages that a command imports."""
    program = (
        "import sys; from edge_sser.cli import main; status = main(sys.argv[1:]);"
        "print(status, *sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    status, *modules = done.stderr.splitlines()[-1].split()
    assert status == "0"
    return set(modules)


def test_help_names_the_limits_of_the_program(call):
    result = call("--help")
    assert result.status == 0
    assert "not a medical device" in " ".join(result.out.split())
    assert "acted emotion" in " ".join(result.out.split())
    for command in (
        "listen",
        "analyze",
        "devices",
        "train",
        "export",
        "bench",
        "doctor",
        "config",
        "service",
        "schema",
    ):
        assert f"\n  {command} " in result.out


def test_help_imports_nothing_heavy():
    heavy = {"numpy", "onnxruntime", "torch", "pydantic", "rich", "soundfile", "webrtcvad", "paho"}
    assert not heavy & loaded_modules("--help")


@pytest.mark.parametrize("command", ["listen", "analyze"])
def test_no_torch_on_the_device(command, speech, model):
    source = ["--no-pace", "--source"] if command == "listen" else []
    modules = loaded_modules(command, "--model", model, *source, str(speech))
    assert "onnxruntime" in modules
    assert not {"torch", "torchaudio", "scipy", "sklearn", "pyaudio"} & modules


@pytest.mark.parametrize("command", [[], ["listen"]])
def test_the_version_names_the_licence_of_the_weights(call, command):
    result = call(*command, "--version")
    assert result.status == 0
    assert edge_sser.__version__ in result.out
    assert "CC BY-NC-SA 4.0, not for commercial use" in result.out
    for card in (card_of(None), card_of(Path("sser-cnn"))):
        assert f"{card.name} {card.version}: {card.licence}" in result.out.splitlines()


def test_no_command_prints_the_help_and_counts_as_wrong_usage(call):
    result = call()
    assert result.status == 2
    assert result.out == ""
    assert "Usage:" in result.err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["lisen"], "lisen"),
        (["listen", "--souce", "x"], "--source"),
        (["listen", "--raw-rate", "fast"], "--raw-rate"),
        (["listen", "--raw-rate", "1"], "--raw-rate: expected a whole number from 4000 to 384000"),
        (["listen", "--raw-format", "mp3"], "s16le, s32le, f32le"),
        (["listen", "--format", "xml"], "auto, jsonl, text"),
        (["listen", "--log-level", "loud"], "debug, info, warning, error"),
        (
            ["listen", "--node", "a b"],
            "--node: expected text of the letters a to z, digits and _ . -, at most 64 long",
        ),
        (["listen", "--runtime", "tpu"], "auto, engine, tensorrt, cuda, cpu"),
        (["analyze"], "FILE"),
        (["analyze", "x.wav", "--format", "xml"], "jsonl, csv"),
        (["analyze", "x.wav", "--jobs", "0"], "--jobs"),
        (["analyze", "x.wav", "--channel", "-1"], "--channel"),
        (["config", "chek"], "chek"),
        (["train", "bogus"], "bogus"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(call, arguments, part):
    call(*arguments).refuses(2, part)


def test_a_missing_extra_is_one_line_that_says_how_to_install_it(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "edge_sser.train.cli", None)
    monkeypatch.delitem(sys.modules, "edge_sser.train.cli")
    monkeypatch.setattr("importlib.import_module", _without_torch)
    call("train", "fit", "table.csv", "--out", "runs").refuses(1, "torch", 'pip install "edge-sser[train]"')


def _without_torch(name):
    raise ModuleNotFoundError("No module named 'torch'", name="torch")


def test_the_schema_is_json_schema_and_is_the_committed_one(call):
    result = call("schema")
    schema = json.loads(result.out)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema == json_schema()


def test_config_check_accepts_a_valid_file_and_ignores_the_environment(call, tmp_path, monkeypatch):
    path = tmp_path / "config.toml"
    path.write_text("[gate]\naggressiveness = 3\n")
    monkeypatch.setenv("EDGE_SSER_GATE_AGGRESSIVENESS", "9")
    result = call("config", "check", path)
    assert (result.status, result.err) == (0, "")
    path.write_text("[gate]\nagressiveness = 3\n")
    call("config", "check", path).refuses(2, str(path), "gate.agressiveness", "gate.aggressiveness")


def test_config_check_lists_all_faults_and_other_commands_point_to_it(call, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("[gate]\naggressiveness = 9\nfloor = 3\n[mqqt]\n")
    checked = call("config", "check", path)
    assert (checked.status, checked.out) == (2, "")
    first, second, third = checked.err.splitlines()
    assert first == f"edge-sser: error: {path}: gate.aggressiveness: expected a whole number from 0 to 3, got 9"
    assert second == f"edge-sser: error: {path}: unknown key gate.floor: did you mean gate.floor_dbfs?"
    assert third == f"edge-sser: error: {path}: unknown table [mqqt]: did you mean [mqtt]?"
    listened = call("listen", "--config", path)
    assert listened.err == f"{first} (2 more: edge-sser config check FILE lists them)\n"


def test_doctor_and_history_name_the_places_where_they_looked_for_settings(call, own_home, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(own_home / "xdg"))
    looked = " or ".join(str(own_home / folder / "edge-sser/config.toml") for folder in ("xdg", ".config"))
    looked += " or /etc/edge-sser/config.toml"
    assert call("doctor", "--passive").out.startswith(f"fine     settings    defaults, since there is no {looked}\n")
    assert f"no settings file was found ({looked})" in call("history").err
    assert call("config", "check").out.startswith(f"no settings file: there is no {looked}, and listen")


def test_config_check_without_a_file_takes_the_one_of_listen(call, own_home):
    assert "no settings file" in call("config", "check").out
    path = own_home / ".config/edge-sser/config.toml"
    path.parent.mkdir(parents=True)
    path.write_text("[gate]\naggressiveness = 3\n")
    assert call("config", "check").out == f"{path}: valid, and what listen takes\n"
    path.write_text("[gate]\nagressiveness = 3\n")
    call("config", "check").refuses(2, str(path), "gate.agressiveness")


def test_config_check_finds_what_listen_would_refuse(call, own_home, monkeypatch):
    path = own_home / "high.toml"
    path.write_text("[rolling]\nhigh = 0.2\n")  # below the default model's elevated
    message = "rolling.elevated is 0.294 and rolling.high is 0.2 (one of them from the model's card): set both"
    call("config", "check", path).refuses(2, message)
    path.write_text('[model]\npath = "sser-puls"\n')
    call("config", "check", path).refuses(1, "did you mean sser-plus?")
    path.write_text('[model]\npath = "/dev/zero"\n')
    call("config", "check", path).refuses(1, "/dev/zero: Not a regular file")
    path.write_text('[model]\npath = "/opt/of-another-device.onnx"\n')
    assert call("config", "check", path).out == f"{path}: valid\n"
    monkeypatch.setenv("EDGE_SSER_GATE_AGGRESSIVENESS", "9")
    assert call("config", "check", path).out == f"{path}: valid\n"
    call("config", "check").refuses(2, "EDGE_SSER_GATE_AGGRESSIVENESS: expected a whole number from 0 to 3, got 9")


def test_the_help_lists_each_command_in_a_line_of_its_own(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    commands = call("--help").out.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in commands] == list(ORDER)
    assert [line for line in commands if not line.endswith(".") or line.endswith("...")] == []


@pytest.mark.parametrize("command", [["listen", "--source"], ["analyze"]])
def test_a_name_that_no_model_has_names_those_that_ship(call, speech, command):
    result = call(*command, speech, "--model", "sser-pluss")
    result.refuses(1, "no model 'sser-pluss': did you mean sser-plus? ones that ship: sser-plus, sser-cnn;")


@pytest.mark.parametrize("option", [["--raw-rate", 8000], ["--raw-channels", 2], ["--raw-format", "f32le"]])
def test_a_description_of_raw_pcm_is_refused_for_a_recording(call, speech, option):
    result = call("listen", "--source", speech, *option)
    result.refuses(2, f"{option[0]} describes raw PCM on standard input", "leave it out", "--source -")


def test_a_missing_package_is_named_as_pip_knows_it():
    assert "scikit-learn: pip install" in str(missing_extra("sklearn", "train", "Training"))


def test_a_source_is_refused_before_anything_is_told_of_it(call, speech, model):
    refused = call("listen", "--log-level", "info", "--source", "gone.wav")
    assert (refused.status, "listening to" in refused.err, "expect" in refused.err.partition("error")[0]) == (
        1,
        False,
        False,
    )
    assert (
        "listening to" in call("listen", "--log-level", "info", "--no-pace", "--model", model, "--source", speech).err
    )


def test_config_show_names_the_origin_of_values(call, tmp_path, monkeypatch):
    path = tmp_path / "config.toml"
    path.write_text("[gate]\naggressiveness = 3\n")
    monkeypatch.setenv("EDGE_SSER_NODE", "cabinet")
    lines = call("config", "show", "--config", path).out.splitlines()
    assert any(line.startswith("aggressiveness = 3") and line.endswith(f"# {path}") for line in lines)
    assert any(line.startswith('node = "cabinet"') and line.endswith("# EDGE_SSER_NODE") for line in lines)
    assert any(line.startswith("hop_seconds = 0.5") and line.endswith("# default") for line in lines)


def test_config_schema_describes_every_setting(call):
    schema = json.loads(call("config", "schema").out)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$defs"]["GateSettings"]["properties"]["aggressiveness"]["description"]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[gate]\naggressiveness = 'x'", "gate.aggressiveness"),
        ("[gate]\naggressiveness = 9", "from 0 to 3"),
        ("[gate]\nagressiveness = 1", "did you mean gate.aggressiveness?"),
        ("[gate", "line 1"),
        ("[rolling]\nelevated = 0.9\ntime_constant_seconds = 8.0", "elevated"),  # above the model card's high
    ],
)
@pytest.mark.parametrize("command", ["listen", "analyze"])
def test_a_wrong_configuration_ends_with_status_2_before_any_audio(call, tmp_path, speech, model, command, text, part):
    path = tmp_path / "config.toml"
    path.write_text(text)
    arguments = ["--no-pace", "--source", speech] if command == "listen" else [speech]
    result = call(command, "--config", path, "--model", model, *arguments)
    result.refuses(2, part)
    assert result.of_type("reading") == []


def test_the_program_starts_as_installed():
    program = Path(sys.executable).with_name("edge-sser")
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("edge-sser ")


@pytest.mark.parametrize("command", [["schema"], ["--version"], ["analyze", "nothing.wav"]])
def test_a_standard_output_that_is_closed_from_the_start_is_one_line(command):
    quoted = " ".join([sys.executable, "-m", "edge_sser.cli", *command])
    done = subprocess.run(["sh", "-c", f"exec {quoted} >&-"], stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "standard output is closed" in line


def test_an_interrupt_while_settings_are_read_cannot_get_lost(monkeypatch, tmp_path):
    """KeyboardInterrupt would get lost: pydantic swallows one that comes while it makes a schema."""
    seen = []
    load = cli.load_with_flags

    def watched(*arguments):
        seen.append(signal.getsignal(signal.SIGINT))
        return load(*arguments)

    monkeypatch.setattr(cli, "load_with_flags", watched)
    before = signal.getsignal(signal.SIGINT)
    assert cli.main(["listen", "--source", str(tmp_path / "gone.wav")]) == 1
    assert before is signal.default_int_handler
    assert seen == [signal.SIG_DFL]
    assert signal.getsignal(signal.SIGINT) is before
