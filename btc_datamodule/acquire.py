"""Bring the candle file up to what was asked: fetch what is missing, merge, replace.

The one way from a source to ``candles.h5``. While a source answers, the answers are kept as
small candle files of their own (*parts*) beside the candle file; at the end the candle file and
its parts are merged in bounded memory into a new candle file, which replaces the old one. A run
that was killed leaves its parts, and the next one goes on from them. One process at a time does
this for a series; the others wait for it.
"""

import logging
import os
import shutil
import socket
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from btc_datamodule.candles import Candles, concatenate, empty, merge
from btc_datamodule.disk import writable
from btc_datamodule.errors import ConfigError, SourceError, StoreError
from btc_datamodule.sources.base import Block, Source
from btc_datamodule.store import (
    BLOCK_ROWS,
    CandleReader,
    Header,
    Provenance,
    read_header,
    write_candles,
)
from btc_datamodule.timeline import Span, ceil_to, floor_to, format_instant, subtract, union

PART_ROWS = 1 << 18
PART_SECONDS = 10.0
PATIENCE_SECONDS = 2.0
"""How long to wait for another writer before saying so."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Update:
    """What an update found.

    Attributes:
        header: of the candle file as it is now.
        added: candles that were not stored before.
        notes: what a person should read, one sentence each.
    """

    header: Header
    added: int
    notes: tuple[str, ...]


def series_folder(data_dir: Path, source: Source, interval_text: str) -> Path:
    """Where everything of one series and interval lies."""
    return data_dir / source.name / source.series / interval_text


def update(
    path: Path,
    source: Source,
    interval: int,
    start: int | None,
    end: int | None,
    *,
    refresh: bool = False,
    lock_timeout: float = 3600.0,
) -> Update:
    """Make the candle file at ``path`` hold the source's candles for [start, end).

    Only spans that the file has no answer for yet are fetched. Nothing stored is ever dropped.

    Args:
        path: the candle file; it need not exist.
        source: whom to ask.
        interval: seconds.
        start: first instant wanted; None for as early as the source has.
        end: instant past the last one wanted; None for up to the latest closed bar.
        refresh: ask again for the whole span, and let answers replace stored candles.
        lock_timeout: seconds to wait for another process that updates the same file.

    Raises:
        SourceError: if the source cannot answer. What it had answered before is kept.
        StoreError: if the file is damaged or cannot be written, or the lock was not to be had in
            time. What is stored stays as it is.
    """
    source.check_interval(interval)
    latest = floor_to(time.time(), interval)
    asked = (
        ceil_to(source.first if start is None else max(start, source.first), interval),
        latest if end is None else min(ceil_to(end, interval), latest),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the folder {path.parent} cannot be made ({error.strerror}): change `data_dir`"
        ) from None
    with _only_writer(path, lock_timeout):
        return _update_locked(path, source, interval, asked, refresh)


@contextmanager
def _only_writer(path: Path, timeout: float) -> Iterator[None]:
    """Hold the series' lock, with a note of who holds it for those who wait in vain."""
    lock = FileLock(path.with_suffix(".lock"))
    note = path.with_suffix(".holder")

    def holder() -> str:
        return (note.read_text() if note.exists() else "") or "another process"

    try:
        with writable(Path(lock.lock_file)):
            lock.acquire(timeout=min(timeout, PATIENCE_SECONDS))
    except Timeout:
        _log.warning("waiting for %s, which holds %s", holder(), lock.lock_file)
        try:
            lock.acquire(timeout=max(0.0, timeout - PATIENCE_SECONDS))
        except Timeout:
            raise StoreError(
                f"{lock.lock_file} has been held for {timeout:.0f} s by {holder()}: wait for "
                "that process, or stop it"
            ) from None
    try:
        since = format_instant(int(time.time()))
        with suppress(OSError):  # a courtesy, for which a full disk may have no room
            note.unlink(missing_ok=True)  # of a process that was killed
            note.write_text(f"process {os.getpid()} on {socket.gethostname()} since {since}")
        yield
    finally:
        with suppress(OSError):
            note.unlink(missing_ok=True)
        lock.release()


def _update_locked(path: Path, source: Source, interval: int, asked: Span, refresh: bool) -> Update:
    with writable(path):
        for leftover in path.parent.glob(f"{path.name}.*.tmp"):
            leftover.unlink()
    revision = source.revision  # once, and before reading: for files it reads them whole
    parts = _Parts(path, source, interval, revision or "")
    stored = read_header(path) if path.exists() else None
    if stored:
        parts.discard_merged(stored)
    if revision is None:
        known = [*(stored.covered if stored else ()), *parts.covered()]
    else:  # read whole or not at all: what an interrupted reading left is read again
        parts.discard()
        asked = (0, floor_to(time.time(), interval))
        known = [asked] if stored and stored.revision == revision else []
    missing = [asked] if refresh and asked[0] < asked[1] else subtract(asked, known)
    notes: list[str] = []
    with parts:
        for span in missing:
            total = None if revision else (span[1] - span[0]) // interval
            with _ended(source.blocks(interval, span)) as blocks:
                for block in _with_progress(blocks, total, interval, source):
                    _check_block(block, source, interval)
                    parts.add(block)
                    notes += block.notes
    if parts.files() or stored is None:
        notes += _commit(path, parts, refresh)
    header = read_header(path)
    return Update(header, header.rows - (stored.rows if stored else 0), tuple(notes))


