"""Dumps: what stands in them, from where they can be made, and where they end."""

import asyncio
import contextlib
import gc
import io
import json
import re
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from otel_sched import Job, Listener, Observer, OtelObserver, Queue, WorkerPool
from otel_sched._core.ledger import Ledger
from otel_sched.diagnostics import Dump, dump, dump_async, dump_on_signal, dump_queues, dump_tasks, dump_tasks_async
from otel_sched.diagnostics.jobs import MAX_JOBS
from otel_sched.diagnostics.look import MAX_LINKS, MAX_TEXT
from otel_sched.diagnostics.tasks import TaskInfo, note_tasks
from otel_sched.diagnostics.text import MAX_NODES
from otel_sched.testing import InMemoryTelemetry, run, wait_until_sync
from tests.conftest import LOOPS, ARun


class Follows(Listener):
    def started(self, job: Job[Any], own_worker: bool) -> bool:
        return True


class FollowsAll(Observer):
    def watch(self, ledger: Ledger) -> Listener:
        return Follows()


def followed(name: str, maxsize: int = 0) -> Queue[int]:
    """Return a queue whose jobs are followed, in virtual time."""
    return Queue[int](maxsize, name=name, observer=FollowsAll(), clock=asyncio.get_running_loop().time)


def by_name(found: Dump) -> dict[str, TaskInfo]:
    """Return the tasks of a dump by name."""
    assert found.tasks is not None
    return {task.name: task for task in found.tasks}


async def cancelled(*tasks: "asyncio.Task[Any]") -> None:
    """Cancel tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def hung(loop_kind: str) -> Iterator[threading.Event]:
    """Run a loop in a thread, where a task named `hangs` blocks it until the end of the block."""
    began, release = threading.Event(), threading.Event()

    async def hangs() -> None:
        began.set()
        release.wait(20)

    async def main() -> None:
        idle = asyncio.create_task(asyncio.Event().wait(), name="idle")
        await asyncio.sleep(0)
        await asyncio.create_task(hangs(), name="hangs")
        await cancelled(idle)

    def work() -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop_kind]) as runner:
            runner.run(main())

    thread = threading.Thread(target=work, name="a loop's thread")
    thread.start()
    try:
        assert began.wait(10)
        yield release
    finally:
        release.set()
        thread.join()


def test_a_hung_loop_is_seen_from_another_thread(loop_kind: str) -> None:
    """With the line that hangs, the thread it hangs in, and what else waits."""
    with hung(loop_kind):
        found = dump()
    tasks = by_name(found)
    assert tasks["hangs"].state == "running"
    functions = [frame.function.rpartition(".")[2] for frame in tasks["hangs"].stack.frames]
    assert functions[:2] == ["hangs", "wait"]
    assert tasks["idle"].state == "waiting"
    assert found.tasks is not None
    assert [loop.thread for loop in found.tasks.loops if loop.name == tasks["hangs"].loop] == ["a loop's thread"]
    text = found.text()
    assert "release.wait(20)" in text
    assert f'thread "a loop\'s thread", {tasks["hangs"].loop}' in text


def test_all_loops_are_in_one_dump(loop_kind: str) -> None:
    """Whichever loop it is asked from."""

    async def main() -> Dump:
        return dump_tasks()

    with hung(loop_kind):
        found = run(main())
    assert found.tasks is not None
    assert len({task.loop for task in found.tasks}) >= 2
    assert {task.name for task in found.tasks} >= {"hangs", "idle"}


def test_tasks_of_a_closed_loop_say_so() -> None:
    """They can never go on; a dump shows why a job never ended, and lets the loop and its tasks go afterwards."""

    async def forgotten() -> None:
        await asyncio.Event().wait()

    loop = asyncio.new_event_loop()
    task: Any = loop.create_task(forgotten(), name="lost")
    task._log_destroy_pending = False  # it will be destroyed while it waits, as such tasks are
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    found = dump_tasks()
    assert found.tasks is not None
    assert [each.closed for each in found.tasks.loops if each.name == by_name(found)["lost"].loop] == [True]
    assert "SelectorEventLoop closed, 1 task" in found.text()
    gone = weakref.ref(task), weakref.ref(loop)
    del task, loop
    gc.collect()
    assert [each() for each in gone] == [None, None]


def test_a_task_is_shown_with_the_jobs_it_took() -> None:
    """Queue, name, id, how long it runs; a job that was taken with get() as well as a pool's."""

    async def main() -> tuple[Dump, str]:
        orders, mails = followed("orders"), followed("mails")
        ids = []

        async def charge() -> None:
            await orders.get()
            ids.append(next(iter(orders.ledger.open)).id)
            await asyncio.Event().wait()

        async def send(mail: int) -> None:
            await asyncio.Event().wait()

        worker = asyncio.create_task(charge(), name="worker")
        orders.put_nowait(1)
        async with WorkerPool(mails, send, workers=1, name="mailer", grace=0):
            mails.put_nowait(1)
            await asyncio.sleep(12)
            found = dump()
        await cancelled(worker)
        return found, ids[0]

    found, first = run(main())
    tasks = by_name(found)
    (job,) = tasks["worker"].jobs
    assert (job.queue, job.name.rpartition(".")[2], job.id, job.task) == (
        "orders",
        "charge",
        first,
        tasks["worker"].number,
    )
    assert job.seconds == pytest.approx(12)
    (mail,) = tasks["mailer-0"].jobs
    assert (mail.queue, mail.task) == ("mails", tasks["mailer-0"].number)
    assert f"job {first} of queue 'orders'" in found.text()
    assert tasks["worker"].age >= 12  # it is at least as old as its job


