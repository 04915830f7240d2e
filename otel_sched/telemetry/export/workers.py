"""Floor 5: the end of worker processes: `multiprocessing` leaves them without running what `atexit` knows."""

from collections.abc import Callable
from multiprocessing import parent_process, util
from typing import Any

_PRIORITY = 0
"""Before the worker waits for its own children, and after whatever else has a priority there."""


def at_worker_exit(owner: Any, finish: Callable[[Any], None]) -> None:
    """Have *finish* called with *owner* when this process ends as somebody's worker, or a worker of its own does.

    *owner* is held weakly.
    """
    util.register_after_fork(owner, lambda owner: _arm(owner, finish))  # also called in spawned workers
    if parent_process() is not None:
        _arm(owner, finish)


def _arm(owner: Any, finish: Callable[[Any], None]) -> None:
    util.Finalize(owner, finish, args=(owner,), exitpriority=_PRIORITY)
