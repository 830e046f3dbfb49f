"""Candles of Binance's public archive: years of minutes and seconds in a few large files.

``https://data.binance.vision`` keeps one zip for each month and one for each day, and beside each
a ``.CHECKSUM`` with its SHA-256; needs no key. Months that lie wholly in the asked span come from
the monthly file, the days around them from daily files. So do the days of a month whose file is
not there yet, and the days that a monthly file leaves out, as several of the futures' do
(binance/binance-public-data issues 186, 304, 346). Several files are on their way at a time; the
blocks come in order of time.

What is promised of a file: its checksum was right, it held one plain CSV of a size that the period
allows, and whatever was left out or looks odd is counted in the block's notes. Nothing of a zip is
written to disk. A day without a file is settled as a day without candles, with a note, unless it
is so recent that its file may still appear: from there on nothing is answered, so that a later run
asks again.

Memory: the zip and the candles of each file under way, and what it takes to read one, since one
is read at a time. A month of minutes (6 MB) hardly shows. A month of seconds was measured at
130 MB of zip, 190 MB of candles and 900 MB at the peak of reading: ``downloads=1`` keeps two.
"""

import hashlib
import logging
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from threading import Lock
from typing import ClassVar, Literal, NamedTuple

from btc_datamodule.candles.series import Candles, empty
from btc_datamodule.candles.timeline import (
    Span,
    floor_to,
    format_instant,
    format_interval,
    parse_instant,
    subtract,
)
from btc_datamodule.errors import ConfigError, SourceError
from btc_datamodule.sources.base import Block, Source, advised, check_path_part
from btc_datamodule.sources.binance.zips import quoted, read_klines, size_limit
from btc_datamodule.sources.web.client import MAX_BACKOFF, Answer, PoliteClient, check_manners

DAY = 86_400

RECENT = 3 * DAY
"""Seconds after its end in which a day's file may still appear; usual are one or two days."""

DOUBTFUL = 28
"""Days without a file, and none before them, after which it is doubted that there are any."""

_INTERVALS = (1, 60, 180, 300, 900, 1800, *(hours * 3600 for hours in (1, 2, 4, 6, 8, 12, 24)))
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BinanceArchive(Source):
    """Binance's archive of klines, spot or USD-M futures.

    Attributes:
        product: the pair as Binance writes it.
        market: "spot", or "um" for USD-margined futures (no 1s bars there).
        base_url: where the archive is; https, or http to this machine.
        downloads: files fetched at a time, 1 to 16.
        requests_per_second: at most, of all downloads together; a file takes two.
        timeout: seconds to connect, and seconds of silence while reading.
        attempts: requests made for a file before giving up, and downloads of one whose checksum
            does not match.
        retry_wait: seconds before the first retry; doubles with each. A ``Retry-After`` of the
            service goes before it.
        drop_invalid: leave out bars that are no candles (high < low, a negative price), with a
            note that counts them, in place of an error that ends the download.

    Raises:
        ConfigError: naming the argument that cannot be used.
    """

    name: ClassVar[str] = "binance"

    product: str = "BTCUSDT"
    market: Literal["spot", "um"] = "spot"
    base_url: str = "https://data.binance.vision"
    downloads: int = 4
    requests_per_second: float = 20.0
    timeout: float = 60.0
    attempts: int = 6
    retry_wait: float = 1.0
    drop_invalid: bool = False

    def __post_init__(self) -> None:
        check_path_part(self.product, "product")
        if self.market not in ("spot", "um"):
            raise ConfigError(f"market must be spot or um, not {self.market!r}")
        if not 1 <= self.downloads <= 16:
            raise ConfigError(f"downloads must be 1 to 16 at a time, not {self.downloads}")
        check_manners(
            *(self.base_url, self.requests_per_second, self.timeout),
            *(self.attempts, self.retry_wait),
        )

    @property
    def series(self) -> str:
        """The product, with "-um" appended for futures."""
        return self.product if self.market == "spot" else f"{self.product}-um"

    @property
    def first(self) -> int:  # type: ignore[override]  # read only, and for each market its own
        """When BTCUSDT began to trade on the market."""
        return parse_instant("2017-08-17" if self.market == "spot" else "2019-09-08")

    @property
    def intervals(self) -> tuple[int, ...]:  # type: ignore[override]  # as above
        """Bar lengths in seconds: from 1m to 1d, and 1s of the spot market."""
        return _INTERVALS if self.market == "spot" else _INTERVALS[1:]

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        """Yield one block for each file, and one for each run of days without files.

        The answer ends before ``span`` does where days are so recent that their files are not
        there yet.

        Raises:
            SourceError: if the archive cannot be reached, a file stays different from its
                checksum or is damaged, or it has no files of the product.
            CandleError: if a row is no candle, such as one with high < low, unless
                ``drop_invalid``.
        """
        self.check_interval(interval)
        now = time.time()
        files = _files(self, interval, (span[0], min(span[1], floor_to(now, DAY))))
        if not files:
            return
        client = PoliteClient(
            self.base_url,
            requests_per_second=self.requests_per_second,
            timeout=self.timeout,
            attempts=self.attempts,
            retry_wait=self.retry_wait,
        )
        with client, _Downloads(self, interval, client) as downloads:
            absent: list[_File] = []
            doubtful = True
            for file, block in downloads.in_order(files):
                if block is None and now - file.period[1] < RECENT:
                    break
                doubtful = doubtful and block is None
                if block is None:
                    absent.append(file)
                    if doubtful and len(absent) == DOUBTFUL:
                        days = [floor_to(now, DAY) - back * DAY for back in (4, 5, 6)]
                        recent = [_day_file(self, interval, day) for day in days]
                        downloads.check_there_are(files[-3:] + recent)
                    continue
                if absent:
                    yield self._without_candles(interval, absent)
                    absent = []
                yield block
            if absent:
                yield self._without_candles(interval, absent)

    def _without_candles(self, interval: int, days: "list[_File]") -> Block:
        first, last = (format_instant(day.period[0])[:10] for day in (days[0], days[-1]))
        text = f"for {first}" if first == last else f"from {first} to {last}"
        note = (
            f"{self.name} {self.series}: the archive has no {format_interval(interval)} file {text}"
            ": taken as without candles (`refresh: true` asks again)"
        )
        span = (days[0].wanted[0], days[-1].wanted[1])
        return Block(
            span, empty(interval), f"{self.base_url.rstrip('/')}{days[0].path} absent", (note,)
        )


