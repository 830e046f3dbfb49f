"""The command line: what a person types, and what is answered."""

from btc_datamodule.cli.commands import main

__all__ = ["main"]
