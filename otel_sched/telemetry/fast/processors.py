"""Floor 5, HOT: the span processors of a provider, those of them that do something at a start or an end."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import SpanProcessor, SynchronousMultiSpanProcessor, Tracer
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

from .kept import KeepProcessor
from .spans import LightSpan

_KINDS = (SpanProcessor, BatchSpanProcessor, SimpleSpanProcessor)
_NOTHING = {
    name: {function for kind in _KINDS if (function := getattr(kind, name, None)) is not None}
    for name in ("on_start", "_on_ending")
} | {"on_end": {SpanProcessor.on_end}}
"""The methods that are known to do nothing."""


class Processors:
    """Calls what the provider's multi-processor would call; a processor that is added later is found.

    Who is in a hurry does as `started` and `ended` do, without the call: `seen` is what `multi` had at the last look.
    """

    def __init__(self, tracer: Tracer) -> None:
        multi: Any = tracer.span_processor
        known = type(multi) is SynchronousMultiSpanProcessor and hasattr(multi, "_span_processors")
        self.multi: Any = multi if known else SimpleNamespace(_span_processors=(multi,))
        self.seen: Any = None
        self.starts: list[Callable[..., None]] = []
        self.endings: list[Callable[..., None]] = []
        self.ends: list[Callable[..., None]] = []

    def started(self, span: LightSpan, context: Context) -> None:
        """Tell of a span that has begun in *context*."""
        if self.multi._span_processors is not self.seen:
            self.renew()
        for start in self.starts:
            start(span, parent_context=context)

    def ended(self, span: LightSpan) -> None:
        """Tell of a span that has ended."""
        if self.multi._span_processors is not self.seen:
            self.renew()
        for ending in self.endings:
            ending(span)
        for end in self.ends:
            end(span)

    def renew(self) -> None:
        """Look at the provider's processors again."""
        seen = self.multi._span_processors
        self.starts = [each.on_start for each in seen if _does(each, "on_start")]
        self.endings = [each._on_ending for each in seen if _does(each, "_on_ending")]
        self.ends = [each.on_end for each in seen if _does(each, "on_end")]
        self.seen = seen


def _does(processor: Any, name: str) -> bool:
    """Say whether that method of *processor* does anything for a job's span."""
    if type(processor) is KeepProcessor:  # those are decided about by who makes them
        return False
    method = getattr(processor, name, None)
    return method is not None and getattr(method, "__func__", method) not in _NOTHING[name]
