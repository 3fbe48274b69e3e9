"""A call that may never come back."""

from __future__ import annotations

import threading

import pytest

from edge_sser.audio.microphone import BackgroundCall

LIMIT_SECONDS = 60.0  # reached only by a failing test


def test_what_the_call_gives_is_the_result() -> None:
    assert BackgroundCall(lambda: 7, name="test").result(LIMIT_SECONDS) == 7


def test_while_the_call_is_not_back_there_is_no_result() -> None:
    answer = threading.Event()
    attempt = BackgroundCall(lambda: answer.wait(LIMIT_SECONDS), name="test")
    assert attempt.result(0.0) is None
    answer.set()
    assert attempt.result(LIMIT_SECONDS) is True


def test_what_the_call_raises_is_raised_whenever_one_asks() -> None:
    def fail() -> int:
        raise ValueError("no such device")

    attempt = BackgroundCall(fail, name="test")
    for _ in range(2):
        with pytest.raises(ValueError, match="no such device"):
            attempt.result(LIMIT_SECONDS)
    assert attempt.failed


@pytest.mark.parametrize("back_before", [True, False])
def test_what_nobody_wants_any_more_is_undone_once_whenever_it_comes(back_before: bool) -> None:
    answer, undone = threading.Event(), threading.Semaphore(0)
    values: list[int] = []

    def undo(value: int) -> None:
        values.append(value)
        undone.release()

    attempt = BackgroundCall(lambda: answer.wait(LIMIT_SECONDS) and 7, name="test")
    if back_before:
        answer.set()
        attempt.result(LIMIT_SECONDS)
    attempt.leave(undo)
    answer.set()
    assert undone.acquire(timeout=LIMIT_SECONDS)
    assert values == [7]


def test_a_call_that_fails_has_nothing_to_undo() -> None:
    answer = threading.Event()

    def fail() -> int:
        answer.wait(LIMIT_SECONDS)
        raise ValueError

    attempt = BackgroundCall(fail, name="test")
    attempt.leave(lambda _value: pytest.fail("there is nothing to undo"))
    answer.set()
    with pytest.raises(ValueError):  # noqa: PT011 - any will do
        attempt.result(LIMIT_SECONDS)
