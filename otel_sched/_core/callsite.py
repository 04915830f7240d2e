"""Floor 1. Name a queue after the place in the program that creates it.

Nobody who writes `orders = asyncio.Queue()` wants to repeat "orders" for the telemetry, and code that is
observed without being touched cannot. The name is `module.function_or_class.variable`, read from the frame
that called the constructor and from the bytecode after the call. It never holds a path, a line or an id.
"""

import contextlib
import functools
import os
import site
import sys
import sysconfig
import threading
from types import CodeType, FrameType

FALLBACK_NAME = "queue"
"""The name when no frame of Python code can be found."""
OVERFLOW_NAME = "other"
"""The name of every queue after the first MAX_NAMES different ones: names become metric series."""
MAX_NAMES = 100
MAX_LENGTH = 120

_MAX_CACHED = 1000  # call sites; a program that generates code without end must not grow us
_PLUMBING = frozenset({"asyncio.queues", "dataclasses", "functools", "typing"})
_ANONYMOUS = frozenset({"<lambda>", "<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"})
_BUILDERS = frozenset({"__init__", "__new__", "__post_init__", "__attrs_post_init__"})


class CallSite:
    """Where a queue is created: its unbounded name, the module's name as in it, and the file of the code."""

    __slots__ = ("filename", "module", "name")

    def __init__(self, name: str, module: str, filename: str) -> None:
        self.name = name
        self.module = module
        self.filename = filename


class _Place:
    """What the code says about one call: the function it stands in, and what its result is assigned to."""

    __slots__ = ("code", "returned", "scope", "target")

    def __init__(self, code: CodeType, scope: str, target: str | None, returned: bool) -> None:
        self.code = code  # kept, so that its id in the cache's key stays its own
        self.scope = scope
        self.target = target
        self.returned = returned


_places: dict[tuple[int, int], _Place] = {}
_names: set[str] = set()
_lock = threading.Lock()


def creation_name(queue: object) -> str:
    """Name the queue that is being constructed by the frames above the caller. Never raises.

    At most MAX_NAMES different names are given per process, then OVERFLOW_NAME.
    """
    found = _locate(queue, sys._getframe(1))
    return FALLBACK_NAME if found is None else claim(found.name)


def creation_site(queue: object) -> CallSite | None:
    """Find where the queue under construction is created, or None; uses up no name. Never raises."""
    return _locate(queue, sys._getframe(1))


def claim(name: str) -> str:
    """Return the name if it is known or there is room for one more, else OVERFLOW_NAME."""
    if name in _names:
        return name
    with _lock:
        if name not in _names and len(_names) >= MAX_NAMES:
            return OVERFLOW_NAME
        _names.add(name)
    return name


def reset() -> None:
    """Forget every name and call site (for tests)."""
    with _lock:
        _names.clear()
        _places.clear()


def is_application(filename: str) -> bool:
    """Say whether a file is the application's: neither the standard library's nor an installed package's.

    Only the folders in which Python keeps its library and installed packages count as library, so a checkout
    below a virtual environment or below `sys.prefix` is an application. Code without a file (`python -c`, a
    notebook) is one too; frozen modules are not.
    """
    if filename.startswith("<"):
        return not filename.startswith("<frozen")
    return _is_application_file(filename)


@functools.lru_cache(maxsize=1024)
def _is_application_file(filename: str) -> bool:
    path = os.path.normcase(os.path.abspath(filename))
    installed = not {"site-packages", "dist-packages"}.isdisjoint(path.split(os.sep))
    return not (installed or path.startswith(_library_folders()))


@functools.lru_cache(maxsize=1)
def _library_folders() -> tuple[str, ...]:
    """The folders of Python's library and of installed packages, as spelled and with links resolved."""
    base = {"base": sys.base_prefix, "platbase": sys.base_exec_prefix}
    folders = {os.path.dirname(os.__file__)}
    for which in ("stdlib", "platstdlib", "purelib", "platlib"):
        folders |= {sysconfig.get_path(which), sysconfig.get_path(which, vars=base)}
    with contextlib.suppress(AttributeError, OSError):  # an embedded Python, an old virtualenv, no home
        folders |= {*site.getsitepackages(), site.getusersitepackages()}
    folders = {spell(folder) for folder in folders for spell in (os.path.abspath, os.path.realpath)}
    return tuple(os.path.normcase(folder) + os.sep for folder in folders)


def _locate(queue: object, start: FrameType) -> CallSite | None:
    try:
        frame = _outside(queue, start)
        return None if frame is None else _describe(queue, frame)
    except Exception:  # a name is never worth a queue
        return None


