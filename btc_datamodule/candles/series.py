"""``Candles``: the columns of a candle series, their validation and their regular grid.

Owns what a candle is. Receives numpy columns, gives back checked ones. Knows nothing of files,
networks or torch. A ``Candles`` that exists is valid: constructing one checks it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.joining import check_join, join_columns
from btc_datamodule.candles.timeline import (
    Interval,
    Span,
    ceil_to,
    floor_to,
    format_instant,
    format_interval,
    get_offset,
    parse_interval,
)
from btc_datamodule.errors import CandleError, ConfigError
from btc_datamodule.public import public

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

PRICES = ("open", "high", "low", "close")
REQUIRED = ("open_time", *PRICES)
OPTIONAL = ("volume", "quote_volume", "trades", "taker_buy_volume")
COLUMNS = REQUIRED + OPTIONAL
"""Every column a candle can have, in stored order.

``open_time``: int64, epoch seconds UTC at which the bar opens. The others float64: prices in the
quote currency, ``volume`` and ``taker_buy_volume`` in the base currency (BTC), ``quote_volume``
in the quote currency, ``trades`` a count. An optional column may hold NaN: not known. Nearly all
sources have ``volume``; some files do not.
"""

Columns = Mapping[str, NDArray[Any]]


@public
@dataclass(frozen=True, eq=False)
class Candles:
    """Closed bars of one series: open times strictly increasing on the interval's grid.

    Attributes:
        interval: length of a bar in seconds.
        columns: those of ``REQUIRED`` and any of ``OPTIONAL``, each of shape (N,).

    Raises:
        CandleError: naming the first row and time that breaks the contract.
    """

    interval: int
    columns: Columns

    def __post_init__(self) -> None:
        present = convert_columns(self.columns, "candles")
        check_candles(present, self.interval, "candles")
        object.__setattr__(self, "columns", present)

    def __len__(self) -> int:
        return len(self.open_time)

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        """One column; an optional one that is absent reads as NaN."""
        if name in self.columns:
            return self.columns[name]
        return np.full(len(self), np.nan)

    @property
    def open_time(self) -> NDArray[np.int64]:
        """(N,) int64, epoch seconds UTC."""
        return self.columns["open_time"]

    @property
    def span(self) -> Span:
        """From the first bar's opening to the last bar's close; (0, 0) if there are no bars."""
        if not len(self):
            return (0, 0)
        return int(self.open_time[0]), int(self.open_time[-1]) + self.interval

    def slice(self, start: int, end: int) -> "Candles":
        """The bars that open in [start, end)."""
        low, high = np.searchsorted(self.open_time, [start, end])
        return trust(self.interval, {k: v[low:high] for k, v in self.columns.items()})

    def holes(self) -> NDArray[np.int64]:
        """(n, 2) int64: the absent runs between first and last bar, as [first absent, next bar)."""
        return find_holes(self.open_time, self.interval)

    def resample(
        self, interval: int | str, offset: str | None = None
    ) -> tuple["Candles", NDArray[np.int64]]:
        """Longer bars, and from how many of these bars each was made.

        A long bar of which every short one is absent is absent too. One of which some are absent
        is made of the others, and its count says so. A first one that these bars begin in the
        middle of is left out, and so is a last one whose end they do not reach: it is not closed.

        Args:
            interval: seconds, or a text such as "4h"; a multiple of the present one.
            offset: how long past midnight UTC, of weeks past Monday, the long bars open, a text
                such as "8h"; None for not at all.

        Returns:
            The long bars (M), and (M,) int64: how many short bars each has, at most
            ``interval // self.interval``.

        Raises:
            ConfigError: if ``interval`` is not a multiple, or no bar opens at the offset.
        """
        if isinstance(interval, str) or offset is not None:
            text = interval if isinstance(interval, str) else format_interval(interval)
            interval = parse_interval(text, offset)
        check_join(self.interval, interval)
        start, end = self.span
        return join_bars(self.slice(ceil_to(start, interval), floor_to(end, interval)), interval)

    def to_polars(self) -> "pl.DataFrame":
        """A polars frame of the columns, ``open_time`` in epoch seconds."""
        import polars as pl

        return pl.DataFrame(dict(self.columns))

    def to_pandas(self) -> "pd.DataFrame":
        """A pandas frame of the columns, indexed by ``open_time`` as UTC timestamps.

        Raises:
            ConfigError: if pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise ConfigError("to_pandas needs pandas: pip install pandas") from None
        values = {name: column for name, column in self.columns.items() if name != "open_time"}
        index = pd.to_datetime(self.open_time, unit="s", utc=True)
        return pd.DataFrame(values, index=index.rename("open_time"))


