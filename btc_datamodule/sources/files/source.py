"""``CandleFile``: candles that already lie in files, as exchanges and data shops hand them out.

Owns the meaning of what stands in a file: which instant a time is, which row is a bar and which
says that nothing was traded. Receives columns from ``formats.py``, gives back one checked series,
sorted, each bar once. It promises that nothing is settled in silence: what was left out or
repaired is counted in the block's notes, and a row that makes no sense is an error with the
file and the row's number (in a text file, its line).

    CandleFile("data/XBTUSD_60.csv", columns="kraken")
    CandleFile("data/BTCUSDT-1h-*.csv")                     # several files, one series
    CandleFile("data/candles.h5", dataset="BTC-USD/1h")

Times may be numbers in seconds, milliseconds, microseconds or nanoseconds, told apart row by row
since real files mix them, or ISO 8601 texts, or the instants of an Arrow file; UTC unless they
say otherwise.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.series import COLUMNS, PRICES, REQUIRED, Candles, tidy
from btc_datamodule.candles.timeline import Span, format_interval
from btc_datamodule.errors import CandleError, ConfigError, SourceError
from btc_datamodule.sources.base import Block, Source, check_path_part
from btc_datamodule.sources.columns import LAYOUTS, LEFT_OUT, Table
from btc_datamodule.sources.files.tables import HDF5_SUFFIXES, SUFFIXES, has_suffix, read_table

if TYPE_CHECKING:
    import polars as pl

_ISO_TIME = (
    r"^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(?::(\d{2}))?(?:\.(\d+))?)?"
    r"(?: ?(?:Z|UTC|([+-])(\d{2}):?(\d{2})))?$"
)
_ENOUGH_TO_JUDGE = 100
"""Bars from which on their common spacing is the file's interval, not chance."""


