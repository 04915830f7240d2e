"""The telemetry contract, held: docs/telemetry.md and _core/names.py say the same, and the code says no more."""

import ast
import re
from pathlib import Path

import pytest

from otel_sched import CancelReason, Outcome
from otel_sched._core import names
from otel_sched._core.finding import FindingKind
from otel_sched._core.job import CancelState, DropReason
from otel_sched._core.ledger import MAX_JOB_NAMES
from otel_sched._core.liveness import MAX_NAMES
from otel_sched._core.repeats import BURST, PERIOD
from otel_sched.diagnostics.blame import Cause, Evidence, blocked, resumed
from otel_sched.diagnostics.culprit import Step
from otel_sched.health.metrics import prometheus_name
from otel_sched.telemetry import counting, logs
from otel_sched.telemetry.providers import SCHEMA_URL
from otel_sched.telemetry.spans import PARENT_WITHIN

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "telemetry.md").read_text("utf-8")
INSTRUMENTS = {each.name: each for each in names.INSTRUMENTS}
CODE = re.compile(r"`([^`]+)`")


def tables(heading: str) -> list[dict[str, str]]:
    """Return the rows of all tables between this heading and the next one, as column to text."""
    _, _, text = PAGE.partition(f"\n{heading}\n")
    assert text, f"docs/telemetry.md has no heading {heading!r}"
    section = re.split(r"^#+ ", text, maxsplit=1, flags=re.MULTILINE)[0]
    lines = [[cell.strip() for cell in line[1:-1].split("|")] for line in section.splitlines() if line.startswith("|")]
    rows: list[dict[str, str]] = []
    header: list[str] = []
    for above, line in zip([None, *lines], lines, strict=False):
        if set("".join(line)) <= set("-|"):
            header = above or []
            rows.pop()
        else:
            rows.append(dict(zip(header, line, strict=False)))
    return rows


def column(heading: str, name: str) -> list[str]:
    """Return the code words in one column of a section's tables."""
    return [word for row in tables(heading) for word in CODE.findall(row.get(name, ""))]


def constants() -> dict[str, str]:
    """Return the strings that names.py gives a name to."""
    return {name: value for name, value in vars(names).items() if name.isupper() and isinstance(value, str)}


def used_by_the_code() -> set[str]:
    """Return the constants of names.py that other modules of the package use."""
    used: set[str] = set()
    for path in (ROOT / "otel_sched").rglob("*.py"):
        if path.name == "names.py":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "names":
                used.add(node.attr)
            elif isinstance(node, ast.ImportFrom) and node.module in ("names", "_core.names"):
                used |= {alias.name for alias in node.names}
    return used


@pytest.mark.parametrize("row", tables("## Metrics"), ids=lambda row: row["instrument"].strip("`"))
def test_a_documented_metric_is_as_in_the_code(row: dict[str, str]) -> None:
    """Kind, unit, attributes and the Prometheus name of each row are those of the instrument."""
    instrument = INSTRUMENTS[row["instrument"].strip("`")]
    assert row["kind"] == instrument.kind
    assert row["unit"] == f"`{instrument.unit}`"
    assert CODE.findall(row["further attributes"]) == list(instrument.attributes)
    assert row["Prometheus name"] == f"`{prometheus_name(instrument)}`"


def test_every_metric_is_documented_once_and_explained() -> None:
    """The table has each instrument exactly once, in the code's order, and the list below it tells of each."""
    assert column("## Metrics", "instrument") == list(INSTRUMENTS)
    _, _, explained = PAGE.partition("When there is a point")
    for name in INSTRUMENTS:
        assert f"`{name.removeprefix('otel_sched.')}`" in explained


def test_spans_are_documented() -> None:
    """The two spans, by their names with the queue left open."""
    assert column("## Spans", "span") == [names.PUT_SPAN, names.PROCESS_SPAN]


def test_attributes_of_spans_are_documented() -> None:
    """The table of span attributes is names.SPAN_ATTRIBUTES, in whatever order."""
    documented = column("### Attributes of spans", "attribute")
    assert sorted(documented) == sorted(names.SPAN_ATTRIBUTES)


def test_log_records_are_documented() -> None:
    """Every event, and no other."""
    assert column("## Log records", "event name") == list(names.EVENTS)


