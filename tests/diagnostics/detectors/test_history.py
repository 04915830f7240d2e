"""The p99 of a kind of job is near the true one, and forgets what was long ago."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_sched._core.job import Outcome
from otel_sched._core.ledger import Series
from otel_sched.diagnostics.detectors.history import ENOUGH, FORGET, MAX_KINDS, Durations, History, stalled

SECONDS = st.floats(1e-5, 1e5)


@given(st.lists(SECONDS, min_size=ENOUGH, max_size=3 * ENOUGH))
def test_the_p99_is_at_most_a_tenth_above_the_true_one(runs: list[float]) -> None:
    """Never below it: a job is not slow for what the buckets round off."""
    durations = Durations()
    for seconds in runs:
        durations.add(seconds)
    true = sorted(runs)[math.ceil(0.99 * len(runs)) - 1]
    found = durations.p99()
    assert found is not None
    assert true * (1 - 1e-9) <= found <= true * 1.0906


@given(st.lists(SECONDS, max_size=ENOUGH - 1))
def test_of_too_few_runs_nothing_is_said(runs: list[float]) -> None:
    """Up to 99 there is no hundredth."""
    durations = Durations()
    for seconds in runs:
        durations.add(seconds)
    assert durations.p99() is None


@given(st.lists(SECONDS, min_size=ENOUGH, max_size=2 * ENOUGH), st.lists(SECONDS, max_size=ENOUGH))
def test_those_that_run_count_as_if_they_ended_now(runs: list[float], running: list[float]) -> None:
    """The p99 of both together is that of a history in which all have ended."""
    some, all_of_them = Durations(), Durations()
    for seconds in runs:
        some.add(seconds)
    for seconds in runs + running:
        all_of_them.add(seconds)
    assert some.p99(running) == all_of_them.p99()
    assert some.total == len(runs)


@given(st.lists(st.integers(0, 50), unique=True), st.sets(st.integers(0, 50)))
def test_jobs_hang_since_a_change_if_more_run_than_have_ended_of_those_taken_since(
    taken: list[int], ended: set[int]
) -> None:
    """There is such an instant, just after one of those that have ended was taken."""
    running = sorted(set(taken) - ended)
    found = stalled([float(each) for each in running], [float(each) for each in ended])
    since = [
        sum(each > change for each in running)
        for change in ended
        if sum(each > change for each in running) > sum(each > change for each in ended)
    ]
    assert found == max(since, default=0)


def test_it_follows_a_change() -> None:
    """When jobs have become ten times as long, so has the p99, however many there were before."""
    durations = Durations()
    for _ in range(10 * FORGET):
        durations.add(0.1)
    for _ in range(FORGET):
        durations.add(1.0)
    assert durations.p99() == pytest.approx(1.0, rel=0.1)
    assert durations.total < FORGET


@pytest.mark.parametrize("outcome", list(Outcome))
def test_only_runs_that_came_to_their_end_count(outcome: Outcome) -> None:
    """A cancelled run was cut short, and of an unobserved one nothing is known."""
    history = History()
    history.fold("orders", [(None, Series("charge", "shop.charge"), outcome, 1.0, 2.0)])
    counted = history.of("orders", "charge") is not None
    assert counted is (outcome in {Outcome.OK, Outcome.ERROR, Outcome.TIMEOUT})


def test_kinds_without_end_take_no_memory_without_end() -> None:
    """Beyond so many kinds no more are measured."""
    history = History()
    for number in range(MAX_KINDS + 10):
        history.fold(f"queue-{number}", [(None, Series("charge", ""), Outcome.OK, 1.0, 2.0)])
    assert history.of(f"queue-{MAX_KINDS - 1}", "charge") is not None
    assert history.of(f"queue-{MAX_KINDS}", "charge") is None