def test_a_job_is_shown_with_its_trace(telemetry: InMemoryTelemetry) -> None:
    """The same trace id as in the back end."""

    async def main() -> Dump:
        orders = Queue[int](
            name="orders",
            observer=OtelObserver(tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider),
        )

        async def charge() -> None:
            await orders.get()
            await release.wait()
            orders.task_done()

        release = asyncio.Event()
        worker = asyncio.create_task(charge(), name="worker")
        orders.put_nowait(1)
        await asyncio.sleep(1)
        found = dump_tasks()
        release.set()
        await worker
        return found

    (job,) = by_name(run(main()))["worker"].jobs
    assert job.trace_id in {f"{span.context.trace_id:032x}" for span in telemetry.spans}
    assert job.span_id in {f"{span.context.span_id:016x}" for span in telemetry.spans}


def test_a_task_started_in_a_job_is_shown_with_it() -> None:
    """Marked as another task's: it works on it too, and may outlive it."""

    async def main() -> Dump:
        orders = followed("orders")

        async def charge() -> None:
            await orders.get()
            await asyncio.create_task(asyncio.sleep(3600), name="child")

        worker = asyncio.create_task(charge(), name="worker")
        orders.put_nowait(1)
        await asyncio.sleep(1)
        found = dump_tasks()
        await cancelled(worker)
        return found

    tasks = by_name(run(main()))
    assert [job.task for job in tasks["child"].jobs] == [tasks["worker"].number]


def test_a_queue_is_shown_with_who_waits_at_it() -> None:
    """Its numbers, its open jobs and whose they are, who is blocked in get() and in put()."""

    async def main() -> Dump:
        orders, mails = followed("full", 1), followed("empty")
        tasks = [asyncio.create_task(orders.put(each), name=f"producer-{each}") for each in range(3)]
        tasks.append(asyncio.create_task(mails.get(), name="reader"))
        await asyncio.sleep(0)

        async def charge() -> None:
            await orders.get()
            await asyncio.Event().wait()

        tasks.append(asyncio.create_task(charge(), name="worker"))
        await asyncio.sleep(7)
        found = dump()
        await cancelled(*tasks)
        return found

    found = run(main())
    tasks = by_name(found)
    assert found.queues is not None
    queues = {queue.stats.name: queue for queue in found.queues}
    orders, mails = queues["full"], queues["empty"]
    assert (orders.stats.size, orders.stats.capacity, orders.unfinished) == (1, 1, 2)
    assert orders.putters == (tasks["producer-2"].number,)
    assert [job.task for job in orders.jobs] == [tasks["worker"].number]
    assert mails.getters == (tasks["reader"].number,)
    text = found.text()
    assert f"blocked in put(): 1: task {tasks['producer-2'].number}" in text
    assert "queue 'full' (Queue): 1 of 1 wait (oldest 7.000 s); 1 taken (longest 7.000 s)" in text
    assert "2 put, 0 finished, 0 dropped; 2 unfinished\n" in text  # which says of nobody that he made a mistake


