"""Floor 5, HOT: the span processors of a provider, those of them that do something at a start or an end."""

from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import SpanProcessor, SynchronousMultiSpanProcessor, Tracer
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

from .spans import LightSpan

_KINDS = (SpanProcessor, BatchSpanProcessor, SimpleSpanProcessor)
_NOTHING = {
    name: {function for kind in _KINDS if (function := getattr(kind, name, None)) is not None}
    for name in ("on_start", "_on_ending")
}
"""The methods that are known to do nothing."""


class Processors:
    """Calls what the provider's multi-processor would call; a processor that is added later is found."""

    def __init__(self, tracer: Tracer) -> None:
        self._multi: Any = tracer.span_processor
        self._known = type(self._multi) is SynchronousMultiSpanProcessor and hasattr(self._multi, "_span_processors")
        self._seen: Any = None
        self._starts: list[Callable[..., None]] = []
        self._endings: list[Callable[..., None]] = []
        self._ends: list[Callable[..., None]] = []
        if not self._known:
            self._resolve((self._multi,))

    def started(self, span: LightSpan, context: Callable[[], Context]) -> None:
        """Tell of a span that has begun; *context* makes the one it was started with, should somebody want it."""
        if self._known and self._multi._span_processors is not self._seen:
            self._renew()
        if self._starts:
            parent_context = context()
            for start in self._starts:
                start(span, parent_context=parent_context)

    def ended(self, span: LightSpan) -> None:
        """Tell of a span that has ended."""
        if self._known and self._multi._span_processors is not self._seen:
            self._renew()
        for ending in self._endings:
            ending(span)
        for end in self._ends:
            end(span)

    def _renew(self) -> None:
        seen = self._multi._span_processors
        self._resolve(seen)
        self._seen = seen

    def _resolve(self, processors: Iterable[Any]) -> None:
        self._starts = [each.on_start for each in processors if _does(each, "on_start")]
        self._endings = [each._on_ending for each in processors if _does(each, "_on_ending")]
        self._ends = [each.on_end for each in processors]


def _does(processor: Any, name: str) -> bool:
    """Say whether that method of *processor* does anything."""
    method = getattr(processor, name, None)
    return method is not None and getattr(method, "__func__", method) not in _NOTHING[name]
