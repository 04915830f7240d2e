"""Hypothesis strategies for programs, for an SDK's set-up, and what runs one on one path."""

import logging
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from opentelemetry import baggage, trace
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, sampling
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import SpanKind, TraceState, get_current_span

from otel_sched.telemetry.logs import OtlpHandler
from otel_sched.telemetry.sampling import FollowLinks
from otel_sched.testing import VirtualLoop
from tests.support.both_paths import PathTelemetry, virtual_wall
from tests.support.compare import Renamed, span_of
from tests.support.programs import Line, Program, Put, Running


@dataclass(frozen=True)
class Sdk:
    """How the application set up its SDK."""

    sampler: tuple[str, float] = ("default", 1.0)
    limits: tuple[tuple[str, int], ...] = ()
    ids: str = "random"
    processor: str = "none"
    logs: bool = True
    delta: bool = False
    light_metrics: bool = True


class Counting(IdGenerator):
    """Ids in order."""

    def __init__(self) -> None:
        self._traces = self._spans = 0

    def generate_span_id(self) -> int:
        """Return the next span id."""
        self._spans += 1
        return self._spans

    def generate_trace_id(self) -> int:
        """Return the next trace id; its lower half, by which ratios decide, goes up and down."""
        self._traces += 1
        return (self._traces << 64) | (self._traces * 0x9E3779B97F4A7C15 % 2**64)


class Fickle(sampling.Sampler):
    """Decides by turns, adds to a span or takes from it, and notes what it was asked."""

    TURNS = (
        sampling.Decision.RECORD_AND_SAMPLE,
        sampling.Decision.DROP,
        sampling.Decision.RECORD_AND_SAMPLE,
        sampling.Decision.RECORD_ONLY,
    )

    def __init__(self, first: int, names: Renamed, seen: list[Any]) -> None:
        self._turn = first
        self._names = names
        self._seen = seen

    def should_sample(
        self,
        parent_context: Any,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Any = None,
        links: Any = None,
        trace_state: TraceState | None = None,
    ) -> sampling.SamplingResult:
        """Decide about one span."""
        above = get_current_span(parent_context).get_span_context()
        linked = [self._names.context(link.context) for link in links or ()]
        carried = self._names.attributes(baggage.get_all(parent_context))
        asked = [name, str(kind), self._names.attributes(attributes), linked, str(trace_state), carried]
        self._seen.append(["sampler", self._names.id("trace", trace_id), self._names.context(above), *asked])
        self._turn += 1
        decision = self.TURNS[self._turn % 4]
        given: dict[str, Any] = {"turn": self._turn}
        if self._turn % 3:
            given = {**(attributes or {}), **given}
        state = TraceState([("turn", str(self._turn))]) if self._turn % 2 else None
        return sampling.SamplingResult(decision, given, state)

    def get_description(self) -> str:
        """Return a name."""
        return "Fickle"


class Noting(SpanProcessor):
    """Notes every span as it starts and ends; writes on it too, if it is told so."""

    def __init__(self, names: Renamed, seen: list[Any], write: bool) -> None:
        self._names, self._seen, self._write = names, seen, write

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """Note a span that has started."""
        above = trace.get_current_span(parent_context).get_span_context()
        carried = self._names.attributes(baggage.get_all(parent_context))
        said = span_of(span, self._names)
        self._seen.append(["start", said, self._names.context(above), span.is_recording(), carried])
        if self._write:
            span.set_attribute("noted", True)

    def _on_ending(self, span: Any) -> None:
        if self._write:
            span.set_attribute("ending", span.is_recording())

    def on_end(self, span: Any) -> None:
        """Note a span that has ended."""
        self._seen.append(["end", span_of(span, self._names)])


def sampler_of(sdk: Sdk, names: Renamed, seen: list[Any]) -> sampling.Sampler | None:
    """Return the sampler that *sdk* asks for."""
    kind, number = sdk.sampler
    made: dict[str, Any] = {
        "on": lambda: sampling.ALWAYS_ON,
        "off": lambda: sampling.ALWAYS_OFF,
        "parent off": lambda: sampling.ParentBased(sampling.ALWAYS_OFF),
        "ratio": lambda: sampling.TraceIdRatioBased(number),
        "parent ratio": lambda: sampling.ParentBased(sampling.TraceIdRatioBased(number)),
        "parents differ": lambda: sampling.ParentBased(
            sampling.TraceIdRatioBased(number),
            local_parent_not_sampled=sampling.ALWAYS_ON,
            remote_parent_sampled=sampling.ALWAYS_OFF,
        ),
        "links": lambda: FollowLinks(sampling.TraceIdRatioBased(number)),
        "fickle": lambda: Fickle(int(number * 4), names, seen),
        "fickle root": lambda: sampling.ParentBased(Fickle(int(number * 4), names, seen)),
        "default": lambda: None,
    }
    return made[kind]()


SAMPLERS = (
    "on", "off", "parent off", "ratio", "parent ratio", "parents differ", "links", "fickle", "fickle root", "default",
)  # fmt: skip


