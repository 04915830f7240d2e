"""How much later an event loop gets round to things while everything is exported to a receiver on the same machine."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from .receiver import receiver
from .rounds import Settings

SECONDS = 10.0
SHORTEST = 0.5
ROUNDS = 5
"""At most; each takes twice the seconds."""


def measure(settings: Settings) -> dict[str, float]:
    """Return the figures of this group, from interleaved runs with and without telemetry, a process for each."""
    seconds = max(SHORTEST, SECONDS * settings.scale)
    without: list[dict[str, float]] = []
    observed: list[dict[str, float]] = []
    with receiver() as endpoint:
        for number in range(min(settings.rounds, ROUNDS)):
            order = [(without, []), (observed, ["--endpoint", endpoint])]
            for results, arguments in order if number % 2 else reversed(order):
                results.append(_run(settings, seconds, arguments))
    delays = [on["late_ms"] - off["late_ms"] for on, off in zip(observed, without, strict=True)]
    return {
        "loop_delay_ms": statistics.median(delays),
        "loop_late_ms": statistics.median(each["late_ms"] for each in observed),
        "loop_jobs_per_s": statistics.median(each["jobs_per_s"] for each in observed),
        "loop_lost_spans": float(max(each["lost"] for each in observed)),
    }


def _run(settings: Settings, seconds: float, arguments: list[str]) -> dict[str, float]:
    program = [sys.executable, "-m", f"{__package__}.ticker", "--seconds", str(seconds), "--loop", settings.loop]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [*program, *arguments],
        cwd=Path(__file__).parents[1],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    result: dict[str, float] = json.loads(done.stdout)
    return result
