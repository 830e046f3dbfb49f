"""Objects as plain values, for hyperparameters: what ``weights_only=True`` loads again.

A source, split or target stands in a checkpoint as LightningCLI would write it in YAML: its class
path and its arguments.
"""

from dataclasses import fields, is_dataclass
from typing import Any


def import_path(thing: Any) -> str:
    """Where a function, a class, or the class of an object can be imported from."""
    kind = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{kind.__module__}.{kind.__qualname__}"


def class_path(thing: Any) -> dict[str, Any]:
    """An instance as LightningCLI writes it: class path and, of a dataclass, the arguments."""
    named = fields(thing) if is_dataclass(thing) else ()
    arguments = {f.name: _plain(getattr(thing, f.name)) for f in named if f.init}
    return {"class_path": import_path(type(thing)), "init_args": arguments}


def _plain(value: Any) -> Any:
    """A value as a checkpoint may hold it; what is no number, text or list, as its text."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
