"""Checks of arguments that every room shares."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from btc_datamodule.errors import ConfigError


def is_whole_number(value: Any) -> bool:
    """Whether something is a whole number, Python's or numpy's, and no truth value."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


MOST_COUNT = 10**9
"""Bars, classes, windows of a batch: a bar a second for thirty years."""

MOST_NUMBER = 2**63 - 1
"""Whatever is no count, such as a seed."""


def check_whole_number(name: str, value: Any, least: int | None = None) -> int:
    """An argument that must be a whole number, as a plain ``int``; numpy's are taken too.

    Args:
        name: what the error calls it.
        value: what a user gave.
        least: the smallest that will do; None for any.

    Raises:
        ConfigError: if it is no whole number, less than ``least``, or more than any machine counts.
    """
    if not is_whole_number(value) or (least is not None and value < least):
        start = "" if least is None else f" from {least} up"
        raise ConfigError(f"{name} is {value!r}: it must be a whole number{start}")
    most = MOST_NUMBER if least is None else MOST_COUNT
    if abs(int(value)) > most:
        raise ConfigError(f"{name} is {value!r}: it must be a whole number of at most {most:,}")
    return int(value)


def list_first(names: Sequence[str], most: int = 6) -> str:
    """Names for a person to read: the first ones of many, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def name_type(thing: Any) -> str:
    """The type of something that is too large to show, such as ``polars.DataFrame``."""
    kind = type(thing)
    package = kind.__module__.partition(".")[0]
    return kind.__name__ if package == "builtins" else f"{package}.{kind.__name__}"


def unwrap(value: Any) -> Any:
    """A number of numpy's as Python's own, so that YAML and checkpoints can hold it."""
    return value.item() if isinstance(value, np.number | np.bool_) else value


def set_whole_numbers(thing: Any, prefix: str = "", **least: int | None) -> None:
    """Check fields of a frozen dataclass that is being made, and hold them as plain ``int``.

    Args:
        thing: the object.
        prefix: what stands before a field's name in the error, such as "split.".
        least: for each field the smallest number that will do; None for any.

    Raises:
        ConfigError: if one is no whole number, or less than that.
    """
    for name, value in least.items():
        whole = check_whole_number(f"{prefix}{name}", getattr(thing, name), value)
        object.__setattr__(thing, name, whole)


def check_choice(name: str, value: Any, choices: tuple[str | None, ...]) -> None:
    """Raise ``ConfigError`` unless an argument is one of ``choices``."""
    if value not in choices:
        offered = ", ".join(map(str, choices))
        raise ConfigError(f"{name} is {value!r}: choose one of {offered}")


def format_size(size: int) -> str:
    """A number of bytes for people: 512 bytes, 64 MiB, 7.5 TiB."""
    amount, unit = float(size), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.3g} {unit}"
