"""A state is told of once, when it has held for long enough and for some looks."""

from hypothesis import given
from hypothesis import strategies as st

from otel_sched.diagnostics.detectors.steady import LOOKS, Steady


class Thing:
    """Something that can be referred to weakly."""


LOOK = st.tuples(st.sampled_from(["well", "a", "b"]), st.floats(0.0, 3.0))


@given(st.lists(LOOK, max_size=40))
def test_each_stretch_of_one_state_is_told_at_most_once_and_only_if_long(looks: list[tuple[str, float]]) -> None:
    """Against a plain account of the stretches."""
    steady, thing, now = Steady(5.0), Thing(), 0.0
    state, since, count, told = "well", 0.0, 0, False
    for found, pause in looks:
        now += pause
        if found != state:
            state, since, count, told = found, now, 0, False
        else:
            count += 1
        if found == "well":
            steady.over(thing)
            continue
        due = count >= LOOKS and now - since >= 5.0 and not told
        told = told or due
        assert steady.holds(thing, found, now) == (now - since if due else None)


def test_one_look_after_a_long_block_is_not_enough() -> None:
    """A loop that stood still for a minute makes everything look as if nothing had moved."""
    steady, thing = Steady(5.0), Thing()
    assert steady.holds(thing, "stuck", 0.0) is None
    assert steady.holds(thing, "stuck", 60.0) is None
