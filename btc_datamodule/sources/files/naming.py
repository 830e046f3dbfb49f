"""Which column of a table is which: by what the user says, by the file's names, by its content.

What ``columns`` says wins. Names are looked up in ``columns.ALIASES``, in each of their levels, and
with a market's name before or after them ("Close | BTC-USD", "close_BTCUSDT"). Where a file names
nothing, the order of columns that every row fits is taken, with a note.
"""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from btc_datamodule.candles.series import PRICES
from btc_datamodule.errors import SourceError
from btc_datamodule.sources.columns import ALIASES, OPENING, normalise
from btc_datamodule.sources.files.layouts import describe_first_row, guess_order
from btc_datamodule.sources.files.names import (
    Name,
    choose_market,
    keep_group,
    read_affixes,
    read_levels,
    read_volume,
)
from btc_datamodule.sources.files.raw import RawTable
from btc_datamodule.sources.files.times import Kind, classify

if TYPE_CHECKING:
    import polars as pl

Stamp = Literal["open", "close"]
ColumnNames = tuple[str, ...] | Mapping[str, str] | None
"""``columns`` as a user set it: a name per column in order, new names by old ones, or nothing."""

TIME_NAMES = ("open_time", "date", "time")
"""What ``columns`` may call times; two of them are a date and a time of day."""

_CLOSING = (
    *("closetime", "timeclose", "klineclosetime", "timeperiodend", "periodend", "endtime"),
    *("timeend", "closetimestamp", "closedate", "endat", "enddate", "end", "to"),
)
_LABELS = {
    "symbol": (
        *("symbol", "ticker", "pair", "instrument", "instrumentname", "product", "productid"),
        *("market", "coin", "asset", "instid", "currencypair", "tic", "name", "marketname"),
    ),
    "exchange": ("exchange", "venue", "exchangeid"),
    "interval": ("interval", "timeframe", "granularity", "period", "per"),
}
_CLOCKS = ("hour", "hours", "hr", "tod", "timeofday", "clock")
"""Names of times of day, beside those of any time."""

_LAST = ("price", "tradeprice")
"""Names of the close of a bar, where there are open, high and low and no better one."""

_FINISHED = ("confirm", "confirmed", "isclosed", "closed", "complete", "isfinal", "isbarclosed")
_DOLLARS = ("adjclose", "marketcap", "marketcapitalization", "circulatingsupply")
_ZONES = re.compile(
    r"(?:^|[^a-z])(est|edt|cst|cdt|pst|pdt|cet|cest|jst|kst|ist|hkt|sgt|msk|bst)[^a-z]*$"
    r"|[^a-z](et|ct|pt)[^a-z]*$|(utc|gmt) ?[+-] ?0*[1-9]"
)
"""What is in names of times that are not in UTC, at their end."""

_STAMPED_AT_CLOSE = {"homenotional", "foreignnotional", "timestamp"}
"""Names of BitMEX's buckets, whose timestamp is the end of the bar."""


class Roles(NamedTuple):
    """Which columns of a table are which, by their places.

    Attributes:
        time: of the time, or of date and time of day.
        prices: of open, high, low and close.
        volumes: of what may be the volume in coins, the likeliest first.
        quotes: of what may be the volume in the quote currency, the likeliest first.
        others: of trades and taker_buy_volume, where there are any.
        labels: of what tells one series from another: symbol, exchange, interval.
        finished: of what says whether a bar is finished.
        stamp: whether the time is a bar's opening or its close; None where names do not tell.
        in_dollars: what in the names says that a lone volume is in dollars; "" for nothing.
        said: whether the user said which volume is which.
        guessed: whether the order of the columns was told by their rows alone.
        notes: what had to be decided.
    """

    time: tuple[int, ...]
    prices: dict[str, int]
    volumes: tuple[int, ...]
    quotes: tuple[int, ...]
    others: dict[str, int]
    labels: dict[str, int]
    finished: int | None
    stamp: Stamp | None
    in_dollars: str
    said: bool
    guessed: bool
    notes: tuple[str, ...] = ()