def test_what_hangs_comes_first_and_threads_come_last(loop_kind: str) -> None:
    """In full below its loop, and once; of a thread of ours, or one that waits for work, there is one line."""
    idle = ThreadPoolExecutor(1, thread_name_prefix="idle")
    idle.submit(int).result()
    with hung(loop_kind), dump_on_signal(file=io.StringIO()):
        text = dump().text()
    idle.shutdown()
    sections = [text.index(each) for each in ("\nasyncio tasks:", "\nqueues: ", "\nthreads: ")]
    assert sections == sorted(sections)
    first = text[text.index(' in thread "a loop\'s thread"') :].splitlines()[1:3]
    assert re.fullmatch(r" +task \d+ 'hangs' \(hangs\) runs; .* old|.* first seen now", first[0])
    assert "in hangs" in first[1]
    assert text[: sections[2]].count("release.wait(20)") == 1
    assert re.search(r"task \d+ 'hangs' \(hangs\) runs, see above\n", text)
    threads = text[sections[2] :].splitlines()
    (ours,) = [number for number, line in enumerate(threads) if "'otel_sched dumps on SIGUSR1'" in line]
    assert threads[ours].endswith(": of otel_sched itself")
    (number,) = [number for number, line in enumerate(threads) if "'idle_0'" in line]
    assert ": waits in _worker, line " in threads[number]
    assert not threads[number + 1 : number + 2] or threads[number + 1].startswith("  thread ")


def test_a_loop_that_waits_takes_one_line(loop_kind: str) -> None:
    """What it waits for the tasks say."""
    ready, over = threading.Event(), threading.Event()

    async def main() -> None:
        event = asyncio.Event()
        asyncio.get_running_loop().call_soon(ready.set)
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), 0.05)

    def work() -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop_kind]) as runner:
            runner.run(main())

    def lines() -> list[str]:
        return [line for line in dump().text().splitlines() if "thread 'waits', loop-" in line]

    thread = threading.Thread(target=work, name="waits")
    thread.start()
    try:
        assert ready.wait(10)
        wait_until_sync(lambda: any("event loop" in line for line in lines()), description="a look while it waits")
    finally:
        over.set()
        thread.join()


def test_a_join_names_who_holds_the_jobs() -> None:
    """It waits for them, if for nobody else."""

    async def main() -> Dump:
        orders = followed("orders")

        async def charge() -> None:
            await orders.get()
            await asyncio.Event().wait()

        orders.put_nowait(1)
        tasks = asyncio.create_task(charge(), name="worker"), asyncio.create_task(orders.join(), name="join")
        await asyncio.sleep(1)
        found = dump_tasks()
        await cancelled(*tasks)
        return found

    found = run(main())
    tasks = by_name(found)
    assert tasks["join"].wait is not None
    assert tasks["join"].wait.held_by == (tasks["worker"].number,)
    assert f"for jobs that are with task {tasks['worker'].number}" in found.text()


def test_ages_begin_when_something_is_first_seen() -> None:
    """asyncio keeps no time of birth; a second dump knows what the first one saw, and numbers stay."""

    async def main() -> tuple[Dump, Dump]:
        event = asyncio.Event()
        task = asyncio.create_task(event.wait(), name="waits")
        await asyncio.sleep(0)
        first = dump_tasks()
        until = time.monotonic() + 0.02
        wait_until_sync(lambda: time.monotonic() > until)
        second = dump_tasks()
        event.set()
        await task
        return first, second

    first, second = run(main())
    before, after = by_name(first)["waits"], by_name(second)["waits"]
    assert before.age == 0.0
    assert "first seen now" in first.text()
    assert after.age >= 0.02
    assert before.number == after.number
    assert before.wait is not None
    assert after.wait is not None
    assert after.wait.seconds >= 0.02
    assert before.wait.number == after.wait.number


