"""A queue without a name is called after the place that creates it, on every Python alike."""

import asyncio
import collections
import functools
import os
import pathlib
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any, Generic, TypeVar

import pytest

from otel_sched._core import bytecode, callsite

T = TypeVar("T")
HERE = "named"


class Named(asyncio.Queue[Any]):
    """A queue that keeps the name it would get."""

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize)
        self.label = callsite.creation_name(self)
        self.site = callsite.creation_site(self)


class Typed(Named, Generic[T]):
    """Called as `Typed[int]()`, which goes through a function of `typing`."""


class Custom(Named):
    """A subclass with a constructor of its own, and two more frames between."""

    def __init__(self, extra: str) -> None:
        self.extra = extra
        self._prepare()

    def _prepare(self) -> None:
        super().__init__(1)


class Made(Named):
    """A subclass that is made by `__new__`."""

    def __new__(cls) -> "Made":
        made = super().__new__(cls)
        made.__init__()  # type: ignore[misc]
        return made


class Meta(type):
    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)


class Metered(Named, metaclass=Meta):
    """A subclass whose metaclass stands between the caller and the constructor."""


class Loose(Named):
    """A subclass whose constructor names no first argument."""

    def __init__(*args: Any) -> None:
        Named.__init__(*args)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    callsite.reset()
    yield
    callsite.reset()


def name_of(source: str, expression: str = "orders", **names: Any) -> str:
    """Run *source* as the module `named` and return the name of the queue that *expression* finds there."""
    space: dict[str, Any] = {"__name__": HERE, "Queue": Named} | names
    exec(compile(source, "named.py", "exec"), space)
    queue = eval(expression, space)
    assert isinstance(queue, Named)
    return queue.label


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("orders = Queue()", "named.orders"),
        ("orders = Queue(maxsize=3)", "named.orders"),
        ("orders = Queue(*[3])", "named.orders"),
        ("orders = Queue(**{'maxsize': 3})", "named.orders"),
        ("orders: object = Queue()", "named.orders"),
        ("orders = backup = Queue()", "named.orders"),
        ("backup, orders = Queue(), Queue()", "named.orders"),
        ("a, b, orders = Queue(), Queue(), Queue()", "named.orders"),
        ("a, orders, c, d = Queue(), Queue(), Queue(), Queue()", "named.orders"),
        ("if (orders := Queue()): pass", "named.orders"),
        ("orders = None or Queue()", "named.orders"),
        ("orders = Queue() if __name__ else None", "named.orders"),
        ("orders = None if not __name__ else Queue()", "named.orders"),
        ("try:\n  raise ValueError\nexcept ValueError:\n  orders = Queue()", "named.orders"),
        ("with open('/dev/null'):\n  orders = Queue()", "named.orders"),
        ("for _ in '123':\n  orders = Queue()", "named.orders"),
        ("while True:\n  orders = Queue()\n  break", "named.orders"),
    ],
)
def test_a_module_level_queue_is_called_after_its_variable(source: str, name: str) -> None:
    """Whatever the assignment looks like, the name is the module's and the variable's."""
    assert name_of(source) == name


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("orders = Queue(); return orders", "main.orders"),
        ("a, orders = Queue(), Queue(); return orders", "main.orders"),
        ("orders, b = Queue(), Queue(); return orders", "main.orders"),
        ("a, b, c, orders = Queue(), Queue(), Queue(), Queue(); return orders", "main.orders"),
        ("orders = a = Queue(); return orders", "main.orders"),
        ("orders = Queue(); a = orders; return a", "main.orders"),
        ("global orders; orders = Queue(); return orders", "main.orders"),
        ("orders = Queue(); (lambda: orders)(); return orders", "main.orders"),
        ("queues = {}; key = 1; queues[key] = Queue(); return queues[key]", "main.queues"),
        ("queues = {}; queues['mail'] = Queue(); return queues['mail']", "main.queues"),
        ("queues = {}; queues[str(1)] = Queue(); return queues['1']", "main.queues"),
        ("queues = [Queue() for _ in range(3)]; return queues[0]", "main.queues"),
        ("queues = [[Queue() for _ in 'ab' if _] for _ in 'ab']; return queues[0][0]", "main.queues"),
        ("queues = {k: Queue() for k in 'ab'}; return queues['a']", "main.queues"),
        ("queues = {Queue() for _ in 'a'}; return queues.pop()", "main.queues"),
        ("queues = {'mail': Queue(), 'sms': Queue()}; return queues['sms']", "main.queues"),
        ("queues = [Queue(), *[Queue()], Queue()]; return queues[-1]", "main.queues"),
        ("queues = list(Queue() for _ in range(3)); return queues[0]", "main.queues"),
        ("queues = tuple([Queue()]); return queues[0]", "main.queues"),
        ("make = lambda: Queue(); orders = make(); return orders", "main.orders"),
        ("return Queue()", "main"),
        ("first, second = (Queue() for _ in 'ab'); return second", "main"),
        ("holder = [None]; list.__setitem__(holder, 0, Queue()); return holder[0]", "main"),
        ("with open('/dev/null'): return Queue()", "main"),
        ("def inner(): orders = Queue(); return orders\n  return inner()", "main.inner.orders"),
        (
            "def inner():\n   nonlocal orders\n   orders = Queue()\n  orders = 0; inner(); return orders",
            "main.inner.orders",
        ),
        ("class Shop: orders = Queue()\n  return Shop.orders", "main.Shop.orders"),
    ],
)
def test_a_function_stands_between_module_and_variable(body: str, found: str) -> None:
    """Locals, globals, cells, containers, comprehensions: the first thing that keeps the queue names it."""
    assert name_of(f"def main():\n  {body}", "main()") == f"named.{found}"


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("def __init__(self): self.orders = Queue()", "Shop.orders"),
        ("def __init__(self, orders=None): self.orders = orders or Queue()", "Shop.orders"),
        (
            "def __init__(self, orders=None): self.orders = Queue() if orders is None else orders",
            "Shop.orders",
        ),
        ("def __init__(self): self.start()\n  def start(self): self.orders = Queue()", "Shop.start.orders"),
        (
            "def __init__(self): self._all = {}; self._all['a'] = Queue(); self.orders = self._all['a']",
            "Shop._all",
        ),
        (
            "k = 'a'\n  def __init__(self): self.a = {}; self.a[self.k] = Queue(); self.orders = self.a['a']",
            "Shop.a",
        ),
        ("def __init__(self): self.__jobs = Queue(); self.orders = self.__jobs", "Shop.__jobs"),
        ("def __init__(self): setattr(self, 'orders', Queue())", "Shop"),
        ("orders = Queue()", "Shop.orders"),
        ("@functools.cached_property\n  def orders(self): return Queue()", "Shop.orders"),
    ],
)
def test_a_class_stands_for_its_constructor(body: str, found: str) -> None:
    """`__init__` is not part of the name, and a private attribute reads as its author wrote it."""
    source = f"class Shop:\n  {body}"
    assert name_of(source, "Shop().orders", functools=functools) == f"named.{found}"


