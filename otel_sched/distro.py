"""Floor 6. Let `opentelemetry-instrument` set up the SDK where no other package does.

That command sets up no SDK of its own: it asks a "distro" or a "configurator", which `opentelemetry-distro`
or a vendor's package brings. This is a distro for programs that have neither. It keeps out of everybody's
way: it acts only when it is asked for by name, or when it is alone and a variable such as
OTEL_TRACES_EXPORTER, which means nothing to an SDK that a program sets up in its own code, asks for export.
"""

import os
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from .telemetry.setup import configure

NAME = "otel_sched"
_REQUESTS = ("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER")


def distro() -> object | None:
    """Return our distro if it is wanted, else None, which the loader passes over."""
    if not _wanted():
        return None
    # Not imported above: the package is there only when its command is what calls this.
    base: Any = import_module("opentelemetry.instrumentation.distro").BaseDistro
    made: object = type("OtelSchedDistro", (base,), {"_configure": _configure})()
    return made


def _configure(_: object, **kwargs: Any) -> None:
    """Set up the SDK as `configure()` does, from the `OTEL_*` variables alone."""
    if not _configurators():
        # The root logger stays untouched: the program's own `logging.basicConfig()` is still to come, and
        # does nothing where a handler is.
        configure(logging=False, structlog=False)


def _wanted() -> bool:
    chosen = os.environ.get("OTEL_PYTHON_DISTRO")
    if chosen:
        return chosen == NAME
    others = any(each.name != NAME for each in entry_points(group="opentelemetry_distro"))
    return not (others or _configurators()) and any(os.environ.get(request) for request in _REQUESTS)


def _configurators() -> bool:
    """Whether something else is installed that sets up the SDK: two would fight over the global providers."""
    return bool(entry_points(group="opentelemetry_configurator"))
