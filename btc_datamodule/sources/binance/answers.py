"""``answer``: what Binance's archive has for a span, of any type, one file after the other.

A day without a file is settled as a day without candles or records, with a note, unless it is so
recent that its file may still appear: from there on nothing is answered, so that a later run asks
again. So it is with months, where a type has no days.

That an archive says "no such file" is no evidence by itself: a mirror that is broken says so of
everything. So each run of absent files needs a *witness*, another file that the archive has by
then: the one that comes after the run; or that of the run's last day of a product that always
trades (BTCUSDT; of market cm BTCUSD_PERP); or one of the asked product of a few days ago. Then the
last file of the run is asked for once more, since a mirror that is well again by now has it.
Without a witness, or if the file is there now, the run is no answer yet, and is asked for again by
the next run of the program. All of that takes two small requests a run of absent files, and two or
three more where there is no witness. Files from before a type began, or a product was listed, are
settled by the first file that follows; those since it was delisted, by the product that trades.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Protocol, TypeVar

from btc_datamodule.candles.records import RecordSet
from btc_datamodule.candles.timeline import Span
from btc_datamodule.errors import ConfigError
from btc_datamodule.sources.base import check_path_part
from btc_datamodule.sources.binance.downloads import Contents, Dated, Downloads, Fetched
from btc_datamodule.sources.binance.files import DAY, ArchiveFile, ArchiveFiles
from btc_datamodule.sources.records import RecordBlock
from btc_datamodule.sources.web.manners import Manners

RECENT, RECENT_MONTH = 3 * DAY, 14 * DAY
"""Seconds after its end in which the file of a day, or of a month, may still appear; usual are one
or two days, and the first Monday of the next month."""

DOUBTFUL = 28 * DAY
"""Seconds without a file, and none before them, after which it is doubted that there are any."""

T = TypeVar("T", bound=Dated)


def check_arguments(
    product: str, market: str, downloads: int, markets: tuple[str, ...] = ("um", "cm")
) -> None:
    """Raise ``ConfigError`` for an argument of a source of the archive that cannot be used.

    Args:
        product: the pair or contract.
        market: one of ``files.FOLDERS``.
        downloads: files fetched at a time.
        markets: those that there are of the type.
    """
    check_path_part(product, "product")
    if market not in markets:
        raise ConfigError(f"market must be {' or '.join(markets)}, not {market!r}")
    if not 1 <= downloads <= 16:
        raise ConfigError(f"downloads must be 1 to 16 at a time, not {downloads}")


def check_contract(product: str, market: str) -> None:
    """Raise ``ConfigError`` for a product that is no contract of the coin-margined futures."""
    if market == "cm" and "_" not in product:
        raise ConfigError(
            f"product {product!r} is no contract of market cm: write one such as BTCUSD_PERP"
        )


def name_series(product: str, market: str, *more: str) -> str:
    """The folder of a series: the product, the market unless it is spot, and what it is."""
    return "-".join([product, *([] if market == "spot" else [market]), *more])


class Archive(Protocol):
    """A source of the archive."""

    @property
    def manners(self) -> Manners:
        """How the archive is asked."""
        ...

    @property
    def downloads(self) -> int:
        """Files fetched at a time."""
        ...

    @property
    def series(self) -> str:
        """What notes call it."""
        ...


def answer(
    archive: Archive, files: ArchiveFiles, contents: Contents[T], span: Span
) -> Generator[Fetched[T], None, None]:
    """Yield what came of each file, and one answer for each run of days or months without files.

    It ends before ``span`` does where days are so recent that their files are not there yet. Where
    a type has no daily files, the rest of the span comes as an answer that is none yet.

    Args:
        archive: who asks.
        files: those that the archive may have.
        contents: what they hold.
        span: half-open, epoch seconds.

    Raises:
        SourceError: if the archive cannot be reached, has no files of the product, or a file cannot
            be used and is not set aside.
        CandleError, RecordError: of reading a file.
    """
    label = f"binance {archive.series}: the archive has no {files.kind} file"
    at = yield from _answer_settled(archive, files, contents, span, label)
    if not files.has_days and at < span[1]:
        file = files.select((at, span[1]))[0]
        note = (
            f"{label} for {file.date} yet: no answer for it, nor for what comes after it, which "
            "is asked for again by the next run"
        )
        origin = f"{archive.manners.join(file.path)} absent"
        yield Fetched((at, span[1]), contents.empty, origin, (note,), answered=False)


def answer_records(
    archive: Archive, files: ArchiveFiles, contents: Contents[RecordSet], span: Span
) -> Iterator[RecordBlock]:
    """Yield what ``answer`` does as blocks of records."""
    with closing(answer(archive, files, contents, span)) as answers:
        for each in answers:
            block = RecordBlock(each.span, each.rows, *each.about)
            yield block


def _answer_settled(
    archive: Archive, files: ArchiveFiles, contents: Contents[T], span: Span, label: str
) -> Generator[Fetched[T], None, int]:
    """Yield the answers of the files that are there, or will never be; return where they end."""
    now = time.time()
    at, end = span[0], min(span[1], files.find_end(now))
    if at >= end:
        return at
    patience = RECENT if files.has_days else RECENT_MONTH
    selected = files.select((at, end))
    with Downloads(files, contents, archive.manners, archive.downloads) as downloads:
        absent: list[ArchiveFile] = []
        doubtful = True
        for file, found in downloads.fetch_in_order(selected):
            heard = min(now, downloads.answered_at)  # a fast clock here publishes nothing there
            if found is None and heard - file.period[1] < patience:
                break
            at = file.wanted[1] if found is None else found.span[1]
            doubtful = doubtful and found is None
            if found is None:
                absent.append(file)
                start = absent[0].period[0]
                if doubtful and file.period[0] - start < DOUBTFUL <= file.period[1] - start:
                    downloads.check_any_exists(selected[-3:] + files.select_recent(now))
                continue
            if absent:
                doubt = _doubt(absent, file, files, downloads)
                yield _answer_absent(absent, doubt, contents, archive.manners, label)
                absent = []
            yield found
        if absent:
            doubt = _doubt(absent, None, files, downloads)
            yield _answer_absent(absent, doubt, contents, archive.manners, label)
    return at


def _doubt(
    absent: list[ArchiveFile],
    after: ArchiveFile | None,
    files: ArchiveFiles,
    downloads: Downloads[T],
) -> str:
    """Say why absent files in a row may yet be there; "" if there is a witness against it.

    Args:
        absent: the files.
        after: the file that follows them and is there, if there is one.
        files: those that the archive may have.
        downloads: whom to ask.
    """
    last = absent[-1]
    witness = files.find_witness(last)
    others = [file for file in (after, witness) if file is not None]
    if not any(map(downloads.has, [*others, *files.select_recent(downloads.answered_at)])):
        if witness is None:
            return ", nor a later one"
        return f", nor {witness.name}, of a product that always trades"
    return f", and has {last.name} now" if downloads.has(last) else ""


def _answer_absent(
    absent: list[ArchiveFile], doubt: str, contents: Contents[T], manners: Manners, label: str
) -> Fetched[T]:
    """Make the answer, without a row, for days or months in a row that have no file.

    It settles them unless there is a ``doubt``.
    """
    first, last = absent[0].date, absent[-1].date
    text = f"for {first}" if first == last else f"from {first} to {last}"
    outcome = f": taken as without {contents.noun} (`refresh: true` asks again)"
    if doubt:
        outcome = f"{doubt}: no answer yet, asked for again by the next run"
    span = (absent[0].wanted[0], absent[-1].wanted[1])
    origin = f"{manners.join(absent[0].path)} absent"
    note = f"{label} {text}{outcome}"
    return Fetched(span, contents.empty, origin, (note,), answered=not doubt)
