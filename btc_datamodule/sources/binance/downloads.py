"""``Downloads``: files of Binance's archive on their way, several at a time.

Receives the files that are wanted, gives back a ``Block`` for each in order of time. Each file was
equal to its ``.CHECKSUM``; daily files stand in for months that are not there and for whole days
that a monthly file leaves out. A file that is there in part, without its ``.CHECKSUM`` or as a
``.CHECKSUM`` alone, and one that holds no rows, are no answer yet: their blocks are not
``answered``.
"""

import hashlib
import re
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from enum import Enum
from threading import Event, Lock
from typing import Self

from btc_datamodule.candles.series import Candles, make_empty
from btc_datamodule.candles.timeline import Span, format_interval, subtract
from btc_datamodule.errors import SourceError
from btc_datamodule.sources.base import Block, read_or_advise
from btc_datamodule.sources.binance.klines import DAY, KlineFile, KlineFiles
from btc_datamodule.sources.binance.zips import compute_size_limit, quote, read_klines
from btc_datamodule.sources.web.client import PoliteClient
from btc_datamodule.sources.web.connection import Answer
from btc_datamodule.sources.web.deadline import wait_for
from btc_datamodule.sources.web.manners import Manners
from btc_datamodule.sources.web.patience import PassingError, retry


class Downloads:
    """Files on their way. A context manager; leaving it ends all downloads and waits at once.

    Args:
        files: the files that the archive may have.
        manners: how the archive is asked, by all downloads together.
        at_a_time: how many files are fetched at a time.
        drop_invalid: leave out bars that are no candles, with a note, in place of an error.

    Raises:
        ConfigError: if certificates or proxy of the environment cannot be used.
    """

    def __init__(
        self, files: KlineFiles, manners: Manners, at_a_time: int, drop_invalid: bool
    ) -> None:
        self._files = files
        self._manners = manners
        self._at_a_time = at_a_time
        self._drop_invalid = drop_invalid
        self._client = PoliteClient(manners)
        self._reading = Lock()
        self._pool = ThreadPoolExecutor(at_a_time, "binance")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.stop()
        self._pool.shutdown(cancel_futures=True)
        self._client.close()

    def fetch_in_order(
        self, files: Iterable[KlineFile]
    ) -> Iterator[tuple[KlineFile, Block | None]]:
        """Yield each file with its block, in order of time; None for a day that has no file.

        In place of a month without a file, and of whole days that a monthly file leaves out, come
        the daily files. A month whose file is there in part may have what they have not: days
        without a file are then not answered.

        Raises:
            SourceError: if a file cannot be had, differs from its checksum, or is damaged.
            CandleError: if a row is no candle, unless ``drop_invalid``.
        """
        for file, block in self._fetch_ahead(files):
            if not file.is_month:
                yield file, block
            elif block is None:
                yield from self._fetch_ahead(self._files.select_days(file.wanted))
            elif not block.answered:
                yield from self._stand_in(file, block)
            else:
                yield from self._fill_gaps(file, block)

    def check_any_exists(self, files: list[KlineFile]) -> None:
        """Raise ``SourceError`` unless the archive has one of the files."""
        if any(self._get(f"{file.path}.CHECKSUM", 2**16) is not None for file in reversed(files)):
            return
        product, market, interval, _ = self._files
        raise SourceError(
            f"{self._manners.base_url} has no {format_interval(interval)} files of {product}"
            f" ({market}), not even {files[0].path}: check `source.product`, "
            "`source.market` and `source.base_url`, or set `start` and `end` to when it traded"
        )

    def _fetch_ahead(self, files: Iterable[KlineFile]) -> Iterator[tuple[KlineFile, Block | None]]:
        """Yield each file with its block, while the next ``at_a_time`` files are fetched."""
        ahead: deque[tuple[KlineFile, Future[Block | None]]] = deque()
        for file in files:
            ahead.append((file, self._pool.submit(self._fetch_block, file)))
            if len(ahead) > self._at_a_time:
                due, future = ahead.popleft()
                yield due, _wait_for_block(future)
        while ahead:  # no loop over `ahead`: a block that was taken must not stay in memory
            due, future = ahead.popleft()
            yield due, _wait_for_block(future)

    def _stand_in(self, month: KlineFile, block: Block) -> Iterator[tuple[KlineFile, Block | None]]:
        """Yield daily files in place of a month that is not answered; the rest is not either."""
        notes = block.notes
        for day, answer in self._fetch_ahead(self._files.select_days(month.wanted)):
            given = answer or replace(block, span=day.wanted, notes=())
            yield day, replace(given, notes=(*notes, *given.notes))
            notes = ()  # told once

    def _fill_gaps(
        self, month: KlineFile, block: Block
    ) -> Iterator[tuple[KlineFile, Block | None]]:
        """Yield a month's block in parts, and daily files in place of whole days absent from it.

        Monthly files that were made too early end early: what is absent at the end of the month
        is asked for in any case.
        """
        gaps, notes, received = _find_gaps(block), block.notes, block.received
        for part in sorted([*gaps, *subtract(block.span, gaps)]):
            if part not in gaps:
                bars = block.candles.slice(*part)
                yield month, replace(block, span=part, candles=bars, notes=notes, received=received)
                notes, received = (), 0  # told once
                continue
            for day, answer in self._fetch_ahead(self._files.select_days(part)):
                if answer is None or not len(answer.candles):
                    yield day, answer
                    continue
                count = f"{len(answer.candles)} bars that {month.name} leaves out"
                notes += (*answer.notes, f"binance: {count} came from {day.name}")
                yield day, replace(answer, notes=notes)
                notes = ()

    def _fetch_block(self, file: KlineFile) -> Block | None:
        """Fetch and read the part wanted of a file; None if the archive has no such file."""
        body = self._fetch_verified(file)
        if body is None:
            return None
        origin = self._manners.join(file.path)
        if isinstance(body, _Half):
            note = f"binance {file.name}: {body.value}{_describe_aside(file)}"
            nothing = make_empty(self._files.interval)
            return Block(file.wanted, nothing, origin, (note,), answered=False)
        with self._reading:
            candles, notes = self._read(body, file)
        if not len(candles):
            notes = (*notes[:-1], f"{notes[-1]}{_describe_aside(file)}")
        return Block(
            file.wanted,
            candles.slice(*file.wanted),
            origin,
            notes,
            checksum=f"sha256:{hashlib.sha256(body).hexdigest()}",
            received=len(body),
            answered=len(candles) > 0,
        )

    def _read(self, body: bytes, file: KlineFile) -> tuple[Candles, tuple[str, ...]]:
        """Read the candles in the bytes of a file, and notes on what was odd or left out."""
        about = (file.name, file.period, self._files.interval, self._manners.join(file.path))
        return read_or_advise(
            lambda drop: read_klines(body, *about, drop_invalid=drop), self._drop_invalid
        )

    def _fetch_verified(self, file: KlineFile) -> "bytes | _Half | None":
        """Fetch a file that equals its checksum; None if the archive has no such file.

        Where a file and its checksum differ, both are fetched again: the archive may be replacing
        them.

        Raises:
            SourceError: if they still differ at the last attempt.
        """
        return retry(
            lambda: self._fetch_once(file),
            self._manners.join(file.path),
            self._manners,
            self._client.pause,
        )

    def _fetch_once(self, file: KlineFile) -> "bytes | _Half | None":
        """Fetch a checksum and its file; ``PassingError`` if they differ."""
        said = self._get(f"{file.path}.CHECKSUM", 2**16)
        body = self._get(file.path, compute_size_limit(file.period, self._files.interval))
        if body is None:
            return None if said is None else _Half.CHECKSUM
        if said is None:
            return _Half.FILE
        expected = _read_digest(file.name, said)
        digest = hashlib.sha256(body).hexdigest()
        if digest == expected:
            return body
        raise PassingError(
            f"its sha256 is {digest}, but {file.name}.CHECKSUM says {expected}"
            if expected
            else f"its .CHECKSUM holds no digest for it, but {quote(said)} (its sha256 is "
            f"{digest})",
            "run it again later, the archive may be replacing the file; if it stays, something on "
            "the way changes what is downloaded",
        )

    def _get(self, path: str, max_body: int) -> bytes | None:
        """Fetch the bytes at a path of the archive; None if there is no such file."""
        answer: Answer = self._client.get(path, max_body=max_body)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise SourceError(
                f"{self._manners.join(path)}: refused with HTTP {answer.status}, "
                f"{quote(answer.body)}: check `source.base_url`, and whether a firewall stands in "
                "between"
            )
        return answer.body


