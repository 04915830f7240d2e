"""Floor 5: what came of one attempt to send a batch, whatever it was sent through."""

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum
from math import isfinite
from typing import Any

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 5.0
"""Seconds; between two attempts there is a random part of a pause that doubles each time, up to this one."""
SHORTEST_PAUSE = 0.05


class Verdict(Enum):
    """What a receiver made of a batch."""

    TAKEN = "ok"
    LATER = "retry"
    REFUSED = "failed"
    TOO_LARGE = "too_large"


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of one attempt."""

    verdict: Verdict
    reason: str = ""
    rejected: int = 0
    """Items that the receiver refused out of a batch that it took: OTLP's partial success."""
    after: float | None = None
    """Seconds that the receiver asked to wait for."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """A batch, ready to be sent."""

    data: Any
    """What the transport sends; None where it would be larger than the exporter may send."""
    items: int
    failed: int = 0
    """Items of the batch that cannot be encoded and are not in it."""


TAKEN = Answer(Verdict.TAKEN)


def pause(attempt: int) -> float:
    """Return how long to wait after that many failed attempts: full jitter, so that a fleet does not come at once."""
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempt - 1, 16))
    return max(SHORTEST_PAUSE, random.uniform(0.0, longest))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a Retry-After header asks for: a number of them, or a date."""
    value = headers.get("retry-after", headers.get("Retry-After", "")).strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
    return max(0.0, seconds) if isfinite(seconds) else None


def partial(response: Any, batch: int) -> Answer:
    """Return the answer that an `Export*ServiceResponse` gives for a batch of this size."""
    said = getattr(response, "partial_success", None)
    if said is None:
        return TAKEN
    rejected = max(getattr(said, f"rejected_{items}", 0) for items in ("spans", "log_records", "data_points"))
    message = said.error_message
    if not rejected and not message:
        return TAKEN
    return Answer(Verdict.TAKEN, message, max(0, min(int(rejected), batch)))
