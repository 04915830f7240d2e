"""What one look after the other says of a time that a loop does not turn."""

from types import CodeType

import pytest

from otel_sched.diagnostics.blame import Cause, cause_of
from otel_sched.diagnostics.culprit import Step
from otel_sched.diagnostics.spells import Block, Sighting


def charge() -> None:
    """Be a function to blame."""


def ship() -> None:
    """Be another one."""


def at(code: CodeType, line: int = 1) -> Step:
    """Return a step that is a callback of its own."""
    return Step(lines=[(code, line, __name__)])


def block(collected: float = 0.0) -> Block:
    """Return a block since the instant 0; *collected* is the part of the time that the garbage collector took."""
    return Block(0, 0.0, 0.0, 0.0, lambda since, until: collected * (until - since))


def see(of: Block, at: float, step: Step, *, wanted: float | None = None, worked: float = 0.0) -> None:
    """Look at the instant *at*."""
    wanted = at if wanted is None else wanted
    of.add(Sighting(count=0, at=at, wanted=wanted, step=step, worked=worked, all_worked=worked, collecting=True))


def in_charge_then_in_ship(line: int) -> Step:
    """Return a step of one task, which calls first the one and then the other function."""
    inner = (charge if line == 1 else ship).__code__
    return Step(lines=[(block.__code__, line, __name__), (inner, line, __name__)])


def test_the_step_that_hangs_is_told_apart_from_the_one_before_it() -> None:
    """A short one, then a long one, within one turn: each has its own seconds."""
    hang = block()
    for now in (0.05, 0.1):
        see(hang, now, at(charge.__code__))
    assert hang.current is not None
    assert hang.current.seconds == 0.1
    for now in (0.15, 0.2, 12.1):
        see(hang, now, at(ship.__code__))
    hang.end(12.12, 0.1)
    assert hang.changes == 1
    longest = hang.longest_so_far()
    assert longest is not None
    assert longest.seconds == pytest.approx(11.97)
    evidence = hang.evidence(longest, 12.12)
    assert evidence.step is not None
    assert evidence.step.place == (ship.__code__, 1)
    assert evidence.part
    assert hang.of_all(12.12) is None, "one of them took most of it"


def test_many_steps_of_which_none_took_long_are_told_together() -> None:
    """With the longest of them."""
    noise = block()
    codes = [function.__code__ for function in (charge, ship)]
    for number in range(12):
        see(noise, 0.05 * (number + 1), at(codes[number // 2 % 2], number))
    evidence = noise.of_all(0.6)
    assert evidence is not None
    assert cause_of(evidence) is Cause.MANY_STEPS
    assert 0.0 < evidence.longest <= 0.1 + 1e-9


def test_what_held_the_lock_while_somebody_waited_is_to_blame_and_not_where_the_step_is_next() -> None:
    """A sort of 0.12 s, seen at its end; a moment later the same step is at the line after it."""
    held = block()
    see(held, 0.12, in_charge_then_in_ship(1), wanted=0.05, worked=0.12)
    see(held, 0.13, in_charge_then_in_ship(2), worked=0.13)
    assert held.current is not None
    assert held.current.step.place == (charge.__code__, 1)
    assert held.current.evidence().certain
    for now in (0.2, 0.3):
        see(held, now, in_charge_then_in_ship(2), worked=0.13)
    assert held.current.step.place == (ship.__code__, 2), "that one lasts"


def test_a_step_that_held_the_lock_began_before_it_was_seen() -> None:
    """At the latest when somebody wanted to look and could not."""
    hang = block()
    see(hang, 0.05, at(charge.__code__))
    see(hang, 3.0, at(ship.__code__), wanted=0.1, worked=2.9)
    assert hang.current is not None
    assert hang.current.seconds == pytest.approx(2.9)
    assert hang.current.evidence().certain


@pytest.mark.parametrize(("worked", "waits"), [(0.1, True), (0.12, False)])
def test_what_got_nothing_done_between_the_looks_waits(worked: float, waits: bool) -> None:
    """Whatever it had computed before: a client sets up TLS, then waits for the answer."""
    client = block()
    see(client, 0.1, at(charge.__code__), worked=0.1)
    see(client, 0.15, at(charge.__code__), worked=worked)
    assert client.current is not None
    assert client.current.evidence().waits is waits


def test_garbage_is_summed_over_all_looks() -> None:
    """And at the end only the sum counts, not what was at work in the last look."""
    report = block(collected=0.3)
    for now in (0.05, 0.1, 0.5):
        see(report, now, at(charge.__code__), worked=now)
    report.end(0.55, 0.1)
    assert report.current is not None
    assert report.current.garbage == pytest.approx(0.165)
    assert cause_of(report.evidence(report.current, 0.55)) is Cause.CODE


def test_what_was_seen_long_before_the_end_gets_no_time_for_that() -> None:
    """Nobody knows what was at work meanwhile."""
    hang = block()
    see(hang, 0.05, at(charge.__code__))
    hang.end(5.0, 0.1)
    assert hang.current is not None
    assert hang.current.seconds == 0.05
    assert hang.evidence(hang.current, 5.0).part
