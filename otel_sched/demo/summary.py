"""Floor 6: what came of a run: the object that `--json` prints, and the lines that say where telemetry went."""

from collections.abc import Iterable, Sequence
from typing import Any

from .._core.job import Outcome
from .._core.observed import Observed
from ..telemetry.counting import ExporterStats
from ..telemetry.endpoint import SIGNALS
from .board import PERCENTS, Board, cancellations
from .destination import NOWHERE, Destination
from .lines import BOLD, STYLES, Line
from .recorder import Recorder, percentile

_WHAT = {"traces": "spans", "metrics": "metric points", "logs": "log records"}


def queue_summary(queue: Observed[Any], recorder: Recorder, board: Board) -> dict[str, Any]:
    """Return the counts of one queue; put = size + active + finished + dropped."""
    stats = queue.stats()
    return {
        "put": stats.put,
        "taken": stats.taken,
        "size": stats.size,
        "active": stats.active,
        "finished": stats.finished,
        "dropped": stats.dropped,
        "outcomes": {outcome.value: stats.outcomes.get(outcome.value, 0) for outcome in Outcome},
        "cancelled": {f"{state}/{reason}": count for (state, reason), count in cancellations(queue).items()},
        "wait": _percentiles(recorder.waits(stats.name)),
        "run": _percentiles(recorder.runs(stats.name)),
        "peak": {name: round(value, 6) for name, value in board.peaks[stats.name].items()},
    }


def export_summary(stats: Iterable[ExporterStats], destination: Destination, complete: bool) -> dict[str, Any]:
    """Return what each signal's exporters were handed, what they got rid of and what was lost."""
    signals = {signal: {"handed": 0, "exported": 0, "dropped": 0} for signal in SIGNALS}
    for each in stats:
        sums = signals[each.signal]
        sums["handed"] += each.handed
        sums["exported"] += each.exported
        sums["dropped"] += each.failed + each.missing
    return {
        "to": destination.shown or None,
        "complete": complete,
        **{str(signal): sums for signal, sums in signals.items()},
    }


def export_lines(recorder: Recorder, export: dict[str, Any]) -> list[Line]:
    """Return a few lines that say what was told, where it went, and what of it was lost."""
    told: Line = [(f"{recorder.spans} spans, {recorder.log_records} log records", BOLD)]
    if not any(export[signal]["handed"] for signal in SIGNALS):
        return [told, [(f"exported to {export['to']}" if export["to"] else NOWHERE, "")]]
    counted = ", ".join(f"{export[signal]['exported']} {_WHAT[signal]}" for signal in SIGNALS)
    lines: list[Line] = [told, [(f"exported {counted} to {export['to']}", "")]]
    for signal in SIGNALS:
        if export[signal]["dropped"]:
            lost = f"dropped {export[signal]['dropped']} of {export[signal]['handed']} {_WHAT[signal]}"
            lines.append([(f"{lost}: they were not taken in time", STYLES["error"])])
    return lines


def _percentiles(ordered: Sequence[float]) -> dict[str, float | None]:
    values = {f"p{percent}": percentile(list(ordered), percent) for percent in PERCENTS}
    return {name: None if value is None else round(value, 6) for name, value in values.items()}
