"""Objects as plain values: ``to_plain`` for hyperparameters, ``describe`` to tell one from another.

What a checkpoint may hold under ``weights_only=True``, and what the settings of a checkpoint and
those of the data that it meets are compared by.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import Field, fields, is_dataclass
from datetime import date
from inspect import isfunction, signature
from pathlib import Path
from typing import Any

import numpy as np

from btc_datamodule.features.feature import Feature

UNKNOWN = "<unknown>"
"""Stands in ``describe`` for what cannot be told from another of its kind."""


def to_plain(value: Any) -> Any:
    """A value as a checkpoint may hold it: numbers, texts, lists and dicts of them.

    An object becomes what LightningCLI would write in YAML, its class path and its arguments; a
    function or a class the path to import it from; a feature the text that names it.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, Feature | date):
        return value.text if isinstance(value, Feature) else value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if hasattr(value, "__qualname__"):
        return _find_path(value)
    arguments = {name: _to_plain_argument(held) for name, held in _list_arguments(value).items()}
    return {"class_path": _find_path(type(value)), "init_args": arguments}


def describe(thing: Any) -> str:
    """A text of what an object is made of, the same for equal objects in every process.

    A dataclass by its fields, another object by its attributes: ``FractionSplit(val=0.2,
    test=0.2)``; an array by a digest of its bytes. ``UNKNOWN`` stands for a part that cannot be
    told from another of its kind, such as a lambda.
    """
    return _describe(thing, ())


def _describe(thing: Any, outer: tuple[int, ...]) -> str:
    """See ``describe``; ``outer`` has the identities of what the thing lies in, to end cycles."""
    if thing is None or isinstance(thing, bool | int | float | str | bytes | date | Path):
        return repr(thing)
    if hasattr(thing, "__qualname__"):  # a function or a class
        return UNKNOWN if "<" in thing.__qualname__ else str(thing.__qualname__)
    if hasattr(thing, "__array__"):
        return _describe_array(np.asarray(thing))
    if id(thing) in outer:
        return UNKNOWN
    return _describe_parts(thing, lambda part: _describe(part, (*outer, id(thing))))


def _describe_parts(thing: Any, describe_part: Callable[[Any], str]) -> str:
    """The text of a thing that has parts: a list, a tuple, a set, a mapping or an object."""
    if isinstance(thing, list | tuple):
        items = ", ".join(map(describe_part, thing))
        return f"[{items}]" if isinstance(thing, list) else f"({items}{',' * (len(thing) == 1)})"
    if isinstance(thing, Mapping | set | frozenset):
        pairs = thing.items() if isinstance(thing, Mapping) else [(part,) for part in thing]
        return f"{{{', '.join(sorted(': '.join(map(describe_part, pair)) for pair in pairs))}}}"
    if is_dataclass(thing):
        held = {field.name: _read_field(thing, field) for field in fields(thing)}
    elif hasattr(thing, "__dict__"):
        held = vars(thing)
    else:
        return UNKNOWN
    listed = ", ".join(f"{name}={describe_part(part)}" for name, part in held.items())
    return f"{type(thing).__qualname__}({listed})"


def _read_field(thing: Any, field: "Field[Any]") -> Any:
    """The value of a field; a whole number where a float is due as YAML gives it back."""
    value = getattr(thing, field.name)
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if is_whole and field.type in (float, "float") else value


def _describe_array(array: "np.ndarray[Any, Any]") -> str:
    if array.dtype.hasobject:
        return UNKNOWN
    digest = hashlib.sha256(array.tobytes()).hexdigest()[:16]
    return f"array({array.shape}, {array.dtype.str}, sha256:{digest})"


def _to_plain_argument(value: Any) -> Any:
    """An argument of an object; one that is no plain value, such as an array, as its text."""
    made = to_plain(value)
    is_object = isinstance(made, dict) and not isinstance(value, Mapping)
    return str(value) if is_object and not is_dataclass(value) else made


def _list_arguments(thing: Any) -> dict[str, Any]:
    """The arguments that an object was made with, as far as its attributes have their names."""
    if is_dataclass(thing):
        names = [field.name for field in fields(thing) if field.init]
    else:  # one of a class that is not written in Python has no signature
        parameters = signature(type(thing)).parameters if isfunction(type(thing).__init__) else ()
        names = [name for name in parameters if hasattr(thing, name)]
    return {name: getattr(thing, name) for name in names}


def _find_path(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"
