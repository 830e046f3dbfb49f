"""Funding rates of Binance's archive: what longs paid to shorts, and when.

The archive has monthly files alone: the rates of a month appear a few days after it has ended. A
record's time is the settlement: the instant that the archive names, which is some milliseconds off,
to the nearest second. It is known from then on. The hours between two settlements are those that
the file says: 8, 4 or 1, and they change.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.records import RecordSet, make_empty
from btc_datamodule.candles.timeline import Span, format_instant, parse_instant
from btc_datamodule.public import public
from btc_datamodule.sources.base import read_or_advise
from btc_datamodule.sources.binance.answers import (
    answer_records,
    check_arguments,
    check_contract,
    name_series,
)
from btc_datamodule.sources.binance.downloads import Contents
from btc_datamodule.sources.binance.files import ArchiveFile, ArchiveFiles
from btc_datamodule.sources.binance.tidying import Rows, leave_out, make_records
from btc_datamodule.sources.binance.zips import CsvForm, compute_size_limit, read_table
from btc_datamodule.sources.records import RecordBlock, RecordSource
from btc_datamodule.sources.web.manners import Manners

COLUMNS = ("rate", "interval_hours", "calc_time")

FORM = CsvForm.of(
    {"calc_time": "int", "funding_interval_hours": "float", "last_funding_rate": "float"},
    row="a funding rate",
    may_be_blank=("funding_interval_hours",),
)

_FIRST = {"um": "2020-01-01", "cm": "2020-06-01"}
_SHORTEST = 3600
"""Seconds from one settlement to the next, at least."""

_SLACK = 60
"""Seconds after which a settlement that was due is missed."""


@public
@dataclass(frozen=True)
class BinanceFunding(RecordSource):
    """Funding rates of a perpetual future, of Binance's archive.

    Records have the columns ``rate`` (a fraction: 0.0001 is one basis point), ``interval_hours``
    (hours from one settlement to the next) and ``calc_time`` (epoch milliseconds, as the archive
    has it). The archive has a month when it has ended: what comes after is not answered.

    Attributes:
        product: the pair as Binance writes it; of coin-margined futures the contract, such as
            BTCUSD_PERP.
        market: "um" for USD-margined futures, or "cm" for coin-margined ones.
        base_url: where the archive is; https, or http to this machine.
        downloads: files fetched at a time, 1 to 16.
        requests_per_second: at most, of all downloads together; a file takes two.
        timeout: seconds until an answer brings content, and that it may stand still after that.
        attempts: requests made for a file before giving up, and downloads of one whose checksum
            does not match before it is set aside.
        retry_wait: seconds before the first retry; doubles with each.
        drop_invalid: leave out rows without a rate, and those that contradict each other, with a
            note that counts them, in place of an error that ends the download.
        longest_wait: seconds that the service may ask to wait for (``Retry-After``); asked for
            longer, it is an error at once.
        longest_answer: seconds that one request may take in all; None for what the largest file
            takes at 1,000 bytes a second.

    Raises:
        ConfigError: naming the argument that cannot be used.
    """

    name: ClassVar[str] = "binance"
    covers: ClassVar[int] = 8 * 3600

    product: str = "BTCUSDT"
    market: Literal["um", "cm"] = "um"
    base_url: str = "https://data.binance.vision"
    downloads: int = 4
    requests_per_second: float = 20.0
    timeout: float = 60.0
    attempts: int = 6
    retry_wait: float = 1.0
    drop_invalid: bool = False
    longest_wait: float = 3600.0
    longest_answer: float | None = None

    def __post_init__(self) -> None:
        check_arguments(self.product, self.market, self.downloads)
        check_contract(self.product, self.market)
        _ = self.manners  # which refuses what cannot be used

    @property
    def manners(self) -> Manners:
        """How the service is asked, checked."""
        return Manners.of(self)

    def hurry(self) -> Self:
        """This source with little patience; see ``Source.hurry``."""
        return replace(self, **self.manners.hurry())

    @property
    def series(self) -> str:
        """Product and market: "BTCUSDT-um-funding"."""
        return name_series(self.product, self.market, "funding")

    @property
    def columns(self) -> tuple[str, ...]:
        """Rate, hours to the next settlement, and the instant as the archive has it."""
        return COLUMNS

    @property
    def first(self) -> int:  # type: ignore[override]  # read only, and for each market its own
        """The first month that the archive may have."""
        return parse_instant(_FIRST[self.market])

    def blocks(self, span: Span) -> Iterator[RecordBlock]:
        """Yield one block for each file, and one for each run of months without files.

        A file that stays different from its checksum or cannot be read is set aside: its block is
        not answered. Nor are the months whose file is not there yet, which come last.

        Raises:
            SourceError: if the archive cannot be reached, or has no files of the product.
            RecordError: if a row has no rate, or contradicts another, unless ``drop_invalid``.
        """

        def read(body: bytes, file: ArchiveFile, url: str) -> tuple[RecordSet, tuple[str, ...]]:
            return read_or_advise(
                lambda drop: read_funding(body, file, url, drop_invalid=drop), self.drop_invalid
            )

        files = ArchiveFiles(
            self.product, self.market, self.first, type="fundingRate", periods="monthly"
        )
        contents = Contents(make_empty(COLUMNS), _SHORTEST, read, lambda records: records.time)
        yield from answer_records(self, files, contents, span)


def read_funding(
    body: bytes, file: ArchiveFile, url: str, *, drop_invalid: bool = False
) -> tuple[RecordSet, tuple[str, ...]]:
    """Read the funding rates in a zip, and notes on what was left out or looks odd.

    Args:
        body: the zip.
        file: which it is.
        url: of the file, for errors.
        drop_invalid: leave out rows that are no records, with a note that counts them.

    Raises:
        BadFileError: if it is no zip of one plain CSV of funding rates of its month.
        RecordError: naming the first row that has no rate or contradicts another.
    """
    where = f"binance {file.name}"
    table = read_table(body, FORM, compute_size_limit(file.period, _SHORTEST), url)
    if table is None:
        return make_empty(COLUMNS), (f"{where}: holds no rows",)
    given = table["calc_time"].to_numpy()
    millis = np.where(given < 10**14, given, given / 1000)  # microseconds are larger
    time = np.floor(millis / 1000 + 0.5).astype(np.int64)
    hours = table["funding_interval_hours"].to_numpy()
    columns = {
        "time": time,
        "known_at": time,
        "rate": table["last_funding_rate"].to_numpy(),
        "interval_hours": hours,
        "calc_time": millis,
    }
    rows = Rows(columns, table["row"].to_numpy(), where, apart=("calc_time",))
    outside = (time < file.period[0]) | (time >= file.period[1])
    rows, notes = leave_out(rows, {"are outside its month": outside}, url)
    records, repaired = make_records(rows, _find_faults(rows.columns), drop_invalid=drop_invalid)
    return records, (*notes, *repaired, *_describe_gaps(records, file.period[1], where))


def _find_faults(columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.bool_]]:
    """The ways in which rows can fail to be funding rates: (N,) which ones do."""
    hours = columns["interval_hours"]
    is_known = ~np.isnan(hours)
    return {
        "last_funding_rate is not a number": ~np.isfinite(columns["rate"]),
        "funding_interval_hours is no whole number of hours from 1 to 24": is_known
        & ~((hours >= 1) & (hours <= 24) & (np.floor(hours) == hours)),
    }


def _describe_gaps(records: RecordSet, end: int, where: str) -> tuple[str, ...]:
    """A note on settlements that are not in a file though they were due, up to its end."""
    hours = np.nan_to_num(records["interval_hours"], nan=8.0)
    longest = np.maximum(hours, np.append(hours[1:], 0))  # one of them is right where it changes
    due = records.time + 3600 * longest + _SLACK
    late = np.append(records.time[1:], end) > due
    if not late.any():
        return ()
    first = format_instant(int(records.time[np.argmax(late)]))
    count = int(late.sum())
    return (f"{where}: {count} settlements did not follow when due, the first after {first}",)
