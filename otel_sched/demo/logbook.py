"""Floor 6: the demo's logging: structlog and logging as an application sets them up, their lines kept for the view."""

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog

from ..telemetry.structlog import OtlpProcessor, add_job_context
from .lines import FAINT, STYLES, Line

TAIL = 50
"""Lines that are kept for the live view."""

_FIELDS = ("trace_id", "job_id")
_HIDDEN = {
    "trace_id",
    "span_id",
    "trace_flags",
    "queue",
    "job_id",
    "job_name",
    "attempt",
    "exc_info",
    "stack_info",
    "event",
    "level",
}


class Logbook(logging.Handler):
    """Where lines go: the latest are kept, and those that matter are told to whoever asked, as they come."""

    def __init__(self) -> None:
        super().__init__()
        self.tail: deque[Line] = deque(maxlen=TAIL)
        self.told: Callable[[Line], None] | None = None
        self._sender = OtlpProcessor()

    def install(self) -> None:
        """Set up logging and structlog; call it before `configure()`, which then leaves both as they are."""
        root = logging.getLogger()
        root.handlers[:] = [self]
        root.setLevel(logging.WARNING)
        logging.captureWarnings(True)
        structlog.configure(
            processors=[
                structlog.contextvars.merge_contextvars,
                structlog.processors.add_log_level,
                add_job_context,
                self._sender,
                self._render,
            ],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            logger_factory=structlog.ReturnLoggerFactory(),
            cache_logger_on_first_use=True,
        )

    def close(self) -> None:
        """Send nothing over OTLP from now on: the pipeline is about to end."""
        self._sender.close()
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record of `logging`, in one line: the traceback goes over OTLP."""
        error = record.exc_info[1] if record.exc_info else None
        self._keep(record.levelname.lower(), record.getMessage() + _said(error), record.__dict__)

    def _render(self, _logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
        """Be structlog's last processor."""
        error = sys.exc_info()[1] if event.get("exc_info") else None
        fields = "".join(f" {key}={value}" for key, value in event.items() if key not in _HIDDEN)
        self._keep(str(event.get("level", method)), f"{event.get('event', '')}{_said(error)}{fields}", event)
        return ""

    def _keep(self, level: str, text: str, fields: Any) -> None:
        known = " ".join(f"{name}={fields[name]}" for name in _FIELDS if fields.get(name))
        quiet = level in ("info", "debug")
        line: Line = [
            (f"{time.strftime('%H:%M:%S')} ", FAINT),
            (f"{level:<8}", "" if quiet else STYLES["error"]),
            (" ".join(text.split()), ""),
            (f" {known}" if known else "", FAINT),
        ]
        self.tail.append(line)
        if not quiet and self.told is not None:
            self.told(line)


def _said(error: BaseException | None) -> str:
    return "" if error is None else f": {type(error).__name__}: {error}".rstrip(": ")
