"""Floor 1: our own log lines. A logging filter or handler of the program's that raises must not reach its jobs."""

import contextlib
import logging
from typing import Any

_logger = logging.getLogger("otel_sched")


def complain(
    level: int, message: str, *args: object, error: BaseException | None = None, extra: dict[str, Any] | None = None
) -> None:
    """Log *message* with the logger `otel_sched`, whatever the program's logging set-up does to it."""
    with contextlib.suppress(Exception):
        _logger.log(level, message, *args, exc_info=error, extra=extra, stacklevel=2)
