"""What a failing receiver costs the work: a pool whose telemetry `configure()` exports, each fault against none.

Each fault has a receiver and a program in processes of their own, as in real life, and all of them live through all
rounds: the buffer of a program whose receiver fails is full by the time that counts.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from .rounds import Settings, interleave

ROOT = Path(__file__).parents[1]
PROTOCOLS = ("http/protobuf", "grpc")
HEALTHY = "healthy"
FAULTS: Mapping[str, tuple[str, ...]] = {
    HEALTHY: (),
    "refused": ("--fault", "refused"),
    "silent": ("--fault", "silent"),
    "slow": ("--fault", "slow", "--latency", "10"),
    "busy": ("--fault", "busy"),
    "throttled": ("--fault", "throttled"),
    "reset": ("--fault", "reset"),
    "flapping": ("--flap", "2"),
    "partial": ("--fault", "partial"),
}
JOBS = 10_000
TIMES = 3
"""Rounds for each one of the others': with no more jobs than the buffer holds, each is short and varies much."""
FILL = 20_000
"""Jobs before the first round: more spans than the buffer holds."""
PROGRAM = """
import dataclasses, json, sys
import otel_sched
from benchmarks import ours
from benchmarks.rounds import Settings

endpoint, protocol, loop, fill = sys.argv[1:]
telemetry = otel_sched.configure(
    service_name="outage", endpoint=endpoint, protocol=protocol, export_timeout=2.0, exit_timeout=0.2, logging=False
)
settings = Settings(loop=loop)
settings.run(ours.pool(int(fill)))
print("ready", flush=True)
for line in sys.stdin:
    took = settings.run(ours.pool(int(line)))
    settings.run(telemetry.flush(0.5))  # what it still has to send is not to be the next program's burden
    print(took, flush=True)
telemetry.close(0.2)
print(json.dumps([dataclasses.asdict(each) for each in telemetry.stats()]))
"""


class Program:
    """A program that does jobs when it is told to, and a receiver that does to its telemetry as *fault* says."""

    def __init__(self, fault: str, protocol: str, settings: Settings, stack: ExitStack) -> None:
        self.done = settings.jobs(FILL)
        self._fault = fault
        receiver = _start(stack, "-m", "tests.support.faulty", "--protocol", protocol, *FAULTS[fault])
        endpoint = _stream(receiver.stdout).readline().strip()
        self._process = _start(stack, "-c", PROGRAM, endpoint, protocol, settings.loop, str(self.done))

    def wait(self) -> None:
        """Wait until it is ready to be measured."""
        if _stream(self._process.stdout).readline() != "ready\n":
            raise RuntimeError(f"the program for {self._fault!r} did not start")

    def run(self, jobs: int) -> float:
        """Return the seconds that one job takes."""
        self.done += jobs
        print(jobs, file=_stream(self._process.stdin), flush=True)
        return float(_stream(self._process.stdout).readline())

    def end(self) -> None:
        """End it; RuntimeError unless each of its jobs has a span that was exported or counted as lost."""
        _stream(self._process.stdin).close()
        stats: list[dict[str, Any]] = json.loads(_stream(self._process.stdout).readline())
        (spans,) = (each for each in stats if each["signal"] == "traces")
        if spans["handed"] != self.done or spans["exported"] + spans["failed"] != self.done:
            raise RuntimeError(f"{self._fault}: {self.done} jobs, but the exporter's books are {spans}")
        # In a short run a receiver that comes and goes may never have been there at the right time.
        if self._fault != "flapping" and (spans["exported"] > 0) != (self._fault in (HEALTHY, "partial")):
            raise RuntimeError(f"{self._fault}: not the fault it was meant to be: {spans}")


def measure(settings: Settings) -> dict[str, float]:
    """Return the figures of this group: for each fault, and the worst of them."""
    jobs = settings.jobs(JOBS)
    slowdowns: dict[str, float] = {}
    for protocol in PROTOCOLS:
        with ExitStack() as stack:
            programs = {fault: Program(fault, protocol, settings, stack) for fault in FAULTS}
            for program in programs.values():
                program.wait()
            rounds = interleave(
                {fault: lambda program=program: program.run(jobs) for fault, program in programs.items()},  # type: ignore[misc]
                TIMES * settings.rounds,
            )
            for program in programs.values():
                program.end()
        for fault in FAULTS:
            if fault != HEALTHY:
                slower = slowdown(rounds.taken[HEALTHY], rounds.taken[fault])
                slowdowns[fault] = max(slower, slowdowns.get(fault, slower))
    named = {f"outage_{fault}": slower for fault, slower in slowdowns.items()}
    return {"outage_slowdown": max(slowdowns.values()), **named}


def slowdown(healthy: list[float], faulty: list[float]) -> float:
    """Return the part of the throughput that is lost, from the seconds per job: the median of each round's own."""
    return statistics.median(1 - well / ill for well, ill in zip(healthy, faulty, strict=True))


def _start(stack: ExitStack, *arguments: str) -> "subprocess.Popen[str]":
    """Start a Python process that ends with *stack*."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    stack.enter_context(process)
    stack.callback(process.kill)
    return process


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream
