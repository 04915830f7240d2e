"""Ended spans made into OTLP bytes, which go nowhere: what export costs besides the network."""

from opentelemetry.sdk.trace import ReadableSpan

from otel_sched.telemetry.export.encode import SpanEncoder
from otel_sched.telemetry.export.pack import Packer
from otel_sched.telemetry.export.processors import SpanFeed

BATCH = 512
"""How many spans the SDK's exporters, and ours, send at once."""


class Encoding(SpanFeed):
    """Encodes spans as the exporters of `configure()` do, in batches of their size, while the work goes on.

    All of it happens in the work's own thread: all of its cost is in the measured time, and none of its manners.
    """

    def __init__(self) -> None:
        self.spans = 0
        self.size = 0
        """Bytes so far."""
        self.kinds: set[type] = set()
        """The types of the last item of each batch: bytes for a job's span, which is encoded when it ends."""
        self.pieces = SpanEncoder()
        self._pack = Packer(self.pieces.encode, self.pieces)
        self._batch: list[ReadableSpan | bytes] = []
        self.crowded = False
        super().__init__(self)  # type: ignore[arg-type]  # it is what a feed knows of a sender, too

    def add(self, item: ReadableSpan | bytes) -> None:
        """Keep *item* until there are enough of them."""
        self._batch.append(item)
        if len(self._batch) >= BATCH:
            self.finish()

    def finish(self) -> None:
        """Encode what waits."""
        batch, self._batch = self._batch, []
        if batch:
            self.kinds.add(type(batch[-1]))
            self.size += len(self._pack(batch).data)
            self.spans += len(batch)

    def shutdown(self) -> None:
        """Nothing to end."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing to send."""
        return True