def test_findings_are_documented() -> None:
    """Every kind of finding has its event, in the code's order; and the facts of a blocked loop are those told."""
    assert column("### Findings", "event name") == list(names.FINDING_EVENTS)
    causes = [row for row in tables("### Findings") if row.get("fact") == "`cause`"]
    assert CODE.findall(causes[0]["value"]) == [each.value for each in Cause]
    step = Step(task_name="Task-1", job_facts={"queue": "orders", "job": "handle", "job_id": "1"})
    step.lines = [(test_findings_are_documented.__code__, 1, __name__)]
    evidence = Evidence(blocked=1.0, step=step, working=0.0, garbage=0.1, jobs_delayed=1, part=True)
    first = blocked("main", evidence, seconds=1.0, over=False, held=1)
    over = resumed("main", evidence, seconds=2.0, first=first)
    named = {*names.FINDING_FACTS, *names.FINDING_IDS}
    assert {*first.facts, *over.facts} - named == set(column("### Findings", "fact"))


def test_every_attribute_in_use_is_documented_and_no_other() -> None:
    """Each dotted name that the code uses stands in some table, and each in a table is one that the code uses."""
    used = used_by_the_code()
    spans_and_events = {"PUT_SPAN", "PROCESS_SPAN", *(name for name in constants() if name.startswith("EVENT_"))}
    in_code = {value for name, value in constants().items() if name in used - spans_and_events and "." in value}
    in_code |= {each for instrument in names.INSTRUMENTS for each in instrument.attributes}
    in_code |= set(names.FINDING_FACTS.values())
    sections = ("### Attributes of spans", "## Metrics", "## Log records", "### Findings", "## Closed sets")
    columns = ("attribute", "further attributes")
    documented = {word for section in sections for name in columns for word in column(section, name)}
    assert documented == in_code


def test_closed_sets_are_documented() -> None:
    """Outcomes and reasons: each word of the code, in its order, and no other."""
    rows = [row for row in tables("## Closed sets") if "values" in row]
    sets = {row["attribute"].strip("`"): CODE.findall(row["values"]) for row in rows}
    assert sets == {
        names.JOB_OUTCOME: [each.value for each in Outcome],
        names.CANCEL_STATE: [each.value for each in CancelState],
        names.CANCEL_REASON: [each.value for each in CancelReason],
        names.DROP_REASON: [each.value for each in DropReason],
        names.TELEMETRY_SIGNAL: ["traces", "metrics", "logs"],
        names.TELEMETRY_REASON: [names.REPEATED, names.OBSERVER_FAILED, *counting.REASONS, names.KEEP_FULL],
        names.TELEMETRY_OUTCOME: ["ok", "retry", "failed"],
        names.EVENTLOOP_STATE: [names.LOOP_ACTIVE, names.LOOP_IDLE],
        names.FINDING_KIND: [each.value for each in FindingKind],
    }


def test_reasons_of_lost_telemetry_are_explained() -> None:
    """Each that an export counts by, in the code's order, and that of tail keep."""
    assert column("## Closed sets", "reason") == [*counting.REASONS, names.KEEP_FULL]


def test_fields_of_log_lines_are_documented() -> None:
    """The fields that the filter and the structlog processor add, and what each is over OTLP."""
    rows = tables("### Lines of the application")
    fields = [word for row in rows for word in CODE.findall(row["field on the line"])]
    assert fields == list(logs.DEFAULTS)
    over_otlp = {row["field on the line"].strip("`"): row["over OTLP"].strip("`") for row in rows[1:]}
    assert over_otlp == logs._OTLP_NAMES


def test_numbers_are_documented() -> None:
    """Buckets, limits and periods stand in the page as they do in the code."""
    assert "    " + " ".join(f"{bound:g}" for bound in names.BUCKETS) + "\n" in PAGE
    assert f"within {PARENT_WITHIN:g} s of the put" in PAGE
    assert f"cut in the middle to {names.STACKTRACE_LIMIT // 1024} KiB" in PAGE
    assert BURST == 5
    assert f"five records go out in {PERIOD:g} s" in PAGE
    assert f"| `otel_sched.job.name` | {MAX_JOB_NAMES} per queue |" in PAGE
    assert f"| `otel_sched.eventloop.name` | {MAX_NAMES} per process |" in PAGE
    assert SCHEMA_URL in PAGE


def test_names_keep_to_the_house() -> None:
    """All in our namespace but the semantic conventions' own, and a metric never carries an id."""
    for instrument in names.INSTRUMENTS:
        assert re.fullmatch(r"otel_sched(\.[a-z_]+)+", instrument.name)
        assert names.JOB_ID not in instrument.attributes
        assert instrument.description.endswith(".")
