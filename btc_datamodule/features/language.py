"""Features written as a line of text: ``"momentum_10 = close / close.shift(10) - 1"``.

Owns the language of such expressions: what may stand in one, what it computes, how far back it
looks. A text is parsed into a tree and nothing in it is ever executed: what is not on the list
here is an error that says where it stands. It may hold

    columns      open high low close volume quote_volume trades taker_buy_volume
    numbers      and + - * / ** and parentheses
    comparisons  < <= > >= == != of two things: 1 where true, 0 where false
    functions    min(a, b, ...) and max(a, b, ...), row by row
    methods      of ``METHODS``, such as close.log().diff().rolling_std(60), and of two columns:
                 close.rolling_corr(volume, bars=24)
    series       eth.close, a column of a series beside the candles, and age(eth)

The lookback follows from the text. A column needs 1 bar; an operator or a function as many as the
longest of its operands; ``shift(n)``, ``diff(n)`` and ``pct_change(n)`` n more; a window of
``bars`` rows bars - 1 more. An exponential mean would need every bar there ever was: it is cut
off at ``bars``, which must be given.

What is not defined (a bar that was not observed, ln 0, a division by 0) is NaN, and so is all that
is made of it, each window with such a bar included. A window is computed from its own bars alone
and always in the same steps: a value has the same bits in every frame that holds its lookback, and
what came before leaves no rounding behind. In a market that stands still the deviation is 0, not
almost 0.

What names a column of the candles, or ``age(series)``, has the rows of the candles. What names
columns of series only has the rows of the first of them: ``oi.sum_open_interest.diff()`` is the
change from one record to the next, and its lookback counts records. Others are met bar by bar
(``meeting``): what a series says counts where it is known at the very close, of a bar of the same
length on the same grid, and is NaN elsewhere. ``age(series)`` is how many bars of the candles ago
the newest value of a series became known; that of any series can be asked.
"""

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from btc_datamodule.candles.series import OPTIONAL
from btc_datamodule.errors import ConfigError
from btc_datamodule.features.beside import AGE, NONE_BESIDE, Beside
from btc_datamodule.features.compiling import Compiler, compile_text
from btc_datamodule.features.fingerprint import find_parts, hash_source
from btc_datamodule.features.meeting import MAIN, Named, choose_clock
from btc_datamodule.features.methods import Floats, Method

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Expression:
    """The function that a text stands for: from frames of bars to a series.

    Attributes:
        text: the right-hand side as this package would write it, whatever the spaces were.
        lookback: rows of its clock that the expression needs, the current one included.
        needs: the optional columns of candles that it names of its clock.
    """

    text: str
    lookback: int
    needs: tuple[str, ...]

    def __call__(self, bars: "pl.DataFrame", *others: "pl.DataFrame") -> "pl.Series":
        """Values of all rows, NaN where undefined.

        Args:
            bars: rows of the clock.
            others: frames of the series in ``beside``, a row for each row of ``bars``.
        """
        import polars as pl

        node = compile_text(self.text)
        clock, beside = choose_clock(node.columns)
        frames = dict(zip((clock, *beside), (bars, *others), strict=True))
        columns: dict[Named, Floats] = {}
        for series, name in node.columns:
            values = frames[series][name].cast(pl.Float64).to_numpy()
            if series != clock and name != AGE:  # only what tells of the very same bar meets it
                ages = frames[series][AGE].cast(pl.Float64).to_numpy()
                values = np.where(ages == 0, values, np.nan)
            columns[series, name] = values
        with np.errstate(all="ignore"):
            return pl.Series(node.values(columns))

    @property
    def clock(self) -> str:
        """The series whose rows it has; "" for the candles."""
        return choose_clock(compile_text(self.text).columns)[0]

    @property
    def beside(self) -> tuple[str, ...]:
        """The other series that it names, whose frames it is given in this order."""
        return choose_clock(compile_text(self.text).columns)[1]

    @property
    def columns(self) -> tuple[Named, ...]:
        """The columns that it names, each with its series; ages are none."""
        return tuple(each for each in compile_text(self.text).columns if each[1] != AGE)


@find_parts.register
def _(expression: Expression) -> Iterable[Any]:
    """An expression is known by its text and by the files that say what the text means."""
    return [vars(expression), *map(hash_source, (Expression, Compiler, choose_clock, Method))]


def is_expression(text: str) -> bool:
    """Whether a text means to be an expression and not the name of a feature."""
    return re.search(r"[^\w\s-]", text) is not None


def parse(
    text: str, beside: Mapping[str, Beside] = NONE_BESIDE, interval: int | None = None
) -> tuple[str, Expression]:
    """The name and the expression of ``"name = expression"``.

    Args:
        text: the line.
        beside: the series beside the candles that it may name.
        interval: of the candles, with its grid; None if that is not known.

    Raises:
        ConfigError: if the text is not in the language; it says at which column, and what is.
        LookAheadError: if it would read later bars, as ``shift(-1)`` does.
    """
    head, equals, tail = text.partition("=")
    if not equals or tail.startswith("="):  # which compares
        raise ConfigError(
            f"the expression {text!r:.200} has no name: write it with one of your own, "
            f"'my_feature = {text.strip():.200}'"
        )
    name, right = head.strip(), tail.lstrip()
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ConfigError(
            f"feature {text!r}: {name!r} is no name: begin with a letter and go on with letters, "
            "digits and underscores"
        )
    compiler = Compiler(name, len(text) - len(right), beside)
    tree = compiler.parse(right)
    node = compiler.compile(tree)
    compiler.check_meeting(tree, node.columns, interval)
    written = ast.unparse(tree)
    compiler.check_length(written)
    return name, make_expression(written, beside)


def make_expression(text: str, beside: Mapping[str, Beside]) -> Expression:
    """The expression of a right-hand side that is known to be in the language."""
    node = compile_text(text)
    clock, _ = choose_clock(node.columns)
    optional = OPTIONAL if clock == MAIN or beside[clock].is_candles else ()
    needs = tuple(column for column in optional if (clock, column) in node.columns)
    return Expression(text, node.lookback, needs)
