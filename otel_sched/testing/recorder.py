"""Floor 6: RecordingObserver: what queues tell of their jobs, kept as small values; it needs no SDK."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

from .._core.job import Job
from .._core.ledger import Ledger
from .._core.observer import Listener, Observer
from .found import Found
from .standing import standing_in


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that a queue has told. Seconds; instants are the queue's own clock's."""

    what: str
    """`put`, `taken`, `waited` (taken where its run cannot be seen), `settled`."""
    queue: str
    job: str
    """The job's id."""
    at: float
    blocked: float = 0.0
    """How long its put had to wait for room."""
    wait: float = 0.0
    """From put to taken."""
    run: float = 0.0
    """From taken to settled."""
    name: str = ""
    """The function that works on it, where it is known."""
    outcome: str = ""
    error_type: str = ""
    reason: str = ""
    """Why it was cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedJob:
    """What is known of one job by now."""

    id: str
    queue: str
    state: str
    """`waiting`, `running`, `ended`; `unobserved` for one that was taken where its run cannot be seen."""
    name: str = ""
    outcome: str = ""
    blocked: float = 0.0
    wait: float = 0.0
    run: float = 0.0
    error_type: str = ""
    reason: str = ""

    def __str__(self) -> str:
        parts = [f"job {self.id} of {self.queue!r}", self.name, self.outcome or self.state, self.error_type]
        return " ".join(part for part in parts if part)


_STATES = {"put": "waiting", "taken": "running", "waited": "unobserved", "settled": "ended"}


class RecordedJobs(Found[RecordedJob]):
    """Jobs in the order in which they were put."""

    _noun = "job"

    def of_queue(self, name: str) -> Self:
        """Keep those of the queue of that name."""
        return self._keep(lambda job: job.queue == name, f"of queue {name!r}")

    def with_outcome(self, outcome: str) -> Self:
        """Keep those that ended so."""
        return self._keep(lambda job: job.outcome == outcome, f"with outcome {str(outcome)!r}")

    def in_state(self, state: str) -> Self:
        """Keep those that are `waiting`, `running`, `ended` or `unobserved`."""
        if state not in _STATES.values():
            raise ValueError(f"state must be one of {', '.join(sorted(_STATES.values()))}, not {state!r}")
        return self._keep(lambda job: job.state == state, f"that are {state}")


class RecordingObserver(Observer):
    """Records what it is told of queues and their jobs: `Queue(observer=recorder)`, or `with recorder.as_default():`.

    It keeps neither items nor jobs, and may be read from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: list[Event] = []

    def watch(self, ledger: Ledger) -> Listener:
        """Record what the queue of *ledger* tells from now on."""
        return _Recording(self, ledger)

    @property
    def events(self) -> tuple[Event, ...]:
        """All that was told, oldest first."""
        with self._lock:
            return tuple(self._events)

    def jobs(self, queue: str | None = None) -> RecordedJobs:
        """Return what is known of each job, those of one queue or of all."""
        known: dict[str, RecordedJob] = {}
        for event in self.events:
            before = known.get(event.job) or RecordedJob(id=event.job, queue=event.queue, state="")
            known[event.job] = replace(
                before,
                state=_STATES[event.what],
                name=event.name or before.name,
                outcome=event.outcome,
                blocked=event.blocked or before.blocked,
                wait=event.wait or before.wait,
                run=event.run,
                error_type=event.error_type,
                reason=event.reason,
            )
        jobs = RecordedJobs(known.values())
        return jobs if queue is None else jobs.of_queue(queue)

    def outcomes(self, queue: str | None = None) -> dict[str, int]:
        """Return how many jobs ended how: `{"ok": 2, "error": 1}`."""
        return dict(Counter(job.outcome for job in self.jobs(queue) if job.outcome))

    def queues(self) -> list[str]:
        """Return the names of the queues that told of a job, in the order in which they first did."""
        return list(dict.fromkeys(event.queue for event in self.events))

    def clear(self) -> None:
        """Forget all that was told so far."""
        with self._lock:
            self._events.clear()

    @contextmanager
    def as_default(self) -> Iterator[Self]:
        """Be told of all queues made inside without `observer=`, and of those that there are.

        Whoever listens to them is told as well.
        """
        with standing_in(self, beside=True):
            yield self

    def record(self, event: Event) -> None:
        """Add one thing that was told."""
        with self._lock:
            self._events.append(event)


class _Recording(Listener):
    """Listens to one queue."""

    def __init__(self, recorder: RecordingObserver, ledger: Ledger) -> None:
        self._recorder = recorder
        self._ledger = ledger
        self._blocked = 0.0

    def blocked(self, seconds: float) -> None:
        self._blocked = seconds

    def queued(self, job: Job[Any]) -> None:
        blocked, self._blocked = self._blocked, 0.0
        self._record("put", job, job.put_at, blocked=blocked)

    def started(self, job: Job[Any], own_worker: bool) -> bool:
        self._record("taken", job, job.taken_at, wait=job.wait)
        return True

    def waited(self, job: Job[Any]) -> None:
        self._record("waited", job, job.taken_at, wait=job.wait, outcome=str(job.outcome or ""))

    def settled(self, job: Job[Any]) -> None:
        at = self._ledger.now() if job.settled_at is None else job.settled_at
        self._record(
            "settled",
            job,
            at,
            wait=job.wait,
            run=0.0 if job.taken_at is None else max(0.0, at - job.taken_at),
            outcome=str(job.outcome or ""),
            error_type=str(job.error_type or ""),
            reason="" if job.reason is None else job.reason.value,
        )

    def _record(self, what: str, job: Job[Any], at: float | None, **more: Any) -> None:
        self._recorder.record(Event(what=what, queue=job.queue, job=job.id, name=job.name, at=at or 0.0, **more))
