"""Starts the shop in a process of its own, so that its providers are really the global ones.

report = run("http://127.0.0.1:4317", "grpc", "uvloop")
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

PIPELINE = {
    # Nothing may be dropped, however late the exporter's thread gets its turn, and several batches shall go out.
    "OTEL_BSP_MAX_QUEUE_SIZE": "20000",
    "OTEL_BLRP_MAX_QUEUE_SIZE": "20000",
    "OTEL_BSP_SCHEDULE_DELAY": "100",
    "OTEL_BLRP_SCHEDULE_DELAY": "100",
    "OTEL_METRIC_EXPORT_INTERVAL": "50",
}


def run(endpoint: str, protocol: str, loop: str, *, service: str = "shop") -> dict[str, Any]:
    """Run the shop in a process of its own; return its report, with the lines it `printed` and its `stderr`.

    Args:
        endpoint: Where it sends its telemetry, over *protocol*.
        loop: `asyncio` or `uvloop`.
        service: What it calls itself in the resource.

    Raises AssertionError when the program fails; its standard error is the message.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    program = "from tests.shop.program import main; main()"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, endpoint, protocol, loop, service],
        env={**kept, **PIPELINE, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=45.0,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *printed, last = done.stdout.splitlines()
    report: dict[str, Any] = json.loads(last)
    return {**report, "printed": [json.loads(line) for line in printed], "stderr": done.stderr}
