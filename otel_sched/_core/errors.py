"""Floor 1: what can go wrong, beyond asyncio's own QueueFull and QueueEmpty."""

import sys

__all__ = ["ConfigurationError", "OtelSchedError", "QueueShutDown"]


class OtelSchedError(Exception):
    """Base of the errors that are this library's own."""


class ConfigurationError(OtelSchedError, ValueError):
    """Raised when settings contradict each other or what is already set up."""


if sys.version_info >= (3, 13):
    from asyncio import QueueShutDown
else:

    class QueueShutDown(Exception):
        """Raised by put and get of a queue that was shut down; on Python 3.13 this is asyncio's own."""
