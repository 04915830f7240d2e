"""Floor 6: the pytest plugin: fixtures. Every test session loads it, so it loads nothing before one is used."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .loop import VirtualLoop
    from .memory import InMemoryTelemetry
    from .recorder import RecordingObserver


@pytest.fixture
def otel_telemetry() -> "Iterator[InMemoryTelemetry]":
    """What queues, jobs and log lines of the test tell OpenTelemetry, in memory; no global provider is touched.

    `.spans`, `.logs` and `.metric(...)` can be asked. It is the default for everything that the test makes.
    """
    from .memory import InMemoryTelemetry

    telemetry = InMemoryTelemetry()
    try:
        with telemetry.as_default():
            yield telemetry
    finally:
        telemetry.close()


@pytest.fixture
def otel_recorder() -> "Iterator[RecordingObserver]":
    """What the queues of the test tell of their jobs, without any SDK: `.jobs("orders")`, `.outcomes("orders")`."""
    from .recorder import RecordingObserver

    with RecordingObserver().as_default() as recorder:
        yield recorder


@pytest.fixture
def virtual_loop() -> "Iterator[VirtualLoop]":
    """An event loop in virtual time, closed after the test; what still runs on it is cancelled."""
    import asyncio

    from .loop import VirtualLoop

    loop = VirtualLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.get_loop()
        yield loop
