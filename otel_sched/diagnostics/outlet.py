"""Floor 5: on which signal dumps are written and where to: what was asked for, checked before it is needed."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

_REFUSED = ("SIGKILL", "SIGSTOP", "SIGSEGV", "SIGFPE", "SIGABRT", "SIGBUS", "SIGILL")
"""Nobody can have these, or what they mean is that the process cannot go on."""


def checked_signal(signum: Any, argument: str) -> signal.Signals:
    """Return the signal that is meant by a number or a name, such as `USR1`; *argument* is what errors call it."""
    try:
        if isinstance(signum, str):
            name = signum.strip().upper()
            found = signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
        elif isinstance(signum, bool):
            raise ValueError(signum)
        else:
            found = signal.Signals(signum)
    except (ValueError, KeyError):
        raise ValueError(f"{argument} must be a signal of this system, such as SIGUSR1, got {signum!r}") from None
    if found.name in _REFUSED:
        raise ValueError(f"{argument}: {found.name} cannot be used for dumps: choose SIGUSR1, SIGUSR2 or SIGQUIT")
    return found


def writer(file: Any, argument: str) -> tuple[str, Callable[[str], None]]:
    """Return what *file* is called, and who writes to it; *argument* is what errors call it."""
    if file is None:
        return "standard error", lambda text: write_to(sys.stderr, text)
    if isinstance(file, (str, os.PathLike)):
        path = os.path.abspath(os.fsdecode(file))  # the program may change its directory later
        _try(path, argument)
        return repr(path), lambda text: _append_to(path, text)
    if not callable(getattr(file, "write", None)):
        raise TypeError(f"{argument} must be a path or an open text file, got {file!r}")
    return repr(file), lambda text: write_to(file, text)


def write_to(file: Any, text: str) -> None:
    """Write *text* to an open file at once."""
    file.write(text)
    file.flush()


def _append_to(path: str, text: str) -> None:
    with open(path, "a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)


def _try(path: str, argument: str) -> None:
    """Make the file now, if there is none: it would be too late to hear that it cannot be when a dump is needed."""
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        return  # opening a pipe would wait for a reader
    try:
        with open(path, "a", encoding="utf-8"):
            pass
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ValueError(
            f"{argument} must be a path that can be appended to, got {path!r}: {why}. Make its folder or choose another"
        ) from error
