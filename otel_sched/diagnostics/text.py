"""Floor 5: a dump as text for people."""

import heapq
import itertools
import linecache
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .jobs import JobInfo
from .origins import Origin
from .queues import QueueInfo
from .stacks import OUTER_FRAMES, Stack
from .tasks import TaskInfo, Tasks, TaskState, WaitInfo
from .threads import ThreadInfo, idle_words
from .tree import Node, nodes
from .waits import WaitKind

MAX_NODES = 500
"""The most asyncio tasks, or groups of like ones, written as text; JSON has all that the dump has."""
MAX_INDENT = 20
"""Deeper ones are not indented further."""
MAX_SOURCE = 120
"""The most characters of a line of source."""
NAMED = 5
"""How many tasks are named where there are many."""

_WAITS = {
    WaitKind.TASK: "waits for {on}",
    WaitKind.TASKS: "waits for {on}",
    WaitKind.QUEUE_GET: "waits in get() of queue {on!r}",
    WaitKind.QUEUE_PUT: "waits in put() into queue {on!r}",
    WaitKind.QUEUE_JOIN: "waits in join() of queue {on!r}",
    WaitKind.LOCK: "waits for the {on}",
    WaitKind.SEMAPHORE: "waits for the {on}",
    WaitKind.CONDITION: "waits for the {on}",
    WaitKind.EVENT: "waits for the {on}",
    WaitKind.BARRIER: "waits for the {on}",
    WaitKind.SLEEP: "sleeps for {on}",
    WaitKind.STREAM: "waits for the {on}",
    WaitKind.THREAD: "waits for a call in an executor ({on})",
    WaitKind.FUTURE: "waits for the {on}",
}


def of_dump(dump: Any) -> str:
    """Return a dump as text that ends with a newline."""
    lines = [f"dump of process {dump.pid}, {dump.when:%Y-%m-%d %H:%M:%S} UTC, Python {dump.python}"]
    if dump.tasks is not None:
        lines += ["", *_tasks(dump.tasks)]
    if dump.queues is not None:
        lines += ["", f"queues: {dump.queues_total}", *_queues(dump.queues, dump.queues_total)]
    if dump.interrupted:
        lines += ["", *_came(dump.interrupted)]
    if dump.threads is not None:
        lines += ["", f"threads: {dump.threads_total}", *_threads(dump.threads, dump.threads_total)]
    return "\n".join(lines) + "\n"


def described(wait: WaitInfo) -> str:
    """Return in words what a task waits for, and since when."""
    what = _WAITS[wait.kind].format(on=wait.on)
    by = ", for jobs that are with" if wait.kind is WaitKind.QUEUE_JOIN else ", held by"
    held = f"{by} {_numbered(wait.held_by)}" if wait.held_by else ""
    since = f", for at least {_seconds(wait.seconds)}" if wait.seconds else ""
    return f"{what}{held}{since}"


def _tasks(tasks: Tasks) -> Iterator[str]:
    states = ", ".join(f"{count} {state}" for state, count in tasks.states.items())
    running = tuple(tasks.running())
    yield f"asyncio tasks: {tasks.total}" + (f" ({states})" if states else "")
    for loop in tasks.loops:
        where = "closed" if loop.closed else f"in thread {loop.thread!r}" if loop.thread else "in no known thread"
        yield f"  {loop.name}: {loop.kind} {where}, {loop.tasks} task{'s' * (loop.tasks != 1)}"
        for task in running:  # what keeps a loop from turning is what most dumps are made for
            if task.loop == loop.name:
                yield from _indented(of_task(task), 2)
    yield from tree(nodes(tasks), tasks.by_number(), tasks.total, frozenset(task.number for task in running))


def tree(
    found: Iterable[Node], get: Callable[[int], TaskInfo], total: int, shown: frozenset[int] = frozenset()
) -> Iterator[str]:
    """Yield the lines of the first MAX_NODES nodes, and how many tasks of *total* are left; some are *shown* above."""
    written = 0
    for node in itertools.islice(found, MAX_NODES):
        written += 0 if node.again else 1 + len(node.like)
        yield from _indented(_node(node, get, node.number in shown), min(node.depth, MAX_INDENT) + 1)
    if written < total:
        yield f"  and {total - written} more"


def of_task(task: TaskInfo, depth: int = 0) -> Iterator[str]:
    """Yield what a task does, its jobs and its stack."""
    deep = f"[depth {depth}] " if depth > MAX_INDENT else ""
    yield f"{deep}{_named(task)} ({task.coroutine}) {_doing(task)}; {_age(task)}"
    yield from _indented(jobs(task.jobs, task.jobs_total, task.number), 2)
    if task.origin is not None:
        yield f"    started in {of_origin(task.origin)}, which has ended"
    yield from _indented(_stack(task.stack), 2)


def of_origin(origin: Origin) -> str:
    """Return in words in which job a task was started."""
    if not origin.queue:
        return "a job"
    return f"job{' ' * bool(origin.id)}{origin.id} of queue {origin.queue!r}" + (f", {origin.name}" * bool(origin.name))


