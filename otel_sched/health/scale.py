"""Floor 5: what an autoscaler wants of each queue, in the two shapes that Kubernetes' autoscalers read."""

import time
from collections.abc import Callable
from typing import Any

from .._core.snapshot import Snapshot
from .pace import Pace, backlog_seconds
from .queues import Look

Numbers = dict[str, float | int | None]

TOGETHER: dict[str, Callable[[list[float | int]], float | int]] = {
    "size": sum,
    "oldest_age_seconds": max,
    "backlog_seconds": max,
    "utilization": max,
    "active": sum,
    "workers": sum,
}
"""How the numbers of several queues become one."""
NOT_ALWAYS = ("utilization", "workers")
"""What there is only while a pool runs."""


def figures(snapshot: Snapshot, pace: Pace) -> Numbers:
    """Return the numbers of one queue; None stands for what cannot be known."""
    workers = sum(snapshot.limits.values())
    busy = sum(counts.active for job, counts in snapshot.series.items() if job in snapshot.limits)
    return {
        "size": snapshot.size,
        "oldest_age_seconds": round(snapshot.oldest_age, 3),
        "backlog_seconds": round(backlog_seconds(snapshot.size, snapshot.oldest_age, pace), 3),
        "utilization": round(busy / workers, 4) if workers else None,
        "active": snapshot.active,
        "workers": workers or None,
        "jobs_per_second": None if pace.rate is None else round(pace.rate, 4),
    }


def by_queue(look: Look) -> dict[str, Numbers]:
    """Return the numbers of each queue that is alive, by name."""
    return {name: figures(snapshot, look.paces.get(name, Pace())) for name, snapshot in sorted(look.live.items())}


def over_all(queues: dict[str, Numbers]) -> Numbers:
    """Return sums of what adds up and the worst of what does not: one number for a process with several queues."""
    result: Numbers = {}
    for key, together in TOGETHER.items():
        known = [value for each in queues.values() if (value := each[key]) is not None]
        result[key] = together(known) if known else (0 if key not in NOT_ALWAYS else None)
    return result


def external_metrics(queues: dict[str, Numbers]) -> dict[str, Any]:
    """Return the numbers as Kubernetes' external metrics API has them; values are quantities, in thousandths."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    items = [
        {
            "metricName": f"otel_sched_{key}",
            "metricLabels": {"queue": name},
            "timestamp": now,
            "value": f"{round(value * 1000)}m",
        }
        for name, numbers in queues.items()
        for key, value in numbers.items()
        if value is not None
    ]
    return {
        "kind": "ExternalMetricValueList",
        "apiVersion": "external.metrics.k8s.io/v1beta1",
        "metadata": {},
        "items": items,
    }
