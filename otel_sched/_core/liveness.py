"""Floor 1: when each event loop last turned. A heartbeat in the loop writes it, whoever is asked for health reads it.

Several may beat in one loop, and it is as young as the youngest of them. No locks but for names: each call is one step
of a dict that the interpreter does not interrupt, so any thread may make it, and a signal handler too. Instants are
those of `clock.monotonic`.
"""

import asyncio
import os
import re
import threading
import weakref
from typing import NamedTuple

MAX_NAMES = 100
OVERFLOW = "other"
"""The name of all loops beyond the hundredth that are alive: names are labels of metrics, and must stay few."""

Loop = asyncio.AbstractEventLoop

_NUMBER = re.compile(r"[-_ ]?\d+([-_]\d+)*( \(.*\))?$")
"""Of a thread: `Thread-12 (serve)`, `ThreadPoolExecutor-0_1`."""


class Beats:
    """What one heartbeat tells of its event loop: written in the loop's thread, read in any."""

    __slots__ = ("at", "interval", "loop", "name", "over")

    def __init__(self, loop: Loop, interval: float, name: str | None = None) -> None:
        self.loop = weakref.ref(loop)
        self.interval = interval
        self.name = claim(name, loop)
        self.at = 0.0
        """When the loop last turned; 0.0 before the first beat."""
        self.over = False

    def turned(self, at: float) -> None:
        """Say that the loop turned at the instant *at*; the first time makes it known."""
        self.at = at
        _told[self] = None
        if self.over:  # ended by another thread in between
            self.rest()

    def rest(self) -> None:
        """Say no more of the loop until it turns again: nobody runs it."""
        _told.pop(self, None)

    def end(self) -> None:
        """Say no more of it."""
        self.over = True
        self.rest()


class Seen(NamedTuple):
    """How an event loop was seen. Seconds."""

    age: float
    """How long ago it last turned."""
    interval: float
    """How often that is told."""


def look(now: float) -> dict[str, Seen]:
    """Return how each watched event loop is, by name; one that nobody runs does not have to turn, and is left out."""
    loops: dict[Loop, tuple[str, Seen]] = {}
    for each in _told.copy():
        loop = each.loop()
        if loop is None or loop.is_closed():
            each.rest()
        elif loop.is_running():
            _take_in(loops, loop, each, now)
    seen: dict[str, Seen] = {}
    for name, one in loops.values():
        seen[name] = max(one, seen.get(name, one))
    return seen


def _take_in(loops: dict[Loop, tuple[str, Seen]], loop: Loop, beats: Beats, now: float) -> None:
    seen = Seen(max(0.0, now - beats.at), beats.interval)
    if loop in loops:
        other = loops[loop][1]
        seen = Seen(min(seen.age, other.age), min(seen.interval, other.interval))
    loops[loop] = beats.name, seen


def ages(now: float) -> dict[str, float]:
    """Return how many seconds ago each watched event loop last turned; empty where none is watched."""
    return {name: seen.age for name, seen in look(now).items()}


def claim(name: str | None, loop: Loop) -> str:
    """Return *name* if no other loop that is alive has it, else one like it; a hundred of them at most.

    Names of loops that are closed or gone are free again. Without a name: the one that the loop has already, or else
    `main` in the main thread, and in others the thread's without its number.
    """
    with _lock:
        for each, holder in tuple(_names.items()):
            if (other := holder()) is None or other.is_closed():
                del _names[each]
        if name is None:
            has = [each for each, holder in _names.items() if holder() is loop]
            name = has[-1] if has else _name_of_thread()
        for number in range(1, MAX_NAMES):
            candidate = name if number == 1 else f"{name}-{number}"
            found = _names[candidate]() if candidate in _names else None
            if found is loop or (found is None and len(_names) < MAX_NAMES):
                _names[candidate] = weakref.ref(loop)
                return candidate
        return OVERFLOW


def _name_of_thread() -> str:
    """Return `main`, or the thread's name without its number: threads that come and go must not use names up."""
    thread = threading.current_thread()
    if thread is threading.main_thread():
        return "main"
    return _NUMBER.sub("", thread.name) or thread.name


_told: dict[Beats, None] = {}
_names: "dict[str, weakref.ref[Loop]]" = {}
_lock = threading.Lock()


def _renew() -> None:
    """Forget, in a forked child, the loops of the parent: they do not turn there."""
    global _lock
    for each in _told.copy():
        each.end()
    _names.clear()
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
