"""What the demo sees of the pipeline: every span and log record, counted, and what the view needs of them."""

import asyncio
import logging
from collections.abc import Iterator

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import get_tracer

import otel_sched
from otel_sched.demo.recorder import Recorder, percentile
from otel_sched.telemetry.logs import OtlpHandler


@pytest.fixture
def recorder() -> Recorder:
    """A recorder."""
    return Recorder()


@pytest.fixture
def providers(recorder: Recorder) -> Iterator[tuple[TracerProvider, LoggerProvider]]:
    """Providers whose only processor is the recorder."""
    tracer_provider = TracerProvider(shutdown_on_exit=False)
    tracer_provider.add_span_processor(recorder)
    logger_provider = LoggerProvider(shutdown_on_exit=False)
    logger_provider.add_log_record_processor(recorder)  # type: ignore[arg-type]
    yield tracer_provider, logger_provider
    tracer_provider.shutdown()
    logger_provider.shutdown()


def test_the_recorder_sees_jobs_and_their_log_lines(
    recorder: Recorder, providers: tuple[TracerProvider, LoggerProvider]
) -> None:
    """A real job's wait and run, the exception that its worker logged, and the request that queued it."""
    tracer_provider, logger_provider = providers
    log = logging.getLogger("test.demo.recorder")
    log.propagate = False
    log.addHandler(handler := OtlpHandler(logger_provider=logger_provider))
    observer = otel_sched.OtelObserver(tracer_provider=tracer_provider, logger_provider=logger_provider)

    async def main() -> None:
        queue: otel_sched.Queue[int] = otel_sched.Queue(name="q", observer=observer)

        async def work() -> None:
            await queue.get()
            try:
                raise LookupError("nothing there")
            except LookupError:
                log.exception("failed")
            finally:
                queue.task_done()

        worker = asyncio.create_task(work())
        with get_tracer("test", tracer_provider=tracer_provider).start_as_current_span("request"):
            await queue.put(1)
        await worker

    asyncio.run(main())
    log.removeHandler(handler)

    story = recorder.stories.failed()
    assert story is not None
    assert (recorder.spans, recorder.log_records) == (3, 1)
    assert {span.name for span in story.spans} == {"request", "put q", "process q"}
    assert [(each.level, each.text) for each in story.logs] == [("error", "failed: LookupError: nothing there")]
    assert story.job.queue == "q"
    assert recorder.waits("q") == [story.job.wait]
    assert recorder.runs("q") == [story.job.seconds]
    assert recorder.waits("other") == []


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([], 50, None),
        ([7.0], 99, 7.0),
        ([1.0, 2.0], 50, 1.0),
        ([1.0, 2.0, 3.0], 50, 2.0),
        ([float(n) for n in range(1, 101)], 95, 95.0),
        ([float(n) for n in range(1, 101)], 99, 99.0),
        ([float(n) for n in range(1, 11)], 99, 10.0),
    ],
)
def test_a_percentile_is_a_value_that_occurred(values: list[float], percent: int, expected: float | None) -> None:
    """It is the least value that as many per cent do not exceed."""
    assert percentile(values, percent) == expected
