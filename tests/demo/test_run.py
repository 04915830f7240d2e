"""The demo, run for real in a process of its own: its counts add up, what it says it exported arrived, it ends."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from otel_sched._core.job import Outcome
from otel_sched.demo.orders import Arrivals, Fate
from otel_sched.testing import wait_until_sync
from tests.support.otlp_receiver import OtlpReceiver, SilentServer

ROOT = Path(__file__).parents[2]
NOWHERE = {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}


@contextmanager
def demo(*arguments: str, **environ: str) -> Iterator["subprocess.Popen[str]"]:
    """Start the demo, warnings being errors; end it with the block if need be."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYTHON", "COLUMNS"))}
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "otel_sched", "demo", *arguments],
        cwd=ROOT,
        env={**clean, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def finish(process: "subprocess.Popen[str]", code: int = 0) -> str:
    """Wait for the end; return what was printed. Nothing may be on standard error."""
    out, err = process.communicate(timeout=30)
    assert err == ""
    assert process.returncode == code
    return out


def summary(process: "subprocess.Popen[str]", code: int = 0) -> dict[str, Any]:
    """Wait for the end; return the JSON summary, whose counts must add up."""
    found: dict[str, Any] = json.loads(finish(process, code))
    for queue in found["queues"].values():
        assert queue["put"] == queue["size"] + queue["active"] + queue["finished"] + queue["dropped"]
        assert queue["finished"] == sum(queue["outcomes"].values())
        assert list(queue["outcomes"]) == [outcome.value for outcome in Outcome]
        assert queue["outcomes"]["cancelled"] == sum(queue["cancelled"].values())
    return found


def counts(queue: dict[str, Any]) -> dict[str, int]:
    """The outcomes of one queue that occurred."""
    return {outcome: count for outcome, count in queue["outcomes"].items() if count}


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_what_it_says_is_what_happened(protocol: str) -> None:
    """Outcomes are those that the seed foretells, and every span and record that it counts arrives, once."""
    with (
        OtlpReceiver() as receiver,
        demo(
            "--for", "1", "--json", "--seed", "5", "--endpoint", receiver.endpoint(protocol), "--protocol", protocol
        ) as process,
    ):
        found = summary(process)
    fates = Counter(order.fate for _, order in Arrivals(rate=20, seconds=1, seed=5))
    orders = sum(fates.values())
    paid = orders - sum(fates[each] for each in (Fate.SOLD_OUT, Fate.RESTARTED, Fate.DECLINED, Fate.NO_ANSWER))
    paid -= fates[Fate.WITHDRAWN]
    queues = found["queues"]

    assert (found["orders"], found["seed"], found["rate"], found["interrupted"]) == (orders, 5, 20, False)
    assert counts(queues["orders"]) == {
        "ok": orders - fates[Fate.SOLD_OUT] - fates[Fate.RESTARTED],
        "error": fates[Fate.SOLD_OUT],
        "cancelled": fates[Fate.RESTARTED],
    }
    assert counts(queues["payments"]) == {
        "ok": paid,
        "error": fates[Fate.DECLINED],
        "timeout": fates[Fate.NO_ANSWER],
        "cancelled": fates[Fate.WITHDRAWN],
    }
    assert counts(queues["mails"]) == {"ok": paid - fates[Fate.BOUNCED], "error": fates[Fate.BOUNCED]}
    assert all(queue["wait"]["p99"] is not None and queue["run"]["p50"] > 0.01 for queue in queues.values())

    spans, records = receiver.spans(), receiver.log_records()
    assert found["export"]["traces"] == {"handed": len(spans), "exported": len(spans), "dropped": 0}
    assert found["export"]["logs"] == {"handed": len(records), "exported": len(records), "dropped": 0}
    assert found["export"]["metrics"]["exported"] == len(receiver.points())
    assert (found["spans"], found["log_records"]) == (len(spans), len(records))
    assert len({span.span_id for span in spans}) == len(spans)
    for name, queue in queues.items():
        assert sum(span.name == f"process {name}" for span in spans) == queue["taken"]
    assert {span.resource["service.name"] for span in spans} == {"otel-sched-demo"}
    assert {record.trace_id for record in records if record.body == "order paid"} <= {span.trace_id for span in spans}
    assert found["export"]["complete"] is True


def test_an_order_can_be_followed_through_all_queues() -> None:
    """From request to mail by parents, and by a link where the mail has a trace of its own."""
    with (
        OtlpReceiver() as receiver,
        demo("--for", "0.5", "--json", "--endpoint", receiver.grpc_endpoint) as process,
    ):
        summary(process)
    spans = {span.span_id: span for span in receiver.spans()}
    mail = next(span for span in spans.values() if span.name == "process mails" and span.status == "UNSET")
    path = [mail.name]
    at = spans[mail.links[0].span_id]
    while True:
        path.append(at.name)
        if not at.parent_span_id:
            break
        at = spans[at.parent_span_id]

    assert not mail.parent_span_id
    assert mail.trace_id != at.trace_id
    assert path[:-1] == [
        "process mails", "put mails", "process payments", "put payments", "process orders", "put orders",
    ]  # fmt: skip
    assert path[-1].startswith("POST /")


def test_plain_text_has_numbers_failures_and_trees() -> None:
    """Where there is no terminal it prints text, no wider than asked, without control characters."""
    with demo("--for", "2.5", "--rate", "40", "--seed", "3", COLUMNS="80", **NOWHERE) as process:
        text = finish(process)

    assert "\x1b" not in text
    lines = text.splitlines()
    assert max(len(line) for line in lines if not re.match(r"\d\d:\d\d:\d\d ", line)) <= 80
    assert text.count("\npayments ") == 4  # two tables, once while it ran and once at the end
    assert re.search(r"^\d\d:\d\d:\d\d error +order rejected: SoldOut: .* trace_id=\w{32} job_id=\w+$", text, re.M)
    assert re.search(r"^failed: process \w+  trace \w{32}$", text, re.M)
    assert re.search(r"^slowest: process payments  trace \w{32}$", text, re.M)
    assert "╰╌process mails" in text
    assert "░" in text
    assert re.search(r"longest backlog: .*payments \d+ \(", text)
    assert text.endswith("exported to nowhere (OTEL_*_EXPORTER)\n")


def test_a_hung_collector_does_not_hold_it_up() -> None:
    """It ends in time, and says that what it could not export was dropped."""
    with SilentServer() as server:
        started = time.monotonic()
        with demo("--for", "0.3", "--json", "--endpoint", server.endpoint, "--protocol", "grpc") as process:
            found = summary(process)

    assert time.monotonic() - started < 10
    assert found["export"]["complete"] is False
    assert found["export"]["traces"] == {"handed": found["spans"], "exported": 0, "dropped": found["spans"]}
    assert found["export"]["logs"]["dropped"] == found["log_records"]


def test_an_sdk_that_is_off_is_no_error() -> None:
    """With OTEL_SDK_DISABLED the queues work and are counted; there are just no spans."""
    with demo("--for", "0.5", "--json", OTEL_SDK_DISABLED="true") as process:
        found = summary(process)

    assert found["queues"]["payments"]["outcomes"]["ok"] > 0
    assert (found["spans"], found["export"]["to"]) == (0, "nowhere (OTEL_SDK_DISABLED)")


def test_other_exporters_keep_out_of_the_summary() -> None:
    """Spans that go to the console go to standard error: standard output is JSON and nothing else."""
    with demo("--for", "0.3", "--json", **{**NOWHERE, "OTEL_TRACES_EXPORTER": "console"}) as process:
        out, err = process.communicate(timeout=30)

    found = json.loads(out)
    assert found["export"]["traces"]["exported"] == found["spans"] > 0
    assert '"name": "process orders"' in err


def catches(process: "subprocess.Popen[str]", number: int) -> bool:
    """Whether a process has a handler for a signal by now."""
    status = Path(f"/proc/{process.pid}/status").read_text("ascii")
    caught = re.search(r"^SigCgt:\s*(\w+)$", status, re.M)
    return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="there is no /proc")
