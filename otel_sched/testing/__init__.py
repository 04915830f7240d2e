"""Floor 5: what tests of code that uses queues need: virtual time and patient waiting."""

from .loop import Deadlock as Deadlock
from .loop import VirtualLoop as VirtualLoop
from .loop import run as run
from .wait import wait_until as wait_until
from .wait import wait_until_sync as wait_until_sync

__all__ = ["Deadlock", "VirtualLoop", "run", "wait_until", "wait_until_sync"]
