"""Open interest and ratios of Binance's archive, every five minutes.

The archive has daily files alone. A record's time is the beginning of five minutes, at the end of
which the values are read and known. What a label of the archive means changed:

- Of USD-margined futures the files before ``CHANGE`` have labels from 00:05 to 00:00 of the next
  day, each the end of its five minutes; those since then have labels from 00:00 to 23:55, each the
  beginning (binance/binance-public-data issue 491). So 00:00 stands in two files at the change, and
  is two instants. A file from before whose labels run from 00:00 too is read as one since then: its
  values then count as known five minutes later, never earlier.
- Of coin-margined futures labels always were the beginning.

A label up to ``LATE`` seconds past the grid stands for the instant of the grid before it, and its
values are known as much later than usual.
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
from btc_datamodule.sources.binance.files import DAY, ArchiveFile, ArchiveFiles
from btc_datamodule.sources.binance.tidying import Rows, leave_out, make_records
from btc_datamodule.sources.binance.zips import (
    BadFileError,
    CsvForm,
    compute_size_limit,
    quote,
    read_table,
)
from btc_datamodule.sources.records import RecordBlock, RecordSource
from btc_datamodule.sources.web.manners import Manners

INTERVAL = 300

CHANGE = parse_instant("2026-06-25")
"""The first day on which labels of USD-margined futures are the beginning of five minutes."""

LATE = 60
"""Seconds that a label may lie past the grid."""

OPEN_INTEREST = ("sum_open_interest", "sum_open_interest_value")
RATIOS = (
    "count_toptrader_long_short_ratio",
    "sum_toptrader_long_short_ratio",
    "count_long_short_ratio",
    "sum_taker_long_short_vol_ratio",
)
COLUMNS = OPEN_INTEREST + RATIOS

FORM = CsvForm.of(
    {"create_time": "time", "symbol": "text", **dict.fromkeys(COLUMNS, "float")},
    row="open interest",
    may_be_blank=COLUMNS,
)


@public
@dataclass(frozen=True)
class BinanceMetrics(RecordSource):
    """Open interest and long/short ratios of a future every 5 minutes, of Binance's archive.

    Records have the columns of the archive: ``sum_open_interest`` (in the base coin; of
    coin-margined futures in contracts), ``sum_open_interest_value``,
    ``count_toptrader_long_short_ratio`` (accounts of top traders),
    ``sum_toptrader_long_short_ratio`` (their positions), ``count_long_short_ratio`` (all accounts)
    and ``sum_taker_long_short_vol_ratio`` (what takers bought by what they sold in the five
    minutes). NaN where the archive has none; an open interest of 0 is none.

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
        drop_invalid: leave out rows with values that cannot be (a negative one), and those that
            contradict each other, with a note that counts them, in place of an error that ends the
            download.
        longest_wait: seconds that the service may ask to wait for (``Retry-After``); asked for
            longer, it is an error at once.
        longest_answer: seconds that one request may take in all; None for what the largest file
            takes at 1,000 bytes a second.

    Raises:
        ConfigError: naming the argument that cannot be used.
    """

    name: ClassVar[str] = "binance"
    first: ClassVar[int] = parse_instant("2020-09-01")

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
        """Product and market: "BTCUSDT-um-metrics"."""
        return name_series(self.product, self.market, "metrics")

    @property
    def columns(self) -> tuple[str, ...]:
        """Open interest and ratios, as the archive calls them."""
        return COLUMNS

    @property
    def interval(self) -> int:
        """Five minutes, in seconds."""
        return INTERVAL

    def blocks(self, span: Span) -> Iterator[RecordBlock]:
        """Yield one block for each day's file, and one for each run of days without files.

        The answer ends before ``span`` does where days are so recent that their files are not
        there yet. A file that stays different from its checksum or cannot be read is set aside: its
        block is not answered.

        Raises:
            SourceError: if the archive cannot be reached, or has no files of the product.
            RecordError: if a value cannot be, or rows contradict each other, unless
                ``drop_invalid``.
        """

        def read(body: bytes, file: ArchiveFile, url: str) -> tuple[RecordSet, tuple[str, ...]]:
            return read_or_advise(
                lambda drop: read_metrics(
                    body, file, url, self.product, self.market, drop_invalid=drop
                ),
                self.drop_invalid,
            )

        files = ArchiveFiles(self.product, self.market, self.first, type="metrics", periods="daily")
        contents = Contents(make_empty(COLUMNS), INTERVAL, read, lambda records: records.time)
        yield from answer_records(self, files, contents, span)


def read_metrics(
    body: bytes,
    file: ArchiveFile,
    url: str,
    product: str,
    market: str,
    *,
    drop_invalid: bool = False,
) -> tuple[RecordSet, tuple[str, ...]]:
    """Read the records in a zip, and notes on what was left out or looks odd.

    Args:
        body: the zip.
        file: which it is.
        url: of the file, for errors.
        product: whose records they must be.
        market: "um" or "cm", which tell what the labels mean.
        drop_invalid: leave out rows that are no records, with a note that counts them.

    Raises:
        BadFileError: if it is no zip of one plain CSV of metrics of its product and day.
        RecordError: naming the first row that cannot be or contradicts another.
    """
    where = f"binance {file.name}"
    table = read_table(body, FORM, compute_size_limit(file.period, INTERVAL), url)
    if table is None:
        return make_empty(COLUMNS), (f"{where}: holds no rows",)
    others = table.filter(table["symbol"].ne_missing(product))
    if others.height:
        found = quote(str(others["symbol"][0]).encode())
        problem = f"it is about {found}, not about {product}"
        raise BadFileError(url, problem, int(others["row"][0]))
    label = table["create_time"].to_numpy()
    late = label % INTERVAL
    at_end, notes = _tell_meaning(label - late, file, market)
    time = label - late - (INTERVAL if at_end else 0)
    columns = {
        "time": time,
        "known_at": time + INTERVAL + late,
        **{name: table[name].to_numpy() for name in COLUMNS},
    }
    rows = Rows(columns, table["row"].to_numpy(), where)
    oddities = {
        f"have labels more than {LATE} s past the five minutes": late > LATE,
        "are outside its day": (time < file.period[0]) | (time >= file.period[1]),
    }
    rows, told = leave_out(rows, oddities, url)
    notes = (*notes, *told, *_describe_late(rows), *_clear_zeros(rows))
    records, repaired = make_records(rows, _find_faults(rows.columns), drop_invalid=drop_invalid)
    return records, (*notes, *repaired, *_describe_rest(records, where))


def _tell_meaning(
    labels: NDArray[Any], file: ArchiveFile, market: str
) -> tuple[bool, tuple[str, ...]]:
    """Whether the labels of a file are the ends of their five minutes, and a note if in doubt."""
    start, end = file.period
    if market != "um" or start >= CHANGE:
        return False, ()
    if not (labels == start).any() or (labels == end).any():
        return True, ()
    note = f"binance {file.name}: its labels run from 00:00, as those from 2026-06-25 on do"
    return False, (f"{note}: read like these, as known five minutes after them",)


def _describe_late(rows: Rows) -> tuple[str, ...]:
    """A note on labels past the grid."""
    late = rows.columns["known_at"] - rows.columns["time"] - INTERVAL
    if not late.any():
        return ()
    count, most = np.count_nonzero(late), int(late.max())
    told = f"{count} labels lie up to {most} s past the five minutes"
    return (f"{rows.where}: {told}: put on them, and known as much later",)


def _clear_zeros(rows: Rows) -> tuple[str, ...]:
    """Put NaN in place of an open interest of 0, in both columns, and say how often."""
    zero = np.logical_or.reduce([rows.columns[name] == 0 for name in OPEN_INTEREST])
    for name in OPEN_INTEREST:
        rows.columns[name][zero] = np.nan
    if not zero.any():
        return ()
    first = format_instant(int(rows.columns["time"][np.argmax(zero)]))
    count = int(zero.sum())
    return (f"{rows.where}: an open interest of 0 is none, in {count} rows, the first at {first}",)


def _find_faults(columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.bool_]]:
    """The ways in which values can fail to be open interest and ratios: (N,) which rows do."""
    negative = {f"{name} is negative": columns[name] < 0 for name in COLUMNS}
    return negative | {f"{name} is infinite": np.isinf(columns[name]) for name in COLUMNS}


def _describe_rest(records: RecordSet, where: str) -> tuple[str, ...]:
    """A note on a day that is there in part."""
    count, whole = len(np.unique(records.time)), DAY // INTERVAL
    if count == whole:
        return ()
    last = format_instant(int(records.time[-1]))
    return (f"{where}: holds {count} of {whole} five minutes, the last that from {last} on",)
