"""Floor 5: a dump as JSON. The shape is documented: names may be added, never changed."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from .jobs import JobInfo
from .queues import QueueInfo
from .stacks import Stack
from .tasks import TaskInfo
from .threads import ThreadInfo

SHAPE = 1
"""The version of the shape, raised when something that was there means another thing."""

Known = dict[int, list[dict[str, Any]]]
"""Stacks that were made already, by id()."""


def of_dump(dump: Any) -> str:
    """Return a dump as a JSON object: its parts in lines of their own, so that no step holds the interpreter long."""
    head: dict[str, Any] = {
        "shape": SHAPE,
        "when": dump.when.isoformat(),
        "pid": dump.pid,
        "python": dump.python,
        "seconds": _rounded(dump.seconds),
    }
    if dump.interrupted:
        head["interrupted"] = dump.interrupted
    parts = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    stacks: Known = {}
    if dump.tasks is not None:
        parts.append(_listed("loops", (asdict(each) for each in dump.tasks.loops)))
        parts.append(f'"tasks_total": {dump.tasks.total}')
        parts.append(f'"task_states": {json.dumps(dump.tasks.states)}')
        parts.append(_listed("tasks", (of_task(each, stacks) for each in dump.tasks)))
    if dump.queues is not None:
        parts.append(f'"queues_total": {dump.queues_total}')
        parts.append(_listed("queues", (_queue(each) for each in dump.queues)))
    if dump.threads is not None:
        parts.append(f'"threads_total": {dump.threads_total}')
        parts.append(_listed("threads", (_thread(each, stacks) for each in dump.threads)))
    return "{" + ",\n".join(parts) + "}"


def _listed(key: str, values: Iterable[dict[str, Any]]) -> str:
    lines = ",\n".join([json.dumps(value) for value in values])
    return f"{json.dumps(key)}: [\n{lines}]" if lines else f"{json.dumps(key)}: []"


def of_task(task: TaskInfo, stacks: Known) -> dict[str, Any]:
    """Return a task as plain values; *stacks* are those made already, which it adds to."""
    wait = task.wait
    return {
        "number": task.number,
        "name": task.name,
        "loop": task.loop,
        "coroutine": task.coroutine,
        "state": task.state.value,
        "started": task.started,
        "cancelling": task.cancelling,
        "age": _rounded(task.age),
        "wait": None
        if wait is None
        else {
            "kind": wait.kind.value,
            "on": wait.on,
            "seconds": _rounded(wait.seconds),
            "number": wait.number,
            "held_by": wait.held_by,
        },
        "stack": _stack(task.stack, stacks),
        "stack_omitted": task.stack.omitted,
        "jobs": [of_job(each) for each in task.jobs],
        "jobs_total": task.jobs_total,
        "awaits": task.awaits,
        "awaits_total": task.awaits_total,
        "awaited_by": task.awaited_by,
        "origin": None if task.origin is None else task.origin._asdict(),
    }


def _stack(stack: Stack, known: Known) -> list[dict[str, Any]]:
    """Return the frames; the same list for the same stack."""
    found = known.get(id(stack))
    if found is None:
        found = known[id(stack)] = [frame._asdict() for frame in stack.frames]
    return found


def of_job(job: JobInfo) -> dict[str, Any]:
    """Return a job as plain values."""
    seconds = None if job.seconds is None else _rounded(job.seconds)
    return {
        "queue": job.queue,
        "name": job.name,
        "id": job.id,
        "trace_id": job.trace_id,
        "span_id": job.span_id,
        "seconds": seconds,
        "task": job.task,
    }


def _queue(queue: QueueInfo) -> dict[str, Any]:
    return {
        "number": queue.number,
        **asdict(queue.stats),
        "kind": queue.kind,
        "unfinished": queue.unfinished,
        "shut_down": queue.shut_down,
        "getters": queue.getters,
        "putters": queue.putters,
        "jobs": [of_job(each) for each in queue.jobs],
        "jobs_total": queue.jobs_total,
    }


def _thread(thread: ThreadInfo, stacks: Known) -> dict[str, Any]:
    return {
        "name": thread.name,
        "ident": thread.ident,
        "loop": thread.loop,
        "stack": _stack(thread.stack, stacks),
        "stack_omitted": thread.stack.omitted,
    }


def _rounded(seconds: float) -> float:
    return round(seconds, 6)
