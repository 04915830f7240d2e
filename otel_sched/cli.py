"""Floor 6: the command `otel-sched`. Each subcommand loads what it needs when it is called."""

import argparse
import io
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from ._core.errors import ConfigurationError
from ._core.version import VERSION
from .telemetry.endpoint import PROTOCOLS

MISSING = 2
"""The exit code for wrong arguments and missing packages."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="otel-sched", description="asyncio queues and worker pools that show what they do."
    )
    parser.add_argument("--version", action="version", version=f"otel-sched {VERSION}")
    subcommands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_demo(subcommands)
    arguments = parser.parse_args(argv)
    code: int = arguments.call(arguments)
    return code


def _add_demo(subcommands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "run an order-processing workload on observed queues, and show what they tell"
    parser = subcommands.add_parser(
        "demo",
        help=text,
        description=f"{text[0].upper()}{text[1:]}. Ctrl-C ends it: orders under way get 5 seconds, a second Ctrl-C "
        "none. Telemetry goes to --endpoint, to what the OTEL_* variables name, or to a collector on this machine.",
    )
    parser.add_argument("--for", dest="seconds", type=_positive, metavar="SECONDS", help="how long orders come in")
    parser.add_argument("--rate", type=_positive, default=20.0, metavar="N", help="orders a second (default: 20)")
    parser.add_argument("--seed", type=int, metavar="N", help="the same orders again")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--plain", action="store_true", help="lines of text; the default where there is no terminal")
    shown.add_argument("--json", action="store_true", help="nothing but a JSON summary at the end")
    parser.add_argument("--endpoint", metavar="URL", help="an OTLP receiver, such as http://localhost:4317")
    parser.add_argument("--protocol", choices=PROTOCOLS, help="by default what the endpoint looks like")
    parser.set_defaults(call=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    from .demo.interrupts import Interrupts

    interrupts = Interrupts()
    interrupts.install()
    stdout = sys.stdout or io.StringIO()  # a process may be started without
    live = not (arguments.plain or arguments.json) and stdout.isatty()
    needed = ["opentelemetry.sdk", "opentelemetry.exporter.otlp", "structlog", *(["rich"] if live else [])]
    if complaint := missing("demo", needed):
        return fail(complaint)
    if arguments.json:
        sys.stdout = sys.stderr  # the summary stands there alone
    try:
        from .demo.run import Wanted, run

        wanted = Wanted(**{name: value for name, value in vars(arguments).items() if name != "call"})
        return run(wanted, interrupts, stdout)
    except ConfigurationError as error:
        return fail(str(error))
    except KeyboardInterrupt:
        return 130


def missing(extra: str, modules: Sequence[str]) -> str | None:
    """Return what to do about the first of *modules* that is not installed; None when all are."""
    for name in modules:
        try:
            found = find_spec(name) is not None
        except ModuleNotFoundError:  # its parent is missing already
            found = False
        if not found:
            return f"{extra} needs {name}: pip install 'otel-sched[{extra}]'"
    return None


def fail(complaint: str) -> int:
    """Say what is wrong, in one line on standard error; return the exit code."""
    print(f"otel-sched: {complaint}", file=sys.stderr)
    return MISSING


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return value
