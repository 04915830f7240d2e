"""Threads, forks and worker processes export their own telemetry, each span once, and come to their end."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from otel_sched.testing import wait_until_sync
from tests.support.faulty import Fault, FaultyReceiver
from tests.support.steered import environment

PROTOCOLS = ("grpc", "http/protobuf")
JOBS = 20

PROGRAM = """
import asyncio, functools, json, logging, multiprocessing, os, sys, threading, time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
import otel_sched

JOBS = 20
log = logging.getLogger("shop")
configure = functools.partial(otel_sched.configure, service_name="shop", **json.loads(sys.argv[1]))

async def charge(order):
    log.info("charged %s", order)

async def jobs(name):
    orders = otel_sched.Queue(name=name)
    async with otel_sched.WorkerPool(orders, charge, workers=4):
        for number in range(JOBS):
            await orders.put(f"{name} {number}")

def work(name):
    asyncio.run(jobs(name))
    return os.getpid()

def fresh(name):  # a spawned process has nothing of its parent's
    configure()
    work(name)

def ready():
    print("ready", flush=True)
    sys.stdin.readline()

def fork():
    child = os.fork()
    work("child" if child else "parent")
    if child:
        _, status = os.waitpid(child, 0)
        assert status == 0, status

def forks():
    for name in ("child-0", "child-1", "child-2"):
        child = os.fork()
        if not child:
            grandchild = os.fork()
            work(name + "-child" if not grandchild else name)
            if grandchild:
                assert os.waitpid(grandchild, 0)[1] == 0
            sys.exit(0)
        work("parent")
        assert os.waitpid(child, 0)[1] == 0

def hasty():
    child = os.fork()
    if not child:
        work("lost")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

def process(method):
    children = [
        multiprocessing.get_context(method).Process(target=work if method == "fork" else fresh, args=(f"child-{n}",))
        for n in range(2)
    ]
    for child in children:
        child.start()
    work("parent")
    for child in children:
        child.join()
        assert child.exitcode == 0, child.exitcode

def executor(method):
    start = None if method == "fork" else configure
    with ProcessPoolExecutor(2, multiprocessing.get_context(method), initializer=start) as pool:
        began = [pool.submit(work, f"child-{n}") for n in range(3)]
        work("parent")
        assert os.getpid() not in [each.result() for each in began]

def pool(method):
    start = None if method == "fork" else configure
    with multiprocessing.get_context(method).Pool(2, start) as children:
        children.map(work, ["child-0", "child-1"])
        children.close()
        children.join()

def threads():
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, [f"thread-{n}" for n in range(4)]))

def producers():
    async def main():
        orders = otel_sched.Queue(maxsize=5, name="orders")
        loop = asyncio.get_running_loop()
        def produce(first):
            for number in range(first, JOBS, 4):
                asyncio.run_coroutine_threadsafe(orders.put(f"orders {number}"), loop).result()
        async with otel_sched.WorkerPool(orders, charge, workers=4):
            await asyncio.gather(*(asyncio.to_thread(produce, first) for first in range(4)))
    asyncio.run(main())

def restless():
    def ceaseless():
        while True:
            work("restless")
    threading.Thread(target=ceaseless, daemon=True).start()
    work("parent")

if __name__ == "__main__":
    telemetry = configure()
    work("before")
    ready()
    name, *method = sys.argv[2].split()
    globals()[name](*method)
