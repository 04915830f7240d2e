"""A job's identity on stdlib log lines, and those lines over OTLP."""

import logging
import logging.handlers
import queue
import sys
import threading
from collections.abc import Iterator
from enum import IntEnum, StrEnum
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry.sdk._logs import ReadableLogRecord

from otel_sched._core.job import Job
from otel_sched.telemetry import interest, logs
from otel_sched.telemetry.logs import JobFilter, OtlpHandler
from otel_sched.telemetry.records import attribute, exception_attributes, severity, text
from otel_sched.testing import InMemoryTelemetry
from tests.support.running_job import in_job


class Lines(logging.Handler):
    """Keeps records, and the lines they make."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s|%(queue)s|%(job_id)s|%(job_name)s|%(attempt)s|%(trace_id)s"))
        self.records: list[logging.LogRecord] = []
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.lines.append(self.format(record))


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger of the test's own that nobody else hears."""
    own = logging.getLogger("app.orders")
    own.propagate, level = False, own.level
    own.setLevel(logging.DEBUG)
    yield own
    own.handlers.clear()
    own.propagate = True
    own.setLevel(level)


@pytest.fixture
def lines(logger: logging.Logger) -> Lines:
    """A handler with a `JobFilter` on that logger."""
    handler = Lines()
    handler.addFilter(JobFilter())
    logger.addHandler(handler)
    return handler


@pytest.fixture
def sent(logger: logging.Logger, telemetry: InMemoryTelemetry) -> InMemoryTelemetry:
    """An `OtlpHandler` on that logger; the value shows what it sent."""
    logger.addHandler(OtlpHandler(logger_provider=telemetry.logger_provider))
    return telemetry


def only(telemetry: InMemoryTelemetry) -> ReadableLogRecord:
    (record,) = telemetry.logs
    return record


def attributes(telemetry: InMemoryTelemetry) -> dict[str, Any]:
    return dict(only(telemetry).log_record.attributes or {})


def test_filter_puts_job_and_trace_on_a_line(
    logger: logging.Logger, lines: Lines, telemetry: InMemoryTelemetry
) -> None:
    """The fields of the running job and of the current span."""
    tracer = telemetry.tracer_provider.get_tracer("test")

    def work(job: Job[Any]) -> tuple[Job[Any], Any]:
        with tracer.start_as_current_span("inside") as span:
            logger.info("charged %s", 7)
            return job, span.get_span_context()

    job, span = in_job(work)
    assert lines.lines == [f"charged 7|orders|{job.id}|{job.name}|1|{span.trace_id:032x}"]
    record: Any = lines.records[0]
    assert (record.span_id, record.trace_flags) == (f"{span.span_id:016x}", f"{span.trace_flags:02x}")


def test_filter_leaves_the_fields_empty_outside_of_jobs_and_spans(logger: logging.Logger, lines: Lines) -> None:
    """A format string that names them never fails."""
    logger.info("hello")
    assert lines.lines == ["hello||||None|"]


def test_filter_never_overwrites_what_the_application_set(logger: logging.Logger, lines: Lines) -> None:
    """`extra` wins."""
    in_job(lambda _job: logger.info("hello", extra={"queue": "mine", "attempt": 9}))
    record: Any = lines.records[0]
    assert (record.queue, record.attempt) == ("mine", 9)


def test_unsampled_spans_correlate_too(logger: logging.Logger, lines: Lines) -> None:
    """The ids of a trace that was not kept still tie lines together."""
    from opentelemetry.trace import NonRecordingSpan, SpanContext, use_span

    with use_span(NonRecordingSpan(SpanContext(0xABC, 0xDEF, True))):
        logger.info("hello")
    record: Any = lines.records[0]
    assert (record.trace_id, record.trace_flags) == (f"{0xABC:032x}", "00")


@pytest.mark.parametrize("way", ["filter", "handler"])
def test_an_exception_that_is_logged_becomes_the_jobs(
    way: str, logger: logging.Logger, telemetry: InMemoryTelemetry
) -> None:
    """The worker that logs and swallows: the job still knows what went wrong."""
    if way == "filter":
        handler: logging.Handler = Lines()
        handler.addFilter(JobFilter())
    else:
        handler = OtlpHandler(logger_provider=telemetry.logger_provider)
    logger.addHandler(handler)
    boom = ValueError("boom")

    def work(job: Job[Any]) -> BaseException | None:
        try:
            raise boom
        except ValueError:
            logger.exception("failed")
        return job.error

    assert in_job(work) is boom


def test_an_exception_logged_below_error_is_not_the_jobs(logger: logging.Logger, lines: Lines) -> None:
    """A warning with a traceback says that the worker coped."""

    def work(job: Job[Any]) -> BaseException | None:
        logger.warning("coped", exc_info=ValueError("boom"))
        return job.error

    assert in_job(work) is None


