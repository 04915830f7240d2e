"""What the instruction tells at which a thread let go of the interpreter's lock."""

import asyncio
import dis
from collections.abc import Callable
from typing import Any

import pytest

from otel_sched.diagnostics.instructions import awaits, begins, ends_here


def sort(values: list[float]) -> None:
    values.sort()


def copy_and_sort(values: list[float]) -> None:
    copy = values[:]
    copy.sort()


def copy_and_sort_in_one_line(values: list[float]) -> None:
    copy = values[:]; copy.sort()  # noqa: E702  # fmt: skip


async def handle(work: Callable[[], None]) -> None:
    work()
    await asyncio.sleep(0.3)


def offsets(function: Any, name: str) -> list[int]:
    """Return where instructions of that name are in a function."""
    return [each.offset for each in dis.get_instructions(function) if each.opname == name]


@pytest.mark.parametrize(
    ("function", "which", "exact"),
    [
        (sort, 0, True),
        (copy_and_sort, -1, False),
        (copy_and_sort_in_one_line, -1, True),
        (handle, 0, True),
        (handle, 1, False),
    ],
)
def test_a_call_is_to_blame_if_nothing_on_the_lines_before_it_can_be(function: Any, which: int, exact: bool) -> None:
    """What was called before may have ended with an operation that let nobody else run."""
    calls = [each for each in dis.get_instructions(function) if each.opname == "CALL"]
    assert ends_here(function.__code__, calls[which].offset) is exact


def test_an_operation_without_a_call_is_never_to_blame_for_certain() -> None:
    """The lock is given away at certain instructions only."""
    code = copy_and_sort.__code__
    other = [each.offset for each in dis.get_instructions(code) if each.opname in ("RESUME", "STORE_FAST", "POP_TOP")]
    assert len(other) >= 3
    assert not any(ends_here(code, offset) for offset in other)


def test_the_beginning_of_a_function_and_an_await_are_known() -> None:
    """There, what held the lock has been something before them."""
    code = handle.__code__
    first, after = offsets(handle, "RESUME")[0], offsets(handle, "RESUME")[1:]
    assert begins(code, first)
    assert begins(code, -1)
    assert after
    assert all(awaits(code, offset) and not begins(code, offset) for offset in after)
    assert all(awaits(code, offset) for offset in offsets(handle, "SEND") + offsets(handle, "YIELD_VALUE"))
    assert not any(awaits(code, offset) for offset in [first, *offsets(handle, "CALL")])
