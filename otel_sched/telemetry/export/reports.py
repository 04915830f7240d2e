"""Floor 5: what the log says of an export that does not work: once when it begins, once when it is over."""

import logging
import time

from ..counting import BUFFER_FULL, ExporterCount
from .answers import Answer, Verdict
from .limits import Limits

_ITEMS = {"traces": "spans", "metrics": "metrics", "logs": "log records"}
_WAITING = {"traces": "spans", "metrics": "collections", "logs": "log records"}
AGAIN = 60.0
"""Seconds until the same complaint may be repeated."""

_log = logging.getLogger("otel_sched")


class Reports:
    """The complaints about one exporter; one thread calls it."""

    def __init__(self, count: ExporterCount, limits: Limits) -> None:
        self._count = count
        self._limits = limits
        self._out = False
        self._said: dict[str, float] = {}
        self._full = 0

    def answer(self, answer: Answer) -> None:
        """Take note of what came of an attempt."""
        items, exporter = _ITEMS[self._count.signal], self._count.exporter
        if answer.verdict is Verdict.TAKEN:
            if self._out:
                self._out = False
                _log.info("%s are exported to %s again", items, exporter)
            if answer.reason and self._may("partial"):
                _log.warning("the receiver of %s rejected %d: %s", items, answer.rejected, answer.reason)
        elif answer.verdict is Verdict.LATER:
            if not self._out:
                self._out = True
                _log.warning(
                    "%s cannot be exported to %s now and are kept, up to %d %s: %s",
                    items, exporter, self._limits.waiting, _WAITING[self._count.signal], answer.reason,
                )  # fmt: skip
        elif self._may("refused"):
            _log.warning("%s were refused by %s and are lost: %s", items, exporter, answer.reason)

    def full(self) -> None:
        """Look whether items were dropped because the buffer was full."""
        dropped = self._count.dropped[BUFFER_FULL]
        if dropped != self._full and self._may("full"):
            signal, most = self._count.signal, self._limits.waiting
            what = "data points" if signal == "metrics" else _ITEMS[signal]
            _log.warning("%d %s were dropped so far: %d %s wait already", dropped, what, most, _WAITING[signal])
        self._full = dropped

    def _may(self, what: str) -> bool:
        now = time.monotonic()
        if now - self._said.get(what, -AGAIN) < AGAIN:
            return False
        self._said[what] = now
        return True
