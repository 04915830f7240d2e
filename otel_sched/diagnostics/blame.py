"""Floor 5: why an event loop does not turn, decided from what was seen, and said in a sentence. Pure but for source."""

import logging
from dataclasses import dataclass
from enum import StrEnum

from .._core.finding import Finding, FindingKind
from .culprit import Step, source

MOST = 0.5
"""What takes this part of the time is to blame."""
SOME = 0.2
"""A thread that computes gets this part of a processor, if machines are shared as they often are."""
KEPT_WAITING = 0.01
"""Seconds. Who waits longer for the interpreter's lock waits for one operation: Python code gives way after 5 ms."""


class Cause(StrEnum):
    """What keeps a loop from turning."""

    CODE = "code"
    """One step of the program's code: a call that blocks or computes."""
    GARBAGE_COLLECTION = "garbage_collection"
    MANY_STEPS = "many_steps"
    """No single one: several were ready at once, and each took its part."""
    OTHER_THREAD = "other_thread"
    """Another thread held the interpreter's lock."""
    UNSEEN = "unseen"
    """A step that was over before anybody could look: an operation in C that let nobody else run."""
    STARVED = "starved"
    """Nothing of the program: the process got no processor, or was stopped."""


@dataclass(slots=True, kw_only=True)
class Evidence:
    """What was seen of one time that a loop did not turn. Times are seconds."""

    blocked: float
    """For how long it had not turned when it was looked at, or for how much of that this step was seen."""
    step: Step | None
    """None where nobody could look in time."""
    changed: bool = False
    """Whether a second look found another step."""
    waits: bool = False
    """Whether the loop's thread got nothing done between the two looks, whatever it had computed before."""
    overslept: float = 0.0
    """For how much of it nobody else could look, though somebody wanted to."""
    working: float | None = None
    """Processor time of the loop's thread since its last beat."""
    others_working: float = 0.0
    """Processor time of all other threads since then."""
    garbage: float = 0.0
    """For how much of it the garbage collector was at work, in whatever thread."""
    collecting: bool = True
    """Whether it was at work when somebody looked; or all is over, and this does not matter."""
    jobs_delayed: int = 0
    """How many jobs waited in queues of the loop for which a consumer was free."""
    part: bool = False
    """Whether other steps took the rest of the time."""
    longest: float = 0.0
    """Where there were many steps, for how long the one was seen that took longest."""
    other: Step | None = None
    """What another thread did, where there is just one that did anything."""
    other_thread: str = ""

    @property
    def certain(self) -> bool:
        """Whether one step held the interpreter's lock for most of the time: then it is to blame, and about to end."""
        seen = self.step is not None and not self.step.idle
        return seen and self.computes and self.held and not self.held_elsewhere

    @property
    def exact(self) -> bool:
        """Whether the step stood at the line to blame, and not only behind it."""
        step = self.step
        if step is None or step.exact or not step.lines:
            return step is not None and bool(step.lines)
        return not step.awaits and not self.certain and step.waited < KEPT_WAITING

    @property
    def computes(self) -> bool:
        """Whether the loop's thread computes; True where one cannot say."""
        return self.working is None or self.working >= SOME * self.blocked

    @property
    def held(self) -> bool:
        """Whether nobody else could run for most of the time."""
        return self.overslept >= MOST * self.blocked

    def paused(self, cause: Cause) -> bool:
        """Whether it may be that nothing ran at all: a process that is stopped, a machine that is suspended."""
        return cause is Cause.CODE and self.held and not self.computes

    @property
    def held_elsewhere(self) -> bool:
        """Whether another thread was what did not let it, not the loop's own: others may compute without the lock."""
        own = self.working or 0.0
        return self.held and own < MOST * self.blocked and self.others_working >= max(SOME * self.overslept, own)


def cause_of(evidence: Evidence) -> Cause:
    """Decide what is to blame."""
    if evidence.collecting and evidence.garbage >= MOST * evidence.blocked:
        return Cause.GARBAGE_COLLECTION
    if evidence.held_elsewhere:
        return Cause.OTHER_THREAD
    if evidence.step is None or evidence.step.idle:
        return Cause.UNSEEN if evidence.computes else Cause.STARVED
    return Cause.MANY_STEPS if evidence.changed else Cause.CODE


def blocked(
    loop: str, evidence: Evidence, *, seconds: float, over: bool, held: int = 0, quick: bool = False
) -> Finding:
    """Return what is to be told of a loop that is, or was, blocked for *seconds*.

    Args:
        over: Whether it turns again.
        held: How many like it were held back since the last that was told.
        quick: Whether there is no time to read source files: a moment later the job may be over.
    """
    cause = cause_of(evidence)
    step = evidence.other if cause is Cause.OTHER_THREAD else evidence.step
    place = None if step is None else step.culprit()
    parts = [
        f"event loop {loop!r} {'was' if over else 'has been'} blocked for {seconds:.2f} s"
        + (f", {evidence.blocked:.2f} s of it " if evidence.part else " ")
        + _reason(cause, evidence, _where(step, place, cause is not Cause.CODE or evidence.exact, quick)),
        _whose(cause, evidence.step),
        "or the process was stopped, for nobody computed meanwhile, nor could look" if evidence.paused(cause) else "",
        "" if not evidence.jobs_delayed else f"jobs that it keeps from running: {evidence.jobs_delayed}",
        "" if not held else f"times it was blocked like this before and not told of: {held}",
    ]
    return Finding(
        kind=FindingKind.LOOP_BLOCKED,
        sentence=f"{'; '.join(part for part in parts if part)}. {_way_out(cause, evidence)}".rstrip(),
        level=logging.INFO if cause is Cause.STARVED else logging.WARNING,
        queue="" if evidence.step is None else evidence.step.job_facts.get("queue", ""),
        stack="" if step is None else step.text(quick=quick),
        facts={
            "loop": loop,
            "seconds": round(seconds, 6),
            "over": over,
            "cause": cause.value,
            "jobs_delayed": evidence.jobs_delayed,
            **({} if evidence.working is None else {"working": round(evidence.working, 6)}),
            **_facts(evidence, place),
            **({"held_back": held} if held else {}),
        },
    )


