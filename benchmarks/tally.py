"""What became of each job of a soak, by the jobs' own account and by their queue's books."""

import asyncio
import sys
import threading
from types import TracebackType
from typing import Any, Self

from otel_sched import Queue, Stats

FAILING = 1000
"""One job in so many raises, so that not all outcomes are the same."""
YIELDING = 7
"""One job in so many lets others run while it does, so that they end in another order than they began."""
AUDIT_EVERY = 0.02
SWITCH_INTERVAL = 1e-4
"""A loop that is never idle lets go of the interpreter's lock so often, and so briefly, that with Python's usual 5 ms
another thread may not get it for seconds. It also makes an audit more likely to come in the middle of something."""


class Refused(Exception):
    """What a failing job raises."""


class Tally:
    """Counts how often each of a number of jobs was handled, a byte for each."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.failing = len(range(0, jobs, FAILING))
        self._handled = bytearray(jobs)

    async def handle(self, item: int) -> None:
        """Be the handler of job number *item*."""
        self._handled[item] += 1
        if not item % YIELDING:
            await asyncio.sleep(0)
        if not item % FAILING:
            raise Refused(item)

    @property
    def lost(self) -> int:
        """How many jobs were never handled."""
        return self._handled.count(0)

    @property
    def twice(self) -> int:
        """How many jobs were handled more than once."""
        return self.jobs - self._handled.count(0) - self._handled.count(1)

    def complaints(self) -> list[str]:
        """Return what is wrong, in sentences; nothing when each job was handled once."""
        return [
            f"{count} jobs were {what}"
            for count, what in ((self.lost, "never handled"), (self.twice, "handled more than once"))
            if count
        ]


class Auditor:
    """Reads a queue's books from another thread while it works, as an exporter does, and once more at the end."""

    def __init__(self, queue: Queue[Any]) -> None:
        self.audits = 0
        self.complaints: list[str] = []
        self._queue = queue
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._audit_on, name="auditor")

    def __enter__(self) -> Self:
        self._interval = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_INTERVAL)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        sys.setswitchinterval(self._interval)

    def _audit_on(self) -> None:
        while not self._over.wait(AUDIT_EVERY):
            self._audit()

    def _audit(self) -> Stats:
        stats = self._queue.stats()
        self.audits += 1
        counts = (stats.size, stats.active, stats.finished, stats.dropped)
        if stats.put != sum(counts) or min(counts) < 0:
            self.complaints.append(f"the books do not balance: {stats}")
        return stats

    def close(self, tally: Tally) -> None:
        """Hold the books against *tally* when all work is done, and let go of the queue."""
        stats = self._audit()
        outcomes = {"ok": tally.jobs - tally.failing, "error": tally.failing}
        wanted = {"put": tally.jobs, "taken": tally.jobs, "finished": tally.jobs, "size": 0, "active": 0, "dropped": 0}
        came = {name: getattr(stats, name) for name in wanted}
        if came != wanted or stats.outcomes != outcomes or self._queue.qsize():
            self.complaints.append(f"at the end the books say {stats}, not {wanted} and {outcomes}")
        del self._queue

    def compare(self, exported: dict[str, int], tally: Tally) -> None:
        """Hold the exported metrics against *tally*."""
        for name in ("jobs.put", "jobs.taken", "jobs.finished", "job.wait.duration", "job.run.duration"):
            count = exported.get(f"otel_sched.{name}", 0)
            if count != tally.jobs:
                self.complaints.append(f"otel_sched.{name} tells of {count} jobs")