def test_handler_sends_body_severity_scope_time_and_extra(logger: logging.Logger, sent: InMemoryTelemetry) -> None:
    """What OTLP has a native place for goes there, the rest into attributes."""
    logger.warning("paid %d", 3, extra={"order": 12, "vip": True, "tags": ["a", "b"], "nothing": None})
    found = only(sent)
    assert found.log_record.body == "paid 3"
    assert (found.log_record.severity_text, found.log_record.severity_number) == ("WARN", severity(30)[0])
    assert found.instrumentation_scope is not None
    assert found.instrumentation_scope.name == "app.orders"
    assert found.log_record.timestamp is not None
    assert attributes(sent) == {"order": 12, "vip": True, "tags": ("a", "b")}


def test_handler_sends_the_job_by_the_spans_names_once(
    logger: logging.Logger, lines: Lines, sent: InMemoryTelemetry
) -> None:
    """The line's short names, which a filter has put on the record, do not go out as well."""
    job = in_job(lambda job: logger.info("hello") or job)  # type: ignore[func-returns-value]
    assert attributes(sent) == {
        "otel_sched.queue.name": "orders",
        "otel_sched.job.id": job.id,
        "otel_sched.job.name": job.name,
        "otel_sched.job.attempt": 1,
    }


def test_handler_keeps_an_extra_that_only_shares_a_name(
    logger: logging.Logger, lines: Lines, sent: InMemoryTelemetry
) -> None:
    """An application's own `queue` is its own business."""
    in_job(lambda _job: logger.info("hello", extra={"queue": "mine"}))
    assert attributes(sent)["queue"] == "mine"
    assert attributes(sent)["otel_sched.queue.name"] == "orders"


def test_handler_ties_the_record_to_the_current_span(logger: logging.Logger, sent: InMemoryTelemetry) -> None:
    """Natively, by trace and span id."""
    with sent.tracer_provider.get_tracer("test").start_as_current_span("inside") as span:
        logger.info("hello")
    record = only(sent).log_record
    assert (record.trace_id, record.span_id) == (
        span.get_span_context().trace_id,
        span.get_span_context().span_id,
    )


def test_handler_sends_exceptions_with_their_qualified_type(logger: logging.Logger, sent: InMemoryTelemetry) -> None:
    """type, message and stack trace."""
    try:
        raise queue.Empty("nothing there")
    except queue.Empty:
        logger.exception("failed")
    found = attributes(sent)
    assert (found["exception.type"], found["exception.message"]) == ("_queue.Empty", "nothing there")
    assert "raise queue.Empty" in found["exception.stacktrace"]


def test_handler_ties_a_record_from_another_thread_to_where_it_was_made(
    logger: logging.Logger, sent: InMemoryTelemetry
) -> None:
    """Through QueueHandler and QueueListener the record is sent far from its span."""
    (sender,) = (handler for handler in logger.handlers if isinstance(handler, OtlpHandler))
    logger.removeHandler(sender)
    records: queue.SimpleQueue[Any] = queue.SimpleQueue()
    relay = logging.handlers.QueueHandler(records)
    relay.addFilter(JobFilter())
    logger.addHandler(relay)
    tracer = sent.tracer_provider.get_tracer("test")

    def work(job: Job[Any]) -> tuple[Job[Any], Any]:
        with tracer.start_as_current_span("inside") as span:
            logger.info("hello")
        logger.info("no span")
        return job, span.get_span_context()

    job, span = in_job(work)
    thread = threading.Thread(target=lambda: [sender.handle(records.get()) for _ in range(2)])
    thread.start()
    thread.join(10.0)
    inside, outside = sent.logs
    assert (inside.log_record.trace_id, inside.log_record.span_id) == (span.trace_id, span.span_id)
    assert (inside.log_record.attributes or {})["otel_sched.job.id"] == job.id
    assert not outside.log_record.trace_id


@pytest.mark.parametrize("name", ["opentelemetry", "opentelemetry.sdk._shared_internal"])
def test_handler_leaves_opentelemetrys_own_records(name: str, sent: InMemoryTelemetry, logger: logging.Logger) -> None:
    """A full queue that is logged into itself would never end."""
    for handler in logger.handlers:
        handler.handle(logging.makeLogRecord({"name": name, "msg": "queue full", "levelno": logging.WARNING}))
    assert not sent.logs


def test_handler_leaves_what_an_exporter_logs(logger: logging.Logger, sent: InMemoryTelemetry) -> None:
    """urllib3 or grpc, at work for an exporter."""
    token = otel_context.attach(otel_context.set_value("suppress_instrumentation", True))
    logger.info("POST /v1/logs")
    otel_context.detach(token)
    assert not sent.logs


