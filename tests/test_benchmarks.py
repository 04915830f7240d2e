"""The benchmarks run, report every figure they promise, and would notice what they are there to notice."""

import asyncio
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import exact, record, soak, ticker
from benchmarks.encoding import Encoding
from benchmarks.fast import KINDS, figures
from benchmarks.figures import FIGURES, Figure, missed, table
from benchmarks.receiver import receiver
from benchmarks.residue import Residue
from benchmarks.rounds import Rounds, Settings, interleave
from benchmarks.sdk import SAMPLERS, Sdk
from benchmarks.semantics import check
from benchmarks.tally import Auditor, Refused, Tally
from otel_sched import Queue

HERE = Path(__file__).parents[1]


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the benchmarks as a user does, in a process where nobody has set a provider."""
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)


@pytest.mark.timeout(300)
def test_json_is_one_object_with_every_figure_as_a_number() -> None:
    """`--json` prints nothing but one object, whose keys are those documented and whose values are real numbers."""
    result = run("--json", "--rounds", "1", "--scale", "0.05")
    assert result.returncode == 0, result.stderr
    values = json.loads(result.stdout)
    assert set(values) == set(FIGURES)
    assert all(type(value) is float and math.isfinite(value) for value in values.values()), values
    ratios = [key for key in values if key.endswith("_x_raw") or key.startswith(("silent_", "bytes_", "import_"))]
    assert ratios
    assert all(values[key] > 0 for key in ratios), values  # in so short a run a difference of two may be anything
    assert values["exact"] == 0


def test_every_figure_is_explained() -> None:
    """README.md names each key of the JSON object."""
    text = (HERE / "benchmarks" / "README.md").read_text("utf-8")
    assert [key for key in FIGURES if f"`{key}`" not in text] == []


def test_the_table_says_which_targets_were_met() -> None:
    """Each target stands beside its value, with the verdict; a figure without one is not judged."""
    values = {"silent_queue": 1.5, "silent_pool": 9.0, "raw_us": 1.0}
    lines = {line.split()[0]: line.split() for line in table(values).splitlines()}
    assert lines["silent_queue"][1:4] == ["1.5", "2", "met"]
    assert lines["silent_pool"][1:4] == ["9", "1.75", "MISSED"]
    assert "met" not in lines["raw_us"]
    assert missed(values) == ["silent_pool"]
    assert Figure(what="something", target=2.0).verdict(2.0) == "met"


def test_a_missed_target_fails_only_when_asked_to() -> None:
    """A slow machine is no failure; `--check` makes it one."""
    memory = ("--rounds", "1", "--scale", "0.01", "--group", "memory")
    assert run(*memory).returncode == 0
    checked = run("--check", *memory)
    assert checked.returncode == ("MISSED" in checked.stdout)


def test_ratios_and_shares_are_medians_of_each_rounds_own() -> None:
    """A round in which the whole machine was ten times as slow changes no ratio and no share."""
    rounds = Rounds({"raw": [1.0, 10.0, 1.0], "ours": [2.0, 20.0, 2.0], "theirs": [5.0, 50.0, 5.0]})
    assert rounds.median("raw") == 1.0
    assert rounds.ratio("ours", "raw") == 2.0
    assert rounds.share("ours", of="theirs", above="raw") == 0.25


def test_rounds_interleave_and_leave_out_the_first() -> None:
    """Every variant runs in every round, in turns forwards and backwards; the first round warms up."""
    order: list[str] = []

    def variant(name: str) -> float:
        order.append(name)
        return float(len(order))

    rounds = interleave({"a": lambda: variant("a"), "b": lambda: variant("b")}, 2)
    assert "".join(order) in ("abbaab", "baabba")
    assert [len(taken) for taken in rounds.taken.values()] == [2, 2]
    assert min(min(taken) for taken in rounds.taken.values()) > 2


def test_incomplete_telemetry_is_no_figure() -> None:
    """A variant that told less than it was meant to is an error, not a fast one."""
    with Sdk(SAMPLERS["all"]) as sdk:
        sdk.tracer_provider.get_tracer("test").start_span("one").end()
        sdk.meter_provider.get_meter("test").create_counter("jobs.sent").add(3)
    sdk.expect(spans=1, jobs_sent=3)
    with pytest.raises(RuntimeError, match=r"not complete: expected .*'spans': 2.* there came .*'spans': 1"):
        sdk.expect(spans=2)


def test_metrics_count_on_the_fast_path_too() -> None:
    """What an attached meter provider exports is counted as the plain one's is."""
    with Sdk(SAMPLERS["all"], fast=True) as sdk:
        queue: Queue[int] = Queue(name="orders", observer=sdk.observer())
        asyncio.run(put_and_get(queue))
    sdk.expect(otel_sched_jobs_put=1, otel_sched_job_wait_duration=1, spans=1)


async def put_and_get(queue: "Queue[int]") -> None:
    """Send one job through *queue*."""
    await queue.put(1)
    await queue.get()
    queue.task_done()


def test_the_fast_path_gives_jobs_their_context(loop_kind: str) -> None:
    """Before anything is measured, jobs find their context, their id and a trace of their own."""
    check(Settings(loop=loop_kind))


