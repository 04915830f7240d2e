"""Floor 5: what systemd wants to be told: that the service is ready, and again and again that its event loop turns."""

import asyncio
import contextvars
import os
import socket

from .readiness import checked_seconds


def notify(*states: str) -> bool:
    """Tell systemd, as sd_notify(3) does, and say whether it was told: `notify("READY=1")`, `notify("STATUS=...")`.

    Never waits and never raises; without systemd (no NOTIFY_SOCKET) nothing is done.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            out.connect("\0" + address[1:] if address[0] == "@" else address)
            out.send("\n".join(states).encode())
    except (OSError, ValueError):
        return False
    return True


def watchdog_interval() -> float | None:
    """Return the seconds that the service may be silent (`WatchdogSec=`), or None if systemd does not watch it."""
    microseconds, process = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or int(microseconds) == 0 or process not in ("", str(os.getpid())):
        return None
    return int(microseconds) / 1e6


class Watchdog:
    """Tells systemd from within an event loop that it turns; a loop that hangs falls silent, and systemd acts."""

    def __init__(self, interval: float) -> None:
        self._interval = checked_seconds("interval", interval)
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, in the running event loop."""
        self.stop()
        self._tell(asyncio.get_running_loop())

    def stop(self) -> None:
        """End, in the loop's thread; systemd will miss it if the service goes on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tell(self, loop: asyncio.AbstractEventLoop) -> None:
        notify("WATCHDOG=1")
        self._timer = loop.call_later(self._interval, self._tell, loop, context=contextvars.Context())


def start_watchdog() -> Watchdog | None:
    """Tell systemd twice in each `WatchdogSec=` that the running event loop turns; None if systemd does not watch."""
    interval = watchdog_interval()
    if interval is None:
        return None
    watchdog = Watchdog(interval / 2)
    watchdog.start()
    return watchdog