# ------------------------------------------------------------------------------- which files


class _File(NamedTuple):
    """A file of the archive: where it is, the time that it is about, and the part wanted of it."""

    path: str
    period: Span
    wanted: Span

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[1]

    @property
    def is_month(self) -> bool:
        return self.period[1] - self.period[0] > DAY


def _files(source: BinanceArchive, interval: int, span: Span) -> list[_File]:
    """The months wholly inside ``span``, and days around them, in order of time."""
    files: list[_File] = []
    at, end = span
    while at < end:
        month = _month(at)
        if at == max(month[0], source.first) and month[1] <= end:
            files.append(_file(source, interval, "monthly", month, (at, month[1])))
        else:
            files += _days(source, interval, (at, min(month[1], end)))
        at = month[1]
    return files


def _days(source: BinanceArchive, interval: int, span: Span) -> list[_File]:
    starts = range(floor_to(span[0], DAY), span[1], DAY)
    whole = (_day_file(source, interval, start) for start in starts)
    return [
        day._replace(wanted=(max(day.period[0], span[0]), min(day.period[1], span[1])))
        for day in whole
    ]


def _day_file(source: BinanceArchive, interval: int, start: int) -> _File:
    day = (start, start + DAY)
    return _file(source, interval, "daily", day, day)


def _file(
    source: BinanceArchive,
    interval: int,
    kind: Literal["monthly", "daily"],
    period: Span,
    part: Span,
) -> _File:
    market = "spot" if source.market == "spot" else "futures/um"
    bars = format_interval(interval)
    date = format_instant(period[0])[: 7 if kind == "monthly" else 10]
    folder = f"/data/{market}/{kind}/klines/{source.product}/{bars}"
    return _File(f"{folder}/{source.product}-{bars}-{date}.zip", period, part)


def _month(instant: int) -> Span:
    """The calendar month around an instant."""
    start = datetime.fromtimestamp(instant, UTC).replace(day=1, hour=0, minute=0, second=0)
    end = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    return int(start.timestamp()), int(end.timestamp())


# ----------------------------------------------------------------------------------- downloads


