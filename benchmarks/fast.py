"""What telemetry costs on the fast path, as a part of what watching by hand costs.

Everything is told: each job has its context, its wait, its run and its id, and after each measurement the telemetry
is counted. Where a kind says so, the spans are encoded to OTLP bytes within the measured time.
"""

import statistics
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

from otel_sched.telemetry.keep import Keep

from . import exact, ours
from .api import Work
from .baseline import encode, handwritten, raw
from .encoding import Encoding
from .rounds import Rounds, Settings, Variant, interleave
from .sdk import SAMPLERS, Sdk
from .semantics import check

RAW_JOBS = 6000
JOBS = 6000
HANDWRITTEN_JOBS = 2000
SPANS = 512
ENOUGH = 2000
"""So many jobs have slow ones among them, by the rule that knows them by their queue's 99th percentile."""


class Kind(NamedTuple):
    """One way of watching."""

    work: Work
    sampler: str
    spans: int | None = None
    """How many each job makes; None where a sampler draws lots."""
    traces: bool = True
    encoded: bool = False
    keep: Keep | None = None


KINDS: dict[str, Kind] = {
    "pool_metrics": Kind(ours.pool, "all", spans=0, traces=False),
    "pool_off": Kind(ours.pool, "off", spans=0),
    "pool_1pct": Kind(ours.pool, "1pct"),
    "pool_one_span": Kind(ours.pool, "all", spans=1),
    "pool_one_span_encoded": Kind(ours.pool, "all", spans=1, encoded=True),
    "pool_all_spans": Kind(ours.pool, "all", spans=2),
    "pool_all_spans_encoded": Kind(ours.pool, "all", spans=2, encoded=True),
    "pool_keep": Kind(ours.pool, "1pct", keep=Keep()),
    "queue_1pct": Kind(ours.loop, "1pct"),
    "queue_one_span": Kind(ours.loop, "all", spans=1),
    "queue_one_span_encoded": Kind(ours.loop, "all", spans=1, encoded=True),
}
COSTS = ("handwritten_1pct", "handwritten_all", "handwritten_encoded", *KINDS)
"""Whose cost for one job is reported in microseconds, too."""


async def watched(kind: Kind, jobs: int) -> float:
    """Return the seconds that one job takes, watched as *kind* says; where encoded, until its bytes are there."""
    encoding = Encoding() if kind.encoded else None
    with Sdk(SAMPLERS[kind.sampler], fast=True, processor=encoding, keep=kind.keep) as sdk:
        tracer = sdk.tracer_provider.get_tracer("shop")
        # A put gets a PRODUCER span inside a recording one: one of the user's, round them all.
        around = tracer.start_as_current_span("produce") if kind.spans == 2 else nullcontext()
        took = await kind.work(jobs, sdk.observer(traces=kind.traces), around)
        if encoding is not None:
            began = perf_counter()
            encoding.finish()
            took += (perf_counter() - began) / jobs
    if encoding is not None:
        sdk.counts["spans"] = encoding.spans
        if bytes not in encoding.kinds:
            raise RuntimeError(f"the fast path was not taken: {encoding.kinds}")
    if kind.keep is not None and jobs > ENOUGH and not sdk.counts["kept"]:
        raise RuntimeError("not one of the slowest jobs was kept")
    counts = {} if kind.spans is None else {"spans": kind.spans * jobs + (kind.spans == 2)}
    sdk.expect(
        otel_sched_job_wait_duration=jobs, otel_sched_job_run_duration=jobs, otel_sched_jobs_finished=jobs, **counts
    )
    return took


def measure(settings: Settings) -> dict[str, float]:
    """Return the figures of this group."""
    check(settings)
    jobs = settings.jobs(JOBS)
    by_hand, many, spans = settings.jobs(HANDWRITTEN_JOBS), settings.jobs(RAW_JOBS), settings.jobs(SPANS)
    variants: dict[str, Variant] = {"raw": lambda: settings.run(raw(many)), "encode": lambda: encode(spans)}
    for name in ("1pct", "all"):
        variants[f"handwritten_{name}"] = partial(_run, settings, partial(handwritten, by_hand, SAMPLERS[name]))
    for name, kind in KINDS.items():
        variants[name] = partial(_run, settings, partial(watched, kind, jobs))
    return {**figures(interleave(variants, settings.rounds)), "exact": exact.difference()}


def figures(rounds: Rounds) -> dict[str, float]:
    """Return the shares and costs that *rounds* tells of."""
    # Two spans a job, each encoded by the SDK's own encoder.
    both = zip(rounds.taken["handwritten_all"], rounds.taken["encode"], strict=True)
    rounds = Rounds({**rounds.taken, "handwritten_encoded": [job + 2 * span for job, span in both]})
    share = partial(rounds.share, above="raw")
    result = {
        "metrics_share": share("pool_1pct", of="handwritten_1pct"),
        "queue_metrics_share": share("queue_1pct", of="handwritten_1pct"),
        "one_span_share": share("pool_one_span_encoded", of="handwritten_encoded"),
        "queue_one_span_share": share("queue_one_span_encoded", of="handwritten_encoded"),
        "keep_share": share("pool_keep", of="handwritten_1pct"),
        "all_spans_share": share("pool_all_spans_encoded", of="handwritten_encoded"),
    }
    return result | {f"{name}_us": added(rounds.taken[name], rounds.taken["raw"]) for name in COSTS}


def added(taken: list[float], base: list[float]) -> float:
    """Return the microseconds that a job takes above *base*: the median of each round's own difference."""
    return statistics.median(more - less for more, less in zip(taken, base, strict=True)) * 1e6


def _run(settings: Settings, work: Callable[[], Any]) -> float:
    return settings.run(work())
