"""Which instant a time in a file is: numbers of four units, dates in words, local times.

Numbers may be seconds, milliseconds, microseconds or nanoseconds since 1970, told apart row by row
since real files mix them; digits of a date (20250301, 20250301000000); or days as spreadsheets
count them. Texts may be any of these, ISO 8601, or a date as people write it. UTC, unless the text
or ``TimeReading.timezone`` says otherwise.
"""

import time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.timeline import format_instant, parse_instant
from btc_datamodule.errors import CandleError
from btc_datamodule.sources.files.clocks import localise, parse_clock_texts, parse_texts

if TYPE_CHECKING:
    import polars as pl

MICRO = 10**6
EARLIEST = parse_instant("1990-01-01")
"""Epoch seconds that no time in numbers lies before: smaller numbers are something else."""

_COMPACT = (8, 10, 12, 14)
"""Digits of dates alone, and with hours, minutes, seconds."""
CLOCK = r"\d:\d|\dT\d|\d{8} \d|[AaPp]\.?[Mm]|^\d{9,}"
"""What a text has that says a time of day, beside a date."""
_CLOCK = r"^\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?( ?[AaPp][Mm])?$"
_SPREADSHEET = (32_874, 73_051)
"""Days from 1990 to 2100, as spreadsheets count them."""

Kind = Literal["instant", "date", "clock", "none"]


class TimeReading(NamedTuple):
    """How times are to be read.

    Attributes:
        form: as of ``strptime``; None to go by what stands there.
        timezone: of times that name none, such as "Europe/Berlin"; None for UTC.
        interval: seconds between bars, by which day and month are told apart.
        name: of the column, for errors.
        argument: of the source which says what that column is.
        latest: whether of an hour that clocks showed twice every time is the second; by the order
            of the rows if not.
    """

    form: str | None
    timezone: str | None
    interval: int
    name: str = "open_time"
    argument: str = "columns"
    latest: bool = False


class Times(NamedTuple):
    """The times of a file.

    Attributes:
        micros: (N,) int64 microseconds since 1970, UTC; 0 where the file has none.
        known: (N,) bool, where the file has one.
        naive: whether any was in words that say no zone, and ``timezone`` did not either.
        notes: what had to be decided, one sentence each.
    """

    micros: NDArray[np.int64]
    known: NDArray[np.bool_]
    naive: bool
    notes: tuple[str, ...]


class RowError(CandleError):
    """A value that cannot be read, and the number of its row: the first such row is reported."""

    def __init__(self, where: str, row: int, problem: str) -> None:
        super().__init__(f"{where}, row {row}: {problem}")
        self.row = row


def classify(series: "pl.Series") -> Kind:
    """What a column looks like: whole instants, dates alone, times of day, or none of these."""
    import polars as pl

    told = series.drop_nulls().head(200)
    kind = told.dtype
    if kind.is_temporal():
        kinds: dict[Any, Kind] = {pl.Date: "date", pl.Time: "clock", pl.Duration: "none"}
        return kinds.get(kind.base_type(), "instant")
    if kind == pl.String:
        return _classify_texts(strip_text(told).drop_nulls())
    return _classify_numbers(told.cast(pl.Float64)) if kind.is_numeric() else "none"


def _classify_texts(told: "pl.Series") -> Kind:
    import polars as pl

    numbers = told.cast(pl.Float64, strict=False)
    if not len(told):
        return "none"
    if not numbers.has_nulls():
        clocks = told.str.contains(r"^([01]\d|2[0-3])([0-5]\d){1,2}$").all()
        return "clock" if clocks else _classify_numbers(numbers)
    if told.str.contains(_CLOCK).all():
        return "clock"
    read = parse_texts(told, None, 0).seconds
    if read.null_count() == len(told) and numbers.null_count() == len(told):
        return "none"
    return "instant" if told.str.contains(CLOCK).any() else "date"