def find_roles(
    table: RawTable,
    columns: ColumnNames,
    where: str,
    *,
    symbol: str | None = None,
    time_format: str | None = None,
    timezone: str | None = None,
) -> Roles:
    """Find which columns of a table are which.

    Args:
        table: as a file has it.
        columns: what the user says.
        where: the file, for errors.
        symbol: of the market that is wanted, where names of columns tell several.
        time_format: how times are written; None to go by what stands there.
        timezone: of times that name none, if the user said it.

    Raises:
        SourceError: if a column is missing, there are several of one kind, or ``columns`` does not
            fit the table.
    """
    width = table.frame.width
    said: dict[int, str] = {}
    notes: tuple[str, ...] = ()
    if columns is None and table.names is None:
        columns, notes = guess_order(table, where)
    if isinstance(columns, Mapping):
        said = _place_mapping(table, columns, where)
    elif columns is not None:
        if len(columns) != width:
            raise SourceError(
                f"{where}: the file has {width} columns and `columns` names {len(columns)}: "
                "name each column in order, 'ignore' for those to leave out"
            )
        said = dict(enumerate(columns))
    names = table.names or [""] * width
    readings = [
        [] if i in said else [*read_levels(name), *read_volume(name)]
        for i, name in enumerate(names)
    ]
    taken = set(said.values())
    if not set(PRICES) <= taken and sum(_has(readings, price) for price in PRICES) < 4:
        readings = [
            [] if i in said else [*found, *read_affixes(names[i])]
            for i, found in enumerate(readings)
        ]
    readings = keep_group(choose_market(readings, symbol, where))
    prices = {p: _find(readings, ALIASES[p], said, p, where) for p in PRICES}
    if prices["close"] is None and None not in (prices["open"], prices["high"], prices["low"]):
        prices["close"] = _find(readings, _LAST, said, "close", where)
    times, stamp = _find_times(table, readings, said, time_format, where)
    found = {name: place for name, place in prices.items() if place is not None}
    missing = [name for name in PRICES if name not in found]
    if not times:
        missing.insert(0, "open_time")
    if missing:
        _refuse(table, missing, readings, where)
    refuse_zone(names[times[0]], timezone, where)
    used = {*times, *found.values()}
    everything, told = set(map(normalise, names)), {normalise(names[place]) for place in times}
    if stamp is None and everything | told >= _STAMPED_AT_CLOSE and told & {"timestamp"}:
        stamp = "close"
    return Roles(
        time=times,
        prices=found,
        volumes=_find_volumes("volume", readings, said, used),
        quotes=_find_volumes("quote_volume", readings, said, used),
        others={
            name: place
            for name in ("trades", "taker_buy_volume")
            if (place := _find(readings, ALIASES[name], said, name, where)) is not None
        },
        labels={
            label: place
            for label, aliases in _LABELS.items()
            if (place := _find_first(readings, aliases, used)) is not None
        },
        finished=_find_first(readings, _FINISHED, used),
        stamp=stamp,
        in_dollars=_find_dollars(names),
        said=bool({"volume", "quote_volume"} & taken) and not notes,
        guessed=bool(notes),
        notes=notes,
    )


def _place_mapping(table: RawTable, columns: Mapping[str, str], where: str) -> dict[int, str]:
    """Find the places of the columns that ``columns`` names anew."""
    names = table.names
    if names is None:
        raise SourceError(
            f"{where}: its columns have no names: set `columns` to a list of the names of its "
            f"{table.frame.width} columns in order; the first row is {describe_first_row(table)}"
        )
    said = {}
    for old, new in columns.items():
        levels = [{normalise(name), *(each.plain for each in read_levels(name))} for name in names]
        alike = [place for place, each in enumerate(levels) if normalise(old) in each]
        if old in names:
            said[names.index(old)] = new
        elif len(alike) == 1:
            said[alike[0]] = new
        else:
            raise SourceError(
                f"{where}: `columns` names {old!r}, which the file does not have: it has "
                f"{', '.join(names)}"
            )
    return said


