"""Ended spans made into OTLP bytes, which go nowhere: what export costs besides the network."""

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from otel_sched.telemetry.export.encode import SpanEncoder

BATCH = 512
"""How many spans the SDK's exporters, and ours, send at once."""


class Encoding(SpanProcessor):
    """Encodes spans as the exporters of `configure()` do, in batches of their size, while the work goes on.

    It does so in the work's own thread and without the gaps that the real exporters leave for the event loop: all of
    its cost is in the measured time, and none of its manners.
    """

    def __init__(self) -> None:
        self.spans = 0
        self.size = 0
        """Bytes so far."""
        self.kinds: set[type] = set()
        """The types of the first span of each batch."""
        self._encoder = SpanEncoder()
        self._batch: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        """Keep *span* until there are enough of them."""
        self._batch.append(span)
        if len(self._batch) >= BATCH:
            self.finish()

    def finish(self) -> None:
        """Encode what waits."""
        batch, self._batch = self._batch, []
        if batch:
            self.kinds.add(type(batch[0]))
            self.size += len(self._encoder.encode(batch))
            self.spans += len(batch)
