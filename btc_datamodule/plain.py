"""Objects as plain values: ``to_plain`` for hyperparameters, ``describe`` to tell one from another.

What a checkpoint may hold under ``weights_only=True``, and what the settings of a checkpoint and
those of the data that it meets are compared by.
"""

import copyreg
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from functools import partial
from inspect import isfunction, signature
from pathlib import PurePath
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch

from btc_datamodule.checks import unwrap
from btc_datamodule.features.feature import Feature

UNKNOWN = "<unknown>"
"""Stands in ``describe`` for what cannot be told from another of its kind."""

LONGEST = 500
"""Characters of the text of a part; a longer one is a digest of it."""

LARGEST, DEEPEST = 10_000, 50
"""Parts of an object, and levels of parts, that are looked at; what comes after them is unknown."""


def to_plain(value: Any) -> Any:
    """A value as a checkpoint may hold it: numbers, texts, lists and dicts of them.

    An object becomes what LightningCLI would write in YAML, its class path and its arguments; a
    function or a class the path to import it from; a feature the text that names it.
    """
    value = str(value) if isinstance(value, np.datetime64 | PurePath) else unwrap(value)
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


def to_plain_function(function: Any) -> Any:
    """A function as a checkpoint may hold it: so that it is made again as it was, or not at all.

    One at the top level of a module becomes the path to import it from, an object that can be
    called its class path and arguments. Of what neither gives back, a ``functools.partial``, a
    method of an object, an object whose attributes have not all the names of its arguments, there
    is a text in angle brackets, which nobody takes for a path.
    """
    if isinstance(function, MethodType) and not isinstance(function.__self__, type):
        return f"<method {_find_path(function)} of an object>"
    if isinstance(function, partial):
        return f"<partial of {to_plain_function(function.func)}>"
    kind = type(function)
    if function is not None and not hasattr(function, "__qualname__"):
        parameters = signature(kind).parameters if isfunction(kind.__init__) else ()
        lost = len(parameters) - len(_list_arguments(function))
        if lost or isinstance(function, torch.nn.Module):  # whose weights are no arguments
            return f"<object of {_find_path(kind)}>"
    return to_plain(function)


def describe(thing: Any) -> str:
    """A text of what an object is made of, the same for equal objects in every process.

    A dataclass by the fields that it compares; another object by its arguments, if its attributes
    have all of their names, and else by all that pickle would write of it (``__getstate__`` can
    leave out a cache); an array by a digest of its bytes: ``FractionSplit(val=0.2, test=0.2)``.
    ``UNKNOWN`` stands for a part that cannot be told from another of its kind, such as a lambda.
    Whole numbers are alike as int and float, and sequences as list and tuple: YAML does not tell
    them apart.
    """
    return _describe(thing, {}, 0)


def _describe(thing: Any, known: dict[int, tuple[Any, str]], depth: int) -> str:
    """See ``describe``; ``known`` has the texts of things met before, by their identities."""
    if isinstance(thing, np.generic):
        thing = thing.item()
    if type(thing) in (float, int) and float(thing).is_integer():
        return repr(int(thing))
    if thing is None or type(thing) in (bool, int, float, complex, str, bytes, date, datetime):
        return repr(thing)
    if id(thing) not in known:
        if len(known) > LARGEST or depth > DEEPEST:
            return UNKNOWN
        known[id(thing)] = thing, UNKNOWN  # for what holds itself
        text = _describe_object(thing, lambda part: _describe(part, known, depth + 1))
        if len(text) > LONGEST:
            digest = hashlib.sha256(text.encode()).hexdigest()[:16]
            doubt = f", {UNKNOWN}" if UNKNOWN in text else ""
            text = f"{type(thing).__qualname__}(sha256:{digest}{doubt})"
        known[id(thing)] = thing, text
    return known[id(thing)][1]


def _describe_object(thing: Any, describe_part: Callable[[Any], str]) -> str:
    """The text of a thing that is no plain value."""
    kind = type(thing)
    if isinstance(thing, type | FunctionType):
        return UNKNOWN if "<" in thing.__qualname__ else thing.__qualname__
    if isinstance(thing, torch.Tensor) or kind is np.ndarray:
        return _describe_array(thing)
    if kind in (list, tuple):
        return f"[{', '.join(map(describe_part, thing))}]"
    if kind in (dict, set, frozenset):
        pairs = thing.items() if kind is dict else [(part,) for part in thing]
        return f"{{{', '.join(sorted(': '.join(map(describe_part, pair)) for pair in pairs))}}}"
    held = _list_held(thing)
    if held is None:
        return UNKNOWN
    parts = [f"{name}={describe_part(part)}" for name, part in held.items()]
    return f"{kind.__qualname__}({', '.join(parts)})"


def _list_held(thing: Any) -> dict[str, Any] | None:
    """What an object was made with, by name; None where that is not to be known."""
    if isinstance(thing, ModuleType | PurePath):
        return {"path": thing.__name__ if isinstance(thing, ModuleType) else str(thing)}
    if is_dataclass(thing):
        return {name: getattr(thing, name) for name in _list_compared(thing)}
    if isfunction(type(thing).__init__):
        parameters = signature(type(thing)).parameters.values()
        named = all(each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD) for each in parameters)
        arguments = _list_arguments(thing)
        if arguments and named and len(arguments) == len(parameters):
            return arguments
    return _list_pickled(thing)


def _list_compared(thing: Any) -> list[str]:
    """The fields of a dataclass that tell it from others.

    One with ``left_out_at`` in its metadata is left out at that value, so that a field added later
    changes nothing for the checkpoints of before.
    """
    return [
        field.name
        for field in fields(thing)
        if field.compare
        and not (
            "left_out_at" in field.metadata
            and getattr(thing, field.name) == field.metadata["left_out_at"]
        )
    ]


def repr_as_before(thing: Any) -> str:
    """The ``repr`` of a thing without the fields that were added since, at what stands for none."""
    if not is_dataclass(thing) or len(_list_compared(thing)) == len(fields(thing)):
        return repr(thing)
    parts = [f"{name}={getattr(thing, name)!r}" for name in _list_compared(thing)]
    return f"{type(thing).__qualname__}({', '.join(parts)})"


def _list_pickled(thing: Any) -> dict[str, Any] | None:
    """What pickle would write of an object; None where it could not."""
    try:
        reduced = thing.__reduce_ex__(4)
    except Exception:  # whatever a class raises that cannot be pickled
        return None
    if isinstance(reduced, str):
        return {"path": f"{getattr(thing, '__module__', '')}.{reduced}"}
    if not isinstance(reduced, tuple) or len(reduced) < 2:
        return None
    make, arguments, *state = reduced
    arguments = [part for part in arguments if part is not type(thing)]
    is_plain = make is copyreg.__newobj__ and not arguments  # type: ignore[attr-defined]
    if is_plain and not any(state[1:]) and isinstance(state[0], dict | None):
        return dict(sorted((state[0] or {}).items()))
    items = [list(part) if isinstance(part, Iterator) else part for part in state]
    return {"made_by": getattr(make, "__qualname__", str(make)), "of": arguments, "state": items}


def _describe_array(array: Any) -> str:
    """A digest of the bytes of a numpy array or a tensor."""
    values = array
    if isinstance(array, torch.Tensor):
        if array.layout != torch.strided or array.is_quantized:
            return UNKNOWN
        values = array.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    elif array.dtype.hasobject:
        return UNKNOWN
    digest = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]
    return f"array({tuple(array.shape)}, {array.dtype}, sha256:{digest})"


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
