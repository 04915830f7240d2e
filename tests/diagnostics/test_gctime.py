"""How long the garbage collector was at work."""

import gc

import pytest

from otel_sched._core.clock import monotonic
from otel_sched.diagnostics import gctime
from otel_sched.diagnostics.gctime import Pauses


def test_a_collection_is_timed_and_a_young_one_is_not() -> None:
    """Only the part of it that lies between the two instants counts."""
    pauses = Pauses()
    pauses.attend()
    began = monotonic()
    gc.collect(0)
    assert pauses.within(began, monotonic()) == 0.0
    gc.collect()
    ended = monotonic()
    pauses.leave()
    took = pauses.within(began, ended)
    assert 0.0 < took <= ended - began
    assert pauses.within(ended, ended + 1.0) == 0.0
    assert pauses.within(began - 1.0, began) == 0.0


def test_one_that_goes_on_counts_as_well() -> None:
    """Up to the instant that is asked for."""
    pauses = Pauses()
    pauses._collecting("start", {"generation": 2})
    began = pauses._began
    assert began is not None
    assert pauses.within(began - 1.0, began + 0.25) == 0.25
    pauses._collecting("stop", {"generation": 2})
    assert pauses.within(began, began + 60.0) < 60.0


def test_many_short_ones_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that makes objects sets off hundreds a second: the sum is right, and only a moment's are kept apart."""
    now = 100.0
    monkeypatch.setattr(gctime, "monotonic", lambda: now)
    pauses = Pauses()
    for _ in range(3000):
        now += 0.0004
        pauses._collecting("start", {"generation": 1})
        assert pauses.collecting
        now += 0.0001
        pauses._collecting("stop", {"generation": 1})
        assert not pauses.collecting
    assert pauses.within(100.0, now) == pytest.approx(0.3)
    assert pauses.within(now - 1.0, now) == pytest.approx(0.2, abs=0.002)
    assert len(pauses._recent) < gctime.KEPT


def test_the_hook_is_there_while_somebody_wants_it() -> None:
    """Once, however many do."""
    pauses = Pauses()
    pauses.attend()
    pauses.attend()
    assert gc.callbacks.count(pauses._collecting) == 1
    pauses.leave()
    assert gc.callbacks.count(pauses._collecting) == 1
    pauses.leave()
    assert gc.callbacks.count(pauses._collecting) == 0
