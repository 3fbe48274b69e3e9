"""Fixtures of the tests with hostile input: a broker, and the program as a process."""

from __future__ import annotations

import importlib.util
from pathlib import Path

TESTS = Path(__file__).parent.parent

_spec = importlib.util.spec_from_file_location("mqtt_fixtures", TESTS / "sinks" / "conftest.py")
assert _spec is not None
assert _spec.loader is not None
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)
start_broker = _fixtures.start_broker
broker = _fixtures.broker
start_subscriber = _fixtures.start_subscriber
open_sink = _fixtures.open_sink
