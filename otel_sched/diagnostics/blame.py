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


class Cause(StrEnum):
    """What keeps a loop from turning."""

    CODE = "code"
    """One step of the program's code: a call that blocks or computes."""
    GARBAGE_COLLECTION = "garbage_collection"
    MANY_STEPS = "many_steps"
    """No single one: more of them are ready than there is time for."""
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
    """For how long it had not turned when it was looked at."""
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
    jobs_ready: int = 0
    """How many jobs waited in queues of the loop."""
    other: Step | None = None
    """What another thread did, where there is just one that did anything."""
    other_thread: str = ""

    @property
    def certain(self) -> bool:
        """Whether one step held the interpreter's lock for most of the time: then it is to blame, and about to end."""
        seen = self.step is not None and not self.step.idle
        return seen and self.computes and self.held and not self.held_elsewhere

    @property
    def computes(self) -> bool:
        """Whether the loop's thread computes; True where one cannot say."""
        return self.working is None or self.working >= SOME * self.blocked

    @property
    def held(self) -> bool:
        """Whether nobody else could run for most of the time."""
        return self.overslept >= MOST * self.blocked

    @property
    def held_elsewhere(self) -> bool:
        """Whether another thread was what did not let it."""
        return self.held and self.others_working >= max(SOME * self.overslept, self.working or 0.0)


def cause_of(evidence: Evidence) -> Cause:
    """Decide what is to blame."""
    if evidence.garbage >= MOST * evidence.blocked:
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
        f"event loop {loop!r} {'was' if over else 'has been'} blocked for {seconds:.2f} s "
        + _reason(cause, evidence, _where(step, place, evidence.certain, quick)),
        _whose(cause, evidence.step),
        "" if not evidence.jobs_ready else f"jobs that are ready and wait in its queues: {evidence.jobs_ready}",
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
            **_facts(evidence, place),
            **({"held_back": held} if held else {}),
        },
    )


def _facts(evidence: Evidence, place: tuple[str, int, str] | None) -> dict[str, str | int | float | bool]:
    facts: dict[str, str | int | float | bool] = {"jobs_ready": evidence.jobs_ready}
    if evidence.working is not None:
        facts["working"] = round(evidence.working, 6)
    if evidence.garbage:
        facts["garbage"] = round(evidence.garbage, 6)
    if evidence.step is not None and evidence.step.task_name:
        facts["task"] = evidence.step.task_name
    if evidence.step is not None:
        facts |= {name: value for name, value in evidence.step.job_facts.items() if name != "queue"}
    if place is not None:
        facts |= {"file": place[0], "line": place[1], "function": place[2]}
    return facts


def resumed(loop: str, seconds: float, garbage: float, first: Finding) -> Finding:
    """Return what is to be told when a loop turns again of which *first* was told while it was blocked."""
    kept = ("cause", "task", "file", "line", "function", "job", "job_id", "trace_id", "span_id")
    named = first.facts["cause"] == Cause.CODE.value and "file" in first.facts
    place = f" by {first.facts['function']}() at {first.facts['file']}:{first.facts['line']}" if named else ""
    collected = f", {garbage:.2f} s of it by the garbage collector" if garbage else ""
    return Finding(
        kind=FindingKind.LOOP_RESUMED,
        sentence=f"event loop {loop!r} turns again, after it was blocked for {seconds:.2f} s{place}{collected}.",
        level=logging.INFO,
        queue=first.queue,
        facts={
            "loop": loop,
            "seconds": round(seconds, 6),
            **({"garbage": round(garbage, 6)} if garbage else {}),
            **{name: first.facts[name] for name in kept if name in first.facts},
        },
    )


def _where(step: Step | None, place: tuple[str, int, str] | None, certain: bool, quick: bool) -> str:
    if step is None or place is None:
        return "code that cannot be named"
    file, line, function = place
    if not step.lines:
        return f"{function}() of {file}:{line}, at a line that it has left since"
    if certain and not step.exact:  # where it let go is the next place at which others get a turn
        return f"an operation that ended just before {function}() at {file}:{line}"
    code = source(file, line, quick=quick)
    return f"{function}() at {file}:{line}" + (f": {code}" if code else "")


def _reason(cause: Cause, evidence: Evidence, where: str) -> str:
    if cause is Cause.GARBAGE_COLLECTION:
        return f"by the garbage collector, {evidence.garbage:.2f} s of it, while it was in {where}"
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
    if step is None or cause in (Cause.OTHER_THREAD, Cause.STARVED, Cause.UNSEEN):
        return ""
    task = f"asyncio task {step.task_name!r}" if step.task_name else "a callback"
    job = step.job_facts
    if not job:
        return f"it is {task}"
    name = f" ({job['job']})" if "job" in job else ""
    return f"it is {task} at work on job {job['job_id']} of queue {job['queue']!r}{name}"


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
