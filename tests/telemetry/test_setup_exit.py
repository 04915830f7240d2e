"""How real programs end: what waits is exported, and a dead collector holds nobody up beyond the bound."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.otlp_receiver import OtlpReceiver, SilentServer, refused_endpoint

ROOT = Path(__file__).parents[2]
PROTOCOLS = ("grpc", "http/protobuf")

PROGRAM = """
import asyncio, logging, sys
import otel_sched

telemetry = otel_sched.configure(service_name="shop", {arguments})
log = logging.getLogger("shop")

async def main():
    queue = otel_sched.Queue(name="orders")

    async def worker():
        while True:
            item = await queue.get()
            try:
                if item == 2:
                    raise ValueError("no such order")
                log.info("charged %s", item)
            except ValueError:
                log.exception("failed")
            finally:
                queue.task_done()

    task = asyncio.create_task(worker())
    for item in range(3):
        await queue.put(item)
    await queue.join()
    task.cancel()

asyncio.run(main())
{last}
print("end of main", flush=True)
"""

FORKING = """
import os, sys
import otel_sched
from opentelemetry import trace

telemetry = otel_sched.configure(service_name="shop", {arguments})
tracer = trace.get_tracer("test")
child = os.fork()
with tracer.start_as_current_span("parent" if child else "child"):
    pass
if child:
    _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))
"""


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment, its OpenTelemetry variables replaced by *extra*."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return {**kept, "PYTHONPATH": str(ROOT), **extra}


def run(program: str, **extra: str) -> tuple[float, subprocess.CompletedProcess[str]]:
    """Run *program* to its end; return the seconds from its first output to its exit, and how it went."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(extra),
    )
    assert process.stdout is not None
    lines = [process.stdout.readline()]
    ended = time.monotonic()
    out, err = process.communicate(timeout=45.0)
    took = time.monotonic() - ended
    return took, subprocess.CompletedProcess(process.args, process.returncode, "".join(lines) + out, err)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_waits_is_exported_at_exit(protocol: str) -> None:
    """A program that never calls shutdown() loses nothing: its spans, metrics and log records arrive."""
    with OtlpReceiver() as receiver:
        where = f'endpoint="{receiver.endpoint(protocol)}", protocol="{protocol}"'
        took, done = run(PROGRAM.format(arguments=where, last=""))
        assert (done.returncode, done.stdout) == (0, "end of main\n"), done.stderr
        spans = [span for span in receiver.spans() if span.name == "process orders"]
        records = [record for record in receiver.log_records() if record.scope == "shop"]
        (put,) = receiver.latest("otel_sched.jobs.put").values()
    assert took < 5.0
    assert [span.attributes["otel_sched.job.outcome"] for span in spans] == ["ok", "ok", "error"]
    by_span = {span.span_id: span for span in spans}
    assert [record.body for record in records] == ["charged 0", "charged 1", "failed"]
    for record in records:
        assert record.trace_id == by_span[record.span_id].trace_id
        assert record.attributes["otel_sched.job.id"] == by_span[record.span_id].attributes["otel_sched.job.id"]
    assert (put.value, put.attributes) == (3, {"otel_sched.queue.name": "orders"})


@pytest.mark.parametrize("last", ["raise SystemExit(3)", "raise ValueError('bug')"])
def test_programs_that_end_badly_export_too(last: str) -> None:
    """An exit code or an uncaught exception makes no difference."""
    with OtlpReceiver() as receiver:
        _, done = run(PROGRAM.format(arguments=f'endpoint="{receiver.grpc_endpoint}"', last=last))
        assert done.returncode == (3 if "3" in last else 1)
        assert [span.name for span in receiver.spans()].count("process orders") == 3


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_silent_collector_holds_the_exit_up_for_the_bound(protocol: str) -> None:
    """It accepts and never answers; the exporters' threads are stuck in it for 10 seconds and more."""
    with SilentServer() as silent:
        where = f'endpoint="{silent.endpoint}", protocol="{protocol}", exit_timeout=1.0'
        took, done = run(PROGRAM.format(arguments=where, last=""))
        assert silent.accepted.is_set()
    assert done.returncode == 0, done.stderr
    assert "telemetry was lost" in done.stderr
    assert 0.5 < took < 4.0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_refused_port_holds_the_exit_up_for_the_bound(protocol: str) -> None:
    """Five seconds, unless told otherwise."""
    took, done = run(PROGRAM.format(arguments=f'endpoint="{refused_endpoint()}", protocol="{protocol}"', last=""))
    assert done.returncode == 0, done.stderr
    assert took < 8.0


def test_exit_is_not_held_up_when_it_shall_not_be() -> None:
    """shutdown_on_exit=False."""
    with SilentServer() as silent:
        where = f'endpoint="{silent.endpoint}", protocol="http/protobuf", shutdown_on_exit=False'
        took, done = run(PROGRAM.format(arguments=where, last=""))
    assert done.returncode == 0, done.stderr
    assert took < 2.5


def test_a_forked_child_exports_its_own() -> None:
    """Threads do not survive a fork; the child has its own, also at its exit."""
    with OtlpReceiver() as receiver:
        program = FORKING.format(arguments=f'endpoint="{receiver.http_endpoint}", protocol="http/protobuf"')
        done = subprocess.run(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program],
            capture_output=True,
            text=True,
            env=environment({}),
            timeout=45.0,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert sorted(span.name for span in receiver.spans()) == ["child", "parent"]


def test_importing_the_library_loads_no_sdk() -> None:
    """Only configure() does."""
    program = "import sys, otel_sched; print([m for m in sys.modules if m.startswith('opentelemetry.sdk')])"
    _, done = run(program)
    assert done.stdout == "[]\n", done.stderr
