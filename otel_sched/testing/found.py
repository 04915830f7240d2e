"""Floor 6: what was told, as a tuple that can be narrowed by questions, and that fails in whole sentences."""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Self, TypeVar

T = TypeVar("T")

SHOWN = 20
"""How many things a failure lists."""
LONGEST = 200


class Found(tuple[T, ...]):
    """Things in the order in which they were told. Each question returns those that answer it."""

    _noun: ClassVar[str] = "thing"
    _asked: tuple[str, ...]
    _all: tuple[T, ...]

    def __new__(cls, things: Iterable[T] = (), asked: tuple[str, ...] = (), among: tuple[T, ...] | None = None) -> Self:
        """Return *things*, which are those *among* others that answered what was *asked*."""
        self = super().__new__(cls, things)
        self._asked = asked
        self._all = self if among is None else among
        return self

    def one(self) -> T:
        """Return the only one.

        Raises:
            AssertionError: there is none, or there are several; with what was asked for, and what there was.
        """
        if len(self) != 1:
            raise AssertionError(self._complaint("one"))
        return self[0]

    def none(self) -> None:
        """Make sure that there is none.

        Raises:
            AssertionError: there is one; with what was asked for, and what there was.
        """
        if self:
            raise AssertionError(self._complaint("no"))

    def where(self, predicate: Callable[[T], Any], description: str = "that the predicate is true for") -> Self:
        """Keep those for which *predicate* is true; a failure says *description*."""
        return self._keep(predicate, description)

    def __repr__(self) -> str:
        """Return it in a line, as pytest shows it where an assertion of a test's own fails."""
        head = " ".join((f"{len(self)} {self._noun}{'s' * (len(self) != 1)}", *self._asked))
        shown = [self._line(each)[:LONGEST] for each in self[:SHOWN]]
        if len(self) > SHOWN:
            shown.append(f"and {len(self) - SHOWN} more")
        return f"<{head}: {'; '.join(shown)}>" if shown else f"<{head}>"

    def _keep(self, predicate: Callable[[T], Any], asked: str) -> Self:
        kept = (each for each in self if predicate(each))
        return type(self)(kept, (*self._asked, asked), self._all)

    def _complaint(self, wanted: str) -> str:
        asked = " ".join((f"{wanted} {self._noun}", *self._asked))
        if self:
            listed, head = tuple(self), f"expected {asked}, found {len(self)}:"
        elif self._all:
            listed = self._all
            head = f"expected {asked}, found none. There are these {self._noun}s ({len(listed)}):"
        else:
            return f"expected {asked}, found none: there is no {self._noun} at all"
        lines = [head, *(f"  {self._line(each)[:LONGEST]}" for each in listed[:SHOWN])]
        if len(listed) > SHOWN:
            lines.append(f"  and {len(listed) - SHOWN} more")
        return "\n".join(lines)

    @classmethod
    def _line(cls, thing: T) -> str:
        """Say one of them in a line."""
        return str(thing)
