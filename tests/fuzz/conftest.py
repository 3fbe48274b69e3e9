"""What the tests with hostile input share: a clock that ends one that hangs, a broker, and the program as a process."""

from __future__ import annotations

import importlib.util
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

HANG_SECONDS = 600  # with EDGE_SSER_SOAK=1 a test takes minutes
TESTS = Path(__file__).parent.parent
sys.path[:0] = [str(TESTS / "mqtt"), str(TESTS / "daemon")]  # their rigs

_spec = importlib.util.spec_from_file_location("mqtt_fixtures", TESTS / "mqtt" / "conftest.py")
assert _spec is not None
assert _spec.loader is not None
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)
start_broker = _fixtures.start_broker
broker = _fixtures.broker
start_subscriber = _fixtures.start_subscriber
open_sink = _fixtures.open_sink


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