def resumed(loop: str, evidence: Evidence, *, seconds: float, first: Finding) -> Finding:
    """Return what is to be told when a loop turns again of which *first* was told while it was blocked.

    Args:
        evidence: Of the step that took longest; what was told first may have been another.
        seconds: For how long the loop did not turn.
    """
    cause, told = cause_of(evidence), first.facts["cause"]
    step = evidence.other if cause is Cause.OTHER_THREAD else evidence.step
    place = None if step is None else step.culprit()
    reason = f", {evidence.blocked:.2f} s of it" if evidence.part else ""
    if cause is Cause.CODE and place is not None:
        before = "" if evidence.exact else "an operation that ended at or just before "
        reason += f" by {before}{place[2]}() at {place[0]}:{place[1]}"
    elif cause is Cause.MANY_STEPS:
        reason = " by no single step, but by many that were ready at once"
        if place is not None:
            reason += f", the longest {place[2]}() at {place[0]}:{place[1]} with {evidence.longest:.2f} s"
    collected = f", {evidence.garbage:.2f} s of it by the garbage collector" if evidence.garbage else ""
    wrong = ", which was not the cause after all" if Cause.GARBAGE_COLLECTION.value == told != cause.value else ""
    return Finding(
        kind=FindingKind.LOOP_RESUMED,
        sentence=f"event loop {loop!r} turns again, after it was blocked for {seconds:.2f} s"
        f"{reason}{collected}{wrong}.",
        level=logging.INFO,
        queue="" if evidence.step is None else evidence.step.job_facts.get("queue", ""),
        facts={"loop": loop, "seconds": round(seconds, 6), "cause": cause.value, **_facts(evidence, place)},
    )


def _facts(evidence: Evidence, place: tuple[str, int, str] | None) -> dict[str, str | int | float | bool]:
    facts: dict[str, str | int | float | bool] = {}
    if evidence.part or evidence.longest:
        facts["step_seconds"] = round(evidence.longest or evidence.blocked, 6)
    if evidence.garbage:
        facts["garbage"] = round(evidence.garbage, 6)
    if evidence.step is not None and evidence.step.task_name:
        facts["task"] = evidence.step.task_name
    if evidence.step is not None:
        facts |= {name: value for name, value in evidence.step.job_facts.items() if name != "queue"}
    if place is not None:
        facts |= {"file": place[0], "line": place[1], "function": place[2], "exact": evidence.exact}
    return facts


def _where(step: Step | None, place: tuple[str, int, str] | None, exact: bool, quick: bool) -> str:
    if step is None or place is None:
        return "code that cannot be named"
    file, line, function = place
    if not step.lines:
        return f"{function}() of {file}:{line}, at a line that it has left since"
    if step.awaits:
        return f"an operation that ended just before {function}() got to its await at {file}:{line}"
    code = source(file, line, quick=quick)
    where = f"{function}() at {file}:{line}" + (f": {code}" if code else "")
    return where if exact else f"an operation that ended at or just before {where}"


def _reason(cause: Cause, evidence: Evidence, where: str) -> str:
    if cause is Cause.GARBAGE_COLLECTION:
        return f"by the garbage collector, which took {evidence.garbage:.2f} s, while it was in {where}"
    if cause is Cause.MANY_STEPS:
        return f"by no single step, but by many that were ready at once, one of them {where}"
    if cause is Cause.OTHER_THREAD:
        thread = f"thread {evidence.other_thread!r} in {where}" if evidence.other is not None else "another thread"
        return f"because {thread} kept the interpreter to itself"
    if cause is Cause.UNSEEN:
        return "by an operation that let nobody look while it went on"
    if cause is Cause.STARVED:
        return "though nothing of the program ran in its thread: the process got no processor, or was stopped"
    return f"by {where}"


def _whose(cause: Cause, step: Step | None) -> str:
    if step is None or cause in (Cause.OTHER_THREAD, Cause.STARVED):
        return ""
    if cause is Cause.UNSEEN and not step.ended:
        return ""
    ended = "the last step before it could be seen was that of " if cause is Cause.UNSEEN else "it is "
    task = f"asyncio task {step.task_name!r}" if step.task_name else "a callback"
    job = step.job_facts
    if not job:
        return f"{ended}{task}"
    name = f" ({job['job']})" if "job" in job else ""
    return f"{ended}{task} at work on job {job['job_id']} of queue {job['queue']!r}{name}"


def _way_out(cause: Cause, evidence: Evidence) -> str:
    if cause is Cause.GARBAGE_COLLECTION:
        return "Keep fewer objects, or call gc.freeze() when the program has started and raise gc.set_threshold()."
    if cause is Cause.CODE and evidence.computes and not evidence.waits:
        return "It computes: do that in a process pool, or in parts with `await asyncio.sleep(0)` between them."
    if cause is Cause.CODE:
        return "It waits: await something asynchronous instead, or call it through asyncio.to_thread()."
    if cause is Cause.MANY_STEPS:
        return "Take fewer jobs at once, or spread them over more processes."
    if cause is Cause.OTHER_THREAD:
        return "What computes without a break belongs in a process of its own."
    return ""
