"""Notifications: to real servers and programs, once each, whatever the other end does."""

from __future__ import annotations

import doctest
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from mqtt_certificates import Authority
from mqtt_rig import LIMIT_SECONDS, emit, episode, eventually, free_port, reading
from mqtt_rig import health as old_health
from pydantic import ValidationError
from webhook_server import OTHER, WebhookServer

from edge_sser.errors import MissingComponentError, SettingsError, SinkError
from edge_sser.events import Episode, Health, HealthState, Level, Phase, timestamp
from edge_sser.settings.notify import NotifySettings, QuietHours
from edge_sser.sinks.notify import delivery, message, targets
from edge_sser.sinks.notify.sink import EpisodeFilter, NotifySink

SECRET = "T0KEN-x7Yq"


class Clock:
    """Local time and monotonic time, set by the test."""

    def __init__(self, hour: int = 12) -> None:
        self.now = datetime(2026, 3, 4, hour)

    def local(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return self.now.timestamp()


Start = Callable[..., NotifySink]


@pytest.fixture
def server() -> Iterator[WebhookServer]:
    server = WebhookServer()
    yield server
    server.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Opens a sink with one table; all with one folder."""
    sinks = []

    def start(*tables: dict[str, Any], **keywords: Any) -> NotifySink:
        made = [NotifySettings(name=f"t{number}", **table) for number, table in enumerate(tables)]
        sinks.append(NotifySink(made, directory=tmp_path / "notify", **keywords))
        return sinks[-1]

    yield start
    for sink in sinks:
        sink.close()


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FIRST_RETRY_SECONDS", 0.05)


def fresh(number: int, phase: Phase = Phase.END, **changes: Any) -> Episode:
    """An episode of this moment, whose messages are not too old."""
    return replace(episode(number, phase), ts=timestamp(time.time()), **changes)


def health(state: HealthState = HealthState.OK, detail: str = "", *, source: str = "desk") -> Health:
    return replace(old_health(state, detail, source=source), ts=timestamp(time.time()))


def told(server: WebhookServer) -> list[str]:
    """Phases and states that were told, in order."""
    return [body.get("phase") or body["state"] for body in (request.json() for request in server.taken)]


def drained(sink: NotifySink) -> None:
    """Waits until nothing is queued, and all that was is delivered."""
    for _ in range(2):  # the second step of the thread begins when the first has reported
        step = threading.Event()
        sink._worker.submit(step.set)
        assert step.wait(LIMIT_SECONDS)
    eventually(lambda: not sink._worker.report.outbox_depth and not sink._delivery.unfinished, "all delivered")


def test_the_examples_in_the_documentation_hold() -> None:
    for module in (message, targets):
        result = doctest.testmod(module)
        assert (result.attempted > 0, result.failed) == (True, 0)


def test_a_state_that_comes_while_another_is_on_its_way_is_told_too(
    start: Start, server: WebhookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = start({"url": server.url + "/hook"})
    (lane,) = sink._delivery.lanes.values()
    deliver, gate = lane.target.deliver, threading.Event()

    def held(content: Mapping[str, Any], key: str) -> None:
        assert gate.wait(LIMIT_SECONDS)
        deliver(content, key)

    monkeypatch.setattr(lane.target, "deliver", held)
    emit(sink, health(HealthState.MISSING, "unplugged"))
    eventually(lambda: lane.entry is not None, "on its way")
    emit(sink, health())
    for _ in range(2):
        step = threading.Event()
        sink._worker.submit(step.set)
        assert step.wait(LIMIT_SECONDS)
    gate.set()
    eventually(lambda: told(server) == ["missing", "ok"], f"both: {told(server)}")


def test_a_webhook_gets_start_and_end_of_an_episode_and_changes_of_health(start: Start, server: WebhookServer) -> None:
    sink = start({"url": server.url + "/hook"})
    first = fresh(1, Phase.START)
    emit(sink, health(), reading(1), first)
    emit(sink, replace(first, phase=Phase.UPDATE), replace(first, phase=Phase.END))
    eventually(lambda: len(server.taken) == 2, "both phases")
    emit(sink, health(HealthState.MISSING, "unplugged"), health(HealthState.MISSING, "still unplugged"))
    eventually(lambda: told(server)[2:] == ["missing"], "missing")
    emit(sink, health())
    eventually(lambda: told(server) == ["start", "end", "missing", "ok"], "ok again")
    drained(sink)
    request = server.requests[0]
    assert (request.method, request.path) == ("POST", "/hook")
    assert request.headers["content-type"] == "application/json"
    body = request.json()
    assert body["id"] == first.id
    assert body["text"].startswith("desk on ")
    assert "test" not in body
    assert len({request.headers["idempotency-key"] for request in server.requests}) == 4


def test_a_template_and_a_token_make_the_request(start: Start, server: WebhookServer, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(f"{SECRET}\n")
    start_of_line = '{"topic": "alarms", "message": "$text", "level": "$level", "detail": "$detail"}'
    sink = start({"url": server.url, "token_file": token, "template": start_of_line})
    emit(sink, health(HealthState.MISSING, 'a "quoted" \\ détail'))
    eventually(lambda: server.taken, "the message")
    assert server.requests[0].headers["authorization"] == f"Bearer {SECRET}"
    assert server.requests[0].json() == {
        "topic": "alarms",
        "message": 'desk on cab12 is missing: a "quoted" \\ détail',
        "level": "",
        "detail": 'a "quoted" \\ détail',
    }
    token.write_text("another\n")  # changed without a restart
    emit(sink, fresh(1))
    eventually(lambda: len(server.taken) == 2, "the second")
    assert server.requests[1].headers["authorization"] == "Bearer another"


@pytest.mark.parametrize("status", [500, 503, 302, 401, 404, 429])
def test_a_server_that_fails_gets_the_message_once_it_works(
    start: Start, server: WebhookServer, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    server.status, server.headers = status, {"Location": server.url + OTHER, "Retry-After": "0"}
    sink = start({"url": f"{server.url}/{SECRET}"})
    one = fresh(1)
    emit(sink, one, fresh(2))
    eventually(lambda: len(server.requests) >= 3, "retries")
    assert [request.json()["id"] for request in server.requests] == [one.id] * len(server.requests)
    server.status = 200
    eventually(lambda: len(server.taken) == 2, "both, in order")
    drained(sink)
    assert len({request.headers["idempotency-key"] for request in server.requests}) == 2
    assert OTHER not in {request.path for request in server.requests}
    assert f"answers {status}" in caplog.text
    assert caplog.text.count("messages wait on disk") == 1
    assert "works again" in caplog.text
    assert SECRET not in caplog.text


def test_a_message_that_no_server_would_take_is_given_up_for_those_behind_it(
    start: Start, server: WebhookServer
) -> None:
    server.status = 422
    sink = start({"url": server.url})
    emit(sink, fresh(1))
    eventually(lambda: sink.trouble, "the loss")
    assert "1 events were lost" in sink.trouble
    server.status = 200
    emit(sink, fresh(2))
    eventually(lambda: len(server.taken) == 1, "the next")
    assert len(server.requests) == 2


def test_a_server_that_hangs_delays_neither_emit_nor_other_targets_nor_the_end(
    start: Start, server: WebhookServer
) -> None:
    other = WebhookServer()
    server.status = 0
    sink = start({"url": server.url, "timeout_seconds": 60.0}, {"url": other.url})
    emit(sink, *(fresh(number) for number in range(5)))
    eventually(lambda: len(other.taken) == 5, "the other target")
    sink.close()
    with pytest.raises(SinkError, match="closed"):
        emit(sink, fresh(9))
    other.close()
    server.status = 200
    again = start({"url": server.url}, {"url": other.url})  # what was due comes after a restart, once
    eventually(lambda: len(server.taken) == 5, "the rest")
    drained(again)
    assert len({request.json()["id"] for request in server.taken}) == 5


@pytest.mark.parametrize("status", [0, -1])
@pytest.mark.parametrize("secure", [False, True])
def test_an_answer_that_does_not_come_is_a_failure_in_time(
    start: Start, tmp_path: Path, status: int, secure: bool
) -> None:
    authority = Authority(tmp_path / "ca")
    server = WebhookServer(authority.issue("hook") if secure else None)
    server.status = status
    sink = start({"url": server.url, "timeout_seconds": 0.5} | ({"ca_file": authority.ca} if secure else {}))
    emit(sink, fresh(1))
    eventually(lambda: sink._delivery.lanes["t0"].fault == "does not answer within 0.5 s", "the timeout")
    server.status = 200
    eventually(lambda: len(server.taken) == 1, "the retry")
    server.close()


def test_what_was_due_is_sent_once_after_a_restart(start: Start, server: WebhookServer) -> None:
    port = free_port()
    down = {"url": f"http://127.0.0.1:{port}"}
    sink = start(down)
    emit(sink, health(HealthState.MISSING), *(fresh(number, Phase.START) for number in range(3)))
    eventually(lambda: "refused" in sink._delivery.lanes["t0"].fault, "no server")
    sink.close()
    up = WebhookServer(port=port)
    try:
        for _ in range(2):
            sink = start(down)
            eventually(lambda: len(up.taken) == 4, "all")
            drained(sink)
            emit(sink, health(HealthState.MISSING))  # known already
            drained(sink)
            sink.close()
        assert sorted(told(up)) == ["missing", "start", "start", "start"]
    finally:
        up.close()


def test_messages_of_a_target_that_is_gone_or_too_old_are_dropped(start: Start, server: WebhookServer) -> None:
    down = {"url": f"http://127.0.0.1:{free_port()}"}
    sink = start(down, {**down, "max_age_seconds": 3600.0})
    emit(sink, fresh(1))
    emit(sink, replace(episode(2), ts=timestamp(time.time() - 7200)))
    eventually(lambda: sink._worker.report.lost == 1, "the old one")
    eventually(lambda: sink._worker.report.outbox_depth == 3, "the others")
    sink.close()
    sink = start({"url": server.url})
    eventually(lambda: len(server.taken) == 2, "those of t0")
    drained(sink)


def test_health_that_changed_meanwhile_is_told_as_it_is_now(start: Start, server: WebhookServer) -> None:
    clock = Clock(hour=23)
    sink = start({"url": server.url, "quiet_hours": "22:00-07:00"}, local_time=clock.local)
    emit(sink, health(HealthState.MISSING), health(HealthState.OK), health(HealthState.SILENT))
    emit(sink, fresh(1, Phase.START), fresh(1, Phase.END))
    eventually(lambda: sink._worker.report.outbox_depth == 1, "the last health, held back")
    assert server.requests == []
    clock.now += timedelta(hours=9)
    emit(sink, health(HealthState.OK, source="other"))  # wakes the thread
    eventually(lambda: told(server) == ["silent"], "the health of now")
    drained(sink)


def test_a_least_interval_holds_health_back(start: Start, server: WebhookServer) -> None:
    sink = start({"url": server.url, "min_interval_seconds": 3600.0})
    emit(sink, health(HealthState.MISSING))
    drained(sink)
    assert told(server) == ["missing"]
    emit(sink, health(HealthState.OK), health(HealthState.SILENT))
    eventually(lambda: sink._worker.report.outbox_depth == 1, "the last health, held back")
    assert told(server) == ["missing"]
    told_at = sink._delivery.lanes["t0"].told_at
    told_at.update({topic: at - 3600.0 for topic, at in told_at.items()})
    emit(sink, health(HealthState.OK, source="other"))  # wakes the thread
    eventually(lambda: told(server) == ["missing", "silent"], "the last of the interval")


@pytest.mark.parametrize(
    ("settings", "events", "expected"),
    [
        ({}, "1s 1u 1e 2s 2e", "1s 1e 2s 2e"),
        ({"events": ["start"]}, "1s 1e 2s", "1s 2s"),
        ({"events": ["end"]}, "1s 1e", "1e"),
        ({"events": ["health"]}, "1s 1e", ""),
        ({"level": "high"}, "1s 1u 1U 1U 1E 2s 2e 3s 3E", "1U 1E 3E"),
        ({"min_interval_seconds": 60}, "1s 1e 2s 2e +61 3s 3e", "1s 1e 3s 3e"),
        ({"quiet_hours": "22:00-07:00"}, "1s +39600 1e 2s 2e +32400 3s", "1s 1e 3s"),
    ],
)
def test_an_episode_is_told_or_left_out_as_a_whole(settings: dict[str, Any], events: str, expected: str) -> None:
    clock = Clock()
    each = EpisodeFilter(
        NotifySettings(name="n", command=["true"], **settings), clock=clock.monotonic, local_time=clock.local
    )
    passed = []
    for word in events.split():
        if word.startswith("+"):
            clock.now += timedelta(seconds=int(word))
            continue
        phase = {"s": Phase.START, "u": Phase.UPDATE, "e": Phase.END}[word[1].lower()]
        level = Level.HIGH if word[1].isupper() else Level.ELEVATED
        if each.passes(replace(episode(int(word[0]), phase), id=word[0], level=level)):
            passed.append(word)
    assert " ".join(passed) == expected


@pytest.mark.parametrize(
    ("hours", "now", "left"),
    [
        ("22:00-07:00", "21:59", 0),
        ("22:00-07:00", "22:00", 9 * 3600),
        ("22:00-07:00", "06:59", 60),
        ("22:00-07:00", "07:00", 0),
        ("12:00-13:30", "12:30", 3600),
        ("12:00-13:30", "00:00", 0),
    ],
)
def test_quiet_hours_end(hours: str, now: str, left: float) -> None:
    assert QuietHours.parse(hours).seconds_left(datetime.fromisoformat(f"2026-03-04T{now}")) == left


def test_tls_is_verified(start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    authority, stranger = Authority(tmp_path / "ca"), Authority(tmp_path / "other")
    server = WebhookServer(authority.issue("hook"))
    try:
        sink = start(
            {"url": server.url, "ca_file": authority.ca},
            {"url": server.url},
            {"url": server.url, "ca_file": stranger.ca},
        )
        emit(sink, fresh(1))
        eventually(lambda: len(server.taken) == 1, "the trusted one")
        lanes = sink._delivery.lanes
        for name in ("t1", "t2"):
            eventually(lambda name=name: "certificate verify failed" in lanes[name].fault, "the refusal")
        assert len(server.requests) == 1
    finally:
        server.close()


PROGRAM = "import json,os,sys; open(sys.argv[1],'a').write(json.dumps([sys.stdin.read(), dict(os.environ)]) + '\\n')"


def test_a_command_gets_the_message_and_little_else(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_SSER_SECRET", SECRET)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials")
    out = tmp_path / "$(touch hacked); out"  # no shell
    sink = start({"command": [sys.executable, "-c", PROGRAM, str(out)]})
    emit(sink, fresh(1, Phase.START))
    drained_line = eventually(lambda: out.exists() and out.read_text().endswith("\n") and out.read_text(), "a run")
    given, environment = json.loads(drained_line)
    assert json.loads(given)["phase"] == "start"
    assert set(environment) <= {"PATH", "HOME", "LANG", "TZ", "LC_CTYPE"}


def test_a_command_that_hangs_is_killed_with_all_that_it_started(start: Start, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    sink = start({"command": ["/bin/sh", "-c", f"sleep 300 & echo $! > {pid}; wait"], "timeout_seconds": 0.5})
    emit(sink, fresh(1))
    eventually(lambda: "was killed" in sink._delivery.lanes["t0"].fault, "the timeout")
    child = Path(f"/proc/{pid.read_text().strip()}")
    eventually(lambda: not child.exists() or "Z" in (child / "stat").read_text().split()[2], "the child's end")


def test_a_command_that_fails_is_run_again_and_ends_with_the_sink(start: Start, tmp_path: Path) -> None:
    count = tmp_path / "count"
    sink = start({"command": ["/bin/sh", "-c", f"echo x >> {count}; test $(wc -l < {count}) = 3"]})
    emit(sink, fresh(1))
    drained(sink)
    assert count.read_text() == "x\n" * 3
    sleeper = start({"command": ["sleep", "300"], "timeout_seconds": 300.0})
    emit(sleeper, fresh(1))
    process = eventually(lambda: sleeper._delivery.lanes["t0"].target._process, "the program")
    sleeper.close()
    assert process.wait(LIMIT_SECONDS) != 0


def test_apprise_serves_everything_else(start: Start, server: WebhookServer, tmp_path: Path) -> None:
    urls = tmp_path / "apprise"
    urls.write_text(f"json://127.0.0.1:{server.port}/{SECRET}\n")
    sink = start({"apprise_file": urls})
    emit(sink, fresh(1))
    eventually(lambda: server.taken, "the message")
    assert server.requests[0].json()["message"].startswith("desk on cab12")
    drained(sink)
    urls.write_text("nothing://\n")
    with pytest.raises(SettingsError, match="URL 1 is none of Apprise"):
        start({"apprise_file": urls})


def test_no_log_of_a_library_shows_a_url(
    start: Start, server: WebhookServer, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    file = tmp_path / "url"
    file.write_text(f"{server.url}/{SECRET}?key={SECRET}")
    urls = tmp_path / "apprise"
    urls.write_text(f"json://127.0.0.1:{free_port()}/{SECRET}")
    with caplog.at_level(logging.DEBUG):
        sink = start({"url_file": file}, {"apprise_file": urls}, {"url": f"http://127.0.0.1:{free_port()}/{SECRET}"})
        emit(sink, fresh(1))
        eventually(lambda: server.taken and all(sink._delivery.lanes[name].fault for name in ("t1", "t2")), "answers")
        sink.close()
    assert "messages wait on disk" in caplog.text
    assert SECRET not in caplog.text
    assert SECRET not in repr(NotifySettings(name="n", url=f"{server.url}/{SECRET}"))


@pytest.mark.parametrize(("package", "extra"), [("httpx", "notify"), ("apprise", "apprise")])
def test_a_missing_package_is_named_with_its_extra(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, extra: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == package else object())
    table = {"url": "http://h"} if package == "httpx" else {"apprise_file": tmp_path / "none"}
    with pytest.raises(MissingComponentError, match=rf"{package}: pip install \"edge-sser\[{extra}\]\""):
        start(table)


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({}, "one of command, url, url_file, apprise_file"),
        ({"url": "http://h", "command": ["true"]}, "one of"),
        ({"command": []}, "at least 1"),
        ({"url": "ftp://h"}, "https://host/path"),
        ({"url": "https://"}, "https://host/path"),
        ({"url": "https://h:99999"}, "https://host/path"),
        ({"url": f"https://u:{SECRET}@h"}, "has a password in it"),
        ({"url": "http://h", "template": "hello $text"}, "is not JSON"),
        ({"url": "http://h", "template": '{"a": "$nothing"}'}, "has \\$nothing"),
        ({"url": "http://h", "template": '{"a": $peak}'}, "quote them"),
        ({"command": ["true"], "template": "{}"}, "template goes with url"),
        ({"command": ["true"], "quiet_hours": "22-7"}, "as 22:00-07:00"),
        ({"command": ["true"], "quiet_hours": "22:00-22:00"}, "as 22:00-07:00"),
        ({"command": ["true"], "level": "low"}, "elevated or high"),
        ({"command": ["true"], "events": []}, "at least 1"),
    ],
)
def test_wrong_tables_are_refused_without_showing_a_secret(table: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint) as caught:
        NotifySettings(name="n", **table)
    assert SECRET not in caught.value.errors()[0]["msg"]


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"command": ["/no/such/program"]}, "not found or not executable"),
        ({"url_file": "/no/such/file"}, "notify.url_file /no/such/file cannot be read"),
        ({"url_file": "hook-url"}, "no systemd credentials here"),
        ({"url": "https://h", "ca_file": "/no/such/ca"}, "notify.ca_file /no/such/ca"),
        ({"url": "https://h", "token_file": "/dev/null"}, "secret on its first line"),
    ],
)
def test_files_that_cannot_be_used_are_named(
    start: Start, table: dict[str, Any], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(SettingsError, match=complaint):
        start(table)


def test_a_credential_of_systemd_is_found_by_its_name(
    start: Start, server: WebhookServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hook-url").write_text(server.url + "/a\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    sink = start({"url_file": "hook-url"})
    emit(sink, fresh(1))
    eventually(lambda: server.taken, "the message")
    assert datetime.now(timezone.utc) > datetime.fromisoformat(server.requests[0].json()["ts"].replace("Z", "+00:00"))
