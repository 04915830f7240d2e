"""Floor 5, HOT: what the SDK's providers hand their spans and log records to."""

import copy
import time
from collections.abc import Callable
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk import _logs as sdk_logs
from opentelemetry.sdk._logs import LogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from ..fast.spans import LightPut, LightSpan
from .sender import Sender

BOUND = 5.0
"""Seconds for the end, where nobody gave a deadline before: a provider's shutdown() takes none."""


class SpanFeed(SpanProcessor):
    """Hands ended spans that are sampled to a sender.

    The span of a job is encoded at once where that is possible: its bytes are smaller than it is, the garbage collector
    has no business with them, and no other thread has to take the interpreter away from the event loop to do it.
    """

    def __init__(self, sender: Sender) -> None:
        self.sender = sender
        self._add = sender.add
        self._pieces = sender.pieces

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span that has ended."""
        kind = type(span)
        if kind is LightSpan or kind is LightPut:
            if span.keep is not None:  # type: ignore[attr-defined]
                self._add(span)  # with the rule that kept it: somebody counts them
            elif span.sampled:  # type: ignore[attr-defined]
                pieces = self._pieces
                short = pieces is not None and not self.sender.crowded
                if short and (span.kit.home is pieces.key or pieces.settle(span)):  # type: ignore[attr-defined, union-attr]
                    self._add(pieces.encode_light(span) or span)  # type: ignore[union-attr]
                else:
                    self._add(span)
            return
        context = span.context
        if context is not None and context.trace_flags.sampled:
            self._add(span)

    def keep(self, span: ReadableSpan) -> None:
        """Take a span that is kept although it was not sampled."""
        self._add(span)

    def shutdown(self) -> None:
        """End the export, within five seconds unless a deadline was set before."""
        self.sender.close(time.monotonic() + BOUND)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what waits now; False when the time runs out."""
        return self.sender.flush(time.monotonic() + timeout_millis / 1000)


class LogFeed(LogRecordProcessor):
    """Hands log records to a sender."""

    def __init__(self, sender: Sender) -> None:
        self.sender = sender
        self._add = sender.add

    def on_emit(self, log_record: Any) -> None:
        """Take a record, as it is now: others may change it afterwards."""
        self._add(_readable(log_record))

    emit = on_emit
    """Its name before SDK 1.35."""

    def shutdown(self) -> None:
        """End the export, within five seconds unless a deadline was set before."""
        self.sender.close(time.monotonic() + BOUND)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what waits now; False when the time runs out."""
        return self.sender.flush(time.monotonic() + timeout_millis / 1000)


_Readable: Callable[..., Any] | None = getattr(sdk_logs, "ReadableLogRecord", None)


def _readable(record: Any) -> Any:
    """Return what exporters take: a copy without the context, which may hold on to much; older SDKs hand on theirs."""
    if _Readable is None or not hasattr(record, "instrumentation_scope"):
        return record
    inner = copy.copy(record.log_record)
    inner.context = Context()
    return _Readable(
        log_record=inner,
        resource=Resource.create({}) if record.resource is None else record.resource,
        instrumentation_scope=record.instrumentation_scope,
        limits=record.limits,
    )
