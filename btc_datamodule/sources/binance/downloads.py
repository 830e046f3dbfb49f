"""``Downloads``: files of Binance's archive on their way, several at a time.

Receives the files that are wanted and how to read them, gives back for each what was ``Fetched``,
in order of time. Each file was equal to its ``.CHECKSUM``; daily files stand in for months that are
not there and for whole days that a monthly file leaves out, or is known to have wrong. A file that
is there in part, without its ``.CHECKSUM`` or as a ``.CHECKSUM`` alone, and one that holds no rows,
are no answer yet. Of records, neither is one that stays different from its checksum or cannot be
read; of candles, these are errors.
"""

import hashlib
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Event, Lock
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

from numpy.typing import NDArray

from btc_datamodule.candles.series import find_holes
from btc_datamodule.candles.timeline import Span, subtract
from btc_datamodule.errors import SourceError
from btc_datamodule.sources.binance.files import DAY, ArchiveFile, ArchiveFiles
from btc_datamodule.sources.binance.zips import BadFileError, compute_size_limit, quote
from btc_datamodule.sources.web.client import PoliteClient
from btc_datamodule.sources.web.connection import Answer
from btc_datamodule.sources.web.deadline import wait_for
from btc_datamodule.sources.web.manners import Manners
from btc_datamodule.sources.web.patience import PassingError, retry


class Dated(Protocol):
    """Candles or records."""

    def __len__(self) -> int: ...

    def slice(self, start: int, end: int) -> Self:
        """Those of [start, end)."""
        ...


T = TypeVar("T", bound=Dated)


@dataclass(frozen=True)
class Contents(Generic[T]):
    """What the files of a type hold.

    Attributes:
        empty: no candles, or no records.
        step: seconds from one row to the next, at least.
        read: makes candles or records of the bytes of a file, which comes from a URL, and notes on
            what was odd or left out. Raises ``BadFileError``.
        get_times: their times, (N,) int64, epoch seconds.
        noun: what they are called.
        sets_aside: whether a file that stays different from its checksum, or cannot be read, is
            set aside in place of an error.
    """

    empty: T
    step: int
    read: Callable[[bytes, ArchiveFile, str], tuple[T, tuple[str, ...]]]
    get_times: Callable[[T], NDArray[Any]]
    noun: str = "records"
    sets_aside: bool = True


@dataclass(frozen=True)
class Fetched(Generic[T]):
    """What came of a file, or of a part of it: ``rows``, and else as of ``Block``."""

    span: Span
    rows: T
    origin: str
    notes: tuple[str, ...] = ()
    checksum: str = ""
    received: int = 0
    answered: bool = True

    @property
    def about(self) -> tuple[str, tuple[str, ...], str, int, bool]:
        """Origin, notes, checksum, bytes received, and whether it is answered."""
        return self.origin, self.notes, self.checksum, self.received, self.answered


