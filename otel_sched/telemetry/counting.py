"""Floor 5: what was handed to an exporter, and what became of it. The SDK itself keeps this to its logs."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .endpoint import Signal

BUFFER_FULL = "buffer_full"
REFUSED = "refused"
REJECTED = "rejected"
ENCODING = "encoding"
GAVE_UP = "gave_up"
SHUTDOWN = "shutdown"
REASONS = (BUFFER_FULL, REFUSED, REJECTED, ENCODING, GAVE_UP, SHUTDOWN)
"""Why telemetry was not exported."""


def _nothing_dropped() -> dict[str, int]:
    return dict.fromkeys(REASONS, 0)


@dataclass(slots=True)
class ExporterCount:
    """Running counts of one exporter: spans, log records or metric data points.

    `x.handed += 1` and `x.dropped[REASON] += 1` let no other thread in between, so that every thread may count.
    """

    signal: Signal
    exporter: str
    handed: int = 0
    exported: int = 0
    dropped: dict[str, int] = field(default_factory=_nothing_dropped)
    inherited: dict[str, int] = field(default_factory=_nothing_dropped)
    """What was dropped before a fork: a counter never goes back."""
    timed: Callable[[str, float], None] | None = None
    """Told the outcome and the seconds of each attempt."""

    @property
    def failed(self) -> int:
        """How much was dropped, whyever."""
        return sum(self.dropped.values())

    def took(self, outcome: str, seconds: float) -> None:
        """Take note of one attempt to export."""
        if self.timed is not None:
            self.timed(outcome, seconds)

    def renew(self) -> None:
        """Begin anew in a forked child."""
        for reason, count in self.dropped.items():
            self.inherited[reason] += count
            self.dropped[reason] = 0
        self.handed = self.exported = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExporterStats:
    """What one exporter has done so far; in spans, log records or metric data points.

    `failed` is the sum of what `dropped` counts by reason: `buffer_full` (too much waited already), `refused` (by the
    receiver, for good), `rejected` (by the receiver, out of a batch that it took), `encoding` (cannot be encoded),
    `gave_up` (tried for five minutes), `shutdown` (the time was up).
    """

    signal: Signal
    exporter: str
    handed: int
    exported: int
    failed: int
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def missing(self) -> int:
        """Neither exported nor dropped: still waiting."""
        return max(0, self.handed - self.exported - self.failed)


def stats_of(count: ExporterCount) -> ExporterStats:
    """Return the counts as they are now."""
    dropped = {reason: number for reason, number in count.dropped.items() if number}
    return ExporterStats(
        signal=count.signal,
        exporter=count.exporter,
        handed=count.handed,
        exported=count.exported,
        failed=sum(dropped.values()),
        dropped=dropped,
    )


def count_exports(exporter: Any, count: ExporterCount) -> ExporterCount:
    """Have every `export()` of a metric exporter that is not OTLP's counted, in place: to the SDK it stays the same."""
    export: Callable[..., Any] = exporter.export

    def counted(metrics: Any, *args: Any, **kwargs: Any) -> Any:
        number = points_of(metrics)
        count.handed += number
        begun, well = time.perf_counter(), False
        try:
            result = export(metrics, *args, **kwargs)
            well = getattr(result, "name", "SUCCESS") == "SUCCESS"
        finally:
            if well:
                count.exported += number
            else:
                count.dropped[REFUSED] += number
            count.took("ok" if well else "failed", time.perf_counter() - begun)
        return result

    exporter.export = counted
    return count


def points_of(metrics: Any) -> int:
    """Return the number of data points in an SDK's MetricsData."""
    return sum(
        len(metric.data.data_points)
        for resource in metrics.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )
