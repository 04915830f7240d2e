"""Detectors that look often, what they found, and the kinds of queues that they must find it on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from otel_sched import Queue, watch
from otel_sched._core.clock import Clock, monotonic
from otel_sched._core.finding import Finding, FindingKind, Reporter
from otel_sched._core.job import Job
from otel_sched.diagnostics.scan import Detectors
from otel_sched.testing import wait_until

KINDS = ("drop-in", "watched")


class Recorder(Reporter):
    """Keeps what was found, and of each job no more than its id: tests look whether anything is kept alive."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.jobs: list[str | None] = []

    def finding(self, finding: Finding, job: Job[Any] | None) -> None:
        self.findings.append(finding)
        self.jobs.append(None if job is None else job.id)

    def of(self, kind: FindingKind) -> list[Finding]:
        """Return the findings of one kind."""
        return [each for each in self.findings if each.kind is kind]


class Watch:
    """Detectors at work, and their findings."""

    def __init__(self, detectors: Detectors, recorder: Recorder) -> None:
        self.detectors = detectors
        self.recorder = recorder

    async def looks(self, count: int = 8) -> None:
        """Wait until they have looked *count* times more: long enough for whatever they were to find."""
        until = self.detectors.looks + count
        await wait_until(lambda: self.detectors.looks >= until, description="more looks")

    async def one(self, kind: FindingKind) -> Finding:
        """Wait for a finding of *kind*, look on for a while, and return it if it is the only one of all."""
        await wait_until(lambda: self.recorder.of(kind), description=f"a finding {kind.value}")
        await self.looks()
        assert [each.kind for each in self.recorder.findings] == [kind], self.recorder.findings
        return self.recorder.findings[0]

    async def none(self) -> None:
        """Look for a while, and find nothing."""
        await self.looks()
        assert self.recorder.findings == []


@asynccontextmanager
async def detecting(**options: Any) -> AsyncIterator[Watch]:
    """Run detectors that look every 5 ms and are patient for 20 ms."""
    recorder = Recorder()
    detectors = Detectors(**{"every": 0.005, "patience": 0.02, "reporter": recorder, **options})
    with detectors:
        yield Watch(detectors, recorder)


def make_queue(kind: str, maxsize: int = 0, *, name: str = "orders", clock: Clock = monotonic) -> Any:
    """Return a queue of *kind*, one of KINDS."""
    if kind == "drop-in":
        return Queue[Any](maxsize, name=name, clock=clock)
    return watch(asyncio.Queue[Any](maxsize), name=name, clock=clock)


async def ended(*tasks: asyncio.Task[Any]) -> None:
    """Cancel *tasks* and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
