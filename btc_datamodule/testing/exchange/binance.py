"""Binance's part: the files of its public archive, made as they are asked for."""

import hashlib
import re
import threading
import time
import zipfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.records import RecordSet
from btc_datamodule.candles.series import PRICES, Candles
from btc_datamodule.candles.timeline import Span, format_instant, format_interval, parse_instant
from btc_datamodule.testing.exchange.messages import Answer, Reply, Request

KLINE_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
    "taker_buy_quote_volume,ignore\n"
)
FUNDING_HEADER = "calc_time,funding_interval_hours,last_funding_rate\n"
METRICS_HEADER = (
    "create_time,symbol,sum_open_interest,sum_open_interest_value,"
    "count_toptrader_long_short_ratio,sum_toptrader_long_short_ratio,count_long_short_ratio,"
    "sum_taker_long_short_vol_ratio\n"
)

_HEADERS = {"fundingRate": FUNDING_HEADER, "metrics": METRICS_HEADER}
_RELABELLED = parse_instant("2026-06-25")
_CONTRACT = 100.0  # US dollars

NO_SUCH_KEY = Reply(
    404,
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code>'
    b"<Message>The specified key does not exist.</Message></Error>",
    {"Content-Type": "application/xml"},
)


@dataclass
class BinanceArchiveAnswers:
    """Binance's archive of one product and type of file: zips made as they are asked for.

    A file is there if its month or day is over and ``held`` has a row in it. Spot files have no
    header, and microseconds from 2025 on; futures have a header and milliseconds throughout. Of
    funding rates there are monthly files alone, of metrics daily ones; their labels are the ends of
    five minutes before 2026-06-25 on the market um, and else the beginnings.

    Where ``product`` is another, it has the ``.CHECKSUM`` of every month and day that is over of
    the one that always trades: BTCUSDT, or BTCUSD_PERP of the market "cm" (its index BTCUSD).

    Attributes:
        held: the bars or records it has.
        market: "spot", "um" or "cm".
        header: whether files begin with the names of the columns; None for as the market does.
        product: the only product whose files it has.
        type: of its files: "klines", of candles; "markPriceKlines", "indexPriceKlines",
            "premiumIndexKlines", "fundingRate" or "metrics", of records with the columns that the
            source of these has.
        interval: seconds of a bar where ``held`` are records of bars.
        missing: names of files that are not there, such as BTCUSDT-1h-2020-01.zip, each with its
            ``.CHECKSUM``.
        halved: names of what is not there though the other half is: BTCUSDT-1h-2020-01.zip where
            only the ``.CHECKSUM`` is, or BTCUSDT-1h-2020-01.zip.CHECKSUM where only the zip is.
        works: whether it has any files at all: one that is broken says of each that there is none.
        files: bytes served under a name in place of what would be made; a ``.CHECKSUM`` that is
            not among them fits the bytes that are.
        delay: seconds that each answer takes.
        peak: the most requests that were being answered at the same time.
    """

    held: Candles | RecordSet
    market: str = "spot"
    header: bool | None = None
    product: str = "BTCUSDT"
    type: str = "klines"
    interval: int = 0
    missing: set[str] = field(default_factory=set)
    halved: set[str] = field(default_factory=set)
    works: bool = True
    files: dict[str, bytes] = field(default_factory=dict)
    delay: float = 0.0
    peak: int = 0
    _busy: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if isinstance(self.held, Candles):
            self.interval = self.held.interval

    def __call__(self, request: Request) -> Reply:
        """The reply to a request."""
        with self._lock:
            self._busy += 1
            self.peak = max(self.peak, self._busy)
        time.sleep(self.delay)
        with self._lock:
            self._busy -= 1
            body = self._find_body(request.path)
        return NO_SUCH_KEY if body is None else Reply(200, body, {"Content-Type": "binary"})

    def csv(self, name: str) -> bytes:
        """Return the rows of the zip called ``name``, as the archive writes them."""
        period = _parse_period(name)
        held = self.held.slice(*period)
        if isinstance(held, Candles):
            micro = self.market == "spot" and period[0] >= parse_instant("2025-01-01")
            columns = _list_klines(held, 10**6 if micro else 10**3, self.market)
        elif self.type == "fundingRate":
            hours = held["interval_hours"].astype(np.int64)
            columns = [held["calc_time"].astype(np.int64), hours, held["rate"]]
        elif self.type == "metrics":
            is_end = self.market == "um" and period[0] < _RELABELLED
            labels = held.time + (300 if is_end else 0)
            times = [format_instant(label)[:-1].replace("T", " ") for label in labels]
            values = [np.where(np.isnan(held[name]), "", held[name]) for name in held.values]
            columns = [np.array(times), np.full(len(held), self.product), *values]
        else:
            start = 1000 * held.time
            nothing = np.zeros(len(held), np.int64)
            close = start + 1000 * self.interval - 1
            prices = [held[name] for name in PRICES]
            count = nothing + self.interval
            columns = [start, *prices, nothing, close, nothing, count, *[nothing] * 3]
        rows = zip(*(column.tolist() for column in columns), strict=True)
        lines = [",".join(map(str, row)) + "\n" for row in rows]
        header = self.market != "spot" if self.header is None else self.header
        names = _HEADERS.get(self.type, KLINE_HEADER)
        return "".join([names] * header + lines).encode()

    def _find_witness(self) -> str:
        """The product that always trades."""
        if self.market != "cm":
            return "BTCUSDT"
        return "BTCUSD" if self.type == "indexPriceKlines" else "BTCUSD_PERP"

    def _find_body(self, path: str) -> bytes | None:
        market = "spot" if self.market == "spot" else f"futures/{self.market}"
        often = {"fundingRate": "monthly", "metrics": "daily"}.get(self.type, "monthly|daily")
        what, folder = self.type, ""
        if self.interval:
            what = format_interval(self.interval)
            folder = f"/{what}"
        day, month = r"\d{4}-\d\d-\d\d", r"\d{4}-\d\d"
        name = path.rsplit("/", 1)[-1]
        known = re.fullmatch(
            rf"/data/{market}/({often})/{self.type}/({self.product}|{self._find_witness()}){folder}/"
            rf"\2-{what}-({day}|{month})\.zip(\.CHECKSUM)?",
            path,
        )
        if (
            not self.works
            or known is None
            or (known[1] == "daily") != bool(re.fullmatch(day, known[3]))
        ):
            return None
        if known[2] != self.product:
            is_over = _parse_period(f"{known[2]}-{what}-{known[3]}.zip")[1] <= time.time()
            digest = f"{'0' * 64}  {name.removesuffix('.CHECKSUM')}\n".encode()
            return digest if known[4] and is_over else None
        zip_name = name.removesuffix(".CHECKSUM")
        if zip_name in self.missing or name in self.halved:
            return None
        if zip_name not in self.files:
            period = _parse_period(zip_name)
            if period[1] > time.time() or not len(self.held.slice(*period)):
                return None
            self.files[zip_name] = zipped(zip_name.replace(".zip", ".csv"), self.csv(zip_name))
        if name not in self.files:
            return f"{hashlib.sha256(self.files[zip_name]).hexdigest()}  {zip_name}\n".encode()
        return self.files[name]


