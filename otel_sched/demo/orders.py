"""Floor 6: which orders come in, when, and what will happen to each: all of the demo's chance, drawn in one place.

With the same seed the same orders come at the same instants, whatever the machine does with them.
"""

import heapq
import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

ENDPOINTS = ("POST /orders", "POST /checkout", "POST /subscriptions")
TENANTS = ("acme", "globex", "initech")
PAYMENT_TIMEOUT = 0.5
"""Seconds that the payment provider may take."""


class Fate(StrEnum):
    """What becomes of an order."""

    FINE = "fine"
    SLOW = "slow"
    """The payment takes several times as long, but arrives."""
    SOLD_OUT = "sold out"
    DECLINED = "declined"
    NO_ANSWER = "no answer"
    """The payment provider hangs."""
    WITHDRAWN = "withdrawn"
    """The customer cancels while the payment runs."""
    RESTARTED = "restarted"
    """The worker is restarted while it holds the order."""
    BOUNCED = "bounced"


# Dealt out in random order, again and again, so that a run of a second has one of each.
DECK = (Fate.FINE,) * 16 + tuple(Fate)[1:]


@dataclass(frozen=True, slots=True)
class Order:
    """One order; what it takes at each stage is in seconds."""

    number: int
    endpoint: str
    tenant: str
    urgent: bool
    fate: Fate
    reserve: float
    charge: float
    mail: float


class Arrivals:
    """When orders come in: steadily at *rate* a second, and every now and then a burst of more.

    *seconds* may be infinite.
    """

    def __init__(self, *, rate: float, seconds: float, seed: int) -> None:
        self.rate = rate
        self.burst = max(3, round(rate * min(4.0, 0.4 * seconds)))
        """How many orders a burst has."""
        self._seconds = seconds
        self._seed = seed

    def __iter__(self) -> Iterator[tuple[float, Order]]:
        """Yield the instant, in seconds from the start, and the order, by time; the same every time."""
        orders = _orders(random.Random(self._seed))
        for at in heapq.merge(self._steady(), self._bursts()):
            yield at, next(orders)

    def _steady(self) -> Iterator[float]:
        jitter = random.Random(self._seed)
        for n in itertools.count():
            if n >= self.rate * self._seconds:
                return
            yield (n + jitter.random()) / self.rate

    def _bursts(self) -> Iterator[float]:
        first = min(5.0, 0.3 * self._seconds)
        for n in itertools.count():
            start = first + 20.0 * n
            if n and start > self._seconds - 5.0:
                return
            yield from (start + i * 0.3 / self.burst for i in range(self.burst))


def _orders(chance: random.Random) -> Iterator[Order]:
    deck: list[Fate] = []
    for number in itertools.count(1):
        if not deck:
            deck = list(DECK)
            chance.shuffle(deck)
        fate = deck.pop()
        charge = chance.uniform(0.06, 0.12)
        if fate is Fate.SLOW:
            charge = chance.uniform(0.2, 0.3)
        elif fate is Fate.NO_ANSWER:
            charge = math.inf
        yield Order(
            number=number,
            endpoint=chance.choice(ENDPOINTS),
            tenant=chance.choices(TENANTS, (5, 3, 1))[0],
            urgent=chance.random() < 0.2,
            fate=fate,
            reserve=chance.uniform(0.01, 0.03),
            charge=charge,
            mail=chance.uniform(0.02, 0.05),
        )
