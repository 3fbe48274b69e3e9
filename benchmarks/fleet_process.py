"""Process of several hundred nodes, stepped by one thread.

A device has two threads and a database. A thousand of these, or of paho-mqtt's own threads, would measure the thread
switches of this machine, and not the broker. So one thread polls all sockets, and takes due actions from a heap; the
only other threads open TCP connections.
"""

from __future__ import annotations

import gc
import heapq
import random
import select
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import Connection as Pipe
from queue import Empty, SimpleQueue
from typing import Any

from fleet_node import Node
from fleet_plan import FleetLog, FleetPlan

from edge_sser.events import Phase
from edge_sser.sinks.mqtt.connection import Connection

OPENERS = 16  # threads that open TCP connections
TICK_SECONDS = 0.005  # actions that are due within a tick run together
KEEPALIVE_CHECK_SECONDS = 1.0  # between two checks of a connection's keepalive
EPISODE_SECONDS = 60.0  # from the start of one to the start of the next
# An episode of 25 s with an update every 10 s: four messages a minute.
EPISODE_PHASES = ((0.0, Phase.START), (10.0, Phase.UPDATE), (20.0, Phase.UPDATE), (25.0, Phase.END))
HEALTH_SECONDS = 300.0  # mean time between two changes of a microphone's state

Action = Callable[[Node, float], None]


def run_nodes(plan: FleetPlan, pipe: Pipe) -> None:
    """Runs nodes. Sends the time when prepared, begins at the first message, and sends a FleetLog at the second.

    In between, it sends the time, monotonic seconds, whenever all of its nodes are connected and almost no message
    waits for the broker.
    """
    gc.disable()  # pauses of the garbage collector would count as latency
    FleetProcess(plan).run(pipe)


class FleetProcess:
    """Nodes, and the loop that steps them."""

    def __init__(self, plan: FleetPlan) -> None:
        self._plan = plan
        self._log = FleetLog()
        self._nodes = [Node(plan.first + index, plan, self._log) for index in range(plan.count)]
        self._random = random.Random(plan.seed + plan.first)
        self._due: list[tuple[float, int, Action, Node]] = []
        self._order = 0
        self._connected = 0
        self._sockets = _Sockets()
        self._opened: SimpleQueue[tuple[Node, Future[Connection]]] = SimpleQueue()
        self._openers = ThreadPoolExecutor(OPENERS)

    def run(self, pipe: Pipe) -> None:
        """Runs the loop, as `run_nodes` says."""
        for node in self._nodes:
            for index in range(self._plan.backlog):
                offset_s, phase = EPISODE_PHASES[index % len(EPISODE_PHASES)]
                node.publish_episode(phase, offset_s)
        pipe.send(time.monotonic())
        pipe.recv()
        begin = time.monotonic()
        for node in self._nodes:
            self._at(begin + self._plan.ramp_seconds * node.number / self._plan.total, self._open, node)
            self._at(begin + self._random.random() * KEEPALIVE_CHECK_SECONDS, self._check_keepalive, node)
            self._schedule_events(begin + self._plan.ramp_seconds, node)
        complete = False
        while not pipe.poll():
            self._step_all()
            if self._connected < len(self._nodes):
                complete = False
            elif not complete and self._log.waiting <= len(self._nodes) / 10:
                complete = True
                pipe.send(time.monotonic())
        self._openers.shutdown(cancel_futures=True)
        for node in self._nodes:
            node.close()
        self._log.cpu_seconds = time.process_time()
        pipe.send(self._log)

    def _step_all(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            when, _, action, node = heapq.heappop(self._due)
            action(node, when)
        while True:
            try:
                node, opened = self._opened.get_nowait()
            except Empty:
                break
            self._attach(node, opened)
        for node in self._sockets.readable(TICK_SECONDS):
            self._step(node)

    def _at(self, when: float, action: Action, node: Node) -> None:
        self._order += 1  # so that the heap never compares actions
        heapq.heappush(self._due, (when, self._order, action, node))

    # ---- connections

    def _open(self, node: Node, _when: float) -> None:
        self._log.attempts.append(time.monotonic())
        future = self._openers.submit(node.open)
        future.add_done_callback(lambda done: self._opened.put((node, done)))

    def _attach(self, node: Node, opened: Future[Connection]) -> None:
        try:
            connection = opened.result()
        except OSError:
            self._schedule_retry(node, 0.0)
            return
        node.attach(connection, time.monotonic())
        self._sockets.watch(node, connection)

    def _step(self, node: Node) -> None:
        if node.connection is None:
            return
        connection, was_connected = node.connection, node.connected
        duration = node.step(time.monotonic())
        self._connected += node.connected - was_connected
        if duration is None:
            self._sockets.watch(node, connection)
        else:
            self._sockets.forget(node)
            self._schedule_retry(node, duration)

    def _schedule_retry(self, node: Node, connected_seconds: float) -> None:
        self._at(time.monotonic() + node.wait_seconds(connected_seconds), self._open, node)

    def _check_keepalive(self, node: Node, when: float) -> None:
        self._step(node)
        self._at(when + KEEPALIVE_CHECK_SECONDS, self._check_keepalive, node)

    # ---- events

    def _schedule_events(self, begin: float, node: Node) -> None:
        """Schedules the events of a node from a random time on, as devices start at different times."""
        self._at(begin + self._random.random() / self._plan.readings_hz, self._read, node)
        self._at(begin + self._random.expovariate(1.0 / HEALTH_SECONDS), self._toggle_health, node)
        episode = begin + self._random.uniform(0.0, EPISODE_SECONDS)
        for offset_s, phase in EPISODE_PHASES:
            self._at(episode + offset_s, partial(self._publish_episode, phase, offset_s), node)

    def _read(self, node: Node, when: float) -> None:
        node.publish_reading()
        self._at(when + 1.0 / self._plan.readings_hz, self._read, node)

    def _publish_episode(self, phase: Phase, offset_s: float, node: Node, when: float) -> None:
        node.publish_episode(phase, offset_s)
        self._at(when + EPISODE_SECONDS, partial(self._publish_episode, phase, offset_s), node)

    def _toggle_health(self, node: Node, when: float) -> None:
        node.toggle_health()
        self._at(when + self._random.expovariate(1.0 / HEALTH_SECONDS), self._toggle_health, node)


class _Sockets:
    """Poller of the nodes' sockets, with the method that `Connection.register` calls."""

    def __init__(self) -> None:
        self._poller = select.poll()
        self._nodes: dict[int, Node] = {}
        self._known: dict[int, tuple[int, int]] = {}  # node number -> descriptor and event mask
        self._registration = (-1, 0)

    def watch(self, node: Node, connection: Connection) -> None:
        """Polls a connection for reading, and for writing while it has data to write."""
        connection.register(self)
        if self._known.get(node.number) != self._registration:
            self._known[node.number] = self._registration
            self._nodes[self._registration[0]] = node
            self._poller.register(*self._registration)

    def register(self, sock: Any, mask: int) -> None:
        """Takes the socket and event mask of a connection; called by the connection."""
        self._registration = (sock.fileno(), mask)

    def forget(self, node: Node) -> None:
        """Stops polling a node whose socket is closed."""
        descriptor, _ = self._known.pop(node.number)
        del self._nodes[descriptor]
        self._poller.unregister(descriptor)

    def readable(self, timeout_seconds: float) -> list[Node]:
        """Returns the nodes with a ready socket, after at most `timeout_seconds`."""
        return [self._nodes[descriptor] for descriptor, _ in self._poller.poll(timeout_seconds * 1000)]
