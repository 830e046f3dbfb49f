"""What a function remembers from one call to the next.

A feature that keeps what it computed from one frame, and looks it up by time in another, hands the
future to every check that gives it a shorter frame. So building compares the state of a function
before and after: what it closes over, the globals that it names, its attributes and defaults, the
fields of the object that it is a method of. What ``functools.cache`` keeps is not among them, nor
what lies in a module that is no part of the function's own package: the audit computes features
again in a fresh process for those.
"""

import functools
import hashlib
import types
from collections.abc import Iterator
from typing import Any

import numpy as np

from btc_datamodule.errors import LookAheadError
from btc_datamodule.features.feature import Feature
from btc_datamodule.features.reaching import find_names

_refused: list[Any] = []
"""Functions that were found to keep something: called again, they may have all that they keep."""


def capture_state(function: Any) -> bytes:
    """Digest of everything changeable that a function computes with, within this process."""
    digest = hashlib.sha256()
    for part in _walk(function, _get_package(function), set()):
        digest.update(part)
    return digest.digest()


def check_memory(feature: Feature, before: bytes) -> None:
    """Raise ``LookAheadError`` if a feature computes with something else than before.

    Args:
        feature: the feature, which has been computed.
        before: ``capture_state(feature.compute)`` of before.
    """
    refused = any(each is feature.compute for each in _refused)
    if refused or capture_state(feature.compute) != before:
        _refused.append(feature.compute)
        raise LookAheadError(
            f"feature {feature.name!r} keeps something from one call to the next (a global, a "
            "variable that it closes over, or an attribute has changed while it was computed): "
            "a value that was computed from all bars could come back where only earlier ones are "
            "known. Compute it from its frame alone; constants can be cached with functools.cache"
        )


def _walk(thing: Any, package: str, seen: set[int]) -> Iterator[bytes]:
    """The state of a thing and of its parts, in depth, each thing once."""
    if isinstance(thing, bool | int | float | complex | str | bytes | type(None)):
        yield repr(thing).encode()
        return
    yield type(thing).__qualname__.encode()
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, np.ndarray) and thing.dtype != object:
        yield thing.tobytes()
        return
    parts = _list_parts(thing, package)
    if parts is None:
        yield str(id(thing)).encode()
        return
    yield str(len(parts)).encode()
    for part in parts:
        yield from _walk(part, package, seen)


def _list_parts(thing: Any, package: str) -> list[Any] | None:
    """What a thing is made of; None for what is taken as it is."""
    parts: list[Any] | None = None
    match thing:
        case dict():
            parts = [part for item in thing.items() for part in item]
        case list() | tuple():
            parts = list(thing)
        case set() | frozenset():
            parts = sorted(map(repr, thing))
        case types.FunctionType():
            parts = _list_parts_of_function(thing)
        case types.MethodType():
            parts = [thing.__func__, thing.__self__]
        case functools.partial():
            parts = [thing.func, thing.args, thing.keywords]
        case type() | types.ModuleType():
            parts = None
        case _ if hasattr(thing, "__wrapped__"):
            parts = [thing.__wrapped__]
        case _ if hasattr(thing, "__dict__") and _get_package(thing) == package:
            parts = [vars(thing)]
    return parts


def _list_parts_of_function(function: types.FunctionType) -> list[Any]:
    cells = []
    for cell in function.__closure__ or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:  # not filled yet
            cells.append(None)
    known = function.__globals__
    named = [known[name] for name in find_names(function.__code__) if name in known]
    kept = [function.__defaults__, function.__kwdefaults__, vars(function)]
    return [*cells, *kept, *(each for each in named if not isinstance(each, types.ModuleType))]


def _get_package(thing: Any) -> str:
    """The first part of the module that a function, or the class of an object, stands in."""
    module = getattr(thing, "__module__", None) or type(thing).__module__
    return str(module).split(".", maxsplit=1)[0]
