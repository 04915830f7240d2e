"""How long `import otel_sched` takes in a fresh interpreter, with the API alone: no SDK module is loaded."""

import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import otel_sched

from .rounds import Settings

PLACE = Path(otel_sched.__file__).parents[1]
PROGRAMS = {
    "bare": "pass",
    "asyncio": "import asyncio",
    "otel_sched": "import otel_sched",
}
CHECK = "import sys, otel_sched; sys.exit(any(name.startswith('opentelemetry.sdk') for name in sys.modules))"


def measure(settings: Settings) -> dict[str, float]:
    """Return the figures of this group: milliseconds above those of an interpreter that does nothing.

    Raises RuntimeError if the import loads the SDK.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PLACE), os.environ.get("PYTHONPATH", "")])}
    if _run(CHECK, environment).returncode:
        raise RuntimeError("`import otel_sched` loads opentelemetry.sdk, or fails")
    taken: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(settings.rounds):
        for name, program in PROGRAMS.items():
            began = perf_counter()
            _run(program, environment)
            taken[name].append(perf_counter() - began)
    return {"import_ms": _above(taken, "otel_sched"), "import_asyncio_ms": _above(taken, "asyncio")}


def _run(program: str, environment: dict[str, str]) -> "subprocess.CompletedProcess[bytes]":
    command: Sequence[str] = (sys.executable, "-c", program)
    return subprocess.run(command, env=environment, check=False)


def _above(taken: dict[str, list[float]], name: str) -> float:
    pairs = zip(taken[name], taken["bare"], strict=True)
    return statistics.median(more - bare for more, bare in pairs) * 1e3
