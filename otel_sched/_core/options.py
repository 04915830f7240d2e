"""Floor 1: what a queue may be told about its telemetry, checked where it is said."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Any, Literal, get_args

Settle = Literal["auto", "task_done", "next_get"]
ProcessSpans = Literal["auto", "always", "never"]
Correlation = Literal["auto", "parent", "link"]
Carry = Literal["baggage", "context"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The telemetry arguments of a queue; `Queue` documents each."""

    settle: Settle = "auto"
    process_spans: ProcessSpans = "auto"
    correlation: Correlation = "auto"
    producer_spans: bool = True
    carry: Carry | None = None
    buckets: Sequence[float] | None = None

    def __post_init__(self) -> None:
        _one_of("settle", self.settle, get_args(Settle))
        _one_of("process_spans", self.process_spans, get_args(ProcessSpans))
        _one_of("correlation", self.correlation, get_args(Correlation))
        _one_of("carry", self.carry, (None, *get_args(Carry)))
        if not isinstance(self.producer_spans, bool):
            raise TypeError(f"producer_spans must be True or False, got {self.producer_spans!r}")
        if self.buckets is not None:
            object.__setattr__(self, "buckets", _checked_buckets(self.buckets))


def _one_of(what: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        names = ", ".join(repr(each) for each in allowed)
        raise ValueError(f"{what} must be one of {names}; got {value!r}")


def _checked_buckets(buckets: Any) -> tuple[float, ...]:
    try:
        bounds = tuple(float(bound) for bound in buckets)
    except (TypeError, ValueError):
        raise TypeError(f"buckets must be a sequence of numbers (seconds), got {buckets!r}") from None
    if not bounds or not all(map(isfinite, bounds)) or any(low >= high for low, high in pairwise(bounds)):
        raise ValueError(f"buckets must be finite upper bounds in rising order, in seconds; got {buckets!r}")
    return bounds


def checked_name(name: Any, what: str = "name") -> str:
    """Return *name* if it can name a series; ValueError or TypeError says why it cannot."""
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a string, got {name!r} ({type(name).__name__})")
    if not name.strip():
        raise ValueError(f"{what} must not be empty: it names the series on every dashboard")
    return name


def checked_maxsize(maxsize: Any) -> float:
    """Return *maxsize* as asyncio takes it: a number, also a broken one, where zero means unbounded.

    asyncio takes negative numbers for unbounded too. Here they are refused: a size that was computed below zero is a
    bug, and a queue without a bound is the worst answer to it.
    """
    if not isinstance(maxsize, (int, float)):
        raise TypeError(f"maxsize must be a number (0 for unbounded), got {maxsize!r}")
    if not maxsize >= 0:
        raise ValueError(f"maxsize must be 0 or more, got {maxsize!r}; for an unbounded queue say 0")
    return maxsize