def _classify_numbers(numbers: "pl.Series") -> Kind:
    values = numbers.fill_nan(None).drop_nulls().to_numpy()
    if not len(values):
        return "none"
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int64)
    if (values == whole).all() and _is_compact(whole):
        return "date" if values.max() < 1e9 else "instant"
    if (values >= EARLIEST).mean() > 0.5 or _is_spreadsheet(values):
        return "instant"
    return "clock" if ((values >= 0) & (values < 240_000)).all() and _is_clock(values) else "none"


def _is_clock(values: NDArray[np.float64]) -> bool:
    """Whether numbers are times of day, HHMMSS, HHMM or noughts, and no count of rows."""
    whole = values.astype(np.int64)
    fits = (whole == values) & (whole % 100 < 60) & (whole // 100 % 100 < 60)
    rising = len(whole) > 1 and bool((np.diff(whole) == 1).all())
    return bool(fits.all()) and not rising


def read_times(columns: "list[pl.Series]", reading: TimeReading, where: str, first: int) -> Times:
    """Read the times of a file.

    Args:
        columns: one column of instants or dates, or two: dates, and times of day.
        reading: what was said about them.
        where: the file, for errors.
        first: number of the first row, for errors.

    Raises:
        CandleError: naming the first time that is none, or why they cannot be told.
    """
    import polars as pl

    column = columns[0] if len(columns) == 1 else _join_clock(columns[0], columns[1])
    kind = column.dtype
    if reading.form is not None and kind != pl.String and not kind.is_temporal():
        column = column.cast(pl.Int64, strict=False).cast(pl.String)
        kind = pl.String()
    if kind == pl.String:
        return _read_texts(column, reading, where, first)
    if kind == pl.Date or isinstance(kind, pl.Datetime):
        return _read_instants(column, reading, where, first)
    if kind.is_numeric() or kind == pl.Null:
        micros, notes = _read_numbers(column, reading, where, first)
        return _finish(micros, False, notes)
    raise CandleError(f"{where}: column {reading.name} holds {kind}, not times")


def strip_text(text: "pl.Series") -> "pl.Series":
    """Strip spaces around texts; null where nothing is left, or "nan" or "nat" is."""
    stripped = text.str.strip_chars()
    return stripped.set(stripped.str.to_lowercase().is_in(["", "nan", "nat", "<na>"]), None)


def refuse_text(
    text: "pl.Series", unread: "pl.Series", name: str, problem: str, where: str, first: int
) -> None:
    """Raise ``RowError`` for the first text that could not be read as what it should be."""
    bad = unread & text.is_not_null()
    if bad.any():
        i = bad.arg_max() or 0
        raise RowError(where, first + i, f"{name} is {text[i][:60]!r}, {problem}")


def _join_clock(dates: "pl.Series", clocks: "pl.Series") -> "pl.Series":
    """Dates and times of day as one column of texts."""
    import polars as pl

    if dates.dtype == pl.Date or isinstance(dates.dtype, pl.Datetime):
        dates = dates.dt.strftime("%Y-%m-%d")
    elif dates.dtype != pl.String:
        dates = dates.cast(pl.Int64, strict=False).cast(pl.String)
    if clocks.dtype == pl.Time:
        clocks = clocks.dt.strftime("%H:%M:%S%.f")
    elif clocks.dtype != pl.String:
        clocks = clocks.cast(pl.Int64, strict=False).cast(pl.String)
    return strip_text(dates) + " " + parse_clock_texts(strip_text(clocks))


def _read_texts(column: "pl.Series", reading: TimeReading, where: str, first: int) -> Times:
    """Read texts: numbers, or times in words, some of each if need be."""
    import polars as pl

    text = strip_text(column).str.replace(
        r"^(\d{5}),(\d+)$", "${1}.${2}"
    )  # days in comma countries
    unread = 'which is not a time: say how it is written, such as `time_format: "%d/%m/%Y %H:%M"`'
    if reading.form is not None:
        said = parse_texts(text, reading.form, reading.interval)
        unread = f"which is not written as `time_format` {reading.form!r} says"
        refuse_text(text, said.seconds.is_null(), reading.name, unread, where, first)
        numbers = pl.Series([None] * len(text), dtype=pl.Int64)
        notes: tuple[str, ...] = ()
    else:
        wholes = text.cast(pl.Int64, strict=False)
        floats = text.cast(pl.Float64, strict=False)
        if floats.null_count() == len(floats):
            numbers, notes = floats.cast(pl.Int64), ()
        else:
            source = wholes if wholes.null_count() == floats.null_count() else floats
            numbers, notes = _read_numbers(source, reading, where, first, text)
        words = text.set(numbers.is_not_null(), None)
        said = parse_texts(words, None, reading.interval)
        if said.problem:
            raise CandleError(f"{where}: {said.problem}")
        bad = said.seconds.is_null() & numbers.is_null()
        refuse_text(text, bad, reading.name, unread, where, first)
    notes += tuple(f"{where}: {note}" for note in said.notes)
    naive = said.seconds.is_not_null() & ~said.zoned
    micros = said.seconds * MICRO + said.micros
    if reading.timezone is not None and naive.any():
        local, more = localise(micros.set(~naive, None), reading.timezone, latest=reading.latest)
        refuse_text(
            text, naive & local.is_null(), reading.name,
            f"which no clock in {reading.timezone} has shown", where, first,
        )  # fmt: skip
        micros = pl.select(pl.coalesce(local, micros)).to_series()
        notes += tuple(f"{where}: {note}" for note in more)
    is_naive = bool(naive.any()) and reading.timezone is None
    return _finish(pl.select(pl.coalesce(micros, numbers)).to_series(), is_naive, notes)


def _read_instants(column: "pl.Series", reading: TimeReading, where: str, first: int) -> Times:
    """Read dates and instants of an Arrow file."""
    import polars as pl

    count = column.to_physical().cast(pl.Int64)
    notes: tuple[str, ...] = ()
    if column.dtype == pl.Date:
        limit, micros = 4_000_000, count * 86_400 * MICRO
    else:
        per_second = {"ms": 10**3, "us": 10**6, "ns": 10**9}[column.dtype.time_unit]  # type: ignore[attr-defined]
        limit = min(2**62, 2 * 10**11 * per_second)
        scale = MICRO // per_second if per_second <= MICRO else 0
        # Of nanoseconds what is left over is rounded up: it must not look like a whole second.
        micros = count * scale if scale else -(-count // 1000)
    wild = ((count > limit) | (count < -limit)).fill_null(False)
    if wild.any():
        i = wild.arg_max() or 0
        far = f"{reading.name} is thousands of years from now: is it damaged?"
        raise RowError(where, first + i, far)
    naive = not getattr(column.dtype, "time_zone", None)
    if naive and reading.timezone is not None:
        local, more = localise(micros, reading.timezone, latest=reading.latest)
        lost = (local.is_null() & micros.is_not_null()).arg_max()
        if lost is not None and local.null_count() > micros.null_count():
            when = format_instant(int(micros[lost]) // MICRO)
            raise RowError(where, first + lost, f"no clock in {reading.timezone} has shown {when}")
        micros, notes = local, tuple(f"{where}: {note}" for note in more)
    return _finish(micros, naive and reading.timezone is None, notes)


def _finish(micros: "pl.Series", naive: bool, notes: tuple[str, ...]) -> Times:
    known = micros.is_not_null().to_numpy()
    return Times(micros.fill_null(0).to_numpy().astype(np.int64), known, naive, notes)


def _read_numbers(
    series: "pl.Series",
    reading: TimeReading,
    where: str,
    first: int,
    text: "pl.Series | None" = None,
) -> "tuple[pl.Series, tuple[str, ...]]":
    """Read times that are numbers: Int64 microseconds, null where there is none, and notes.

    Until the year 5138 seconds stay below 1e11; from 1973 on, milliseconds are above it. The same
    steps of a thousand part the finer units. Integers stay integers; in float64 each of these
    units is exact on whole seconds.
    """
    import polars as pl

    if not series.dtype.is_integer():
        series = series.cast(pl.Float64).fill_nan(None)
    known = series.is_not_null()
    values: NDArray[Any] = series.fill_null(0).to_numpy()
    told = values[known.to_numpy()]

    def refuse(bad: NDArray[np.bool_], problem: str) -> None:
        if bad.any():
            i = int(np.argmax(bad))
            value = series[i] if text is None else text[i][:60]
            whole = isinstance(value, float) and value.is_integer()
            shown = int(value) if whole else value
            raise RowError(where, first + i, f"{reading.name} {shown} {problem}")

    def give_zone(shown: "pl.Series", *notes: str) -> "tuple[pl.Series, tuple[str, ...]]":
        zone = reading.timezone
        if zone is None:
            return shown, notes
        local, more = localise(shown, zone, latest=reading.latest)
        refuse((local.is_null() & known).to_numpy(), f"is what no clock in {zone} has shown")
        return local, (*notes, *(f"{where}: {note}" for note in more))

    with np.errstate(invalid="ignore"):
        refuse(known.to_numpy() & ~(np.abs(values) < 2**63), "is not on a whole second")
        whole = bool(len(told)) and bool((told == np.floor(told)).all())
    if whole and _is_compact(told.astype(np.int64)):
        digits = pl.Series(values.astype(np.int64)).set(~known, None).cast(pl.String)
        moments = digits.str.pad_end(14, "0").str.to_datetime("%Y%m%d%H%M%S", strict=False)
        refuse((moments.is_null() & known).to_numpy(), "is the digits of no date")
        return give_zone(moments.dt.epoch("us"))
    if len(told) and _is_spreadsheet(told):
        seconds = np.round((values - 25_569) * 86_400)
        note = f"{where}: times are days as spreadsheets count them, rounded to the second"
        shown = pl.Series((seconds * MICRO).astype(np.int64)).set(~known, None)
        return give_zone(shown, note)
    ticks = np.ones(len(values), dtype=np.int64)
    for limit in (10**11, 10**14, 10**17):
        ticks[values >= limit] *= 1000
    seconds = np.floor_divide(values, ticks)
    rest = values - seconds * ticks
    micros = seconds.astype(np.int64) * MICRO + np.ceil(rest * (MICRO / ticks)).astype(np.int64)
    refuse(
        known.to_numpy() & (seconds < EARLIEST),
        "is no time of a bar in seconds, milliseconds or finer since 1970: say how it is written "
        f"in `time_format`, or which column it is in `{reading.argument}`",
    )
    return pl.Series(micros).set(~known, None), ()


def _is_compact(values: NDArray[np.int64]) -> bool:
    """Whether most numbers are the digits of dates.

    Ten digits are seconds since 1970 too: they are a date only if none of these seconds has been.
    """
    import polars as pl

    if not len(values) or values.min() < 10**7:
        return False
    length = len(str(values.max()))
    if length not in _COMPACT or len(str(values.min())) != length:
        return False
    if length == 10 and values.min() < time.time() + 86_400:
        return False
    some = pl.Series(np.unique(values[:: max(1, len(values) // 10_000)])).cast(pl.String)
    dates = some.str.slice(0, 8).str.to_date("%Y%m%d", strict=False)
    clocks = some.str.slice(8).str.pad_end(6, "0").str.contains(r"^([01]\d|2[0-3])[0-5]\d[0-5]\d$")
    good = some.str.contains(r"^(19|20)\d\d") & dates.is_not_null() & clocks
    return int(good.sum()) * 2 >= len(good)


def _is_spreadsheet(values: NDArray[Any]) -> bool:
    """Whether numbers are days as spreadsheets count them."""
    low, high = _SPREADSHEET
    return bool(((values > low) & (values < high)).all())
