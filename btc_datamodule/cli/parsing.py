"""What all commands share in reading what a person typed."""

import os
import select
import sys
from importlib import import_module
from typing import Any, NoReturn

from btc_datamodule import __all__ as public_names
from btc_datamodule.escaping import escape, escape_lines

OF_TRAINER = (
    "BTCDataModule",
    "DummyModule",
    "FoldRuns",
    "Forecast",
    "PredictionWriter",
    "StopCheckpoint",
    "follow",
    "run_folds",
)
"""Public names that import Lightning."""


def import_classes(*, with_trainer: bool) -> None:
    """Import what YAML can name, so that short names work and help lists every class.

    Args:
        with_trainer: also what a Trainer needs, and with it Lightning.
    """
    package = import_module("btc_datamodule")
    for name in public_names:
        if with_trainer or name not in OF_TRAINER:
            getattr(package, name)


def say(text: object) -> None:
    """Print an answer, what others wrote in it escaped."""
    print(escape_lines(str(text)))


def is_unread() -> bool:
    """Whether stdout is a pipe whose reader has gone."""
    poll = select.poll()
    poll.register(sys.__stdout__ or 1, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def drop_answer() -> None:
    """Drop what stdout does not take, about which Python would complain as it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(message: str) -> None:
    """Print one line of an error, escaped, to stderr."""
    print(f"btc-datamodule: error: {escape(message)}", file=sys.stderr)


def restore_nulls(config: Any) -> None:
    """Make ``None`` again of what was typed as ``null`` two levels deep or more.

    Of ``--data.source.columns null`` jsonargparse makes the text "None".

    Args:
        config: a class path with its ``init_args``, changed in place.
    """
    _restore_in((config.get("init_args") or config).__dict__)


def _restore_in(values: dict[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, str) and value == "None":
            values[name] = None
        elif isinstance(value, dict):
            _restore_in(value)
        elif hasattr(value, "get"):  # a namespace: a class path with its arguments, or these alone
            restore_nulls(value)


def fail(message: str) -> NoReturn:
    """End the process with one line on what was typed wrong, and status 2."""
    complain(message)
    raise SystemExit(2)
