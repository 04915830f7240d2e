"""Every test of health begins in a process without queues and without heartbeats."""

import threading
from collections.abc import Iterator

import pytest

from otel_sched._core import census, liveness
from otel_sched.health import metrics


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hide the queues, event loops and findings that other tests have left."""
    monkeypatch.setattr(census, "_all", set())
    monkeypatch.setattr(liveness, "_told", {})
    monkeypatch.setattr(metrics, "tally", {})
    monkeypatch.setattr(liveness, "_names", {})
    yield
    for thread in threading.enumerate():
        if thread.name == "otel_sched-health-log":  # its line belongs to this test, not to the next
            thread.join()
