"""Times in words: what date and what time of day a text says, and in which zone.

``parse_texts`` reads ISO 8601 and the ways in which people and programs write dates; ``localise``
gives local times their instants, where clocks are put back by the order of the rows.
"""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import polars as pl

_CLOCK = (
    r"(?:[T ,_]\s*(?P<hour>\d{1,2})(?::?(?P<minute>\d{2}))?(?::?(?P<second>\d{2}))?"
    r"(?:[.,](?P<fraction>\d+))?(?:[ -]?(?P<half>[AaPp])\.?[Mm]\.?)?)?"
)
_ZONE = (
    r"\s*(?P<zone>Z|z|UTC|GMT)?\s*(?:(?P<sign>[+-])(?P<east>\d{1,2})(?::?(?P<eastminute>\d{2}))?)?"
    r"(?: UTC)?\s*(?:\(.*\)|\[.*\])?$"
)
_WEEKDAY = r"^(?:[A-Za-z]{3,9},? )?"
_MONTH_NAME = r"(?P<name>[A-Za-z]{3,9})\.?"
_DATES = (
    r"^(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})",
    r"^(?P<one>\d{1,2})(?P<mark>[-/.])(?P<two>\d{1,2})[-/.](?P<year>\d{4}|\d{2})",
    _WEEKDAY + _MONTH_NAME + r"[ -](?P<day>\d{1,2})(?:st|nd|rd|th)?(?:,? |-)(?P<year>\d{4})",
    _WEEKDAY + r"(?P<day>\d{1,2})[- ]" + _MONTH_NAME + r"[-, ]+(?P<year>\d{4}|\d{2})",
    r"^(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})",
)
_USUAL = {
    r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$": "%Y-%m-%d %H:%M:%S",
    r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d$": "%Y-%m-%dT%H:%M:%S",
    r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$": "%Y-%m-%dT%H:%M:%SZ",
    r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00:00$": "%Y-%m-%d %H:%M:%S+00:00",
}
"""Ways to write times that most files have, which are read ten times as fast by themselves."""

