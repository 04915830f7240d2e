"""`opentelemetry-instrument python app.py`, for real: a process of its own, and what leaves it."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from otel_sched import distro
from tests.support.otlp_receiver import OtlpReceiver

pytest.importorskip("opentelemetry.instrumentation.auto_instrumentation")

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "zero_code" / "app.py"
COMMAND = "import sys; sys.argv[0] = 'opentelemetry-instrument'; " + (
    "from opentelemetry.instrumentation.auto_instrumentation import run; run()"
)
WORK = """
import asyncio, logging
from opentelemetry import trace

async def main():
    orders = asyncio.Queue()
    for number in range(3):
        orders.put_nowait(number)
    while not orders.empty():
        number = await orders.get()
        try:
            if number == 1:
                raise ValueError("no such order")
        except ValueError:
            logging.exception("order failed")
        finally:
            orders.task_done()
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder on the path that says what an installed package says: the entry points of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    folder = tmp_path / "installed" / "otel_sched-0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: otel-sched\nVersion: 0\n", "utf-8")
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (folder / "entry_points.txt").write_text("\n".join(lines), "utf-8")
    return folder.parent


class Run:
    """Starts programs under the command, in a folder of the test's own."""

    def __init__(self, folder: Path, installed: Path) -> None:
        self._folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYTHON"))}
        path = os.pathsep.join([str(installed), str(ROOT)])
        self._environment = {**kept, "PYTHONPATH": path, "OTEL_SERVICE_NAME": "shop"}

    def __call__(self, program: str | Path, *flags: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        if isinstance(program, str):
            file = self._folder / "app.py"
            file.write_text(program, "utf-8")
        else:
            file = program
        return subprocess.run(
            [sys.executable, "-c", COMMAND, *flags, sys.executable, str(file)],
            cwd=self._folder,
            env={**self._environment, **environment},
            capture_output=True,
            text=True,
            timeout=45,
            check=True,
        )


@pytest.fixture
def run(tmp_path: Path, installed: Path) -> Run:
    """The command, with our package installed."""
    return Run(tmp_path, installed)


def printed_spans(output: str) -> list[dict[str, Any]]:
    """The spans that a console exporter has printed, among whatever else a program prints."""
    decoder, spans, at = json.JSONDecoder(), [], 0
    for match in re.finditer(r"^\{$", output, re.MULTILINE):
        if match.start() >= at:
            found, at = decoder.raw_decode(output, match.start())
            spans.append(found)
    return [span for span in spans if "context" in span]


RUN = WORK + "\nasyncio.run(main())\n"


def test_an_untouched_program_shows_a_span_for_every_job(run: Run) -> None:
    """The command alone, with a console exporter: names from the code, outcomes from what it logged."""
    done = run(RUN, "--traces_exporter", "console", "--metrics_exporter", "none", "--logs_exporter", "none")
    spans = printed_spans(done.stdout)
    assert [span["name"] for span in spans] == ["process app.main.orders"] * 3
    outcomes = [span["attributes"]["otel_sched.job.outcome"] for span in spans]
    assert outcomes == ["ok", "error", "ok"]
    assert spans[0]["resource"]["attributes"]["service.name"] == "shop"
    assert "ERROR:root:order failed" in done.stderr
    assert "opentelemetry" not in done.stderr


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_the_example_reaches_a_collector_whole(run: Run, protocol: str) -> None:
    """Every span and every count of the plain program arrives over OTLP when it ends."""
    with OtlpReceiver() as receiver:
        run(
            EXAMPLE,
            *("--distro", "otel_sched"),
            *("--exporter_otlp_endpoint", receiver.endpoint(protocol)),
            *("--exporter_otlp_protocol", protocol),
        )
    spans = receiver.spans()
    assert sorted({span.name for span in spans if span.kind == "CONSUMER"}) == [
        "process app.Shop.mail",
        "process app.Shop.orders",
    ]
    orders = [span for span in spans if span.name == "process app.Shop.orders"]
    assert len(orders) == 20
    failed = [span for span in orders if span.attributes["otel_sched.job.outcome"] == "error"]
    assert [span.attributes["error.type"] for span in failed] == ["ConnectionError"] * 2
    assert len([span for span in spans if span.name == "process app.Shop.mail"]) == 18
    put = {
        point.attributes["otel_sched.queue.name"]: point.value
        for point in receiver.metrics()
        if point.name == "otel_sched.jobs.put"
    }
    assert put == {"app.Shop.orders": 20, "app.Shop.mail": 18}


def test_the_environment_chooses_whose_queues(run: Run) -> None:
    """OTEL_PYTHON_OTEL_SCHED_EXCLUDE leaves a module out, and a mistake in it does not stop the program."""
    done = run(
        RUN,
        OTEL_PYTHON_OTEL_SCHED_EXCLUDE="app, ../wrong",
        OTEL_TRACES_EXPORTER="console",
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
    )
    assert printed_spans(done.stdout) == []
    assert "'../wrong' is no pattern" in done.stderr


def test_the_command_can_leave_us_out(run: Run) -> None:
    """OTEL_PYTHON_DISABLED_INSTRUMENTATIONS and OTEL_SDK_DISABLED mean what they say."""
    quiet = {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none", "OTEL_TRACES_EXPORTER": "console"}
    assert not printed_spans(run(RUN, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="otel_sched", **quiet).stdout)
    assert not printed_spans(run(RUN, OTEL_SDK_DISABLED="true", **quiet).stdout)


OWN_SDK = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
"""


@pytest.mark.parametrize("early", [True, False], ids=["before the queue", "after the queue"])
def test_a_program_with_an_sdk_of_its_own_keeps_it(run: Run, early: bool) -> None:
    """Where nobody asks us for an SDK the program's own is used, also when it is set after the queue."""
    queue, install = "orders = asyncio.Queue()", "trace.set_tracer_provider(provider)"
    lines = [install, queue] if early else [queue, install]
    done = run(OWN_SDK + RUN.replace(queue, "\n    ".join(lines)))
    assert [span["name"] for span in printed_spans(done.stdout)] == ["process app.main.orders"] * 3
    assert "not allowed" not in done.stderr


def test_the_programs_logging_is_its_own(run: Run) -> None:
    """basicConfig() does nothing where the root logger has a handler already: we add none."""
    program = RUN.replace(
        "asyncio.run(main())",
        "logging.basicConfig(format='own %(message)s', force=False)\nasyncio.run(main())\n"
        "print('handlers:', len(logging.getLogger().handlers))",
    )
    quiet = {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    done = run(program, "--distro", "otel_sched", "--traces_exporter", "console", **quiet)
    assert done.stderr.startswith("own order failed")
    assert "handlers: 1\n" in done.stdout


class Point:
    """An entry point of some package, as far as a name goes."""

    def __init__(self, name: str) -> None:
        self.name = name


@pytest.mark.parametrize(
    ("environment", "distros", "configurators", "wanted"),
    [
        ({}, ["otel_sched"], [], False),
        ({"OTEL_PYTHON_DISTRO": "otel_sched"}, ["otel_sched"], [], True),
        ({"OTEL_PYTHON_DISTRO": "otel_sched"}, ["otel_sched", "vendor"], [], True),
        ({"OTEL_PYTHON_DISTRO": "vendor"}, ["otel_sched", "vendor"], [], False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ["otel_sched"], [], True),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, ["otel_sched"], [], True),
        ({"OTEL_LOGS_EXPORTER": "otlp"}, ["otel_sched"], [], True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ["otel_sched", "vendor"], [], False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ["otel_sched"], ["vendor"], False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317"}, ["otel_sched"], [], False),
    ],
)
def test_our_distro_keeps_out_of_the_way(
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    distros: list[str],
    configurators: list[str],
    wanted: bool,
) -> None:
    """It acts when named, or alone and asked to export by a variable that only the command reads."""
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    groups = {"opentelemetry_distro": distros, "opentelemetry_configurator": configurators}
    monkeypatch.setattr(distro, "entry_points", lambda group: [Point(name) for name in groups[group]])
    made = distro.distro()
    assert (made is not None) is wanted
    if wanted:
        from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined]

        assert isinstance(made, BaseDistro)


def test_our_distro_leaves_the_sdk_to_a_configurator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a package brings one, the command runs it after the distro; two would set providers twice."""
    monkeypatch.setenv("OTEL_PYTHON_DISTRO", "otel_sched")
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(distro, "configure", lambda **arguments: calls.append(arguments))
    installed: list[Point] = [Point("vendor")]
    monkeypatch.setattr(distro, "entry_points", lambda group: installed)
    made: Any = distro.distro()
    made.configure()
    assert calls == []
    installed.clear()
    made.configure()
    assert calls == [{"logging": False, "structlog": False}]
