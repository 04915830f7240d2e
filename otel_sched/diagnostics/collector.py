"""Floor 5: the garbage collector held off while a dump is made.

A dump makes so many objects that the collector would go through all that a large program has, again and again, and no
thread runs meanwhile: 60 ms each time with ten thousand asyncio tasks, where nothing else stops the loop for 15.
"""

import contextlib
import gc
import os
import threading
from collections.abc import Iterator

_lock = threading.Lock()
_holding = 0
"""How many dumps are being made."""
_was_on = False


@contextlib.contextmanager
def held_off() -> Iterator[None]:
    """Keep the collector from running, in all threads, until the last such block ends; where it is off, it stays so."""
    global _holding, _was_on
    with _lock:
        if not _holding:
            _was_on = gc.isenabled()
            gc.disable()
        _holding += 1
    try:
        yield
    finally:
        with _lock:
            _holding -= 1
            if not _holding and _was_on:
                gc.enable()


def _renew() -> None:
    """Give a child that was forked meanwhile its collector back: the thread that would do so is the parent's."""
    global _lock, _holding
    _lock = threading.Lock()
    if _holding and _was_on:
        gc.enable()
    _holding = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
