"""The chain put -> get -> the user's span -> a log line -> task_done, and how to ask what became of it."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from otel_sched import OtelObserver, Queue
from otel_sched.telemetry.logs import OtlpHandler
from otel_sched.testing import InMemoryTelemetry


class Chain:
    """One queue with telemetry in memory, a producer's request span, and a log line under each job."""

    def __init__(self, telemetry: InMemoryTelemetry, queue: Any = None, **options: Any) -> None:
        self.telemetry = telemetry
        self.tracer = telemetry.tracer_provider.get_tracer("application")
        self.observer = OtelObserver(**telemetry.providers)
        self.queue: Queue[Any] = (
            Queue(name="orders", observer=self.observer, **options) if queue is None else queue(self.observer)
        )
        self.logger = logging.getLogger("application.orders")
        self.logger.setLevel(logging.DEBUG)
        self.logger.propagate = False
        self.logger.handlers = [OtlpHandler(logger_provider=telemetry.logger_provider)]

    async def put(self, *items: Any) -> None:
        """Put items inside one recording request span."""
        with self.tracer.start_as_current_span("request"):
            for item in items:
                await self.queue.put(item)

    async def work(self, item: Any) -> None:
        """Do what a user's code does with an item: a span of its own, and a line in the log."""
        with self.tracer.start_as_current_span(f"charge {item}"):
            self.logger.info("charging %s", item)
            await asyncio.sleep(0)

    def named(self, name: str) -> list[ReadableSpan]:
        """Return the ended spans of that name."""
        return [span for span in self.telemetry.spans if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        """Return the only ended span of that name."""
        found = self.named(name)
        assert len(found) == 1, f"{len(found)} spans {name!r} among {[each.name for each in self.telemetry.spans]}"
        return found[0]

    def processed(self) -> list[ReadableSpan]:
        """Return the process spans, by the time they started."""
        return sorted(self.named("process orders"), key=lambda span: span.start_time or 0)

    def outcomes(self) -> list[Any]:
        """Return the outcomes on the process spans, in the order they started."""
        return [(span.attributes or {}).get("otel_sched.job.outcome") for span in self.processed()]

    def lines(self, text: str) -> list[Any]:
        """Return the log records whose body holds *text*."""
        return [each.log_record for each in self.telemetry.logs if text in str(each.log_record.body)]

    def total(self, metric: str, **attributes: str) -> float:
        """Return the sum of a metric's points that have these attributes, given by their last part."""
        wanted = {f"otel_sched.{name.replace('__', '.')}": value for name, value in attributes.items()}
        points = self.telemetry.metrics().get(metric, [])
        fitting = [each for each in points if wanted.items() <= dict(each.attributes).items()]
        return sum(each.count if hasattr(each, "count") else each.value for each in fitting)

    def assert_tied(self, item: Any) -> None:
        """Assert that request, put, process, the user's span and the log line of *item* hang together."""
        request, put = self.one("request"), self.one("put orders")
        process, charge = self.one("process orders"), self.one(f"charge {item}")
        (line,) = self.lines(f"charging {item}")
        assert put.kind is SpanKind.PRODUCER
        assert process.kind is SpanKind.CONSUMER
        assert ids(put.parent) == ids(request.context)
        assert ids(process.parent) == ids(put.context)
        assert [ids(link.context) for link in process.links] == [ids(put.context)]
        assert ids(charge.parent) == ids(process.context)
        assert (line.trace_id, line.span_id) == ids(charge.context)
        assert (process.attributes or {})["otel_sched.job.id"] == (put.attributes or {})["otel_sched.job.id"]

    def assert_books_balance(self) -> None:
        """Assert the accounting identity, on the metrics and on stats()."""
        put = self.total("otel_sched.jobs.put")
        parts = ("queue.size", "jobs.active", "jobs.finished", "jobs.dropped")
        assert put == sum(self.total(f"otel_sched.{part}") for part in parts)
        stats = self.queue.stats()
        assert stats.put == stats.size + stats.active + stats.finished + stats.dropped


def ids(context: Any) -> tuple[int, int]:
    """Return the identity of a span."""
    assert context is not None, "there is no span"
    return context.trace_id, context.span_id


def no_span_here() -> bool:
    """Say whether no span is current."""
    return not trace.get_current_span().get_span_context().is_valid


@contextmanager
def outer_exception(error: BaseException) -> Iterator[None]:
    """Run a block while *error* is being handled, as inside an outer `except:`."""
    try:
        raise error
    except type(error):
        yield
