"""Floor 5: the watch over one event loop, in the watchdog's thread: what it measured, and what blocks it."""

import math
import threading
import time
import weakref

from .._core.clock import monotonic
from .._core.finding import FindingKind, count
from .._core.liveness import Beats
from .._core.repeats import Repeats
from .alarm import Alarm
from .blame import KEPT_WAITING, SOME, Cause, Evidence, blocked, cause_of, resumed
from .culprit import Step, look, other_thread
from .delayed import jobs_delayed
from .gctime import pauses
from .heartbeat import Heartbeat, Late
from .spells import Block, Sighting, Spell
from .telling import Telling

CONFIRM = 0.005
"""Seconds between the two looks that tell one long step from many short ones."""
PATIENCE = 20 * CONFIRM
"""Seconds after which one that gets no processor is taken to be still at the same step."""
STATE_EVERY = 2.0
"""Seconds between two tellings of what the loop's thread has done; and between two looks while all is well."""


class Lookout:
    """Looks at one loop whenever its next beat is overdue, and tells what the beats have measured."""

    def __init__(self, heart: Heartbeat, telling: Telling) -> None:
        self._heart = heart
        self._telling = telling
        self._repeats = Repeats()
        self._block: Block | None = None
        self._wanted = math.inf
        """The instant of the next look, as it was asked for."""
        self._baseline = 0.0, 0.0, 0.0
        self._told_at = self._told_active = self._told_idle = 0.0
        self.blocks = 0
        look(None, threading.get_ident(), 0)  # what runs for the first time is slow, and there may be no time then
        pauses.attend()
        self._parting = weakref.finalize(self, _part, heart.beats, heart.alarm)
        self._parting.atexit = False

    def look(self, now: float) -> float | None:
        """Look what goes on if the loop does not turn, then tell what was measured."""
        seen = self._spy(now)
        if seen is not None and self._block is not None and self._block.count != seen.count:
            self._tell_over()
        if seen is not None:
            self._add(seen)
        self._tell_over()
        at = self._go_on(now)
        self._wanted = math.inf if at is None else at
        self._tell_measured(now)
        return at

    def _spy(self, now: float) -> Sighting | None:
        """See who is at work where a beat is overdue; before anything else, for in a moment that may be over."""
        heart, loop = self._heart, self._heart.loop()
        count, due = heart.count, heart.due
        if not due or now - due < heart.threshold / 2 or heart.paused or loop is None or not loop.is_running():
            return None
        self._baseline = due, heart.worked, heart.all_worked
        step = look(loop, heart.thread, heart.outer)
        wanted = min(max(self._wanted, due), due + heart.threshold / 2) if self._block is None else self._wanted
        if step.ended and now - wanted < KEPT_WAITING:
            step = Step()  # by chance between two steps: nobody was kept from looking
        seen = Sighting(
            count=count,
            at=now,
            wanted=wanted,
            step=step,
            worked=heart.processor(),
            all_worked=time.process_time(),
            collecting=pauses.collecting,
        )
        if seen.all_worked - self._baseline[2] - ((seen.worked or 0.0) - self._baseline[1]) >= SOME * (now - wanted):
            seen.other_thread, seen.other = other_thread(heart.thread)
        return seen

    def _add(self, seen: Sighting) -> None:
        if self._block is None:
            self._block = Block(seen.count, *self._baseline, pauses.within)
        self._block.add(seen)

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
        if block is None or block.current is None:
            return heart.due + heart.threshold / 2 if heart.alarm is None else now + STATE_EVERY
        if now < block.due + heart.threshold:
            return block.due + heart.threshold
        return self._judge(block, block.current, now)

    def _judge(self, block: Block, spell: Spell, now: float) -> float:
        """Tell of what is certain by now, and return when to look again."""
        threshold = self._heart.threshold
        later = now + max(threshold / 2, CONFIRM)
        if spell.looks == 1 or not spell.handled:
            block.jobs_delayed = jobs_delayed(self._heart.loop())
        if not spell.handled and spell.seconds >= threshold:
            if not self._may_tell(spell, now):
                return now + CONFIRM
            spell.handled = True
            self._tell(block, block.evidence(spell, block.seconds), over=False)
        elif not block.counted and spell.looks == 1:
            evidence = block.of_all(block.seconds)
            if evidence is not None and block.changes > 1:
                self._tell(block, evidence, over=False)
            return now + CONFIRM
        return later

    def _may_tell(self, spell: Spell, now: float) -> bool:
        """Say whether it was seen often enough.

        A second look means nothing while what computes has hardly got a processor since the first.
        """
        evidence, doubted = spell.evidence(), spell.doubted
        if evidence.certain:
            return True
        if doubted is None:
            spell.doubted = now, spell.working or 0.0
            return False
        passed = now - doubted[0]
        worked = (spell.working or 0.0) - doubted[1]
        enough = worked >= CONFIRM / 2 or not evidence.computes or spell.step.idle
        return passed >= PATIENCE or (passed >= CONFIRM and enough)

    def _stand_by(self, now: float) -> float:
        """Wait for somebody to run the loop again: what it missed meanwhile is nobody's fault."""
        heart = self._heart
        self._block = None
        if not heart.paused and now < heart.due + heart.threshold:
            return heart.due + heart.threshold
        heart.paused = True
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
        beats = heart.count  # first: a late beat that comes meanwhile must find its block
        while heart.late:
            late = heart.late.popleft()
            block = self._block
            if block is not None and block.count < late.number:
                self._block = None
            if block is None or block.count >= late.number or block.current is None:  # nobody has seen it
                self._tell_unseen(late)
                continue
            block.end(late.at, heart.threshold)
            spell = block.longest_so_far() or block.current
            evidence = block.of_all(late.delay) or block.evidence(spell, late.delay)
            if block.told is not None:
                told = resumed(self._heart.name, evidence, seconds=late.delay, first=block.told)
                count(told.kind, told.queue)
                self._telling.finding(told, None)
            elif not block.counted:
                self._tell(block, evidence, over=True, seconds=late.delay)
        if self._block is not None and beats > self._block.count:
            self._block = None  # it turned in time

    def _tell_unseen(self, late: Late) -> None:
        evidence = Evidence(
            blocked=late.delay,
            step=None,
            overslept=late.delay,
            working=late.working,
            others_working=late.others_working,
            garbage=pauses.within(late.at - late.delay, late.at),
        )
        block = Block(late.number - 1, late.at - late.delay, 0.0, 0.0, pauses.within)
        self._tell(block, evidence, over=True, seconds=late.delay)

    def _tell(self, block: Block, evidence: Evidence, *, over: bool, seconds: float | None = None) -> None:
        """Tell of a block, unless many like it were told of just before."""
        seconds = block.seconds if seconds is None else seconds
        cause = cause_of(evidence)
        if cause is Cause.STARVED and over and seconds < 10 * self._heart.threshold:
            return  # a hiccup of the machine: the histogram has it
        if not block.counted:
            block.counted = True
            self.blocks += 1
            count(FindingKind.LOOP_BLOCKED, "" if evidence.step is None else evidence.step.job_facts.get("queue", ""))
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
