"""Floor 5: where OpenTelemetry keeps the current context, without the calls on the way there."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import opentelemetry.context as api
from opentelemetry.context import Context, attach, get_current

from .. import records

_runtime: Any = getattr(api, "_RUNTIME_CONTEXT", None)
_variable: Any = getattr(_runtime, "_current_context", None)
_direct = type(_runtime).__name__ == "ContextVarsRuntimeContext" and isinstance(_variable, ContextVar)

get_context: Callable[[], Context] = _variable.get if _direct else get_current
"""Returns the current context."""
set_context: Callable[[Context], Any] = _variable.set if _direct else attach
"""Makes a context the current one; nothing is ever detached by token."""
SUPPRESS: tuple[str, ...] = (records.SUPPRESS, "suppress_instrumentation")
"""Under which a context says that telemetry is not wanted here."""
