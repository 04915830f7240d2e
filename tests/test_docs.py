"""The documentation, held: the tutorial runs, links lead somewhere, and the reference knows every public name."""

import ast
import inspect
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import otel_sched
from tests.test_floors import FLOORS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    page
    for page in [
        *ROOT.glob("*.md"),
        *(each for top in ("docs", "examples", "benchmarks") for each in (ROOT / top).rglob("*.md")),
    ]
)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
README_LINES = 120


@dataclass
class Step:
    """One program of the tutorial: its text, the variables it runs with, and the lines it is said to print."""

    program: str
    environment: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)


def steps() -> list[Step]:
    """Read the tutorial's programs, each with the command and the output that follow it."""
    found: list[Step] = []
    for language, text in BLOCK.findall((DOCS / "tutorial.md").read_text("utf-8")):
        if language == "python":
            found.append(Step(text))
        elif language == "sh" and text.rstrip().endswith("python app.py"):
            words = shlex.split(text)[:-2]
            found[-1].environment = dict(word.split("=", 1) for word in words)
        elif language == "text":
            found[-1].lines = text.splitlines()
    return found


@pytest.mark.parametrize("step", steps(), ids=lambda step: "-".join(step.environment) or "plain")
def test_the_tutorial_prints_what_it_says(step: Step, tmp_path: Path) -> None:
    """Each program ends well, and the lines shown stand in its output, in their order for each stream."""
    (tmp_path / "app.py").write_text(step.program, "utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "app.py"],
        cwd=tmp_path,
        env={**environment, **step.environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert step.lines, "the tutorial shows no output of this program"
    left = {"out": done.stdout, "err": done.stderr}
    for line in step.lines:
        shape = ".*".join(re.escape(part) for part in line.strip().split("..."))
        for stream, text in left.items():
            match = re.search(shape, text)
            if match is not None:
                left[stream] = text[match.end() :]
                break
        else:
            pytest.fail(f"{line!r} is not in what is left of\n{done.stdout}\n{done.stderr}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file, and every anchor a heading in it."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}, which is not there"
        if anchor:
            assert anchor in anchors(file.read_text("utf-8")), f"{page.name} links to {target}: no such heading"


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_programs_in_the_documentation_parse(page: Path) -> None:
    """Every block of Python is valid Python."""
    for language, text in BLOCK.findall(page.read_text("utf-8")):
        if language == "python":
            compile(text, page.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def programs() -> Iterator[Any]:
    """Yield the blocks, outside the tutorial, that are whole programs: those that run an event loop."""
    for page in PAGES:
        blocks = [text for language, text in BLOCK.findall(page.read_text("utf-8")) if language == "python"]
        for number, text in enumerate(blocks, 1):
            if page.name != "tutorial.md" and re.search(r"^(asyncio\.)?run\(|    asyncio\.run\(", text, re.MULTILINE):
                yield pytest.param(text, id=f"{page.relative_to(ROOT)}-{number}")


@pytest.mark.parametrize("program", list(programs()))
def test_whole_programs_in_the_documentation_run(program: str, tmp_path: Path) -> None:
    """A block that starts an event loop ends well, with nothing exported and warnings as errors."""
    (tmp_path / "app.py").write_text(program, "utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    environment |= {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "app.py"],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_page_is_in_the_index() -> None:
    """docs/README.md links to every page below docs/."""
    index = (DOCS / "README.md").read_text("utf-8")
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} - {"README.md"}
    assert pages == {target for target in re.findall(r"\]\(([\w/.-]+\.md)\)", index) if not target.startswith("../")}


def test_the_design_has_every_module_on_its_floor() -> None:
    """The table in docs/design.md is the one that tests/test_floors.py enforces."""
    table = re.findall(r"^\| (\d) \| ([^|]+) \|", (DOCS / "design.md").read_text("utf-8"), re.MULTILINE)
    documented = {int(floor): set(re.findall(r"`(?:_core/)?(\w+)/?`", modules)) for floor, modules in table}
    assert documented == {
        floor: {entry.removeprefix("_core.") for entry in entries.split()} - {"_core"}
        for floor, entries in FLOORS.items()
    }


def test_the_reference_knows_every_public_name() -> None:
    """Each name of the front door has a heading or stands in a table of docs/reference.md."""
    reference = (DOCS / "reference.md").read_text("utf-8")
    missing = {name for name in otel_sched.__all__ if not re.search(rf"`{name}\b", reference)}
    assert not missing


@pytest.mark.parametrize(
    "name", ["Queue", "Job", "Stats", "PoolStats", "WorkerPool", "Telemetry", "Listener", "Observer"]
)
def test_the_reference_knows_every_member(name: str) -> None:
    """Methods, attributes and constructor arguments of the public classes stand in docs/reference.md."""
    reference = (DOCS / "reference.md").read_text("utf-8")
    kind = getattr(otel_sched, name)
    own = [cls for cls in kind.__mro__ if cls.__module__.startswith("otel_sched")]
    members = {member for cls in own for member in (*vars(cls), *vars(cls).get("__annotations__", {}))}
    members |= set(inspect.signature(kind).parameters) if name in ("Queue", "WorkerPool") else set()
    internal = {"Job": {"context", "ledger", "noted", "outer", "owner", "series", "trace", "taken", "T"}}
    missing = {
        member
        for member in members - internal.get(name, set())
        if not member.startswith("_")
        and member not in ("settings", "args", "kwargs")
        and not re.search(rf"`{member}\b", reference)
    }
    assert not missing


def test_the_readme_is_short() -> None:
    """What a newcomer reads first stays under its limit, and names the two commands."""
    readme = (ROOT / "README.md").read_text("utf-8")
    assert len(readme.splitlines()) < README_LINES
    assert "make demo" in readme
    assert "make test" in readme