def _has(readings: list[list[Name]], column: str) -> bool:
    return any(name.plain in ALIASES[column] for each in readings for name in each)


def _find(
    readings: list[list[Name]], aliases: Iterable[str], said: dict[int, str], column: str,
    where: str,
) -> int | None:  # fmt: skip
    """The place of a column: the one that was said, or the one of the best known name."""
    for place, name in said.items():
        if name == column:
            return place
    order = list(aliases)
    rivals = [
        (order.index(name.plain), place, name)
        for place, each in enumerate(readings)
        for name in each
        if name.plain in order
    ]
    if not rivals:
        return None
    best = min(rivals)
    twins = {place for rank, place, name in rivals if rank == best[0] and name == best[2]}
    if len(twins) > 1:
        raise SourceError(
            f"{where}: {len(twins)} columns may be {column}: say which, in `columns` as a list of "
            "the names of all columns in order"
        )
    return best[1]


def _find_first(readings: list[list[Name]], aliases: tuple[str, ...], used: set[int]) -> int | None:
    places = [
        (aliases.index(name.plain), place)
        for place, each in enumerate(readings)
        for name in each[:1]
        if name.plain in aliases and place not in used
    ]
    return min(places)[1] if places else None


def _find_volumes(
    column: str, readings: list[list[Name]], said: dict[int, str], used: set[int]
) -> tuple[int, ...]:
    """The places of what may be a volume, the likeliest first; the one that was said alone."""
    places = [place for place, name in said.items() if name == column]
    if places:
        return tuple(places)
    aliases = ALIASES[column]
    rivals = {
        place: aliases.index(name.plain)
        for place, each in enumerate(readings)
        for name in each
        if name.plain in aliases and place not in used
    }
    return tuple(sorted(rivals, key=lambda place: rivals[place]))


def _find_times(
    table: RawTable,
    readings: list[list[Name]],
    said: dict[int, str],
    time_format: str | None,
    where: str,
) -> tuple[tuple[int, ...], Stamp | None]:
    """The places of the time, and whether its name says that a bar opens or closes then."""
    order = {name: i for i, name in enumerate(TIME_NAMES)}
    told = sorted((order[name], place) for place, name in said.items() if name in order)
    if told:
        if len(told) > 2:
            raise SourceError(f"{where}: `columns` names more than two columns of times")
        places = tuple(place for _, place in told)
        if len(places) == 2 and _classify(table, places[0]) == "clock":
            places = places[::-1]
        return places, None
    aliases = (*ALIASES["open_time"], *_CLOSING, "unnamed0", "indexlevel0", "index", "", *_CLOCKS)
    rivals: list[tuple[tuple[int, int, int], int, Kind, str]] = []
    for place, each in enumerate(readings):
        plain = [name.plain for name in each if name.plain in aliases]
        kind = _classify(table, place) if plain else "none"
        if kind == "none" and plain and time_format is not None:
            kind = "instant"
        if kind == "clock" or (kind != "none" and not set(plain) <= set(_CLOCKS)):
            best = min(plain, key=aliases.index)
            clear = 0 if best in OPENING else 2 if best in _CLOSING else 1
            worth = 0 if kind == "instant" and _is_number(table.frame, place) else 1
            small = int((table.names or [""])[place] != best)  # Binance: t opens, T closes
            rank = (clear, worth + 2 * (kind != "instant"), 2 * aliases.index(best) + small)
            rivals.append((rank, place, kind, best))
    dates = sorted(rival for rival in rivals if rival[2] != "clock")
    clocks = sorted(rival for rival in rivals if rival[2] == "clock")
    if not dates:
        return _find_unnamed_time(table, readings)
    _, place, kind, name = dates[0]
    stamp: Stamp | None = "open" if name in OPENING else "close" if name in _CLOSING else None
    if kind == "date" and clocks:
        return (place, clocks[0][1]), stamp
    return (place,), stamp


