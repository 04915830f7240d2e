"""Floor 5: the watch over one event loop, in the watchdog's thread: what it measured, and what blocks it."""

import asyncio
import contextlib
import threading
import time
import weakref
from dataclasses import dataclass

from .._core.census import ledgers
from .._core.clock import monotonic
from .._core.finding import Finding
from .._core.liveness import Beats
from .._core.repeats import Repeats
from .alarm import Alarm
from .blame import Cause, Evidence, blocked, cause_of, resumed
from .culprit import look, other_thread
from .gctime import pauses
from .heartbeat import Heartbeat
from .telling import Telling

CONFIRM = 0.005
"""Seconds between the two looks that tell one long step from many short ones."""
PATIENCE = 20 * CONFIRM
"""Seconds after which one that gets no processor is taken to be still at the same step."""
STATE_EVERY = 1.0
"""Seconds between two tellings of what the loop's thread has done; and between two looks while all is well."""


@dataclass(slots=True)
class Block:
    """One time that the loop does not turn."""

    count: int
    """How many beats there were before it."""
    seen_at: float
    worked: float
    """Processor time of the loop's thread by then."""
    evidence: Evidence
    handled: bool = False
    """Whether it has been told of, or held back."""
    told: Finding | None = None


class Lookout:
    """Looks at one loop whenever its next beat is overdue, and tells what the beats have measured."""

    def __init__(self, heart: Heartbeat, telling: Telling) -> None:
        self._heart = heart
        self._telling = telling
        self._repeats = Repeats()
        self._block: Block | None = None
        self._told_at = self._told_active = self._told_idle = 0.0
        self.blocks = 0
        look(None, threading.get_ident(), 0)  # what runs for the first time is slow, and there may be no time then
        pauses.attend()
        self._parting = weakref.finalize(self, _part, heart.beats, heart.alarm)
        self._parting.atexit = False

    def look(self, now: float) -> float | None:
        """Look what goes on if the loop does not turn, then tell what was measured."""
        self._spy(now)
        self._tell_over()
        at = self._go_on(now)
        self._tell_measured(now)
        return at

    def _spy(self, now: float) -> None:
        """See who is at work where a beat is overdue; before anything else, for in a moment that may be over."""
        heart, loop = self._heart, self._heart.loop()
        count, due, worked, all_worked = heart.count, heart.due, heart.worked, heart.all_worked
        step = None
        if self._block is None and due and now - due >= heart.threshold and not heart.paused:
            step = look(loop, heart.thread, heart.outer) if loop is not None and loop.is_running() else None
        if step is None:
            return
        all_threads, own = time.process_time(), heart.processor()
        working = 0.0 if own is None else max(0.0, own - worked)
        evidence = Evidence(
            blocked=now - due,
            step=step,
            overslept=now - due - heart.threshold,
            working=None if own is None else working,
            others_working=max(0.0, all_threads - all_worked - working),
        )
        if evidence.held_elsewhere:
            evidence.other_thread, evidence.other = other_thread(heart.thread)
        evidence.garbage = pauses.within(due, now)
        evidence.jobs_ready = _jobs_ready(loop)
        self._block = Block(count, now, own or 0.0, evidence)

    def _go_on(self, now: float) -> float | None:
        """Tell of a block that lasts, and return when to look again."""
        heart, loop, block = self._heart, self._heart.loop(), self._block
        if heart.over or loop is None:
            self._parting()
            heart.keeps = None
            return None
        if not heart.due:  # it has not begun to turn
            return now + (heart.interval if heart.alarm is None else STATE_EVERY)
        if heart.paused or not loop.is_running():
            return self._stand_by(now)
        if block is None:
            return heart.due + heart.threshold if heart.alarm is None else now + STATE_EVERY
        if not block.handled:
            if heart.count != block.count or not self._may_confirm(block, now):
                return now + CONFIRM
            self._confirm(block, loop)
            self._tell(block, now - heart.due, over=False)
        return now + max(heart.threshold / 2, CONFIRM)

    def _stand_by(self, now: float) -> float:
        """Wait for somebody to run the loop again: what it missed meanwhile is nobody's fault."""
        heart = self._heart
        self._block = None
        if not heart.paused and now > heart.due + heart.threshold:
            heart.paused = True
        if heart.paused:
            heart.beats.rest()
        return now + (heart.threshold if heart.alarm is None else STATE_EVERY)

    def _tell_measured(self, now: float) -> None:
        heart, telling = self._heart, self._telling
        while heart.delays:
            telling.loop_delay(heart.name, heart.delays.popleft())
        if now - self._told_at >= STATE_EVERY or heart.over:
            active, idle = heart.active, heart.idle
            if active + idle > self._told_active + self._told_idle:
                telling.loop_state(heart.name, max(0.0, active - self._told_active), max(0.0, idle - self._told_idle))
            self._told_at, self._told_active, self._told_idle = now, active, idle

    def _tell_over(self) -> None:
        """Tell of blocks whose late beat has come."""
        heart = self._heart
        while heart.late:
            number, delay, working, others_working = heart.late.popleft()
            block, self._block = self._block, None
            if block is None or block.count >= number:  # nobody has seen it
                evidence = Evidence(
                    blocked=delay, step=None, overslept=delay, working=working, others_working=others_working
                )
                evidence.garbage = pauses.within(heart.turned_at - delay, heart.turned_at)
                block = Block(number - 1, 0.0, 0.0, evidence)
            if not block.handled:
                self._tell(block, delay, over=True)
            elif block.told is not None:
                self._tell_resumed(block, block.told, delay)

    def _tell_resumed(self, block: Block, told: Finding, delay: float) -> None:
        evidence = block.evidence
        if evidence.certain and delay - evidence.blocked < self._heart.threshold:
            return  # it was told as good as over
        garbage = pauses.within(self._heart.turned_at - delay, self._heart.turned_at)
        self._telling.finding(resumed(self._heart.name, delay, garbage, told), None)

    def _may_confirm(self, block: Block, now: float) -> bool:
        """Say whether a second look means something: not while what computes has hardly got a processor since."""
        passed = now - block.seen_at
        if block.evidence.certain or passed >= PATIENCE:
            return True
        worked = (self._heart.processor() or 0.0) - block.worked
        return passed >= CONFIRM and (worked >= CONFIRM / 2 or not block.evidence.computes)

    def _confirm(self, block: Block, loop: asyncio.AbstractEventLoop) -> None:
        """Look again: the same step still there is to blame, and where it stands now is told."""
        evidence, processor = block.evidence, self._heart.processor()
        if evidence.certain or cause_of(evidence) is not Cause.CODE:
            return
        evidence.waits = processor is not None and processor - block.worked < CONFIRM / 10
        again = look(loop, self._heart.thread, self._heart.outer)
        if evidence.step is not None and again.same(evidence.step):
            evidence.step = again
        elif not again.idle:
            evidence.changed = True

    def _tell(self, block: Block, seconds: float, *, over: bool) -> None:
        """Tell of a block, unless many like it were told of just before."""
        block.handled = True
        evidence = block.evidence
        cause = cause_of(evidence)
        if cause is Cause.STARVED and over and seconds < 10 * self._heart.threshold:
            return  # a hiccup of the machine: the histogram has it
        self.blocks += 1
        place = None if evidence.step is None else evidence.step.culprit()
        held = self._repeats.allow((cause, *(place or ())[:2]), monotonic())
        if held is None:
            return
        job = None if evidence.step is None or evidence.step.job is None else evidence.step.job()
        quick = evidence.certain and not over
        block.told = blocked(self._heart.name, evidence, seconds=seconds, over=over, held=held, quick=quick)
        self._telling.finding(block.told, job)
        if quick and evidence.step is not None:
            evidence.step.text()  # reads the files, for the next time


def _part(beats: Beats, alarm: Alarm | None) -> None:
    """Leave nothing behind: not to turn any more is no illness of a loop that is gone."""
    beats.end()
    if alarm is not None:
        alarm.close()
    pauses.leave()


def _jobs_ready(loop: asyncio.AbstractEventLoop | None) -> int:
    """Return how many jobs wait in the queues of *loop*; a queue that nobody ever waited in may be of any."""
    number = 0
    for ledger in ledgers():
        queue, waiting = ledger.queue(), ledger.waiting
        if waiting is not None and getattr(queue, "_loop", None) in (None, loop):
            with contextlib.suppress(Exception):  # a container of the program's own
                number += len(waiting)
    return number