def test_ctrl_c_during_start_up() -> None:
    """An early Ctrl-C leads to a short run with its summary, and success."""
    with demo("--json", **NOWHERE) as process:
        wait_until_sync(lambda: catches(process, signal.SIGTERM), timeout=20, description="its handlers")
        process.send_signal(signal.SIGINT)
        found = summary(process)

    assert found["interrupted"] is True
    assert found["seconds"] < 5


def test_ctrl_c_lets_orders_get_through() -> None:
    """In the middle of a run it takes no more orders, serves those that it has, exports all, and succeeds."""
    with (
        OtlpReceiver() as receiver,
        demo("--json", "--endpoint", receiver.grpc_endpoint, OTEL_METRIC_EXPORT_INTERVAL="100") as process,
    ):
        receiver.wait_for("metrics", 20)
        process.send_signal(signal.SIGINT)
        found = summary(process)

    assert found["interrupted"] is True
    assert found["queues"]["orders"]["put"] == found["orders"]
    assert all(queue["size"] == queue["active"] == 0 for queue in found["queues"].values())
    assert found["export"]["traces"]["exported"] == found["spans"] == len(receiver.spans())


def test_a_second_ctrl_c_cuts_it_short() -> None:
    """Asked twice it ends at once, even with a hung collector; what was running is cancelled, and that is told."""
    with SilentServer() as server:
        environ = {"OTEL_METRIC_EXPORT_INTERVAL": "100"}
        with demo("--json", "--rate", "100", "--endpoint", server.endpoint, "--protocol", "grpc", **environ) as process:
            assert server.accepted.wait(20)
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGTERM)
            sent = time.monotonic()
            found = summary(process, code=130)

    assert time.monotonic() - sent < 3
    assert found["interrupted"] is True
    assert all(queue["active"] == 0 for queue in found["queues"].values())


def test_the_live_screen_comes_and_goes() -> None:
    """On a terminal there is a screen of its own while it runs; Ctrl-C there leaves the report on the ordinary one."""
    ours, theirs = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    environ = {**clean, **NOWHERE, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    command = [sys.executable, "-W", "error", "-m", "otel_sched", "demo", "--rate", "50"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environ, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    seen = ""
    try:
        while "╰╌" not in seen:
            seen += _read(ours)
        process.send_signal(signal.SIGINT)
        while (more := _read(ours)) != "":
            seen += more
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)

    live, _, after = seen.rpartition("\x1b[?1049l")
    assert live.startswith("\x1b[?1049h")
    assert "ending: " in live
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")
    assert "orders in " in after
    assert "slowest: " in after
    assert "Traceback" not in seen


def _read(terminal: int) -> str:
    """Return what comes next from a terminal, "" when the other side is closed."""
    ready, _, _ = select.select([terminal], [], [], 20)
    assert ready, "nothing came for 20 s"
    try:
        return os.read(terminal, 65536).decode("utf-8", "replace")
    except OSError:
        return ""