def find_holes(open_time: NDArray[np.int64], interval: int) -> NDArray[np.int64]:
    """(n, 2) int64: runs of absent bars as [first absent open time, open time of the next bar)."""
    after = np.flatnonzero(np.diff(open_time) > interval)
    return np.stack([open_time[after] + interval, open_time[after + 1]], axis=1)


def check_candles(
    columns: Columns,
    interval: int,
    where: str,
    rows: NDArray[np.int64] | None = None,
    *,
    ordered: bool = True,
) -> None:
    """Raise ``CandleError`` for the first row that is no candle.

    Args:
        columns: as ``Candles.columns``.
        interval: seconds.
        where: what the error names, a file for instance.
        rows: (N,) numbers to call the rows by in the error; by default 0, 1, 2, ...
        ordered: whether open times must strictly increase.
    """
    time = columns["open_time"]
    faults = [*find_faults(columns)]
    past = (time - get_offset(interval)) % interval
    if past.any():
        faults.append(Fault(past != 0, _explain_off_grid(time, interval)))
    if ordered:
        falling = np.concatenate([[False], np.diff(time) <= 0])
        faults.append(Fault(falling, "open times must increase, each bar once"))
    for fault in faults:
        if fault.bad.any():
            raise CandleError(fault.describe_first(columns, where, rows))


def _explain_off_grid(time: NDArray[np.int64], interval: int) -> str:
    """What to say of bars off the grid; of several that share another grid, which one."""
    problem = f"the bar does not open on the {format_interval(interval)} grid: "
    usual = Interval(int(interval))
    past = (time - usual.offset) % usual
    if len(time) < 2 or (past != past[0]).any():
        return f"{problem}is `interval` right?"
    advice = f"set `offset: {format_interval(int(past[0]))}`" if past[0] else "leave `offset` out"
    return f"{problem}all bars open at the same time past it; if that is right, {advice}"


class Fault(NamedTuple):
    """A way in which rows fail to be candles: (N,) which rows, the problem, columns to show."""

    bad: NDArray[np.bool_]
    problem: str
    shown: tuple[str, ...] = ()

    def describe_first(self, columns: Columns, where: str, rows: NDArray[np.int64] | None) -> str:
        """The number, the time, the problem and the values of the first row that fails so."""
        i = int(np.argmax(self.bad))
        values = ", ".join(f"{name} {columns[name][i]:.10g}" for name in self.shown)
        return (
            f"{where}, row {i if rows is None else rows[i]} "
            f"({format_instant(columns['open_time'][i])}): "
            f"{self.problem}{f' ({values})' if values else ''}"
        )


def find_faults(columns: Columns) -> Iterator[Fault]:
    """Yield each way in which the values of rows can fail to be candles."""
    opened, high, low, close = (columns[name] for name in PRICES)
    for name in PRICES:
        yield Fault(~np.isfinite(columns[name]), f"{name} is not a number")
        yield Fault(columns[name] <= 0, f"{name} is not above zero", (name,))
    for name in OPTIONAL:
        if name in columns:
            yield Fault(columns[name] < 0, f"{name} is negative", (name,))
            yield Fault(np.isinf(columns[name]), f"{name} is infinite")
    yield Fault(high < low, "high is below low", ("high", "low"))
    above, below = np.maximum(opened, close), np.minimum(opened, close)
    yield Fault(high < above, "high is below open or close", ("open", "high", "close"))
    yield Fault(low > below, "low is above open or close", ("open", "low", "close"))


