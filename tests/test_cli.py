"""The command `otel-sched`: what it says to wrong arguments and missing packages, and what it does not load."""

import io
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import otel_sched
from otel_sched.cli import main, missing

ROOT = Path(__file__).parents[1]


def test_the_installed_command_is_this_one() -> None:
    """The script that pyproject.toml declares exists."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    module, _, function = scripts["otel-sched"].partition(":")

    assert getattr(import_module(module), function) is main


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """`otel-sched --version` prints the package's version."""
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])

    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"otel-sched {otel_sched.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "required: COMMAND"),
        (["dance"], "invalid choice: 'dance'"),
        (["demo", "--rate", "0"], "argument --rate: expected a positive number, got '0'"),
        (["demo", "--rate", "nan"], "argument --rate: expected a positive number, got 'nan'"),
        (["demo", "--for", "inf"], "argument --for: expected a positive number, got 'inf'"),
        (["demo", "--for", "soon"], "argument --for: expected a positive number, got 'soon'"),
        (["demo", "--seed", "x"], "argument --seed: invalid int value: 'x'"),
        (["demo", "--plain", "--json"], "not allowed with argument --plain"),
        (["demo", "--protocol", "carrier-pigeon"], "argument --protocol: invalid choice"),
    ],
)
def test_wrong_arguments_are_told(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each mistake has its message and exit code 2."""
    with pytest.raises(SystemExit) as exit_:
        main(arguments)

    assert exit_.value.code == 2
    assert complaint in capsys.readouterr().err


def run(*arguments: str, before: str = "") -> "subprocess.CompletedProcess[str]":
    """Run the command in a process of its own, after some lines of Python."""
    code = f"import sys\n{before}\nfrom otel_sched.cli import main\nsys.exit(main({list(arguments)}))"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize(
    "module", ["opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.exporter.otlp", "structlog"]
)
def test_a_missing_extra_is_one_line(module: str) -> None:
    """Without a package that the demo needs there is a command that installs it, exit code 2 and no traceback."""
    done = run("demo", "--for", "1", "--json", before=f"sys.modules[{module!r}] = None")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("otel-sched: demo needs ")
    assert done.stderr.endswith(": pip install 'otel-sched[demo]'\n")
    assert done.stderr.count("\n") == 1


def test_what_is_installed_is_not_missing() -> None:
    """Only what cannot be found is complained of, the first of it."""
    assert missing("demo", ["json", "structlog"]) is None
    assert missing("demo", ["json", "no_such", "nor_such"]) == "demo needs no_such: pip install 'otel-sched[demo]'"
    assert missing("demo", ["no_such.inner"]) == "demo needs no_such.inner: pip install 'otel-sched[demo]'"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--endpoint", "nonsense"], "endpoint='nonsense' is no http or https URL"),
        (["--endpoint", "http://h:1/path", "--protocol", "grpc"], "has a path, which gRPC cannot use"),
    ],
)
def test_an_endpoint_that_is_none_is_one_line(arguments: list[str], complaint: str) -> None:
    """What `configure()` refuses is said in one line, before anything ran."""
    done = run("demo", "--for", "1", "--json", *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("otel-sched: ")
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_command_loads_nothing_heavy() -> None:
    """Help and version come without the SDK, structlog, rich or the demo."""
    done = run(
        "--version",
        before="import atexit; atexit.register(lambda: print(sorted(name for name in sys.modules if name.startswith("
        "('opentelemetry.sdk', 'opentelemetry.exporter', 'structlog', 'rich', 'otel_sched.demo')))))",
    )

    assert done.stdout.splitlines() == [f"otel-sched {otel_sched.__version__}", "[]"]


def test_the_package_runs_as_a_module() -> None:
    """`python -m otel_sched` is the command too."""
    done = subprocess.run(
        [sys.executable, "-m", "otel_sched", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    assert done.stdout == f"otel-sched {otel_sched.__version__}\n"


def test_a_process_without_a_standard_output_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where sys.stdout is None the arguments are checked as always."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr("otel_sched.cli.missing", lambda *_: "nothing there")
    monkeypatch.setattr("otel_sched.demo.interrupts.Interrupts.install", lambda _: None)

    assert main(["demo"]) == 2
