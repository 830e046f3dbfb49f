"""Objects as plain values, for hyperparameters: what ``weights_only=True`` loads again.

A source, split or target stands in a checkpoint as LightningCLI would write it in YAML: its class
path and its arguments.
"""

from dataclasses import fields, is_dataclass
from datetime import date
from typing import Any

from btc_datamodule.features.feature import Feature


def plain(value: Any) -> Any:
    """A value as a checkpoint may hold it: numbers, texts, lists and dicts of them.

    An object becomes its class path and, of a dataclass, its arguments; a function or a class the
    path to import it from; a feature what names it in YAML.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Feature | date):
        return value.text if isinstance(value, Feature) else value.isoformat()
    if hasattr(value, "__qualname__"):
        return _path(value)
    named = fields(value) if is_dataclass(value) else ()
    arguments = {f.name: _argument(getattr(value, f.name)) for f in named if f.init}
    return {"class_path": _path(type(value)), "init_args": arguments}


def _argument(value: Any) -> Any:
    """An argument of an object; one that is no plain value, such as an array, as its text."""
    made = plain(value)
    return str(value) if isinstance(made, dict) and not is_dataclass(value) else made


def _path(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"
