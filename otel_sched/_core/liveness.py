"""Floor 1: when each event loop last turned. A heartbeat in the loop writes it, whoever is asked for health reads it.

No locks: each call is one step of a dict that the interpreter does not interrupt, so any thread may make it, and a
signal handler too. Instants are those of `clock.monotonic`.
"""

import os

_beats: dict[str, float] = {}


def beat(name: str, at: float) -> None:
    """Say that the event loop *name* turned at the instant *at*; the first beat makes it known."""
    _beats[name] = at


def end(name: str) -> None:
    """Forget the event loop *name*, which was closed or is not watched any more; one that is unknown is no error."""
    _beats.pop(name, None)


def ages(now: float) -> dict[str, float]:
    """Return how many seconds ago each known event loop last turned; empty where none is watched."""
    return {name: max(0.0, now - at) for name, at in _beats.copy().items()}


if hasattr(os, "register_at_fork"):  # the loops of the parent do not turn in the child
    os.register_at_fork(after_in_child=_beats.clear)
