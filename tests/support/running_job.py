"""A real job that really runs, for tests of what can be seen from inside one."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from otel_sched._core.job import Job
from otel_sched._core.ledger import Ledger, current_job
from otel_sched._core.observer import Listener, Observer
from otel_sched._core.queue import Queue

R = TypeVar("R")


class _Follows(Listener):
    def started(self, job: Job[Any], own_worker: bool) -> bool:
        return True


class _FollowsAll(Observer):
    def watch(self, ledger: Ledger) -> Listener:
        return _Follows()


def in_job(work: Callable[[Job[Any]], R], *, queue: str = "orders") -> R:
    """Call *work* with the running job of a queue, inside that job's context, and return what it returns."""

    async def worker() -> R:
        jobs = Queue[int](name=queue, observer=_FollowsAll())
        jobs.put_nowait(1)
        await jobs.get()
        job = current_job()
        assert job is not None
        try:
            return work(job)
        finally:
            jobs.task_done()

    return asyncio.run(worker())
