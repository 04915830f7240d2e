"""Two runs of one workload, compared field by field: what differs though it should not, by the path to it.

Ids differ between runs. They are renamed in the order in which they are met, so that equal structure gives equal names.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from opentelemetry import baggage
from opentelemetry.trace import SpanContext

from otel_sched._core import job as jobs

ADDRESS = re.compile(r"0x[0-9a-f]{6,}")


class Renamed:
    """The names of the ids of one run."""

    def __init__(self) -> None:
        self._names: dict[str, dict[Any, int]] = {}
        self._job = re.compile(re.escape(jobs._prefix) + r"[0-9a-f]{6,}")

    def id(self, kind: str, number: Any) -> str:
        """Return the name of an id; that of nothing is nothing."""
        if not number:
            return f"no {kind}"
        known = self._names.setdefault(kind, {})
        return f"{kind} {known.setdefault(number, len(known))}"

    def context(self, context: SpanContext | None) -> dict[str, Any] | None:
        """Return a span context with its ids renamed."""
        if context is None:
            return None
        return {
            "trace": self.id("trace", context.trace_id),
            "span": self.id("span", context.span_id),
            "flags": int(context.trace_flags),
            "state": list(context.trace_state.items()),
            "remote": context.is_remote,
        }

    def value(self, value: Any) -> Any:
        """Return an attribute's value with its type, for True is not 1; job ids and addresses are renamed."""
        if isinstance(value, str):
            named = self._job.sub(lambda found: self.id("job", found.group()), value)
            return str.__str__(ADDRESS.sub("<address>", named))
        if isinstance(value, Mapping):
            return self.attributes(value)
        if isinstance(value, Sequence) and not isinstance(value, bytes):
            return [type(value).__name__, *(self.value(each) for each in value)]
        return f"{type(value).__name__} {value!r}"

    def attributes(self, attributes: Mapping[str, Any] | None) -> list[Any]:
        """Return attributes in their order."""
        return [[key, self.value(value)] for key, value in (attributes or {}).items()]


def scope_of(scope: Any, names: Renamed) -> Any:
    """Return all that an instrumentation scope says."""
    if scope is None:
        return None
    return [scope.name, scope.version, scope.schema_url, names.attributes(scope.attributes)]


def resource_of(resource: Any, names: Renamed) -> Any:
    """Return all that a resource says."""
    return [resource.schema_url, names.attributes(resource.attributes)]


def span_of(span: Any, names: Renamed) -> dict[str, Any]:
    """Return all that a ReadableSpan says."""
    return {
        "name": span.name,
        "kind": str(span.kind),
        "context": names.context(span.get_span_context()),
        "same context": span.context == span.get_span_context(),
        "parent": names.context(span.parent),
        "start": span.start_time,
        "end": span.end_time,
        "in order": span.end_time is None or 0 < span.start_time <= span.end_time,
        "attributes": names.attributes(span.attributes),
        "dropped attributes": span.dropped_attributes,
        "events": [
            [each.name, each.timestamp, names.attributes(each.attributes), _dropped(each.attributes)]
            for each in span.events
        ],
        "dropped events": span.dropped_events,
        "links": [
            [names.context(each.context), names.attributes(each.attributes), _dropped(each.attributes)]
            for each in span.links
        ],
        "dropped links": span.dropped_links,
        "status": [str(span.status.status_code), names.value(span.status.description or "")],
        "described": span.status.description is not None,
        "resource": resource_of(span.resource, names),
        "scope": scope_of(span.instrumentation_scope, names),
    }


def _dropped(attributes: Any) -> int:
    return int(getattr(attributes, "dropped", 0))


def log_of(record: Any, names: Renamed) -> dict[str, Any]:
    """Return all that a log record says."""
    inner = record.log_record
    return {
        "time": inner.timestamp,
        "observed": inner.observed_timestamp,
        "trace": names.id("trace", inner.trace_id),
        "span": names.id("span", inner.span_id),
        "flags": int(inner.trace_flags or 0),
        "severity": [inner.severity_text, str(inner.severity_number)],
        "body": names.value(inner.body),
        "event": inner.event_name,
        "attributes": names.attributes(inner.attributes),
        "baggage": names.attributes(baggage.get_all(inner.context)),
        "resource": resource_of(record.resource, names),
        "scope": scope_of(record.instrumentation_scope, names),
    }


