"""What others charge for watching a job: `make bench-peers`, one process, medians of interleaved rounds.

All do the same work, 10 workers or as near to it as the thing allows, with a handler that does nothing, and all tell a
tracer provider and a meter provider of their own whose exporters send nothing. What each records differs; the table
says what, and after each measurement it is counted. It needs an environment of its own, for the contrib package pins
an older SDK.
"""

import argparse
import json
import platform
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, NamedTuple

from . import ours
from .api import observed as watched_plainly
from .baseline import handwritten, raw
from .fast import KINDS, added
from .fast import watched as watched_fast
from .peer_asyncio import task_each, watched_tasks, watched_workers
from .peer_taskiq import taskiq_raw, taskiq_watched
from .rounds import Settings, Variant, interleave, loop_factories
from .sdk import SAMPLERS

RAW_JOBS = 6000
JOBS = 1500


class Peer(NamedTuple):
    """One line of the table."""

    name: str
    work: Callable[[int], Any]
    above: str
    """The same work with nobody watching."""
    records: str = ""
    jobs: int = JOBS


PEERS: dict[str, Peer] = {
    "raw": Peer("asyncio.Queue, own loop", raw, "raw", "nothing", RAW_JOBS),
    "silent": Peer("otel_sched, no SDK", ours.pool, "raw", "counts, in memory", RAW_JOBS),
    "fast_1pct": Peer(
        "otel_sched, 1 % of spans", partial(watched_fast, KINDS["pool_1pct"]), "raw", "all metrics", RAW_JOBS
    ),
    "fast_one_span": Peer(
        "otel_sched, a span for each job", partial(watched_fast, KINDS["pool_one_span"]), "raw", "all metrics", RAW_JOBS
    ),
    "fast_all_spans": Peer(
        "otel_sched, two spans", partial(watched_fast, KINDS["pool_all_spans"]), "raw", "all metrics", RAW_JOBS
    ),
    "plain_1pct": Peer("otel_sched, plain path, 1 %", partial(watched_plainly, ours.pool, "1pct"), "raw", "the same"),
    "plain_all_spans": Peer(
        "otel_sched, plain path, two spans", partial(watched_plainly, ours.pool, "all_spans"), "raw", "the same"
    ),
    "handwritten_1pct": Peer(
        "by hand, 1 % of spans", partial(handwritten, sampler=SAMPLERS["1pct"]), "raw", "wait, run, two counts, size"
    ),
    "handwritten_all": Peer(
        "by hand, two spans", partial(handwritten, sampler=SAMPLERS["all"]), "raw", "wait, run, two counts, size"
    ),
    "asyncio_workers": Peer(
        "contrib asyncio, own loop", watched_workers, "raw", "the workers' lives; of jobs nothing", RAW_JOBS
    ),
    "task_each": Peer("own loop, a task for each job", task_each, "task_each", "nothing", RAW_JOBS),
    "asyncio_1pct": Peer(
        "contrib asyncio, a task for each job, 1 %", partial(watched_tasks, "1pct"), "task_each", "run, one count"
    ),
    "asyncio_all": Peer(
        "contrib asyncio, a task for each job, one span", partial(watched_tasks, "all"), "task_each", "run, one count"
    ),
    "taskiq": Peer("taskiq, in memory", taskiq_raw, "taskiq", "nothing"),
    "taskiq_1pct": Peer(
        "taskiq, OpenTelemetry middleware, 1 %",
        partial(taskiq_watched, "1pct"),
        "taskiq",
        "wait, run, two counts, active",
    ),
    "taskiq_all": Peer(
        "taskiq, OpenTelemetry middleware, two spans",
        partial(taskiq_watched, "all"),
        "taskiq",
        "wait, run, two counts, active",
    ),
}
PACKAGES = ("opentelemetry-sdk", "opentelemetry-instrumentation-asyncio", "taskiq")


def measure(settings: Settings) -> dict[str, dict[str, float]]:
    """Return for each line what a job takes, and what watching adds to the same work unwatched, in microseconds."""

    def run(peer: Peer) -> float:
        return settings.run(peer.work(settings.jobs(peer.jobs)))

    variants: dict[str, Variant] = {name: partial(run, peer) for name, peer in PEERS.items()}
    rounds = interleave(variants, settings.rounds)
    return {
        name: {"us": rounds.median(name) * 1e6, "added_us": added(rounds.taken[name], rounds.taken[peer.above])}
        for name, peer in PEERS.items()
    }


def table(values: dict[str, dict[str, float]]) -> str:
    """Return *values* as a Markdown table."""
    lines = ["| | us a job | added by watching | metrics |", "|---|---|---|---|"]
    for name, value in values.items():
        peer = PEERS[name]
        watching = "" if peer.above == name else f"{value['added_us']:.1f}"
        lines.append(f"| {peer.name} | {value['us']:.1f} | {watching} | {peer.records} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=11, help="how many rounds count (%(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="a factor on the jobs of each measurement")
    parser.add_argument("--loop", choices=list(loop_factories()), default="asyncio")
    options = parser.parse_args(arguments)
    settings = Settings(rounds=options.rounds, scale=options.scale, loop=options.loop)
    values = measure(settings)
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    if options.json:
        print(json.dumps({"python": platform.python_version(), "versions": versions, "peers": values}))
    else:
        print(f"Python {platform.python_version()}, {settings.loop}, {versions}\n\n{table(values)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
