"""An order's story as a tree: indented by parent or link, waits drawn as waits, log lines where they belong."""

import pytest

from otel_sched.demo.lines import plain
from otel_sched.demo.stories import LogNote, SpanNote, Story
from otel_sched.demo.trees import tree

MS = 1_000_000
START = 1_700_000_000_000 * MS


def span(name: str, span_id: int, parent: int | None, start: int, end: int, **more: object) -> SpanNote:
    """A span; instants are milliseconds from the start of the story."""
    return SpanNote(name, 1, span_id, parent, START + start * MS, START + end * MS, **more)  # type: ignore[arg-type]


def story() -> Story:
    """A request, a job that waited as long as it ran and failed, and one in a trace of its own."""
    failed = span("process a", 3, 2, 50, 100, queue="a", wait=0.05, outcome="error")
    after = SpanNote("process b", 2, 5, None, START + 100 * MS, START + 101 * MS, links=((1, 4),))
    spans = (
        span("put b", 4, 3, 60, 61),
        failed,
        after,
        span("put a", 2, 1, 0, 0),
        span("POST /x", 1, None, 0, 1),
    )
    logs = (
        LogNote(START + 55 * MS, 1, 3, "info", "before"),
        LogNote(START + 99 * MS, 1, 3, "error", "after\nwith a second line"),
        LogNote(START, 1, 99, "info", "of a span that is not known"),
    )
    return Story(failed, spans, logs)


def test_a_tree_follows_parents_links_and_time() -> None:
    """Children hang on parents, a linked trace on its producer by a dotted line, log lines stand by their time."""
    rows = [plain(line)[:29].rstrip() for line in tree("failed", story(), 80)]

    assert rows[0] == "failed: process a  trace 0000"
    assert [row.partition("·")[0] for row in rows[2:]] == [
        "POST /x",
        "╰─put a",
        "  ╰─process a",
        "    ├",
        "    ├─put b",
        "    │ ╰╌process b",
        "    ╰",
    ]
    said = [plain(line) for line in tree("failed", story(), 80)]
    assert said[5].endswith("info: before")
    assert said[8].endswith("error: after")


def test_a_wait_is_drawn_as_a_wait() -> None:
    """A job that waited as long as it ran has as much of the one as of the other, at its place in time."""
    row = next(
        plain(line) for line in tree("failed", story(), 120) if "process a" in plain(line) and "error" in plain(line)
    )

    assert abs(row.count("░") - row.count("█")) <= 2
    assert row.index("░") < row.index("█")
    assert row.split()[-5:] == ["50", "ms", "50", "ms", "error"]


@pytest.mark.parametrize("width", [40, 80, 120, 140])
def test_a_tree_keeps_to_its_width(width: int) -> None:
    """No line is wider than it may be, on a narrow terminal neither."""
    assert max(len(plain(line)) for line in tree("slowest", story(), width)) <= width


def test_a_tree_without_its_root_is_a_tree_all_the_same() -> None:
    """What is left of a story whose beginning was forgotten has several roots."""
    whole = story()
    rest = Story(whole.job, tuple(each for each in whole.spans if each.span_id not in (1, 2)), whole.logs)

    assert [plain(line)[:10] for line in tree("failed", rest, 80)][2] == "process a "


def test_a_tree_of_many_spans_is_cut_off() -> None:
    """A story of hundreds of spans says how many it leaves out."""
    root = span("root", 1, None, 0, 100)
    many = (root, *(span("step", n, 1, n, n + 1) for n in range(2, 200)))

    lines = tree("slowest", Story(root, many, ()), 80)

    assert len(lines) == 43
    assert plain(lines[-1]) == "and 159 more"
