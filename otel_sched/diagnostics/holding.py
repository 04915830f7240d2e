"""Floor 5: who is inside `async with` a lock or semaphore: asyncio does not note that."""

import gc
import opcode
from asyncio import locks
from types import CodeType, MethodType
from typing import Any

from .stacks import suspended
from .waits import Place, WaitKind, lock_of

_KINDS = (locks.Lock, locks.Semaphore, locks.Condition)
_ENTERS = opcode.opmap.get("BEFORE_ASYNC_WITH")
"""The instruction of an `async with`."""


class Locks:
    """The locks that tasks wait for, and who holds them; looked for only where somebody waits."""

    __slots__ = ("_codes", "_entering", "_wanted", "waits")

    def __init__(self) -> None:
        self._wanted: dict[int, list[int]] = {}
        self._entering: dict[int, int] = {}
        self._codes: dict[CodeType, bool] = {}
        self.waits: dict[int, list[int]] = {}
        """Who holds what a task waits for, by the number of that task."""

    def wait(self, number: int, found: Place, lock: Any) -> None:
        """Note that a task waits for *lock*."""
        self.waits[number] = self._wanted.setdefault(id(lock), [])
        if found.entering or found.kind is WaitKind.CONDITION:  # it is not inside, or has let go to wait
            self._entering[number] = id(lock)

    def find(self, tasks: list[Any], seen: dict[int, tuple[int, float]]) -> None:
        """Look for the holders among *tasks*."""
        for task in tasks if self._wanted else ():
            inside = [id(lock) for lock in self._held(task.get_coro())]
            if not inside:
                continue
            number = seen[id(task)][0]
            entering = self._entering.get(number)
            if entering in inside:
                inside.remove(entering)
            for lock in set(inside).intersection(self._wanted):
                self._wanted[lock].append(number)

    def _held(self, coroutine: Any) -> list[Any]:
        """Return the locks whose `async with` block a suspended coroutine is in, or about to enter.

        Their `__aexit__` lies on the coroutine's stack, and the garbage collector knows what lies there.
        """
        frames, owners = suspended(coroutine)
        return [
            lock_of(each.__self__)
            for frame, owner in zip(frames, owners, strict=True)
            if self._may_hold(frame.f_code)
            for each in gc.get_referents(owner)
            if type(each) is MethodType and isinstance(each.__self__, _KINDS) and each.__name__ == "__aexit__"
        ]

    def _may_hold(self, code: CodeType) -> bool:
        known = self._codes.get(code)
        if known is None:
            known = self._codes[code] = _ENTERS is None or _ENTERS in code.co_code[::2]
        return known
