"""Reads rotel's detailed debug log back into spans, data points and log records.

It prints all that the checks of tests/shop ask for. Not printed, or not read back: the flags of spans and links, the
attributes of links, events and exemplars. An attribute that is a list or a map, of which the library has none, is a
KeyError.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.support.otlp_receiver import Event, Exemplar, Link, LogRecord, Point, Span

_LEVELS = {
    "ResourceSpans": 0,
    "ResourceMetrics": 0,
    "ResourceLog": 0,
    "ScopeSpans": 1,
    "ScopeMetrics": 1,
    "ScopeLogs": 1,
    "Span": 2,
    "Metric": 2,
    "LogRecord": 2,
    "SpanLink": 3,
    "SpanEvent": 3,
    "NumberDataPoints": 3,
    "HistogramDataPoints": 3,
    "Exemplar": 4,
}
"""What a line can begin, and how deep it is nested."""

_LINE = re.compile(
    rf"""
      (?P<start> {"|".join(_LEVELS)} ) \ \#\d+
    | (?P<each> ExplicitBounds | Buckets ) \ \#\d+ (?:,\ Count)? :\ (?P<number> .* )
    | \ {{5,}} -> \ (?P<key> [^:]+ ) :\ (?P<value> .* )
    | \ {{4}} (?P<column> (?:Trace|Span|Parent)\ ID | ID | Name | Kind | Status\ (?:code|message) ) \ *:\ (?P<cell> .* )
    | (?P<field> (?:Start|End)\ time | (?:Start|Observed)?Timestamp | Severity(?:Text|Number) | EventName | Body | Flags
        | Count | Sum | Min | Max | Value ) :\ (?P<content> .* )
    | (?:Scope\w+|Resource) \ SchemaURL:\ (?P<schema> .* )
    | InstrumentationScope \ (?!attributes:) (?P<scope> \S+ ) \ (?P<version> .* )
    | (?P<section> (?:Resource\ |InstrumentationScope\ |Data\ point\ )? [Aa]ttributes | Descriptor | Links | Events
        | Exemplars ) :
    | (?P<own> \x1b .* )
    """,
    re.VERBOSE,
)


@dataclass
class _Node:
    """One `Something #0` of the log, with what was printed below it."""

    kind: str
    above: "_Node | None"
    fields: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    below: "list[_Node]" = field(default_factory=list)

    def children(self, kind: str) -> "Iterator[_Node]":
        return (node for node in self.below if node.kind == kind)


@dataclass
class Received:
    """What one service sent."""

    spans: list[Span] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    records: list[LogRecord] = field(default_factory=list)
    scopes: set[tuple[str, str, str]] = field(default_factory=set)


def read(log: str) -> dict[str, Received]:
    """Return what is in *log*, by the `service.name` of the resource it came from."""
    services: dict[str, Received] = defaultdict(Received)
    for request, resource in enumerate(_tree(log)):
        attributes = _attributes(resource)
        received = services[attributes["service.name"]]
        for scope in resource.below:
            name = scope.fields["scope"]
            received.scopes.add((name, scope.fields["version"], scope.fields["schema"]))
            for node in scope.below:
                if node.kind == "Span":
                    received.spans.append(_span(node, attributes, name))
                elif node.kind == "LogRecord":
                    received.records.append(_log_record(node, attributes, name))
                else:
                    received.points += (_point(node, each, attributes, name, request) for each in node.below)
    return dict(services)


def _tree(log: str) -> list[_Node]:
    """Return the resources in *log*. A line that is none of the known ones goes on with the text before it."""
    resources: list[_Node] = []
    path: list[_Node] = []
    into: dict[str, str] = {}
    last = ""
    for line in log.split("\n")[:-1]:
        found = _LINE.fullmatch(line)
        if found is None:
            into[last] += f"\n{line}"
        elif kind := found["start"]:
            del path[_LEVELS[kind] :]
            node = _Node(kind, path[-1] if path else None)
            (node.above.below if node.above else resources).append(node)
            path.append(node)
            into = node.fields
        elif found["section"]:
            # An exemplar's or link's section follows; only those called attributes hold attributes.
            into = path[-1].attributes if found["section"].lower().endswith("attributes") else path[-1].fields
        elif found["each"]:
            path[-1].numbers[found["each"]].append(float(found["number"]))
        elif not found["own"]:
            into, last = _filled(path[-1], into, found)
    return resources


def _filled(node: _Node, into: dict[str, str], found: "re.Match[str]") -> tuple[dict[str, str], str]:
    """Note what one line says; return where the next one belongs, should it only go on with this one."""
    if found["key"] is not None:
        into[found["key"]] = found["value"]
        return into, found["key"]
    if found["scope"] is not None:
        node.fields |= {"scope": found["scope"], "version": found["version"]}
        return node.fields, "version"
    if found["schema"] is not None:
        name, value = "schema", found["schema"]
    elif found["column"] is not None:
        name, value = found["column"], found["cell"]
    else:
        name, value = found["field"], found["content"]
    node.fields[name] = value
    return node.fields, name


def _value(printed: str) -> Any:
    """Return the Python value of `Str(...)`, `Int(...)` and the like."""
    kind, _, rest = printed.partition("(")
    text = rest.removesuffix(")")
    if kind == "Bool":
        return text == "true"
    return {"Str": str, "Int": int, "Double": float}[kind](text)


def _attributes(node: _Node) -> dict[str, Any]:
    return {key: _value(value) for key, value in node.attributes.items()}


def _span(node: _Node, resource: dict[str, Any], scope: str) -> Span:
    known = node.fields
    return Span(
        name=known["Name"],
        kind=known["Kind"].removeprefix("SPAN_KIND_"),
        trace_id=known["Trace ID"],
        span_id=known["ID"],
        parent_span_id=known["Parent ID"],
        start=int(known["Start time"]),
        end=int(known["End time"]),
        status=known["Status code"].removeprefix("STATUS_CODE_"),
        status_message=known["Status message"],
        attributes=_attributes(node),
        links=tuple(Link(link.fields["Trace ID"], link.fields["ID"], {}, 0) for link in node.children("SpanLink")),
        events=tuple(
            Event(event.fields["Name"], int(event.fields["Timestamp"]), {}) for event in node.children("SpanEvent")
        ),
        flags=0,
        resource=resource,
        scope=scope,
    )


def _point(metric: _Node, node: _Node, resource: dict[str, Any], scope: str, request: int) -> Point:
    known, described = node.fields, metric.fields
    numbers = {name.lower(): float(known[name]) for name in ("Value", "Sum", "Min", "Max") if name in known}
    return Point(
        name=described["Name"],
        kind=described["DataType"].lower(),
        unit=described["Unit"],
        description=described["Description"],
        attributes=_attributes(node),
        start=int(known["StartTimestamp"]),
        time=int(known["Timestamp"]),
        temporality=described.get("AggregationTemporality", "").removeprefix("AGGREGATION_TEMPORALITY_"),
        monotonic=described.get("IsMonotonic") == "true",
        count=int(known.get("Count", 0)),
        bounds=tuple(node.numbers["ExplicitBounds"]),
        buckets=tuple(map(int, node.numbers["Buckets"])),
        exemplars=tuple(
            Exemplar(each.fields["Trace ID"], each.fields["Span ID"], float(each.fields["Value"]), {})
            for each in node.children("Exemplar")
        ),
        resource=resource,
        scope=scope,
        request=request,
        **numbers,
    )


def _log_record(node: _Node, resource: dict[str, Any], scope: str) -> LogRecord:
    known = node.fields
    number = re.search(r"\((\d+)\)", known["SeverityNumber"])
    return LogRecord(
        body=_value(known["Body"]),
        severity=int(number[1]) if number else 0,
        severity_text=known["SeverityText"],
        trace_id=known["Trace ID"],
        span_id=known["Span ID"],
        flags=int(known["Flags"]),
        time=int(known["Timestamp"]),
        observed_time=int(known["ObservedTimestamp"]),
        attributes=_attributes(node),
        event_name=known.get("EventName", ""),
        resource=resource,
        scope=scope,
    )
