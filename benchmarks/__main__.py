"""`python -m benchmarks`: all figures in one process. `python -m benchmarks soak`: a million jobs, none lost."""

import argparse
import json
import platform
import sys
from collections.abc import Callable, Sequence

from . import api, delay, dumps, fast, imports, memory, monitor, outage, silent, soak
from .figures import missed, table
from .rounds import Settings, loop_factories

# The silent ones first: before anything observed has run in the process.
GROUPS: dict[str, Callable[[Settings], dict[str, float]]] = {
    "silent": silent.measure,
    "memory": memory.measure,
    "imports": imports.measure,
    "api": api.measure,
    "fast": fast.measure,
    "loop": delay.measure,
    "outage": outage.measure,
    "monitor": monitor.measure,
    "dumps": dumps.measure,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    options = parser().parse_args(arguments)
    if options.command == "soak":
        return soak.main(options.jobs, options.loop or list(loop_factories()), options.telemetry)
    settings = Settings(rounds=options.rounds, scale=options.scale, loop=options.loop)
    values: dict[str, float] = {}
    for name in options.group or GROUPS:
        if sys.stderr.isatty():
            print(f"measuring: {name}", file=sys.stderr)
        values |= GROUPS[name](settings)
    if options.json:
        print(json.dumps(values))
    else:
        print(f"Python {platform.python_version()}, {settings.loop}, medians of {settings.rounds} interleaved rounds\n")
        print(table(values))
    return 1 if options.check and missed(values) else 0


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    result = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    loops = list(loop_factories())
    result.add_argument("--json", action="store_true", help="print one JSON object, key to number")
    result.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    result.add_argument("--rounds", type=positive, default=11, help="how many rounds count (%(default)s)")
    result.add_argument("--scale", type=float, default=1.0, help="a factor on the jobs of each measurement")
    result.add_argument("--loop", choices=loops, default="asyncio", help="the event loop (%(default)s)")
    result.add_argument("--group", action="append", choices=list(GROUPS), help="only this group; may be repeated")
    result.set_defaults(command="ratios")
    commands = result.add_subparsers(title="instead of ratios")
    endurance = commands.add_parser("soak", help="a million jobs through a pool: none lost, no memory kept")
    endurance.add_argument("--jobs", type=positive, default=1_000_000, help="how many (%(default)s)")
    endurance.add_argument("--loop", action="append", choices=loops, help="only on this event loop; may be repeated")
    endurance.add_argument("--telemetry", choices=["off", "on", "both"], default="both", help="default: %(default)s")
    endurance.set_defaults(command="soak", loop=None)
    return result


def positive(text: str) -> int:
    """Return the count that *text* says; ValueError, which argparse reports, for none."""
    count = int(text)
    if count < 1:
        raise ValueError(text)
    return count


if __name__ == "__main__":
    sys.exit(main())