def test_a_queue_inside_an_expression_is_called_after_what_holds_it() -> None:
    """The variable that ends up with the pool, the partial or the context manager names the queue in it."""

    @dataclass
    class Pool:
        queue: Named

        async def __aenter__(self) -> "Pool":
            return self

        async def __aexit__(self, *_: object) -> None: ...

    async def passed(queue: Named) -> Named:
        return queue

    async def run() -> list[str]:
        pool = Pool(queue=Named())
        awaited = await passed(Named())
        bound = Named().put_nowait
        async with Pool(Named()) as entered:
            inside = entered.queue.label
        held: Any = bound.__self__
        return [pool.queue.label, awaited.label, held.label, inside, Named().label]

    *named, unnamed = [label.removeprefix(f"{__name__}.") for label in asyncio.run(run())]
    test = "test_a_queue_inside_an_expression_is_called_after_what_holds_it"
    assert [f"{test}.run.{each}" for each in ("pool", "awaited", "bound", "entered")] == named
    assert f"{test}.run" == unnamed


def test_wrappers_of_the_constructor_are_looked_through() -> None:
    """Type arguments, partials, default factories, subclasses and metaclasses do not hide the caller."""
    typed = Typed[int]()
    make = functools.partial(Named, 3)
    partial = make()
    by_key = collections.defaultdict(lambda: Named())
    default = by_key["a"]
    plain: Any = collections.defaultdict(Named)
    factory = plain["a"]
    custom = Custom("x")
    made = Made()
    metered: Named = Metered()
    loose = Loose()
    made_by = {
        "typed": typed,
        "partial": partial,
        "default": default,
        "factory": factory,
        "custom": custom,
        "made": made,
        "metered": metered,
        "loose": loose,
    }
    prefix = f"{__name__}.test_wrappers_of_the_constructor_are_looked_through"
    assert [f"{prefix}.{each}" for each in made_by] == [queue.label for queue in made_by.values()]


@dataclass
class Dispatcher:
    """Its constructor is generated, and so is no line of any file."""

    jobs: Named = field(default_factory=Named)
    mail: Named = field(default_factory=lambda: Named())
    late: Named | None = None

    def __post_init__(self) -> None:
        self.late = Named()


@dataclass
class Child(Dispatcher):
    """Inherits a field, in a constructor of its own."""


class Grandchild(Child):
    """Inherits the constructor whole."""


@dataclass(frozen=True)
class Frozen:
    jobs: Named = field(default_factory=Named)


@dataclass(slots=True)
class Slotted:
    jobs: Named = field(default_factory=Named)