def metrics_of(data: Any, names: Renamed) -> dict[str, Any]:
    """Return all points of one collection, by resource, scope and metric; their order among each other says nothing."""
    found: dict[str, Any] = {}
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            where = f"{resource_of(resource.resource, names)} {resource.schema_url} {scope_of(scope.scope, names)}"
            for metric in scope.metrics:
                key = f"{metric.name} in {where} {scope.schema_url}"
                assert key not in found, f"two metrics {key}"
                found[key] = metric_of(metric, names)
    return found


def metric_of(metric: Any, names: Renamed) -> dict[str, Any]:
    """Return all that a metric and its points say."""
    data = metric.data
    points = [point_of(each, names) for each in data.data_points]
    return {
        "unit": metric.unit,
        "description": metric.description,
        "kind": type(data).__name__,
        "temporality": str(getattr(data, "aggregation_temporality", None)),
        "monotonic": getattr(data, "is_monotonic", None),
        "points": sorted(points, key=lambda each: str(each["attributes"])),
    }


def point_of(point: Any, names: Renamed) -> dict[str, Any]:
    """Return all that a point says."""
    said: dict[str, Any] = {"type": type(point).__name__, "attributes": names.attributes(point.attributes)}
    for field in ("start_time_unix_nano", "time_unix_nano", "count", "sum", "min", "max", "value"):
        said[field] = names.value(getattr(point, field, None))
    for field in ("bucket_counts", "explicit_bounds"):
        said[field] = [names.value(each) for each in getattr(point, field, None) or ()]
    said["exemplars"] = [
        [
            names.attributes(each.filtered_attributes),
            names.value(each.value),
            each.time_unix_nano,
            names.id("trace", each.trace_id),
            names.id("span", each.span_id),
        ]
        for each in point.exemplars
    ]
    return said


TIMES = {"start", "end", "time", "observed", "start_time_unix_nano", "time_unix_nano", "sum", "min", "max", "exemplars"}
"""Fields that no two runs on a real clock have in common."""


def timeless(said: Any) -> Any:
    """Return what was said without what depends on a real clock; that bucket counts add up is still said."""
    if isinstance(said, dict):
        kept = {key: timeless(value) for key, value in said.items() if key not in TIMES}
        if "points" in kept and "age" in str(kept.get("description", "")).lower():
            kept["points"] = len(kept["points"])
        if isinstance(said.get("sum"), str) and said.get("bucket_counts"):
            kept["bucket_counts"] = sum(int(each.split()[1]) for each in said["bucket_counts"])
        if said.get("type") == "NumberDataPoint" and str(said.get("value")).startswith("float"):
            kept["value"] = "float"
        if "events" in said and isinstance(said["events"], list):
            kept["events"] = [[event[0], *event[2:]] for event in said["events"]]
        return kept
    if isinstance(said, list):
        if len(said) == 2 and said[0] == "otel_sched.job.wait":
            return [said[0], str(said[1]).split()[0]]
        if len(said) == 2 and said[0] == "exception.stacktrace":  # where a timeout strikes is a matter of time, too
            return [said[0], [said[1].splitlines()[0], said[1].splitlines()[-1]]]
        return [timeless(each) for each in said]
    return said


def differences(plain: Any, fast: Any, path: str = "") -> Iterator[str]:
    """Yield where two runs differ."""
    if type(plain) is not type(fast):
        yield f"{path}: {plain!r} became {fast!r}"
    elif isinstance(plain, dict):
        for key in [*plain, *(key for key in fast if key not in plain)]:
            if key not in fast or key not in plain:
                yield f"{path}.{key}: only in the {'plain' if key in plain else 'fast'} run"
            else:
                yield from differences(plain[key], fast[key], f"{path}.{key}")
    elif isinstance(plain, list):
        if len(plain) != len(fast):
            yield f"{path}: {len(plain)} became {len(fast)}: {plain!r} became {fast!r}"
        for index, (one, other) in enumerate(zip(plain, fast, strict=False)):
            yield from differences(one, other, f"{path}[{index}]")
    elif plain != fast:
        yield f"{path}: {plain!r} became {fast!r}"


def assert_same(plain: Any, fast: Any) -> None:
    """Assert that two runs told the same; the message has the first few places where they did not."""
    found = list(differences(plain, fast))
    assert not found, f"{len(found)} differences, plain became fast:\n" + "\n".join(each[:600] for each in found[:12])
