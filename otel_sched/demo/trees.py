"""Floor 6: one order's story as a tree: who called or queued what, when it waited and ran, what was logged."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from .lines import BOLD, FAINT, STYLES, Line, clipped, seconds
from .stories import LogNote, SpanNote, Story

MAX_ROWS = 40
WAITING, RUNNING = "░", "█"

_WAITED, _RAN, _ENDED = 8, 7, 10


@dataclass(slots=True)
class Node:
    """A span with what is below it."""

    span: SpanNote
    linked: bool = False
    """Whether it hangs on what it is linked to, having no parent here."""
    below: "list[Node]" = field(default_factory=list)
    logs: list[LogNote] = field(default_factory=list)


def tree(title: str, story: Story, width: int) -> list[Line]:
    """Return *story* as lines of at most *width* characters, at least 60.

    A job's wait is drawn before its run; a job in a trace of its own hangs on its producer by a dotted line.
    """
    job = story.job
    head: Line = [
        (f"{title}: ", ""),
        (job.name, BOLD),
        (f"  trace {job.trace_id:032x}", FAINT),
    ]
    scale = _Scale(story.spans, width)
    rows = [row for node in _roots(story) for row in _rows(node, "", "", scale, job)]
    if len(rows) > MAX_ROWS:
        rows = [*rows[:MAX_ROWS], [(f"and {len(rows) - MAX_ROWS} more", FAINT)]]
    columns = f"{'':{scale.labels}} {'':{scale.bars}}{'waited':>{_WAITED}}{'ran':>{_RAN}}  ended as"
    return [clipped(line, width) for line in (head, [(columns, FAINT)], *rows)]


class _Scale:
    """The widths of the columns, and the instants at the ends of the bars."""

    def __init__(self, spans: tuple[SpanNote, ...], width: int) -> None:
        width = max(60, width)
        self.labels = 30 if width < 100 else 36
        self.bars = width - self.labels - 1 - _WAITED - _RAN - 2 - _ENDED
        self.width = width
        self._start = min(span.start - int(span.wait * 1e9) for span in spans)
        self._spent = max(1, max(span.end for span in spans) - self._start)

    def bar(self, span: SpanNote) -> tuple[str, str, str]:
        """Return the blanks before a span, its wait and its run, as characters."""
        queued = self._column(span.start - int(span.wait * 1e9))
        started = self._column(span.start)
        ended = max(started + 1, self._column(span.end, up=True))
        blank, wait = " " * queued, WAITING * (started - queued)
        return blank, wait, RUNNING * (ended - started)

    def _column(self, at: int, up: bool = False) -> int:
        share = (at - self._start) * self.bars
        column = -(-share // self._spent) if up else share // self._spent
        return min(max(0, column), self.bars if up else self.bars - 1)


def _roots(story: Story) -> list[Node]:
    """Hang every span on its parent, or on what it is linked to; return those that hang on nothing."""
    nodes = {span.span_id: Node(span) for span in sorted(story.spans, key=lambda span: (span.start, -span.end))}
    roots: list[Node] = []
    for node in nodes.values():
        span = node.span
        above = nodes.get(span.parent_id) if span.parent_id is not None else None
        if above is None:
            above = next((nodes[other] for _, other in span.links if other in nodes), None)
            node.linked = above is not None
        (roots if above is None or above is node else above.below).append(node)
    for log in sorted(story.logs, key=lambda log: log.at):
        if log.span_id in nodes:
            nodes[log.span_id].logs.append(log)
    return roots


def _rows(node: Node, lead: str, branch: str, scale: _Scale, job: SpanNote) -> Iterator[Line]:
    """Yield a span's line, its log lines and what is below it; *lead* continues the lines of the tree."""
    span = node.span
    blank, wait, run = scale.bar(span)
    label = cut_tail(f"{branch}{span.name}", scale.labels)
    style = STYLES.get(span.outcome or "", "") if span.outcome != "ok" else ""
    waited = seconds(span.wait) if span.queue is not None else ""
    yield [
        (f"{label:{scale.labels}} ", BOLD if span is job else ""),
        (f"{blank}{wait}", FAINT),
        (f"{run:{max(0, scale.bars - len(blank) - len(wait))}}", style or STYLES["ok"]),
        (f"{waited:>{_WAITED}}{seconds(span.seconds):>{_RAN}}", ""),
        (f"  {span.outcome or ''}", style),
    ]
    logs = list(node.logs)
    for child in node.below:
        while logs and logs[0].at < child.span.start:
            yield _log_row(logs.pop(0), f"{lead}├·", scale)
        last = child is node.below[-1] and not logs
        knot = ("╰" if last else "├") + ("╌" if child.linked else "─")
        yield from _rows(child, lead + ("  " if last else "│ "), f"{lead}{knot}", scale, job)
    for log in logs:
        yield _log_row(log, f"{lead}{'╰' if log is logs[-1] else '├'}·", scale)


def _log_row(log: LogNote, lead: str, scale: _Scale) -> Line:
    text = f"{lead}{_clock(log.at)} {log.level}: {log.text}"
    return [(cut_tail(text, scale.width), FAINT if log.level in ("info", "debug") else STYLES["error"])]


def cut_tail(text: str, width: int) -> str:
    """Return the first line of *text*, with its leading blanks, in at most *width* characters."""
    first = text.partition("\n")[0]
    return first if len(first) <= width else f"{first[: width - 1]}…"


def _clock(at: int) -> str:
    return f"{time.strftime('%H:%M:%S', time.localtime(at // 10**9))}.{at // 10**6 % 1000:03d}"
