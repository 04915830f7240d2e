"""What the demo keeps of traces: bounded, hung together by links, with the slowest and a failed job."""

from otel_sched.demo.stories import LogNote, SpanNote, Stories


def job(
    trace_id: int, span_id: int = 1, *, wait: float = 0.0, ran: float = 0.1, outcome: str = "ok", end: float = 1.0
) -> SpanNote:
    """A process span that has ended at second *end*."""
    start = int((end - ran) * 1e9)
    return SpanNote("process q", trace_id, span_id, None, start, int(end * 1e9), queue="q", wait=wait, outcome=outcome)


def line(trace_id: int, level: str = "error") -> LogNote:
    """A log line of a trace."""
    return LogNote(0, trace_id, 1, level, "said")


def linked(trace_id: int, to: int) -> SpanNote:
    """A span that begins a trace of its own, linked to another."""
    return SpanNote("process q", trace_id, trace_id * 10, None, 0, 1, links=((to, 1),))


def test_the_slowest_is_the_longest_from_put_to_end() -> None:
    """Waiting counts like running; jobs that failed are not in the race."""
    stories = Stories()
    for each in (job(1, wait=1.0, ran=0.1), job(2, ran=1.05), job(3, wait=9.0, outcome="timeout"), job(4)):
        stories.add_span(each)

    slowest = stories.slowest()
    assert slowest is not None
    assert slowest.job.trace_id == 1


def test_a_failed_job_is_one_of_which_something_was_logged() -> None:
    """One without a log line is shown only until there is a better one; a shown one stays for a while."""
    stories = Stories()
    shown = []
    for trace_id, logged, end in ((1, False, 1.0), (2, False, 7.0), (3, True, 8.0), (4, True, 9.0), (5, True, 13.5)):
        if logged:
            stories.add_log(line(trace_id))
        stories.add_span(job(trace_id, outcome="error", end=end))
        failed = stories.failed()
        assert failed is not None
        shown.append(failed.job.trace_id)

    assert shown == [1, 1, 3, 3, 5]


def test_traces_hang_together_by_links_up_and_down() -> None:
    """The story of a job has the traces above and below it, whichever of them the job is in."""
    stories = Stories()
    stories.add_span(SpanNote("root", 1, 1, None, 0, 1))
    stories.add_span(linked(2, to=1))
    stories.add_span(linked(3, to=2))
    stories.add_span(linked(4, to=1))
    stories.add_span(SpanNote("unrelated", 5, 5, None, 0, 1))
    stories.add_span(job(2, 21, wait=1.0))

    story = stories.slowest()
    assert story is not None
    assert {span.trace_id for span in story.spans} == {1, 2, 3, 4}


def test_links_in_a_circle_do_no_harm() -> None:
    """Traces that link to each other are told of once."""
    stories = Stories()
    stories.add_span(linked(1, to=2))
    stories.add_span(linked(2, to=1))
    stories.add_span(job(1, 7))

    story = stories.slowest()
    assert story is not None
    assert len(story.spans) == 3


def test_old_traces_are_forgotten_but_not_those_that_are_shown() -> None:
    """Of many traces only the latest are kept, and the slowest job's with all that hangs on it."""
    stories = Stories(max_traces=5)
    stories.add_span(SpanNote("root", 1, 1, None, 0, 1))
    stories.add_span(linked(2, to=1))
    stories.add_span(job(2, 21, wait=5.0))
    for trace_id in range(10, 200):
        stories.add_span(job(trace_id))

    story = stories.slowest()
    assert story is not None
    assert {span.trace_id for span in story.spans} == {1, 2}
    assert len(stories._traces) == 5


def test_a_trace_without_an_end_is_cut_off() -> None:
    """A trace that goes on and on cannot fill the memory."""
    stories = Stories()
    for n in range(10_000):
        stories.add_span(job(1, n))
        stories.add_log(line(1))

    story = stories.slowest()
    assert story is not None
    assert (len(story.spans), len(story.logs)) == (200, 200)
