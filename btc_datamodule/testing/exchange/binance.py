"""Binance's part: the files of its public archive, made as they are asked for."""

import hashlib
import re
import threading
import time
import zipfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO

import numpy as np

from btc_datamodule.candles.series import Candles
from btc_datamodule.candles.timeline import Span, format_interval, parse_instant
from btc_datamodule.testing.exchange.messages import Reply, Request

KLINE_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
    "taker_buy_quote_volume,ignore\n"
)

NO_SUCH_KEY = Reply(
    404,
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code>'
    b"<Message>The specified key does not exist.</Message></Error>",
    {"Content-Type": "application/xml"},
)


@dataclass
class BinanceArchiveAnswers:
    """Binance's archive of klines of one product and interval: zips made as they are asked for.

    A file is there if its month or day is over and ``held`` has a bar in it. Spot files have no
    header, and microseconds from 2025 on; futures have a header and milliseconds throughout.

    Attributes:
        held: the bars it has.
        market: "spot" or "um".
        header: whether files begin with the names of the columns; None for as the market does.
        product: the only product it knows.
        missing: names of files that are not there, such as BTCUSDT-1h-2020-01.zip, each with its
            ``.CHECKSUM``.
        halved: names of what is not there though the other half is: BTCUSDT-1h-2020-01.zip where
            only the ``.CHECKSUM`` is, or BTCUSDT-1h-2020-01.zip.CHECKSUM where only the zip is.
        files: bytes served under a name in place of what would be made; a ``.CHECKSUM`` that is
            not among them fits the bytes that are.
        delay: seconds that each answer takes.
        peak: the most requests that were being answered at the same time.
    """

    held: Candles
    market: str = "spot"
    header: bool | None = None
    product: str = "BTCUSDT"
    missing: set[str] = field(default_factory=set)
    halved: set[str] = field(default_factory=set)
    files: dict[str, bytes] = field(default_factory=dict)
    delay: float = 0.0
    peak: int = 0
    _busy: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

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
        bars = self.held.slice(*_parse_period(name))
        start = bars.open_time
        micro = self.market == "spot" and _parse_period(name)[0] >= parse_instant("2025-01-01")
        unit = 10**6 if micro else 10**3
        columns = [
            (start * unit).tolist(),
            *(bars[column].tolist() for column in ("open", "high", "low", "close", "volume")),
            ((start + bars.interval) * unit - 1).tolist(),
            bars["quote_volume"].tolist(),
            bars["trades"].astype(np.int64).tolist(),
            bars["taker_buy_volume"].tolist(),
            (bars["taker_buy_volume"] * bars["close"]).tolist(),
            [0] * len(bars),
        ]
        lines = [",".join(map(str, row)) + "\n" for row in zip(*columns, strict=True)]
        header = self.market == "um" if self.header is None else self.header
        return "".join([KLINE_HEADER] * header + lines).encode()

    def _find_body(self, path: str) -> bytes | None:
        market = "spot" if self.market == "spot" else "futures/um"
        bars = format_interval(self.held.interval)
        day, month = r"\d{4}-\d\d-\d\d", r"\d{4}-\d\d"
        name = path.rsplit("/", 1)[-1]
        known = re.fullmatch(
            rf"/data/{market}/(monthly|daily)/klines/{self.product}/{bars}/"
            rf"{self.product}-{bars}-({day}|{month})\.zip(\.CHECKSUM)?",
            path,
        )
        if known is None or (known[1] == "daily") != bool(re.fullmatch(day, known[2])):
            return None
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
