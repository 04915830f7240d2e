"""Floor 5: the garbage collector held off while a dump is made.

A dump makes so many objects that the collector would go through all that a large program has, again and again, and no
thread runs meanwhile: 60 ms each time with ten thousand asyncio tasks, where nothing else stops the loop for 15.
"""

import contextlib
import gc
import os
import weakref
from collections.abc import Iterator


class _Hold:
    """One dump that is being made."""

    __slots__ = ("__weakref__",)


# No lock: a signal handler may make a dump while one is made in its thread. Weakly: whatever comes between, such as an
# interrupt, a hold that is gone holds nothing.
_holds: "weakref.WeakSet[_Hold]" = weakref.WeakSet()
_was_on = False
"""Whether any of them has found the collector on."""


@contextlib.contextmanager
def held_off() -> Iterator[None]:
    """Keep the collector from running, in all threads, until the last such block ends; where it is off, it stays so."""
    global _was_on
    hold = _Hold()
    try:
        _holds.add(hold)
        if gc.isenabled():
            _was_on = True
            gc.disable()
        yield
    finally:
        _holds.discard(hold)
        _give_back()


def _give_back() -> None:
    global _was_on
    if _was_on and not _holds:
        gc.enable()
        _was_on = False


def _renew() -> None:
    """Give a child that was forked meanwhile its collector back: the thread that would do so is the parent's."""
    _holds.clear()
    _give_back()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
