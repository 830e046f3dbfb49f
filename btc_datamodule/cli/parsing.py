"""What all commands share in reading what a person typed."""

import sys
from importlib import import_module
from typing import NoReturn

from btc_datamodule import __all__ as public_names
from btc_datamodule.escaping import escape, escape_lines


def import_classes() -> None:
    """Import what YAML can name, so that short names work and help lists every class."""
    package = import_module("btc_datamodule")
    for name in public_names:
        getattr(package, name)


def say(text: object) -> None:
    """Print an answer, what others wrote in it escaped."""
    print(escape_lines(str(text)))


def complain(message: str) -> None:
    """Print one line of an error, escaped, to stderr."""
    print(f"btc-datamodule: error: {escape(message)}", file=sys.stderr)


def fail(message: str) -> NoReturn:
    """End the process with one line on what was typed wrong, and status 2."""
    complain(message)
    raise SystemExit(2)
