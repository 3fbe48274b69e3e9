"""The running program tells a webhook, and a webhook that hangs or is gone changes nothing else."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from daemon_process import Daemon
from mqtt_rig import eventually, free_port
from stressed_speech import feed_episodes, write_settings
from webhook_server import WebhookServer

SECRET = "T0KEN-x7Yq"
Start = Callable[..., Daemon]


@pytest.fixture
def server() -> Iterator[WebhookServer]:
    server = WebhookServer()
    yield server
    server.close()


def settings_of(folder: Path, notify: str) -> Path:
    path = folder / "config.toml"
    if not path.exists():
        write_settings(path, url="mqtt://h")
        (folder / "base.toml").write_text(path.read_text().partition("[mqtt]")[0])
    path.write_text(f"{(folder / 'base.toml').read_text()}{notify}")
    return path


def hook(url: str, more: str = "") -> str:
    return f'[[notify]]\nname = "hook"\nurl = "{url}/{SECRET}"\n{more}\n'


def keys(events: list[dict[str, str]]) -> list[tuple[str, str]]:
    return [(event["id"], event["phase"]) for event in events if event["type"] == "episode"]


@pytest.mark.parametrize("end", ["term", "kill"])
def test_a_webhook_that_hangs_holds_nothing_up_and_is_told_once_after_a_restart(
    start: Start, tmp_path: Path, server: WebhookServer, sharp_model: str, end: str
) -> None:
    server.status = 0
    episodes = 'events = ["start", "end"]'  # a machine that is busy may stall the source, whose health would count
    config = settings_of(tmp_path, hook(server.url, f"timeout_seconds = 300.0\n{episodes}"))
    arguments = ("--config", config, "--format", "jsonl", "--model", sharp_model, "--log-level", "debug")
    daemon = start(*arguments, fed=True)
    feed_episodes(daemon, 3)
    printed = [event for event in keys(daemon.events("episode")) if event[1] != "update"]
    assert len(printed) == 6
    if end == "term":
        assert daemon.stop() == 0
    else:
        eventually(lambda: stored(tmp_path) >= 6, "on disk")
        daemon.kill()
    assert SECRET not in "\n".join(daemon.log)
    server.status = 200
    again = start(*arguments, fed=True)

    def told() -> list[tuple[str, str]]:
        return keys([one.json() for one in server.taken])

    eventually(lambda: len(told()) >= 6, "what was due")
    assert again.stop() == 0
    assert told() == printed, again.log


def stored(folder: Path) -> int:
    """Number of events ever put into the outbox, as its witness says."""
    try:
        return int((folder / "state" / "notify" / "outbox.mark").read_text().split()[0])
    except (OSError, IndexError):
        return 0


def test_a_webhook_that_is_gone_is_logged_without_its_url_and_comes_with_a_reload(
    start: Start, tmp_path: Path, server: WebhookServer, sharp_model: str
) -> None:
    config = settings_of(tmp_path, hook(f"http://127.0.0.1:{free_port()}"))
    arguments = ("--config", config, "--format", "jsonl", "--model", sharp_model, "--log-level", "debug")
    daemon = start(*arguments, fed=True)
    feed_episodes(daemon, 1)
    eventually(lambda: any("notify hook: cannot be reached" in line for line in daemon.log), "the line in the log")
    settings_of(tmp_path, hook(server.url))
    daemon.send(signal.SIGHUP)
    eventually(lambda: len(server.taken) == 2, f"what was due: {daemon.log}")
    feed_episodes(daemon, 1)
    eventually(lambda: len(server.taken) == 4, "the next")
    assert daemon.stop() == 0
    assert SECRET not in "\n".join(daemon.log)
    assert [event for event in keys(daemon.events("episode")) if event[1] != "update"] == keys(
        [request.json() for request in server.taken]
    )