def test_a_job_without_its_context_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where observing does nothing, that is noticed before it is measured."""
    monkeypatch.setattr(Sdk, "observer", lambda self: None)
    with pytest.raises(RuntimeError, match="outside of its span's context"):
        check(Settings())


def test_both_paths_give_the_same_metrics() -> None:
    """The work that is compared has all the outcomes, and the two differ by nothing."""
    assert exact.difference() == 0
    told = {dict(attributes).get("otel_sched.job.outcome") for _, attributes in exact.points(fast=True)}
    assert {"ok", "error", "timeout", "cancelled"} <= told


def test_a_metric_that_differs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A series that only one of the paths has counts in full."""
    points = exact.points

    def lossy(*, fast: bool) -> exact.Points:
        found = points(fast=fast)
        if fast:
            found.pop(next(key for key in found if key[0] == "otel_sched.jobs.put"))
        return found

    monkeypatch.setattr(exact, "points", lossy)
    assert exact.difference() == exact.JOBS


def test_encoding_covers_every_span_it_was_given() -> None:
    """Batches are encoded as they fill, what is left when asked, and nothing twice."""
    encoding = Encoding()
    with Sdk(SAMPLERS["all"], processor=encoding) as sdk:
        for _ in range(600):
            sdk.tracer_provider.get_tracer("test").start_span("one").end()
        assert encoding.spans == 512
        encoding.finish()
        size = encoding.size
        encoding.finish()
    assert (encoding.spans, encoding.size) == (600, size)
    assert size > 600 * 32


def test_shares_compare_what_is_added() -> None:
    """Shares are parts of what watching by hand adds to raw, with the SDK's encoding of two spans where ours has it."""
    taken = {"raw": [1.0], "encode": [10.0], "handwritten_1pct": [51.0], "handwritten_all": [81.0]}
    values = figures(Rounds(taken | {name: [6.0] for name in KINDS}))
    assert values["metrics_share"] == values["queue_metrics_share"] == 0.1
    assert values["one_span_share"] == values["all_spans_share"] == 0.05
    assert values["handwritten_encoded_us"] == 100e6


def test_the_null_receiver_takes_what_is_exported() -> None:
    """A short run of the ticker exports everything to it, and loses nothing on the way."""
    command = [sys.executable, "-m", "benchmarks.ticker", "--seconds", "0.3"]
    with receiver() as endpoint:
        told = subprocess.run([*command, "--endpoint", endpoint], cwd=HERE, capture_output=True, text=True, check=True)
    result = json.loads(told.stdout)
    assert result["late_ms"] > 0
    assert 0 < result["jobs_per_s"] <= ticker.RATE * 1.1
    assert result["lost"] >= 0


def test_recorded_tables_stand_between_their_marks(tmp_path: Path) -> None:
    """What a run measured replaces the table of its name, a missed target in bold; the rest of the page stays."""
    page = tmp_path / "page.md"
    begin, end = "<!-- figures: targets -->", "<!-- end of figures -->"
    page.write_text(f"before\n{begin}\nold\n{end}\nafter <!-- figures: peers -->\nkept\n{end}\n", "utf-8")
    runs = {"3.11": {"metrics_share": 0.04, "exact": 0.0}, "uvloop": {"metrics_share": 0.5}}
    assert record.write(page, record.tables(runs)) == ["targets"]
    text = page.read_text("utf-8")
    assert text.startswith("before\n")
    assert text.endswith(f"kept\n{end}\n")
    assert "old" not in text
    assert "| `metrics_share` | 0.045 | 0.0400 | **0.500** |" in text
    assert "| `exact` | 0 | 0 |  |" in text


def test_every_recorded_page_has_its_tables() -> None:
    """The pages that record.py fills have the marks for all its tables."""
    text = "".join(page.read_text("utf-8") for page in record.PAGES)
    assert {name for _, name, _ in record.MARKED.findall(text)} == {"results", "targets", "pieces", "peers"}


def test_the_soak_loses_nothing(loop_kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """20 000 jobs, 100 producers, 100 workers: each is handled once, books and metrics agree, nothing stays."""
    assert soak.main(20_000, [loop_kind], "both") == 0
    printed = capsys.readouterr().out
    assert "nothing lost, nothing twice" in printed
    assert len(re.findall(rf"^{loop_kind} +o(?:n|ff)", printed, re.MULTILINE)) == 2


def test_a_lost_and_a_doubled_job_are_noticed() -> None:
    """The tally names what was never handled and what was handled twice."""
    tally = Tally(4)
    with pytest.raises(Refused):
        asyncio.run(tally.handle(0))
    for item in (1, 1, 2):
        asyncio.run(tally.handle(item))
    assert tally.complaints() == ["1 jobs were never handled", "1 jobs were handled more than once"]


def test_books_that_disagree_are_noticed() -> None:
    """A queue that still holds a job at the end, and metrics that tell of fewer, are complaints."""
    queue: Queue[int] = Queue(name="orders")
    queue.put_nowait(1)
    auditor = Auditor(queue)
    auditor.close(Tally(1))
    auditor.compare({"otel_sched.jobs.put": 1}, Tally(1))
    assert "size=1" in auditor.complaints[0]
    assert "otel_sched.jobs.taken tells of 0 jobs" in auditor.complaints


def test_a_job_that_stays_alive_is_noticed() -> None:
    """One single job that somebody holds after the run is a complaint."""
    residue = Residue()
    queue: Queue[list[Any]] = Queue(name="orders")
    queue.put_nowait([])
    residue.compare()
    assert residue.complaints(1) == ["1 more Job objects are alive", "1 more Queue objects are alive"]
    assert queue.qsize() == 1
