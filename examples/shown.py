"""What the examples share: `otel_sched.configure()`, with a line on the terminal for each span in place of a collector.

Set OTEL_TRACES_EXPORTER=otlp (and OTEL_METRICS_EXPORTER, OTEL_LOGS_EXPORTER) to send the same to a collector as well.
"""

import os
from typing import Any

from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

import otel_sched

_reader = InMemoryMetricReader()


def configure(**arguments: Any) -> otel_sched.Telemetry:
    """Do what an application does with `otel_sched.configure(service_name="shop")`, and print spans as they end."""
    for signal in ("TRACES", "METRICS", "LOGS"):
        os.environ.setdefault(f"OTEL_{signal}_EXPORTER", "none")
    return otel_sched.configure(
        service_name="shop",
        span_processors=[SimpleSpanProcessor(ConsoleSpanExporter(formatter=line))],
        metric_readers=[_reader],
        **arguments,
    )


def line(span: ReadableSpan) -> str:
    """Return a span as one line: name, outcome, times, and the ends of its ids."""
    attributes = span.attributes or {}
    parts = [
        f"span {span.name:<16}",
        f"{attributes.get('otel_sched.job.outcome', ''):<10}",
        f"took {((span.end_time or 0) - (span.start_time or 0)) / 1e6:5.1f} ms",
        f"trace=..{span.context.trace_id & 0xFFFF:04x}" if span.context else "",
        f"id=..{span.context.span_id & 0xFFFF:04x}" if span.context else "",
        f"parent=..{span.parent.span_id & 0xFFFF:04x}" if span.parent else "",
        *(f"link=..{link.context.span_id & 0xFFFF:04x}" for link in span.links),
    ]
    if "otel_sched.job.wait" in attributes:
        parts.insert(2, f"waited {float(str(attributes['otel_sched.job.wait'])) * 1000:5.1f} ms")
    return " ".join(part for part in parts if part) + "\n"


def print_metrics(*names: str) -> None:
    """Collect now and print the points of the named metrics, with their attributes."""
    data = _reader.get_metrics_data()
    for resource in data.resource_metrics if data is not None else ():
        for metric in (each for scope in resource.scope_metrics for each in scope.metrics if each.name in names):
            for point in metric.data.data_points:
                value = f"{point.count} measured" if hasattr(point, "count") else point.value
                attributes = {
                    name.rpartition("otel_sched.")[2]: text for name, text in (point.attributes or {}).items()
                }
                print("metric", metric.name, value, attributes)
