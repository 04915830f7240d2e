"""@virtual_time: a coroutine function as a plain test, in virtual time."""

import asyncio
import inspect
from typing import Any

import pytest

from otel_sched.testing import Deadlock, virtual_time


@virtual_time
async def test_a_decorated_test_runs_in_virtual_time(tmp_path: Any) -> None:
    """An hour takes no time, and fixtures come as they do elsewhere."""
    await asyncio.sleep(3600)
    assert asyncio.get_running_loop().time() == 3600
    assert tmp_path.exists()


def test_it_is_a_plain_function_with_the_arguments_of_its_own() -> None:
    """Other plugins leave it alone; the result comes back; each call has a clock of its own."""

    @virtual_time
    async def answer(number: int) -> float:
        await asyncio.sleep(number)
        return asyncio.get_running_loop().time()

    assert not inspect.iscoroutinefunction(answer)
    assert list(inspect.signature(answer).parameters) == ["number"]
    assert [answer(5), answer(7)] == [5.0, 7.0]


def test_a_deadlock_fails_at_once() -> None:
    """In place of the time limit of the suite."""

    @virtual_time
    async def hangs() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock):
        hangs()


def test_anything_else_is_refused() -> None:
    """A plain function would run in no loop."""
    with pytest.raises(TypeError, match="takes a coroutine function"):
        virtual_time(test_anything_else_is_refused)  # type: ignore[arg-type]
