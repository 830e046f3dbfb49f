"""How much is said beside the answer: ``--quiet``, ``--verbose``, and a hint of what comes next.

Answers go to stdout, all else to stderr. No colour is written anywhere, so that ``NO_COLOR``
changes nothing of ours; what Lightning and rich draw follows it by itself.
"""

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from itertools import pairwise

NEXT = {
    "new": "prepare",
    "prepare": "info",
    "info": "fit",
    "fit": "test",
    "test": "predict",
    "predict": "score",
    "score": "report",
}
"""What comes after a command, as a rule."""

NEEDED = {
    "test": " --ckpt_path FILE.ckpt",
    "predict": " --ckpt_path FILE.ckpt",
    "score": " --forecasts FILE.parquet",
}
"""What a command is given beside the config."""


OF_LIGHTNING = r"`isinstance\(treespec, LeafSpec\)` is deprecated"
"""What torch warns of in each fit, and only Lightning can change."""


class Manner(Enum):
    """How much is said."""

    QUIET = "--quiet"
    USUAL = ""
    VERBOSE = "--verbose"


MANNERS = tuple(manner.value for manner in Manner if manner.value)
"""The options that ask for one."""


class _ToStderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), file=sys.stderr)


_HANDLER = _ToStderr()


def take_manner(arguments: Sequence[str]) -> tuple[Manner, list[str]]:
    """The manner that is asked for, the last one of several, and the other arguments."""
    asked = [Manner(each) for each in arguments if each in MANNERS]
    others = [each for each in arguments if each not in MANNERS]
    return asked[-1] if asked else Manner.USUAL, others


@contextmanager
def hold_manner(manner: Manner) -> Iterator[None]:
    """Say as much inside: notes and warnings, not if quiet; what is asked, if verbose."""
    ours, asked = logging.getLogger("btc_datamodule"), logging.getLogger("httpx")
    levels, silenced = (ours.level, asked.level), logging.root.manager.disable
    bars = os.environ.get("TQDM_DISABLE")
    with warnings.catch_warnings():
        ours.setLevel(logging.DEBUG if manner is Manner.VERBOSE else logging.INFO)
        ours.addHandler(_HANDLER)
        if manner is Manner.VERBOSE:
            asked.setLevel(logging.INFO)  # a line for each request
            asked.addHandler(_HANDLER)
        warnings.filterwarnings("ignore", OF_LIGHTNING, FutureWarning)
        if manner is Manner.QUIET:
            logging.disable(logging.WARNING)
            warnings.simplefilter("ignore")
            os.environ["TQDM_DISABLE"] = "1"
        try:
            yield
        finally:
            for log, level in zip((ours, asked), levels, strict=True):
                log.setLevel(level)
                log.removeHandler(_HANDLER)
            logging.disable(silenced)
            os.environ.pop("TQDM_DISABLE", None)
            if bars is not None:
                os.environ["TQDM_DISABLE"] = bars


def hint_next(command: str, arguments: Sequence[str]) -> None:
    """Tell a person at a terminal what comes next; scripts and logs are not told."""
    following = NEXT.get(command)
    if following is None or not sys.stderr.isatty():
        return
    config, where = "FILE.yaml", ""
    if command == "new":
        config, where = "config.yaml", f"cd {arguments[0]} && "
    for option, value in pairwise(arguments):
        if option in ("-c", "--config"):
            config = value
    print(
        f"next: {where}btc-datamodule {following} --config {config}{NEEDED.get(following, '')}",
        file=sys.stderr,
    )
