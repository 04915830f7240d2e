"""Floor 6: for how long a thread wanted a processor and got none: that is the machine's fault, not the code's."""

import os

PATH = "/proc/thread-self/schedstat"


class Starved:
    """Reads it for the thread that makes it, where the system tells: Linux does."""

    def __init__(self) -> None:
        self._fd = -1
        try:
            self._fd = os.open(PATH, os.O_RDONLY | os.O_CLOEXEC)
            self.seconds()
        except (OSError, ValueError, IndexError):
            self.close()

    @property
    def known(self) -> bool:
        """Whether the system tells."""
        return self._fd >= 0

    def seconds(self) -> float:
        """Return the seconds so far; 0.0 where they are not known. From any thread."""
        if self._fd < 0:
            return 0.0
        return int(os.pread(self._fd, 100, 0).split()[1]) / 1e9

    def close(self) -> None:
        """Give back what the system lent; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
