"""Plain values out of a pickle that is never run.

PyTables pickles what it has no HDF5 type for: the names of columns, among others. ``read_pickled``
follows the pickle's operations and builds texts, numbers, lists, tuples and dicts; where the pickle
would import or call anything it puts ``OPAQUE`` in its place, and imports and calls nothing.
"""

import pickletools
from typing import Any


class _Opaque:
    """Something that only a pickle that is run would make."""

    def __repr__(self) -> str:
        return "OPAQUE"


OPAQUE = _Opaque()
"""Stands for whatever is not a plain value."""

_MARK = object()

_SETTLED: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}

_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}

_CALLED = {"GLOBAL": 0, "STACK_GLOBAL": 2, "REDUCE": 2, "NEWOBJ": 2, "NEWOBJ_EX": 3}
"""Operations that import or call, and how many values of the stack they use up."""


def read_pickled(data: bytes) -> Any:
    """The value that a pickle stands for, ``OPAQUE`` in place of all that is not plain.

    Raises:
        ValueError: if it is no pickle, or one of operations that plain values do not need.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for operation, argument, _ in pickletools.genops(data):
            if operation.name == "STOP":
                if stack[-1] is _MARK:
                    raise ValueError("it ends with a mark")
                return stack[-1]
            _follow(operation.name, argument, stack, memo)
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"not a pickle of plain values ({error})") from None
    raise ValueError("a pickle without an end")


def _follow(name: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    """Do one operation of a pickle on its stack and memo."""
    if name in _LITERALS:
        stack.append(argument)
    elif name in _SETTLED:
        stack.append(_SETTLED[name])
    elif name == "MARK":
        stack.append(_MARK)
    elif name in {"EMPTY_LIST", "EMPTY_DICT"}:
        stack.append([] if name == "EMPTY_LIST" else {})
    elif name in {"PUT", "BINPUT", "LONG_BINPUT"}:
        memo[int(argument)] = stack[-1]
    elif name == "MEMOIZE":
        memo[len(memo)] = stack[-1]
    elif name in {"GET", "BINGET", "LONG_BINGET"}:
        stack.append(memo[int(argument)])
    elif name in _CALLED:
        _pop(stack, _CALLED[name])
        stack.append(OPAQUE)
    elif name in {"BUILD", "POP"}:
        _pop(stack, 1)
    elif name not in {"PROTO", "FRAME"}:
        _gather(name, stack)


def _gather(name: str, stack: list[Any]) -> None:
    """Do an operation that puts values of the stack together."""
    if name in {"TUPLE1", "TUPLE2", "TUPLE3"}:
        stack.append(tuple(_pop(stack, int(name[-1]))))
    elif name in {"LIST", "TUPLE", "DICT"}:
        items = _pop_to_mark(stack)
        if name == "DICT":
            stack.append(dict(zip(items[::2], items[1::2], strict=True)))
        else:
            stack.append(items if name == "LIST" else tuple(items))
    elif name in {"APPEND", "APPENDS"}:
        items = _pop(stack, 1) if name == "APPEND" else _pop_to_mark(stack)
        if isinstance(stack[-1], list):
            stack[-1].extend(items)
    elif name in {"SETITEM", "SETITEMS"}:
        items = _pop(stack, 2) if name == "SETITEM" else _pop_to_mark(stack)
        if isinstance(stack[-1], dict):
            stack[-1].update(zip(items[::2], items[1::2], strict=True))
    else:
        raise ValueError(f"unknown operation {name}")


def _pop(stack: list[Any], count: int) -> list[Any]:
    """Take so many values off the stack, in the order in which they were put there."""
    if len(stack) < count:
        raise IndexError("the stack is empty")
    items = stack[len(stack) - count :]
    del stack[len(stack) - count :]
    return items


def _pop_to_mark(stack: list[Any]) -> list[Any]:
    """Take the values after the last mark off the stack, and the mark."""
    at = len(stack) - 1
    while stack[at] is not _MARK:
        at -= 1
        if at < 0:
            raise IndexError("no mark")
    items = stack[at + 1 :]
    del stack[at:]
    return items