@dataclass(frozen=True)
class CandleFile(Source):
    """Candles from CSV (also gzipped), Feather, Arrow, Parquet or HDF5 files.

    Attributes:
        path: one file, a glob pattern, or several of them, read together as one series.
        columns: order of the columns where the file does not name them: a list of names from
            ``candles.COLUMNS``, "ignore" for a column to leave out, or the layout of an
            exchange: kraken, bitfinex, coinbase or binance.
        dataset: path of the dataset or group inside HDF5 files, such as "BTC-USD/1h".
        product: name of the folder for this series; by default the file's name and a digest of
            path, columns and dataset, so that two files never mix.

    Raises:
        ConfigError: if an argument is wrong.
    """

    path: str | list[str]
    columns: str | list[str] | None = None
    dataset: str | None = None
    product: str | None = None

    name: ClassVar[str] = "file"

    def __post_init__(self) -> None:
        if not self._patterns or not all(self._patterns):
            raise ConfigError("`path` is empty: name a file, a pattern such as data/*.csv, or both")
        for pattern in self._patterns:
            if Path(pattern).expanduser().is_dir():
                raise ConfigError(f"path {pattern!r} is a folder: write {pattern}/*.csv or so")
            if not has_suffix(pattern) and not _is_glob(pattern):
                raise ConfigError(
                    f"path {pattern!r} is no file that can be read: it must end in "
                    f"{', '.join(SUFFIXES)}"
                )
        _column_order(self.columns)
        if self.dataset is not None and not any(
            has_suffix(pattern, HDF5_SUFFIXES) or not has_suffix(pattern)
            for pattern in self._patterns
        ):
            raise ConfigError(
                f"`dataset` {self.dataset!r} is for HDF5 files, and `path` names none: leave it out"
            )
        if self.product is not None:
            check_path_part(self.product, "product")

    @property
    def series(self) -> str:
        """``product``, or the file's name and eight digits that tell the settings apart."""
        if self.product is not None:
            return self.product
        stem = Path(self._patterns[0]).name
        for suffix in sorted(SUFFIXES, key=len, reverse=True):
            if has_suffix(stem, (suffix,)):
                stem = stem[: -len(suffix)]
                break
        stem = re.sub(r"[^A-Za-z0-9_.-]+", "_", stem).strip("._-")[:80] or "file"
        # The patterns, not what they match: one more file must not become another series.
        paths = [str(Path(pattern).expanduser().resolve()) for pattern in self._patterns]
        return f"{stem}-{hashlib.sha256(self._settings(paths)).hexdigest()[:8]}"

    @property
    def revision(self) -> str:
        """SHA-256 over the content of all files and the settings that they are read with."""
        digests = [_sha256(path) for path in self._files()]
        return hashlib.sha256(self._settings(digests)).hexdigest()

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        """Yield one block with every closed bar of all files; its span is theirs.

        Args:
            interval: seconds.
            span: bars that open at or after its end are not closed yet, and left out.

        Raises:
            SourceError: if a file is missing or damaged, or its columns cannot be told.
            CandleError: naming the first row that is no candle.
        """
        columns = _column_order(self.columns)
        parts: list[Candles] = []
        checksums: list[str] = []
        notes: list[str] = []
        for path in self._files():
            table = read_table(path, columns, self.dataset)
            values, rows, said = _candle_columns(table, path.name, span[1])
            candles, repaired = tidy(values, interval, path.name, rows)
            parts.append(candles)
            checksums.append(f"sha256:{_sha256(path)}")
            notes += [*said, *repaired]
        candles, repaired = _together(parts, interval)
        if not len(candles):
            raise SourceError(
                f"{self._called}: holds no closed bar: {'; '.join(notes) or 'no rows'}"
            )
        _check_spacing(candles, self._called)
        origin = ", ".join(f"file {path.name}" for path in self._files())
        yield Block(candles.span, candles, origin, (*notes, *repaired), ", ".join(checksums))

    @property
    def _patterns(self) -> list[str]:
        return [self.path] if isinstance(self.path, str) else list(self.path)

    @property
    def _called(self) -> str:
        return ", ".join(self._patterns)

    def _settings(self, files: list[str]) -> bytes:
        return json.dumps([files, _column_order(self.columns), self.dataset]).encode()

    def _files(self) -> list[Path]:
        """The files that exist for ``path``, each once, those of a pattern sorted by name."""
        files: dict[Path, Path] = {}
        for pattern in self._patterns:
            path = Path(pattern).expanduser()
            matches = [path]
            if _is_glob(pattern) and not path.exists():
                relative = str(path.relative_to(path.anchor))
                matches = sorted(p for p in Path(path.anchor).glob(relative) if p.is_file())
            if not matches:
                raise SourceError(f"{pattern}: no file matches this pattern, check `path`")
            for match in matches:
                files.setdefault(match.resolve(), match)
        return list(files.values())


def _is_glob(pattern: str) -> bool:
    return any(sign in pattern for sign in "*?[")


def _column_order(columns: str | list[str] | None) -> tuple[str, ...] | None:
    """What ``columns`` says as a name per column, ``LEFT_OUT`` for those to ignore."""
    if columns is None:
        return None
    if isinstance(columns, str):
        if columns not in LAYOUTS:
            raise ConfigError(
                f"columns {columns!r} is no known layout: use one of {', '.join(LAYOUTS)}, or a "
                "list of the names of the columns in order"
            )
        return LAYOUTS[columns]
    order = tuple(LEFT_OUT if name in {"", "ignore"} else name for name in columns)
    named = [name for name in order if name != LEFT_OUT]
    unknown = [name for name in named if name not in COLUMNS]
    if unknown:
        raise ConfigError(
            f"columns: {unknown[0]!r} is no column of a candle: use {', '.join(COLUMNS)}, "
            "or 'ignore'"
        )
    repeated = [name for name in named if named.count(name) > 1]
    if repeated:
        raise ConfigError(f"columns: {repeated[0]!r} stands there more than once")
    missing = [name for name in REQUIRED if name not in named]
    if missing:
        raise ConfigError(f"columns: {', '.join(missing)} is missing from the list")
    return order


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file, check `path`") from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from None


def _together(parts: list[Candles], interval: int) -> tuple[Candles, tuple[str, ...]]:
    """One series of several; where they overlap, the most complete bar stays, and a note."""
    if len(parts) == 1:
        return parts[0], ()
    names = [name for name in COLUMNS if any(name in part.columns for part in parts)]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in names}
    return tidy(columns, interval, f"{len(parts)} files together")


