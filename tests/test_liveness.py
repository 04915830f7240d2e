"""The liveness of event loops: who beats is known, with the age of the last beat, from any thread."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from otel_sched._core import liveness
from otel_sched._core.liveness import MAX_NAMES, OVERFLOW, Beats, Seen
from tests.loops import Still, running


@pytest.fixture(autouse=True)
def _nobody_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test begin where no event loop is known."""
    monkeypatch.setattr(liveness, "_told", {})
    monkeypatch.setattr(liveness, "_names", {})


@pytest.fixture
def new_loop(request: pytest.FixtureRequest) -> Callable[[], Still]:
    """Make event loops that are closed when the test ends."""

    def make() -> Still:
        loop = running()
        request.addfinalizer(loop.close)
        return loop

    return make


def test_nothing_is_known_of_a_loop_that_never_turned(new_loop: Callable[[], Still]) -> None:
    """Where no heartbeat was installed, or none has come yet, there is nothing to say."""
    loop = new_loop()
    Beats(loop, 0.5, "main")
    assert liveness.ages(1.0) == {}


def test_the_age_is_that_of_the_last_beat(new_loop: Callable[[], Still]) -> None:
    """Each loop has its own, and a new beat makes it young again."""
    one, two = new_loop(), new_loop()
    main, other = Beats(one, 0.5, "main"), Beats(two, 0.25, "other")
    main.turned(10.0)
    other.turned(11.0)
    main.turned(12.5)
    assert liveness.ages(13.0) == {"main": 0.5, "other": 2.0}
    assert liveness.look(13.0) == {"main": Seen(0.5, 0.5), "other": Seen(2.0, 0.25)}


def test_a_loop_with_two_heartbeats_is_as_young_as_the_younger(new_loop: Callable[[], Still]) -> None:
    """It is one loop, under the name of whoever came last; when one ends the other goes on."""
    loop = new_loop()
    rare, frequent = Beats(loop, 5.0), Beats(loop, 0.5, "api")
    rare.turned(10.0)
    frequent.turned(12.0)
    assert liveness.look(13.0) == {"api": Seen(1.0, 0.5)}
    frequent.end()
    assert liveness.look(13.0) == {"main": Seen(3.0, 5.0)}


def test_an_age_is_never_negative(new_loop: Callable[[], Still]) -> None:
    """Who asks may have looked at the clock just before the beat."""
    loop = new_loop()
    Beats(loop, 0.5, "main").turned(10.0)
    assert liveness.ages(9.9) == {"main": 0.0}


def test_a_loop_that_nobody_watches_any_more_is_forgotten(new_loop: Callable[[], Still]) -> None:
    """It does not grow old for ever; to end it twice is no error, and a beat that comes too late is none."""
    loop = new_loop()
    beats = Beats(loop, 0.5, "main")
    beats.turned(10.0)
    beats.end()
    beats.end()
    beats.turned(11.0)
    assert liveness.ages(99.0) == {}


def test_a_loop_that_rests_is_there_again_with_its_next_beat(new_loop: Callable[[], Still]) -> None:
    """A heartbeat that saw its loop stand still says nothing until it turns."""
    loop = new_loop()
    beats = Beats(loop, 0.5, "main")
    beats.turned(10.0)
    beats.rest()
    assert liveness.ages(11.0) == {}
    beats.turned(20.0)
    assert liveness.ages(21.0) == {"main": 1.0}


@pytest.mark.parametrize("how", ["stands still", "closed", "gone"])
def test_a_loop_that_nobody_runs_does_not_hang(how: str) -> None:
    """Whoever has nothing to turn for is not ill: between two runs, after the last, and when it is no more."""
    loop = running()
    Beats(loop, 0.5, "main").turned(10.0)
    if how == "stands still":
        loop.runs = False
        assert liveness.ages(99.0) == {}
        loop.runs = True
        assert liveness.ages(99.0) == {"main": 89.0}
    loop.close()
    if how == "gone":
        del loop
    assert liveness.ages(99.0) == {}
    assert liveness._told == {}


