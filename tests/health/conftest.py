"""Every test of health begins in a process without queues and without heartbeats."""

import pytest

from otel_sched._core import census, liveness
from otel_sched.health import metrics


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the queues, event loops and findings that other tests have left."""
    monkeypatch.setattr(census, "_all", set())
    monkeypatch.setattr(liveness, "_told", {})
    monkeypatch.setattr(metrics, "tally", {})
    monkeypatch.setattr(liveness, "_names", {})
