"""Several hundred nodes in one process, stepped by one thread.

A device has two threads and a database. A thousand of these, or of paho-mqtt's own threads, would measure how this
machine changes between threads, and not the broker. So `poll` tells one thread which connections have something to
read, and a heap what is due next; the only other threads wait for TCP connections to come about.
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

OPENERS = 16  # threads that wait for TCP
TICK_SECONDS = 0.005  # what is due within one goes out together
LOOK_AFTER_SECONDS = 1.0  # between two looks at a connection's keepalive
EPISODE_SECONDS = 60.0  # from the start of one to the start of the next
# An episode of 25 s that is told every 10 s as it goes on: four messages a minute.
EPISODE_PHASES = ((0.0, Phase.START), (10.0, Phase.UPDATE), (20.0, Phase.UPDATE), (25.0, Phase.END))
HEALTH_SECONDS = 300.0  # mean time between two changes of a microphone's state

Action = Callable[[Node, float], None]


def run_nodes(plan: FleetPlan, pipe: Pipe) -> None:
    """Sends the time when all is prepared, begins when the pipe says so, and answers with a FleetLog at the next word.

    In between it sends the time, in monotonic seconds, whenever the last of its nodes has come up and next to nothing
    waits for the broker.
    """
    gc.disable()  # its pauses would be measured as latency
    FleetProcess(plan).run(pipe)


class FleetProcess:
    """The nodes, and the thread that steps them."""

    def __init__(self, plan: FleetPlan) -> None:
        self._plan = plan
        self._log = FleetLog()
        self._nodes = [Node(plan.first + index, plan, self._log) for index in range(plan.count)]
        self._chance = random.Random(plan.seed + plan.first)
        self._due: list[tuple[float, int, Action, Node]] = []
        self._order = 0
        self._up = 0
        self._sockets = _Sockets()
        self._opened: SimpleQueue[tuple[Node, Future[Connection]]] = SimpleQueue()
        self._openers = ThreadPoolExecutor(OPENERS)

    def run(self, pipe: Pipe) -> None:
        """See `run_nodes`."""
        for node in self._nodes:
            for index in range(self._plan.backlog):
                offset_s, phase = EPISODE_PHASES[index % len(EPISODE_PHASES)]
                node.tell_episode(phase, offset_s)
        pipe.send(time.monotonic())
        pipe.recv()
        begin = time.monotonic()
        for node in self._nodes:
            self._at(begin + self._plan.ramp_seconds * node.number / self._plan.total, self._open, node)
            self._at(begin + self._chance.random() * LOOK_AFTER_SECONDS, self._look_after, node)
            self._schedule_events(begin + self._plan.ramp_seconds, node)
        complete = False
        while not pipe.poll():
            self._turn()
            if self._up < len(self._nodes):
                complete = False
            elif not complete and self._log.waiting <= len(self._nodes) / 10:
                complete = True
                pipe.send(time.monotonic())
        self._openers.shutdown(cancel_futures=True)
        for node in self._nodes:
            node.close()
        self._log.cpu_seconds = time.process_time()
        pipe.send(self._log)

    def _turn(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            when, _, action, node = heapq.heappop(self._due)
            action(node, when)
        while True:
            try:
                node, opened = self._opened.get_nowait()
            except Empty:
                break
            self._take(node, opened)
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

    def _take(self, node: Node, opened: Future[Connection]) -> None:
        try:
            connection = opened.result()
        except OSError:
            self._try_again(node, 0.0)
            return
        node.take(connection, time.monotonic())
        self._sockets.watch(node, connection)

    def _step(self, node: Node) -> None:
        if node.connection is None:
            return
        connection, was_up = node.connection, node.up
        held = node.step(time.monotonic())
        self._up += node.up - was_up
        if held is None:
            self._sockets.watch(node, connection)
        else:
            self._sockets.forget(node)
            self._try_again(node, held)

    def _try_again(self, node: Node, held_seconds: float) -> None:
        self._at(time.monotonic() + node.wait_seconds(held_seconds), self._open, node)

    def _look_after(self, node: Node, when: float) -> None:
        self._step(node)
        self._at(when + LOOK_AFTER_SECONDS, self._look_after, node)

    # ---- events

    def _schedule_events(self, begin: float, node: Node) -> None:
        """Every node starts at a moment of its own, as devices do."""
        self._at(begin + self._chance.random() / self._plan.readings_hz, self._read, node)
        self._at(begin + self._chance.expovariate(1.0 / HEALTH_SECONDS), self._change_health, node)
        episode = begin + self._chance.uniform(0.0, EPISODE_SECONDS)
        for offset_s, phase in EPISODE_PHASES:
            self._at(episode + offset_s, partial(self._tell_episode, phase, offset_s), node)

    def _read(self, node: Node, when: float) -> None:
        node.read()
        self._at(when + 1.0 / self._plan.readings_hz, self._read, node)

    def _tell_episode(self, phase: Phase, offset_s: float, node: Node, when: float) -> None:
        node.tell_episode(phase, offset_s)
        self._at(when + EPISODE_SECONDS, partial(self._tell_episode, phase, offset_s), node)

    def _change_health(self, node: Node, when: float) -> None:
        node.change_health()
        self._at(when + self._chance.expovariate(1.0 / HEALTH_SECONDS), self._change_health, node)


class _Sockets:
    """Which node's socket can be read. `Connection.register` takes it for a poller."""

    def __init__(self) -> None:
        self._poller = select.poll()
        self._nodes: dict[int, Node] = {}
        self._known: dict[int, tuple[int, int]] = {}  # node number -> descriptor and what is waited for
        self._asked = (-1, 0)

    def watch(self, node: Node, connection: Connection) -> None:
        """Waits for a connection: for room to write, too, while it has something to write."""
        connection.register(self)
        if self._known.get(node.number) != self._asked:
            self._known[node.number] = self._asked
            self._nodes[self._asked[0]] = node
            self._poller.register(*self._asked)

    def register(self, sock: Any, mask: int) -> None:
        """Called back by the connection."""
        self._asked = (sock.fileno(), mask)

    def forget(self, node: Node) -> None:
        """The node's socket is closed."""
        descriptor, _ = self._known.pop(node.number)
        del self._nodes[descriptor]
        self._poller.unregister(descriptor)

    def readable(self, timeout_seconds: float) -> list[Node]:
        """The nodes whose socket has something, at most `timeout_seconds` from now."""
        return [self._nodes[descriptor] for descriptor, _ in self._poller.poll(timeout_seconds * 1000)]
