"""What is to blame for a loop that does not turn, decided from what was seen."""

from typing import Any

import pytest

from otel_sched.diagnostics.blame import Cause, Evidence, blocked, cause_of, resumed
from otel_sched.diagnostics.culprit import Step


def at_work() -> Step:
    """Return a step of a task, in this file."""
    return Step(lines=[(at_work.__code__, at_work.__code__.co_firstlineno, __name__)], task_name="Task-1")


def nothing() -> Step:
    """Return a look that found nothing but the loop itself."""
    return Step()


@pytest.mark.parametrize(
    ("evidence", "cause"),
    [
        ({"working": 0.0}, Cause.CODE),
        ({"working": 0.4}, Cause.CODE),
        ({"working": None}, Cause.CODE),
        ({"working": 0.4, "overslept": 0.4}, Cause.CODE),
        ({"working": 0.2, "overslept": 0.4, "others_working": 0.01}, Cause.CODE),
        ({"working": 0.0, "overslept": 0.4, "others_working": 0.01}, Cause.CODE),
        ({"working": 0.4, "changed": True}, Cause.MANY_STEPS),
        ({"working": 0.4, "overslept": 0.4, "garbage": 0.3}, Cause.GARBAGE_COLLECTION),
        ({"working": 0.4, "overslept": 0.4, "garbage": 0.1}, Cause.CODE),
        ({"working": 0.4, "garbage": 0.3, "collecting": False}, Cause.CODE),
        ({"working": 0.01, "overslept": 0.4, "others_working": 0.4}, Cause.OTHER_THREAD),
        ({"working": 0.4, "overslept": 0.4, "others_working": 0.8}, Cause.CODE),  # they compute without the lock
        ({"working": 0.01, "overslept": 0.1, "others_working": 0.4}, Cause.CODE),
        ({"working": 0.0, "step": nothing()}, Cause.STARVED),
        ({"working": 0.0, "step": nothing(), "overslept": 0.5}, Cause.STARVED),
        ({"working": 0.0, "step": nothing(), "overslept": 0.5, "others_working": 0.5}, Cause.OTHER_THREAD),
        ({"working": 0.5, "step": nothing(), "overslept": 0.5}, Cause.UNSEEN),
        ({"working": 0.5, "step": None, "overslept": 0.5}, Cause.UNSEEN),
    ],
)
def test_the_cause_follows_from_what_was_seen(evidence: dict[str, Any], cause: Cause) -> None:
    """Of half a second that a loop did not turn."""
    assert cause_of(Evidence(**{"blocked": 0.5, "step": at_work(), **evidence})) is cause


def test_a_step_that_held_the_lock_is_certain() -> None:
    """Nobody else could run meanwhile, so that no second look is needed."""
    assert Evidence(blocked=0.5, step=at_work(), working=0.4, overslept=0.4).certain
    assert not Evidence(blocked=0.5, step=at_work(), working=0.4, overslept=0.1).certain
    assert not Evidence(blocked=0.5, step=nothing(), working=0.4, overslept=0.4).certain
    assert not Evidence(blocked=0.5, step=at_work(), working=0.0, overslept=0.4).certain


def test_where_nobody_computed_or_looked_the_process_may_have_been_stopped() -> None:
    """SIGSTOP looks like a call that keeps the lock and waits: both are said."""
    stopped = Evidence(blocked=0.5, step=at_work(), working=0.0, overslept=0.5)
    assert "or the process was stopped" in blocked("main", stopped, seconds=0.5, over=False).sentence
    waits = Evidence(blocked=0.5, step=at_work(), working=0.0, overslept=0.1)
    assert "or the process was stopped" not in blocked("main", waits, seconds=0.5, over=False).sentence


def test_the_way_out_depends_on_what_it_does() -> None:
    """Waiting belongs in a thread, computing in a process."""
    waits = blocked("main", Evidence(blocked=0.5, step=at_work(), working=0.0), seconds=0.5, over=False)
    computes = blocked("main", Evidence(blocked=0.5, step=at_work(), working=0.5), seconds=0.5, over=False)
    assert "asyncio.to_thread()" in waits.sentence
    assert "process pool" in computes.sentence
    computed = Evidence(blocked=0.5, step=at_work(), working=0.2, waits=True)
    assert "asyncio.to_thread()" in blocked("main", computed, seconds=0.5, over=False).sentence


def test_the_sentence_says_whether_it_is_over() -> None:
    """And how often it was like this and not told."""
    evidence = Evidence(blocked=0.5, step=at_work(), working=0.0)
    lasts, past = (blocked("main", evidence, seconds=0.5, over=over, held=3) for over in (False, True))
    assert lasts.sentence.startswith("event loop 'main' has been blocked for 0.50 s by at_work() at ")
    assert past.sentence.startswith("event loop 'main' was blocked for 0.50 s by at_work() at ")
    assert "not told of: 3" in lasts.sentence
    assert lasts.facts["held_back"] == 3


