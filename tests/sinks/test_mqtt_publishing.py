"""Messages that a subscriber gets from a working broker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import paho.mqtt.client as paho
import pytest
from mqtt_rig import NODE, STATUS, Broker, Cable, Subscriber, emit, episode, eventually, gaps, health, reading

from edge_sser.errors import SinkError
from edge_sser.events import HealthState, Phase, StatusState, to_json
from edge_sser.sinks.mqtt.sink import LinkState, MqttSink

Start = Callable[..., MqttSink]
Subscribe = Callable[..., Subscriber]


def test_events_arrive_on_their_topics_as_the_bytes_of_standard_output(
    broker: Broker, start_subscriber: Subscribe, open_sink: Start
) -> None:
    subscriber = start_subscriber(broker.port)
    sink = open_sink(broker.port)
    eventually(lambda: sink.report.link is LinkState.CONNECTED, "connects")
    events = {
        f"edge-sser/{NODE}/desk/reading": reading(42),
        f"edge-sser/{NODE}/desk/episode": episode(1, Phase.START),
        f"edge-sser/{NODE}/desk/health": health(HealthState.SILENT, "no sound for 10 s: is it muted?"),
    }
    for event in events.values():
        emit(sink, event)
    for topic, event in events.items():
        (message,) = eventually(lambda topic=topic: subscriber.on(topic), topic)
        assert message.payload == to_json(event).encode()


def test_quality_of_service_and_retention_follow_the_contract(
    broker: Broker, start_subscriber: Subscribe, open_sink: Start
) -> None:
    early = start_subscriber(broker.port)
    sink = open_sink(broker.port)
    eventually(lambda: sink.report.link is LinkState.CONNECTED, "connects")
    for event in (reading(1), reading(2), episode(1), health()):
        emit(sink, event)
        eventually(lambda event=event: any(m.payload == to_json(event).encode() for m in early.received), "arrives")
    qos = {message.topic.rsplit("/", 1)[1]: message.qos for message in early.received}
    assert (qos["reading"], qos["episode"], qos["health"], qos["status"]) == (0, 1, 1, 1)
    late = start_subscriber(broker.port, "edge-sser/#")
    kept = {"status", "state", "reading", "health"}
    eventually(lambda: {message.topic.rsplit("/", 1)[1] for message in late.received} >= kept, "what is retained")
    assert {message.topic.rsplit("/", 1)[1] for message in late.received} == kept
    assert late.on(f"edge-sser/{NODE}/desk/reading")[0].payload == to_json(reading(2)).encode()


def test_status_is_online_then_stopped_and_offline_by_last_will(
    broker: Broker, start_subscriber: Subscribe, open_sink: Start
) -> None:
    subscriber = start_subscriber(broker.port)
    topic = f"edge-sser/{NODE}/status"

    def states() -> list[str]:
        return [message.json["state"] for message in subscriber.on(topic)]

    cable = Cable(broker.port)
    sink = open_sink(cable.port, retry_min_seconds=60, retry_max_seconds=60)
    eventually(lambda: states() == ["online"], "online")
    cable.cut()
    eventually(lambda: states() == ["online", "offline"], "offline by last will")
    sink.close()
    second = open_sink(broker.port)
    eventually(lambda: states()[2:] == ["online"], "online again")
    second.close()
    eventually(lambda: states()[3:] == ["stopped"], "stopped, and no last will after it")
    first = subscriber.on(topic)[0].json
    assert {**first, "ts": STATUS.ts} == {**subscriber.on(topic)[1].json, "ts": STATUS.ts, "state": "online"}
    cable.close()


def test_a_new_status_is_published_and_is_the_one_repeated_on_the_next_connection(
    broker: Broker, start_subscriber: Subscribe, open_sink: Start
) -> None:
    subscriber = start_subscriber(broker.port)
    cable = Cable(broker.port)
    sink = open_sink(cable.port)
    eventually(lambda: sink.report.link is LinkState.CONNECTED, "connects")
    emit(sink, replace(STATUS, model="sser-cnn@00000000"))
    topic = f"edge-sser/{NODE}/status"
    eventually(lambda: [m.json["model"] for m in subscriber.on(topic)][-1:] == ["sser-cnn@00000000"], "the new one")
    cable.cut()
    eventually(lambda: sink.report.connections == 2, "connects again")
    eventually(lambda: subscriber.on(topic)[-1].json["state"] == "online", "status once more")
    assert subscriber.on(topic)[-1].json["model"] == "sser-cnn@00000000"
    cable.close()


def test_numbers_count_the_messages_of_a_topic_across_restarts(
    broker: Broker, start_subscriber: Subscribe, open_sink: Start
) -> None:
    subscriber = start_subscriber(broker.port)
    for run in range(3):
        sink = open_sink(broker.port)
        emit(sink, episode(run, Phase.START))
        emit(sink, health())
        emit(sink, episode(run, Phase.END))
        eventually(lambda sink=sink: sink.report.stored == 3 and sink.report.outbox_depth == 0, "delivered")
        sink.close()
    eventually(lambda: len(subscriber.episodes()) == 6, "six episodes")
    assert [int(m.properties["seq"]) for m in subscriber.episodes()] == [1, 2, 3, 4, 5, 6]
    assert [int(m.properties["seq"]) for m in subscriber.on(f"edge-sser/{NODE}/desk/health")] == [1, 2, 3]
    assert len({m.properties["stream"] for m in subscriber.episodes()}) == 1


def test_episodes_of_many_sources_are_numbered_without_gaps(
    broker: Broker, start_subscriber: Subscribe, open_sink: Start
) -> None:
    subscriber = start_subscriber(broker.port)
    sink = open_sink(broker.port)
    for number in range(120):
        emit(sink, episode(number, source=f"mic{number % 3}"))
    eventually(lambda: len(subscriber.episodes()) == 120, "all of them")
    assert gaps(subscriber.episodes()) == []
    for source in ("mic0", "mic1", "mic2"):
        ids = [message.json["id"] for message in subscriber.on(f"edge-sser/{NODE}/{source}/episode")]
        assert ids == sorted(ids)


def test_a_broker_that_knows_only_3_1_1_is_spoken_to_in_3_1_1(
    broker: Broker, start_subscriber: Subscribe, open_sink: Start
) -> None:
    def old_broker(first: bytes) -> bytes | None:
        level = first[first.index(b"MQTT") + 4]
        return b"\x20\x02\x00\x01" if level == 5 else None  # unacceptable protocol version, in the words of 3.1.1

    subscriber = start_subscriber(broker.port, protocol=paho.MQTTv311)
    cable = Cable(broker.port, answer=old_broker)
    sink = open_sink(cable.port)
    emit(sink, episode(1))
    (message,) = eventually(subscriber.episodes, "arrives")
    assert message.payload == to_json(episode(1)).encode()
    assert sink.report.detail == "MQTT 3.1.1"
    eventually(lambda: sink.report.outbox_depth == 0, "acknowledged")
    cable.close()


@pytest.mark.parametrize("times", [4, 5])
def test_a_broker_that_hangs_up_is_no_reason_to_speak_3_1_1(broker: Broker, open_sink: Start, times: int) -> None:
    hang_ups = iter([b""] * times)
    cable = Cable(broker.port, answer=lambda _first: next(hang_ups, None))
    sink = open_sink(cable.port)
    eventually(lambda: sink.report.link is LinkState.CONNECTED, "connects")
    assert (sink.report.detail, cable.connections) == ("MQTT 5", times + 1)
    cable.close()


def test_closing_delivers_what_was_emitted_just_before(
    broker: Broker, start_subscriber: Subscribe, open_sink: Start
) -> None:
    subscriber = start_subscriber(broker.port)
    sink = open_sink(broker.port)
    eventually(lambda: sink.report.link is LinkState.CONNECTED, "connects")
    for number in range(50):
        emit(sink, episode(number))
    sink.close()
    eventually(lambda: len(subscriber.episodes()) == 50, "all fifty")
    assert sink.report.outbox_depth == 0
    status = f"edge-sser/{NODE}/status"
    eventually(lambda: subscriber.on(status)[-1].json["state"] == StatusState.STOPPED.value, "stopped")
    sink.close()
    with pytest.raises(SinkError, match="closed"):
        emit(sink, episode(51))
