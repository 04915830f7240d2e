"""structlog: a job's identity on every event, and every event over OTLP exactly once."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from opentelemetry import context as otel_context

from otel_sched._core.job import Job
from otel_sched.telemetry import interest
from otel_sched.telemetry.logs import OtlpHandler
from otel_sched.telemetry.structlog import OtlpProcessor, add_job_context
from otel_sched.testing import InMemoryTelemetry
from tests.support.running_job import in_job


@pytest.fixture(autouse=True)
def _own_structlog() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


def native(telemetry: InMemoryTelemetry) -> tuple[Any, io.StringIO]:
    """Return a logger that writes JSON lines and sends OTLP, and where it writes."""
    out = io.StringIO()
    logger = structlog.wrap_logger(
        structlog.PrintLogger(out),
        processors=[
            structlog.processors.add_log_level,
            add_job_context,
            OtlpProcessor(telemetry.logger_provider),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
    )
    return logger, out


def sent(telemetry: InMemoryTelemetry) -> list[tuple[object, dict[str, Any]]]:
    return [(found.log_record.body, dict(found.log_record.attributes or {})) for found in telemetry.logs]


def test_line_and_record_of_a_job_agree(telemetry: InMemoryTelemetry) -> None:
    """Short names on the line, the span's names over OTLP, the same values."""
    log, out = native(telemetry)
    tracer = telemetry.tracer_provider.get_tracer("test")

    def work(job: Job[Any]) -> tuple[Job[Any], Any]:
        with tracer.start_as_current_span("inside") as span:
            log.info("charged", order=7)
            return job, span.get_span_context()

    job, span = in_job(work)
    line = json.loads(out.getvalue())
    assert line == {
        "event": "charged",
        "order": 7,
        "level": "info",
        "trace_id": f"{span.trace_id:032x}",
        "span_id": f"{span.span_id:016x}",
        "trace_flags": f"{span.trace_flags:02x}",
        "queue": "orders",
        "job_id": job.id,
        "job_name": job.name,
        "attempt": 1,
    }
    (found,) = telemetry.logs
    assert (found.log_record.trace_id, found.log_record.span_id) == (span.trace_id, span.span_id)
    assert sent(telemetry) == [
        (
            "charged",
            {
                "order": 7,
                "otel_sched.queue.name": "orders",
                "otel_sched.job.id": job.id,
                "otel_sched.job.name": job.name,
                "otel_sched.job.attempt": 1,
            },
        )
    ]


def test_nothing_is_added_outside_of_jobs_and_spans() -> None:
    """No empty keys on the lines of everything else."""
    assert add_job_context(None, "info", {"event": "x"}) == {"event": "x"}


def test_keys_of_the_event_stay() -> None:
    """The application's own `queue` wins."""
    found = in_job(lambda _job: add_job_context(None, "info", {"event": "x", "queue": "mine"}))
    assert (found["queue"], found["attempt"]) == ("mine", 1)


@pytest.mark.parametrize("form", ["true", "tuple", "exception"])
def test_exceptions_in_every_form(form: str, telemetry: InMemoryTelemetry) -> None:
    """exc_info=True, a tuple, an exception: the job's error, and the record's attributes."""
    log, _ = native(telemetry)

    def work(job: Job[Any]) -> tuple[BaseException | None, BaseException]:
        try:
            raise KeyError("boom")
        except KeyError as error:
            info: Any = {"true": True, "tuple": (KeyError, error, error.__traceback__), "exception": error}[form]
            log.error("failed", exc_info=info)
            return job.error, error

    noted, raised = in_job(work)
    assert noted is raised
    ((body, attributes),) = sent(telemetry)
    assert (body, attributes["exception.type"], attributes["exception.message"]) == (
        "failed",
        "KeyError",
        "'boom'",
    )
    assert "exc_info" not in attributes


def test_correlation_alone_notes_the_error() -> None:
    """A chain without the OTLP processor tells the job as well."""
    boom = ValueError("boom")

    def work(job: Job[Any]) -> BaseException | None:
        add_job_context(None, "error", {"event": "failed", "exc_info": boom})
        return job.error

    assert in_job(work) is boom


def test_an_exception_that_was_rendered_already_is_sent_as_stack_trace(telemetry: InMemoryTelemetry) -> None:
    """format_exc_info before our processor: late, but not lost."""
    processor = OtlpProcessor(telemetry.logger_provider)
    processor(None, "error", {"event": "failed", "exception": "Traceback ..."})
    assert sent(telemetry) == [("failed", {"exception.stacktrace": "Traceback ..."})]


