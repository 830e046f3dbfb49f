"""Fingerprints of Python objects by what they compute, equal in every process.

The feature file is named after everything that its content depends on, and that includes what a
user's function does. Addresses change from process to process and names stay when code changes,
so neither will do: a function is known by its code, its defaults, what it closes over, the source
file that it stands in, and by all that it reaches from there in code of the user (``reaching``):
functions, classes, values and modules that it names, and what these name. A polars expression is
known by what polars would write of it to a file. Of a library the name is enough; what a function
reads from files while it computes is not seen: of a file that is used again some rows are computed
anew (``reuse``).
"""

import datetime
import functools
import hashlib
import inspect
import types
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from btc_datamodule.errors import ConfigError
from btc_datamodule.features.reaching import (
    Reached,
    find_names,
    is_own_class,
    is_own_file,
    is_own_module,
    list_members,
    list_reached,
)

_FOREIGN = (b"AnonymousFunction", b"callback", b"\xa3Map")
"""How polars writes a Python function into an expression: by its name, where it can."""

_WRITTEN = (datetime.date, datetime.time, datetime.timedelta, Decimal, Fraction, PurePath, range)
"""Of the standard library, what ``repr`` says all of."""

_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis))


def fingerprint(thing: Any) -> str:
    """SHA-256 of everything that decides what ``thing`` computes.

    Raises:
        ConfigError: if a part of ``thing`` cannot be told from another of its kind.
    """
    return _digest(thing, (), {}).hex()


def _digest(thing: Any, above: tuple[int, ...], known: dict[int, int]) -> bytes:
    """Digest of a thing and of all its parts, in depth.

    Args:
        thing: what is to be told from others.
        above: what it is a part of, which ends cycles.
        known: functions and classes that came before, by the order in which they came: each is
            gone through once, however many name it.
    """
    if isinstance(thing, Reached):
        return _digest_reached(thing, above, known)
    digest = hashlib.sha256(type(thing).__qualname__.encode())
    if isinstance(thing, _PLAIN):
        digest.update(repr(thing).encode())
    elif id(thing) in known:
        digest.update(str(known[id(thing)]).encode())
    elif id(thing) not in above:
        if isinstance(thing, types.FunctionType | type):
            known[id(thing)] = len(known)
        whole = (*above, id(thing))
        if isinstance(thing, set | frozenset):  # whose order says nothing
            parts = sorted(_digest(part, whole, dict(known)) for part in thing)
        else:
            parts = [_digest(part, whole, known) for part in find_parts(thing)]
        digest.update(b"".join(parts))
    return digest.digest()


def _digest_reached(reached: Reached, above: tuple[int, ...], known: dict[int, int]) -> bytes:
    """Digest of what a function names: by its kind alone if it cannot be told from another."""
    value = reached.value
    if isinstance(value, types.ModuleType) and id(value) not in above:
        own = is_own_module(value)
        members = list_members(value, reached.names) if own else []
        said = [value.__name__, hash_source(value) if own else b"", members]
        return _digest(said, (*above, id(value)), known)
    try:
        return _digest(value, above, known)
    except ConfigError:
        return _digest([type(value).__qualname__, getattr(value, "__name__", "")], above, known)


@functools.singledispatch
def find_parts(thing: Any) -> Iterable[Any]:
    """The parts that decide what a thing computes, each plain or with parts of its own.

    Whoever has a class whose meaning lies in other files too registers a function for it here.
    """
    if hasattr(thing, "meta") and hasattr(thing.meta, "serialize"):
        return [_serialize(thing)]
    library = type(thing).__module__.partition(".")[0]
    if library in ("polars", "pandas") and hasattr(thing, "to_numpy"):
        names = [*map(str, getattr(thing, "columns", ()))]
        return [type(thing), names, getattr(thing, "index", None), thing.to_numpy()]
    if library == "torch" and hasattr(thing, "detach"):
        return [type(thing), thing.detach().cpu().numpy()]
    if hasattr(thing, "__wrapped__"):  # of functools.cache and of decorators like it
        return [thing.__wrapped__]
    if isinstance(thing, _WRITTEN):
        return [repr(thing)]
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
    content = array.tolist() if array.dtype.hasobject else array.tobytes()
    return [str(array.dtype), array.shape, content]


@find_parts.register
def _(code: types.CodeType) -> Iterable[Any]:
    return [code.co_code, code.co_names, code.co_consts, code.co_freevars]


@find_parts.register
def _(function: types.FunctionType) -> Iterable[Any]:
    """Code, defaults, closed-over values, the functions and plain globals in the code.

    Of a function of the user's own all that it reaches.
    """
    cells = [_read_cell(cell) for cell in function.__closure__ or ()]
    known = function.__globals__
    named = [
        (name, known[name])
        for name in find_names(function.__code__)
        if name in known and isinstance(known[name], (*_PLAIN, types.FunctionType))
    ]
    own = [function.__code__, function.__defaults__, function.__kwdefaults__]
    found = [*own, cells, named, hash_source(function)]
    if is_own_file(function.__code__.co_filename):  # others may hang something on a library's
        found += [vars(function), list_reached(function)]
    return found


def _read_cell(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


@find_parts.register(staticmethod)
@find_parts.register(classmethod)
def _(method: Any) -> Iterable[Any]:
    return [method.__func__]


@find_parts.register
def _(member: property) -> Iterable[Any]:
    return [member.fget]


@find_parts.register
def _(member: functools.cached_property) -> Iterable[Any]:  # type: ignore[type-arg]
    return [member.func]


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
    """A class by its name and source file; one of the user's own by its members, too."""
    said = [kind.__module__, kind.__qualname__, hash_source(kind)]
    if not is_own_class(kind):
        return said
    members = [
        (name, Reached(member, ()))
        for name, member in vars(kind).items()
        if callable(member) or not (name.startswith("__") and name.endswith("__"))
    ]
    return [*said, kind.__bases__, members]


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


def hash_source(thing: Any) -> bytes:
    """Digest of the source file that a function or class stands in; empty if there is none."""
    try:
        return hashlib.sha256(Path(inspect.getfile(thing)).read_bytes()).digest()
    except (TypeError, OSError):
        return b""