@pytest.mark.parametrize("noted", [True, False])
def test_numbers_follow_the_order_of_birth(noted: bool) -> None:
    """What a dump, or the thread of dump_on_signal, sees for the first time is numbered as asyncio named it."""

    async def main() -> list[str]:
        tasks = [asyncio.create_task(asyncio.sleep(1)) for _ in range(50)]
        if noted:
            note_tasks(time.monotonic())
        found = dump_tasks()
        await asyncio.gather(*tasks)
        assert found.tasks is not None
        ours = {task.get_name() for task in tasks}
        return [task.name for task in sorted(found.tasks, key=lambda task: task.number) if task.name in ours]

    names = run(main())
    assert names == sorted(names, key=lambda name: int(name.removeprefix("Task-")))


def test_the_async_forms_let_the_loop_turn(arun: ARun) -> None:
    """The look is made in a thread, and the asking task is seen as it waits for it."""

    async def main() -> tuple[Dump, Dump]:
        return await dump_tasks_async(), await dump_async()

    found, whole = arun(main())
    assert found.queues is None
    assert whole.queues is not None
    assert [task.state for task in by_name(found).values() if task.coroutine.endswith("main")] == ["waiting"]


def test_json_has_the_documented_shape() -> None:
    """Every name, for programs that read it; what is not asked for is left out."""

    async def main() -> tuple[Any, Any, Any]:
        orders = followed("shaped")

        async def charge() -> None:
            await orders.get()
            await asyncio.Event().wait()

        orders.put_nowait(1)
        task = asyncio.create_task(charge(), name="worker")
        await asyncio.sleep(1)
        found = dump()
        parts = dump_tasks(), dump_queues()
        await cancelled(task)
        return json.loads(found.json()), json.loads(parts[0].json()), json.loads(parts[1].json())

    whole, tasks, queues = run(main())
    head = {"shape", "when", "pid", "python", "seconds"}
    of_tasks = {"loops", "tasks_total", "task_states", "tasks"}
    of_queues = {"queues_total", "queues"}
    assert set(whole) == head | of_tasks | of_queues | {"threads_total", "threads"}
    assert set(tasks) == head | of_tasks
    assert set(queues) == head | of_queues
    assert whole["shape"] == 1
    assert set(whole["loops"][0]) == {"name", "kind", "thread", "closed", "tasks"}
    (worker,) = [task for task in whole["tasks"] if task["name"] == "worker"]
    assert set(worker) == {
        *("number", "name", "loop", "coroutine", "state", "started", "cancelling", "age", "wait"),
        *("stack", "stack_omitted", "jobs", "jobs_total", "awaits", "awaits_total", "awaited_by", "origin"),
    }
    assert set(worker["wait"]) == {"kind", "on", "seconds", "number", "held_by"}
    assert set(worker["stack"][0]) == {"file", "line", "function"}
    assert set(worker["jobs"][0]) == {"queue", "name", "id", "trace_id", "span_id", "seconds", "task"}
    (queue,) = [queue for queue in whole["queues"] if queue["name"] == "shaped"]
    assert {"number", "size", "put", "outcomes", "unfinished", "shut_down", "getters", "putters", "jobs"} <= set(queue)
    assert set(whole["threads"][0]) == {"name", "ident", "loop", "stack", "stack_omitted"}


def test_the_limit_leaves_out_the_youngest_and_counts_them() -> None:
    """Running tasks come first, whatever their age."""

    async def main() -> Dump:
        tasks = [asyncio.create_task(asyncio.sleep(1)) for _ in range(20)]
        await asyncio.sleep(0)
        found = await asyncio.create_task(asks(), name="asks")
        await asyncio.gather(*tasks)
        return found

    async def asks() -> Dump:
        return dump_tasks(limit=5)

    found = run(main())
    assert found.tasks is not None
    assert found.tasks.total >= 22
    assert len(found.tasks) == 5
    assert next(iter(found.tasks)).name == "asks"
    assert sum(found.tasks.states.values()) == found.tasks.total
    assert f"and {found.tasks.total - 5} more" in found.text()


