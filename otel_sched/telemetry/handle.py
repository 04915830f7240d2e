"""Floor 5: what `configure()` returns: flush and shut down, bounded in time, out of the event loop's way."""

import asyncio
import atexit
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from opentelemetry import _logs as otel_logs
from opentelemetry import metrics as otel_metrics
from opentelemetry import trace as otel_trace

from .counting import ExporterStats, stats_of
from .endpoint import Signal
from .export.workers import at_worker_exit
from .lanes import Call, Lane, run_async, run_blocking
from .settings import Settings, check_seconds

if TYPE_CHECKING:  # they import the SDK
    from .export.sender import Sender
    from .pipeline import Pipeline

_ITEMS = {"traces": "spans", "metrics": "metric points", "logs": "log records"}
MARGIN = 0.05
_log = logging.getLogger("otel_sched")


class Telemetry:
    """What `configure()` set up, until `shutdown()`.

    `tracer_provider`, `meter_provider` and `logger_provider` are the providers that are now OpenTelemetry's
    global ones; a signal that is off has a provider that does nothing. Use it as `async with` or `with` to
    have it shut down.
    """

    tracer_provider: otel_trace.TracerProvider
    meter_provider: otel_metrics.MeterProvider
    logger_provider: otel_logs.LoggerProvider

    def __init__(self, settings: Settings, pipeline: "Pipeline", restore_logging: Callable[[], None]) -> None:
        self.settings = settings
        self._pipeline = pipeline
        self._restore_logging = restore_logging
        self._lanes = {signal: Lane(signal) for signal, _ in pipeline.providers()}
        self._results: dict[str, bool] = {}
        self._lock = threading.Lock()
        self._closing = False
        self.tracer_provider = pipeline.tracer_provider or otel_trace.NoOpTracerProvider()
        self.meter_provider = pipeline.meter_provider or otel_metrics.NoOpMeterProvider()
        self.logger_provider = pipeline.logger_provider or otel_logs.NoOpLoggerProvider()
        if settings.shutdown_on_exit:
            atexit.register(self._at_exit)
            at_worker_exit(self, Telemetry._at_exit)

    async def flush(self, timeout: float = 5.0) -> bool:
        """Export what waits now; the event loop goes on meanwhile.

        Returns:
            True when all was exported; False when *timeout* seconds ran out or an exporter failed. What had
            not been exported by then is still tried.
        """
        check_seconds("timeout", timeout)
        if self._closing:
            return self._all_well()
        _sweep()
        return await run_async("flush", self._calls(self._flush, timeout), timeout)

    async def shutdown(self, timeout: float = 5.0) -> bool:
        """Export what waits and end the export, within *timeout* seconds; the event loop goes on meanwhile.

        What `configure()` added to the application's logging is removed. A further call waits for the first
        one's end, again for *timeout* seconds at most, and returns the same.

        Returns:
            True when all was exported; False when time ran out or an exporter failed.
        """
        check_seconds("timeout", timeout)
        self._close_logging()
        if not self._is_down():
            await run_async("shutdown", self._calls(self._shut, timeout), timeout)
        return self._all_well()

    def close(self, timeout: float = 5.0) -> bool:
        """Do as `shutdown()` does, for code without an event loop.

        Raises:
            RuntimeError: Called while an event loop runs in this thread, which it would block.
        """
        check_seconds("timeout", timeout)
        if _in_loop():
            raise RuntimeError("close() would block the running event loop: use `await telemetry.shutdown()`")
        return self._finish(timeout)

    def stats(self) -> tuple[ExporterStats, ...]:
        """Return what each exporter has done so far."""
        for sender in self._pipeline.senders:
            sender.sweep()
        return tuple(stats_of(count) for count in self._pipeline.counts)

    def _finish(self, timeout: float) -> bool:
        self._close_logging()
        if not self._is_down():
            run_blocking("shutdown", self._calls(self._shut, timeout), timeout)
        return self._all_well()

    def _close_logging(self) -> None:
        """Begin to end: what the application logs from here on would only be dropped."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
        atexit.unregister(self._at_exit)
        _sweep()
        self._restore_logging()

    def _is_down(self) -> bool:
        return len(self._results) == len(self._lanes)

    def _all_well(self) -> bool:
        return self._is_down() and all(self._results.values())

    def _calls(self, act: Callable[[Signal, Any, float], bool], timeout: float) -> Mapping[Lane, Call]:
        """Return what each lane is to do, its deadline set now: a call may have to wait for its turn.

        It ends a little before *timeout*, so that the counts are final when whoever waits for it looks at them.
        """
        deadline = time.monotonic() + timeout - min(MARGIN, timeout / 10)
        return {
            self._lanes[signal]: partial(act, signal, provider, deadline)
            for signal, provider in self._pipeline.providers()
        }

    def _flush(self, signal: Signal, provider: Any, deadline: float) -> bool:
        """Export what waits in one signal; runs in its lane."""
        failed = self._failed(signal)
        well = provider.force_flush(_millis(deadline)) is not False
        if signal == "metrics":  # readers do not say what became of it
            well = well and all(sender.flush(deadline) for sender in self._senders(signal))
        return well and self._failed(signal) == failed

    def _shut(self, signal: Signal, provider: Any, deadline: float) -> bool:
        """Shut one signal down, the first time; runs in its lane."""
        if signal in self._results:
            return self._results[signal]
        failed = self._failed(signal)
        try:
            if signal == "metrics":  # its readers collect once more, and only then may the senders close
                try:
                    provider.shutdown(_millis(deadline))
                finally:
                    self._close_senders(signal, deadline)
            else:
                self._close_senders(signal, deadline)
                provider.shutdown()
            well = self._failed(signal) == failed
            if signal == "metrics":
                well = well and not self._missing(signal) and not self._pipeline.collecting()
        except Exception as error:
            _log.warning("shutting down %s failed: %s", signal, error)
            well = False
        self._results[signal] = well
        self._lanes[signal].stop()
        return well

    def _close_senders(self, signal: Signal, deadline: float) -> None:
        """End the export at *deadline*, which the SDK's shutdown() would not know of."""
        senders = self._senders(signal)
        for sender in senders:
            sender.begin_close(deadline)
        for sender in senders:
            sender.close(deadline)

    def _senders(self, signal: Signal) -> "list[Sender]":
        return [sender for sender in self._pipeline.senders if sender.count.signal == signal]

    def _failed(self, signal: Signal) -> int:
        return sum(count.failed for count in self._pipeline.counts if count.signal == signal)

    def _missing(self, signal: Signal) -> int:
        return sum(each.missing for each in self.stats() if each.signal == signal)

    def _at_exit(self) -> None:
        self._say_if_lost(self._finish(self.settings.exit_timeout))

    def _say_if_lost(self, all_well: bool) -> None:
        if not all_well:
            _log.warning("telemetry was lost, for it could not be exported in time: %s", _losses(self.stats()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._say_if_lost(await self.shutdown())

    def __enter__(self) -> Self:
        if _in_loop():  # to find out at the end would cost the block's own exception
            raise RuntimeError("`with` would block the running event loop at its end: use `async with`")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._say_if_lost(self.close())

    @property
    def closed(self) -> bool:
        """True once `shutdown()` or `close()` was called."""
        return self._closing

    def __repr__(self) -> str:
        state = "shut down" if self._closing else "running"
        return f"<Telemetry {state}: {', '.join(self._lanes) or 'disabled'}>"


def _in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _sweep() -> None:
    """Have the observer settle the jobs of event loops that were closed, for nobody else will."""
    from . import observer

    try:
        observer.sweep()
    except Exception:
        _log.exception("jobs of closed event loops could not be settled")


def _millis(deadline: float) -> int:
    """Return the milliseconds left until *deadline* on the monotonic clock, at least one."""
    return max(1, int((deadline - time.monotonic()) * 1000))


def _losses(stats: Sequence[ExporterStats]) -> str:
    lost = [(each.failed + each.missing, each) for each in stats]
    said = [f"{number} of {each.handed} {_ITEMS[each.signal]}" for number, each in lost if number]
    return ", ".join(said) or "the last of it may have been"
