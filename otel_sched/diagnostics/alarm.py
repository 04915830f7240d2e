"""Floor 5: alarms that wake a thread up unless they are put off in time, and the sleep that they end.

The kernel keeps the time. A thread that woke up ten times a second, only to see that all is well, would cost more than
all the rest of the watch: not for what it does, but for being woken up.
"""

import contextlib
import os
import select
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

# Each time anew, without a read in between: that would let go of the interpreter's lock, and whoever held it so long
# that the alarm went off would run on before anybody could look.
_EDGE = getattr(select, "EPOLLIN", 0) | getattr(select, "EPOLLET", 0)

Arm = Callable[[int, float], object]
"""Sets a timer of the kernel, by its file descriptor, to so many seconds from now."""


class Alarm:
    """One timer of the kernel. It goes off once, and is set anew by `put_off()`, from any thread."""

    def __init__(self, fd: int, arm: Arm) -> None:
        self.fd = fd
        self._arm = arm
        _alarms.add(self)

    def put_off(self, seconds: float) -> None:
        """Let it go off in *seconds*, not as was said before."""
        fd = self.fd
        if fd >= 0:
            with contextlib.suppress(OSError):  # it was closed by another thread
                self._arm(fd, seconds)

    def close(self) -> None:
        """Give the timer back; a second call does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


_alarms: "weakref.WeakSet[Alarm]" = weakref.WeakSet()


def new_alarm() -> Alarm | None:
    """Return an alarm; None where there is no such thing, as outside of Linux."""
    system = _timers()
    if system is None:
        return None
    create, arm = system
    try:
        return Alarm(create(), arm)
    except OSError:  # there are too many files
        return None


class Sleep:
    """The sleep of one thread: until a time is up, an alarm goes off, or somebody rings."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._bell = -1
        if _timers() is not None:
            self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._epoll = select.epoll()
            self._epoll.register(self._bell, _EDGE)

    def add(self, alarm: Alarm) -> None:
        """Wake up when *alarm* goes off, until it is closed."""
        self._epoll.register(alarm.fd, _EDGE)

    def ring(self) -> None:
        """Wake it up, from any thread."""
        if self._bell >= 0:
            os.eventfd_write(self._bell, 1)
            return
        with contextlib.suppress(RuntimeError):  # it was rung already
            self._lock.release()

    def sleep(self, seconds: float) -> bool:
        """Sleep; return True if it was not for all that time."""
        if self._bell < 0:
            return self._lock.acquire(timeout=seconds)
        try:
            return bool(self._epoll.poll(seconds))
        except (OSError, ValueError):  # somebody has closed all files of the process
            self._bell = -1
            return True

    def close(self) -> None:
        """Give back what the system lent; in a forked child, for it is the parent's."""
        if self._bell >= 0:
            self._epoll.close()
            os.close(self._bell)


def forget() -> None:
    """Close all alarms, in a forked child: they are its parent's as well, who must not be put off by it."""
    for alarm in list(_alarms):
        alarm.close()


_found: list[tuple[Callable[[], int], Arm] | None] = []


def _timers() -> tuple[Callable[[], int], Arm] | None:
    """Return how timers are made and set here, found out once."""
    if not _found:
        try:
            _found.append(_of_python() if sys.version_info >= (3, 13) else _of_libc())
        except (ImportError, AttributeError, OSError):
            _found.append(None)
    return _found[0]


def _of_python() -> tuple[Callable[[], int], Arm]:
    here: Any = os
    flags = here.TFD_NONBLOCK | here.TFD_CLOEXEC

    def arm(fd: int, seconds: float) -> None:
        here.timerfd_settime(fd, initial=seconds)

    return lambda: int(here.timerfd_create(time.CLOCK_MONOTONIC, flags=flags)), arm


def _of_libc() -> tuple[Callable[[], int], Arm]:
    """Return the same where Python does not offer it: before 3.13."""
    if sys.platform != "linux":
        raise OSError("timers with file descriptors are Linux's")
    import ctypes

    libc = ctypes.PyDLL(None, use_errno=True)  # neither call blocks, so the interpreter's lock is kept
    settings = ctypes.c_long * 4  # struct itimerspec: interval and value, seconds and nanoseconds each
    create, arm_it = libc.timerfd_create, libc.timerfd_settime
    arm_it.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)

    def made() -> int:
        fd = int(create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC))
        if fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return fd

    def arm(fd: int, seconds: float) -> None:
        whole = int(seconds)
        arm_it(fd, 0, settings(0, 0, whole, int((seconds - whole) * 1e9)), None)

    return made, arm
