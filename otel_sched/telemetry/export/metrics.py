"""Floor 5: collected metrics on their way to an OTLP receiver, by the same sender as spans and log records.

The official exporters try for as long as one export may take, then lose the collection: with delta temporality the
counts of those seconds. A gRPC channel to a dead connection they keep for good. And nobody can tell them to stop.
"""

import time
from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData

from ..counting import BUFFER_FULL, SHUTDOWN, ExporterCount, points_of
from .limits import Limits
from .processors import BOUND
from .sender import Sender
from .transport import Transport

COLLECTIONS = Limits(waiting=60, batch=1, delay=1.0)
"""How many collections may wait: a quarter of an hour at the default interval."""
MOST_POINTS = 50_000
"""How many data points may wait in them, each half a kilobyte; but one collection in any case."""


class PointSender(Sender):
    """A sender whose items are collections, and whose counts are of their data points."""

    def __init__(self, count: ExporterCount, transport: Transport) -> None:
        super().__init__(count, transport, COLLECTIONS)

    def add(self, item: Any) -> None:
        """Take a collection, or count its points as dropped."""
        points = points_of(item)  # not within what follows: a call lets other threads in between
        self.count.handed += points
        waiting = tuple(self._buffer)
        if len(waiting) >= self._room or (waiting and self._weight(waiting) + points > MOST_POINTS):
            reason = BUFFER_FULL if self._deadline is None else SHUTDOWN
            self.count.dropped[reason] += points
            return
        self._buffer.append(item)
        self._bell.put(None)

    def _weight(self, items: Sequence[Any]) -> int:
        return sum(map(points_of, items))


class MetricFeed(MetricExporter):
    """Hands what a reader collects to a sender, and prefers what the official exporter prefers.

    The SDK flushes and shuts readers down one after another: nobody waits here for a receiver, or those after it would
    have no time left. `Telemetry` waits for the senders afterwards.
    """

    def __init__(self, exporter: Any, sender: Sender) -> None:
        super().__init__(exporter._preferred_temporality, exporter._preferred_aggregation)
        self.sender = sender

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any) -> MetricExportResult:
        """Take a collection; it is sent from another thread."""
        self.sender.add(metrics_data)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Do nothing: what was collected is with the sender."""
        return True

    def shutdown(self, timeout_millis: float = BOUND * 1000, **given: Any) -> None:
        """Take nothing more; what waits is sent within the bound, which readers have called `timeout` at times."""
        self.sender.begin_close(time.monotonic() + given.get("timeout", timeout_millis) / 1000)
