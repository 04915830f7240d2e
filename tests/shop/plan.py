"""The numbers of the shop, and what follows from them for its telemetry. Knows nothing of the library.

Bare consumers take orders, a pool takes the payments that these cause, another pool renders reports by priority,
requests wait for replies inside a span of their own, one queue is shut down and one is left half full. Each job's kind
says how it will end.
"""

from collections import Counter
from collections.abc import Mapping

JOBS: Mapping[str, Mapping[str, int]] = {
    "orders": {"ok": 120, "error": 18, "logged": 12, "timeout": 6, "cancelled": 4},
    "payments": {"ok": 85, "error": 16, "timeout": 10, "cancelled": 5, "hung": 4},
    "reports": {"ok": 90, "error": 5},
    "replies": {"unobserved": 20},
    "closing": {"dismissed": 12},
    "left": {"waiting": 3, "cleared": 4, "active": 2},
}
"""Jobs of each queue by kind. Every order that goes well causes one payment."""

ENDS = {"logged": "error", "hung": "cancelled", "dismissed": "cancelled"}
"""The outcomes of kinds that are not called as their outcome is."""

RUNNING = ("orders", "payments", "reports")
"""The queues whose jobs have process spans of the library's own making."""
CAPACITY = {"orders": 8, "left": 50}
WORKERS = {"payments": 8, "reports": 3}
FUNCTIONS = {"orders": "Shop.consume", "payments": "pay", "reports": "render", "replies": "reply"}
"""What works on the jobs of a queue. That of the replies is seen through `instrument` alone."""
HANDLERS = {**FUNCTIONS, "replies": "answer"}
"""The names under which the jobs of a queue stand."""
BUCKETS = (0.01, 1.0)
"""Those of the reports' histograms."""

ERRORS: Mapping[tuple[str, str], str] = {
    ("orders", "error"): "RuntimeError",
    ("orders", "logged"): "ValueError",
    ("orders", "timeout"): "TimeoutError",
    ("payments", "error"): "ValueError",
    ("payments", "timeout"): "TimeoutError",
    ("reports", "error"): "ZeroDivisionError",
}
"""What is raised, by queue and kind."""
CANCELS: Mapping[tuple[str, str], tuple[str, str]] = {
    ("orders", "cancelled"): ("running", "consumer"),
    ("payments", "cancelled"): ("running", "handler"),
    ("payments", "hung"): ("running", "shutdown"),
    ("closing", "dismissed"): ("queued", "shutdown"),
}
"""Where a cancelled job is and why it is cancelled, by queue and kind."""

GROUP = 10
"""Orders, or reports, that one `checkout` span puts."""
OUTSIDE = 10
"""Every so manieth order is put outside any span."""


def numbered(queue: str) -> list[tuple[str, int]]:
    """Return kind and number of each job of *queue*, the kinds well mixed: of every kind some come early."""
    jobs = [(kind, (n + 0.5) / number) for kind, number in JOBS[queue].items() for n in range(number)]
    return [(kind, n) for n, (kind, _) in enumerate(sorted(jobs, key=lambda job: job[1]))]


def tenant(number: int) -> str:
    """Return the tenant that the baggage of an order names."""
    return f"tenant-{number // GROUP % 3}"


def put(queue: str) -> int:
    """Return how many jobs are put into *queue*."""
    return sum(JOBS[queue].values())


def taken(queue: str) -> int:
    """Return how many jobs of *queue* are taken."""
    return put(queue) - sum(JOBS[queue].get(kind, 0) for kind in ("dismissed", "waiting", "cleared"))


def outcomes(queue: str) -> dict[str, int]:
    """Return how many jobs of *queue* end with which outcome."""
    ended: Counter[str] = Counter()
    for kind, number in JOBS[queue].items():
        if queue != "left":
            ended[ENDS.get(kind, kind)] += number
    return dict(ended)


def runs(queue: str) -> dict[tuple[str, str | None], int]:
    """Return how many jobs of *queue* end with which outcome and type of error."""
    ended: Counter[tuple[str, str | None]] = Counter()
    for kind, number in JOBS[queue].items():
        ended[ENDS.get(kind, kind), ERRORS.get((queue, kind))] += number
    return dict(ended)


def cancels(queue: str) -> dict[tuple[str, str], int]:
    """Return how many jobs of *queue* are cancelled, by state and reason."""
    return {how: JOBS[queue][kind] for (name, kind), how in CANCELS.items() if name == queue}


def failures() -> dict[tuple[str, str, str | None], int]:
    """Return how many jobs the library itself has to tell of, by queue, outcome and type of error.

    Those that their consumer logged are its own affair.
    """
    told: Counter[tuple[str, str, str | None]] = Counter()
    for queue, kinds in JOBS.items():
        for kind, number in kinds.items():
            outcome = ENDS.get(kind, kind)
            if outcome in ("error", "timeout", "cancelled") and kind != "logged":
                told[queue, outcome, ERRORS.get((queue, kind))] += number
    return dict(told)


def spans() -> dict[tuple[str, str], int]:
    """Return how many spans have to arrive, by name and kind; those of active jobs have not ended."""
    groups = -(-put("orders") // GROUP) + -(-put("reports") // GROUP)
    numbers = {
        ("checkout", "INTERNAL"): groups,
        ("charge", "INTERNAL"): put("orders"),
        ("ledger", "INTERNAL"): JOBS["payments"]["ok"],
        ("request", "INTERNAL"): put("replies"),
        ("closing time", "INTERNAL"): 2,
    }
    for queue in JOBS:
        numbers[f"put {queue}", "PRODUCER"] = put(queue)
    numbers["put orders", "PRODUCER"] -= put("orders") // OUTSIDE
    for queue in FUNCTIONS:
        numbers[f"process {queue}", "CONSUMER"] = put(queue)
    return numbers


def log_lines() -> dict[tuple[str, str], int]:
    """Return how many lines of the application have to arrive, by logger and first word."""
    expected: Counter[tuple[str, str]] = Counter({("shop", "opened"): 1})
    for kind, number in numbered("orders"):
        if word := {"ok": "charged", "logged": "refused"}.get(kind):
            expected["shop" if number % 2 else "structlog", word] += 1
    expected["shop", "paid"] = JOBS["payments"]["ok"]
    return dict(expected)