def test_a_line_that_only_followed_is_not_called_the_culprit() -> None:
    """An operation without a call lets go at the next place where others get a turn."""
    step = at_work()
    step.exact = False
    held = Evidence(blocked=0.5, step=step, working=0.5, overslept=0.5)
    first = blocked("main", held, seconds=0.5, over=False)
    assert "an operation that ended at or just before at_work() at " in first.sentence
    assert first.facts["exact"] is False
    over = resumed("main", held, seconds=0.6, first=first)
    assert "by an operation that ended at or just before at_work() at " in over.sentence
    assert over.facts["exact"] is False
    seen = Evidence(blocked=0.5, step=step, working=0.5)
    assert blocked("main", seen, seconds=0.5, over=False).facts["exact"] is True, "nobody was kept from looking"


def test_an_await_is_never_called_the_culprit() -> None:
    """Held or not: what stands there has not begun to wait, or does not run any more."""
    step = at_work()
    step.exact, step.awaits = False, True
    finding = blocked("main", Evidence(blocked=0.5, step=step, working=0.5), seconds=0.5, over=False)
    assert "by an operation that ended just before at_work() got to its await at " in finding.sentence
    assert finding.facts["exact"] is False


def test_the_step_that_ended_before_anybody_could_look_is_told() -> None:
    """As the last that ran, not as the culprit."""
    step = Step(task_name="orders-0", job_facts={"queue": "orders", "job_id": "1"}, ended=True)
    finding = blocked("main", Evidence(blocked=0.5, step=step, working=0.5, overslept=0.4), seconds=0.5, over=True)
    assert finding.facts["cause"] == "unseen"
    assert finding.facts["job_id"] == "1"
    assert "the last step before it could be seen was that of asyncio task 'orders-0'" in finding.sentence
    assert "at work on job 1 of queue 'orders'" in finding.sentence


def test_a_coroutine_that_has_gone_on_is_named_by_its_definition() -> None:
    """Where nothing of it is left on the stack but the loop's own code."""
    step = Step(lines=[(at_work.__code__, 1, "asyncio.base_events")], task_name="Task-1", coroutine=at_work.__code__)
    finding = blocked("main", Evidence(blocked=0.5, step=step, working=0.0), seconds=0.5, over=True)
    assert (finding.facts["file"], finding.facts["line"]) == (__file__, at_work.__code__.co_firstlineno)


def test_when_it_turns_again_the_garbage_collector_gets_its_part() -> None:
    """The whole time, and what took it."""
    evidence = Evidence(blocked=1.5, step=at_work(), working=0.1, garbage=0.25)
    first = blocked("main", evidence, seconds=0.1, over=False)
    finding = resumed("main", evidence, seconds=1.5, first=first)
    assert finding.sentence.startswith(
        "event loop 'main' turns again, after it was blocked for 1.50 s by at_work() at "
    )
    assert finding.sentence.endswith(", 0.25 s of it by the garbage collector.")
    assert finding.facts["seconds"] == 1.5
    assert finding.facts["cause"] == "code"


def test_when_it_turns_again_a_wrong_cause_is_taken_back() -> None:
    """Most of the beginning was the garbage collector's, and most of all was not."""
    early = Evidence(blocked=0.19, step=at_work(), working=0.19, garbage=0.13)
    first = blocked("main", early, seconds=0.19, over=False)
    assert first.facts["cause"] == "garbage_collection"
    assert "by the garbage collector, which took 0.13 s" in first.sentence
    finding = resumed("main", Evidence(blocked=1.05, step=at_work(), garbage=0.2), seconds=1.05, first=first)
    assert finding.facts["cause"] == "code"
    assert "1.05 s by at_work() at " in finding.sentence
    assert finding.sentence.endswith("0.20 s of it by the garbage collector, which was not the cause after all.")


def test_of_several_steps_each_is_told_its_own_seconds() -> None:
    """And the whole."""
    evidence = Evidence(blocked=2.0, step=at_work(), working=0.0, part=True)
    first = blocked("main", evidence, seconds=2.12, over=False)
    assert "blocked for 2.12 s, 2.00 s of it by at_work() at " in first.sentence
    over = resumed("main", evidence, seconds=2.12, first=first)
    assert "blocked for 2.12 s, 2.00 s of it by at_work() at " in over.sentence
    assert over.facts["step_seconds"] == first.facts["step_seconds"] == 2.0
    many = Evidence(blocked=0.7, step=at_work(), working=0.0, changed=True, longest=0.16)
    over = resumed("main", many, seconds=0.7, first=first)
    assert "by no single step, but by many that were ready at once, the longest at_work() at " in over.sentence
    assert over.sentence.endswith(" with 0.16 s.")
    assert over.facts["step_seconds"] == 0.16
