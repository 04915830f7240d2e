"""The demo's text reaches whatever stands at the other end: an old encoding, a closed pipe, a full disk."""

import io
import os

import pytest

from otel_sched.demo.lines import Line
from otel_sched.demo.output import Paper, fitting, write


def test_trees_are_drawn_in_ascii_where_there_is_nothing_else() -> None:
    """What the encoding has not got is replaced, character by character; UTF-8 has everything."""
    text = "├─put ░░██ …"

    assert fitting(text, "utf-8") == text
    assert fitting(text, None) == text
    assert fitting(text, "ascii") == "|-put ..## ."
    assert fitting("naïve…", "ascii") == "na?ve."


def test_a_reader_that_goes_away_ends_the_run() -> None:
    """Writing into a pipe that nobody reads any more says so once, and later flushes do no harm."""
    read, written = os.pipe()
    os.close(read)
    gone: list[bool] = []
    with open(written, "w", encoding="utf-8") as stream:
        paper = Paper(stream, lambda: gone.append(True))
        paper.report([[("one", "")]])
        paper.report([[("two", "")]])

    assert gone == [True]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk_is_no_traceback() -> None:
    """What cannot be written is reported as not written."""
    with open("/dev/full", "w", encoding="utf-8") as stream:
        assert not write("text", stream)


def test_log_lines_are_limited() -> None:
    """Between two updates only a few log lines are printed; the next update makes room for more."""
    stream = io.StringIO()
    paper = Paper(stream, lambda: None)
    line: Line = [("failed", "red")]
    for _ in range(2):
        paper.update([[("numbers", "")]], [], [])
        for _ in range(100):
            paper.line(line)

    assert stream.getvalue().count("numbers") == 2
    assert stream.getvalue().count("failed") == 12
