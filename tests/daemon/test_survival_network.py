"""The network and another client of the broker misbehave: the daemon goes on listening, and all it promised arrives."""

from __future__ import annotations

import array
import fcntl
import socket
import termios

import paho.mqtt.client as paho
from half_cable import Break, HalfCable
from mqtt_rig import eventually, gaps
from stressed_speech import EPISODE_TOPIC as TOPIC
from stressed_speech import feed_episodes, write_settings

CUTS = 10


def test_connections_that_are_reset_in_the_middle_of_a_publish_lose_nothing(
    start, broker, start_subscriber, sharp_model, tmp_path
):
    subscriber = start_subscriber(broker.port, TOPIC)
    cable = HalfCable(broker.port)
    config = write_settings(tmp_path / "config.toml", url=f"mqtt://127.0.0.1:{cable.port}")
    daemon = start("--config", config, "--model", sharp_model, fed=True)
    for number in range(CUTS):
        cable.break_next(Break.RESET)
        feed_episodes(daemon, 1)
        eventually(lambda number=number: cable.breaks == number + 1, "a connection is reset")
    eventually(lambda: subscriber.payloads(TOPIC) == daemon.episode_lines(), "all arrives, in order")
    assert cable.connections > CUTS
    assert daemon.stop() == 0
    assert gaps(subscriber.received) == []
    cable.close()


def test_a_network_that_falls_silent_in_the_middle_of_a_publish_delays_no_reading_and_loses_nothing(
    start, broker, start_subscriber, sharp_model, tmp_path
):
    subscriber = start_subscriber(broker.port, TOPIC)
    cable = HalfCable(broker.port)
    url = f"mqtt://127.0.0.1:{cable.port}"
    config = write_settings(tmp_path / "config.toml", url=url, keepalive_seconds=5)
    daemon = start("--config", config, "--model", sharp_model, fed=True)
    feed_episodes(daemon, 1)
    eventually(lambda: subscriber.payloads(TOPIC) == daemon.episode_lines(), "all is well at first")
    cable.break_next(Break.HOLE)
    feed_episodes(daemon, 1)
    eventually(lambda: cable.breaks == 1, "a publish is half sent")
    feed_episodes(daemon, 20)
    assert len(subscriber.payloads(TOPIC)) < len(daemon.episode_lines())
    assert cable.connections == 1
    eventually(lambda: subscriber.payloads(TOPIC) == daemon.episode_lines(), "all arrives, in order")
    assert cable.connections == 2
    lost, back = [line for line in daemon.log if "MQTT" in line]
    assert "connection lost" in lost
    assert back == f"edge-sser: MQTT broker 127.0.0.1:{cable.port}: connected (MQTT 5)"
    assert daemon.stop() == 0
    assert gaps(subscriber.received) == []
    cable.close()


def test_a_subscriber_that_stops_reading_delays_no_other(start, start_broker, start_subscriber, sharp_model, tmp_path):
    broker = start_broker("allow_anonymous true", "max_queued_messages 50")
    idle = paho.Client(paho.CallbackAPIVersion.VERSION2, "idle")
    subscribed: list[bool] = []
    idle.on_socket_open = lambda _client, _data, sock: sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    idle.on_subscribe = lambda *_: subscribed.append(True)
    idle.on_connect = lambda *_: idle.subscribe("edge-sser/#", qos=1)
    idle.connect("127.0.0.1", broker.port, keepalive=3600)
    eventually(lambda: idle.loop(0.1) == 0 and subscribed, "it subscribes, and never reads again")

    subscriber = start_subscriber(broker.port, TOPIC)
    config = write_settings(tmp_path / "config.toml", url=f"mqtt://127.0.0.1:{broker.port}")
    daemon = start("--config", config, "--model", sharp_model, fed=True)
    feed_episodes(daemon, 40)
    eventually(lambda: subscriber.payloads(TOPIC) == daemon.episode_lines(), "who reads gets all, in order")
    assert daemon.stop() == 0
    assert [line for line in daemon.log if "is stalled: no audio" not in line] == []  # it waits for the slow machine
    assert gaps(subscriber.received) == []
    unread = array.array("i", [0])
    fcntl.ioctl(idle.socket().fileno(), termios.FIONREAD, unread)
    assert unread[0] > 0
    assert "messages are being dropped for client idle" in broker.log_text()
    idle.socket().close()
