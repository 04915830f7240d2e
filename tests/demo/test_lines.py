"""Numbers and lines of the demo's view fit their columns."""

import pytest

from otel_sched.demo.lines import clipped, plain, rate, seconds, table


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0.0 ms"),
        (0.00042, "0.4 ms"),
        (0.00994, "9.9 ms"),
        (0.00996, "10 ms"),
        (0.1234, "123 ms"),
        (0.9996, "1.00 s"),
        (9.99, "9.99 s"),
        (9.996, "10.0 s"),
        (99.96, "100 s"),
        (9999.0, "9999 s"),
        (36000.0, "10 h"),
    ],
)
def test_a_duration_takes_six_characters_at_most(value: float | None, text: str) -> None:
    """Each magnitude is shown in its unit, and none is wider than its column."""
    assert seconds(value) == text
    assert len(text) <= 6


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.04, "0.0"), (19.96, "20.0"), (99.96, "100"), (4e4, "40000")]
)
def test_a_rate_takes_five_characters_at_most(value: float | None, text: str) -> None:
    """A rate has a decimal as long as there is room."""
    assert rate(value) == text


def test_a_table_has_its_first_column_on_the_left() -> None:
    """Columns are aligned, the first to the left, the others to the right; styles change no widths."""
    lines = table(("queue", "size"), [["orders", ("12", "bold")], ["mails", "3"]], (8, 4))

    assert [plain(line) for line in lines] == ["queue    size", "orders     12", "mails       3"]


def test_a_clipped_line_says_that_it_goes_on() -> None:
    """What is too wide ends in an ellipsis, inside whichever piece that falls."""
    line = [("waiting ", ""), ("forever", "bold")]

    assert clipped(line, 15) == line
    assert plain(clipped(line, 10)) == "waiting f…"
    assert plain(clipped(line, 4)) == "wai…"
