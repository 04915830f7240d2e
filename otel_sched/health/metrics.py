"""Floor 5: all queues' counts, sizes and ages, and the event loops', as Prometheus has what OpenTelemetry exports.

What is measured one by one, the histograms, is not here: only an SDK keeps those.
"""

import re
from collections.abc import Iterator, Mapping

from .._core import names
from .._core.finding import tally
from .._core.names import Instrument
from .._core.points import POINTS
from .exposition import Family, Sample
from .queues import Look

UNITS = {"s": "_seconds", "1": "_ratio"}


def families(look: Look, loops: Mapping[str, float]) -> Iterator[Family]:
    """Yield every metric that has a point, with its points, queues in the order of their names; then what was found.

    *loops* has the seconds since each event loop last turned.
    """
    for instrument, points in POINTS.items():
        yield from _family(
            instrument,
            [
                _sample({names.QUEUE_NAME: name, **attributes}, value)
                for name, snapshot in sorted(look.totals.items())
                for value, attributes in points(snapshot)
            ],
        )
    ages = [_sample({names.EVENTLOOP_NAME: name}, age) for name, age in sorted(loops.items())]
    yield from _family(names.EVENTLOOP_BEAT_AGE, ages)
    found = [
        _sample({names.FINDING_KIND: kind, **({names.QUEUE_NAME: queue} if queue else {})}, count)
        for (kind, queue), count in sorted(tally.copy().items())
    ]
    yield from _family(names.FINDINGS, found)


def prometheus_name(instrument: Instrument) -> str:
    """Return what the OpenTelemetry specification makes of a metric's name for Prometheus."""
    unit = UNITS.get(instrument.unit, "")  # the others are annotations: {job}
    return _label(instrument.name) + unit + ("_total" if instrument.kind == names.COUNTER else "")


def _family(instrument: Instrument, samples: list[Sample]) -> Iterator[Family]:
    if samples:
        kind = "counter" if instrument.kind == names.COUNTER else "gauge"
        yield Family(prometheus_name(instrument), kind, instrument.description, samples)


def _sample(attributes: Mapping[str, str], value: float) -> Sample:
    return Sample({_label(name): each for name, each in attributes.items()}, value)


def _label(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9]+", "_", name)
