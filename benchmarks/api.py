"""What telemetry costs on the plain OpenTelemetry API path: on a pool, and on a bare queue with the user's own loop."""

from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from functools import partial
from typing import Any

from . import ours
from .baseline import encode, handwritten, raw
from .rounds import Rounds, Settings, Variant, interleave
from .sdk import SAMPLERS, Sdk

RAW_JOBS = 6000
JOBS = 2000
SPANS = 512

Work = Callable[..., Coroutine[Any, Any, float]]
WORKS: dict[str, Work] = {"pool": ours.pool, "queue": ours.loop}
KINDS = ("all_spans", "one_span", "1pct", "off", "metrics")
"""What is told: a PRODUCER and a CONSUMER span for each job; the CONSUMER span alone; that of every hundredth job; no
span, by a sampler; no span, for want of a tracer provider. The metrics are on in all of them."""


async def observed(work: Work, kind: str, jobs: int) -> float:
    """Return the seconds that one job takes under *work* with what *kind* says told of it."""
    with Sdk(SAMPLERS.get(kind, SAMPLERS["all"])) as sdk:
        observer = sdk.observer(traces=kind != "metrics")
        tracer = sdk.tracer_provider.get_tracer("shop")
        # A put gets a PRODUCER span inside a recording one: one of the user's, round them all.
        around = tracer.start_as_current_span("produce") if kind == "all_spans" else nullcontext()
        took = await work(jobs, observer, around)
    spans = {"all_spans": 2 * jobs + 1, "one_span": jobs, "off": 0, "metrics": 0}
    sdk.expect(
        otel_sched_job_wait_duration=jobs,
        otel_sched_job_run_duration=jobs,
        otel_sched_jobs_finished=jobs,
        **({} if kind == "1pct" else {"spans": spans[kind]}),
    )
    return took


def measure(settings: Settings) -> dict[str, float]:
    """Return the figures of this group."""
    jobs, many, spans = settings.jobs(JOBS), settings.jobs(RAW_JOBS), settings.jobs(SPANS)
    variants: dict[str, Variant] = {"raw": lambda: settings.run(raw(many)), "encode": lambda: encode(spans)}
    for name, sampler in SAMPLERS.items():
        variants[f"handwritten_{name}"] = partial(_handwritten, settings, jobs, sampler)
    for name, work in WORKS.items():
        for kind in KINDS:
            variants[f"{name}_{kind}"] = partial(_observed, settings, work, kind, jobs)
    return figures(interleave(variants, settings.rounds))


def figures(rounds: Rounds) -> dict[str, float]:
    """Return the ratios and shares that *rounds* tells of."""
    result = {f"handwritten_{name}_x_raw": rounds.ratio(f"handwritten_{name}", "raw") for name in SAMPLERS}
    result["encode_us"] = rounds.median("encode") * 1e6
    for work in WORKS:
        prefix = "api" if work == "pool" else f"api_{work}"
        for kind in KINDS:
            result[f"{prefix}_{kind}_x_raw"] = rounds.ratio(f"{work}_{kind}", "raw")
        for share, kind, of in (("all", "all_spans", "all"), ("one_span", "one_span", "all"), ("1pct", "1pct", "1pct")):
            result[f"{work}_share_{share}"] = rounds.share(f"{work}_{kind}", f"handwritten_{of}", "raw")
    return result


def _handwritten(settings: Settings, jobs: int, sampler: Any) -> float:
    return settings.run(handwritten(jobs, sampler))


def _observed(settings: Settings, work: Work, kind: str, jobs: int) -> float:
    return settings.run(observed(work, kind, jobs))
