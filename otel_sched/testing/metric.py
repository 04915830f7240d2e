"""Floor 6: one metric at one collection, for assertions."""

from collections.abc import Mapping, Sequence
from typing import Any

from .._core import names

SHOWN = 20


class Metric:
    """The data points of one metric that have the wanted attributes, as the SDK collected them."""

    def __init__(self, name: str, points: Sequence[Any]) -> None:
        self.name = name
        self.points = tuple(points)

    @property
    def value(self) -> float:
        """The sum of the points of a counter or gauge."""
        if any(not hasattr(point, "value") for point in self.points):
            raise TypeError(f"{self.name} is a histogram and has no value: ask for its count or sum")
        total: float = sum(point.value for point in self.points)
        return total

    @property
    def count(self) -> int:
        """How many durations a histogram holds."""
        return sum(self._histogram(point).count for point in self.points)

    @property
    def sum(self) -> float:
        """Their sum, in seconds."""
        total: float = sum(self._histogram(point).sum for point in self.points)
        return total

    def _histogram(self, point: Any) -> Any:
        if not hasattr(point, "count"):
            raise TypeError(f"{self.name} is no histogram and has no count: ask for its value")
        return point

    def __repr__(self) -> str:
        return f"<Metric {self.name}: {'; '.join(_shown(point) for point in self.points[:SHOWN])}>"


def find(
    metrics: Mapping[str, Sequence[Any]], name: str, queue: str | None, wanted: Mapping[str, Any] | None
) -> Metric:
    """Return the points of the metric *name* that have the *wanted* attributes, or fail and say what there is."""
    given = {**({} if queue is None else {names.QUEUE_NAME: queue}), **(wanted or {})}
    if name not in metrics:
        raise AssertionError(f"no metric {name!r} was collected; there are: {', '.join(sorted(metrics)) or 'none'}")
    found = [
        point
        for point in metrics[name]
        if all((point.attributes or {}).get(key, ...) == value for key, value in given.items())
    ]
    if not found:
        points = "\n".join(f"  {_shown(point)}" for point in metrics[name][:SHOWN])
        raise AssertionError(f"no point of {name} has {given}; its points ({len(metrics[name])}):\n{points}")
    return Metric(name, found)


def _shown(point: Any) -> str:
    said = f"value {point.value}" if hasattr(point, "value") else f"count {point.count}, sum {point.sum:g}"
    return f"{dict(point.attributes or {})}: {said}"
