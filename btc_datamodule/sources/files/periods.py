"""Months, quarters and years, as statistics write what they are about: 2019-11, Nov 2019, 2019Q4.

None of these is an instant: it begins with its first day, and is over when the next one begins.
"""

import re
from typing import TYPE_CHECKING, NamedTuple

from btc_datamodule.sources.files.clocks import has_clock, number_months
from btc_datamodule.sources.files.times import strip_text

if TYPE_CHECKING:
    import polars as pl

_WRITTEN = (
    r"^(?P<year>\d{4})(?:[-/ ]|-?[Mm])(?P<month>\d{1,2})$",
    r"^(?P<month>\d{1,2})[-/](?P<year>\d{4})$",
    r"^(?P<name>[A-Za-z]{3,9})\.?[- ](?P<year>\d{4})$",
    r"^(?P<year>\d{4})[- ](?P<name>[A-Za-z]{3,9})$",
    r"^(?P<year>\d{4})[- ]?[Qq](?P<quarter>[1-4])$",
    r"^[Qq](?P<quarter>[1-4])[-/ ](?P<year>\d{4})$",
)
_MONTHS_OF = {"months": 1, "quarters": 3, "years": 12}
_DAY = re.compile(r"%[-_0]?[dejDFxcs+v]").search
_MONTH = re.compile(r"%[-_0]?[mbBh]").search
"""What a way to write times, as of ``strptime``, has of a day and a month."""


class Periods(NamedTuple):
    """A column of periods.

    Attributes:
        first: Date, the day each begins on; null where there is none.
        after: Date, the day on which it is over.
        kind: "months", "quarters" or "years".
    """

    first: "pl.Series"
    after: "pl.Series"
    kind: str


def find_periods(column: "pl.Series", form: str | None) -> Periods | None:
    """Months, quarters or years, if every cell of a column that holds something is one.

    Args:
        column: as it stands in a file.
        form: how times are written, as of ``strptime``; None to go by what stands there.
    """
    import polars as pl

    if form is not None and (_DAY(form) or has_clock(form)):
        return None
    if form is not None and column.dtype.is_numeric():
        column = column.cast(pl.Int64, strict=False).cast(pl.String)
    if column.dtype != pl.String:
        return None
    text = strip_text(column)
    if form is not None:
        kind = "months" if _MONTH(form) else "years"
        return _make(text, text.str.to_date(form, strict=False), kind)
    for pattern in _WRITTEN:
        parts = text.str.extract_groups(pattern).struct.unnest()
        if parts["year"].null_count() == text.null_count() < len(text):
            kind = "quarters" if "quarter" in parts.columns else "months"
            day = parts["year"] + "-" + _number_months(parts).str.zfill(2) + "-01"
            return _make(text, day.str.to_date("%Y-%m-%d", strict=False), kind)
    return None


def _number_months(parts: "pl.DataFrame") -> "pl.Series":
    """The month that each begins with, as a text of one digit or two; null for none."""
    import polars as pl

    if "month" in parts.columns:
        return parts["month"]
    if "quarter" in parts.columns:
        return (parts["quarter"].cast(pl.Int64) * 3 - 2).cast(pl.String)
    return parts.select(number_months(pl.col("name"))).to_series()


def _make(text: "pl.Series", first: "pl.Series", kind: str) -> Periods | None:
    """Periods that begin on these days; None if a text is none."""
    if first.null_count() > text.null_count() or first.null_count() == len(first):
        return None
    return Periods(first, first.dt.offset_by(f"{_MONTHS_OF[kind]}mo"), kind)
