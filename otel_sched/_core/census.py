"""Floor 1: the books of all queues of this process, held weakly: whoever dumps or diagnoses has to find them."""

import weakref
from collections.abc import Callable
from typing import Any

_all: "set[weakref.ref[Any]]" = set()  # no WeakSet: other threads, and signal handlers, walk over it


arrivals: list[Callable[[Any], None]] = []
"""Called with the ledger of each queue that is made, when that is complete, in the thread that makes it.

They must not raise.
"""


def enter(ledger: Any) -> None:
    """Take up the ledger of a new queue."""
    _all.add(weakref.ref(ledger, _all.discard))


def ledgers() -> list[Any]:
    """Return the ledgers of queues that are alive, in no order; from any thread."""
    while True:
        try:
            found = [each() for each in tuple(_all)]
        except RuntimeError:  # it changed size meanwhile
            continue
        return [each for each in found if each is not None and not each.closed]