_EARLIEST = 1_230_768_000
"""Epoch seconds of 2009: with numbers in another order, dates before it are no dates of a bar."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


class Said(NamedTuple):
    """What texts say, row by row.

    Attributes:
        seconds: Int64 seconds since 1970, null where a text is no time.
        micros: Int64 microseconds beyond them, rounded up.
        zoned: Boolean, whether the text names its zone.
        notes: what had to be decided.
        problem: why the texts cannot be read; "" if they can.
    """

    seconds: "pl.Series"
    micros: "pl.Series"
    zoned: "pl.Series"
    notes: tuple[str, ...] = ()
    problem: str = ""


def parse_texts(text: "pl.Series", form: str | None, interval: int) -> Said:
    """Parse times in words.

    Args:
        text: texts, null where there is nothing.
        form: as of ``strptime``, for all of them; None to go by what stands there.
        interval: seconds between bars: of day/month and month/day the order in which bars follow
            each other at this distance is right. 0 to take either.
    """
    import polars as pl

    text = text.str.replace_all("[\u00a0\u202f]", " ")
    if form is not None:
        return _parse_as_told(text, form)
    seconds, zoned = _parse_usual(text)
    micros = pl.zeros(len(text), pl.Int64, eager=True)
    notes: tuple[str, ...] = ()
    for pattern in _DATES:
        left = text.set(seconds.is_not_null(), None)
        if left.null_count() == len(left):
            break
        parts = left.str.extract_groups(pattern + _CLOCK + _ZONE).struct.unnest()
        if parts["year"].null_count() == len(parts):
            continue
        if "one" in parts.columns:
            parts, note, problem = _order_day_and_month(parts, interval)
            if problem:
                return Said(seconds, micros, zoned, notes, problem)
            notes += note
        read = parts.select(
            seconds=_make_seconds(parts),
            micros=(pl.col("fraction").fill_null("0") + "000000").str.slice(0, 6).cast(pl.Int64)
            + pl.col("fraction").str.slice(6).str.contains("[1-9]").fill_null(False).cast(pl.Int64),
            zoned=pl.col("zone").is_not_null() | pl.col("sign").is_not_null(),
        )
        new = read["seconds"].is_not_null()
        seconds = seconds.zip_with(~new, read["seconds"])
        micros = micros.zip_with(~new, read["micros"])
        zoned = zoned.zip_with(~new, read["zoned"])
    return Said(seconds, micros, zoned, notes)


def _parse_usual(text: "pl.Series") -> "tuple[pl.Series, pl.Series]":
    """Int64 seconds of the texts that are written as the first one, if that is a usual way.

    Returns:
        The seconds, null for any other text; and Boolean, whether a text names its zone.
    """
    import polars as pl

    told = text.drop_nulls().head(1)
    for pattern, form in _USUAL.items():
        if len(told) and told.str.contains(pattern).all():
            moments = text.str.to_datetime(form, strict=False, time_unit="ms", exact=True)
            zoned = moments.is_not_null() & form.endswith(("Z", "0"))
            return moments.dt.epoch("s"), zoned
    nothing = text.is_null() & False
    return pl.select(pl.repeat(None, len(text), dtype=pl.Int64)).to_series(), nothing


def parse_clock_texts(text: "pl.Series") -> "pl.Series":
    """Times of day in words; digits HHMMSS, HHMM or a single 0 become HH:MM:SS."""
    import polars as pl

    digits = text.str.extract(r"^(\d{1,6})$")
    long = digits.str.len_chars().max()
    if long in (1, 2):  # hours
        padded = digits.str.zfill(2) + "0000"
    else:
        padded = digits.str.zfill(6) if long in (5, 6) else digits.str.zfill(4) + "00"
    spelled = padded.str.replace(r"^(\d\d)(\d\d)(\d\d)$", "${1}:${2}:${3}")
    return pl.select(pl.coalesce(spelled, text)).to_series()


def localise(
    micros: "pl.Series", timezone: str, *, latest: bool = False
) -> "tuple[pl.Series, tuple[str, ...]]":
    """Give local times their instants; null for one that no clock has shown.

    Where clocks are put back an hour is shown twice: of two rows with one time the one that comes
    first, in the direction of time, is the first.

    Args:
        micros: Int64 microseconds since 1970 as the clock shows them; null stays null.
        timezone: such as "Europe/Berlin".
        latest: whether such an hour is always the second.

    Returns:
        Int64 microseconds since 1970, UTC; and notes on times that cannot be told for certain.
    """
    import polars as pl

    shown = micros.cast(pl.Datetime("us"))
    early, late = (
        shown.dt.replace_time_zone(timezone, ambiguous=which, non_existent="null").dt.epoch("us")
        for which in ("earliest", "latest")
    )
    twice = (early != late).fill_null(False)
    if not twice.any():
        return early, ()
    if latest:
        return late, (
            f"{int(twice.sum())} times that the clocks in {timezone} showed twice were taken for "
            "the second",
        )
    steps = micros.diff().drop_nulls()
    falling = int((steps < 0).sum()) > int((steps > 0).sum())
    frame = pl.DataFrame({"shown": micros, "twice": twice})
    rank = pl.col("shown").cum_count(reverse=falling).over("shown")
    frame = frame.with_columns(rank=rank, count=pl.len().over("shown"))
    second = frame["twice"] & (frame["rank"] > 1)
    alone = int((frame["twice"] & (frame["count"] == 1)).sum())
    notes: tuple[str, ...] = ()
    if alone:
        notes = (
            f"{alone} times that the clocks in {timezone} showed twice stand there once, and were "
            "taken for the first",
        )
    return early.zip_with(~second, late), notes


def has_clock(form: str) -> bool:
    """Whether a way to write times, as of ``strptime``, has a time of day."""
    return any(f"%{letter}" in form for letter in "HIkslTRXcpM+")


def _parse_as_told(text: "pl.Series", form: str) -> Said:
    import polars as pl

    whole = has_clock(form)
    if any(f"%{hour}" in form for hour in "HIkl") and "%M" not in form:  # polars wants minutes
        text, form = text + " 00", f"{form} %M"
    zoned = any(f"%{letter}" in form for letter in "zZ+s")
    if whole:
        unit = "ns" if "f" in form else "us"
        moments = text.str.to_datetime(form, strict=False, time_unit=unit)  # type: ignore[arg-type]
        ticks = moments.dt.epoch("ns")
    else:
        ticks = text.str.to_date(form, strict=False).cast(pl.Datetime("us")).dt.epoch("ns")
    micros = -(-ticks // 1000)
    return Said(micros // 10**6, micros % 10**6, pl.Series([zoned] * len(text), dtype=pl.Boolean))


def _order_day_and_month(
    parts: "pl.DataFrame", interval: int
) -> "tuple[pl.DataFrame, tuple[str, ...], str]":
    """Tell which of three numbers is the day; say how, or why it cannot be told.

    With points before a year of four digits the day comes first everywhere. Otherwise an order is
    out where it makes no dates of some rows, or such before Bitcoin; and of several the one is
    right in which bars follow each other from day to day.
    """
    import polars as pl

    orders = {
        "%d/%m/%Y": parts.with_columns(day=pl.col("one"), month=pl.col("two")),
        "%m/%d/%Y": parts.with_columns(month=pl.col("one"), day=pl.col("two")),
        "%y/%m/%d": parts.with_columns(year=pl.col("one"), month=pl.col("two"), day=pl.col("year")),
    }
    long = parts["year"].str.len_chars().max() == 4
    if long or parts["one"].str.len_chars().min() != 2:
        del orders["%y/%m/%d"]
    if not long:
        orders = {form.replace("%Y", "%y"): order for form, order in orders.items()}
    told = parts["year"].is_not_null()
    shown = _quote(parts, told)
    if (parts["mark"].drop_nulls() == ".").all():
        orders = {form: order for form, order in orders.items() if not form.startswith("%m")}
    seconds = {form: order.select(s=_make_seconds(order))["s"] for form, order in orders.items()}
    first_day = -(2**62) if long else _EARLIEST
    unfit = {form: (at.is_null() | (at < first_day)) & told for form, at in seconds.items()}
    fit = [form for form in orders if not unfit[form].any()]
    wrong = {form: int(rows.sum()) for form, rows in unfit.items()}
    least = min(wrong, key=lambda form: wrong[form])
    if len(orders) == 1 or 0 < wrong[least] < 0.05 * len(parts):  # the rows at fault are told later
        return orders[least], (), ""
    if not fit:
        first, other = list(unfit)[:2]
        one, two = (_quote(parts, unfit[form] & ~unfit[rest]) for form, rest in (
            (other, first), (first, other)))  # fmt: skip
        return parts, (), f"the day comes first in {one!r} and last in {two!r}: mend one of them"
    if len(fit) == 1 or not interval:
        return orders[fit[0]], (), ""
    moves = {form: (seconds[form] // 86_400).diff().drop_nulls().abs() for form in fit}
    steps = {form: int((moves[form] == max(1, interval // 86_400)).sum()) for form in fit}
    best = max(fit, key=lambda form: steps[form])
    others = max(steps[form] for form in fit if form != best)
    if steps[best] > 3 * others and steps[best] * 2 >= int((moves[best] > 0).sum()):
        first = {"d": "day", "m": "month", "y": "year"}[best[1]]
        note = (
            f"in dates such as {shown} the {first} comes first, as bars follow each other so "
            f'(`time_format: "{best}"`, with the marks of the file and the time after it, if there '
            "is one, says so for certain)"
        )
        return orders[best], (note,), ""
    forms = " or ".join(f'"{form}"' for form in fit)
    return parts, (), (
        f"it cannot be told in which order day, month and year stand in {shown!r}: set "
        f'`time_format` to {forms}, with the marks of the file and " %H:%M" after it if there is '
        "a time"
    )  # fmt: skip


def _quote(parts: "pl.DataFrame", rows: "pl.Series") -> str:
    """The date in the first of some rows, as it stands there."""
    row = parts.row(rows.fill_null(False).arg_max() or 0, named=True)
    return f"{row['one']}{row['mark']}{row['two']}{row['mark']}{row['year']}"


def number_months(names: "pl.Expr") -> "pl.Expr":
    """The numbers of months, as texts, by their English names or what these begin with."""
    import polars as pl

    numbers = [f"{i}" for i in range(1, 13)]
    short = names.str.to_lowercase().str.slice(0, 3)
    return short.replace_strict(list(_MONTHS), numbers, default=None, return_dtype=pl.String)


def _make_seconds(parts: "pl.DataFrame") -> "pl.Expr":
    """Int64 seconds since 1970 of the parts of times; null where they are no time."""
    import polars as pl

    year = pl.when(pl.col("year").str.len_chars() == 2).then("20" + pl.col("year"))
    month = number_months(pl.col("name")) if "name" in parts.columns else pl.col("month")
    given = pl.col("hour").cast(pl.Int64)
    half = pl.col("half").str.to_lowercase()
    on_dial = pl.when(given.is_between(1, 12)).then(given % 12 + 12 * (half == "p").cast(pl.Int64))
    hour = pl.when(half.is_not_null()).then(on_dial).otherwise(given)
    hour = pl.when(pl.col("hour").is_null()).then(0).otherwise(hour)
    clock = pl.concat_str(
        year.otherwise(pl.col("year")), pl.lit("-"), month.str.zfill(2), pl.lit("-"),
        pl.col("day").str.zfill(2), pl.lit("T"), hour.cast(pl.String).str.zfill(2), pl.lit(":"),
        pl.col("minute").fill_null("00"), pl.lit(":"), pl.col("second").fill_null("00"),
    )  # fmt: skip
    local = clock.str.to_datetime("%Y-%m-%dT%H:%M:%S", strict=False, time_unit="ms").dt.epoch("s")
    east = pl.col("east").cast(pl.Int64) * 3600
    east += pl.col("eastminute").fill_null("0").cast(pl.Int64) * 60
    return local - (east * (pl.col("sign") + "1").cast(pl.Int64)).fill_null(0)
