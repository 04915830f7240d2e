"""Writes measured figures into the documentation: `make bench-record`, or `python -m benchmarks.record DIRECTORY`.

The directory holds what `python -m benchmarks --json` printed, one file for each column (3.11.json, 3.12.json,
3.13.json, uvloop.json), and peers.json from `python -m benchmarks.peers --json`; whichever is missing is left out.
A table stands between two comments, `<!-- figures: NAME -->` and `<!-- end of figures -->`.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import peers
from .figures import FIGURES

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "benchmarks" / "README.md", ROOT / "docs" / "performance.md")
COLUMNS = ("3.11", "3.12", "3.13", "uvloop")
MARKED = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)

PIECES = {
    "handwritten_1pct_us": "by hand, 1 % of spans",
    "handwritten_all_us": "by hand, both spans",
    "handwritten_encoded_us": "by hand, both spans, encoded by the SDK",
    "pool_metrics_us": "pool: metrics, no tracer provider",
    "pool_off_us": "pool: metrics, every span sampled out",
    "pool_1pct_us": "pool: metrics, 1 % of the CONSUMER spans",
    "pool_keep_us": "pool: the same with tail keep",
    "pool_one_span_us": "pool: metrics, CONSUMER span",
    "pool_one_span_encoded_us": "pool: metrics, CONSUMER span, encoded",
    "pool_all_spans_us": "pool: metrics, PRODUCER and CONSUMER span",
    "pool_all_spans_encoded_us": "pool: metrics, PRODUCER and CONSUMER span, encoded",
    "queue_1pct_us": "own loop: metrics, 1 % of the CONSUMER spans",
    "queue_one_span_us": "own loop: metrics, CONSUMER span",
    "queue_one_span_encoded_us": "own loop: metrics, CONSUMER span, encoded",
}
TARGETS = (
    "metrics_share",
    "queue_metrics_share",
    "one_span_share",
    "all_spans_share",
    "keep_share",
    "loop_delay_ms",
    "outage_slowdown",
    "exact",
)

Runs = Mapping[str, Mapping[str, Any]]


def number(value: float) -> str:
    """Return *value* with three figures, and without an exponent."""
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:#.3g}".rstrip(".") if value else "0"


def cell(key: str, run: Mapping[str, Any]) -> str:
    """Return the figure of that key as *run* has it, in bold if it misses its target."""
    if key not in run:
        return ""
    text = number(run[key])
    return f"**{text}**" if FIGURES[key].verdict(run[key]) == "MISSED" else text


def rows(keys: Sequence[str], runs: Runs, label: Callable[[str], str], *, targets: bool) -> str:
    """Return a Markdown table with a line for each key and a column for each run."""
    columns = [name for name in COLUMNS if name in runs]
    head = ["", *(["target"] if targets else []), *columns]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for key in keys:
        target = FIGURES[key].target
        goal = [""] if target is None else [f"{target:g}"]
        cells = [label(key), *(goal if targets else []), *(cell(key, runs[name]) for name in columns)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _code(key: str) -> str:
    return f"`{key}`"


def tables(runs: Runs) -> dict[str, str]:
    """Return the tables that *runs* fill, by name."""
    result: dict[str, str] = {}
    if any(name in runs for name in COLUMNS):
        result["results"] = rows(list(FIGURES), runs, _code, targets=True)
        result["targets"] = rows(TARGETS, runs, _code, targets=True)
        result["pieces"] = rows(list(PIECES), runs, PIECES.__getitem__, targets=False)
    if "peers" in runs:
        run = runs["peers"]
        result["peers"] = f"Python {run['python']}, {run['versions']}.\n\n{peers.table(run['peers'])}"
    return result


def write(page: Path, filled: Mapping[str, str]) -> list[str]:
    """Put the tables into *page*, and return the names of those that it has."""
    found: list[str] = []

    def replace(match: re.Match[str]) -> str:
        name = match[2]
        if name not in filled:
            return match[0]
        found.append(name)
        return f"{match[1]}\n{filled[name]}\n\n{match[3]}"

    page.write_text(MARKED.sub(replace, page.read_text("utf-8")), "utf-8")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the runs and write the tables; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.record", description=__doc__)
    parser.add_argument("directory", type=Path)
    directory: Path = parser.parse_args(arguments).directory
    runs = {file.stem: json.loads(file.read_text("utf-8")) for file in sorted(directory.glob("*.json"))}
    filled = tables(runs)
    for page in PAGES:
        print(f"{page.relative_to(ROOT)}: {', '.join(write(page, filled)) or 'nothing'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
