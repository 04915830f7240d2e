"""Floor 5: a log line when an answer turns, for the probe that asked shows nobody the reasons."""

import logging
import threading
from collections.abc import Sequence

from .._core.complaint import complain


class Turns:
    """Whether one endpoint was well when it was asked last."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._well = True
        self._writer: threading.Thread | None = None

    def note(self, reasons: Sequence[str]) -> None:
        """Log, if it has turned, and why.

        In a thread of its own: where the log goes may be just what the application hangs in.
        """
        if self._well == (not reasons) or (self._writer is not None and self._writer.is_alive()):
            return
        self._well = not reasons
        if reasons:
            arguments = (logging.WARNING, "health: /%s fails: %s", self._endpoint, "; ".join(reasons))
        else:
            arguments = (logging.INFO, "health: /%s is well again%s", self._endpoint, "")
        self._writer = threading.Thread(target=complain, args=arguments, name="otel_sched-health-log", daemon=True)
        try:
            self._writer.start()
        except RuntimeError:  # the interpreter ends
            self._writer = None
