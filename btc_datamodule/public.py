"""Public names carry their public path, wherever their file lies.

So hyperparameters, checkpoints, pickles, YAML and messages name ``btc_datamodule.Simulator``, and
go on working when a file moves.
"""

from typing import TypeVar

T = TypeVar("T")


def public(thing: T) -> T:
    """Name a class or function by ``btc_datamodule``, from where it can be imported."""
    thing.__module__ = "btc_datamodule"
    return thing
