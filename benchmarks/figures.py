"""Every figure that is reported: what it says, and what it is meant to stay below."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One key of the JSON object."""

    what: str
    target: float | None = None
    """At most this much; None for a figure that is reported and not judged."""

    def verdict(self, value: float) -> str:
        """Say whether *value* meets the target; nothing where there is none."""
        if self.target is None:
            return ""
        return "met" if value <= self.target else "MISSED"


SILENT = {
    "silent_queue": Figure(what="put_nowait + get_nowait + task_done, x asyncio.Queue", target=2.0),
    "silent_queue_filled": Figure(what="the same with 500 jobs waiting in between"),
    "silent_pool": Figure(what="WorkerPool on our Queue, x raw", target=1.75),
    "silent_loop": Figure(what="the user's own loop on our Queue, x raw"),
    "queue_us": Figure(what="the three calls of asyncio.Queue, us"),
    "raw_us": Figure(what="raw: asyncio.Queue and a plain loop, us a job"),
}
MEMORY = {
    "bytes_per_job": Figure(what="a waiting job above asyncio.Queue, telemetry on, bytes", target=200.0),
    "bytes_per_job_traced": Figure(what="more where the producer had a span, bytes", target=300.0),
}
IMPORTS = {
    "import_ms": Figure(what="import otel_sched above a bare interpreter, ms", target=60.0),
    "import_asyncio_ms": Figure(what="of which import asyncio, ms"),
}
TOLD = {
    "all_spans": "PRODUCER and CONSUMER span",
    "one_span": "CONSUMER span",
    "1pct": "1 % of CONSUMER spans",
    "off": "no span (sampler)",
    "metrics": "no span (no tracer provider)",
}
API = {
    "handwritten_all_x_raw": Figure(what="by hand, every span, x raw"),
    "handwritten_1pct_x_raw": Figure(what="by hand, 1 % of spans, x raw"),
    "handwritten_off_x_raw": Figure(what="by hand, no span, x raw"),
    "encode_us": Figure(what="the SDK's OTLP encoding, us a span"),
    **{f"api_{kind}_x_raw": Figure(what=f"pool, {what}, metrics, x raw") for kind, what in TOLD.items()},
    "pool_share_all": Figure(what="pool, both spans: its cost / by hand, every span"),
    "pool_share_one_span": Figure(what="pool, CONSUMER span: its cost / by hand, every span"),
    "pool_share_1pct": Figure(what="pool, 1 %: its cost / by hand, 1 %"),
    **{f"api_queue_{kind}_x_raw": Figure(what=f"own loop, {what}, metrics, x raw") for kind, what in TOLD.items()},
    "queue_share_all": Figure(what="own loop, both spans: its cost / by hand, every span"),
    "queue_share_one_span": Figure(what="own loop, CONSUMER span: its cost / by hand, every span"),
    "queue_share_1pct": Figure(what="own loop, 1 %: its cost / by hand, 1 %"),
}
FAST = {
    "metrics_share": Figure(what="fast: pool, metrics, 1 %: its cost / by hand, 1 %", target=0.045),
    "queue_metrics_share": Figure(what="fast: own loop, likewise", target=0.05),
    "one_span_share": Figure(what="fast: pool, CONSUMER span, encoded / by hand, encoded", target=0.045),
    "queue_one_span_share": Figure(what="fast: own loop, likewise"),
    "all_spans_share": Figure(what="fast: pool, both spans, encoded / by hand, encoded", target=0.08),
    "keep_share": Figure(what="fast: pool, 1 %, and tail keep: its cost / by hand, 1 %", target=0.12),
    "handwritten_1pct_us": Figure(what="by hand, 1 % of spans, us a job above raw"),
    "handwritten_all_us": Figure(what="by hand, every span, likewise"),
    "handwritten_encoded_us": Figure(what="by hand, every span, and the SDK's encoding of them"),
    "pool_metrics_us": Figure(what="fast: pool, metrics, no tracer provider, us a job above raw"),
    "pool_off_us": Figure(what="fast: pool, no span (sampler)"),
    "pool_1pct_us": Figure(what="fast: pool, 1 % of CONSUMER spans"),
    "pool_keep_us": Figure(what="fast: pool, 1 %, and tail keep"),
    "pool_one_span_us": Figure(what="fast: pool, CONSUMER span"),
    "pool_one_span_encoded_us": Figure(what="fast: pool, CONSUMER span, encoded"),
    "pool_all_spans_us": Figure(what="fast: pool, PRODUCER and CONSUMER span"),
    "pool_all_spans_encoded_us": Figure(what="fast: pool, both spans, encoded"),
    "queue_1pct_us": Figure(what="fast: own loop, 1 % of CONSUMER spans"),
    "queue_one_span_us": Figure(what="fast: own loop, CONSUMER span"),
    "queue_one_span_encoded_us": Figure(what="fast: own loop, CONSUMER span, encoded"),
    "exact": Figure(what="all differences between fast and plain metrics, added up", target=0.0),
}
LOOP = {
    "loop_delay_ms": Figure(what="lateness at p99.9 while all is exported, above none, ms", target=5.0),
    "loop_late_ms": Figure(what="the lateness itself, ms"),
    "loop_jobs_per_s": Figure(what="jobs a second meanwhile; 10 000 are due"),
    "loop_lost_spans": Figure(what="spans that were dropped meanwhile"),
}
FAULTS = {
    "refused": "no connection",
    "silent": "accepts, never answers",
    "slow": "answers after 10 s",
    "busy": "503 with Retry-After",
    "throttled": "429 with Retry-After",
    "reset": "cuts connections",
    "flapping": "comes and goes every 2 s",
    "partial": "refuses a part of each batch",
}
OUTAGE = {
    "outage_slowdown": Figure(what="throughput lost while the receiver fails, worst fault", target=0.05),
    **{f"outage_{fault}": Figure(what=f"the same: {what}") for fault, what in FAULTS.items()},
}
MONITOR = {
    "monitor_share": Figure(what="heartbeat and watchdog of a busy loop, part of a core", target=0.003),
    "monitored_loop": Figure(what="own loop watched, x unwatched, in processor time"),
    "followed_loop": Figure(what="own loop with jobs followed, as detectors need it, likewise"),
    "idle_timer_share": Figure(what="a bare timer as frequent as the heartbeat in an idle loop, part of a core"),
    "idle_watched_share": Figure(what="heartbeat and watchdog of an idle loop, likewise"),
}
DUMPS = {
    "dump_ms": Figure(what="dump_tasks() of 10 000 tasks, ms", target=1000.0),
    "dump_async_ms": Figure(what="dump_tasks_async() of them, ms", target=1000.0),
    "dump_stop_ms": Figure(what="the longest that the loop did not turn meanwhile, ms", target=50.0),
}
FIGURES: dict[str, Figure] = {**SILENT, **MEMORY, **IMPORTS, **API, **FAST, **LOOP, **OUTAGE, **MONITOR, **DUMPS}


def table(values: dict[str, float]) -> str:
    """Return *values* as lines for a terminal: key, value, target, verdict, meaning."""
    lines = [f"{'key':<27}{'value':>9}{'target':>9}  {'':<7} what"]
    for key, value in values.items():
        figure = FIGURES[key]
        target = "" if figure.target is None else f"{figure.target:g}"
        lines.append(f"{key:<27}{value:>9.3g}{target:>9}  {figure.verdict(value):<7} {figure.what}")
    return "\n".join(lines)


def missed(values: dict[str, float]) -> list[str]:
    """Return the keys whose target was missed."""
    return [key for key, value in values.items() if FIGURES[key].verdict(value) == "MISSED"]
