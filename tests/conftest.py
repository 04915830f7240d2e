"""Fixtures for every test: both event loops, and telemetry in memory that touches no global provider."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Protocol, TypeVar

import pytest
import uvloop

from otel_sched.telemetry import interest
from otel_sched.testing import InMemoryTelemetry

T = TypeVar("T")

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}


class ARun(Protocol):
    """The type of the `arun` fixture, for the annotations of tests."""

    def __call__(self, main: Coroutine[Any, Any, T], /) -> T: ...


@pytest.fixture(params=sorted(LOOPS))
def loop_kind(request: pytest.FixtureRequest) -> str:
    """Run the test once on each event loop; the value is the loop's name."""
    return str(request.param)


@pytest.fixture
def arun(loop_kind: str) -> ARun:
    """Run a coroutine to its end on a new loop of the test's kind, as `asyncio.run` does."""

    def run(main: Coroutine[Any, Any, T], /) -> T:
        with asyncio.Runner(loop_factory=LOOPS[loop_kind]) as runner:
            return runner.run(main)

    return run


@pytest.fixture(autouse=True)
def _no_correlation_left_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test's log handlers make the jobs of the next one worth following."""
    monkeypatch.setattr(interest, "correlating", False)


@pytest.fixture
def telemetry() -> Iterator[InMemoryTelemetry]:
    """Give the test providers of its own, shut down when it ends."""
    in_memory = InMemoryTelemetry()
    yield in_memory
    in_memory.close()
