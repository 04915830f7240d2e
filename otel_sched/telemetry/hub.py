"""Floor 5: what all queues of one observer share: providers, books, and who listens to which queue."""

import os
import sys
import threading
import weakref
from typing import Any

from opentelemetry import trace

from .._core.consumer import sweep as sweep_consumers
from .._core.job import Job
from .._core.ledger import Ledger
from .._core.observer import Calls, Listener
from . import interest
from .books import Books
from .calls import OtelCalls
from .listener import OtelListener
from .providers import FAST, Providers, live, logs_state, metrics_state, trace_state


class Hub:
    """The OpenTelemetry side of one observer."""

    def __init__(self, tracer_provider: Any, meter_provider: Any, logger_provider: Any, fast: bool = True) -> None:
        self.given = tracer_provider, meter_provider, logger_provider  # held: their ids are a key
        self.fast = fast
        self.providers = Providers(*self.given, fast=fast)
        self._books = Books(self.providers, self.sweep)
        self.findings: Any = None
        """Who tells through the same providers what diagnostics find, if anybody does."""
        self._listeners: set[weakref.ref[OtelListener]] = set()  # no WeakSet: an exporter's thread walks over it

    def watch(self, ledger: Ledger) -> Listener:
        """Keep the ledger's counts for the exporters, and listen as soon as there is anybody to tell."""
        self._books.add(ledger)
        return self.listener(ledger) if self.providers.live() else Dormant(self, ledger)

    def listener(self, ledger: Ledger) -> OtelListener:
        """Return who tells of the jobs of *ledger*."""
        listener = self._fast_listener(ledger) or OtelListener(self.providers, ledger)
        self._listeners.add(weakref.ref(listener, self._listeners.discard))
        return listener

    def _fast_listener(self, ledger: Ledger) -> OtelListener | None:
        """Return one that makes light spans, where the spans go to a tracer provider that is the SDK's own."""
        sdk = sys.modules.get("opentelemetry.sdk.trace")
        provider: Any = self.given[0] or trace.get_tracer_provider()
        if not self.fast or sdk is None or type(provider) is not sdk.TracerProvider:
            return None
        try:
            from .fast.choice import fast_listener
        except ImportError:  # an SDK in which something is not where it was
            return None
        return fast_listener(self.providers, ledger, provider)

    def wrap(self, name: str, function: str) -> Calls:
        """Return who tells of the calls of an instrumented function."""
        return OtelCalls(self.providers, name, function)

    def sweep(self) -> None:
        """Settle the jobs of loops that are closed, and emit what the rate limit held back."""
        sweep_consumers(self._books.ledgers())
        for listener in [each() for each in self._listeners.copy()]:
            if listener is not None:
                listener.sum_up()


_hubs: "weakref.WeakValueDictionary[tuple[Any, ...], Hub]" = weakref.WeakValueDictionary()
_lock = threading.RLock()


def _renew_lock() -> None:
    """Give a forked child a lock that no thread of its parent held."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def hub_of(tracer_provider: Any, meter_provider: Any, logger_provider: Any, *, fast: bool = True) -> Hub:
    """Return the hub of these three providers, one for all their observers: a meter's instruments exist once."""
    key = (*(id(each) for each in (tracer_provider, meter_provider, logger_provider)), fast)
    with _lock:
        hub = _hubs.get(key)
        if hub is None:
            hub = _hubs[key] = Hub(tracer_provider, meter_provider, logger_provider, fast)
        return hub


class Dormant(Listener):
    """Waits for an SDK: told of every put, it looks whether there is one by now, and then makes way."""

    dormant = True

    def __init__(self, hub: Hub, ledger: Ledger) -> None:
        self._hub = hub
        self._ledger = ledger

    if FAST:  # the one call that every put makes while there is no SDK: `live`, without its calls

        def queued(self, job: Job[Any]) -> None:
            """Make way for the listener that tells, if there is anybody to tell."""
            if (
                trace_state._TRACER_PROVIDER is not None
                or metrics_state._METER_PROVIDER is not None
                or logs_state._LOGGER_PROVIDER is not None
                or interest.correlating
            ):
                self._wake(job)

    else:

        def queued(self, job: Job[Any]) -> None:
            """Make way for the listener that tells, if there is anybody to tell."""
            if live():
                self._wake(job)

    def _wake(self, job: Job[Any]) -> None:
        queue = self._ledger.queue()
        if queue is not None:
            listener = self._hub.listener(self._ledger)
            queue._otel_listen(listener)
            listener.queued(job)