def _wait_for_block(future: "Future[Block | None]") -> Block | None:
    """Wait for a download, and see a Ctrl-C meanwhile (``web.deadline.wait_for``)."""
    ended = Event()
    future.add_done_callback(lambda _: ended.set())
    wait_for(ended, None)
    return future.result()


class _Half(Enum):
    """What there is of a file that is not there whole."""

    FILE = "the archive has the file, and not its .CHECKSUM"
    CHECKSUM = "the archive has its .CHECKSUM, and not the file"


def _describe_aside(file: KlineFile) -> str:
    """Say what becomes of a file that is no answer yet, as the end of a note."""
    instead = ", daily files stand in for it, what they lack is" if file.is_month else " and"
    return f": no answer yet, set aside{instead} asked for again by the next run"


def _find_gaps(month: Block) -> list[Span]:
    """Find the spans of a month's block without a bar for a day or longer, or up to its end."""
    covered = subtract(month.candles.span, [(a, b) for a, b in month.candles.holes().tolist()])
    return [
        (start, end)
        for start, end in subtract(month.span, covered)
        if end - start >= DAY or end == month.span[1]
    ]


def _read_digest(name: str, checksum: bytes) -> str | None:
    """Read the SHA-256 of ``name``, in lower case, from a text as ``sha256sum`` writes it.

    None if the text is of another format, or about another file.
    """
    match = re.fullmatch(rb"\s*([0-9a-fA-F]{64})\s+\*?(\S+)\s*", checksum)
    return match[1].decode().lower() if match and match[2] == name.encode() else None
