"""Floor 5: a batch to bytes, a little at a time: whoever encodes holds the interpreter, and the event loop waits."""

import time
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple, Protocol

from ..counting import points_of
from ..endpoint import Signal

STRETCH = 0.0002
"""Seconds of encoding in one go. A thread that wants the interpreter back waits 5 ms for one that does not let go."""
BREAK = 0.00005
_FEWEST, _MOST = 4, 256


class Packed(NamedTuple):
    """One serialized request."""

    data: bytes
    items: int
    """How many are in it."""
    failed: int
    """Items that cannot be encoded and were left out."""


class Pieces(Protocol):
    """Makes bytes of single items before they wait."""

    @property
    def key(self) -> object:
        """What marks a queue whose spans may be told in pieces."""
        ...

    def settle(self, span: Any, /) -> bool:
        """Find out whether they may, and mark the queue of *span*."""
        ...

    def encode_light(self, span: Any, /) -> bytes | None:
        """Return what stands for *span*, whose queue is marked; None where itself has to wait. Never raises."""
        ...

    def around(self, pieces: Sequence[bytes], /) -> bytes:
        """Return a request with *pieces*."""
        ...

    def renew(self) -> None:
        """Begin anew in a forked child."""
        ...


class Packer:
    """Encodes batches in stretches, with breaks between; serialized requests may simply stand one after the other."""

    def __init__(self, encode: Callable[[Any], bytes], pieces: Pieces | None = None) -> None:
        self._encode = encode
        self.pieces = pieces
        self._at_once = 16

    def __call__(self, batch: Sequence[Any]) -> Packed:
        """Return one request with all of *batch* that can be encoded."""
        done = [item for item in batch if type(item) is bytes]
        rest = batch if not done else [item for item in batch if type(item) is not bytes]
        parts: list[bytes] = []
        begin = failed = 0
        if done:
            try:
                parts.append(self.pieces.around(done))  # type: ignore[union-attr]  # who else would have made them
            except Exception:
                failed = len(done)
        while begin < len(rest):
            some = rest[begin : begin + self._at_once]
            begun = time.perf_counter()
            failed += self._append(parts, some)
            took = time.perf_counter() - begun
            begin += len(some)
            if begin < len(rest):
                self._adapt(len(some), took)
                time.sleep(BREAK)
        return Packed(b"".join(parts), len(batch) - failed, failed)

    def _append(self, parts: list[bytes], some: Sequence[Any]) -> int:
        """Encode a few items, one by one where one of them cannot be; return how many cannot."""
        try:
            parts.append(self._encode(some))
        except Exception:
            return 1 if len(some) == 1 else sum(self._append(parts, [item]) for item in some)
        return 0

    def _adapt(self, items: int, took: float) -> None:
        """Choose the next stretch's length by how long this one took; half way, as times vary."""
        fitting = items * STRETCH / max(took, 1e-7)
        self._at_once = max(_FEWEST, min(_MOST, int((self._at_once + fitting) / 2)))


class PointPacker(Packer):
    """Encodes collections of metrics, of which a batch has one; what is counted are data points."""

    def __call__(self, batch: Sequence[Any]) -> Packed:
        """Return one request; it cannot be split, for one collection is encoded as a whole."""
        points = sum(map(points_of, batch))
        try:
            return Packed(b"".join(map(self._encode, batch)), points, 0)
        except Exception:
            return Packed(b"", 0, points)


def packer_of(signal: Signal, pieces: Any = None) -> Packer:
    """Return what encodes batches of *signal*.

    Args:
        pieces: The encoder that another exporter of the same provider uses, to be shared.

    Raises:
        ImportError: The official encoder is not where it was.
        AttributeError: The same.
    """
    if signal == "traces":
        from .encode import SpanEncoder

        encoder = pieces or SpanEncoder()
        return Packer(encoder.encode, encoder)
    if signal == "metrics":
        encode_metrics = import_module("opentelemetry.exporter.otlp.proto.common.metrics_encoder").encode_metrics
        return PointPacker(lambda collection: encode_metrics(collection).SerializeToString())
    encode_logs = import_module("opentelemetry.exporter.otlp.proto.common._log_encoder").encode_logs
    return Packer(lambda batch: encode_logs(batch).SerializeToString())
