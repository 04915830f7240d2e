"""Floor 5: what was handed to an exporter, and what became of it. The SDK itself keeps this to its logs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from .endpoint import Signal

P = TypeVar("P")


@dataclass(slots=True)
class ExporterCount:
    """Running counts of one exporter: spans, log records or metric data points.

    Each field has one writer: `handed` the application's threads under the GIL, the others the export lock's
    holder.
    """

    signal: Signal
    exporter: str
    handed: int = 0
    exported: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExporterStats:
    """What one exporter has done so far; in spans, log records or metric data points."""

    signal: Signal
    exporter: str
    handed: int
    exported: int
    failed: int

    @property
    def missing(self) -> int:
        """Neither exported nor failed: still waiting or, after a flush, lost to a full buffer."""
        return max(0, self.handed - self.exported - self.failed)


def count_exports(exporter: Any, count: ExporterCount) -> ExporterCount:
    """Have every `export()` of *exporter* counted, in place: to the SDK it stays the same object."""
    export: Callable[..., Any] = exporter.export

    def counted(batch: Any, *args: Any, **kwargs: Any) -> Any:
        number = _points(batch) if count.signal == "metrics" else len(batch)
        if count.signal == "metrics":
            count.handed += number
        try:
            result = export(batch, *args, **kwargs)
        except BaseException:
            count.failed += number
            raise
        if getattr(result, "name", "SUCCESS") == "SUCCESS":
            count.exported += number
        else:
            count.failed += number
        return result

    exporter.export = counted
    return count


def count_handed(processor: P, count: ExporterCount) -> P:
    """Have what reaches a batch *processor* counted, in place."""
    name = next(name for name in ("on_end", "on_emit", "emit") if hasattr(processor, name))
    receive: Callable[[Any], None] = getattr(processor, name)
    spans = count.signal == "traces"

    def counted(item: Any) -> None:
        if not spans or item.context.trace_flags.sampled:
            count.handed += 1
        receive(item)

    setattr(processor, name, counted)
    return processor


def _points(metrics: Any) -> int:
    """Return the number of data points in an SDK's MetricsData."""
    return sum(
        len(metric.data.data_points)
        for resource in metrics.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )
