"""Floor 5: an asyncio task that was started in a job and is still there when that has long ended."""

from typing import Any

from ..._core.finding import FindingKind
from ..._core.job import Job
from .scene import Detector, Found, Scene, found
from .seat import Seat
from .steady import Steady
from .trail import trail


def outlives(takes: bool, inherited: bool, job: Job[Any] | None) -> bool:
    """Say whether a task goes on after its job: one that it inherited, and that has ended or is gone altogether."""
    return inherited and not takes and (job is None or job.outcome is not None)


class Outlived(Detector):
    """Tells of tasks that go on *patience* seconds after their job has ended; once for each task."""

    def __init__(self, patience: float) -> None:
        self._steady = Steady(patience)

    def task(self, scene: Scene, seat: Seat) -> list[Found]:
        """Look at one task that works on a job."""
        if not outlives(seat.takes, seat.ref is not None, seat.job):
            return []
        seconds = self._steady.holds(seat.task, seat.ref, scene.now)
        if seconds is None:
            return []
        origin = scene.knowledge.origins.of(seat)
        function = getattr(seat.task.get_coro(), "__qualname__", "")
        held = scene.allowed(FindingKind.OUTLIVED, origin.queue, function)
        if held is None:
            return []
        place, stack = trail(seat.task)
        by = f" ({origin.job})" if origin.job else ""
        sentence = (
            f"Asyncio task {seat.name()} was started in {origin.words()}{by} and still runs, more than {seconds:.3g} s "
            "after the end of that job"
            + (f"; it waits in {place}" if place else "")
            + ". Await it in the job (a TaskGroup does), cancel it there, or start it outside of any job if it is "
            "meant to stay."
        )
        facts: dict[str, str | int | float | bool] = {"task": seat.task.get_name(), "since": seconds}
        facts |= {key: value for key, value in origin._asdict().items() if key != "queue" and value}
        return [found(FindingKind.OUTLIVED, sentence, queue=origin.queue, held=held, facts=facts, stack=stack)]