def test_handler_leaves_records_that_went_out_already(logger: logging.Logger, sent: InMemoryTelemetry) -> None:
    """The observer marks what it has sent itself."""
    logger.error("failed", extra={logs.EMITTED: True})
    assert not sent.logs


def test_handler_survives_a_processor_that_logs(logger: logging.Logger, sent: InMemoryTelemetry) -> None:
    """Logging from inside the pipeline does not start the pipeline again."""

    class Chatty:
        def on_emit(self, _record: Any) -> None:
            logger.info("emitting")

        def shutdown(self) -> None: ...

        def force_flush(self, _timeout: int = 0) -> bool:
            return True

    sent.logger_provider.add_log_record_processor(Chatty())  # type: ignore[arg-type]
    logger.info("once")
    assert [found.log_record.body for found in sent.logs] == ["once"]


def test_handler_never_raises_into_the_application(
    telemetry: InMemoryTelemetry, capsys: pytest.CaptureFixture[str]
) -> None:
    """A message that cannot be formatted is reported as by any other handler."""
    handler = OtlpHandler(logger_provider=telemetry.logger_provider)
    handler.handle(logging.makeLogRecord({"name": "app", "msg": "%d", "args": ("no number",)}))
    assert not telemetry.logs
    assert "Logging error" in capsys.readouterr().err


def test_structlogs_dictionaries_are_understood(logger: logging.Logger, sent: InMemoryTelemetry) -> None:
    """structlog through its ProcessorFormatter: the event is the body, the rest are attributes."""
    error = ValueError("boom")
    event = {"event": "charged", "order": 7, "level": "error", "timestamp": "t", "exc_info": error}

    def work(job: Job[Any]) -> BaseException | None:
        logger.error(event, extra={"_logger": logger, "_name": "app"})
        return job.error

    assert in_job(work) is error
    assert only(sent).log_record.body == "charged"
    found = attributes(sent)
    assert (found["order"], found["exception.type"]) == (7, "ValueError")
    assert not {"_logger", "level", "timestamp", "event", "exc_info"} & set(found)


class Colour(StrEnum):
    RED = "red"


class Size(IntEnum):
    BIG = 3


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True),
        (1.5, 1.5),
        (7, 7),
        (2**63 - 1, 2**63 - 1),
        (2**63, "9223372036854775808"),
        (-(2**63), -(2**63)),
        ("plain", "plain"),
        ("lone \udc80", "lone \\udc80"),
        (b"bytes \xff", "bytes \\xff"),
        ([1, 2], (1, 2)),
        ([1, 2**70], f"[1, {2**70}]"),
        ([1, "a"], "[1, 'a']"),
        ([], "[]"),
        ([None], "[None]"),
        ({"a": 1}, "{'a': 1}"),
        (None, None),
        (Unprintable(), "<unprintable Unprintable>"),
    ],
)
def test_attributes_are_what_otlp_can_carry(value: object, expected: object) -> None:
    """One value that cannot be encoded would cost the whole batch."""
    assert attribute(value) == expected


def test_enumerations_become_plain_values() -> None:
    """Encoders want the exact types."""
    assert type(attribute(Colour.RED)) is str
    assert type(attribute(Size.BIG)) is int


def test_long_text_is_cut_in_the_middle() -> None:
    """Where an exception was raised stands at the end, where it came from at the beginning."""
    cut = text("ä" * 10_000 + "the end", 1000)
    assert len(cut.encode()) <= 1000
    assert cut.startswith("ä")
    assert cut.endswith("the end")
    assert "[cut]" in cut


def test_stack_traces_are_cut() -> None:
    """16 KiB is what every back end takes."""
    found = exception_attributes(ValueError("x" * 100_000))
    assert len(str(found["exception.stacktrace"]).encode()) <= 16 * 1024


@pytest.mark.parametrize(
    ("level", "number", "name"),
    [(0, 1, None), (5, 3, None), (10, 5, "DEBUG"), (20, 9, "INFO"), (25, 11, None), (30, 13, "WARN"),
     (40, 17, "ERROR"), (50, 21, "FATAL"), (90, 24, None), (-5, 1, None)],
)  # fmt: skip
def test_severity(level: int, number: int, name: str | None) -> None:
    """The five levels map to the first of their severities, what lies between in between."""
    found, said = severity(level)
    assert (found.value, said) == (number, name)


def test_asking_for_correlation_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The observer follows jobs once anybody correlates, SDK or not."""
    for make in (JobFilter, OtlpHandler):
        monkeypatch.setattr(interest, "correlating", False)
        make()
        assert interest.correlating


def test_a_record_with_no_exception_current_is_fine(logger: logging.Logger, sent: InMemoryTelemetry) -> None:
    """logger.exception() outside of an except clause."""
    assert sys.exc_info() == (None, None, None)
    logger.exception("nothing to see")
    assert "exception.type" not in attributes(sent)
