"""wait_until: no longer than needed, no shorter than allowed, and a sentence when it was in vain."""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable

import pytest

from otel_sched.testing import run, wait_until, wait_until_sync
from tests.conftest import ARun


def after(looks: int, value: object = True) -> Callable[[], object]:
    """Return a predicate that is false for a number of looks, then returns the value."""
    count = itertools.count(1)
    return lambda: value if next(count) > looks else None


def test_the_first_look_is_at_once() -> None:
    """What is true already costs no time, not even with no time allowed."""

    async def main() -> tuple[object, float]:
        return await wait_until(after(0), timeout=0), asyncio.get_running_loop().time()

    assert run(main()) == (True, 0.0)
    assert wait_until_sync(after(0), timeout=0) is True


def test_the_truthy_value_is_returned() -> None:
    """So that a test can go on with what it waited for."""

    async def main() -> object:
        return await wait_until(after(5, ["span"]))

    assert run(main()) == ["span"]
    assert wait_until_sync(after(5, ["span"])) == ["span"]


def test_giving_up_says_what_was_waited_for_and_what_was_seen() -> None:
    """The failure reads as a sentence, at the end of the time that was allowed and not before."""

    async def main() -> float:
        with pytest.raises(AssertionError) as caught:
            await wait_until(lambda: [], timeout=7.5, description="three spans")
        assert str(caught.value) == ("waited 7.5 s in vain for three spans; the predicate last returned []")
        return asyncio.get_running_loop().time()

    assert run(main()) == 7.5


def test_a_condition_that_comes_true_just_in_time_is_seen() -> None:
    """The last look comes when the time is up."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        return await wait_until(lambda: loop.time() >= 3 and loop.time(), timeout=3)

    assert run(main()) == 3.0


def test_the_blocking_form_gives_up_too() -> None:
    """In real time, and with the same sentence."""
    began = time.monotonic()
    with pytest.raises(AssertionError, match=r"waited 0\.02 s in vain for the server; .* returned False"):
        wait_until_sync(lambda: False, timeout=0.02, description="the server")
    assert time.monotonic() - began >= 0.02


def test_the_blocking_form_sees_what_another_thread_does() -> None:
    """Its pauses leave the interpreter to others."""
    done = threading.Event()
    thread = threading.Thread(target=done.set)
    thread.start()
    assert wait_until_sync(done.is_set)
    thread.join()


def test_the_loop_runs_between_the_looks(arun: ARun) -> None:
    """On a real loop of either kind, another asyncio task makes the condition true."""

    async def main() -> None:
        event = asyncio.Event()
        setter = asyncio.create_task(asyncio.sleep(0))
        setter.add_done_callback(lambda _: event.set())
        await wait_until(event.is_set)

    arun(main())


def test_a_long_value_is_cut_in_the_message() -> None:
    """A predicate that returns something huge and false does not flood the report."""

    class Huge:
        def __repr__(self) -> str:
            return "x" * 10_000

        def __bool__(self) -> bool:
            return False

    with pytest.raises(AssertionError) as caught:
        wait_until_sync(Huge, timeout=0)
    assert len(str(caught.value)) < 500


def test_the_predicates_own_error_comes_through() -> None:
    """A broken predicate fails at once instead of being asked for ten seconds."""
    with pytest.raises(ZeroDivisionError):
        wait_until_sync(lambda: 1 / 0)


def test_an_async_predicate_is_refused() -> None:
    """A coroutine is always true: taking it for an answer would be a test that tests nothing."""

    async def ready() -> bool:
        return False

    with pytest.raises(TypeError, match="plain function"):
        wait_until_sync(ready)

    async def main() -> None:
        with pytest.raises(TypeError, match="plain function"):
            await wait_until(ready)

    run(main())


@pytest.mark.parametrize("timeout", [-1.0, float("nan")])
def test_a_senseless_timeout_is_refused(timeout: float) -> None:
    """Less than no time, and a time that never comes."""
    with pytest.raises(ValueError, match="timeout must be 0 or more seconds"):
        wait_until_sync(after(0), timeout=timeout)
