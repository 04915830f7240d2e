"""Floor 6: Ctrl-C at any moment: once to end cleanly, twice to end now. Imports little, to be in force early."""

import asyncio
import signal
from typing import Any


class Interrupts:
    """Counts SIGINT and SIGTERM in place of an exception wherever the program happens to be.

    Until `bind` a second one raises KeyboardInterrupt, for nothing else could end a start-up that hangs.
    """

    def __init__(self) -> None:
        self.count = 0
        self._starting = True
        self._loop: asyncio.AbstractEventLoop | None = None

    def install(self) -> None:
        """Take over both signals for the rest of the process."""
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, self._received)

    def bind(self) -> None:
        """Tell of signals through `first` and `second` from now on, in the running loop."""
        self.first, self.second = asyncio.Event(), asyncio.Event()
        self._loop, self._starting = asyncio.get_running_loop(), False
        self._tell()

    def release(self) -> None:
        """Let go of the loop, which is about to end; what comes now is only counted."""
        self._loop = None

    def ignore(self) -> None:
        """Let signals pass from now on: Python takes handlers away while it exits, and the default one kills."""
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)

    def request(self) -> None:
        """Do as a signal does: the first request ends the run, the second cuts it short."""
        self.count += 1
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._tell)

    def _received(self, *_: Any) -> None:
        self.request()
        if self._starting and self.count == 2:
            raise KeyboardInterrupt

    def _tell(self) -> None:
        if self.count >= 1:
            self.first.set()
        if self.count >= 2:
            self.second.set()