class Downloads(Generic[T]):
    """Files on their way. A context manager; leaving it ends all downloads and waits at once.

    Args:
        files: the files that the archive may have.
        contents: what they hold.
        manners: how the archive is asked, by all downloads together.
        at_a_time: how many files are fetched at a time.

    Raises:
        ConfigError: if certificates or proxy of the environment cannot be used.
    """

    def __init__(
        self, files: ArchiveFiles, contents: Contents[T], manners: Manners, at_a_time: int
    ) -> None:
        self._files = files
        self._contents = contents
        self._manners = manners
        self._at_a_time = at_a_time
        self._client = PoliteClient(manners)
        self._reading = Lock()
        self._pool = ThreadPoolExecutor(at_a_time, "binance")
        self.answered_at = 0.0
        """Epoch seconds of the latest answer, by the archive's clock."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.stop()
        self._pool.shutdown(cancel_futures=True)
        self._client.close()

    def fetch_in_order(
        self, files: Iterable[ArchiveFile]
    ) -> Iterator[tuple[ArchiveFile, Fetched[T] | None]]:
        """Yield each file with what came of it, in order of time; None if there is no such file.

        In place of a month without a file, and of whole days that a monthly file leaves out, come
        the daily files. A month whose file is there in part may have what they have not: days
        without a file are then not answered.

        Raises:
            SourceError: if a file cannot be had, differs from its checksum, or is damaged; unless
                it is set aside.
            CandleError, RecordError: of reading a file.
        """
        for file, found in self._fetch_ahead(files):
            if not file.is_month or not self._files.has_days:
                yield file, found
            elif found is None:
                yield from self._fetch_ahead(self._files.select_days(file.wanted))
            elif not found.answered:
                yield from self._stand_in(file, found)
            else:
                yield from self._fill_gaps(file, found)

    def has(self, file: ArchiveFile) -> bool:
        """Whether the archive has the ``.CHECKSUM`` of a file: the least there is to ask for."""
        return self._get(f"{file.path}.CHECKSUM", 2**16) is not None

    def check_any_exists(self, files: list[ArchiveFile]) -> None:
        """Raise ``SourceError`` unless the archive has one of the files."""
        if any(map(self.has, reversed(files))):
            return
        product, market = self._files.product, self._files.market
        raise SourceError(
            f"{self._manners.base_url} has no {self._files.kind} files of {product}"
            f" ({market}), not even {files[0].path}: check `source.product`, "
            "`source.market` and `source.base_url`, or set `start` and `end` to when it traded"
        )

    def _fetch_ahead(
        self, files: Iterable[ArchiveFile]
    ) -> Iterator[tuple[ArchiveFile, Fetched[T] | None]]:
        """Yield each file with what came of it, while the next ``at_a_time`` are fetched."""
        ahead: deque[tuple[ArchiveFile, Future[Fetched[T] | None]]] = deque()
        for file in files:
            ahead.append((file, self._pool.submit(self._fetch, file)))
            if len(ahead) > self._at_a_time:
                due, future = ahead.popleft()
                yield due, _wait_for(future)
        while ahead:  # no loop over `ahead`: what was taken must not stay in memory
            due, future = ahead.popleft()
            yield due, _wait_for(future)

    def _stand_in(
        self, month: ArchiveFile, found: Fetched[T]
    ) -> Iterator[tuple[ArchiveFile, Fetched[T] | None]]:
        """Yield daily files in place of a month that is not answered; the rest is not either."""
        notes = found.notes
        for day, answer in self._fetch_ahead(self._files.select_days(month.wanted)):
            given = answer or replace(found, span=day.wanted, notes=(), received=0)
            yield day, replace(given, notes=(*notes, *given.notes))
            notes = ()  # told once

    def _fill_gaps(
        self, month: ArchiveFile, found: Fetched[T]
    ) -> Iterator[tuple[ArchiveFile, Fetched[T] | None]]:
        """Yield a month in parts, and daily files in place of whole days absent from it.

        Monthly files that were made too early end early: what is absent at the end of the month
        is asked for in any case. So are days that monthly files are known to have wrong.
        """
        gaps, notes, received = self._find_gaps(found), found.notes, found.received
        better: dict[Span, list[tuple[ArchiveFile, Fetched[T] | None]]] = {}
        for wrong in self._files.list_mistaken(found.span):
            for part in subtract(wrong, gaps):
                [(day, answer)] = self._fetch_ahead(self._files.select_days(part))
                if answer is not None and answer.answered:
                    better[part] = [(day, answer)]
                else:
                    text = f"{month.name} is known to have {day.date} wrong, and there is no"
                    notes += (f"binance: {text} {day.name} to take it from",)
        for part in sorted([*gaps, *better, *subtract(found.span, [*gaps, *better])]):
            if part not in gaps and part not in better:
                rows = found.rows.slice(*part)
                yield month, replace(found, span=part, rows=rows, notes=notes, received=received)
                notes, received = (), 0  # told once
                continue
            why = "has wrong" if part in better else "leaves out"
            days = better.pop(part, None) or self._fetch_ahead(self._files.select_days(part))
            for day, answer in days:
                if answer is None or not len(answer.rows):
                    yield day, answer
                    continue
                count = f"{len(answer.rows)} bars that {month.name} {why}"
                notes += (*answer.notes, f"binance: {count} came from {day.name}")
                yield day, replace(answer, notes=notes)
                notes = ()

    def _find_gaps(self, month: Fetched[T]) -> list[Span]:
        """Find the spans of a month without a row for a day or longer, or up to its end."""
        times, step = self._contents.get_times(month.rows), self._contents.step
        covered: list[Span] = []
        if len(times):
            holes = [(first, end) for first, end in find_holes(times, step).tolist()]
            covered = subtract((int(times[0]), int(times[-1]) + step), holes)
        return [
            (start, end)
            for start, end in subtract(month.span, covered)
            if end - start >= DAY or end == month.span[1]
        ]

    def _fetch(self, file: ArchiveFile) -> Fetched[T] | None:
        """Fetch and read the part wanted of a file; None if the archive has no such file."""
        body = self._fetch_verified(file)
        if body is None:
            return None
        contents, origin = self._contents, self._manners.join(file.path)
        received = 0
        if isinstance(body, bytes):
            received, checksum = len(body), f"sha256:{hashlib.sha256(body).hexdigest()}"
            try:
                with self._reading:
                    rows, notes = contents.read(body, file, origin)
            except BadFileError as error:
                if not contents.sets_aside:
                    raise
                body = _Aside(error.problem)
        if isinstance(body, _Aside):
            note = f"binance {file.name}: {body.why}{self._describe_aside(file)}"
            empty = contents.empty
            return Fetched(file.wanted, empty, origin, (note,), received=received, answered=False)
        if not len(rows):
            notes = (*notes[:-1], f"{notes[-1]}{self._describe_aside(file)}")
        wanted, given = rows.slice(*file.wanted), len(rows) > 0
        return Fetched(file.wanted, wanted, origin, notes, checksum, received, answered=given)

    def _describe_aside(self, file: ArchiveFile) -> str:
        """Say what becomes of a file that is no answer yet, as the end of a note."""
        stood_in = file.is_month and self._files.has_days
        instead = ", daily files stand in for it, what they lack is" if stood_in else " and"
        return f": no answer yet, set aside{instead} asked for again by the next run"

    def _fetch_verified(self, file: ArchiveFile) -> "bytes | _Aside | None":
        """Fetch a file that equals its checksum; None if the archive has no such file.

        Where a file and its checksum differ, both are fetched again: the archive may be replacing
        them.

        Raises:
            SourceError: if they still differ at the last attempt, unless it is set aside then.
        """
        try:
            return retry(
                lambda: self._fetch_once(file),
                self._manners.join(file.path),
                self._manners,
                self._client.pause,
            )
        except SourceError as error:
            cause = error.__cause__
            if not self._contents.sets_aside or not isinstance(cause, _MismatchError):
                raise
            return _Aside(cause.problem)

    def _fetch_once(self, file: ArchiveFile) -> "bytes | _Aside | None":
        """Fetch a checksum and its file; ``PassingError`` if they differ."""
        said = self._get(f"{file.path}.CHECKSUM", 2**16)
        body = self._get(file.path, compute_size_limit(file.period, self._contents.step))
        if body is None:
            return (
                None if said is None else _Aside("the archive has its .CHECKSUM, and not the file")
            )
        if said is None:
            return _Aside("the archive has the file, and not its .CHECKSUM")
        expected = _read_digest(file.name, said)
        digest = hashlib.sha256(body).hexdigest()
        if digest == expected:
            return body
        raise _MismatchError(
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
        self.answered_at = max(self.answered_at, answer.made)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise SourceError(
                f"{self._manners.join(path)}: refused with HTTP {answer.status}, "
                f"{quote(answer.body)}: check `source.base_url`, and whether a firewall stands in "
                "between"
            )
        return answer.body


class _Aside(NamedTuple):
    """A file that is no answer yet, and why."""

    why: str


class _MismatchError(PassingError):
    """A file that differs from its checksum."""


def _wait_for(future: "Future[Fetched[T] | None]") -> Fetched[T] | None:
    """Wait for a download, and see a Ctrl-C meanwhile (``web.deadline.wait_for``)."""
    ended = Event()
    future.add_done_callback(lambda _: ended.set())
    wait_for(ended, None)
    return future.result()


def _read_digest(name: str, checksum: bytes) -> str | None:
    """Read the SHA-256 of ``name``, in lower case, from a text as ``sha256sum`` writes it.

    None if the text is of another format, or about another file.
    """
    match = re.fullmatch(rb"\s*([0-9a-fA-F]{64})\s+\*?(\S+)\s*", checksum)
    return match[1].decode().lower() if match and match[2] == name.encode() else None