def _check_spacing(candles: Candles, where: str) -> None:
    """Raise if the bars are longer than asked for: hourly bars are minute bars full of holes."""
    if len(candles) < _ENOUGH_TO_JUDGE:
        return
    spacing = int(np.gcd.reduce(np.diff(candles.open_time)))
    if spacing > candles.interval:
        raise SourceError(
            f"{where}: its bars are {format_interval(spacing)} apart, not "
            f"{format_interval(candles.interval)}: set `interval` to {format_interval(spacing)}"
        )


# ------------------------------------------------------------------------- the meaning of values


class _RowError(CandleError):
    """A value that cannot be read, and the number of its row: the first such row is reported."""

    def __init__(self, where: str, row: int, problem: str) -> None:
        super().__init__(f"{where}, row {row}: {problem}")
        self.row = row


def _candle_columns(
    table: Table, where: str, end: int
) -> tuple[dict[str, NDArray[np.generic]], NDArray[np.int64], list[str]]:
    """The bars of a table as numpy columns, the number of each one's row, and notes.

    Left out, with a note: rows without any price (nothing was traded, as some files spell it),
    and bars that open at or after ``end``, which are not closed yet.
    """
    faults: list[_RowError] = []
    columns: dict[str, NDArray[np.float64]] = {}
    for name in table.frame.columns:
        try:
            if name == "open_time":
                time, timed = _epoch_seconds(table.frame[name], where, table.first_row)
            else:
                columns[name] = _numbers(table.frame[name], where, table.first_row)
        except _RowError as fault:
            faults.append(fault)
    if faults:
        raise CandleError(str(min(faults, key=lambda fault: fault.row)))
    rows = np.arange(len(time), dtype=np.int64) + table.first_row
    unpriced = np.sum([np.isnan(columns[name]) for name in PRICES], axis=0)
    empty = unpriced == len(PRICES)

    def refuse(bad: NDArray[np.bool_], problem: str) -> None:
        if bad.any():
            raise CandleError(f"{where}, row {rows[np.argmax(bad)]}: {problem}")

    refuse((unpriced > 0) & ~empty, "some of open, high, low and close are not known")
    refuse(~timed & ~empty, "there are prices and no time")
    refuse(empty & (columns["volume"] > 0), "there is a volume and no price")
    late = timed & ~empty & (time >= end)
    notes = [
        f"{where}: {count} {text}"
        for count, text in (
            (int((empty & timed).sum()), "rows without any price were read as bars without trades"),
            (int((empty & ~timed).sum()), "rows with neither time nor prices were left out"),
            (int(late.sum()), "bars that are not closed yet were left out"),
        )
        if count
    ]
    if notes:
        kept = ~empty & ~late
        time, rows = time[kept], rows[kept]
        columns = {name: values[kept] for name, values in columns.items()}
    return {"open_time": time, **columns}, rows, notes


def _numbers(series: "pl.Series", where: str, first_row: int) -> NDArray[np.float64]:
    """(N,) float64, NaN where the file has nothing."""
    import polars as pl

    if series.dtype == pl.String:
        text = _stripped(series)
        numbers = text.cast(pl.Float64, strict=False)
        _refuse_text(text, numbers.is_null(), "which is not a number", where, first_row)
    elif series.dtype.is_numeric() or series.dtype == pl.Null:
        numbers = series.cast(pl.Float64)
    else:
        raise CandleError(f"{where}: column {series.name} holds {series.dtype}, not numbers")
    return numbers.fill_null(np.nan).to_numpy()


