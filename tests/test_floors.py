"""The architecture, held: floors instead of circles, guests only where they belong, files that fit in a head.

Every import counts, also under TYPE_CHECKING, inside functions, and by import_module with a constant name.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "otel_sched"

# A module imports from its own floor and from lower ones. A package stands for all modules inside it.
FLOORS: dict[int, str] = {
    1: "_core _core.bytecode _core.callable _core.callsite _core.census _core.clock _core.complaint _core.errors "
    "_core.job _core.liveness _core.options _core.repeats _core.snapshot _core.version",
    2: "_core.blocking _core.broker _core.finding _core.ledger _core.names _core.observer _core.points _core.waiting",
    3: "_core.consumer _core.dropin _core.observed _core.queue _core.runner _core.stats _core.tracker",
    4: "_core.pool _core.watch _core.wrap",
    5: "diagnostics health telemetry",
    6: "__init__ __main__ autostart cli demo distro instrumentor testing",
}
WINGS = 5  # the floor whose packages never import one another

# What each part may import besides the standard library and this package: top-level names.
GUESTS: dict[str, str] = {
    "_core": "",
    "diagnostics": "",
    "health": "",
    "telemetry": "opentelemetry structlog",
    "testing": "opentelemetry pytest",
    "demo": "opentelemetry rich structlog",
    "autostart": "",
    "instrumentor": "opentelemetry",
    "cli": "",
    "distro": "opentelemetry",
    "__init__": "",
    "__main__": "",
}

FILE_LINES = 300
FUNCTION_LINES = 40
FRONT_DOOR_LINES = 70


@dataclass
class Module:
    """One source file: its name below the package, its tree, and what it imports."""

    name: str
    source: str
    tree: ast.Module
    inside: set[str] = field(default_factory=set)
    guests: set[str] = field(default_factory=set)

    @property
    def part(self) -> str:
        """The first step of the name: `_core`, a wing, or a module at the top."""
        return self.name.partition(".")[0]


def read_modules(package: Path) -> dict[str, Module]:
    """Parse every file of a package and resolve its imports to modules of the package and to guests."""
    modules = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        source = path.read_text("utf-8")
        modules[name] = Module(name, source, ast.parse(source, path.name))
    packages = {".".join(path.parent.relative_to(package).parts) for path in package.rglob("__init__.py")}
    for module in modules.values():
        for target in imports(module, package.name, is_package=module.name in packages | {"__init__"}):
            top, _, below = target.partition(".")
            if top == package.name:
                module.inside |= {nearest(below, modules)} - {module.name}
            elif top not in sys.stdlib_module_names:
                module.guests.add(top)
    return modules


def imports(module: Module, package: str, *, is_package: bool) -> Iterator[str]:
    """Yield the full dotted name of everything that a module imports, wherever in the file."""
    own = [package, *module.name.split(".")] if module.name != "__init__" else [package, "__init__"]
    if is_package and module.name != "__init__":
        own.append("__init__")
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = own[: len(own) - node.level] if node.level else []
            base += node.module.split(".") if node.module else []
            yield from (".".join([*base, alias.name]) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"import_module", "__import__"} and isinstance(node.args[0].value, str):
                yield node.args[0].value


def nearest(below: str, modules: dict[str, Module]) -> str:
    """Return the module that a dotted name lies in: itself, or what is left without its last steps."""
    while below and below not in modules:
        below = below.rpartition(".")[0]
    return below or "__init__"


def floor_of(name: str) -> int | None:
    """Return the floor of a module: its own entry, or that of the wing or package at the top."""
    entries = {entry: floor for floor, names in FLOORS.items() for entry in names.split()}
    part = name.partition(".")[0]
    return entries.get(name, entries.get(part) if part != "_core" else None)


def misplaced(modules: dict[str, Module]) -> Iterator[str]:
    """Yield a sentence for each module without a floor and each import that leads upwards or across wings."""
    for module in modules.values():
        floor = floor_of(module.name)
        if floor is None:
            yield f"{module.name} stands on no floor: add it to FLOORS in tests/test_floors.py"
            continue
        for target in sorted(module.inside):
            target_floor = floor_of(target)
            if target_floor is not None and target_floor > floor:
                yield f"{module.name} (floor {floor}) imports {target} (floor {target_floor}): only downwards"
            elif target_floor == floor == WINGS and target.partition(".")[0] != module.part:
                yield f"{module.name} imports {target}: wings do not import one another"


def circles(modules: dict[str, Module]) -> Iterator[str]:
    """Yield one circle of imports, if there is any."""
    try:
        TopologicalSorter({module.name: module.inside for module in modules.values()}).prepare()
    except CycleError as error:
        yield f"imports in a circle: {' -> '.join(reversed(error.args[1]))}"


def strangers(modules: dict[str, Module]) -> Iterator[str]:
    """Yield a sentence for each foreign package that is imported where it is no guest."""
    for module in modules.values():
        allowed = GUESTS.get(module.part)
        if allowed is None:
            yield f"{module.part} has no list of guests: add it to GUESTS in tests/test_floors.py"
            continue
        for guest in sorted(module.guests - set(allowed.split())):
            yield f"{module.name} imports {guest}: {module.part} may import {allowed or 'nothing foreign'}"


def unlabelled(modules: dict[str, Module]) -> Iterator[str]:
    """Yield a sentence for each module whose docstring does not open with its floor."""
    for module in modules.values():
        said = re.match(r"Floor (\d)\b", ast.get_docstring(module.tree) or "")
        if module.name in {"__init__", "_core"}:
            continue
        if said is None or int(said[1]) != floor_of(module.name):
            yield f"{module.name}: its docstring must open with 'Floor {floor_of(module.name)}'"


def oversized(modules: dict[str, Module]) -> Iterator[str]:
    """Yield a sentence for each file and each function that has grown too long."""
    for module in modules.values():
        lines = module.source.count("\n")
        limit = FRONT_DOOR_LINES if module.name == "__init__" else FILE_LINES
        if lines > limit:
            yield f"{module.name} has {lines} lines: at most {limit}"
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = body_lines(node)
                if length > FUNCTION_LINES:
                    yield f"{module.name}.{node.name} has {length} lines: at most {FUNCTION_LINES}"


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function's body, comments included, its docstring left out."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


Rule = Callable[[dict[str, Module]], Iterator[str]]
RULES: list[Rule] = [misplaced, circles, strangers, unlabelled, oversized]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule: Rule) -> None:
    """The code as it stands keeps each rule of the house; the failure says which file breaks it and how."""
    modules = read_modules(PACKAGE)
    assert len(modules) > 20, f"only {len(modules)} modules were found in {PACKAGE.name}"
    complaints = list(rule(modules))
    assert not complaints, "\n" + "\n".join(complaints)


def test_every_entry_of_the_tables_exists() -> None:
    """A floor kept for a module that is gone would let another one move in unseen."""
    modules = read_modules(PACKAGE)
    entries = {entry for names in FLOORS.values() for entry in names.split()}
    assert sorted(entries - set(modules)) == []
    assert sorted(set(GUESTS) - {module.part for module in modules.values()}) == []


@pytest.mark.parametrize(
    ("rule", "path", "source", "complaint"),
    [
        (misplaced, "_core/job.py", "from ._x import y", ""),
        (misplaced, "_core/job.py", "import otel_sched._core.queue", "job (floor 1) imports _core.queue (fl"),
        (misplaced, "_core/job.py", "from .queue import Queue", "_core.job (floor 1) imports _core.queue"),
        (misplaced, "_core/job.py", "from . import queue", "_core.job (floor 1) imports _core.queue"),
        (misplaced, "_core/job.py", "from .. import Queue", "_core.job (floor 1) imports __init__"),
        (
            misplaced,
            "_core/job.py",
            "if TYPE_CHECKING:\n from .queue import Q",
            "imports _core.queue (floor 3)",
        ),
        (misplaced, "_core/job.py", "def f():\n import otel_sched.cli", "imports cli (floor 6)"),
        (misplaced, "_core/job.py", "import_module('otel_sched.cli')", "imports cli (floor 6)"),
        (misplaced, "_core/queue.py", "from .job import Job", ""),
        (misplaced, "_core/queue.py", "from .stats import Stats", ""),
        (misplaced, "testing/loop.py", "from .._core.queue import Queue", ""),
        (misplaced, "testing/loop.py", "from ..telemetry.names import X", ""),
        (misplaced, "diagnostics/scan.py", "from ..telemetry.names import X", "wings do not import one another"),
        (misplaced, "telemetry/logs.py", "from .names import X", ""),
        (misplaced, "telemetry/__init__.py", "from .names import X", ""),
        (misplaced, "_core/novel.py", "", "_core.novel stands on no floor: add it to FLOORS"),
        (misplaced, "novel/wing.py", "", "novel.wing stands on no floor: add it to FLOORS"),
        (circles, "_core/stats.py", "def f():\n from .queue import Queue", "_core.queue -> _core.stats"),
        (
            strangers,
            "_core/job.py",
            "import opentelemetry.trace",
            "_core.job imports opentelemetry: _core may",
        ),
        (strangers, "_core/job.py", "def f():\n from redis import Redis", "_core.job imports redis"),
        (strangers, "_core/job.py", "import asyncio, heapq", ""),
        (strangers, "telemetry/logs.py", "from opentelemetry import trace", ""),
        (strangers, "novel/wing.py", "", "novel has no list of guests"),
        (unlabelled, "_core/job.py", '"""Floor 1: a job."""', ""),
        (unlabelled, "_core/job.py", '"""Floor 2: a job."""', "must open with 'Floor 1'"),
        (unlabelled, "_core/job.py", '"""A job."""', "must open with 'Floor 1'"),
        (oversized, "_core/job.py", "x = 1\n" * 300, ""),
        (oversized, "_core/job.py", "x = 1\n" * 301, "_core.job has 301 lines: at most 300"),
        (oversized, "__init__.py", "x = 1\n" * 71, "__init__ has 71 lines: at most 70"),
        (
            oversized,
            "_core/job.py",
            'def f():\n """Say.\n\n More."""\n' + " x = 1\n" * 40,
            "",
        ),
        (
            oversized,
            "_core/job.py",
            "async def f():\n" + " x = 1\n" * 41,
            "_core.job.f has 41 lines: at most 40",
        ),
    ],
)
def test_the_rules_find_what_they_forbid(tmp_path: Path, rule: Rule, path: str, source: str, complaint: str) -> None:
    """Each rule, given a small package that breaks it, says so; given one that does not, it is silent."""
    package = tmp_path / "otel_sched"
    files = {
        "__init__.py": "",
        "cli.py": "",
        "_core/__init__.py": "",
        "_core/stats.py": '"""Floor 3: x."""',
        "_core/queue.py": '"""Floor 3: x."""\nfrom .stats import Stats',
        "telemetry/__init__.py": '"""Floor 5: x."""',
        "telemetry/names.py": '"""Floor 5: x."""',
    }
    for file, text in {**files, path: source}.items():
        (package / file).parent.mkdir(parents=True, exist_ok=True)
        (package / file).write_text(text, "utf-8")
    complaints = [line for line in rule(read_modules(package)) if not line.startswith("cli:")]
    if complaint:
        assert complaint in "\n".join(complaints)
    else:
        assert complaints == []