def _outside(queue: object, start: FrameType | None) -> FrameType | None:
    """Walk out of the frames that construct the queue, to the code that asked for it."""
    frame = start
    while frame is not None:
        module = frame.f_globals.get("__name__") or ""
        ours = module == "otel_sched" or module.startswith("otel_sched.")
        if not (ours or module in _PLUMBING or _constructs(queue, frame)):
            return frame
        frame = frame.f_back
    return None


def _constructs(queue: object, frame: FrameType) -> bool:
    """Say whether this frame constructs the queue: a method of its own, of its class or of its metaclass."""
    first = _first_argument(frame)
    if first is queue:
        return True
    maker = frame.f_code.co_name in ("__new__", "__call__")
    return maker and isinstance(first, type) and isinstance(queue, first)


def _first_argument(frame: FrameType) -> object:
    code = frame.f_code
    if code.co_argcount:
        return frame.f_locals.get(code.co_varnames[0])
    if code.co_flags & 0x04:  # CO_VARARGS, as in `def __init__(*args, **kwargs)`
        values = frame.f_locals.get(code.co_varnames[code.co_kwonlyargcount])
        return values[0] if values else None
    return None


def _describe(queue: object, frame: FrameType) -> CallSite:
    module, filename = _module(frame)
    public = _public(module, frame)
    place = _place(frame.f_code, frame.f_lasti)
    named = frame
    while place.returned and place.code.co_name in _ANONYMOUS:
        # The caller of a lambda or a comprehension names its result, if it is the same module's.
        outer = _outside(queue, named.f_back)
        if outer is None or _module(outer)[0] != module:
            break
        named, place = outer, _place(outer.f_code, outer.f_lasti)
    name = ".".join(part for part in (public, _scope(named, place), place.target) if part)
    return CallSite(name[:MAX_LENGTH] or FALLBACK_NAME, public, filename)


def _module(frame: FrameType) -> tuple[str, str]:
    """The module's name and file. Generated code (`<string>`, `<attrs generated ...>`) has its module's."""
    filename = frame.f_code.co_filename
    module = frame.f_globals.get("__name__")
    if filename.startswith("<") and not filename.startswith("<frozen"):
        owner = type(_first_argument(frame)) if frame.f_code.co_name == "__init__" else None
        module = module or getattr(owner, "__module__", "")
        known = sys.modules.get(module or "")
        filename = frame.f_globals.get("__file__") or getattr(known, "__file__", None) or filename
    return module or "", filename


def _public(module: str, frame: FrameType) -> str:
    """The module's name as its users know it: a script is called after its file."""
    if not (module in ("__main__", "__mp_main__") or module.startswith("<")):
        return module
    spec = frame.f_globals.get("__spec__")
    if spec is not None and spec.name not in ("__main__", "__mp_main__"):
        return str(spec.name.removesuffix(".__main__"))
    folder, file = os.path.split(frame.f_globals.get("__file__") or "")
    stem = os.path.splitext(file)[0]
    if stem == "__main__":  # `python folder` or `python archive.pyz`
        stem = os.path.splitext(os.path.basename(folder))[0]
    return "main" if stem.startswith("<") or not stem else stem  # a program without a file: `python -c`


def _scope(frame: FrameType, place: _Place) -> str:
    """The function or class around the call. A generated `__init__` stands for the class it was made for."""
    code = place.code
    if not (code.co_filename.startswith("<") and code.co_name == "__init__"):
        return place.scope
    for owner in type(_first_argument(frame)).__mro__:
        method = vars(owner).get("__init__")
        if getattr(method, "__code__", None) is code:
            return _clean(owner.__qualname__)
    return place.scope


def _clean(qualname: str) -> str:
    """Drop what says nothing to a reader: `<locals>`, `<lambda>`, `<module>` and the constructor's name."""
    parts = [part for part in qualname.split(".") if not part.startswith("<")]
    if parts and parts[-1] in _BUILDERS:
        parts.pop()
    return ".".join(parts)


def _place(code: CodeType, lasti: int) -> _Place:
    key = (id(code), lasti)
    place = _places.get(key)
    if place is None:
        scope = _clean(code.co_qualname)
        from .bytecode import assigned  # it needs `dis`, which is slow to load and needed by nameless queues alone

        target, returned = assigned(code, lasti)
        if target is not None:
            target = _unmangled(target, scope)
        place = _Place(code, scope, target, returned)
        if len(_places) < _MAX_CACHED:
            _places[key] = place
    return place


def _unmangled(target: str, scope: str) -> str:
    """`self.__jobs` is stored as `_Dispatcher__jobs`: give it back as the author wrote it."""
    for owner in scope.split("."):
        mangled = f"_{owner.lstrip('_')}__"
        if owner and target.startswith(mangled):
            return target[len(mangled) - 2 :]
    return target
