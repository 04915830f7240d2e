"""What blocks an event loop, each by a line that can be found again, and a reporter that keeps what it is told."""

import gc
import inspect
import json
import re
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any

from otel_sched._core.finding import Finding, FindingKind, Reporter
from otel_sched._core.job import Job

SECONDS = 0.3
"""About how long each of them blocks, on whatever machine."""


class Kept(Reporter):
    """Keeps what it is told; of a job no more than its id."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.jobs: list[str | None] = []
        self.delays: list[float] = []
        self.states: list[tuple[float, float]] = []

    def finding(self, finding: Finding, job: Job[Any] | None) -> None:
        self.jobs.append(None if job is None else job.id)
        self.findings.append(finding)

    def loop_delay(self, loop: str, seconds: float) -> None:
        self.delays.append(seconds)

    def loop_state(self, loop: str, active: float, idle: float) -> None:
        self.states.append((active, idle))

    def forget(self) -> None:
        """Forget what was found so far."""
        self.findings.clear()
        self.jobs.clear()

    def of(self, kind: FindingKind) -> list[Finding]:
        """Return the findings of one kind."""
        return [each for each in self.findings if each.kind is kind]


def sleep() -> None:
    """Block without the interpreter's lock."""
    time.sleep(SECONDS)  # here


def expression() -> None:
    """Block with the lock held, inside one call of a C function."""
    re.match(r"(a+)+$", _backtracking())  # here


def dump() -> None:
    """Block with the lock held, in a library's code."""
    json.dumps(_large())  # here


def compute() -> None:
    """Block in Python code, which gives the lock away every few milliseconds."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:  # here
        pass


BLOCKERS: dict[str, Callable[[], None]] = {each.__name__: each for each in (sleep, expression, dump, compute)}


def line_of(function: Callable[..., Any]) -> int:
    """Return the number of the line of *function* that is marked with `# here`."""
    lines, first = inspect.getsourcelines(function)
    return first + next(number for number, line in enumerate(lines) if "# here" in line)


def prepare() -> None:
    """Do what takes time before the first of them can block for as long as it is meant to."""
    _backtracking()
    _large()


@cache
def _backtracking() -> str:
    """Return a text on which the expression backtracks for long enough: each letter more doubles the time."""
    size, took = 16, 0.0
    while took < SECONDS:
        size += 1
        began = time.perf_counter()
        re.match(r"(a+)+$", "a" * size + "b")
        took = time.perf_counter() - began
    return "a" * size + "b"


@cache
def _large() -> list[dict[str, Any]]:
    """Return an object that takes long enough to encode."""
    size, took = 50_000, 0.0
    while True:
        made = [{"number": number, "text": str(number)} for number in range(size)]
        began = time.perf_counter()
        json.dumps(made)
        took = time.perf_counter() - began
        if took >= SECONDS:
            gc.freeze()  # or every collection of the tests to come would walk over it
            return made
        size *= 2


class Gate:
    """Blocks a loop until somebody opens it, so that nobody has to guess for how long."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.opened = False

    def wait(self) -> None:
        """Block."""
        self.opened = self._event.wait(20.0)  # here

    def open(self) -> None:
        """Let it go on."""
        self._event.set()
