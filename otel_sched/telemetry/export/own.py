"""Floor 5: what the export tells of itself, as metrics: from ints that are counted anyway, when an exporter asks."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from opentelemetry.metrics import CallbackOptions, Observation

from ..._core import names
from ..._core.names import Instrument
from ..._core.version import VERSION
from ..books import held
from ..counting import ExporterCount
from ..providers import SCHEMA_URL
from .sender import Sender

Observe = Callable[[], Iterable[Observation]]


class Rules:
    """How many spans were handed to the exporter, by the rule that kept them. One thread counts."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def count(self, spans: Sequence[Any]) -> None:
        """Count the spans of one batch."""
        found = Counter([_rule(span) for span in spans])
        self._counts = self._counts + found  # a new one each time: readers need no lock

    def observe(self) -> Iterator[Observation]:
        """Yield the counts."""
        for rule, count in self._counts.items():
            yield Observation(count, {names.TELEMETRY_RULE: rule})


def _rule(span: Any) -> str:
    """Return the rule that kept *span*: a job's span has it as a field, others may have it as an attribute."""
    if type(span) is bytes:  # encoded already, as those are that nothing but the sampler kept
        return names.SAMPLED
    keep = getattr(span, "keep", span)
    if keep is span:
        keep = (span.attributes or {}).get(names.KEEP_RULE)
    return str(keep) if keep else names.SAMPLED


def tell(
    meter_provider: Any,
    counts: Sequence[ExporterCount],
    senders: Sequence[Sender],
    rules: Rules,
    crowded_out: Callable[[], int],
) -> None:
    """Make the instruments; called before anybody else can make the one that is shared with the queues' books.

    Args:
        crowded_out: Returns how many spans there was no room for below jobs that might have been kept.
    """
    meter = meter_provider.get_meter(names.SCOPE, VERSION, SCHEMA_URL)

    def dropped() -> Iterator[Observation]:
        yield from held(meter_provider)
        for (signal, reason), number in _sums(counts).items():
            yield Observation(number, {names.TELEMETRY_SIGNAL: signal, names.TELEMETRY_REASON: reason})
        if number := crowded_out():
            yield Observation(number, {names.TELEMETRY_SIGNAL: "traces", names.TELEMETRY_REASON: names.KEEP_FULL})

    def sizes() -> Iterator[Observation]:
        yield from _by_signal(senders, lambda sender: sender.waiting)

    def capacities() -> Iterator[Observation]:
        yield from _by_signal(senders, lambda sender: sender.limits.waiting)

    _observable(meter.create_observable_counter, names.TELEMETRY_DROPPED, dropped)
    _observable(meter.create_observable_counter, names.TELEMETRY_SPANS, rules.observe)
    _observable(meter.create_observable_up_down_counter, names.BUFFER_SIZE, sizes)
    _observable(meter.create_observable_up_down_counter, names.BUFFER_CAPACITY, capacities)
    durations = meter.create_histogram(
        names.EXPORT_DURATION.name,
        unit=names.EXPORT_DURATION.unit,
        description=names.EXPORT_DURATION.description,
        explicit_bucket_boundaries_advisory=names.BUCKETS,
    )
    for count in counts:
        count.timed = _timed(durations, count.signal)


def _observable(create: Callable[..., Any], instrument: Instrument, observe: Observe) -> None:
    def callback(_: CallbackOptions) -> Iterable[Observation]:
        return list(observe())

    create(instrument.name, callbacks=[callback], unit=instrument.unit, description=instrument.description)


def _timed(durations: Any, signal: str) -> Callable[[str, float], None]:
    def timed(outcome: str, seconds: float) -> None:
        durations.record(seconds, {names.TELEMETRY_SIGNAL: signal, names.TELEMETRY_OUTCOME: outcome})

    return timed


def _sums(counts: Sequence[ExporterCount]) -> Counter[tuple[str, str]]:
    """Return what was dropped by signal and reason, over all exporters; a counter that was never moved has no point."""
    sums: Counter[tuple[str, str]] = Counter()
    for count in counts:
        for reason, number in count.dropped.items():
            if total := number + count.inherited[reason]:
                sums[count.signal, reason] += total
    return sums


def _by_signal(senders: Sequence[Sender], value: Callable[[Sender], int]) -> Iterator[Observation]:
    sums: Counter[str] = Counter()
    for sender in senders:
        if sender.count.signal == "metrics":
            continue  # collections wait there, not data points, and hardly ever more than one
        sums[sender.count.signal] += value(sender)
    for signal, number in sums.items():
        yield Observation(number, {names.TELEMETRY_SIGNAL: signal})
