"""``HeldFrame``: a frame of polars or pandas as it was when it was given, and its digest.

What is held never changes and is never written to. Columns of polars are shared with the frame that
they came from, as polars itself shares them; those of pandas, whose values can be changed in place,
are copied once.
"""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from btc_datamodule.checks import name_type
from btc_datamodule.errors import ConfigError
from btc_datamodule.sources.files.raw import LEVELS, RawTable, make_frame

if TYPE_CHECKING:
    import polars as pl


class HeldFrame:
    """The columns of a frame, in its order; of pandas first the index, if it says something.

    Equal to another of the same names, types and values.

    Args:
        names: of the columns.
        frame: columns "0", "1", ... in that order.
    """

    def __init__(self, names: list[str], frame: "pl.DataFrame") -> None:
        self.names = names
        self.frame = frame

    @classmethod
    def of(cls, given: Any) -> "HeldFrame":
        """Hold what a user gave.

        Raises:
            ConfigError: if it is no frame of polars or pandas, has no columns or rows, or cannot
                be collected.
        """
        if isinstance(given, cls):
            return given
        kind = name_type(given)
        if kind == "polars.LazyFrame":
            given, kind = _collect(given), "polars.DataFrame"
        if kind == "polars.DataFrame":
            columns = [(name, _spell_out(given[name])) for name in given.columns]
        elif kind == "pandas.DataFrame":
            columns = list(_read_pandas(given))
        else:
            shown = repr(given) if isinstance(given, str) else f"of type {kind}"
            raise ConfigError(
                f"frame is {shown:.200}: give a DataFrame of polars or pandas; of a file "
                'CandleFile("PATH")'
            )
        if not columns or not len(columns[0][1]):
            raise ConfigError("frame is empty: give one with a row for each candle")
        for name, series in columns:
            if series.dtype.is_nested() or str(series.dtype) in ("Object", "Binary"):
                raise ConfigError(f"frame: column {name!r} holds {series.dtype}: leave it out")
        return cls([name for name, _ in columns], make_frame([series for _, series in columns]))

    def __repr__(self) -> str:
        return f"<frame of {self.frame.height:,} rows, sha256:{self.digest[:16]}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HeldFrame) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the names, types and values of all columns, the same in every process."""
        digest = hashlib.sha256()
        for name, series in zip(self.names, self.frame.get_columns(), strict=True):
            digest.update(f"{len(name)} {name} {series.dtype} {len(series)}".encode())
            for part in _list_parts(series):
                digest.update(part)
        return digest.hexdigest()

    @property
    def table(self) -> RawTable:
        """The same, as readers of files give it."""
        return RawTable(self.names, self.frame)


def _collect(frame: "pl.LazyFrame") -> "pl.DataFrame":
    """What a lazy frame comes to.

    Raises:
        ConfigError: with the first line of whatever its files, columns or functions raise.
    """
    import polars as pl

    try:
        return frame.collect()
    except (Exception, pl.exceptions.PanicException) as error:  # a panic is no Exception
        cause = (error.args or ("",))[0]
        told = next(iter(str(cause).strip("'\n ").splitlines()), "")
        raise ConfigError(
            f"frame cannot be collected ({type(error).__name__}: {told:.200}): mend it, or give "
            "what `frame.collect()` returns"
        ) from error


def _spell_out(series: "pl.Series") -> "pl.Series":
    """A column of categories as its texts, like pandas' categories; others as they are."""
    import polars as pl

    if isinstance(series.dtype, pl.Categorical | pl.Enum):
        return series.cast(pl.String)
    return series


def _list_parts(series: "pl.Series") -> Iterator[Any]:
    """What tells the values of a column from others, as buffers."""
    import polars as pl

    yield np.packbits(series.is_null().to_numpy())
    if series.dtype.is_temporal():
        series = series.to_physical()
    if series.dtype.is_numeric() and not series.dtype.is_decimal():
        yield np.ascontiguousarray(series.fill_null(0).to_numpy())
        return
    texts = series.cast(pl.String).fill_null("")
    yield np.ascontiguousarray(texts.str.len_bytes().to_numpy())
    yield texts.str.join("").item().encode()


def _read_pandas(frame: Any) -> Iterator[tuple[str, "pl.Series"]]:
    """The columns of a frame of pandas, by name; first its index, unless it only counts rows."""
    index = frame.index
    levels = [index.get_level_values(level) for level in range(index.nlevels)]
    for level in levels:
        named = level.name is not None
        if named or getattr(level.dtype, "kind", "O") not in "iu":
            yield _name_pandas(level.name) if named else "open_time", _convert_pandas(level)
    for place, name in enumerate(frame.columns):
        yield _name_pandas(name), _convert_pandas(frame.iloc[:, place])


def _name_pandas(name: Any) -> str:
    return LEVELS.join(map(str, name)) if isinstance(name, tuple) else str(name)


def _convert_pandas(column: Any) -> "pl.Series":
    """A column or an index of pandas as polars', its values copied."""
    import polars as pl

    kind = getattr(column.dtype, "kind", "O")
    missing = np.asarray(column.isna())
    if isinstance(column.dtype, np.dtype) and kind in "iufb":
        return pl.Series(np.array(column.to_numpy()))  # polars would share what it can
    if kind == "M":
        nanos = column.to_numpy(dtype="datetime64[ns]")  # in UTC, if they have a zone
        times = pl.Series(nanos.astype(np.int64)).cast(pl.Datetime("ns"))
        if getattr(column.dtype, "tz", None) is not None:
            times = times.dt.replace_time_zone("UTC")
        return _blank(times, missing)
    if kind in "iu":
        return _blank(pl.Series(column.to_numpy(dtype=f"{kind}8", na_value=0)), missing)
    if kind == "f":
        return pl.Series(np.array(column.to_numpy(dtype=np.float64, na_value=np.nan)))
    values = [None if gone else each for each, gone in zip(column, missing, strict=True)]
    with suppress(TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
        series = pl.Series(values, strict=True)
        if series.dtype != pl.Object:
            return series
    return pl.Series([None if each is None else str(each) for each in values], dtype=pl.String)


def _blank(series: "pl.Series", missing: Any) -> "pl.Series":
    """A column without the values that are missing."""
    import polars as pl

    return pl.select(pl.when(pl.lit(pl.Series(~missing))).then(pl.lit(series))).to_series()