def test_no_two_loops_have_one_name(new_loop: Callable[[], Still]) -> None:
    """Else the one that turns would hide the one that hangs; that of a loop which is closed is free again."""
    one, two, three = new_loop(), new_loop(), new_loop()
    assert [Beats(each, 0.5, "main").name for each in (one, two, one, three)] == ["main", "main-2", "main", "main-3"]
    two.close()
    four = new_loop()
    assert Beats(four, 0.5, "main").name == "main-2"


def test_without_a_name_it_has_that_of_its_loop_or_else_of_its_thread(new_loop: Callable[[], Still]) -> None:
    """`main` in the main thread; a second heartbeat in a loop takes the name that the first gave it."""
    one, two, three = new_loop(), new_loop(), new_loop()
    names: list[Any] = [Beats(one, 0.5).name, Beats(two, 0.5, "api").name, Beats(two, 0.5).name]
    thread = threading.Thread(target=lambda: names.append(Beats(three, 0.5).name), name="side")
    thread.start()
    thread.join()
    assert names == ["main", "api", "api", "side"]


@pytest.mark.parametrize(
    ("thread", "loop"),
    [("Thread-12 (serve)", "Thread"), ("ThreadPoolExecutor-0_1", "ThreadPoolExecutor"), ("io-7", "io"), ("7", "7")],
)
def test_the_number_of_a_thread_is_no_part_of_a_name(new_loop: Callable[[], Still], thread: str, loop: str) -> None:
    """Threads come and go by the thousand, and names are labels of metrics."""
    names: list[str] = []
    for _ in range(2):
        runner = threading.Thread(target=lambda: names.append(Beats(new_loop(), 0.5).name), name=thread)
        runner.start()
        runner.join()
    assert names == [loop, f"{loop}-2"]


def test_names_of_loops_that_are_closed_are_given_back(new_loop: Callable[[], Still]) -> None:
    """A process that makes a loop for each call must not run out of names."""
    for number in range(2 * MAX_NAMES):
        loop = new_loop()
        assert Beats(loop, 0.5, f"loop {number}").name == f"loop {number}"
        loop.close()
    assert Beats(new_loop(), 0.5, "main").name == "main"


def test_names_stay_few_and_the_oldest_of_a_name_shows(new_loop: Callable[[], Still]) -> None:
    """Loops beyond the limit share one; there a loop that hangs is not hidden by one that turns."""
    loops = [new_loop() for _ in range(MAX_NAMES + 2)]
    beats = [Beats(loop, 0.5, f"loop {number}") for number, loop in enumerate(loops)]
    assert [each.name for each in beats[-2:]] == [OVERFLOW, OVERFLOW]
    beats[-2].turned(10.0)
    beats[-1].turned(12.0)
    assert liveness.ages(13.0) == {OVERFLOW: 3.0}


def test_threads_may_come_and_go_while_another_reads(new_loop: Callable[[], Still]) -> None:
    """Nothing raises and no half-made state is seen, with heartbeats that appear and end all the time."""
    over = threading.Event()
    loops = [new_loop() for _ in range(3)]

    def come_and_go(thread: int) -> None:
        for _ in range(3000):
            beats = Beats(loops[thread], 0.5, f"{thread}")
            beats.turned(1.0)
            beats.end()

    def read() -> int:
        looks = 0
        while not over.is_set():
            assert set(liveness.ages(2.0).values()) <= {1.0}
            looks += 1
        return looks

    with ThreadPoolExecutor(4) as threads:
        reader = threads.submit(read)
        for each in [threads.submit(come_and_go, thread) for thread in range(3)]:
            each.result()
        over.set()
        assert reader.result() > 0
    assert liveness.ages(2.0) == {}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_knows_none_of_its_parents_loops() -> None:
    """They do not turn there, and would soon look as if they hung; their names are free."""
    program = (
        "import asyncio, os, warnings\n"
        "warnings.simplefilter('ignore', DeprecationWarning)\n"
        "from otel_sched._core import liveness\n"
        "async def main():\n"
        "    beats = liveness.Beats(asyncio.get_running_loop(), 0.5)\n"
        "    beats.turned(1.0)\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        beats.turned(1.5)\n"
        "        new = asyncio.new_event_loop()\n"
        "        os._exit(len(liveness.ages(2.0)) + (liveness.Beats(new, 0.5).name != 'main'))\n"
        "    print(os.waitpid(child, 0)[1], len(liveness.ages(2.0)))\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == ["0", "1"]
