"""Floor 5, HOT: a bounded buffer before one exporter, and the thread that empties it.

A full buffer refuses the newest: the one who adds then pays for no more than a number, the order stays, and traces
that have begun to leave leave whole. A batch that is not taken is tried again and again while the buffer fills; so
memory is bounded, and telemetry flows again as soon as the receiver is back.
"""

import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from opentelemetry import context as otel_context

from ..counting import BUFFER_FULL, ENCODING, GAVE_UP, REFUSED, REJECTED, SHUTDOWN, ExporterCount
from ..records import SUPPRESS
from .answers import Answer, Parcel, Verdict, pause
from .limits import Limits
from .reports import Reports
from .transport import Transport

LONGEST_TRY = 300.0
"""Seconds after which a batch that is never taken is dropped: it may be the reason why."""

_OUTCOMES = {Verdict.TAKEN: "ok", Verdict.LATER: "retry"}
_log = logging.getLogger("otel_sched")


class Sender:
    """Takes items from any thread and sends them from its own.

    Args:
        taken: Told of each batch that leaves the buffer.
    """

    def __init__(
        self,
        count: ExporterCount,
        transport: Transport,
        limits: Limits,
        taken: Callable[[Sequence[Any]], None] | None = None,
    ) -> None:
        self.count = count
        self.limits = limits
        self._transport = transport
        self.pieces = transport.pieces
        self._taken = taken
        self._buffer: deque[Any] = deque()
        self._append = self._buffer.append
        self._room = limits.waiting
        self._wake_at = limits.batch - 1
        self._reports = Reports(count, limits)
        self._deadline: float | None = None
        self._stale = False
        self.crowded = False
        """Whether the last item that came was refused, and nothing has left since: do not go to any length for more."""
        self._begin()
        if hasattr(os, "register_at_fork"):
            renew = weakref.WeakMethod(self._renew)
            os.register_at_fork(after_in_child=lambda: (again := renew()) and again())

    def _begin(self) -> None:
        """Make what belongs to one process, and start the thread."""
        self._lock = threading.Lock()
        self._bell: SimpleQueue[threading.Event | None] = SimpleQueue()  # put() may interrupt itself, as in a finalizer
        self._woken = False
        self._hurry = threading.Event()
        self._done = threading.Event()
        self._in_flight = 0
        self._given_up = False
        self._thread = threading.Thread(target=self._serve, name=f"otel-sched-send-{self.count.signal}", daemon=True)
        self._thread.start()

    def _renew(self) -> None:
        """Begin anew in a forked child: what waits, and the connection, are the parent's."""
        self._buffer.clear()
        self.count.renew()
        if self.pieces is not None:
            self.pieces.renew()
        self._stale = True
        if self._deadline is None:
            try:
                self._begin()
            except RuntimeError:  # the parent was on its way out: no thread may be started any more
                self._room = 0
                self._done.set()

    def add(self, item: Any) -> None:
        """Take *item*, or count it as dropped; any thread, at any time, never blocks."""
        self.count.handed += 1
        waiting = len(self._buffer)
        if waiting >= self._room:
            reason = BUFFER_FULL if self._deadline is None else SHUTDOWN
            self.count.dropped[reason] += 1
            self.crowded = True
            return
        self._append(item)
        if waiting >= self._wake_at and not self._woken:
            self._woken = True
            self._bell.put(None)

    @property
    def waiting(self) -> int:
        """How many items wait or are being sent."""
        return len(self._buffer) + self._in_flight

    def flush(self, deadline: float) -> bool:
        """Send what waits now; True when that is done before *deadline*, on the monotonic clock."""
        if self._deadline is not None:
            return self._done.is_set()
        done = threading.Event()
        self._bell.put(done)
        self._hurry.set()
        return done.wait(max(0.0, deadline - time.monotonic()))

    def begin_close(self, deadline: float) -> None:
        """Take nothing more, and send what waits until *deadline*; only the first call counts."""
        if self._deadline is None:
            self._deadline = deadline
            self._room = 0
            self._bell.put(None)
            self._hurry.set()

    def close(self, deadline: float) -> None:
        """Do as `begin_close`, and wait for the end. What is left then counts as dropped."""
        self.begin_close(deadline)
        self._done.wait(max(0.0, deadline - time.monotonic()))
        with self._lock:
            closed, self._given_up = self._given_up, True
            self._lose(self._in_flight)
            self._in_flight = 0
        self.sweep()
        if closed:
            return
        try:
            self._transport.close()
        except Exception as error:
            _log.warning("closing the exporter of %s failed: %r", self.count.signal, error)

    def sweep(self) -> None:
        """Count what came in while the end was near, after the last look at the buffer."""
        if self._given_up:
            with self._lock:
                while self._buffer:
                    self._lose(self._weight([self._buffer.popleft()]))

    def _weight(self, items: Sequence[Any]) -> int:
        """Return what *items* count for."""
        return len(items)

    def _lose(self, items: int) -> None:
        self.count.dropped[SHUTDOWN] += items

    def _serve(self) -> None:
        otel_context.attach(otel_context.set_value(SUPPRESS, True))
        bell, done = self._bell, self._done
        while not done.is_set():
            order: threading.Event | None = None
            full_only = True
            try:
                order = bell.get(timeout=self.limits.delay)
                full_only = order is None
            except Empty:
                full_only = False
            self._woken = False
            last = self._deadline is not None
            self._empty(full_only and not last)
            if order is not None:
                order.set()
            if last:
                done.set()

    def _empty(self, full_only: bool) -> None:
        """Send full batches only, or all that waits now."""
        if full_only:
            while len(self._buffer) >= self.limits.batch and not self._given_up:
                self._send_next()
            return
        left = len(self._buffer)
        while left > 0 and not self._given_up and (sent := self._send_next()):
            left -= sent

    def _send_next(self) -> int:
        """Take a batch and see it through, whatever becomes of it; return its size."""
        with self._lock:
            if self._given_up:
                return 0
            pop = self._buffer.popleft
            batch = [pop() for _ in range(min(len(self._buffer), self.limits.batch))]
            self.crowded = False
            self._in_flight = self._weight(batch)
        try:
            self._reports.full()
            if self._taken is not None:
                self._taken(batch)
            self._deliver(batch)
        except Exception:
            _log.exception("a batch of %s is lost", self.count.signal)
        self._settle(0, self._in_flight, REFUSED)  # nothing, unless that failed
        return len(batch)

    def _deliver(self, batch: Sequence[Any]) -> None:
        """Send *batch* until it is taken, refused or given up."""
        parcel = self._transport.pack(batch)
        self._settle(0, parcel.failed, ENCODING)
        if not parcel.items:
            return
        begun, attempt = time.monotonic(), 0
        while not self._given_up:
            answer = self._attempt(parcel)
            if answer is None:
                self._settle(0, parcel.items, SHUTDOWN)
                return
            if answer.verdict is Verdict.TAKEN:
                self._settle(0, answer.rejected, REJECTED)
                self._settle(parcel.items - answer.rejected, 0, "")
                return
            if answer.verdict is not Verdict.LATER:
                self._refused(batch, parcel, answer)
                return
            attempt += 1
            self._reports.full()
            if not self._rest(attempt, answer.after, begun + LONGEST_TRY):
                self._settle(0, parcel.items, GAVE_UP if self._deadline is None else SHUTDOWN)
                return

    def _refused(self, batch: Sequence[Any], parcel: Parcel, answer: Answer) -> None:
        """Drop the batch, or try its halves where it is its size that was refused."""
        if answer.verdict is Verdict.TOO_LARGE and len(batch) > 1 and not parcel.failed:
            half = len(batch) // 2
            self._deliver(batch[:half])
            self._deliver(batch[half:])
        else:
            self._settle(0, parcel.items, REFUSED)

    def _attempt(self, parcel: Parcel) -> Answer | None:
        """Try once; None where there is no time left for it."""
        if parcel.data is None:
            return Answer(Verdict.TOO_LARGE, "larger than the exporter may send")
        timeout = self._transport.timeout
        if self._deadline is not None:
            timeout = min(timeout, self._deadline - time.monotonic())
            if timeout <= 0.0:
                return None
        begun = time.perf_counter()
        try:
            if self._stale:
                self._transport.renew()
                self._stale = False
            answer = self._transport.send(parcel, timeout)
        except Exception as error:
            answer = Answer(Verdict.REFUSED, repr(error))
        if not self._given_up:  # else the interpreter may be on its way out
            self.count.took(_OUTCOMES.get(answer.verdict, "failed"), time.perf_counter() - begun)
            self._reports.answer(answer)
        return answer

    def _rest(self, attempt: int, after: float | None, give_up_at: float) -> bool:
        """Wait before the next attempt: for as long as the receiver asked, else until somebody is in a hurry.

        Returns:
            False when there is no use in another one.
        """
        now = time.monotonic()
        until = now + (pause(attempt) if after is None else after)
        while (left := until - time.monotonic()) > 0.0:
            last = give_up_at if self._deadline is None else min(give_up_at, self._deadline)
            if self._given_up or until >= last:
                return False
            if self._hurry.wait(left):
                self._hurry.clear()
                if after is None:
                    return True
        return True

    def _settle(self, exported: int, dropped: int, reason: str) -> None:
        """Count what became of items of the batch in flight."""
        with self._lock:
            if self._given_up:  # it counts as dropped already; but what was taken was taken
                self.count.exported += exported
                self._lose(-exported)
                return
            self._in_flight -= exported + dropped
            self.count.exported += exported
            if dropped:
                self.count.dropped[reason] += dropped
