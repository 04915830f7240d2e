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
        ({"working": 0.01, "overslept": 0.4, "others_working": 0.4}, Cause.OTHER_THREAD),
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
    assert (
        "an operation that ended just before at_work() at " in blocked("main", held, seconds=0.5, over=False).sentence
    )


def test_a_coroutine_that_has_gone_on_is_named_by_its_definition() -> None:
    """Where nothing of it is left on the stack but the loop's own code."""
    step = Step(lines=[(at_work.__code__, 1, "asyncio.base_events")], task_name="Task-1", coroutine=at_work.__code__)
    finding = blocked("main", Evidence(blocked=0.5, step=step, working=0.0), seconds=0.5, over=True)
    assert (finding.facts["file"], finding.facts["line"]) == (__file__, at_work.__code__.co_firstlineno)


def test_when_it_turns_again_the_garbage_collector_gets_its_part() -> None:
    """The whole time, and what was told first."""
    first = blocked("main", Evidence(blocked=0.1, step=at_work(), working=0.1), seconds=0.1, over=False)
    finding = resumed("main", 1.5, 0.25, first)
    assert finding.sentence.startswith(
        "event loop 'main' turns again, after it was blocked for 1.50 s by at_work() at "
    )
    assert finding.sentence.endswith(", 0.25 s of it by the garbage collector.")
    assert finding.facts["seconds"] == 1.5
    assert finding.facts["cause"] == "code"