"""

FAMILIES = {
    "fork": ("parent", "child"),
    "process fork": ("parent", "child-0", "child-1"),
    "process spawn": ("parent", "child-0", "child-1"),
    "process forkserver": ("parent", "child-0", "child-1"),
    "executor fork": ("parent", "child-0", "child-1", "child-2"),
    "executor spawn": ("parent", "child-0", "child-1", "child-2"),
    "pool fork": ("child-0", "child-1"),
    "threads": ("thread-0", "thread-1", "thread-2", "thread-3"),
    "producers": ("orders",),
}


class Family:
    """The program in a process of its own, ready to do what *what* says."""

    def __init__(self, place: Path, receiver: FaultyReceiver, what: str, **arguments: Any) -> None:
        file = place / "family.py"  # a file: a spawned child imports it
        file.write_text(PROGRAM)
        given = {"endpoint": receiver.endpoint, "protocol": receiver.protocol, **arguments}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", str(file), json.dumps(given), what],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment({}),
        )
        assert _open(self._process.stdout).readline() == "ready\n", self._process.communicate(timeout=40.0)

    def go(self) -> None:
        """Have it begin."""
        print(file=_open(self._process.stdin), flush=True)

    def kill(self) -> None:
        """Leave no process behind when the test failed."""
        self._process.kill()
        self._process.wait(10.0)

    def end(self) -> float:
        """Return the seconds from now to its end, which must be a good one."""
        began = time.monotonic()
        _, said = self._process.communicate(timeout=40.0)
        err = "".join(line for line in said.splitlines(keepends=True) if " INFO shop: charged" not in line)
        assert self._process.returncode == 0, err
        assert "Traceback" not in err, err
        return time.monotonic() - began


def _open(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


@pytest.fixture(params=PROTOCOLS)
def receiver(request: pytest.FixtureRequest) -> Iterator[FaultyReceiver]:
    """A receiver that is well, for each protocol."""
    with FaultyReceiver(request.param) as here:
        yield here


def assert_arrived(receiver: FaultyReceiver, queues: Counter[str]) -> None:
    """The jobs of these queues arrived: spans, log records and metrics of each."""
    jobs = {name: times * JOBS for name, times in queues.items()}
    spans = {name.removeprefix("process "): n for name, n in receiver.books.names.items() if "process " in name}
    assert spans == jobs
    lines = Counter({name: len({line for line in receiver.books.logs if f" {name} " in line}) for name in queues})
    assert lines == dict.fromkeys(queues, JOBS)
    assert receiver.books.put.keys() == queues.keys()
    assert set(receiver.books.put.values()) <= set(jobs.values())


def may_come_again(receiver: FaultyReceiver) -> set[str]:
    """Over gRPC a fork ends the call that is under way, if it takes long; what was in it is then sent again."""
    return {"before", "parent"} if receiver.protocol == "grpc" else set()


def assert_each_once(receiver: FaultyReceiver, queues: Counter[str]) -> None:
    """They arrived, and nothing came twice that a fork does not account for."""
    assert_arrived(receiver, queues)
    may = may_come_again(receiver)
    assert {name.removeprefix("process ") for name in receiver.books.again} <= may
    lines = Counter(line.split()[1] for line in receiver.books.logs.elements() if line.startswith("charged "))
    assert all(lines[name] == times * JOBS for name, times in queues.items() if name not in may), lines


@pytest.mark.parametrize("what", FAMILIES)
def test_each_exports_its_own(what: str, receiver: FaultyReceiver, tmp_path: Path) -> None:
    """Nobody calls flush() or shutdown(): what waits goes out when a process ends, however it was started."""
    family = Family(tmp_path, receiver, what)
    family.go()
    family.end()
    assert_each_once(receiver, Counter(["before", *FAMILIES[what]]))


def test_forks_of_forks_export_their_own(receiver: FaultyReceiver, tmp_path: Path) -> None:
    """Children, their children, and a parent that goes on between its forks."""
    family = Family(tmp_path, receiver, "forks")
    family.go()
    family.end()
    children = [f"child-{n}{more}" for n in range(3) for more in ("", "-child")]
    assert_each_once(receiver, Counter(["before", *3 * ["parent"], *children]))


def test_a_child_that_takes_the_short_way_out_is_not_held_up(receiver: FaultyReceiver, tmp_path: Path) -> None:
    """`os._exit` runs nothing of anybody's; the parent's telemetry is not sent by the child."""
    family = Family(tmp_path, receiver, "hasty")
    family.go()
    family.end()
    assert receiver.books.names == {"process before": JOBS}
    assert {name.removeprefix("process ") for name in receiver.books.again} <= may_come_again(receiver)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("what", ["fork", "executor fork"])
def test_a_fork_in_the_middle_of_an_export(what: str, protocol: str, tmp_path: Path) -> None:
    """The parent's sender is inside an exporter, with all its locks; the child has ones of its own."""
    with FaultyReceiver(protocol, Fault.SLOW) as receiver:
        family = Family(tmp_path, receiver, what)
        wait_until_sync(lambda: receiver.struck >= 1, description="an export to be under way")
        family.go()
        seen = receiver.struck
        wait_until_sync(lambda: receiver.struck > seen, description="the child's export")
        receiver.fault = Fault.NONE
        family.end()
        # What was under way at the fork may come twice; to know that it arrived, its sender would have had to wait.
        assert_arrived(receiver, Counter(["before", *FAMILIES[what]]))
        assert all(times == 1 or "before" in line for line, times in receiver.books.logs.items())


@pytest.mark.parametrize(
    ("what", "protocol"),
    [
        ("fork", "grpc"),
        ("process fork", "http/protobuf"),
        ("executor fork", "grpc"),
        ("process spawn", "http/protobuf"),
        ("executor spawn", "grpc"),
    ],
)
def test_a_dead_collector_holds_no_child_up(what: str, protocol: str, tmp_path: Path) -> None:
    """The bound is kept in each process: the children's, one after another at worst, and then the parent's."""
    with FaultyReceiver(protocol, Fault.SILENT) as receiver:
        family = Family(tmp_path, receiver, what, exit_timeout=0.5)
        family.go()
        assert family.end() < 10.0
    assert not receiver.books.spans


def test_a_daemon_thread_that_goes_on_holds_nobody_up(receiver: FaultyReceiver, tmp_path: Path) -> None:
    """It puts jobs while the interpreter ends; what the others did arrives."""
    family = Family(tmp_path, receiver, "restless", exit_timeout=2.0)
    family.go()
    family.end()
    assert (receiver.books.names["process before"], receiver.books.names["process parent"]) == (JOBS, JOBS)
