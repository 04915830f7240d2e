"""Floor 2: the jobs that wait in a queue, held so that code which peeks at `queue._queue` sees plain items.

`JobDeque` is the container of our own FIFO: a deque of jobs that shows items. `Sidecar` stands beside a container that
is not ours (heaps, lists, containers of subclasses) and finds the job again when its item comes out.
"""

import operator
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from .job import Job

_append = deque.append
_popleft = deque.popleft


class JobDeque(deque[Any]):
    """A deque that holds jobs and shows their items to whoever peeks at it or changes it from outside.

    Items added from outside become jobs (`admit`), items taken out from outside are reported (`lose`).
    The queue itself goes through `deque`'s own methods, which cost nothing extra.
    """

    __slots__ = ("admit", "lose")

    def __init__(self, admit: Callable[[Any], Job[Any]], lose: Callable[[int], None]) -> None:
        super().__init__()
        self.admit = admit
        self.lose = lose

    def oldest(self) -> float | None:
        """When the oldest waiting job was put, or None; safe from another thread."""
        try:
            job: Job[Any] = deque.__getitem__(self, 0)
        except IndexError:
            return None
        return job.put_at

    def __iter__(self) -> Iterator[Any]:
        return (job.item for job in super().__iter__())

    def __reversed__(self) -> Iterator[Any]:
        return (job.item for job in super().__reversed__())

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(index).item

    def __setitem__(self, index: Any, item: Any) -> None:
        super().__getitem__(index)  # an index out of range must fail before anything is counted
        super().__setitem__(index, self.admit(item))
        self.lose(1)

    def __delitem__(self, index: Any) -> None:
        super().__delitem__(index)
        self.lose(1)

    def __contains__(self, item: object) -> bool:
        return any(each is item or each == item for each in self)

    def append(self, item: Any) -> None:
        super().append(self.admit(item))

    def appendleft(self, item: Any) -> None:
        super().appendleft(self.admit(item))

    def extend(self, items: Iterable[Any]) -> None:
        for item in list(items) if items is self else items:
            self.append(item)

    def extendleft(self, items: Iterable[Any]) -> None:
        for item in list(items) if items is self else items:
            self.appendleft(item)

    def __iadd__(self, items: Iterable[Any]) -> "JobDeque":  # type: ignore[misc]
        self.extend(items)
        return self

    def insert(self, index: int, item: Any) -> None:
        super().insert(operator.index(index), self.admit(item))  # checked first: what fails is not counted

    def pop(self) -> Any:  # type: ignore[override]
        job = super().pop()
        self.lose(1)
        return job.item

    def popleft(self) -> Any:
        job = super().popleft()
        self.lose(1)
        return job.item

    def remove(self, item: Any) -> None:
        del self[self.index(item)]

    def clear(self) -> None:
        count = len(self)
        super().clear()
        self.lose(count)

    def index(self, item: Any, *bounds: Any) -> int:
        return deque(self).index(item, *bounds)

    def count(self, item: Any) -> int:
        return deque(self).count(item)

    def copy(self) -> Any:
        """Return a plain deque of the items."""
        return deque(self)

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        from copy import deepcopy

        return deepcopy(deque(self), memo)

    def __reduce__(self) -> Any:
        return deque, (list(self),)

    def __eq__(self, other: object) -> bool:
        return deque(self) == other

    def __add__(self, other: Any) -> Any:
        return deque(self) + other

    def __mul__(self, times: Any) -> Any:
        return deque(self) * times

    __rmul__ = __mul__

    def __imul__(self, times: Any) -> "JobDeque":
        more = list(self) * (times - 1)
        if times > 0:
            self.extend(more)
        else:
            self.clear()
        return self

    __hash__ = None

    def __repr__(self) -> str:
        return repr(deque(self))


class Sidecar:
    """The jobs of a container that is not ours, found again by the identity of their item.

    A job holds its item, so an id cannot be reused while it stands here. The same object put twice comes out in the
    order it went in. What was removed behind our back is noticed by length and reported (`lose`).
    """

    __slots__ = ("_jobs", "admit", "container", "lose", "size")

    def __init__(
        self, container: Collection[Any], admit: Callable[[Any], Job[Any]], lose: Callable[[int], None]
    ) -> None:
        self._jobs: dict[int, Job[Any] | deque[Job[Any]]] = {}
        self.container = container
        self.admit = admit
        self.lose = lose
        self.size = 0

    def __len__(self) -> int:
        return self.size

    def push(self, job: Job[Any]) -> None:
        """Remember *job*, whose item the container is about to take."""
        key = id(job.item)
        known = self._jobs.setdefault(key, job)
        if known is not job:
            if isinstance(known, Job):
                self._jobs[key] = deque((known, job))
            else:
                known.append(job)
        self.size += 1

    def pop(self, item: Any) -> Job[Any]:
        """Return the job of *item*, which the container just gave out.

        A container that hands out another object than it was given leaves no way to know which job it was: then the
        oldest one goes, without its link to the producer, for a wrong link is worse than none.
        """
        entry = self._jobs.get(id(item))
        if entry is None:
            job = self._unknown(item)
        elif isinstance(entry, Job):
            del self._jobs[id(item)]
            job = entry
            self.size -= 1
        else:
            job = entry.popleft()
            if not entry:
                del self._jobs[id(item)]
            self.size -= 1
        if self.size > _length(self.container):
            self.resync()
        return job

    def forget(self, job: Job[Any]) -> None:
        """Take back the newest push of *job*: the container refused its item."""
        entry = self._jobs.get(id(job.item))
        if entry is job:
            del self._jobs[id(job.item)]
        elif isinstance(entry, deque):
            entry.remove(job)
        self.size -= 1

    def _unknown(self, item: Any) -> Job[Any]:
        for key, entry in self._jobs.items():
            job = entry if isinstance(entry, Job) else entry.popleft()
            if entry is job or not entry:
                del self._jobs[key]
            self.size -= 1
            job.item, job.trace = item, None
            return job
        return self.admit(item)

    def resync(self) -> None:
        """Forget the jobs whose items were removed from the container behind our back, and adopt new ones."""
        try:
            present = list(self.container)
        except TypeError:  # a container that cannot be walked: the oldest are as good a guess as any
            present = []
        before, self._jobs, self.size = self._jobs, {}, 0
        for item in present:
            entry = before.get(id(item))
            if isinstance(entry, Job):
                del before[id(item)]
                self.push(entry)
            elif entry:
                self.push(entry.popleft())
            else:
                self.push(self.admit(item))
        left = sum(1 if isinstance(entry, Job) else len(entry) for entry in before.values())
        if left:
            self.lose(left)

    def oldest(self) -> float | None:
        """When the oldest waiting job was put, or None; safe from another thread."""
        best: float | None = None
        try:
            for entry in self._jobs.values():
                put_at = entry.put_at if isinstance(entry, Job) else entry[0].put_at
                if best is None or put_at < best:
                    best = put_at
                if isinstance(entry, Job):  # entries stand in the order of their first put
                    break
        except (RuntimeError, IndexError):  # the loop's thread changed it meanwhile
            pass
        return best


def _length(container: Any) -> int:
    """The container's length; a huge one where it has none, so that nothing is ever resynchronised."""
    try:
        return len(container)
    except TypeError:
        return 1 << 62
