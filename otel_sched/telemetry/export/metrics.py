"""Floor 5: collected metrics on their way to an OTLP receiver, by the same sender as spans and log records.

The official exporters try for as long as one export may take, then lose the collection: with delta temporality the
counts of those seconds. A gRPC channel to a dead connection they keep for good. And nobody can tell them to stop.
"""

import time
from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData

from ..counting import ExporterCount, points_of
from .limits import Limits
from .processors import BOUND
from .sender import Sender
from .transport import Transport

COLLECTIONS = Limits(waiting=60, batch=1, delay=1.0)
"""How many collections may wait: a quarter of an hour at the default interval."""


class PointSender(Sender):
    """A sender whose items are collections, and whose counts are of their data points."""

    def __init__(self, count: ExporterCount, transport: Transport) -> None:
        super().__init__(count, transport, COLLECTIONS)

    def add(self, item: Any) -> None:
        """Take a collection, or count its points as dropped."""
        self.count.handed += points_of(item) - 1
        super().add(item)

    def _weight(self, items: Sequence[Any]) -> int:
        return sum(map(points_of, items))


class MetricFeed(MetricExporter):
    """Hands what a reader collects to a sender, and prefers what the official exporter prefers."""

    def __init__(self, exporter: Any, sender: Sender) -> None:
        super().__init__(exporter._preferred_temporality, exporter._preferred_aggregation)
        self.sender = sender

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any) -> MetricExportResult:
        """Take a collection; it is sent from another thread."""
        self.sender.add(metrics_data)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Send what waits now; False when the time runs out."""
        return self.sender.flush(time.monotonic() + timeout_millis / 1000)

    def shutdown(self, timeout_millis: float = BOUND * 1000, **given: Any) -> None:
        """Send what waits and end, within the bound; readers have called the argument `timeout` at times."""
        self.sender.close(time.monotonic() + given.get("timeout", timeout_millis) / 1000)
