"""Ctrl-C, counted: once to end, twice to end now."""

import asyncio
import signal
from collections.abc import Iterator

import pytest

from otel_sched.demo.interrupts import Interrupts


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    """Installed, with what was there before put back."""
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    made = Interrupts()
    made.install()
    yield made
    for each, handler in before.items():
        signal.signal(each, handler)


def test_signals_wake_the_loop(interrupts: Interrupts) -> None:
    """The first signal sets one event, the second the other; SIGTERM counts as well."""

    async def main() -> list[bool]:
        interrupts.bind()
        states = [interrupts.first.is_set()]
        signal.raise_signal(signal.SIGINT)
        await interrupts.first.wait()
        states.append(interrupts.second.is_set())
        signal.raise_signal(signal.SIGTERM)
        await interrupts.second.wait()
        return states

    assert asyncio.run(asyncio.wait_for(main(), 5)) == [False, False]


def test_a_signal_before_the_loop_is_not_forgotten(interrupts: Interrupts) -> None:
    """One that came during the start-up ends the run as soon as it has begun."""
    signal.raise_signal(signal.SIGINT)

    async def main() -> bool:
        interrupts.bind()
        return interrupts.first.is_set()

    assert asyncio.run(main())


def test_a_second_signal_during_start_up_ends_it(interrupts: Interrupts) -> None:
    """An import that hangs can be left."""
    signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_signals_after_the_run_are_counted_or_ignored(interrupts: Interrupts) -> None:
    """Whoever goes on pressing Ctrl-C gets no traceback."""

    async def main() -> None:
        interrupts.bind()
        interrupts.release()

    asyncio.run(main())
    for _ in range(3):
        signal.raise_signal(signal.SIGINT)
    assert interrupts.count == 3
    interrupts.ignore()
    signal.raise_signal(signal.SIGINT)
    assert interrupts.count == 3
