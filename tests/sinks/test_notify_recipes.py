"""Recipes of docs/notify.md, as they stand there, against a server with the rules of each service.

The rules are those of the services' documentation; none of the services runs here.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from mqtt_rig import emit, episode, eventually
from webhook_server import Request, WebhookServer

from edge_sser.events import Phase, timestamp
from edge_sser.settings.load import load_settings
from edge_sser.settings.notify import NotifySettings
from edge_sser.sinks.notify.sink import NotifySink

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PAGE = (Path(__file__).parents[2] / "docs" / "notify.md").read_text()
BLOCKS = [text for text in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL) if text.startswith("[[notify]]")]
RECIPES: dict[str, str] = {tomllib.loads(text)["notify"][0]["name"]: text for text in BLOCKS}
CREDENTIALS = {"slack": "slack-url", "house": "house-url"}  # files that a recipe names


def is_ntfy(request: Request) -> None:
    """Publishing as JSON: to the root, with a topic; title and message are texts."""
    body = request.json()
    assert request.path == "/"
    assert re.fullmatch(r"[-_A-Za-z0-9]{1,64}", body["topic"])
    assert body.keys() <= {"topic", "title", "message", "priority", "tags", "click", "actions", "markdown"}
    assert all(isinstance(body[key], str) and body[key] for key in ("title", "message"))
    assert body["message"].startswith("desk on cab12: high stress")


def is_slack(request: Request) -> None:
    """An incoming webhook: its own path, and an object with text."""
    assert request.path == "/services/T0/B0/x"
    (text,) = request.json().values()
    assert request.json().keys() == {"text"}
    assert text.startswith("desk on cab12: high stress")


def is_home_assistant(request: Request) -> None:
    """The webhook trigger: its method, and the fields that the automation of the recipe looks at."""
    assert request.path == "/api/webhook/ID"
    (automation,) = (yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
    (trigger,) = automation["triggers"]
    assert (trigger["trigger"], trigger["webhook_id"]) == ("webhook", "ID")
    assert request.method in trigger["allowed_methods"]
    looked_at = re.findall(r"trigger\.json\.(\w+) (==|!=) '(\w+)'", automation["conditions"])
    assert {name for name, _, _ in looked_at} == {"type", "phase"}
    body = request.json()
    assert all((body[name] == value) is (operator == "==") for name, operator, value in looked_at)


def is_node_red(request: Request) -> None:
    """The `http in` node: its path, and the event as JSON, which becomes msg.payload."""
    assert request.path == "/stress"
    assert {"type", "phase", "level", "source", "text"} <= request.json().keys()


SERVICES: dict[str, tuple[str, str, Callable[[Request], None]]] = {  # address in the recipe, path there, rules
    "phone": ("https://ntfy.sh", "/", is_ntfy),
    "slack": ("https://hooks.slack.com", "/services/T0/B0/x", is_slack),
    "house": ("http://homeassistant.local:8123", "/api/webhook/ID", is_home_assistant),
    "node-red": ("http://127.0.0.1:1880", "/stress", is_node_red),
}


@pytest.fixture
def server() -> Iterator[WebhookServer]:
    server = WebhookServer()
    server.status = 200
    yield server
    server.close()


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the service's credentials."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    return folder


def settings_of(text: str, folder: Path) -> NotifySettings:
    """Reads a recipe as a settings file."""
    path = folder / "recipe.toml"
    path.write_text(text)
    (table,) = load_settings(path, environ={}).settings.notify
    # Its hours would leave out what is told in the night; the tests of [[notify]] cover them.
    return table.model_copy(update={"quiet_hours": None})


def tell(table: NotifySettings, folder: Path, wait: Callable[[], Any]) -> None:
    """Tells of an episode that is high, and waits until it has arrived."""
    sink = NotifySink([table], directory=folder / "notify")
    try:
        emit(sink, replace(episode(1, Phase.START), ts=timestamp(time.time())))
        eventually(wait, f"{table.name} is told")
    finally:
        sink.close()


def test_every_recipe_is_tried() -> None:
    assert RECIPES.keys() == {*SERVICES, "lamp", "mail"}
    assert {"$text" in text for name, text in RECIPES.items() if name in ("phone", "slack")} == {True}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_takes_what_its_recipe_sends(
    name: str, server: WebhookServer, credentials: Path, tmp_path: Path
) -> None:
    address, path, rules = SERVICES[name]
    text = RECIPES[name].replace(address, server.url)
    if name in CREDENTIALS:
        assert f'url_file = "{CREDENTIALS[name]}"' in text
        (credentials / CREDENTIALS[name]).write_text(f"{server.url}{path}\n")
    else:
        assert server.url in text
    tell(settings_of(text, tmp_path), tmp_path, lambda: server.taken)
    (request,) = server.requests
    assert request.method == "POST"
    assert request.headers["content-type"] == "application/json"
    rules(request)


def test_discord_takes_content_in_place_of_text(server: WebhookServer, credentials: Path, tmp_path: Path) -> None:
    assert "Discord with `content` in place of `text`" in PAGE
    (credentials / "slack-url").write_text(f"{server.url}/api/webhooks/1/x\n")
    text = RECIPES["slack"].replace('{"text":', '{"content":')
    tell(settings_of(text, tmp_path), tmp_path, lambda: server.taken)
    (content,) = server.requests[0].json().values()
    assert server.requests[0].json().keys() == {"content"}
    assert 0 < len(content) <= 2000  # Discord's limit


def test_a_program_of_the_recipe_gets_its_arguments_and_the_event(tmp_path: Path) -> None:
    told, program = tmp_path / "told.json", tmp_path / "lamp"
    program.write_text(f'#!/bin/sh\n[ "$1" = --red ] && cat >{told}.new && mv {told}.new {told}\n')
    program.chmod(0o700)
    text = RECIPES["lamp"].replace("/usr/local/bin/lamp", str(program))
    tell(settings_of(text, tmp_path), tmp_path, told.exists)
    assert json.loads(told.read_text())["phase"] == "start"


def test_apprise_sends_what_the_recipes_file_names(server: WebhookServer, tmp_path: Path) -> None:
    file = tmp_path / "apprise"
    file.write_text(f"json://127.0.0.1:{server.port}/mail\n")
    os.chmod(file, 0o600)
    text = RECIPES["mail"].replace("/etc/edge-sser/apprise", str(file))
    tell(settings_of(text, tmp_path), tmp_path, lambda: server.taken)
    assert server.requests[0].json()["message"].startswith("desk on cab12: high stress")
