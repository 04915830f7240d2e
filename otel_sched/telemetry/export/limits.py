"""Floor 5: how much may wait for an exporter, and for how long: OpenTelemetry's variables for batch processors."""

import os
from dataclasses import dataclass

from ..._core.errors import ConfigurationError
from ..endpoint import Signal

MAX_WAITING = 16384
"""Items that may wait for one exporter: at 10 000 a second a receiver may be away for a second and a half."""
MAX_BATCH = 512
DELAY = 1.0
"""Seconds until a batch that is not full leaves."""

_PREFIXES = {"traces": "OTEL_BSP", "logs": "OTEL_BLRP"}


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one exporter's buffer and batches."""

    waiting: int = MAX_WAITING
    batch: int = MAX_BATCH
    delay: float = DELAY


def limits_of(signal: Signal) -> Limits:
    """Return what the environment asks for.

    Raises:
        ConfigurationError: A variable is no positive number, or a batch is to be larger than the buffer.
    """
    prefix = _PREFIXES[signal]
    waiting = _number(f"{prefix}_MAX_QUEUE_SIZE", MAX_WAITING)
    batch = _number(f"{prefix}_MAX_EXPORT_BATCH_SIZE", min(MAX_BATCH, waiting))
    if batch > waiting:
        raise ConfigurationError(
            f"{prefix}_MAX_EXPORT_BATCH_SIZE={batch} is more than {prefix}_MAX_QUEUE_SIZE={waiting}: "
            "no batch would ever be full"
        )
    return Limits(waiting, batch, _number(f"{prefix}_SCHEDULE_DELAY", int(DELAY * 1000)) / 1000)


def _number(variable: str, default: int) -> int:
    """Return the positive whole number that *variable* holds."""
    text = os.environ.get(variable, "").strip()
    if not text:
        return default
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number <= 0:
        raise ConfigurationError(f"{variable}={text!r} must be a positive whole number")
    return number