def test_a_dataclass_names_the_queues_of_its_fields() -> None:
    """The generated constructor stands for the class that it was generated for, and is part of this file."""
    made = Dispatcher()
    assert made.jobs.label == f"{__name__}.Dispatcher.jobs"
    assert made.mail.label == f"{__name__}.Dispatcher.mail"
    assert made.late is not None
    assert made.late.label == f"{__name__}.Dispatcher.late"
    assert Child().jobs.label == f"{__name__}.Child.jobs"
    assert Grandchild().jobs.label == f"{__name__}.Child.jobs"
    assert Frozen().jobs.label == f"{__name__}.Frozen"  # stored by a call: no variable to be seen
    assert Slotted().jobs.label == f"{__name__}.Slotted.jobs"
    site = made.jobs.site
    assert site is not None
    assert (site.module, site.filename) == (__name__, __file__)


def test_the_name_is_the_same_when_the_interpreter_has_specialised_the_call() -> None:
    """A hot loop runs other instructions than a cold one; the name does not change."""

    def hot(kind: Callable[[], Named]) -> set[str]:
        labels = set()
        for _ in range(3000):
            queue = kind()
            labels.add(queue.label)
        return labels

    for kind in (Named, Made, Metered, lambda: Named()):
        labels = hot(kind)
        assert len(labels) == 1
        assert labels.pop().endswith(".hot.queue")


def test_a_lambda_of_another_module_does_not_name_the_queue() -> None:
    """A library's factory is the creation site, whoever's variable the result is assigned to."""
    space: dict[str, Any] = {"__name__": "library", "Queue": Named}
    exec(compile("make = lambda: Queue()", "library.py", "exec"), space)
    mine = space["make"]()
    assert mine.label == "library"
    assert mine.site.module == "library"


def test_at_most_a_hundred_names_and_then_other() -> None:
    """Names become series: a program that makes them without end gets one more, and keeps those it has."""
    for i in range(callsite.MAX_NAMES):
        assert callsite.claim(f"name{i}") == f"name{i}"
    assert callsite.claim("one too many") == callsite.OVERFLOW_NAME
    assert callsite.claim("name7") == "name7"
    assert Named().label == callsite.OVERFLOW_NAME
    assert Named().site is not None


def test_finding_a_site_uses_up_no_name() -> None:
    """A queue that is looked at and left alone takes nobody's place."""
    space: dict[str, Any] = {"callsite": callsite}
    exec("def look(): return callsite.creation_site(object())", space)
    for i in range(callsite.MAX_NAMES + 5):
        space["__name__"] = f"module{i}"
        assert space["look"]().module == f"module{i}"
    assert callsite.claim("still room") == "still room"


