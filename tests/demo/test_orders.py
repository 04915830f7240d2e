"""The demo's orders: the same for a seed, at their rate, with every mishap in each hand that is dealt."""

import itertools
from collections import Counter

from otel_sched.demo.orders import DECK, Arrivals, Fate


def test_a_seed_makes_the_same_orders_again() -> None:
    """The same arguments give the same orders at the same instants; another seed gives others."""
    first = list(Arrivals(rate=20, seconds=3, seed=7))

    assert list(Arrivals(rate=20, seconds=3, seed=7)) == first
    assert list(Arrivals(rate=20, seconds=3, seed=8)) != first


def test_orders_come_at_their_rate_with_a_burst() -> None:
    """There are rate x seconds of them and a burst, by time, numbered from one, all within the run."""
    arrivals = Arrivals(rate=20, seconds=10, seed=1)
    instants = [at for at, _ in arrivals]

    assert arrivals.burst == 80
    assert len(instants) == 20 * 10 + 80
    assert instants == sorted(instants)
    assert 0 <= instants[0] <= instants[-1] <= 10
    assert [order.number for _, order in arrivals] == list(range(1, len(instants) + 1))
    assert sum(3.0 <= at < 3.5 for at in instants) >= 80


def test_a_run_without_an_end_has_bursts_again_and_again() -> None:
    """An infinite run has a burst of four seconds' worth at 5 s, 25 s, 45 s, ..."""
    arrivals = Arrivals(rate=10, seconds=float("inf"), seed=1)
    instants = [at for at, _ in itertools.takewhile(lambda each: each[0] < 50, arrivals)]

    assert [sum(start <= at < start + 0.5 for at in instants) >= 40 for start in (5, 25, 45)] == [True] * 3
    assert len(instants) == 50 * 10 + 3 * 40


def test_every_hand_has_every_mishap() -> None:
    """As many orders as the deck has cards meet every fate."""
    fates = Counter(order.fate for _, order in itertools.islice(Arrivals(rate=20, seconds=9, seed=3), len(DECK)))

    assert fates == Counter(DECK)
    assert set(fates) == set(Fate)


def test_a_slow_trickle_has_a_burst_too() -> None:
    """Even at one order in ten seconds there is something to see."""
    assert Arrivals(rate=0.1, seconds=1, seed=1).burst == 3
