"""Floor 5: whether the queues are as their owner wants them. Decided from one look, without a clock."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from .pace import Pace, backlog_seconds
from .queues import Look


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """How long jobs of a queue may wait before the process counts as not ready. Seconds; None for no limit."""

    oldest_age: float | None = None
    """The longest that a job may have waited until now."""
    backlog: float | None = None
    """The longest that all waiting jobs may take, at the pace of the last moments."""

    def __post_init__(self) -> None:
        limits = {each.name: getattr(self, each.name) for each in fields(self)}
        if all(limit is None for limit in limits.values()):
            raise ValueError("an Objective needs a limit: oldest_age=, backlog= or both, in seconds")
        for name, limit in limits.items():
            if limit is not None:
                checked_seconds(name, limit)


def shortcomings(look: Look, objectives: Mapping[str, Objective], queues: Iterable[str] | None = None) -> list[str]:
    """Return a sentence for each queue that takes no jobs, is behind its objective, or does not exist.

    Without *queues* all queues have to take jobs; with them, those.
    """
    named = None if queues is None else set(queues)
    reasons = [
        f"queue {name!r} does not exist (yet)" for name in sorted({*objectives, *(named or ())} - look.live.keys())
    ]
    for name, snapshot in sorted(look.live.items()):
        if name in look.shut_down and (named is None or name in named):
            reasons.append(f"queue {name!r} is shut down: it takes no more jobs")
        objective = objectives.get(name)
        if objective is None:
            continue
        age, limit = snapshot.oldest_age, objective.oldest_age
        if limit is not None and age > limit:
            reasons.append(f"queue {name!r}: the oldest job has waited {age:.4g} s, more than {limit:g} s")
        backlog = backlog_seconds(snapshot.size, age, look.paces.get(name, Pace()))
        limit, waiting = objective.backlog, snapshot.size
        if limit is not None and backlog > limit:
            reasons.append(f"queue {name!r}: the {waiting} waiting jobs take {backlog:.4g} s, more than {limit:g} s")
    return reasons


def checked_seconds(what: str, value: Any) -> float:
    """Return *value* if it is a number of seconds above zero; TypeError or ValueError says what is wrong with it."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what} must be a number of seconds, got {value!r}")
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{what} must be more than 0 s and finite, got {value!r}")
    return float(value)


def checked_objectives(objectives: Any) -> dict[str, Objective]:
    """Return a copy of *objectives*, queue names to Objective."""
    if not isinstance(objectives, Mapping):
        raise TypeError(f"objectives must map queue names to Objective(...), got {objectives!r}")
    for name, objective in objectives.items():
        if not isinstance(name, str) or not isinstance(objective, Objective):
            raise TypeError(f"objectives must map queue names to Objective(...), got {name!r}: {objective!r}")
    return dict(objectives)


def checked_queues(queues: Any) -> frozenset[str] | None:
    """Return the names of *queues*; None stands for all."""
    if queues is None:
        return None
    if isinstance(queues, str) or not isinstance(queues, Iterable):
        raise TypeError(f"queues must be several queue names, such as ['orders'], got {queues!r}")
    names = frozenset(queues)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"queues must be queue names, got {name!r}; a queue's name is queue.name")
    return names
