"""What the tests with hostile input share: a clock that ends one that hangs."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from types import FrameType

import pytest

HANG_SECONDS = 600  # with EDGE_SSER_SOAK=1 a test takes minutes


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    """Fails a test that does not end."""

    def fail(_number: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"it hangs: no end after {HANG_SECONDS} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(HANG_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
