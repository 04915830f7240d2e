"""Floor 5: what a sampler decides, found out once: the SDK's own samplers are comparisons of a trace id with a bound.

Calling a sampler costs more than a whole job may. What the exact types of the SDK (and `FollowLinks`) decide depends
on the parent's flags, on the flag of the one link, and on whether the low 64 bits of the trace id are below a bound.
Every other sampler, subclasses of these among them, is called.
"""

from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, StaticSampler, TraceIdRatioBased
from opentelemetry.trace import SpanContext

from ..sampling import FollowLinks

MASK = TraceIdRatioBased.TRACE_ID_LIMIT
_ALL = MASK + 1

Parent = tuple[bool, bool] | None
"""Whether the parent is remote, and whether it is sampled; None for a root span."""


def bound(sampler: Sampler, parent: Parent) -> int | None:
    """Return the bound below which the low bits of a trace id are sampled; None where only the sampler can say.

    The cases are those of `StaticSampler`, `TraceIdRatioBased` and `ParentBased` in the SDK's sampling module.
    """
    kind = type(sampler)
    if kind is StaticSampler:
        decision = getattr(sampler, "_decision", None)
        return {Decision.DROP: 0, Decision.RECORD_AND_SAMPLE: _ALL}.get(decision) if decision is not None else None
    if kind is TraceIdRatioBased:
        return sampler.bound  # type: ignore[attr-defined, no-any-return]
    if kind is ParentBased or kind is FollowLinks:
        delegate = _delegate(sampler, parent)
        return None if delegate is None else bound(delegate, parent)
    return None


def _delegate(sampler: Sampler, parent: Parent) -> Sampler | None:
    """Return whom a parent-based sampler asks."""
    if type(sampler) is FollowLinks:
        sampler = sampler.parent_based
    if parent is None:
        name = "_root"
    else:
        remote, sampled = parent
        name = f"_{'remote' if remote else 'local'}_parent_{'sampled' if sampled else 'not_sampled'}"
    found = getattr(sampler, name, None)
    return found if isinstance(found, Sampler) else None


class Bounds:
    """The bounds of one sampler for every kind of span that a job can get."""

    __slots__ = ("_by_parent", "root", "sampler", "with_link")

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self.root = bound(sampler, None)
        """For a span without a parent and without a link."""
        follows = type(sampler) is FollowLinks
        self.with_link = (0, _ALL) if follows else (self.root, self.root)
        """For a span without a parent that has a link: to an unsampled span, to a sampled one."""
        self._by_parent = {
            each: bound(sampler, each) for each in ((False, False), (False, True), (True, False), (True, True))
        }

    def under(self, parent: SpanContext) -> int | None:
        """Return the bound for a child of *parent*."""
        return self._by_parent[bool(parent.is_remote), bool(parent.trace_flags.sampled)]
