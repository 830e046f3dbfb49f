"""Parts: what a source has answered, on disk as small files until all of it is merged."""

import os
import re
import time
from contextlib import suppress
from pathlib import Path

from btc_datamodule.candles.timeline import Span, format_instant, is_covered, unite
from btc_datamodule.disk.atomic import explain_write_errors
from btc_datamodule.errors import StoreError
from btc_datamodule.store.forms import AnyBlock, AnySource, find_form
from btc_datamodule.store.series_file import Header, Provenance, check_identity
from btc_datamodule.store.tail import list_files

PART_ROWS = 1 << 18
"""Rows that are gathered before they are written as a part."""

PART_SECONDS = 10.0
"""How long rows are gathered, at most, before they are written as a part."""

_NUMBER = re.compile(r"[0-9]{1,18}")
"""What parts are named by; a file of another name is not ours."""


class Parts:
    """The parts of a file. As a context manager, writes at its end what has been gathered.

    Args:
        path: the candle file, or file of records; the parts lie in a folder beside it.
        source: whose answers they are.
        interval: seconds; None of records that follow none.
        revision: ``Source.revision``, "" if it has none.
    """

    def __init__(self, path: Path, source: AnySource, interval: int | None, revision: str) -> None:
        self.path = path
        self.folder = locate_parts(path)
        self.source = source
        self.form = find_form(source)
        self.interval = interval
        self.revision = revision
        self._blocks: list[AnyBlock] = []
        self._since = time.monotonic()

    def __enter__(self) -> "Parts":
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def list_files(self) -> list[Path]:
        """The parts on disk, in the order in which they were written.

        Raises:
            StoreError: if something else lies where their folder belongs.
        """
        return list_parts(self.path)

    def read_headers(self) -> dict[Path, Header]:
        """What the parts on disk say of themselves, by their paths.

        Raises:
            StoreError: if one cannot be read, or is of another series than the file.
        """
        return {file: self._read_header(file) for file in self.list_files()}

    def read_covered(self) -> list[Span]:
        """The spans that the parts on disk have answers for."""
        return [span for header in self.read_headers().values() for span in header.covered]

    def discard(self) -> None:
        """Delete all parts, and what was half written of one; what else lies there stays."""
        with explain_write_errors(self.folder):
            for file in (*self.list_files(), *list_leftovers(self.folder, "*.h5")):
                file.unlink()
            with suppress(FileNotFoundError):
                if not any(self.folder.iterdir()):
                    self.folder.rmdir()

    def discard_merged(self, stored: Header) -> None:
        """Delete parts that a process merged into the file and was killed before deleting.

        Merged again, they would give the same rows, with their provenance twice.
        """
        when = max(file.stat().st_mtime_ns for file in list_files(self.path))
        for file, header in self.read_headers().items():
            merged = is_covered(header.covered, stored.covered)
            if merged and file.stat().st_mtime_ns < when:
                with explain_write_errors(file):
                    file.unlink()
        if not self.list_files():
            self.discard()

    def add(self, block: AnyBlock) -> None:
        """Gather a block; write the gathered blocks when they are many, or old."""
        if not self._blocks:
            self._since = time.monotonic()
        self._blocks.append(block)
        rows = sum(len(block.content) for block in self._blocks)
        if rows >= PART_ROWS or time.monotonic() - self._since >= PART_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the gathered blocks as one part."""
        if not self._blocks:
            return
        files = self.list_files()
        number = int(files[-1].stem) + 1 if files else 0
        content = self.form.concatenate([block.content for block in self._blocks])
        now = format_instant(int(time.time()))
        self.form.write(
            self.folder / f"{number:06d}.h5",
            [content],
            source=self.source.name,
            series=self.source.series,
            interval=self.interval,
            columns=content.columns,
            covered=unite(block.span for block in self._blocks),
            revision=self.revision,
            provenance=[
                Provenance(block.origin, block.span, len(block.content), now, block.checksum)
                for block in self._blocks
            ],
            compress=False,
            most_rows=len(content),
        )
        self._blocks = []

    def _read_header(self, file: Path) -> Header:
        header: Header = self.form.read_header(file)
        wanted = (self.source.name, self.source.series, self.interval)
        check_identity(file, header, wanted, f"{self.form.row}s", advice="delete it")
        return header


def locate_parts(path: Path) -> Path:
    """The folder of the parts of a candle file, or of a file of records."""
    return path.with_suffix(".parts")


def list_parts(path: Path) -> list[Path]:
    """The parts of a file on disk, in the order in which they were written.

    Raises:
        StoreError: if something else lies where their folder belongs.
    """
    folder = locate_parts(path)
    if os.path.lexists(folder) and not folder.is_dir():
        raise StoreError(
            f"{folder} is no folder, and what a source answers is kept in one of that name: move "
            "it away and run `btc-datamodule prepare` again"
        )
    return sorted(file for file in folder.glob("*.h5") if _NUMBER.fullmatch(file.stem))


def list_leftovers(folder: Path, name: str) -> list[Path]:
    """What processes that were killed while they wrote a file of ``name`` have left.

    Or what one writes just now, if it is not kept from it by a lock.
    """
    return [file for file in folder.glob(f"{name}.*.tmp") if os.path.isfile(file)]  # noqa: PTH113