def merge(stored: Candles, fetched: Candles, refresh: bool) -> tuple[Candles, NDArray[np.int64]]:
    """Union of two series of one interval, and the open times at which they disagree.

    A bar that only one has is kept. Where both have a bar with different values, the stored one
    stays, or the fetched one replaces it if ``refresh``. What one does not know (NaN, or no such
    column) is taken from the other, and is no disagreement.
    """
    if not len(stored) and stored.columns.keys() <= fetched.columns.keys():
        return fetched, np.zeros(0, np.int64)
    both = np.intersect1d(stored.open_time, fetched.open_time, assume_unique=True)
    first, second = (fetched, stored) if refresh else (stored, fetched)
    at_first = np.searchsorted(first.open_time, both)
    at_second = np.searchsorted(second.open_time, both)
    extra = np.ones(len(second), dtype=bool)
    extra[at_second] = False
    times = np.concatenate([first.open_time, second.open_time[extra]])
    order = np.argsort(times, kind="stable")
    differs = np.zeros(len(both), dtype=bool)
    columns: dict[str, NDArray[Any]] = {"open_time": times[order]}
    for name in COLUMNS[1:]:
        if name in first.columns or name in second.columns:
            ours, theirs = first[name].copy(), second[name]
            old, new = ours[at_first], theirs[at_second]
            differs |= (old != new) & ~np.isnan(old) & ~np.isnan(new)
            ours[at_first] = np.where(np.isnan(old), new, old)
            columns[name] = np.concatenate([ours, theirs[extra]])[order]
    return trust(stored.interval, columns), both[differs]


def find_lacking(candles: Candles, others: Sequence[Candles]) -> NDArray[np.int64]:
    """The open times of the bars that none of some other series has."""
    held = np.concatenate([np.zeros(0, np.int64), *(other.open_time for other in others)])
    return np.setdiff1d(candles.open_time, held)


def concatenate(parts: Sequence[Candles]) -> Candles:
    """One series of parts that follow each other in time; absent optional columns become NaN."""
    names = [name for name in COLUMNS if any(name in part.columns for part in parts)]
    return Candles(
        parts[0].interval,
        {name: np.concatenate([part[name] for part in parts]) for name in names},
    )


def join_bars(short: Candles, interval: int) -> tuple[Candles, NDArray[np.int64]]:
    """Short bars as long ones, and (M,) int64: of how many each is made.

    All of them are taken: it is the caller who knows that the first and the last are whole.
    """
    columns, count = join_columns(short.columns, interval)
    return trust(interval, columns), count


def make_empty(interval: int) -> Candles:
    """A series without bars."""
    return trust(interval, convert_columns({name: [] for name in REQUIRED}, "candles"))


def convert_columns(columns: Mapping[str, Any], where: str) -> dict[str, NDArray[Any]]:
    """The columns of a candle as int64 and float64 arrays of one length, in stored order."""
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise CandleError(
            f"{where}: no column {', '.join(missing)} (there are: {', '.join(columns)})"
        )
    arrays: dict[str, NDArray[Any]] = {}
    for name in COLUMNS:
        if name in columns:
            dtype = np.int64 if name == "open_time" else np.float64
            given = np.asarray(columns[name])
            arrays[name] = given.astype(dtype, copy=False)
            if name == "open_time" and not np.array_equal(arrays[name], given):
                row = int(np.argmax(arrays[name] != given))
                raise CandleError(f"{where}, row {row}: open_time {given[row]} is no whole second")
    shapes = {values.shape for values in arrays.values()}
    if len(shapes) > 1 or arrays["open_time"].ndim != 1:
        raise CandleError(f"{where}: columns are not of one length (shapes {sorted(shapes)})")
    return arrays


def trust(interval: int, columns: dict[str, NDArray[Any]]) -> Candles:
    """Make ``Candles`` of columns that are known to be valid, without checking them again."""
    candles = object.__new__(Candles)
    object.__setattr__(candles, "interval", interval)
    object.__setattr__(candles, "columns", columns)
    return candles
