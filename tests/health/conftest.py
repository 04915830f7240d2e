"""Every test of health begins in a process without queues and without heartbeats."""

import pytest

from otel_sched._core import census, liveness
from otel_sched.health import pulse


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the queues and event loops that other tests have left."""
    monkeypatch.setattr(census, "_all", set())
    monkeypatch.setattr(liveness, "_beats", {})
    monkeypatch.setattr(pulse, "_names", set())