def _list_klines(bars: Candles, unit: int, market: str) -> list[NDArray[Any]]:
    """The 12 columns of candles, times in ``unit`` to the second."""
    start = bars.open_time
    volumes = [bars["volume"], bars["quote_volume"]]
    taken = [bars["taker_buy_volume"], bars["taker_buy_volume"] * bars["close"]]
    if market == "cm":
        volumes, taken = (
            [np.round(base * bars["close"] / _CONTRACT), base]
            for base in (bars["volume"], bars["taker_buy_volume"])
        )
    return [
        start * unit,
        *(bars[name] for name in PRICES),
        volumes[0],
        (start + bars.interval) * unit - 1,
        volumes[1],
        bars["trades"].astype(np.int64),
        *taken,
        np.zeros(len(bars), np.int64),
    ]


def first_found(*answers: Answer) -> Answer:
    """An answer of several: the reply of the first one that has what was asked for."""

    def reply(request: Request) -> Reply:
        replies = (answer(request) for answer in answers)
        return next((each for each in replies if each.status != NO_SUCH_KEY.status), NO_SUCH_KEY)

    return reply


def zipped(name: str, content: bytes, *more: tuple[str, bytes]) -> bytes:
    """Make a zip of the file ``name``, and of ``more`` files after it."""
    target = BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in ((name, content), *more):
            archive.writestr(member, data)
    return target.getvalue()


def _parse_period(name: str) -> Span:
    """Parse the month or day that a zip's name ends in."""
    date = name.removesuffix(".zip").split("-", 2)[2]
    start = datetime.fromisoformat(date if date.count("-") == 2 else f"{date}-01")
    start = start.replace(tzinfo=UTC)
    if date.count("-") == 2:
        return int(start.timestamp()), int(start.timestamp()) + 86_400
    after = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    return int(start.timestamp()), int(after.timestamp())