def _epoch_seconds(
    series: "pl.Series", where: str, first_row: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(N,) int64 epoch seconds, and which of them the file knows.

    Raises:
        CandleError: naming the first time that is none, or is not on a whole second.
    """
    import polars as pl

    kind = series.dtype
    if kind == pl.String:
        text = _stripped(series)
        seconds, whole = _seconds_of_text(text)
        _refuse_text(text, seconds.is_null(), "which is not a time", where, first_row)
    elif kind == pl.Date:
        seconds, whole = series.to_physical().cast(pl.Int64) * 86_400, None
    elif isinstance(kind, pl.Datetime):
        ticks = {"ms": 10**3, "us": 10**6, "ns": 10**9}[kind.time_unit]
        count = series.to_physical()
        seconds, whole = count // ticks, count % ticks == 0
    elif kind.is_numeric() or kind == pl.Null:
        seconds, whole = _seconds_of_numbers(series)
    else:
        raise CandleError(f"{where}: column open_time holds {kind}, not times")
    if whole is not None and not whole.fill_null(True).all():
        i = (~whole.fill_null(True)).arg_max() or 0
        raise _RowError(where, first_row + i, f"open_time {series[i]} is not on a whole second")
    known = seconds.is_not_null().to_numpy()
    return seconds.fill_null(0).to_numpy(), known


def _seconds_of_numbers(series: "pl.Series") -> tuple["pl.Series", "pl.Series"]:
    """Whole seconds of times in s, ms, us or ns, told apart by size, and whether nothing was cut.

    Until the year 5138 seconds stay below 1e11; from 1973 on, milliseconds are above it. The same
    steps of a thousand part the finer units. Integers stay integers; in float64 each of these
    units is exact on whole seconds.
    """
    import polars as pl

    if not series.dtype.is_integer():
        series = series.cast(pl.Float64).fill_nan(None)
    values = series.to_numpy() if not series.null_count() else series.fill_null(0).to_numpy()
    ticks = np.ones(len(values), dtype=np.int64)
    for limit in (10**11, 10**14, 10**17):
        ticks[values >= limit] *= 1000
    with np.errstate(invalid="ignore"):  # an infinite time is no whole second
        whole = values % ticks == 0
        whole &= values < 2**63
    seconds = np.where(whole, values, 0) // ticks
    known = series.is_not_null()
    return (
        pl.Series(series.name, seconds.astype(np.int64)).set(~known, None),
        pl.Series(series.name, whole),
    )


def _seconds_of_text(text: "pl.Series") -> tuple["pl.Series", "pl.Series"]:
    """Whole seconds of texts that are numbers or ISO 8601 times; null for any other.

    Also whether nothing was cut, as ``_seconds_of_numbers``.
    """
    import polars as pl

    integers, whole_integers = _seconds_of_numbers(text.cast(pl.Int64, strict=False))
    floats, whole_floats = _seconds_of_numbers(text.cast(pl.Float64, strict=False))
    parts = text.str.extract_groups(_ISO_TIME).struct.unnest()
    day, minute, second, fraction, sign, hours, minutes = (parts[name] for name in parts.columns)
    clock = day + "T" + minute.fill_null("00:00") + ":" + second.fill_null("00")
    local = clock.str.to_datetime("%Y-%m-%dT%H:%M:%S", strict=False, time_unit="ms").dt.epoch("s")
    offset = hours.cast(pl.Int64) * 3600 + minutes.cast(pl.Int64) * 60
    offset = (offset * (sign + "1").cast(pl.Int64)).fill_null(0)
    whole_clock = fraction.fill_null("0").str.contains(r"^0+$")
    frame = pl.DataFrame({"i": integers, "f": floats, "l": local - offset})
    seconds = frame.select(pl.coalesce("i", "f", "l")).to_series()
    cut = pl.DataFrame({"i": whole_integers, "f": whole_floats, "c": whole_clock})
    return seconds, cut.select(pl.all_horizontal("i", "f", "c")).to_series()


def _stripped(text: "pl.Series") -> "pl.Series":
    """Without spaces around, null where nothing is left or NaN stands there."""
    stripped = text.str.strip_chars()
    return stripped.set(stripped.str.to_lowercase().is_in(["", "nan", "nat"]), None)


def _refuse_text(
    text: "pl.Series", unread: "pl.Series", problem: str, where: str, first_row: int
) -> None:
    """Raise ``CandleError`` for the first text that could not be read as what it should be."""
    bad = unread & text.is_not_null()
    if bad.any():
        i = bad.arg_max() or 0
        raise _RowError(where, first_row + i, f"{text.name} is {text[i][:60]!r}, {problem}")
