"""The liveness of event loops: who beats is known, with the age of the last beat, from any thread."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from otel_sched._core import liveness


@pytest.fixture(autouse=True)
def _nobody_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test begin where no event loop is known."""
    monkeypatch.setattr(liveness, "_beats", {})


def test_nothing_is_known_of_a_loop_that_never_turned() -> None:
    """Where no heartbeat was installed there is nothing to say."""
    assert liveness.ages(1.0) == {}


def test_the_age_is_that_of_the_last_beat() -> None:
    """Each loop has its own, and a new beat makes it young again."""
    liveness.beat("main", 10.0)
    liveness.beat("other", 11.0)
    liveness.beat("main", 12.5)
    assert liveness.ages(13.0) == {"main": 0.5, "other": 2.0}


def test_an_age_is_never_negative() -> None:
    """Who asks may have looked at the clock just before the beat."""
    liveness.beat("main", 10.0)
    assert liveness.ages(9.9) == {"main": 0.0}


def test_a_loop_that_ended_is_forgotten() -> None:
    """It does not grow old for ever; to end it twice, or one that never was, is no error."""
    liveness.beat("main", 10.0)
    liveness.end("main")
    liveness.end("main")
    assert liveness.ages(99.0) == {}


def test_threads_may_come_and_go_while_another_reads() -> None:
    """Nothing raises and no half-made state is seen, with loops that appear and end all the time."""
    over = threading.Event()

    def come_and_go(thread: int) -> None:
        for number in range(3000):
            liveness.beat(f"{thread}-{number}", 1.0)
            liveness.end(f"{thread}-{number}")

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
    """They do not turn there, and would soon look as if they hung."""
    import subprocess
    import sys

    program = (
        "import os\n"
        "from otel_sched._core import liveness\n"
        "liveness.beat('main', 1.0)\n"
        "child = os.fork()\n"
        "if not child: os._exit(len(liveness.ages(2.0)))\n"
        "print(os.waitpid(child, 0)[1], len(liveness.ages(2.0)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == ["0", "1"]