def test_names_jobs_and_links_are_bounded() -> None:
    """Long names are cut; of many jobs and many children some are listed and all counted."""

    async def main() -> Dump:
        orders = followed("orders")
        for each in range(MAX_JOBS + 5):
            orders.put_nowait(each)

        async def hoards() -> None:
            for _ in range(MAX_JOBS + 5):
                await orders.get()
            await asyncio.gather(*(asyncio.sleep(3600) for _ in range(MAX_LINKS + 5)))

        task = asyncio.create_task(hoards(), name="x" * 1000 + "\nend")
        await asyncio.sleep(1)
        found = dump()
        await cancelled(task)
        return found

    found = run(main())
    assert found.tasks is not None
    (task,) = [each for each in found.tasks if each.name.startswith("xxx")]
    assert len(task.name) == MAX_TEXT
    assert (len(task.jobs), task.jobs_total) == (MAX_JOBS, MAX_JOBS + 5)
    assert (len(task.awaits), task.awaits_total) == (MAX_LINKS, MAX_LINKS + 5)
    assert "and 5 more jobs" in found.text()


def test_text_is_bounded_for_tasks_that_are_all_different() -> None:
    """Beyond its limit they are counted; JSON still has them."""

    async def main() -> Dump:
        space: dict[str, Any] = {"asyncio": asyncio}
        coroutines = []
        for each in range(MAX_NODES + 50):
            exec(f"async def job_{each}(): await asyncio.sleep(1)", space)
            coroutines.append(space[f"job_{each}"]())
        tasks = [asyncio.create_task(each) for each in coroutines]
        await asyncio.sleep(0)
        found = dump_tasks()
        await asyncio.gather(*tasks)
        return found

    found = run(main())
    assert found.tasks is not None
    assert found.text().rstrip().endswith(f"and {found.tasks.total - MAX_NODES} more")
    assert len(json.loads(found.json())["tasks"]) == found.tasks.total


class Odd(asyncio.tasks._PyTask):  # type: ignore[name-defined, misc]
    """A task of a class of its own, which answers oddly."""

    def cancelling(self) -> int:
        raise RuntimeError("odd")


def test_a_task_that_cannot_be_looked_at_does_not_spoil_the_dump() -> None:
    """It is there by name, and so are the others."""

    async def main() -> Dump:
        odd = Odd(asyncio.sleep(1), loop=asyncio.get_running_loop(), name="odd")
        other = asyncio.create_task(asyncio.sleep(1), name="other")
        await asyncio.sleep(0)
        found = dump_tasks()
        await asyncio.wait([odd, other])
        return found

    found = run(main())
    assert by_name(found)["odd"].state == "unknown"
    assert by_name(found)["other"].state == "waiting"
    assert "cannot be looked at" in found.text()


@pytest.mark.parametrize(("limit", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_a_limit_that_makes_no_sense_is_refused(limit: Any, error: type[Exception]) -> None:
    """With what was given."""
    with pytest.raises(error, match=str(limit)):
        dump_tasks(limit=limit)


def test_ten_thousand_tasks_are_dumped_while_they_come_and_go(arun: ARun) -> None:
    """Whole and in bounded time, though every task may move between two looks at it."""

    async def main() -> Dump:
        release = asyncio.Event()

        async def restless() -> None:
            while not release.is_set():
                await asyncio.gather(*(asyncio.sleep(0) for _ in range(10)))

        async def waits() -> None:
            await release.wait()

        tasks = [asyncio.create_task(waits()) for _ in range(10_000)]
        tasks += [asyncio.create_task(restless()) for _ in range(5)]
        await asyncio.sleep(0)
        found = await dump_tasks_async(limit=20_000)
        release.set()
        await asyncio.gather(*tasks)
        return found

    found = arun(main())
    assert found.tasks is not None
    assert sum(task.coroutine.endswith("waits") for task in found.tasks) == 10_000
    assert len(found.text()) < 100_000  # like ones together


@pytest.mark.parametrize("name", ["", f"Task-{'9' * 5000}"])
def test_a_task_with_an_odd_name_is_one_row_and_spoils_nothing(name: str) -> None:
    """One whose class fails to tell its name, and one whose number nobody can read."""

    class Odd(asyncio.Task[None]):
        def get_name(self) -> str:
            if not name:
                raise RuntimeError("no name")
            return name

    async def wait() -> None:
        await asyncio.sleep(3600)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        odd = Odd(wait(), loop=loop)
        current = asyncio.current_task()
        assert current is not None
        current.set_name("main")
        await asyncio.sleep(0)
        found = dump_tasks().tasks
        assert found is not None
        assert sorted(each.name[:10] for each in found) == sorted([name[:10], "main"])
        await ended(odd)

    async def ended(task: "asyncio.Task[None]") -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