class _Parts:
    """Answers that are on disk but not in the candle file yet. As a context manager, flushes."""

    def __init__(self, path: Path, source: Source, interval: int, revision: str) -> None:
        self.path = path
        self.folder = path.with_suffix(".parts")
        self.source = source
        self.interval = interval
        self.revision = revision
        self._blocks: list[Block] = []
        self._since = time.monotonic()

    def __enter__(self) -> "_Parts":
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def files(self) -> list[Path]:
        return sorted(self.folder.glob("*.h5"))

    def covered(self) -> list[Span]:
        return [span for file in self.files() for span in read_header(file).covered]

    def discard(self) -> None:
        """Forget what is on disk."""
        if self.folder.exists():
            with writable(self.folder):
                shutil.rmtree(self.folder)

    def discard_merged(self, stored: Header) -> None:
        """Forget what a process merged into the candle file and was killed before forgetting.

        Merged again, it would be the same candles, with their provenance twice.
        """
        when = self.path.stat().st_mtime_ns
        for file in self.files():
            merged = not any(subtract(span, stored.covered) for span in read_header(file).covered)
            if merged and file.stat().st_mtime_ns < when:
                with writable(file):
                    file.unlink()
        if not self.files():
            self.discard()

    def add(self, block: Block) -> None:
        """Take a block; now and then write what has gathered."""
        if not self._blocks:
            self._since = time.monotonic()
        self._blocks.append(block)
        rows = sum(len(block.candles) for block in self._blocks)
        if rows >= PART_ROWS or time.monotonic() - self._since >= PART_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the gathered blocks as one part."""
        if not self._blocks:
            return
        files = self.files()
        number = int(files[-1].stem) + 1 if files else 0
        candles = concatenate([block.candles for block in self._blocks])
        now = format_instant(int(time.time()))
        write_candles(
            self.folder / f"{number:06d}.h5",
            [candles],
            source=self.source.name,
            series=self.source.series,
            interval=self.interval,
            columns=candles.columns,
            covered=union(block.span for block in self._blocks),
            revision=self.revision,
            provenance=[
                Provenance(block.origin, block.span, len(block.candles), now, block.checksum)
                for block in self._blocks
            ],
            compress=False,
        )
        self._blocks = []


@contextmanager
def _ended(blocks: Iterator[Block]) -> Iterator[Iterator[Block]]:
    """End a generator in any case, so that no download goes on after an error."""
    try:
        yield blocks
    finally:
        if isinstance(blocks, Generator):
            blocks.close()


def _check_block(block: Block, source: Source, interval: int) -> None:
    inside = len(block.candles.slice(*block.span)) == len(block.candles)
    if block.candles.interval != interval or not inside:
        raise SourceError(
            f"{source.name} broke its contract: a block for {format_instant(block.span[0])} to "
            f"{format_instant(block.span[1])} holds candles outside it, or of another interval"
        )


def _with_progress(
    blocks: Iterator[Block], total: int | None, interval: int, source: Source
) -> Iterator[Block]:
    """Pass blocks on and show one bar for all on a terminal; silent elsewhere."""
    from tqdm import tqdm

    label = f"{source.name} {source.series}"
    received = 0
    with tqdm(total=total, desc=label, unit=" bars", unit_scale=True, disable=None) as bar:
        for count, block in enumerate(blocks, start=1):
            yield block
            received += block.received
            if received:
                bar.set_postfix_str(f"{count:,} answers, {received / 1e6:,.1f} MB", refresh=False)
            bar.update((block.span[1] - block.span[0]) // interval)


def _commit(path: Path, parts: _Parts, refresh: bool) -> list[str]:
    """Merge the candle file and its parts into a new candle file; drop the parts."""
    source, interval = parts.source, parts.interval
    files = [path, *parts.files()] if path.exists() else parts.files()
    changed: list[int] = []
    with ExitStack() as stack:
        readers = [stack.enter_context(CandleReader(file)) for file in files]
        headers = [reader.header for reader in readers]
        write_candles(
            path,
            _merged(readers, interval, refresh, changed),
            source=source.name,
            series=source.series,
            interval=interval,
            columns={name for header in headers for name in header.columns},
            covered=union(span for header in headers for span in header.covered),
            revision=parts.revision,
            provenance=_joined([record for header in headers for record in header.provenance]),
        )
    parts.discard()
    if not changed:
        return []
    what = "replaced" if refresh else "kept as stored; `refresh: true` takes the new values"
    return [
        f"{source.name} {source.series}: {len(changed)} candles came back different from what "
        f"is stored, the first at {format_instant(changed[0])}: {what}"
    ]


def _merged(
    readers: list[CandleReader], interval: int, refresh: bool, changed: list[int]
) -> Iterator[Candles]:
    """The union of the files in order of time, in windows of ``BLOCK_ROWS`` bars.

    Earlier files win over later ones, or later ones if ``refresh``; the open times at which
    they disagree are appended to ``changed``.
    """
    spans = [reader.header.span for reader in readers if reader.header.rows]
    step = BLOCK_ROWS * interval
    starts = sorted(
        {
            window
            for start, end in spans
            for window in np.arange(floor_to(start, step), end, step).tolist()
        }
    )
    for start in starts:
        block = empty(interval)
        for reader, header in ((reader, reader.header) for reader in readers):
            if header.rows and header.span[0] < start + step and start < header.span[1]:
                block, differing = merge(block, reader.slice(start, start + step), refresh)
                changed += differing.tolist()
        if len(block):
            yield block


def _joined(records: list[Provenance]) -> list[Provenance]:
    """Records with neighbours of the same origin made one, so that pages do not pile up."""
    joined: list[Provenance] = []
    for record in records:
        last = joined[-1] if joined else None
        same = last and (last.origin, last.checksum) == (record.origin, record.checksum)
        if last and same and last.span[1] == record.span[0]:
            joined[-1] = replace(
                record, span=(last.span[0], record.span[1]), rows=last.rows + record.rows
            )
        else:
            joined.append(record)
    return joined
