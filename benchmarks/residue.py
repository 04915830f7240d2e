"""What a run leaves behind in memory."""

import gc
import os
from collections import Counter
from pathlib import Path

from otel_sched import Job, Queue, WorkerPool

STATM = Path("/proc/self/statm")
MAX_OBJECTS = 1000
"""Objects the collector knows that a run may leave: caches, not a thing for each job."""
MAX_MEGABYTES = 32.0
"""How much the process may grow: what the allocator keeps in reserve. A million jobs that stayed would be 200."""


class Residue:
    """Objects and memory now; after `compare`, how much more there is by then."""

    def __init__(self) -> None:
        self.objects, self.megabytes = _objects(), _resident()
        self._alive = _alive()
        self._kept: list[str] = []

    def compare(self) -> None:
        """Find out what has been added since."""
        self.objects, self.megabytes = _objects() - self.objects, _resident() - self.megabytes
        more = _alive() - self._alive
        self._kept = [f"{count} more {name} objects are alive" for name, count in sorted(more.items())]

    def complaints(self, jobs: int) -> list[str]:
        """Return what was kept that should not have been, in sentences, after a run of *jobs*."""
        result = list(self._kept)
        if self.objects > MAX_OBJECTS:
            result.append(f"{self.objects} more objects than before {jobs} jobs")
        if self.megabytes > MAX_MEGABYTES:
            result.append(f"{self.megabytes:.1f} MB more than before {jobs} jobs")
        return result


def _alive() -> Counter[str]:
    return Counter(type(each).__name__ for each in gc.get_objects() if isinstance(each, Job | Queue | WorkerPool))


def _objects() -> int:
    for _ in range(3):  # finalisers may let go of more
        gc.collect()
    return len(gc.get_objects())


def _resident() -> float:
    """Return the process's resident megabytes; 0.0 where the system does not tell that way."""
    if not STATM.exists():
        return 0.0
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
