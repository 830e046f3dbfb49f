"""Parts: what a source has answered, on disk as small candle files until all of it is merged."""

import shutil
import time
from pathlib import Path

from btc_datamodule.candles.series import concatenate
from btc_datamodule.candles.timeline import Span, format_instant, is_covered, unite
from btc_datamodule.disk.atomic import explain_write_errors
from btc_datamodule.sources.base import Block, Source
from btc_datamodule.store.candle_file import Header, Provenance, read_header, write_candles

PART_ROWS = 1 << 18
"""Candles that are gathered before they are written as a part."""

PART_SECONDS = 10.0
"""How long candles are gathered, at most, before they are written as a part."""


class Parts:
    """The parts of a candle file. As a context manager, writes at its end what has been gathered.

    Args:
        path: the candle file; the parts lie in a folder beside it.
        source: whose answers they are.
        interval: seconds.
        revision: ``Source.revision``, "" if it has none.
    """

    def __init__(self, path: Path, source: Source, interval: int, revision: str) -> None:
        self.path = path
        self.folder = path.with_suffix(".parts")
        self.source = source
        self.interval = interval
        self.revision = revision
        self._blocks: list[Block] = []
        self._since = time.monotonic()

    def __enter__(self) -> "Parts":
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def list_files(self) -> list[Path]:
        """The parts on disk, in the order in which they were written."""
        return sorted(self.folder.glob("*.h5"))

    def read_covered(self) -> list[Span]:
        """The spans that the parts on disk have answers for."""
        return [span for file in self.list_files() for span in read_header(file).covered]

    def discard(self) -> None:
        """Delete all parts."""
        if self.folder.exists():
            with explain_write_errors(self.folder):
                shutil.rmtree(self.folder)

    def discard_merged(self, stored: Header) -> None:
        """Delete parts that a process merged into the candle file and was killed before deleting.

        Merged again, they would give the same candles, with their provenance twice.
        """
        when = self.path.stat().st_mtime_ns
        for file in self.list_files():
            merged = is_covered(read_header(file).covered, stored.covered)
            if merged and file.stat().st_mtime_ns < when:
                with explain_write_errors(file):
                    file.unlink()
        if not self.list_files():
            self.discard()

    def add(self, block: Block) -> None:
        """Gather a block; write the gathered blocks when they are many, or old."""
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
        files = self.list_files()
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
            covered=unite(block.span for block in self._blocks),
            revision=self.revision,
            provenance=[
                Provenance(block.origin, block.span, len(block.candles), now, block.checksum)
                for block in self._blocks
            ],
            compress=False,
        )
        self._blocks = []
