"""Fingerprints of Python objects by what they compute, equal in every process.

The feature file is named after everything that its content depends on, and that includes what a
user's function does. Addresses change from process to process and names stay when code changes,
so neither will do: a function is known by its code, its defaults, what it closes over, the
globals that it reads, and the source file that it stands in, which covers its helpers. A polars
expression is known by what polars would write of it to a file.
"""

import functools
import hashlib
import inspect
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from btc_datamodule.errors import ConfigError

_FOREIGN = (b"AnonymousFunction", b"callback", b"\xa3Map")
"""How polars writes a Python function into an expression: by its name, where it can."""

_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis))


def fingerprint(thing: Any) -> str:
    """SHA-256 of everything that decides what ``thing`` computes.

    Raises:
        ConfigError: if a part of ``thing`` cannot be told from another of its kind.
    """
    return _digest(thing, ()).hex()


def _digest(thing: Any, above: tuple[int, ...]) -> bytes:
    """Digest of a thing and of all its parts, in depth; ``above`` ends cycles."""
    digest = hashlib.sha256(type(thing).__qualname__.encode())
    if isinstance(thing, _PLAIN):
        digest.update(repr(thing).encode())
    elif id(thing) not in above:
        parts = [_digest(part, (*above, id(thing))) for part in find_parts(thing)]
        digest.update(b"".join(sorted(parts) if isinstance(thing, set | frozenset) else parts))
    return digest.digest()


@functools.singledispatch
def find_parts(thing: Any) -> Iterable[Any]:
    """The parts that decide what a thing computes, each plain or with parts of its own.

    Whoever has a class whose meaning lies in other files too registers a function for it here.
    """
    if hasattr(thing, "meta") and hasattr(thing.meta, "serialize"):
        return [_serialize(thing)]
    if hasattr(thing, "__dict__"):
        return [type(thing), vars(thing)]
    raise ConfigError(
        f"a {type(thing).__name__} inside a feature cannot be told from another one: "
        "use plain functions, numbers and texts"
    )


@find_parts.register(list)
@find_parts.register(tuple)
@find_parts.register(set)
@find_parts.register(frozenset)
def _(things: Iterable[Any]) -> Iterable[Any]:
    return things


@find_parts.register
def _(mapping: dict) -> Iterable[Any]:  # type: ignore[type-arg]
    return [part for item in mapping.items() for part in item]


@find_parts.register(np.ndarray)
@find_parts.register(np.generic)
def _(array: Any) -> Iterable[Any]:
    return [str(array.dtype), array.shape, array.tobytes()]


@find_parts.register
def _(code: types.CodeType) -> Iterable[Any]:
    return [code.co_code, code.co_names, code.co_consts, code.co_freevars]


@find_parts.register
def _(function: types.FunctionType) -> Iterable[Any]:
    """Code, defaults, closed-over values, the functions and plain globals in the code."""
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    known = function.__globals__
    named = [
        (name, known[name])
        for name in find_names(function.__code__)
        if name in known and isinstance(known[name], (*_PLAIN, types.FunctionType))
    ]
    own = [function.__code__, function.__defaults__, function.__kwdefaults__]
    return [*own, cells, named, hash_source(function)]


@find_parts.register
def _(method: types.MethodType) -> Iterable[Any]:
    return [method.__func__, method.__self__]


@find_parts.register
def _(partial: functools.partial) -> Iterable[Any]:  # type: ignore[type-arg]
    return [partial.func, partial.args, partial.keywords]


@find_parts.register(types.BuiltinFunctionType)
@find_parts.register(types.ModuleType)
def _(named: Any) -> Iterable[Any]:
    return [getattr(named, "__module__", None), named.__name__]


@find_parts.register
def _(kind: type) -> Iterable[Any]:
    """A class by its name and source file; one typed into an interpreter by its methods."""
    source = hash_source(kind)
    methods = [] if source else [m for m in vars(kind).values() if callable(m)]
    return [kind.__module__, kind.__qualname__, source, methods]


def _serialize(expression: Any) -> bytes:
    """A polars expression as polars would write it to a file."""
    try:
        written: bytes = expression.meta.serialize()
    except Exception:  # polars has no narrower one; without cloudpickle it cannot write functions
        written = _FOREIGN[0]
    if any(mark in written for mark in _FOREIGN):
        raise ConfigError(
            f"the polars expression {expression} holds a Python function, so it cannot be told "
            "from another one: make `compute` a function of the frame"
        )
    return written


def find_names(code: types.CodeType) -> list[str]:
    """The names that code reads beside its own variables, those of functions inside included."""
    inner = [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return [*code.co_names, *(name for each in inner for name in find_names(each))]


def hash_source(thing: Any) -> bytes:
    """Digest of the source file that a function or class stands in; empty if there is none."""
    try:
        return hashlib.sha256(Path(inspect.getfile(thing)).read_bytes()).digest()
    except (TypeError, OSError):
        return b""
