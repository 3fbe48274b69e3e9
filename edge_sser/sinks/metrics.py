"""Figures for Prometheus over HTTP, on this machine only or with a token.

The sink updates its metrics with every event. Figures that no event carries come from a callback at each scrape (outbox
and connection) or from `watch_listening`. Names and units follow Prometheus's conventions; an unknown value is NaN.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Final, cast

from edge_sser.credentials import read_secret, server_context
from edge_sser.errors import SinkError, missing_extra
from edge_sser.events import NO_AUDIO, Event, Health, HealthState, Level, Reading, Status
from edge_sser.settings.sinks import MetricsSettings
from edge_sser.sinks.base import Sink
from edge_sser.sinks.metrics_server import MetricsServer, guarded

if TYPE_CHECKING:
    import ssl

    import prometheus_client
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import Collector

    from edge_sser.sinks.mqtt.diagnosis import MqttReport

# Upper bounds of the histogram, seconds: a hop costs about a millisecond, and must not take as long as it lasts.
LATENCY_BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class MetricsSink(Sink):
    """The HTTP endpoint and its metrics, with a registry of its own.

    Args:
        address: IP address.
        port: 0 takes a free one.
        token: returns the bearer token that a scrape must carry; None to let every scrape in.
        tls: makes it HTTPS.
        clock: seconds on a clock that never goes back.

    Attributes:
        port: TCP port of the endpoint.

    Raises:
        MissingComponentError: prometheus_client is not installed.
        SinkError: the port cannot be opened.
    """

    def __init__(
        self,
        *,
        address: str,
        port: int,
        token: Callable[[], str] | None = None,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        try:
            import prometheus_client as prometheus
        except ModuleNotFoundError:
            raise missing_extra("prometheus_client", "metrics", "The metrics endpoint") from None
        self._registry = registry = prometheus.CollectorRegistry()
        self._metrics = _EventMetrics(registry, clock)
        try:
            application = prometheus.make_wsgi_app(registry)
            application = application if token is None else guarded(application, token)
            self._server = MetricsServer(address, port, application, tls)
        except OSError as error:
            raise SinkError(
                f"metrics cannot be served on {address}:{port}: {error.strerror or error}: "
                "set metrics.port to a free one"
            ) from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="edge-sser-metrics", daemon=True)
        self._thread.start()
        self.port: int = self._server.server_port
        self._closed = False

    @classmethod
    def of_settings(cls, settings: MetricsSettings) -> MetricsSink:
        """Opens the endpoint of the settings; errors as for the constructor.

        Raises:
            SettingsError: the token, certificate or key cannot be used.
        """
        token = None
        if settings.token_file is not None:
            token = partial(read_secret, settings.token_file, "metrics.token_file")
            token()
        tls = None
        if settings.cert_file is not None and settings.key_file is not None:
            tls = server_context("metrics", settings.cert_file, settings.key_file)
        return cls(address=settings.address, port=settings.port, token=token, tls=tls)

    def watch_mqtt(self, report: Callable[[], MqttReport | None]) -> None:
        """Sets the callback for the figures of outbox and connection. To be called once.

        Args:
            report: called in a thread of the server for every scrape, for example `lambda: sink.report`. Returns
                None while there is no MQTT sink.
        """
        self._registry.register(cast("Collector", _MqttCollector(report)))

    def watch_listening(self, listening: Callable[[], bool]) -> None:
        """Sets the callback for the gauge of listening; called in a thread of the server for every scrape."""
        self._metrics.listening.set_function(listening)

    def emit(self, event: Event, line: bytes) -> None:
        """Updates the metrics with an event.

        Raises:
            SinkError: the sink is closed.
        """
        if self._closed:
            raise SinkError("the metrics endpoint is closed")
        self._metrics.update(event)

    def close(self) -> None:
        """Stops serving. Safe to call twice."""
        if not self._closed:
            self._closed = True
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()


class _EventMetrics:
    """Metrics that events carry."""

    def __init__(self, registry: prometheus_client.CollectorRegistry, clock: Callable[[], float]) -> None:
        import prometheus_client as prometheus

        def gauge(name: str, text: str, *labels: str) -> prometheus.Gauge:
            return prometheus.Gauge(f"edge_sser_{name}", text, labels, registry=registry)

        def counter(name: str, text: str, *labels: str) -> prometheus.Counter:
            return prometheus.Counter(f"edge_sser_{name}", text, labels, registry=registry)

        self._windows = counter("windows", "Windows, one a hop", "source")
        self._scored = counter("windows_scored", "Windows with enough speech to be scored", "source")
        self._dropped = counter("dropped_audio_seconds", "Audio lost, up to the last reading", "source")
        self._overruns = counter("overruns", "Losses that the device reported", "source")
        self._speech = gauge("speech_ratio", "Share of the last window that is speech, 0 to 1", "source")
        self._stress = gauge("stress", "Stress of the last window, 0 to 1; NaN without speech", "source")
        self._rolling = gauge("stress_rolling", "Stress over recent speech, 0 to 1; NaN before any", "source")
        self._loudness = gauge("loudness_dbfs", "Sound level of the last window, dB re full scale", "source")
        self._age = gauge("reading_age_seconds", "Since the last reading came", "source")
        self._level = gauge("level", "1 for the level in force, 0 for the others", "source", "level")
        self._state = gauge("device_state", "1 for the state of the source, 0 for the others", "source", "state")
        self._latency = prometheus.Histogram(
            "edge_sser_hop_latency_seconds",
            "From the last sample of a window to its reading",
            ["source"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self._info = gauge("info", "Always 1; the program and its model", "version", "model", "provider")
        self.listening = gauge("listening", "1 while listening, 0 while paused by a command or a key")
        self.listening.set(1)
        self._overruns_before: dict[str, int] = {}
        self._clock = clock
        self._read_at: dict[str, float] = {}  # time of the last reading, by source

    def update(self, event: Event) -> None:
        if isinstance(event, Reading):
            self._update_reading(event)
        elif isinstance(event, Health):
            self._update_health(event)
        elif isinstance(event, Status):
            self._info.clear()
            self._info.labels(event.version, event.model, event.provider).set(1)

    def _update_reading(self, reading: Reading) -> None:
        source = reading.source
        if source not in self._read_at:
            self._age.labels(source).set_function(partial(self._reading_age, source))
        self._read_at[source] = self._clock()
        self._windows.labels(source).inc()
        self._scored.labels(source).inc(reading.stress is not None)
        self._dropped.labels(source).inc(reading.dropped_s)
        self._speech.labels(source).set(reading.speech_ratio)
        self._stress.labels(source).set(_number(reading.stress))
        self._rolling.labels(source).set(_number(reading.stress_rolling))
        self._loudness.labels(source).set(reading.dbfs)
        for level in Level:
            self._level.labels(source, level.value).set(level is reading.level)
        if reading.latency_ms is not None:
            self._latency.labels(source).observe(reading.latency_ms / 1e3)

    def _reading_age(self, source: str) -> float:
        return self._clock() - self._read_at[source]

    def _update_health(self, health: Health) -> None:
        source = health.source
        for state in HealthState:
            self._state.labels(source, state.value).set(state is health.state)
        before = self._overruns_before.get(source, 0)
        # A source that was opened again counts from 0.
        self._overruns.labels(source).inc(health.overruns - before if health.overruns >= before else health.overruns)
        self._overruns_before[source] = health.overruns
        if health.state in NO_AUDIO:  # the figures of the last window are out of date
            for stale in (self._speech, self._stress, self._rolling, self._loudness):
                stale.labels(source).set(math.nan)
            for level in Level:
                self._level.labels(source, level.value).set(math.nan)


class _MqttCollector:
    """Metrics of the MQTT sink, collected at each scrape."""

    def __init__(self, report: Callable[[], MqttReport | None]) -> None:
        self._report = report

    def collect(self) -> Iterable[Metric]:
        """Yields the metrics; called by the registry."""
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

        from edge_sser.sinks.mqtt.diagnosis import LinkState

        report = self._report()
        if report is None:
            return
        connected = report.link is LinkState.CONNECTED
        reconnects = max(0, report.connections - 1)
        yield GaugeMetricFamily("edge_sser_mqtt_connected", "1 while the broker is connected", connected)
        yield CounterMetricFamily("edge_sser_mqtt_reconnects", "Connections after the first", reconnects)
        yield GaugeMetricFamily("edge_sser_outbox_depth", "Events that wait for the broker", report.outbox_depth)
        yield GaugeMetricFamily("edge_sser_outbox_bytes", "Size of the events in the outbox", report.outbox_bytes)
        yield GaugeMetricFamily("edge_sser_outbox_lost", "Events lost since the outbox was created", report.lost)
        yield CounterMetricFamily(
            "edge_sser_readings_dropped", "Readings that came without a connection", report.readings_dropped
        )


def _number(value: float | None) -> float:
    return math.nan if value is None else value
