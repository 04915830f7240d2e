"""Floor 5: which jobs are exported although their trace was not sampled: decided when the job ends. No SDK needed."""

import math
import os
from collections import deque
from dataclasses import dataclass
from typing import Literal

from .._core.job import Outcome

RULES = ("error", "timeout", "cancelled", "slow")
"""What can have kept a job; the values of the attribute `otel_sched.keep.rule`."""

_BY_OUTCOME = {
    Outcome.ERROR: "error",
    Outcome.TIMEOUT: "timeout",
    Outcome.EXPIRED: "timeout",
    Outcome.CANCELLED: "cancelled",
}


def fast_wanted() -> bool:
    """Say whether the environment leaves our own spans and histograms on: they are what can be decided late."""
    return os.environ.get("OTEL_SCHED_FAST", "").strip().lower() not in ("false", "0", "no", "off")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Which jobs to export whatever the sampler says, for `configure(keep=...)`.

    A kept job's span carries `otel_sched.keep.rule`, and so do the spans below it: each of them stands for itself
    alone, while one that was sampled at 1 % stands for a hundred.

    Raises ValueError or TypeError for what makes no sense.
    """

    error: bool = True
    """Jobs that failed."""
    timeout: bool = True
    """Jobs that timed out, or expired in the queue."""
    cancelled: bool = True
    """Jobs that were cancelled."""
    slow: float | Literal["p99"] | None = "p99"
    """Jobs that ran for at least so many seconds, or for longer than the 99th percentile of their queue's last
    thousand; None for none."""
    max_spans: int = 10_000
    """How many ended spans below jobs that still run may wait for their job's end; further ones are dropped and
    counted."""

    def __post_init__(self) -> None:
        for name in ("error", "timeout", "cancelled"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"Keep({name}=...) must be True or False, got {getattr(self, name)!r}")
        slow = self.slow
        if isinstance(slow, bool) or not (slow is None or slow == "p99" or isinstance(slow, int | float)):
            raise TypeError(f"Keep(slow=...) must be a number of seconds, 'p99' or None, got {slow!r}")
        if isinstance(slow, int | float) and not 0 < slow < math.inf:
            raise ValueError(f"Keep(slow=...) must be seconds above 0, got {slow!r}; None keeps no slow jobs")
        if not isinstance(self.max_spans, int) or isinstance(self.max_spans, bool):
            raise TypeError(f"Keep(max_spans=...) must be a whole number, got {self.max_spans!r}")
        if self.max_spans < 0:
            raise ValueError(f"Keep(max_spans=...) must be 0 or more, got {self.max_spans!r}")

    def rule(self, outcome: Outcome | None, ran: float, slow_at: float | None) -> str | None:
        """Return the rule by which a job is kept that ended as *outcome* after *ran* seconds; None for none."""
        if outcome is Outcome.OK:
            return "slow" if slow_at is not None and ran >= slow_at else None
        rule = None if outcome is None else _BY_OUTCOME.get(outcome)
        if rule is not None and getattr(self, rule):
            return rule
        return "slow" if slow_at is not None and ran >= slow_at else None


class Slowness:
    """From how many seconds on a job of one queue is slow."""

    __slots__ = ("_recent", "_seen", "at", "follows")

    WINDOW = 1000
    EVERY = 200
    """After how many jobs the percentile is taken anew; before the first of these nothing is slow."""

    def __init__(self, slow: float | Literal["p99"] | None) -> None:
        self.follows = slow == "p99"
        """Whether it wants to be told of each run."""
        self.at: float | None = float(slow) if isinstance(slow, int | float) else None
        self._recent: deque[float] = deque(maxlen=self.WINDOW)
        self._seen = 0

    def add(self, ran: float) -> None:
        """Take note of one run."""
        self._recent.append(ran)
        self._seen += 1
        if self._seen >= self.EVERY:
            self._seen = 0
            ordered = sorted(self._recent)
            # The first value above the percentile: with all alike none of them is slow.
            percentile = ordered[int(len(ordered) * 0.99) - 1]
            above = [each for each in ordered[int(len(ordered) * 0.99) :] if each > percentile]
            self.at = above[0] if above else percentile * 1.000001 + 1e-9