def _node(node: Node, get: Callable[[int], TaskInfo], shown: bool) -> Iterator[str]:
    task = get(node.number)
    if node.again:
        yield f"{_named(task)}: {'it waits for itself: a ring' if node.ring else 'see above'}"
        return
    if shown:
        yield f"{_named(task)} ({task.coroutine}) runs, see above"
    else:
        yield from of_task(task, node.depth)
    if node.like:
        names = ", ".join(_named(get(each)) for each in node.like[:NAMED])
        more = ", ..." if len(node.like) > NAMED else ""
        yield f"  and {len(node.like)} more like it: {names}{more}"
        others = {job.id: job for each in node.like for job in get(each).jobs}
        for own in task.jobs:
            others.pop(own.id, None)
        longest = heapq.nlargest(NAMED, others.values(), key=lambda job: job.seconds or 0.0)
        yield from _indented(jobs(longest, len(others), None), 2)


def _doing(task: TaskInfo) -> str:
    words = {TaskState.RUNNING: "runs", TaskState.READY: "is ready to run", TaskState.UNKNOWN: "cannot be looked at"}
    what = described(task.wait) if task.wait is not None else words.get(task.state, "waits")
    if not task.started:
        what += ", not begun"
    if task.cancelling:
        what += f", asked to cancel {task.cancelling} time{'s' if task.cancelling > 1 else ''}"
    return what


def _age(task: TaskInfo) -> str:
    return f"at least {_seconds(task.age)} old" if task.age else "first seen now"


def jobs(found: Iterable[JobInfo], total: int, task: int | None) -> Iterator[str]:
    """Yield a line for each job, and how many of *total* are left; *task* is the one that they are listed under."""
    shown = 0
    for job in found:
        shown += 1
        runs = "" if job.seconds is None else f", runs for {_seconds(job.seconds)}"
        trace = "" if job.trace_id is None else f", trace {job.trace_id}"
        whose = "" if job.task in (None, task) else f", of task {job.task}"
        yield f"job {job.id} of queue {job.queue!r}, {job.name or 'unnamed'}{runs}{whose}{trace}"
    if shown < total:
        yield f"and {total - shown} more jobs"


def _stack(stack: Stack) -> Iterator[str]:
    for number, (file, line, function) in enumerate(stack.frames):
        if stack.omitted and number == OUTER_FRAMES:
            yield f"... {stack.omitted} more"
        yield f'File "{file}", line {line}, in {function}'
        source = linecache.getline(file, line).strip()
        if source:
            yield f"  {source[:MAX_SOURCE]}"


def _came(interrupted: str) -> Iterator[str]:
    """Yield what the signal interrupted; a single line where that was an event loop that had nothing to do."""
    lines = interrupted.splitlines()
    files = [line for line in lines if line.lstrip().startswith("File ")]
    if len(files) > 1 and "selectors.py" in files[0] and files[1].endswith("in _run_once"):
        yield "when the signal came the event loop was waiting"
    else:
        yield from ("when the signal came", *_indented(lines, 1))


def _queues(queues: tuple[QueueInfo, ...], total: int) -> Iterator[str]:
    for queue in queues:
        yield from _indented(_queue(queue), 1)
    if len(queues) < total:
        yield f"  and {total - len(queues)} more"


def _queue(queue: QueueInfo) -> Iterator[str]:
    stats = queue.stats
    room = "" if stats.capacity is None else f" of {stats.capacity}"
    oldest = f" (oldest {_seconds(stats.oldest_age)})" if stats.size else ""
    longest = f" (longest {_seconds(stats.oldest_active_age)})" if stats.oldest_active_age else ""
    ended = ", ".join(f"{count} {outcome}" for outcome, count in stats.outcomes.items())
    yield (
        f"queue {stats.name!r} ({queue.kind}): {stats.size}{room} wait{oldest}; {stats.active} taken{longest}; "
        f"{stats.put} put, {stats.finished} finished{f' ({ended})' if ended else ''}, {stats.dropped} dropped; "
        f"{queue.unfinished} unfinished{'; shut down' if queue.shut_down else ''}"
    )
    for verb, tasks, count in (
        ("get()", queue.getters, stats.gets_waiting),
        ("put()", queue.putters, stats.puts_waiting),
    ):
        if count:
            named = _numbered(tasks) if tasks else "no task of an event loop that goes on"
            yield f"  blocked in {verb}: {count}: {named}"
    for job in queue.jobs:
        where = "no known task" if job.task is None else f"task {job.task}"
        yield from _indented((f"{line}, in {where}" for line in jobs([job], 1, job.task)), 1)
    if len(queue.jobs) < queue.jobs_total:
        yield f"  and {queue.jobs_total - len(queue.jobs)} more jobs"


def _threads(threads: tuple[ThreadInfo, ...], total: int) -> Iterator[str]:
    idle = [(thread, idle_words(thread)) for thread in threads]
    for thread, words in sorted(idle, key=lambda each: each[1] is not None):
        yield f"  thread {thread.name!r}{f', {thread.loop}' if thread.loop else ''}{f': {words}' if words else ''}"
        if words is None:
            yield from _indented(_stack(thread.stack), 3)
    if len(threads) < total:
        yield f"  and {total - len(threads)} more"


def _named(task: TaskInfo) -> str:
    return f"task {task.number} {task.name!r}"


def _numbered(numbers: tuple[int, ...]) -> str:
    shown = ", ".join(str(number) for number in numbers[:NAMED])
    return f"task {shown}" if len(numbers) == 1 else f"tasks {shown}{', ...' if len(numbers) > NAMED else ''}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f} s" if seconds < 10 else f"{seconds:.0f} s"


def _indented(lines: Iterable[str], steps: int) -> Iterator[str]:
    return ("  " * steps + line for line in lines)
