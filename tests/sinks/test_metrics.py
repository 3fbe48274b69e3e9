"""Metrics as Prometheus scrapes them over HTTP."""

from __future__ import annotations

import contextlib
import http.client
import io
import math
import os
import socket
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from mqtt_certificates import Authority
from mqtt_rig import emit, eventually, free_port
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError

from edge_sser.errors import MissingComponentError, SettingsError, SinkError
from edge_sser.events import (
    BaselineState,
    Episode,
    Health,
    HealthState,
    Level,
    Phase,
    Reading,
    Status,
    StatusState,
)
from edge_sser.settings.sinks import MetricsSettings, MqttSettings
from edge_sser.sinks.metrics import MetricsSink
from edge_sser.sinks.metrics_server import MAX_REQUEST_BYTES, _Limited
from edge_sser.sinks.mqtt.diagnosis import LinkState, MqttReport
from edge_sser.sinks.mqtt.sink import MqttSink

MODEL = "sser-cnn@ab12cd34"
TS = "2026-01-02T03:04:05.678Z"
READING = Reading(
    id="cab/desk/000001", node="cab", source="desk", ts=TS, start_s=18.0, end_s=21.0, speech_ratio=0.74, stress=0.62,
    stress_rolling=0.55, level=Level.ELEVATED, confidence=0.24, dbfs=-27.4, clipped=False, latency_ms=4.0,
    dropped_s=0.0, baseline=BaselineState.READY, baseline_shift=0.1, model=MODEL,
)  # fmt: skip
SILENT = replace(READING, stress=None, stress_rolling=None, level=None, confidence=None, speech_ratio=0.0)
HEALTH = Health(
    node="cab", source="desk", ts=TS, state=HealthState.OK, detail="", read_s=9.0, processed_s=9.0, dropped_s=0.0,
    overruns=0,
)  # fmt: skip
STATUS = Status(node="cab", ts=TS, state=StatusState.ONLINE, version="0.1.0", model=MODEL, provider="CPU", host="h")
EPISODE = Episode(
    phase=Phase.END, id="cab/desk/x", node="cab", source="desk", ts=TS, level=Level.HIGH, start_s=4.0, end_s=14.5,
    duration_s=10.5, peak=0.91, mean=0.78, evidence_s=2.0, declared_s=4.0, model=MODEL,
)  # fmt: skip


@pytest.fixture
def sink() -> Iterator[MetricsSink]:
    sink = MetricsSink(address="127.0.0.1", port=0)
    yield sink
    sink.close()