def _find_unnamed_time(
    table: RawTable, readings: list[list[Name]]
) -> tuple[tuple[int, ...], Stamp | None]:
    """The place of the only column that holds instants or dates, whatever its name is."""
    known = {alias for aliases in ALIASES.values() for alias in aliases}
    places = [
        place
        for place, each in enumerate(readings)
        if each
        and not known & {name.plain for name in each[1:] + each[:1] if name.plain != "price"}
        and _classify(table, place) in ("instant", "date")
    ]
    if len(places) != 1:
        return (), None
    name = normalise((table.names or [""])[places[0]])
    return (places[0],), "close" if name.endswith(("end", "close", "closed", "closing")) else None


def _classify(table: RawTable, place: int) -> Kind:
    return classify(table.frame[f"{place}"])


def _is_number(frame: "pl.DataFrame", place: int) -> bool:
    series = frame[f"{place}"]
    if series.dtype.is_numeric():
        return True
    import polars as pl

    return (
        series.dtype == pl.String and not series.head(9).cast(pl.Float64, strict=False).has_nulls()
    )


def _find_dollars(names: list[str]) -> str:
    for name in names:
        for reading in read_levels(name):
            if reading.plain in _DOLLARS:
                return name
    first = [reading.plain for reading in read_levels(names[0])] if names else []
    return "Ticker" if {"price", "ticker"} <= set(first) else ""


def says_utc(name: str) -> bool:
    """Whether a column of times is called by UTC, as ``Released (UTC)`` is."""
    low = name.lower()
    return re.search(r"(?:^|[^a-z])(utc|gmt)(?![a-z])", low) is not None and not _ZONES.search(low)


def refuse_zone(name: str, timezone: str | None, where: str) -> None:
    """Raise ``SourceError`` if a column of times is called by a zone, and none was said."""
    if timezone is None and _ZONES.search(name.lower()):
        raise SourceError(
            f"{where}: column {name} says that its times are not in UTC: set `timezone`, such as "
            "America/New_York, or `timezone: UTC` if they are"
        )


def name_column(table: RawTable, place: int) -> str:
    """What to call a column: its name, or its number in the file."""
    return (table.names[place] if table.names else "") or f"column {place + 1}"


def _is_number_text(value: object) -> bool:
    """Whether something may be a number, however its decimals and thousands are written."""
    return re.fullmatch(r"[-+]?\d[\d.,' ]*(?:[eE][-+]?\d+)?", str(value)) is not None


def _refuse(table: RawTable, missing: list[str], readings: list[list[Name]], where: str) -> None:
    """Raise for columns that are not there, with what would mend it."""
    if table.names is None:
        raise SourceError(
            f"{where}: no header; the first row is {describe_first_row(table)}: set `columns` to "
            f"the names of its {table.frame.width} columns in order"
        )
    held = ", ".join(name or "(no name)" for name in table.names)
    for place, each in enumerate(readings):
        if missing == ["open_time"] and any(name.plain in ALIASES["open_time"] for name in each):
            raise SourceError(
                f"{where}: column {table.names[place]} holds "
                f"{table.frame[f'{place}'].dtype} and no times, such as "
                f"{describe_first_row(table, place)}: say in `columns` which column the time is, "
                'or how it is written, such as `time_format: "%d/%m/%Y %H:%M"`'
            )
    firsts = [next(iter(each.drop_nulls().head(1)), "") for each in table.frame.get_columns()]
    numbers = sum(isinstance(each, int | float) or _is_number_text(each) for each in firsts)
    if set(missing) >= {"open", "high", "low"} and "open_time" not in missing and numbers < 4:
        raise SourceError(
            f"{where}: no open, high and low (the file has: {held}): one price a row makes no "
            "candle. If these are other names for them, set `columns`, such as "
            '`columns: {"first price": open}`'
        )
    example = "{" + ", ".join(f'"name in the file": {name}' for name in missing[:2]) + "}"
    raise SourceError(
        f"{where}: no column {', '.join(missing)} (the file has: {held}): say which they are, such "
        f"as `columns: {example}`"
    )
