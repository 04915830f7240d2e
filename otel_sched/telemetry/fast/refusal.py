"""Floor 5: whose histograms may be kept here: those of providers that would treat them just so. Needs the SDK."""

from collections.abc import Iterator
from typing import Any

from opentelemetry.sdk.metrics import (
    AlwaysOffExemplarFilter,
    Histogram,
    Meter,
    MeterProvider,
    TraceBasedExemplarFilter,
)
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import DefaultAggregation, ExplicitBucketHistogramAggregation

from ..._core import names
from ..._core.version import VERSION
from ..providers import SCHEMA_URL

INSTRUMENTS = (names.WAIT_DURATION, names.RUN_DURATION, names.PUT_BLOCKED)


def only_reader(provider: Any) -> Any:
    """Return the reader of a provider that has exactly one, else None."""
    readers = list(provider._measurement_consumer._reader_storages)
    return readers[0] if len(readers) == 1 else None


def why_not(provider: Any) -> str | None:
    """Return why the histograms of *provider* cannot be kept here, or None where they can."""
    if type(provider) is not MeterProvider:
        return "it is not the SDK's own MeterProvider"
    if getattr(provider, "_disabled", False) or provider._shutdown:
        return "it is shut down or disabled"
    if only_reader(provider) is None:
        return "it has not exactly one reader"
    if not keeps_exemplars(provider) and type(provider._sdk_config.exemplar_filter) is not AlwaysOffExemplarFilter:
        return "it has an exemplar filter of its own"
    meter = provider.get_meter(names.SCOPE, VERSION, SCHEMA_URL)
    if type(meter) is not Meter or not enabled(meter):
        return "its configurator disables our meter"
    if any(plain_histograms(provider)):
        return "histograms of ours were made on it already"
    if _viewed(provider, meter):
        return "a View of it matches our histograms"
    return why_not_reader(only_reader(provider))


def why_not_reader(reader: Any) -> str | None:
    """Return why our histograms cannot be brought to *reader*, or None where they can."""
    usual = PeriodicExportingMetricReader
    if not isinstance(reader, usual) or type(reader)._receive_metrics is not usual._receive_metrics:
        return "its reader is not a PeriodicExportingMetricReader"
    if not _usual_buckets(_of_histograms(reader._instrument_class_aggregation)):
        return "its reader wants another aggregation of histograms"
    if hasattr(reader._exporter.export, "otel_sched"):
        return "its exporter has another provider's metrics already"
    return None


def temporality(reader: Any) -> AggregationTemporality:
    """Return which temporality *reader* wants for histograms."""
    found: AggregationTemporality = _of_histograms(reader._instrument_class_temporality)
    return found


def limit(reader: Any, default: int) -> int:
    """Return how many attribute sets of one histogram *reader* takes; SDKs without such a limit get the default."""
    found = getattr(reader, "_instrument_class_cardinality_limit", None)
    return default if found is None else int(_of_histograms(found))


def keeps_exemplars(provider: Any) -> bool:
    """Say whether measurements under sampled spans become exemplars, which is the SDK's default."""
    return type(provider._sdk_config.exemplar_filter) is TraceBasedExemplarFilter


def enabled(meter: Any) -> bool:
    """Say whether a meter is on; where meters cannot be switched off, it is."""
    ask = getattr(meter, "_is_enabled", None)
    return ask is None or bool(ask())


def plain_histograms(provider: Any) -> Iterator[Any]:
    """Yield the SDK's own histograms of ours: whoever made them goes on recording there."""
    ours = {instrument.name for instrument in INSTRUMENTS}
    for meter in list(provider._meters.values()):
        if meter._instrumentation_scope.name == names.SCOPE:
            for made in list(meter._instrument_id_instrument.values()):
                if isinstance(made, Histogram) and made.name in ours:
                    yield made


def _viewed(provider: Any, meter: Any) -> bool:
    """Say whether a View matches; it is asked about instruments made as the meter makes them, but not registered."""
    views = provider._sdk_config.views
    if not views:
        return False
    kind = next(each for each in Histogram.__subclasses__() if each.__name__ == "_Histogram")
    scope, consumer = meter._instrumentation_scope, provider._measurement_consumer
    probes = [kind(each.name, scope, consumer, each.unit, each.description) for each in INSTRUMENTS]
    return any(view._match(probe) for view in views for probe in probes)


def _usual_buckets(aggregation: Any) -> bool:
    """Say whether an aggregation leaves it to the instrument which buckets there are."""
    if type(aggregation) is ExplicitBucketHistogramAggregation:
        return aggregation._boundaries is None and aggregation._record_min_max is True
    return type(aggregation) is DefaultAggregation


def _of_histograms(by_class: Any) -> Any:
    """Return what a reader keeps for histograms in a table by the instruments' private classes."""
    return next(value for kind, value in by_class.items() if issubclass(kind, Histogram))