def scrape(sink: MetricsSink) -> dict[str, float]:
    """Every sample of a scrape, by its name and the values of its labels, `source` first, the others by name."""
    with urllib.request.urlopen(f"http://127.0.0.1:{sink.port}/metrics", timeout=5) as response:
        text = response.read().decode()
    return {
        ":".join(
            [sample.name, *(sample.labels[name] for name in sorted(sample.labels, key=_source_first))]
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _source_first(label: str) -> tuple[bool, str]:
    return label != "source", label


def test_a_reading_is_what_a_scrape_says(sink: MetricsSink) -> None:
    emit(sink, READING)
    figures = scrape(sink)
    assert figures["edge_sser_windows_total:desk"] == 1
    assert figures["edge_sser_windows_scored_total:desk"] == 1
    assert figures["edge_sser_speech_ratio:desk"] == 0.74
    assert figures["edge_sser_stress:desk"] == 0.62
    assert figures["edge_sser_stress_rolling:desk"] == 0.55
    assert figures["edge_sser_loudness_dbfs:desk"] == -27.4
    levels = {level: figures[f"edge_sser_level:desk:{level.value}"] for level in Level}
    assert levels == {Level.LOW: 0, Level.ELEVATED: 1, Level.HIGH: 0}


def test_the_age_of_the_last_reading_grows_until_the_next() -> None:
    now = 100.0
    sink = MetricsSink(address="127.0.0.1", port=0, clock=lambda: now)
    with contextlib.closing(sink):
        emit(sink, HEALTH)
        assert "edge_sser_reading_age_seconds:desk" not in scrape(sink)
        emit(sink, READING, replace(READING, source="hall"))
        now = 107.5
        emit(sink, replace(READING, source="hall"), replace(HEALTH, state=HealthState.STALLED))
        now = 110.0
        figures = scrape(sink)
    assert figures["edge_sser_reading_age_seconds:desk"] == 10.0
    assert figures["edge_sser_reading_age_seconds:hall"] == 2.5


def test_silence_is_counted_and_is_not_calm(sink: MetricsSink) -> None:
    emit(sink, SILENT)
    figures = scrape(sink)
    assert figures["edge_sser_windows_total:desk"] == 1
    assert figures["edge_sser_windows_scored_total:desk"] == 0
    assert math.isnan(figures["edge_sser_stress:desk"])
    assert math.isnan(figures["edge_sser_stress_rolling:desk"])
    assert all(figures[f"edge_sser_level:desk:{level.value}"] == 0 for level in Level)


def test_latency_is_a_histogram_in_seconds_of_live_windows(sink: MetricsSink) -> None:
    emit(sink, READING, replace(READING, latency_ms=30.0), replace(READING, latency_ms=None))
    figures = scrape(sink)
    assert figures["edge_sser_hop_latency_seconds_count:desk"] == 2
    assert figures["edge_sser_hop_latency_seconds_sum:desk"] == pytest.approx(0.034)
    assert figures["edge_sser_hop_latency_seconds_bucket:desk:0.002"] == 0
    assert figures["edge_sser_hop_latency_seconds_bucket:desk:0.005"] == 1
    assert figures["edge_sser_hop_latency_seconds_bucket:desk:0.05"] == 2


def test_lost_audio_adds_up(sink: MetricsSink) -> None:
    emit(sink, replace(READING, dropped_s=0.5), READING, replace(READING, dropped_s=0.25))
    assert scrape(sink)["edge_sser_dropped_audio_seconds_total:desk"] == 0.75


def test_overruns_are_counted_on_when_a_source_is_opened_anew(sink: MetricsSink) -> None:
    emit(sink, *(replace(HEALTH, overruns=count) for count in (2, 3, 0, 1)))
    assert scrape(sink)["edge_sser_overruns_total:desk"] == 4


@pytest.mark.parametrize("state", list(HealthState))
def test_the_state_of_a_device_is_one_of_all(sink: MetricsSink, state: HealthState) -> None:
    emit(sink, HEALTH, replace(HEALTH, state=state))
    figures = scrape(sink)
    assert {each: figures[f"edge_sser_device_state:desk:{each.value}"] for each in HealthState} == {
        each: float(each is state) for each in HealthState
    }


def test_figures_of_a_device_that_is_gone_do_not_stay(sink: MetricsSink) -> None:
    emit(sink, READING, replace(HEALTH, state=HealthState.MISSING))
    figures = scrape(sink)
    assert math.isnan(figures["edge_sser_stress:desk"])
    assert math.isnan(figures["edge_sser_loudness_dbfs:desk"])


def test_sources_have_figures_of_their_own(sink: MetricsSink) -> None:
    emit(sink, READING, replace(READING, source="door", stress=0.1))
    figures = scrape(sink)
    assert (figures["edge_sser_stress:desk"], figures["edge_sser_stress:door"]) == (0.62, 0.1)


def test_what_runs_and_whether_it_listens(sink: MetricsSink) -> None:
    emit(sink, STATUS, EPISODE, replace(STATUS, model="other@00000000"))
    figures = scrape(sink)
    assert f"edge_sser_info:{MODEL}:CPU:0.1.0" not in figures
    assert figures["edge_sser_info:other@00000000:CPU:0.1.0"] == 1
    assert figures["edge_sser_listening"] == 1
    sink.watch_listening(lambda: False)
    assert scrape(sink)["edge_sser_listening"] == 0


def test_the_outbox_and_reconnects_are_asked_for_at_each_scrape(sink: MetricsSink) -> None:
    assert not any("outbox" in name for name in scrape(sink))
    reports = iter([
        MqttReport(link=LinkState.UNREACHABLE),
        MqttReport(link=LinkState.CONNECTED, connections=3, outbox_depth=7, lost=2, readings_dropped=11),
    ])  # fmt: skip
    sink.watch_mqtt(lambda: next(reports))
    before, after = scrape(sink), scrape(sink)
    assert (before["edge_sser_mqtt_connected"], before["edge_sser_mqtt_reconnects_total"]) == (0, 0)
    assert (after["edge_sser_mqtt_connected"], after["edge_sser_mqtt_reconnects_total"]) == (1, 2)
    assert after["edge_sser_outbox_depth"] == 7
    assert after["edge_sser_outbox_lost"] == 2
    assert after["edge_sser_readings_dropped_total"] == 11


def test_a_real_outbox_that_fills_is_seen(sink: MetricsSink, tmp_path: Path) -> None:
    with socket.socket() as nobody:  # bound, but not listening: whoever connects is refused
        nobody.bind(("127.0.0.1", 0))
        settings = MqttSettings(url=f"mqtt://127.0.0.1:{nobody.getsockname()[1]}")
        mqtt = MqttSink(settings, node="cab", status=STATUS, sources=["desk"], directory=tmp_path)
        try:
            sink.watch_mqtt(lambda: mqtt.report)
            emit(mqtt, EPISODE)
        finally:
            mqtt.close()
        assert scrape(sink)["edge_sser_outbox_depth"] == 1


def test_a_second_sink_in_one_process_shares_nothing(sink: MetricsSink) -> None:
    emit(sink, READING)
    other = MetricsSink(address="127.0.0.1", port=0)
    try:
        assert "edge_sser_windows_total:desk" not in scrape(other)
    finally:
        other.close()


def test_it_listens_on_loopback_only(sink: MetricsSink) -> None:
    with socket.socket() as other:
        # The same port is free on another address: it is not taken on all of them.
        other.bind(("127.0.0.2", sink.port))
    for address in ("0.0.0.0", "192.168.1.5", "localhost", "::"):
        with pytest.raises(ValidationError, match=r"127\.0\.0\.1 or ::1"):
            MetricsSettings(address=address)


def test_a_taken_port_is_named_with_the_key_to_change(sink: MetricsSink) -> None:
    with pytest.raises(SinkError, match=rf"127\.0\.0\.1:{sink.port}: .*metrics\.port"):
        MetricsSink(address="127.0.0.1", port=sink.port)


def test_a_missing_package_is_one_line_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingComponentError, match=r"edge-sser\[metrics\]"):
        MetricsSink(address="127.0.0.1", port=0)


def test_after_closing_nothing_answers_and_nothing_is_taken() -> None:
    sink = MetricsSink(address="127.0.0.1", port=0)
    sink.close()
    sink.close()
    with pytest.raises(urllib.error.URLError):
        scrape(sink)
    with pytest.raises(SinkError, match="closed"):
        emit(sink, READING)


def open_sockets() -> int:
    names = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            names.append(os.readlink(f"/proc/self/fd/{name}"))
    return sum(name.startswith("socket:") for name in names)


def test_idle_connections_take_few_files_and_keep_nobody_out(sink: MetricsSink) -> None:
    emit(sink, READING)
    before = open_sockets()
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(socket.create_connection(("127.0.0.1", sink.port)))
        assert scrape(sink)["edge_sser_windows_total:desk"] == 1
        eventually(lambda: open_sockets() <= before + 200 + 8, "eight of ours at most, beside the 200 of the client")


def test_a_connection_that_takes_its_time_is_ended(sink: MetricsSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_sser.sinks.metrics_server.MAX_SECONDS", 0.5)
    with socket.create_connection(("127.0.0.1", sink.port)) as slow:
        slow.settimeout(30)
        ended = False
        for _ in range(300):  # a byte now and then, which no timeout of a single read would notice
            try:
                slow.sendall(b"G")
                slow.settimeout(0.1)
                ended = slow.recv(1) == b""
            except TimeoutError:
                continue
            except OSError:
                ended = True
            if ended:
                break
        assert ended


def test_of_a_huge_request_little_is_read(sink: MetricsSink, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_connection(("127.0.0.1", sink.port)) as client:
        client.settimeout(30)
        with contextlib.suppress(OSError):
            client.sendall(b"GET /metrics HTTP/1.0\r\n")
            for number in range(100):
                client.sendall(b"X-%d: " % number + b"x" * 60_000 + b"\r\n")
            client.sendall(b"\r\n")
    reader = _Limited(io.BytesIO(b"x" * 1_000_000))
    assert sum(len(reader.readline(65_537)) for _ in range(200)) == MAX_REQUEST_BYTES
    emit(sink, READING)
    assert scrape(sink)["edge_sser_windows_total:desk"] == 1
    assert capfd.readouterr().err == ""


def test_figures_of_a_paused_source_are_unknown(sink: MetricsSink) -> None:
    emit(sink, READING)
    emit(sink, replace(HEALTH, state=HealthState.PAUSED))
    figures = scrape(sink)
    for name in ("stress", "stress_rolling", "loudness_dbfs", "speech_ratio"):
        assert math.isnan(figures[f"edge_sser_{name}:desk"]), name
    assert all(math.isnan(figures[f"edge_sser_level:desk:{level.value}"]) for level in Level)


def answer(sink: MetricsSink, token: str | None = None, *, ca: Path | None = None) -> int:
    """Status of a scrape."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"http{'s' if ca else ''}://127.0.0.1:{sink.port}/metrics", headers=headers)
    context = ssl.create_default_context(cafile=ca) if ca else None
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture
def open_sink() -> Iterator[Callable[..., MetricsSink]]:
    sinks = []

    def open_sink(**settings: object) -> MetricsSink:
        sinks.append(MetricsSink.of_settings(MetricsSettings(port=free_port(), **settings)))  # type: ignore[arg-type]
        return sinks[-1]

    yield open_sink
    for sink in sinks:
        sink.close()


def test_only_a_scrape_with_the_token_of_the_file_is_answered(
    open_sink: Callable[..., MetricsSink], tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("tökén-1\n")
    sink = open_sink(address="0.0.0.0", token_file=token)
    assert [answer(sink), answer(sink, ""), answer(sink, "tok"), answer(sink, "token-1")] == [401] * 4
    token.write_text("token-2\n")  # changed without a restart
    assert [answer(sink, "token-1"), answer(sink, "token-2")] == [401, 200]
    token.unlink()
    assert [answer(sink, "token-2"), answer(sink, "")] == [401, 401]


def test_https_with_a_certificate_of_ones_own(
    open_sink: Callable[..., MetricsSink], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path / "ca")
    cert, key = authority.issue("metrics")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "metrics-token").write_text("secret")
    sink = open_sink(token_file="metrics-token", cert_file=cert, key_file=key)
    with contextlib.ExitStack() as stack:
        for _ in range(20):  # clients that never begin the handshake
            stack.enter_context(socket.create_connection(("127.0.0.1", sink.port)))
        assert answer(sink, "secret", ca=authority.ca) == 200
    assert answer(sink, "wrong", ca=authority.ca) == 401
    with pytest.raises((OSError, http.client.HTTPException)):
        answer(sink, "secret")  # in clear
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        answer(sink, "secret", ca=Authority(tmp_path / "other").ca)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"address": "0.0.0.0"}, "127.0.0.1 or ::1 without token_file"),
        ({"address": "192.168.1.2"}, "127.0.0.1 or ::1 without token_file"),
        ({"address": "localhost"}, "an IP address, as 127.0.0.1 or ::1"),
        ({"cert_file": "/a"}, "go together"),
    ],
)
def test_an_open_door_is_refused(settings: dict[str, str], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        MetricsSettings(**settings)  # type: ignore[arg-type]


def test_a_token_or_certificate_that_cannot_be_read_is_named(
    open_sink: Callable[..., MetricsSink], tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=r"metrics\.token_file /no/such cannot be read"):
        open_sink(token_file="/no/such")
    (tmp_path / "a").write_text("nothing")
    with pytest.raises(SettingsError, match="must be a PEM certificate"):
        open_sink(cert_file=tmp_path / "a", key_file=tmp_path / "a")
