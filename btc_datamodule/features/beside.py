"""``Beside``: a series beside the candles, as features may name it.

Owns what a series may be called, and what is said where a name is none of those that there are.
"""

import keyword
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType

from btc_datamodule.candles.records import INSTANTS
from btc_datamodule.candles.series import COLUMNS
from btc_datamodule.candles.timeline import Interval
from btc_datamodule.errors import ConfigError
from btc_datamodule.features.methods import FUNCTIONS

AGE = "age"
"""Column of a frame beside another: how long ago what it says became known. In a line of text a
function of a series: ``age(funding)``."""

TIMES = (COLUMNS[0], *INSTANTS)
"""Columns of instants, of bars and of records."""


PRINTED = ("candles", "features", "note")
"""What begins lines that commands print, beside the names of covariates."""


@dataclass(frozen=True)
class Beside:
    """What is known of a covariate before anything of it is read.

    Attributes:
        name: by which features name it: ``eth`` in ``eth.log_return``.
        interval: seconds from one row to the next, and its grid; None where there is none, as of
            funding, whose rows are its records in order.
        columns: that its rows have, in order.
        is_candles: whether its rows are candles, of which the built-in features can be made.
        max_age: seconds after which a value of it is too old to stand for the present; None for
            never.
        covers: seconds before its time that a row tells of.
    """

    name: str
    interval: Interval | None
    columns: tuple[str, ...]
    is_candles: bool
    max_age: int | None
    covers: int = 0

    @property
    def values(self) -> tuple[str, ...]:
        """The columns that a feature may name: all but instants and ages."""
        return tuple(name for name in self.columns if name not in (*TIMES, AGE))


NONE_BESIDE: Mapping[str, Beside] = MappingProxyType({})
"""No covariates."""


def check_series_name(name: str) -> None:
    """Raise ``ConfigError`` unless a covariate can be called ``name`` in a line of text."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ConfigError(
            f"covariate {name!r}: begin its name with a letter and go on with letters, digits and "
            "underscores"
        )
    taken = {
        "a column of candles or records": (*COLUMNS, *INSTANTS),
        "a function of features": (*FUNCTIONS, AGE),
        "a word of Python": keyword.kwlist,
        "a line of what commands print": PRINTED,
    }
    for what, names in taken.items():
        if name in names:
            raise ConfigError(f"covariate {name!r}: {what} is called that: give it another name")


def explain_absent(series: str, beside: Mapping[str, Beside]) -> str:
    """What is wrong with the name of a series that is none of ``beside``, and what there is."""
    if beside:
        return f"there is no series {series!r}{suggest(series, beside)}"
    return f"there is no series {series!r}: name one so in `covariates`, as {{{series}: ...}}"


def suggest(given: str, known: Iterable[str]) -> str:
    """The end of an error on an unknown name: the nearest known name and all of them."""
    names = list(known)
    close = get_close_matches(given, names, n=1)
    guess = f": did you mean {close[0]!r}?" if close else ";"
    return f"{guess} there are {', '.join(names)}"
