"""Floor 1. Read from the bytecode after a call what its result is assigned to.

A constructor cannot see the left side of `self.orders = Queue()`: it has not run yet when the constructor
does. The code object knows. The value that the call is about to return is followed, as a position on the
stack, until something stores it, returns it or drops it. What holds the value takes its place: after
`pool = Pool(Queue())` the answer is `pool`.
"""

import dis
import itertools
from collections.abc import Iterator
from types import CodeType

_MAX_STEPS = 2000
_CALLS = ("CALL", "PRECALL", "BINARY_", "LOAD_ATTR", "LOAD_METHOD", "FOR_ITER")
_STORES = frozenset({"STORE_NAME", "STORE_GLOBAL", "STORE_FAST", "STORE_DEREF"})
_DROPS = ("POP_", "DELETE_")
_ENDS = ("RETURN_", "RAISE", "RERAISE")
_ADDS = frozenset({"LIST_APPEND", "SET_ADD", "MAP_ADD", "LIST_EXTEND", "SET_UPDATE", "DICT_UPDATE", "DICT_MERGE"})
_JUMPS = frozenset({"JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT", "FOR_ITER", "SEND"})


def assigned(code: CodeType, lasti: int) -> tuple[str | None, bool]:
    """Follow the result of the call at this offset.

    Returns: the variable, attribute or container that gets it, or None; and whether the function returns or
        yields it.
    """
    instructions = list(dis.get_instructions(code))
    start = max((i for i, each in enumerate(instructions) if each.offset <= lasti), default=0)
    call = instructions[start].opname
    if not call.startswith(_CALLS):
        return None, False
    # 3.11 may still stand on PRECALL while a specialised call runs, and then skips the CALL after it.
    return _Follower(instructions).run(start + (2 if call == "PRECALL" else 1))


class _Follower:
    """One walk. `depth` is the followed value's position on the stack: 1 is the top."""

    def __init__(self, instructions: list[dis.Instruction]) -> None:
        self._instructions = instructions
        self._index = {each.offset: i for i, each in enumerate(instructions)}
        self._depth = 1
        self._packed: int | None = None  # our place in a tuple that was just built
        self._above: str | None = None  # what the value right above ours is called

    def run(self, start: int) -> tuple[str | None, bool]:
        for i in itertools.islice(self._path(start), _MAX_STEPS):
            each = self._instructions[i]
            name, packed, self._packed = each.opname, self._packed, None
            if name in ("RETURN_VALUE", "YIELD_VALUE") and self._depth == 1:
                return None, True
            if name.startswith(_ENDS) or (name.startswith(_DROPS) and self._depth == 1):
                break
            if name.startswith("STORE_"):
                target = self._store(each)
                if target is not None or self._depth < 1:
                    return target, False
            elif name == "UNPACK_SEQUENCE" and self._depth == 1:
                if packed is None:
                    break
                self._depth = packed + 1  # `a, b, c, d = Queue(), Queue(), Queue(), Queue()`
            else:
                self._move(each)
        return None, False

    def _path(self, start: int) -> Iterator[int]:
        """The way on: out of loops rather than round them, and past branches, whose arms end in one place."""
        i = start
        while i < len(self._instructions):
            yield i
            each = self._instructions[i]
            i = self._index[each.argval] if each.opname in _JUMPS else i + 1

    def _store(self, each: dis.Instruction) -> str | None:
        """Take a store's values off the stack: the target if ours is stored; depth below 1 if it is gone."""
        name, depth = each.opname, self._depth
        if name == "STORE_FAST_LOAD_FAST":  # 3.13: one off, one on
            return str(each.argval[0]) if depth == 1 else None
        self._depth += _effect(each)
        if name in _STORES and depth == 1:
            return str(each.argval)
        if name == "STORE_FAST_STORE_FAST" and depth <= 2:  # 3.13: the first of the pair gets the top
            return str(each.argval[depth - 1])
        if name == "STORE_ATTR" and depth == 2:
            return str(each.argval)
        if name == "STORE_SUBSCR" and depth == 3:  # `self.queues[key] = Queue()`
            return self._above
        return None

    def _move(self, each: dis.Instruction) -> None:
        """Apply what one instruction does to our position."""
        name, arg, depth = each.opname, each.arg or 0, self._depth
        if name == "SWAP":
            self._depth = arg if depth == 1 else 1 if depth == arg else depth
        elif name == "COPY":
            self._depth = 1 if depth == arg else depth + 1  # `a = b = Queue()`: the copy is as good
        elif name in _ADDS and depth == 1:
            self._depth = arg
        elif name in ("BEFORE_WITH", "BEFORE_ASYNC_WITH") and depth == 1:
            self._depth = 1  # what `as` names
        else:
            self._depth = max(1, depth + _effect(each))
            if name == "BUILD_TUPLE" and depth <= arg:
                self._packed = arg - depth
        if self._depth == 2 or depth == 1:
            self._above = _loaded(each)


def _loaded(each: dis.Instruction) -> str | None:
    """The name that an instruction loads; the first of 3.13's pairs."""
    if not each.opname.startswith("LOAD_") or each.opname == "LOAD_CONST":
        return None
    name = each.argval[0] if isinstance(each.argval, tuple) else each.argval
    return name if isinstance(name, str) else None


def _effect(each: dis.Instruction) -> int:
    if each.opname == "PRECALL":  # 3.11 splits the effect of a call in a way that hides where the result goes
        return 0
    if each.opname == "CALL":
        return -((each.arg or 0) + 1)
    arg = each.arg if each.opcode >= dis.HAVE_ARGUMENT else None
    return dis.stack_effect(each.opcode, arg, jump=each.opname in _JUMPS)
