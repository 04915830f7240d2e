"""A real program with a pool and `configure()`, in a process of its own, that does what a test tells it.

with Steered(endpoint=receiver.endpoint, protocol="grpc") as program:
    program.jobs(100)
    assert program.stats("traces")["handed"] == 100
assert program.ended.status == 0
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from otel_sched.testing import wait_until_sync

ROOT = Path(__file__).parents[2]

PROGRAM = """
import asyncio, atexit, dataclasses, json, logging, resource, sys
import otel_sched

def say(answer=None):
    stats = [dataclasses.asdict(each) | {"missing": each.missing} for each in telemetry.stats()]
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"answer": answer, "stats": stats, "handled": handled, "kilobytes": usage.ru_maxrss}), flush=True)

atexit.register(say)  # before configure(): what is registered last runs first
telemetry = otel_sched.configure(service_name="shop", **json.loads(sys.argv[1]))
log = logging.getLogger("shop")
handled = 0

async def charge(order):
    global handled
    if order < LOGGED:
        log.info("charged %s", order)
    handled += 1

async def main():
    orders = otel_sched.Queue(name="orders")
    number = 0
    async with otel_sched.WorkerPool(orders, charge, workers=4):
        while line := await asyncio.to_thread(sys.stdin.readline):
            command, argument = json.loads(line)
            answer = None
            if command == "jobs":
                for number in range(number + 1, number + 1 + argument):
                    await orders.put(number)
                await orders.join()
            elif command == "flush":
                answer = await telemetry.flush(argument)
            elif command == "shutdown":
                answer = await telemetry.shutdown(argument)
            elif command == "run":
                exec(argument, globals())
            say(answer)

LOGGED = 10_000
asyncio.run(main())
print("end of main", flush=True)
"""

WARNINGS = ("-W", "error", "-W", "ignore::ResourceWarning")  # a socket that a thread is stuck in cannot be closed
QUICK = {"OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_BLRP_SCHEDULE_DELAY": "50"}


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment, its OpenTelemetry variables replaced by *extra*."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return {**kept, "PYTHONPATH": str(ROOT), **extra}


@dataclass(frozen=True)
class End:
    """How the program ended: its exit took so long after the end of its main function."""

    status: int
    seconds: float
    stderr: str


class Steered:
    """The program, as a context manager that ends it; what `configure()` gets are the keyword arguments.

    Args:
        variables: For the program's environment, on top of what makes exports quick.
        arguments: Of `configure()`.
    """

    def __init__(self, variables: Mapping[str, str] | None = None, **arguments: Any) -> None:
        self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed in end()
        self._process = subprocess.Popen(
            [sys.executable, *WARNINGS, "-c", PROGRAM, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            env=environment({**QUICK, **(variables or {})}),
        )
        self._last: dict[str, Any] = {}
        self._end: End | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()
        self.end()

    def jobs(self, count: int) -> None:
        """Put so many jobs through the pool, and wait until they are done."""
        self._tell("jobs", count)

    def flush(self, timeout: float) -> bool:
        """Do as `telemetry.flush(timeout)` does."""
        return bool(self._tell("flush", timeout))

    def shutdown(self, timeout: float) -> bool:
        """Do as `telemetry.shutdown(timeout)` does."""
        return bool(self._tell("shutdown", timeout))

    def run(self, code: str) -> None:
        """Have it run some Python code."""
        self._tell("run", code)

    def stats(self, signal: str) -> dict[str, Any]:
        """Return what `telemetry.stats()` says now of the signal's exporter; after the end, what it said last."""
        if self._end is None:
            self._tell("stats", None)
        (found,) = (each for each in self._last["stats"] if each["signal"] == signal)
        return dict(found)

    @property
    def handled(self) -> int:
        """How many jobs the handler has finished."""
        return int(self._last["handled"])

    @property
    def kilobytes(self) -> int:
        """The most memory that the process has had so far."""
        return int(self._last["kilobytes"])

    @property
    def ended(self) -> End:
        """How it ended."""
        assert self._end is not None
        return self._end

    def wait_for_no(self, signal: str, name: str, timeout: float = 15.0) -> dict[str, Any]:
        """Wait until that number of the signal's stats is zero; return them."""
        wait_until_sync(lambda: not self.stats(signal)[name], timeout=timeout, description=f"no {name} {signal}")
        return self.stats(signal)

    def end(self) -> End:
        """Have the program end by itself, as programs do; return how it did."""
        if self._end is None:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.close()
            self._process.stdout.readline()  # the end of main
            began = time.monotonic()
            last = self._process.stdout.readline()
            self._process.stdout.close()
            status = self._process.wait(40.0)
            took = time.monotonic() - began
            self._end = End(status, took, self._said())
            self._stderr.close()
            if last:
                self._last = json.loads(last)
        return self._end

    def _said(self) -> str:
        """Return what is on its standard error, but for the lines of its jobs."""
        self._stderr.seek(0)
        return "".join(line for line in self._stderr if " INFO shop: charged" not in line)

    def _tell(self, command: str, argument: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([command, argument]), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"the program ended: {self._said()}")
        self._last = json.loads(line)
        return self._last["answer"]
