"""Calls in the background, with results, errors and abandonment."""

from __future__ import annotations

import threading

import pytest

from edge_sser.audio.background import BackgroundCall

LIMIT_SECONDS = 60.0  # reached only by a failing test


def test_the_value_of_the_call_is_the_result() -> None:
    assert BackgroundCall(lambda: 7, name="test").result(LIMIT_SECONDS) == 7


def test_while_the_call_runs_there_is_no_result() -> None:
    answer = threading.Event()
    call = BackgroundCall(lambda: answer.wait(LIMIT_SECONDS), name="test")
    assert call.result(0.0) is None
    answer.set()
    assert call.result(LIMIT_SECONDS) is True


def test_an_error_of_the_call_is_raised_every_time() -> None:
    def fail() -> int:
        raise ValueError("no such device")

    call = BackgroundCall(fail, name="test")
    for _ in range(2):
        with pytest.raises(ValueError, match="no such device"):
            call.result(LIMIT_SECONDS)
    assert call.failed


@pytest.mark.parametrize("back_before", [True, False])
def test_an_abandoned_result_is_undone_once_whenever_it_comes(back_before: bool) -> None:
    answer, undone = threading.Event(), threading.Semaphore(0)
    values: list[int] = []

    def undo(value: int) -> None:
        values.append(value)
        undone.release()

    call = BackgroundCall(lambda: answer.wait(LIMIT_SECONDS) and 7, name="test")
    if back_before:
        answer.set()
        call.result(LIMIT_SECONDS)
    call.abandon(undo)
    answer.set()
    assert undone.acquire(timeout=LIMIT_SECONDS)
    assert values == [7]


def test_a_call_that_fails_has_nothing_to_undo() -> None:
    answer = threading.Event()

    def fail() -> int:
        answer.wait(LIMIT_SECONDS)
        raise ValueError

    call = BackgroundCall(fail, name="test")
    call.abandon(lambda _value: pytest.fail("there is nothing to undo"))
    answer.set()
    with pytest.raises(ValueError):  # noqa: PT011 - any will do
        call.result(LIMIT_SECONDS)
