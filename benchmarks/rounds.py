"""Interleaved rounds: every variant is measured in each round, so that a slow minute of the machine hits them all."""

import asyncio
import gc
import statistics
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
Variant = Callable[[], float]
"""Runs the work once and returns the seconds for one job."""


def loop_factories() -> dict[str, LoopFactory]:
    """Return the event loops there are to run on: asyncio's, and uvloop's where that is installed."""
    factories: dict[str, LoopFactory] = {"asyncio": asyncio.SelectorEventLoop}
    try:
        import uvloop
    except ImportError:
        return factories
    return {**factories, "uvloop": uvloop.new_event_loop}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How much is measured, and on which event loop."""

    rounds: int = 11
    scale: float = 1.0
    """A factor on how many jobs each measurement takes."""
    loop: str = "asyncio"

    def jobs(self, count: int) -> int:
        """Return how many jobs a measurement that is meant for *count* takes."""
        return max(20, round(count * self.scale))

    def run(self, work: Coroutine[Any, Any, float]) -> float:
        """Run *work* to its end on an event loop of its own, and return its seconds."""
        with asyncio.Runner(loop_factory=loop_factories()[self.loop]) as runner:
            return runner.run(work)


class Rounds:
    """What the variants took: for each a list of seconds per job, by round."""

    def __init__(self, taken: Mapping[str, list[float]]) -> None:
        self.taken = taken

    def median(self, name: str) -> float:
        """Return the median seconds of one job."""
        return statistics.median(self.taken[name])

    def ratio(self, name: str, to: str) -> float:
        """Return how many times *to* the variant took: the median of each round's own ratio."""
        return statistics.median(a / b for a, b in zip(self.taken[name], self.taken[to], strict=True))

    def share(self, name: str, of: str, above: str) -> float:
        """Return what the variant adds to *above* as a part of what *of* adds: the median of each round's own part."""
        rounds = zip(self.taken[name], self.taken[of], self.taken[above], strict=True)
        return statistics.median((ours - base) / (theirs - base) for ours, theirs, base in rounds)


def interleave(variants: Mapping[str, Variant], rounds: int) -> Rounds:
    """Run every variant once in each of *rounds* rounds, every other round in reverse, after one that does not count.

    The garbage collector runs before each measurement and stays on during it, as in the programs this is about.
    """
    taken: dict[str, list[float]] = {name: [] for name in variants}
    order = list(variants.items())
    for number in range(-1, rounds):
        order.reverse()
        for name, variant in order:
            gc.collect()
            seconds = variant()
            if number >= 0:
                taken[name].append(seconds)
    return Rounds(taken)
