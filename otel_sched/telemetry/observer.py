"""Floor 5: OtelObserver, the default: queues and calls observed through OpenTelemetry's API."""

import contextlib
import sys
import weakref
from typing import TYPE_CHECKING, Any

from .._core.ledger import Ledger
from .._core.observer import Calls, Listener, Observer
from .keep import fast_wanted

if TYPE_CHECKING:
    from .hub import Hub

_observers: "weakref.WeakSet[OtelObserver]" = weakref.WeakSet()


class OtelObserver(Observer):
    """Observes queues through OpenTelemetry's API.

    Without an SDK it only waits for one: a queue made before the application sets its providers is observed from the
    first put after that.

    Args:
        tracer_provider: Where spans go; by default the global provider, also one that is set later.
        meter_provider: Where metrics go, likewise.
        logger_provider: Where log records go, likewise.
        fast: False to call nothing but OpenTelemetry's plain API, job by job; the telemetry is the same, and takes
            ten times as long. By default True, unless the environment says `OTEL_SCHED_FAST=false`.
    """

    def __init__(
        self,
        *,
        tracer_provider: Any = None,
        meter_provider: Any = None,
        logger_provider: Any = None,
        fast: bool | None = None,
    ) -> None:
        self._given = tracer_provider, meter_provider, logger_provider
        self._fast = fast_wanted() if fast is None else fast
        self._hub: Hub | None = None
        _observers.add(self)

    @property
    def hub(self) -> "Hub":
        """What its queues share, made with the first of them: an import of the library does not load OpenTelemetry."""
        if self._hub is None:
            from .hub import hub_of

            self._hub = hub_of(*self._given, fast=self._fast)
        return self._hub

    def watch(self, ledger: Ledger) -> Listener:
        """Keep the ledger's counts for the exporters, and listen as soon as there is anybody to tell."""
        return self.hub.watch(ledger)

    def wrap(self, name: str, function: str) -> Calls:
        """Return who tells of the calls of an instrumented function."""
        return self.hub.wrap(name, function)

    def prepare(self) -> None:
        """Load what the first queue and the first finding need, of the SDK only if that is loaded already."""
        from . import findings, hub  # noqa: F401

        if self._fast and "opentelemetry.sdk.trace" in sys.modules:
            with contextlib.suppress(ImportError):  # an SDK in which something is not where it was
                from .fast.choice import understood

                understood()

    def sweep(self) -> None:
        """Settle what can never end by itself: a flush does this first."""
        if self._hub is not None:
            self._hub.sweep()


def sweep() -> None:
    """Do so for all observers."""
    for observer in list(_observers):
        observer.sweep()