@pytest.mark.parametrize(
    ("method", "event", "expected"),
    [
        ("debug", {}, "DEBUG"),
        ("info", {}, "INFO"),
        ("warning", {}, "WARN"),
        ("warn", {}, "WARN"),
        ("exception", {}, "ERROR"),
        ("critical", {}, "FATAL"),
        ("msg", {}, "INFO"),
        ("info", {"level": "error"}, "ERROR"),
        ("error", {"level": "a word of their own"}, "ERROR"),
    ],
)
def test_severity(method: str, event: dict[str, Any], expected: str, telemetry: InMemoryTelemetry) -> None:
    """The event's level, else the method's."""
    OtlpProcessor(telemetry.logger_provider)(None, method, {"event": "x", **event})
    assert telemetry.logs[0].log_record.severity_text == expected


def test_scope_is_the_loggers_name(telemetry: InMemoryTelemetry) -> None:
    """From the event, else from the logger, else structlog."""
    processor = OtlpProcessor(telemetry.logger_provider)
    processor(None, "info", {"event": "x", "logger": "app.orders"})
    processor(logging.getLogger("app.mail"), "info", {"event": "x"})
    processor(None, "info", {"event": "x"})
    scopes = [found.instrumentation_scope for found in telemetry.logs]
    assert [scope.name for scope in scopes if scope] == ["app.orders", "app.mail", "structlog"]


def test_the_event_is_passed_on_unchanged(telemetry: InMemoryTelemetry) -> None:
    """Whatever is in it."""
    event: dict[str, Any] = {"event": "x", "thing": object(), "big": 2**80, "exc_info": True}
    before = dict(event)
    assert OtlpProcessor(telemetry.logger_provider)(None, "info", event) is event
    assert event == before
    assert sent(telemetry)[0][1]["big"] == str(2**80)


def test_a_failure_is_logged_once_and_never_raised(caplog: pytest.LogCaptureFixture) -> None:
    """The application's log line comes out all the same."""

    class Broken:
        def get_logger(self, *_args: object, **_kwargs: object) -> Any:
            raise RuntimeError("broken")

    processor = OtlpProcessor(Broken())  # type: ignore[arg-type]
    with caplog.at_level(logging.ERROR, "otel_sched"):
        for _ in range(3):
            assert processor(None, "info", {"event": "x"}) == {"event": "x"}
    assert len(caplog.records) == 1


def test_nothing_is_sent_once_closed_or_from_inside_an_exporter(telemetry: InMemoryTelemetry) -> None:
    """Loggers keep their processors for good, so ending is the processor's own affair."""
    processor = OtlpProcessor(telemetry.logger_provider)
    token = otel_context.attach(otel_context.set_value("suppress_instrumentation", True))
    processor(None, "info", {"event": "exporting"})
    otel_context.detach(token)
    processor.close()
    assert processor(None, "info", {"event": "late"}) == {"event": "late"}
    assert not telemetry.logs


@pytest.fixture
def stdlib(telemetry: InMemoryTelemetry) -> Iterator[logging.Logger]:
    """A stdlib logger whose records go out over OTLP."""
    own = logging.getLogger("app.through_stdlib")
    own.propagate = False
    own.setLevel(logging.INFO)
    own.addHandler(OtlpHandler(logger_provider=telemetry.logger_provider))
    yield own
    own.handlers.clear()
    own.propagate = True
    own.setLevel(logging.NOTSET)


@pytest.mark.parametrize("rendering", ["json", "formatter"])
def test_through_stdlib_each_line_goes_out_once(
    rendering: str, stdlib: logging.Logger, telemetry: InMemoryTelemetry
) -> None:
    """Processor and handler both there: the handler sends, with ProcessorFormatter attribute by attribute."""
    last: Any = structlog.processors.JSONRenderer()
    if rendering == "formatter":
        last = structlog.stdlib.ProcessorFormatter.wrap_for_formatter
    log = structlog.wrap_logger(
        stdlib,
        wrapper_class=structlog.stdlib.BoundLogger,
        processors=[add_job_context, OtlpProcessor(telemetry.logger_provider), last],
    )
    job = in_job(lambda job: log.info("charged", order=7) or job)
    ((body, attributes),) = sent(telemetry)
    assert attributes["otel_sched.job.id"] == job.id
    if rendering == "formatter":
        assert (body, attributes["order"]) == ("charged", 7)
        assert "job_id" not in attributes
    else:
        assert json.loads(str(body))["order"] == 7


def test_through_stdlib_below_the_handlers_level_the_processor_sends(
    stdlib: logging.Logger, telemetry: InMemoryTelemetry
) -> None:
    """Neither twice nor not at all."""
    stdlib.handlers[0].setLevel(logging.ERROR)
    log = structlog.wrap_logger(
        stdlib,
        wrapper_class=structlog.stdlib.BoundLogger,
        processors=[OtlpProcessor(telemetry.logger_provider), structlog.processors.JSONRenderer()],
    )
    log.info("charged", order=7)
    assert sent(telemetry) == [("charged", {"order": 7})]


def test_asking_for_correlation_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The observer follows jobs once anybody correlates, SDK or not."""
    monkeypatch.setattr(interest, "correlating", False)
    OtlpProcessor()
    assert interest.correlating
