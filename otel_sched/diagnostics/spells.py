"""Floor 5: one time that a loop does not turn, as a row of looks: what steps were seen, and for how long each. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import CodeType

from .._core.finding import Finding
from .blame import KEPT_WAITING, MOST, Evidence
from .culprit import Step

NOTICEABLE = 0.01
"""Seconds. What took all of the time but this took all of it."""


@dataclass(slots=True, kw_only=True)
class Sighting:
    """One look at a loop that does not turn. Instants of the monotonic clock, seconds of processor time."""

    count: int
    """How many beats there were before."""
    at: float
    wanted: float
    """When whoever looked wanted to; it was kept waiting since."""
    step: Step
    worked: float | None
    """By the loop's thread so far, if one can say."""
    all_worked: float
    """By all threads."""
    collecting: bool = False
    other: Step | None = None
    other_thread: str = ""


@dataclass(slots=True)
class Spell:
    """A time for which one look after the other saw the same step."""

    since: float
    until: float
    step: Step
    """As it was seen where it took most of the time."""
    looks: int = 0
    overslept: float = 0.0
    working: float | None = 0.0
    others_working: float = 0.0
    garbage: float = 0.0
    collecting: bool = False
    waits: bool = False
    other: Step | None = None
    other_thread: str = ""
    handled: bool = False
    """Whether it has been told of, or held back."""
    doubted: tuple[float, float] | None = None
    """When one more look was wanted to be certain, and what processor time it had taken by then."""
    _places: dict[tuple[CodeType, int] | None, float] = field(default_factory=dict)
    _functions: dict[CodeType | None, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """For how long it was seen: at least that."""
        return self.until - self.since

    def add(self, seen: Sighting, passed: float, waited: float) -> None:
        """Count a look that saw it, *passed* seconds after it was seen before, or began."""
        seen.step.waited = waited
        place = seen.step.place
        function, best = place and place[0], self.step.place
        self._places[place] = took_here = self._places.get(place, 0.0) + passed
        self._functions[function] = took = self._functions.get(function, 0.0) + passed
        if took >= max(self._functions.values()) and (
            function is not (best and best[0]) or took_here >= self._places.get(best, 0.0)
        ):
            self.step = seen.step
        self.until = seen.at
        self.looks += 1
        self.overslept += waited
        self.collecting = seen.collecting
        if seen.other is not None or seen.other_thread:
            self.other, self.other_thread = seen.other, seen.other_thread

    def evidence(self) -> Evidence:
        """Return what is known of it."""
        return Evidence(
            blocked=self.seconds,
            step=self.step,
            waits=self.waits,
            overslept=self.overslept,
            working=self.working,
            others_working=self.others_working,
            garbage=self.garbage,
            collecting=self.collecting,
            other=self.other,
            other_thread=self.other_thread,
        )


class Block:
    """One time that the loop does not turn.

    Args:
        count: How many beats there were before it.
        due: When the next one should have come.
        worked: Processor time of the loop's thread at the last beat.
        all_worked: Likewise, of all threads.
        collected: Says for how long the garbage collector was at work between two instants.
    """

    def __init__(
        self, count: int, due: float, worked: float, all_worked: float, collected: Callable[[float, float], float]
    ) -> None:
        self.count = count
        self.due = due
        self.told: Finding | None = None
        self.counted = False
        self.changes = 0
        """How often a look saw another step than the one before."""
        self.jobs_delayed = 0
        self.garbage = 0.0
        self.current: Spell | None = None
        self.longest: Spell | None = None
        self._start = worked, all_worked
        self._last = due, worked, all_worked
        self._collected = collected

    def add(self, seen: Sighting) -> Spell:
        """Count one look and return the spell that it belongs to."""
        last, worked, all_worked = self._last
        waited = max(0.0, seen.at - max(seen.wanted, last))
        working = None if seen.worked is None else max(0.0, seen.worked - worked)
        others = max(0.0, seen.all_worked - all_worked - (working or 0.0))
        garbage = self._collected(last, seen.at)
        self.garbage += garbage
        spell, since = self.current, last
        if spell is None:
            spell = self.current = Spell(last, seen.at, seen.step)
        elif not spell.step.same(seen.step):
            self.changes += not seen.step.idle
            self.longest = self.longest_so_far()
            since = seen.at - waited if waited >= KEPT_WAITING else seen.at  # what let nobody look was this
            spell = self.current = Spell(since, seen.at, seen.step)
            share = (seen.at - since) / max(seen.at - last, 1e-9)
            working, others = None if working is None else working * share, others * share
            garbage = self._collected(since, seen.at)
        elif working is not None:
            spell.waits = working < (seen.at - last) / 10
        spell.working = None if working is None or spell.working is None else spell.working + working
        spell.others_working += others
        spell.garbage += garbage
        spell.add(seen, seen.at - since, waited)
        self._last = seen.at, worked if seen.worked is None else seen.worked, seen.all_worked
        return spell

    @property
    def seconds(self) -> float:
        """For how long the loop has not turned, as far as it was looked at."""
        return self._last[0] - self.due

    def longest_so_far(self) -> Spell | None:
        """Return the spell that took longest."""
        spells = [each for each in (self.longest, self.current) if each is not None]
        return max(spells, key=lambda each: each.seconds, default=None)

    def end(self, at: float, patience: float) -> None:
        """Note that the loop turned: what was seen last may have lasted until then, if that was not long before."""
        last = self._last[0]
        garbage = self._collected(last, at)
        self.garbage += garbage
        if self.current is not None and at - last <= patience:
            self.current.until = max(at, self.current.until)
            self.current.garbage += garbage
        for spell in (self.current, self.longest):
            if spell is not None:
                spell.collecting = True  # all is over: only the sum counts

    def evidence(self, spell: Spell, seconds: float) -> Evidence:
        """Return what is to be told of *spell* when the loop has not turned for *seconds*."""
        evidence = spell.evidence()
        evidence.jobs_delayed = self.jobs_delayed
        evidence.part = seconds - spell.seconds >= NOTICEABLE
        return evidence

    def of_all(self, seconds: float) -> Evidence | None:
        """Return what is known of all its steps together; None if one of them took most of the time, or all."""
        spell = self.longest_so_far()
        if spell is None or not self.changes or spell.seconds >= MOST * seconds:
            return None
        worked, all_worked = self._start
        working = None if spell.working is None else max(0.0, self._last[1] - worked)
        return Evidence(
            blocked=seconds,
            step=spell.step,
            changed=True,
            working=working,
            others_working=max(0.0, self._last[2] - all_worked - (working or 0.0)),
            garbage=self.garbage,
            collecting=spell.collecting,
            jobs_delayed=self.jobs_delayed,
            longest=spell.seconds,
        )