class _Downloads:
    """Files on their way, ``source.downloads`` at a time. Leaving the context ends all of them."""

    def __init__(self, source: BinanceArchive, interval: int, client: PoliteClient) -> None:
        self._source = source
        self._interval = interval
        self._client = client
        self._reading = Lock()
        self._pool = ThreadPoolExecutor(source.downloads, "binance")

    def __enter__(self) -> "_Downloads":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.stop()
        self._pool.shutdown(cancel_futures=True)

    def in_order(self, files: Iterable[_File]) -> Iterator[tuple[_File, Block | None]]:
        """Each file with the block it answers; None for a day that has no file.

        Days stand in for a month without a file and for the gaps of one that has them.
        """
        for file, block in self._fetched(files):
            if not file.is_month:
                yield file, block
            elif block is None:
                yield from self.in_order(_days(self._source, self._interval, file.wanted))
            else:
                yield from self._with_gaps_filled(file, block)

    def check_there_are(self, files: list[_File]) -> None:
        """Raise ``SourceError`` unless the archive has one of the files."""
        if any(self._get(f"{file.path}.CHECKSUM", 2**16) is not None for file in reversed(files)):
            return
        source = self._source
        raise SourceError(
            f"{source.base_url} has no {format_interval(self._interval)} files of {source.product}"
            f" ({source.market}), not even {files[0].path}: check `source.product`, "
            "`source.market` and `source.base_url`, or set `start` and `end` to when it traded"
        )

    def _fetched(self, files: Iterable[_File]) -> Iterator[tuple[_File, Block | None]]:
        """Each file with its block, looking ahead as many files as are fetched at a time."""
        ahead: deque[tuple[_File, Future[Block | None]]] = deque()
        for file in files:
            ahead.append((file, self._pool.submit(self._block, file)))
            if len(ahead) > self._source.downloads:
                due, future = ahead.popleft()
                yield due, future.result()
        while ahead:  # as above: a block that was taken must not stay in memory
            due, future = ahead.popleft()
            yield due, future.result()

    def _with_gaps_filled(self, month: _File, block: Block) -> Iterator[tuple[_File, Block | None]]:
        """A month's block in parts, with daily files in place of whole days that are absent.

        Monthly files that were made too early end early: what is absent at the end of the month
        is asked for in any case.
        """
        gaps, notes, received = _gaps(block), block.notes, block.received
        for part in sorted([*gaps, *subtract(block.span, gaps)]):
            if part not in gaps:
                bars = block.candles.slice(*part)
                yield month, replace(block, span=part, candles=bars, notes=notes, received=received)
                notes, received = (), 0  # told once
                continue
            for day, answer in self._fetched(_days(self._source, self._interval, part)):
                if answer is None or not len(answer.candles):
                    yield day, answer
                    continue
                count = f"{len(answer.candles)} bars that {month.name} leaves out"
                notes += (*answer.notes, f"binance: {count} came from {day.name}")
                yield day, replace(answer, notes=notes)
                notes = ()

    def _block(self, file: _File) -> Block | None:
        """What a file says about the part wanted of it; None if the archive has no such file."""
        body = self._verified(file)
        if body is None:
            return None
        with self._reading:
            candles, notes = self._read(body, file)
        return Block(
            file.wanted,
            candles.slice(*file.wanted),
            self._url(file.path),
            notes,
            checksum=f"sha256:{hashlib.sha256(body).hexdigest()}",
            received=len(body),
        )

    def _read(self, body: bytes, file: _File) -> tuple[Candles, tuple[str, ...]]:
        """The candles in a file, and notes on them."""
        about = (file.name, file.period, self._interval, self._url(file.path))
        return advised(
            lambda drop: read_klines(body, *about, drop_invalid=drop), self._source.drop_invalid
        )

    def _verified(self, file: _File) -> bytes | None:
        """The bytes of a file, equal to its checksum; None if the archive has no such file."""
        url, source = self._url(file.path), self._source
        problem = ""
        for attempt in range(1, source.attempts + 1):
            if attempt > 1:
                _log.warning("%s: %s; fetching both again (attempt %d)", url, problem, attempt)
                self._client.pause(min(source.retry_wait * 2 ** (attempt - 2), MAX_BACKOFF))
            said = self._get(f"{file.path}.CHECKSUM", 2**16)
            body = (
                None
                if said is None
                else self._get(file.path, size_limit(file.period, self._interval))
            )
            if said is None or body is None:
                return None
            expected = _digest_for(file.name, said)
            digest = hashlib.sha256(body).hexdigest()
            if digest == expected:
                return body
            problem = (
                f"its sha256 is {digest}, but {file.name}.CHECKSUM says {expected}"
                if expected
                else f"its .CHECKSUM holds no digest for it, but {quoted(said)} (its sha256 is "
                f"{digest})"
            )
        raise SourceError(
            f"{url}: {problem}, {source.attempts} times over: run it again later, the archive may "
            "be replacing the file; if it stays, something on the way changes what is downloaded"
        )

    def _get(self, path: str, max_body: int) -> bytes | None:
        """A file's bytes; None if there is none."""
        answer: Answer = self._client.get(path, max_body=max_body)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise SourceError(
                f"{self._url(path)}: refused with HTTP {answer.status}, {quoted(answer.body)}: "
                "check `source.base_url`, and whether a firewall stands in between"
            )
        return answer.body

    def _url(self, path: str) -> str:
        return f"{self._source.base_url.rstrip('/')}{path}"


def _gaps(month: Block) -> list[Span]:
    """Where a month's block has no bar for a day or longer, or up to its end."""
    covered = subtract(month.candles.span, [(a, b) for a, b in month.candles.holes().tolist()])
    return [
        (start, end)
        for start, end in subtract(month.span, covered)
        if end - start >= DAY or end == month.span[1]
    ]


def _digest_for(name: str, checksum: bytes) -> str | None:
    """The SHA-256, in lower case, that a file in ``sha256sum``'s format gives for ``name``."""
    match = re.fullmatch(rb"\s*([0-9a-fA-F]{64})\s+\*?(\S+)\s*", checksum)
    return match[1].decode().lower() if match and match[2] == name.encode() else None
