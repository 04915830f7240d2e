"""Floor 5, HOT: one queue's jobs told as `OtelListener` tells them, for a fraction of its price.

Only what most jobs go through is written anew: a put, a start, and a good end. The rest, failures above all, takes the
plain way, which a `LightSpan` can go as well as any other span.
"""

import time
from typing import Any

from opentelemetry import baggage
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Tracer
from opentelemetry.trace import SpanContext

from ..._core import names
from ..._core.job import Job, Outcome
from ..._core.ledger import Ledger, Series
from ..keep import Slowness
from ..listener import OtelListener
from ..providers import Providers, suppressed
from ..spans import _ATTACHED, PARENT_WITHIN, Carried, base_of, ended
from .histogram import FOLD_AT, FastHistogram, LocalSeries
from .kept import Keeper
from .maker import Maker
from .runtime import SUPPRESS, get_context, set_context
from .sampling import MASK
from .spans import SPAN_KEY, LightSpan, Quiet

_OK = Outcome.OK
_time_ns = time.time_ns
_empty = object.__new__
_SUPPRESS, _SUPPRESS_TOO = SUPPRESS


class FastListener(OtelListener):
    """Tells of one queue with light spans and, where that can be, with histograms that are kept here."""

    def __init__(self, providers: Providers, ledger: Ledger, tracer: Tracer, keeper: Keeper | None = None) -> None:
        super().__init__(providers, ledger)
        options = ledger.options
        self._make = Maker(tracer, ledger.name, keeper)
        self._keeper = keeper
        self._slowness = None if keeper is None else Slowness(keeper.keep.slow)
        self._always = options.process_spans == "always"
        self._never = options.process_spans == "never"
        self._correlation = options.correlation
        self._producer_spans = options.producer_spans
        self._carries = options.carry is not None
        self._root = None if self._make.custom_ids else self._make.bounds.root
        self._trace_id = self._make.trace_id
        self._wait_local: LocalSeries | None = None
        self._ok: dict[Series, LocalSeries | None] = {}

    def queued(self, job: Job[Any]) -> None:
        """Note whose span the producer was in; a recording one gets a PRODUCER span for this put."""
        here = get_context()
        if not here and not self._carries:
            job.trace = None  # written, for to read a slot that was not is slow
            self._blocked_for = 0.0
            return
        blocked_for, self._blocked_for = self._blocked_for, 0.0
        ambient: Any = here.get(SPAN_KEY)
        producer: SpanContext | None = None
        if ambient is not None and not ended(ambient):
            found: SpanContext = ambient.get_span_context()
            if found.is_valid:
                producer = found
                if self._producer_spans and ambient.is_recording() and not _suppressed_in(here):
                    start = _time_ns() if blocked_for == 0.0 else _time_ns() - int(blocked_for * 1e9)
                    producer = self._make.put(job, found, here, start)
        job.trace = producer if not self._carries else Carried(producer, dict(baggage.get_all()))

    def started(self, job: Job[Any], own_worker: bool) -> bool:
        """Start the job's CONSUMER span, or remember its ids where it is not sampled, and make that current."""
        if self._never:
            return super().started(job, own_worker)
        base: Any = get_context()
        if base and (base := self._base(base, own_worker)) is None:
            return False
        around = base
        wait = job.taken_at - job.put_at  # type: ignore[operator]  # a job that starts was taken
        run: Any
        if job.trace is not None or self._root is None:
            around, run = self._related(job, wait, base)
        else:
            trace_id = self._trace_id()
            if trace_id & MASK < self._root:
                run = self._make.process(job, wait, trace_id, None, None, around)
            elif self._keeper is not None:
                run = self._make.process(job, wait, trace_id, None, None, around, False)
            else:
                run = _empty(Quiet)
                run.trace_id = trace_id
        run.owner = self
        run.base = base
        if around is not base:
            run.around = around
        job.trace = run
        set_context(Context({**around, SPAN_KEY: run}) if around else Context({SPAN_KEY: run}))
        local = self._wait_local
        if local is None:  # as in the SDK, a series begins with its first measurement
            local = self._wait_local = local_series(self._wait, self._queue)
            if local is None:
                self._wait.record(wait, self._queue, context=run.within)
                return True
        if wait < 0.0:  # a clock that went back; the SDK's histograms do not take it either
            return True
        values = local.values
        values.append(wait)
        if type(run) is LightSpan and run.sampled:
            local.exemplars.extend((wait, run._start_time, run.trace_id, run.span_id))
        if len(values) >= FOLD_AT:
            local.fold()
        return True

    def _base(self, here: Context, own_worker: bool) -> Context | None:
        """Return the context that a job starts from where there is something in it; None where it may not start."""
        foreign_allowed = own_worker or self._always
        ours = _ATTACHED in here or type(here.get(SPAN_KEY)) in (LightSpan, Quiet)
        if foreign_allowed and not ours and not any(key in here for key in SUPPRESS):
            return here
        base = base_of(self, foreign_allowed)
        return None if base is None or suppressed() else base

    def _related(self, job: Job[Any], wait: float, base: Context) -> tuple[Context, Any]:
        """Return the context round the job's span, and that span, where there is a producer or a sampler to ask."""
        brought, around = job.trace, base
        producer: SpanContext | None = brought
        if isinstance(brought, Carried):
            producer = brought.producer
            for key, value in brought.baggage.items():
                around = baggage.set_baggage(key, value, around)
        parent = None
        if producer is not None and self._correlation != "link":
            near = wait <= PARENT_WITHIN and job.attempt == 1
            parent = producer if near or self._correlation == "parent" else None
        return around, self._make.decided(job, wait, parent, producer, around)

    def settling(self, job: Job[Any]) -> None:
        """Look for an exception that was recorded on the job's span and then swallowed."""
        run = job.trace
        kind = type(run)
        if (kind is Quiet and run.error_type is None) or (kind is LightSpan and run.plain):
            return  # a plain span has no events
        super().settling(job)

    def settled(self, job: Job[Any]) -> None:
        """Record the run of a job that went well, end its span, and make current what was so before."""
        run: Any = job.trace
        kind = type(run)
        if job.outcome is not _OK or (kind is not Quiet and kind is not LightSpan):
            if kind is LightSpan:  # before its run is recorded, for one that is kept is an example of it
                self._decide(run, job.outcome, (job.settled_at or 0.0) - (job.taken_at or 0.0))
            super().settled(job)
            return
        settled_at = job.settled_at
        ran = settled_at - job.taken_at  # type: ignore[operator]
        if ran < 0.0:
            ran = 0.0
        try:
            now = self._end_well(run, ran, settled_at) if kind is LightSpan else 0  # type: ignore[arg-type]
            series = job.series
            try:
                local = self._ok[series]
            except KeyError:
                local = self._ok_series(series)
            if local is None:
                attributes = self._run_attributes_of(series.name, "ok", None)
                self._run.record(ran, attributes, context=run.within)
            else:
                values = local.values
                values.append(ran)
                if now and (run.sampled or run.keep is not None):
                    local.exemplars.extend((ran, now, run.trace_id, run.span_id))
                if len(values) >= FOLD_AT:
                    local.fold()
        finally:
            run.over = True
            if run.around is not None:
                run.around = None  # whoever keeps the span is not to keep the producer's baggage
            if get_context().get(SPAN_KEY) is run:
                set_context(run.base)  # type: ignore[attr-defined]

    def _end_well(self, run: LightSpan, ran: float, settled_at: float) -> int:
        """End the span of a job that went well, unless its handler did; return the time now."""
        now = _time_ns()
        if self._keeper is not None:
            self._decide(run, _OK, ran)
        if run._end_time is not None:
            return now
        since = self._ledger.now() - settled_at
        end = now - int(since * 1e9) if since > 0.0 else now
        if end < run._start_time:  # the wall clock may have been set back meanwhile
            end = run._start_time
        if not run.plain:
            run.set_attribute(names.JOB_OUTCOME, "ok")
            run.end(end)
            return now
        try:
            del run.open  # from here on as `LightSpan.end`, without the calls
        except AttributeError:
            return now
        run.outcome = "ok"
        run._end_time = end
        processors = self._make.processors
        if processors.multi._span_processors is not processors.seen:
            processors.renew()
        for each in processors.endings:
            each(run)
        for each in processors.ends:
            each(run)
        return now

    def _end(self, span: Any, job: Job[Any], error_type: str | None) -> None:
        """End a span of any outcome."""
        if type(span) is not LightSpan or span._end_time is not None or not span.plain:
            super()._end(span, job, error_type)
            return
        span.outcome = str(job.outcome)
        span.error_type = error_type
        span.reason = None if job.reason is None else job.reason.value
        since = self._ledger.now() - (job.settled_at or 0.0)
        span.end(max(_time_ns() - (int(since * 1e9) if since > 0.0 else 0), span._start_time))

    def _decide(self, run: LightSpan, outcome: Outcome | None, ran: float) -> None:
        """Find out whether a job that was not sampled is kept, and with it what waits below it."""
        keeper, slowness = self._keeper, self._slowness
        if keeper is None or slowness is None:
            return
        if run.undecided:
            keeper.decide(run, keeper.keep.rule(outcome, ran, slowness.at))
        if slowness.follows:
            slowness.add(ran)

    def _ok_series(self, series: Series) -> LocalSeries | None:
        """Return where the runs of *series* that go well are counted; None where there is no such place."""
        local = self._ok[series] = local_series(self._run, self._run_attributes_of(series.name, "ok", None))
        return local


def _suppressed_in(context: Context) -> bool:
    return bool(context.get(_SUPPRESS) or context.get(_SUPPRESS_TOO))


def local_series(histogram: Any, attributes: dict[str, str]) -> LocalSeries | None:
    """Return the series of *attributes* where *histogram* is kept here, else None."""
    return histogram.series(attributes) if isinstance(histogram, FastHistogram) else None
