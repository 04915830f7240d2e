"""Floor 5: what the instruction says at which a thread let go of the interpreter's lock. Pure.

A thread that is asked for the lock gives it away when a function begins, when a call of C code has returned, and when
a loop jumps back: nowhere else. So what held it may have ended at that very instruction, or anywhere since the last.
"""

import opcode
from types import CodeType

_HEAVY = ("BINARY", "COMPARE", "CONTAINS", "BUILD", "LIST_", "SET_UPDATE", "DICT_", "UNPACK", "FOR_ITER", "STORE_S",
          "STORE_ATTR", "DELETE", "FORMAT", "CONVERT", "IMPORT", "UNARY", "TO_BOOL", "CALL", "RETURN", "SEND", "YIELD",
          "GET_", "BEFORE", "RAISE", "STORE_SLICE", "INPLACE", "JUMP_BACKWARD", "RESUME")  # fmt: skip
"""What may take long, or comes after something that may."""
_AWAITS = ("SEND", "YIELD_VALUE", "GET_AWAITABLE", "END_SEND", "JUMP_BACKWARD_NO_INTERRUPT")


def begins(code: CodeType, at: int) -> bool:
    """Say whether a function has just been entered, and done nothing."""
    name, argument = _at(code, at)
    entering = name in ("", "RETURN_GENERATOR", "COPY_FREE_VARS", "MAKE_CELL")
    return entering or (name == "RESUME" and argument % 4 == 0)


def awaits(code: CodeType, at: int) -> bool:
    """Say whether it is about to be suspended by an await, or was."""
    name, argument = _at(code, at)
    return name in _AWAITS or (name == "RESUME" and argument % 4 >= 2)


def ends_here(code: CodeType, at: int) -> bool:
    """Say whether what held the lock until now must belong to the line of this instruction.

    It must, if that is a call, and on the lines before it, back to the last place where the lock could have been given
    away for certain, nothing may take long.
    """
    if not _at(code, at)[0].startswith("CALL"):
        return False
    lines, instructions = _lines(code), code.co_code
    line = lines.get(at)
    for before in range(at - 2, -1, -2):
        name = opcode.opname[instructions[before]]
        if name == "RESUME" and instructions[before + 1] % 4 == 0:
            return True
        if lines.get(before) == line:
            if name.startswith("CALL") and not name.startswith("CALL_INTRINSIC"):
                return True
        elif name.startswith(_HEAVY):
            return False
    return True


def _at(code: CodeType, at: int) -> tuple[str, int]:
    instructions = code.co_code
    if not 0 <= at < len(instructions) - 1:
        return "", 0
    return opcode.opname[instructions[at]], instructions[at + 1]


def _lines(code: CodeType) -> dict[int, int]:
    return {at: line for start, end, line in code.co_lines() if line is not None for at in range(start, end, 2)}