def test_the_bound_holds_when_threads_name_queues_at_once() -> None:
    """Ten threads and two thousand names: exactly MAX_NAMES get through."""
    given: list[str] = []
    start = threading.Barrier(10)

    def claim(thread: int) -> None:
        start.wait()
        given.extend(callsite.claim(f"{thread}.{i}") for i in range(200))

    threads = [threading.Thread(target=claim, args=(i,)) for i in range(10)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(set(given) - {callsite.OVERFLOW_NAME}) == callsite.MAX_NAMES


def test_generated_code_without_end_does_not_fill_the_cache() -> None:
    """Each exec() is a call site of its own; only so many are kept."""
    for i in range(1200):
        name_of(f"orders = Queue()  # {i}")
    assert len(callsite._places) <= 1000
    assert name_of("orders = Queue()") == "named.orders"


def test_a_name_has_an_end() -> None:
    """A name that is longer than any legend is cut."""
    assert len(name_of("def " + "f" * 300 + "(): return Queue()", "f" * 300 + "()")) == callsite.MAX_LENGTH


def test_a_queue_that_nothing_keeps_is_called_after_its_function() -> None:
    """Dropped, used up, or too far from what keeps it: the function's name is what is known."""
    assert name_of("def main():\n  q = [Queue(), " + "1 or x, " * 3000 + "]\n  return q[0]", "main()") == "named.main"
    assert name_of("def main():\n  a, b = [Queue(), Queue()][:2]\n  return b", "main()") == "named.main"
    assert name_of("made = []\nQueue().put_nowait(made)\nmade.append(Queue())", "made[0]") == "named"


def test_a_generated_constructor_of_no_class_is_its_module_s() -> None:
    """A function called `__init__` that was made from a string belongs to no class that could name the queue."""
    space: dict[str, Any] = {"__name__": HERE, "Queue": Named}
    exec("def __init__(self): self.orders = Queue()", space)
    owner = type("Owner", (), {})()
    space["__init__"](owner)
    assert owner.orders.label == "named.orders"


def test_naming_never_raises() -> None:
    """Whatever surrounds the constructor: no name is worth a queue."""

    class Hostile(str):
        def startswith(self, *_: object) -> bool:
            raise RuntimeError("hostile")

    code: Any = compile("orders = Queue()", "named.py", "exec")
    for name in (None, 3, Hostile("x"), ""):
        space: dict[str, Any] = {"__name__": name, "Queue": Named}
        exec(code, space)
        assert space["orders"].label
    assert callsite._locate(object(), None) is None  # type: ignore[arg-type]
    bare: Any = FunctionType((lambda: Named().label).__code__, {"Named": Named})
    assert bare()


def test_our_own_frames_and_asyncios_are_not_a_place() -> None:
    """A queue that is made by nobody but plumbing has the fallback's name."""
    space: dict[str, Any] = {"__name__": "otel_sched.somewhere", "callsite": callsite}
    exec("def name(queue): return callsite.creation_name(queue)", space)
    results: list[str] = []
    thread = threading.Thread(target=lambda: results.append(space["name"](object())))
    thread.start()
    thread.join()
    assert results[0].startswith(__name__)
    assert callsite._outside(object(), None) is None


@pytest.mark.parametrize(
    ("module", "file", "name"),
    [
        ("__mp_main__", "/srv/shop/app.py", "app.orders"),
        ("<run_path>", "/srv/shop/app.py", "app.orders"),
        ("__main__", "/srv/shop/__main__.py", "shop.orders"),
        ("__main__", "/srv/shop.pyz/__main__.py", "shop.orders"),
        ("__main__", "__main__.py", "main.orders"),
        ("__main__", None, "main.orders"),
    ],
)
def test_no_path_gets_into_a_name(module: str, file: str | None, name: str) -> None:
    """However a program is started, it is called after a file or a folder, not after where that lies."""
    assert name_of("orders = Queue()", __name__=module, __file__=file, __spec__=None) == name


SCRIPT = """
import sys, asyncio
from otel_sched._core import bytecode, callsite
class Queue(asyncio.Queue):
    def __init__(self):
        super().__init__()
        self.label = callsite.creation_name(self)
orders = Queue()
print(orders.label)
"""


def run(*arguments: str, cwd: pathlib.Path, code: str | None = None) -> str:
    """Run Python in *cwd* and return the line it prints."""
    path = os.pathsep.join([str(pathlib.Path(callsite.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        input=code,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return result.stdout.strip()


def test_the_main_module_is_called_after_its_file(tmp_path: pathlib.Path) -> None:
    """`__main__` says nothing: a script is its file's stem, `-m` its module, a folder its own name."""
    package = tmp_path / "shop"
    package.mkdir()
    (tmp_path / "app.py").write_text(SCRIPT)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(SCRIPT)
    (package / "worker.py").write_text(SCRIPT)
    assert run("app.py", cwd=tmp_path) == "app.orders"
    assert run(str(tmp_path / "app.py"), cwd=tmp_path) == "app.orders"
    assert run("-m", "shop", cwd=tmp_path) == "shop.orders"
    assert run("-m", "shop.worker", cwd=tmp_path) == "shop.worker.orders"
    assert run("shop", cwd=tmp_path) == "shop.orders"
    assert run("-c", SCRIPT, cwd=tmp_path) == "main.orders"
    assert run("-", cwd=tmp_path, code=SCRIPT) == "main.orders"


def test_what_is_an_application(tmp_path: pathlib.Path) -> None:
    """Neither the standard library nor an installed package; a checkout is one wherever it lies."""
    assert callsite.is_application(__file__)
    assert callsite.is_application(str(tmp_path / "app.py"))
    assert callsite.is_application("app.py")
    assert callsite.is_application("<stdin>")
    assert callsite.is_application(os.path.join(sys.prefix, "src", "shop", "app.py"))
    assert callsite.is_application(os.path.join(sysconfig.get_path("stdlib") + "-other", "app.py"))
    assert not callsite.is_application("<frozen importlib._bootstrap>")
    assert not callsite.is_application(asyncio.__file__)
    assert not callsite.is_application(os.path.realpath(asyncio.queues.__file__))
    assert not callsite.is_application(pytest.__file__)
    assert not callsite.is_application("/opt/other/lib/python3.11/site-packages/celery/app.py")
    assert not callsite.is_application("/usr/lib/python3/dist-packages/celery/app.py")


def test_a_repeated_call_site_reads_no_bytecode_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second queue of a place costs a dictionary look-up: the first one's reading is kept."""
    seen: list[int] = []

    def counted(code: Any, lasti: int) -> tuple[str | None, bool]:
        seen.append(lasti)
        return None, False

    monkeypatch.setattr(bytecode, "assigned", counted)
    for _ in range(50):
        queue = Named()
    assert queue.label.endswith(".test_a_repeated_call_site_reads_no_bytecode_again")
    assert len(seen) == 1