def told_by(program: Program, sdk: Sdk, fast: bool) -> tuple[dict[str, Any], PathTelemetry]:
    """Run a program in virtual time on one path; return all that was told and seen, and the telemetry."""
    names = Renamed()
    seen: list[Any] = []
    with virtual_wall() as wall:
        loop = VirtualLoop()
        wall.loop = loop
        telemetry = PathTelemetry(
            fast,
            delta=sdk.delta,
            logs=sdk.logs,
            light_metrics=sdk.light_metrics,
            processors=[] if sdk.processor == "none" else [Noting(names, seen, sdk.processor == "write")],
            sampler=sampler_of(sdk, names, seen),
            span_limits=SpanLimits(**dict(sdk.limits)) if sdk.limits else None,
            id_generator=Counting() if sdk.ids == "counting" else None,
        )
        logger = logging.getLogger("application.programs")
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        logger.handlers = [OtlpHandler(logger_provider=telemetry.logger_provider)]
        try:
            running = Running(program, telemetry, names, loop.time)
            running.seen = seen
            loop.run_until_complete(running.main())
            telemetry.meter_provider.force_flush()
            told = {**telemetry.told(names), "seen": seen}
            del running
        finally:
            loop.close()
            logger.handlers = []
            telemetry.close()
    return told, telemetry


KEYS = st.sampled_from(["user", "otel_sched.job.outcome", "otel_sched.queue.name", "error.type", "zeta"])
VALUES = st.sampled_from([1, True, "text", "ümlaut", 0.5, (1, 2), ("a", "b"), -7, ""])
FAULTS = st.sampled_from(["boom", "mute", "unspeakable", "key", "timeout"])
NOTHING = st.none()

_plain_steps = st.one_of(
    st.tuples(st.just("look"), NOTHING),
    st.tuples(st.just("sleep"), st.integers(0, 40)),
    st.tuples(st.just("attribute"), st.tuples(KEYS, VALUES)),
    st.tuples(st.just("attributes"), st.tuples(st.tuples(KEYS, VALUES), st.tuples(KEYS, VALUES))),
    st.tuples(st.just("event"), st.sampled_from(["ping", "pong"])),
    st.tuples(st.just("status"), st.sampled_from(["OK", "ERROR", "UNSET"])),
    st.tuples(st.just("rename"), st.sampled_from(["other", "process line 0"])),
    st.tuples(st.just("link"), NOTHING),
    st.tuples(st.just("record"), FAULTS),
    st.tuples(st.just("log"), st.sampled_from([10, 20, 40])),
    st.tuples(st.just("log_error"), FAULTS),
    st.tuples(st.just("hold"), NOTHING),
    st.tuples(st.just("flush"), NOTHING),
    st.tuples(st.just("end"), NOTHING),
    st.tuples(st.just("raise"), FAULTS | st.just("cancelled")),
    st.tuples(st.just("timeout"), st.integers(0, 40)),
    st.tuples(st.just("cancel"), NOTHING),
    st.tuples(st.just("leave"), NOTHING),
)


def _nested(inner: Any) -> Any:
    steps = st.lists(inner, max_size=2).map(tuple)
    return st.one_of(
        st.tuples(st.just("child"), steps),
        st.tuples(st.just("call"), steps),
        st.tuples(st.just("suppress"), steps),
        st.tuples(st.just("put"), st.tuples(st.integers(0, 2), steps)),
        st.tuples(st.just("linger"), st.tuples(st.integers(0, 80), steps)),
    )


steps = st.lists(st.recursive(_plain_steps, _nested, max_leaves=4), max_size=4).map(tuple)
options = st.fixed_dictionaries(
    {},
    optional={
        "correlation": st.sampled_from(["auto", "parent", "link"]),
        "process_spans": st.sampled_from(["auto", "always", "never"]),
        "producer_spans": st.booleans(),
        "carry": st.sampled_from([None, "baggage", "context"]),
        "settle": st.sampled_from(["auto", "task_done", "next_get"]),
        "buckets": st.just((0.25, 1.0)),
    },
).map(lambda chosen: tuple(chosen.items()))
lines = st.builds(
    Line,
    kind=st.sampled_from(["fifo", "fifo", "lifo", "priority", "watched", "watched priority"]),
    consumer=st.sampled_from(["done", "pool", "pool", "forgetful", "swallow", "inside", "dispatch", "waiter", "batch"]),
    workers=st.integers(1, 2),
    maxsize=st.sampled_from([0, 0, 1, 2]),
    options=options,
)
INSIDE = (
    "none", "recording", "baggage", "ended", "remote", "remote state", "remote sampled", "remote sampled state",
    "remote sampled random",
)  # fmt: skip


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Draw a program."""
    made = tuple(draw(st.lists(lines, min_size=1, max_size=3)))
    puts = st.builds(
        Put,
        items=st.lists(steps, min_size=1, max_size=4).map(tuple),
        line=st.integers(0, len(made) - 1),
        delay=st.integers(0, 64) | st.just(700),
        inside=st.sampled_from(INSIDE),
    )
    return Program(made, tuple(draw(st.lists(puts, min_size=1, max_size=3))))


LIMITS = (
    "max_span_attributes", "max_events", "max_links", "max_event_attributes", "max_link_attributes",
    "max_attribute_length", "max_span_attribute_length",
)  # fmt: skip
sdks = st.builds(
    Sdk,
    sampler=st.tuples(st.sampled_from(SAMPLERS), st.sampled_from([0.0, 0.25, 0.5, 1.0])),
    limits=st.just(())
    | st.dictionaries(st.sampled_from(LIMITS), st.integers(0, 9), max_size=3).map(lambda chosen: tuple(chosen.items())),
    ids=st.sampled_from(["random", "random", "counting"]),
    processor=st.sampled_from(["none", "none", "note", "write"]),
    logs=st.booleans(),
    delta=st.booleans(),
    light_metrics=st.sampled_from([True, True, False]),
)
