"""Which traces are kept when nobody chose a sampler."""

import logging

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, TraceFlags

from otel_sched.telemetry.sampling import FollowLinks, choose

NOTHING = SpanContext(0, 0, False)


def producer(*, sampled: bool) -> SpanContext:
    return SpanContext(0xA, 0xB, False, TraceFlags(1 if sampled else 0))


def decide(sampler: FollowLinks, links: list[Link], parent: SpanContext | None = None) -> Decision:
    context = Context() if parent is None else trace.set_span_in_context(NonRecordingSpan(parent), Context())
    return sampler.should_sample(context, 1, "process orders", links=links).decision


def test_drops_a_new_trace_whose_producers_were_all_dropped() -> None:
    """A link to a trace that nobody kept helps nobody."""
    links = [Link(producer(sampled=False)), Link(producer(sampled=False))]
    assert decide(FollowLinks(), links) is Decision.DROP


def test_keeps_a_new_trace_when_one_producer_was_kept_whatever_the_root_says() -> None:
    """A batch with one kept producer is kept: that producer's trace shall lead somewhere."""
    links = [Link(producer(sampled=False)), Link(producer(sampled=True))]
    assert decide(FollowLinks(ALWAYS_OFF), links) is Decision.RECORD_AND_SAMPLE


@pytest.mark.parametrize(
    "links",
    [[], [Link(NOTHING)], [Link(producer(sampled=False)), Link(NOTHING)]],
    ids=["none", "void", "mixed"],
)
@pytest.mark.parametrize("root", [ALWAYS_ON, ALWAYS_OFF], ids=["on", "off"])
def test_leaves_what_cannot_be_followed_to_the_root_sampler(links: list[Link], root: object) -> None:
    """Without links, or with a link to nothing, there is nobody to follow."""
    expected = Decision.RECORD_AND_SAMPLE if root is ALWAYS_ON else Decision.DROP
    assert decide(FollowLinks(root), links) is expected  # type: ignore[arg-type]


@pytest.mark.parametrize("sampled", [True, False])
def test_a_parent_wins_over_links(sampled: bool) -> None:
    """A span inside a trace does as its parent does."""
    links = [Link(producer(sampled=not sampled))]
    kept = decide(FollowLinks(), links, producer(sampled=sampled)).is_sampled()  # type: ignore[no-untyped-call]
    assert kept is sampled


def test_attributes_go_on_with_a_kept_span_alone() -> None:
    """As with the SDK's samplers, a dropped span has no attributes."""
    for sampled, expected in ((True, {"a": 1}), (False, {})):
        links = [Link(producer(sampled=sampled))]
        result = FollowLinks().should_sample(Context(), 1, "x", attributes={"a": 1}, links=links)
        assert dict(result.attributes) == expected


def test_description_names_the_root() -> None:
    """Descriptions are what a person sees in logs and debuggers."""
    assert FollowLinks(TraceIdRatioBased(0.5)).get_description() == "FollowLinks{root:TraceIdRatioBased{0.5}}"


def test_choice_argument_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sampler given as argument wins over everything."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    mine = ParentBased(ALWAYS_ON)
    assert choose(mine, None) is mine
    assert isinstance(choose(None, 0.5), FollowLinks)


def test_choice_leaves_built_in_samplers_of_the_variable_to_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """None means: the SDK reads the variable itself."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    assert choose(None, None) is None


def test_choice_is_follow_links_when_nobody_says_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default, also for a variable that is set to nothing."""
    monkeypatch.delenv("OTEL_TRACES_SAMPLER", raising=False)
    assert isinstance(choose(None, None), FollowLinks)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", " ")
    assert isinstance(choose(None, None), FollowLinks)


def test_unknown_sampler_warns_and_falls_back_like_the_sdk(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """OpenTelemetry's rule for variables: warn, and go on."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "no_such_sampler")
    with caplog.at_level(logging.WARNING, "otel_sched"):
        assert choose(None, None) is None
    assert "no_such_sampler" in caplog.text
