"""The buffer between two threads: nothing disappears uncounted."""

from __future__ import annotations

import threading

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_sser.audio.buffer import AudioBuffer

POP = None


@given(
    capacity=st.integers(1, 60),
    actions=st.lists(st.one_of(st.integers(0, 100), st.just(POP)), max_size=60),
)
def test_pushed_is_popped_plus_dropped_to_the_frame_and_in_order(capacity: int, actions: list[int | None]) -> None:
    buffer = AudioBuffer(capacity)
    pushed = received = 0
    for action in [*actions, POP]:
        if action is not POP:
            buffer.push(np.arange(pushed, pushed + action, dtype=np.float32)[:, np.newaxis])
            pushed += action
            continue
        popped = buffer.pop(timeout_seconds=0.0)
        if popped is None:
            assert received == pushed
            continue
        dropped, frames = popped
        assert frames.shape[0] <= capacity
        np.testing.assert_array_equal(frames[:, 0], np.arange(received + dropped, received + dropped + frames.shape[0]))
        received += dropped + frames.shape[0]
        assert received == pushed


def test_a_waiting_reader_gets_what_another_thread_pushes() -> None:
    buffer = AudioBuffer(100)
    writer = threading.Timer(0.05, buffer.push, [np.ones((7, 2), dtype=np.float32)])
    writer.start()
    popped = buffer.pop(timeout_seconds=30.0)
    writer.join()
    assert popped is not None
    assert popped[0] == 0
    assert popped[1].shape == (7, 2)


def test_every_frame_of_a_fast_writer_is_accounted_for() -> None:
    buffer = AudioBuffer(50)
    total = 20_000

    def write() -> None:
        for start in range(0, total, 8):
            buffer.push(np.arange(start, start + 8, dtype=np.float32)[:, np.newaxis])

    writer = threading.Thread(target=write)
    writer.start()
    received = 0
    while received < total:
        popped = buffer.pop(timeout_seconds=5.0)
        assert popped is not None
        received += popped[0]
        assert popped[1][0, 0] == received
        received += popped[1].shape[0]
    writer.join()
    assert received == total
