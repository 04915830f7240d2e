"""Floor 5: coroutine functions that have more asyncio tasks than before: where the new ones stand, and whose."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .._core.callsite import is_application
from . import text
from .stacks import Frame, Stack
from .tasks import TaskInfo

MAX_PLACES = 5
"""The most places and the most origins listed of one coroutine function."""
MAX_TEXT = 20
"""The most coroutine functions whose new tasks are described in text; the others are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """A coroutine function that has more asyncio tasks than before."""

    coroutine: str
    grown: int
    """By how many."""
    new: int
    """How many are new: others may have ended."""
    places: dict[Frame, int]
    """Where the new ones stand, in the program's own code, the most frequent first."""
    started_in: dict[str, int]
    """In which jobs they were started: of which queue and by which function; of how many that is known."""
    sample: TaskInfo
    """A new one, at the most frequent place."""

    def json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "coroutine": self.coroutine,
            "grown": self.grown,
            "new": self.new,
            "places": [{**frame._asdict(), "tasks": count} for frame, count in self.places.items()],
            "started_in": [{"job": job, "tasks": count} for job, count in self.started_in.items()],
            "sample": self.sample.number,
        }

    def lines(self) -> Iterator[str]:
        """Yield it for people."""
        for (file, line, function), count in self.places.items():
            yield f"{count} new at {file}:{line}, in {function}"
        for job, count in self.started_in.items():
            yield f"{count} started in {job}"
        yield from text.of_task(self.sample)


def growth_of(coroutines: dict[str, int], new: Iterable[TaskInfo]) -> tuple[Growth, ...]:
    """Return those of *coroutines* that have grown and have *new* tasks, in their order."""
    found: dict[str, list[TaskInfo]] = {}
    for task in new:
        if coroutines.get(task.coroutine, 0) > 0:
            found.setdefault(task.coroutine, []).append(task)
    return tuple(_growth(name, count, found[name]) for name, count in coroutines.items() if name in found)


def _growth(name: str, grown: int, new: list[TaskInfo]) -> Growth:
    places = Counter(place for task in new if (place := own_frame(task.stack)) is not None)
    first = next(iter(dict(places.most_common(1))), None)
    origins = Counter(words for task in new if (words := _started_in(task)))
    return Growth(
        coroutine=name,
        grown=grown,
        new=len(new),
        places=dict(places.most_common(MAX_PLACES)),
        started_in=dict(origins.most_common(MAX_PLACES)),
        sample=next(task for task in new if own_frame(task.stack) == first),
    )


def own_frame(stack: Stack) -> Frame | None:
    """Return the innermost frame of the program's own code; where there is none, the outermost of all."""
    own = next((frame for frame in reversed(stack.frames) if is_application(frame.file)), None)
    return own or next(iter(stack.frames), None)


def _started_in(task: TaskInfo) -> str:
    """Return the kind of job that a task was started in."""
    inherited = next((job for job in task.jobs if job.task != task.number), None)
    queue, name = ("", "") if inherited is None else (inherited.queue, inherited.name)
    if task.origin is not None:
        queue, name, _ = task.origin
    elif inherited is None:
        return ""
    which = f"jobs of queue {queue!r}" if queue else "jobs that have ended"
    return f"{which} ({name})" if name else which
