"""Floor 5: which traces are kept when nobody chose: those that a job's producer kept. Needs the SDK."""

import logging
import os
from collections.abc import Sequence
from importlib.metadata import entry_points

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, SpanKind, TraceState, get_current_span
from opentelemetry.util.types import Attributes

_BUILT_IN = frozenset(
    {
        "always_on",
        "always_off",
        "parentbased_always_on",
        "parentbased_always_off",
        "traceidratio",
        "parentbased_traceidratio",
    }
)
_log = logging.getLogger("otel_sched")


class FollowLinks(Sampler):
    """Keeps a new trace if one that it links to is kept, and drops it if all of those are dropped.

    A job that is only linked to its producer starts a trace of its own; a link into a trace that was not kept
    helps nobody. A span with a parent does as its parent does. A new trace without links, or with a link to
    nothing, is decided by *root*.

    Args:
        root: Decides where there is nothing to follow; keeps everything by default.
    """

    def __init__(self, root: Sampler = ALWAYS_ON) -> None:
        self._root = root
        self.parent_based = ParentBased(root)
        """Who decides about spans that have a parent, or nothing to follow."""

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decide about one span."""
        if links and not get_current_span(parent_context).get_span_context().is_valid:
            decision = followed(links)
            if decision is not None:
                return SamplingResult(decision, None if decision is Decision.DROP else attributes)
        return self.parent_based.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """Return a name for logs and debuggers."""
        return f"FollowLinks{{root:{self._root.get_description()}}}"


def followed(links: Sequence[Link]) -> Decision | None:
    """Return what the traces behind *links* ask for, or None when they do not all say."""
    contexts = [link.context for link in links]
    if any(context.is_valid and context.trace_flags.sampled for context in contexts):
        return Decision.RECORD_AND_SAMPLE
    return Decision.DROP if all(context.is_valid for context in contexts) else None


def choose(sampler: Sampler | None, ratio: float | None) -> Sampler | None:
    """Return the sampler to use: an argument, else what OTEL_TRACES_SAMPLER names, else `FollowLinks`.

    None leaves the choice to the SDK, which reads the variable itself.
    """
    if sampler is not None:
        return sampler
    if ratio is not None:
        return FollowLinks(TraceIdRatioBased(ratio))
    name = os.environ.get("OTEL_TRACES_SAMPLER", "").strip()
    if not name:
        return FollowLinks()
    return None if name.lower() in _BUILT_IN else _installed(name)


def _installed(name: str) -> Sampler | None:
    """Load a sampler that another package offers; like the SDK, warn and go on when it cannot be had."""
    try:
        (entry,) = entry_points(group="opentelemetry_traces_sampler", name=name)
        sampler = entry.load()(os.environ.get("OTEL_TRACES_SAMPLER_ARG"))
    except Exception as error:
        _log.warning("OTEL_TRACES_SAMPLER=%s cannot be loaded (%r): the SDK's default is used", name, error)
        return None
    if isinstance(sampler, Sampler):
        return sampler
    _log.warning("OTEL_TRACES_SAMPLER=%s made %r, which is no sampler: the SDK's default is used", name, sampler)
    return None
