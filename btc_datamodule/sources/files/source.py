"""``CandleFile``: candles that already lie in files, as exchanges and data shops hand them out.

Receives files from ``paths``, columns from ``tables`` and their meaning from ``values``, gives back
one checked series, sorted, each bar once. It promises that nothing is settled in silence: what was
left out or repaired is counted in the block's notes, and a row that makes no sense is an error with
the file and the row's number (in a text file, its line).

    CandleFile("data/XBTUSD_60.csv", columns="kraken")
    CandleFile("data/BTCUSDT-1h-*.csv")                     # several files, one series
    CandleFile("data/candles.h5", dataset="BTC-USD/1h")

docs/files.md says what is recognised by itself, and what to say where it is not.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import ClassVar, Literal

from btc_datamodule.candles.timeline import Span
from btc_datamodule.errors import ConfigError
from btc_datamodule.progress import show_each
from btc_datamodule.public import public
from btc_datamodule.sources.base import Block, Source, StoredSeries
from btc_datamodule.sources.files.arrow_tables import ArrowReader
from btc_datamodule.sources.files.choices import (
    Columns,
    check_choices,
    list_later,
    make_reading,
    parse_columns,
)
from btc_datamodule.sources.files.joining import join_bars
from btc_datamodule.sources.files.markets import AbsentSymbolError
from btc_datamodule.sources.files.paths import (
    Paths,
    check_texts,
    find_known,
    hash_file,
    list_digests,
)
from btc_datamodule.sources.files.tables import HDF5_SUFFIXES, has_suffix, read_tables
from btc_datamodule.sources.files.values import Bars, read_bars

RULES = 3
"""Of these modules; raised when the same file comes to mean something else, to read it again."""


@public
@dataclass(frozen=True)
class CandleFile(Source):
    """Candles from CSV, JSON, Feather, Arrow, Parquet, Excel or HDF5 files, also packed.

    Attributes:
        path: one file, a folder, a glob pattern, or several of them, read together as one series.
            A relative one counts from the working directory as it is when the source is made.
        columns: which column is which, where the file does not say, or says something else: a list
            of names from ``candles.series.COLUMNS`` in the order of the file, "ignore" for a column
            to leave out; or such names by the file's own, ``{"Vol": "quote_volume"}``; or the
            layout of an exchange: kraken, bitfinex, coinbase or binance.
        dataset: path of the dataset or group inside HDF5 files, such as "BTC-USD/1h".
        product: name of the folder for this series; by default the file's name and a digest of
            path and settings, so that two files never mix. A file that was renamed or moved is
            known by its content.
        symbol: which market, where a file holds several, such as "BTC/USD".
        time_format: how times are written, as of ``strptime``, such as "%d/%m/%Y %H:%M".
        timezone: of times that name none, such as "Europe/Berlin"; UTC by default.
        stamp: whether a time is the open or the close of its bar; by default what names and times
            tell, and else open.
        decimal: what parts decimals, where 84.350 could be thousands.
        drop_invalid: leave out bars that are no candles (high < low, a negative price), with a
            note that counts them, in place of an error.

    Raises:
        ConfigError: if an argument is wrong.
    """

    path: str | Sequence[str | os.PathLike[str]] | os.PathLike[str]
    columns: Columns | None = None
    dataset: str | None = None
    product: str | None = None
    symbol: str | None = None
    time_format: str | None = None
    timezone: str | None = None
    stamp: Literal["open", "close"] | None = None
    decimal: Literal[".", ","] | None = None
    drop_invalid: bool = False

    name: ClassVar[str] = "file"

    def __post_init__(self) -> None:
        paths = Paths.of(self.path)
        several = not isinstance(self.path, str | os.PathLike)  # plain, as a checkpoint keeps it
        object.__setattr__(self, "path", list(paths.patterns) if several else paths.patterns[0])
        object.__setattr__(self, "_paths", paths)
        check_texts(self, ("dataset",))
        check_choices(self)
        if self.dataset is not None and not any(
            has_suffix(pattern, HDF5_SUFFIXES) or not has_suffix(pattern)
            for pattern in paths.patterns
        ):
            raise ConfigError(
                f"`dataset` {self.dataset!r} is for HDF5 files, and `path` names none: leave it out"
            )

    @property
    def series(self) -> str:
        """``product``, or the file's name and eight digits that tell the settings apart."""
        if self.product is not None:
            return self.product
        digest = hashlib.sha256(self._encode_settings(self._files.resolve())).hexdigest()
        return f"{self._files.stem}-{digest[:8]}"

    @property
    def revision(self) -> str:
        """SHA-256 over the content of all files and the settings that they are read with.

        Raises:
            AbsentError: if a file is not there.
            SourceError: if one cannot be read.
        """
        return self._compute_revision(self._files.hash(), RULES)

    def recognise(self, stored: Iterable[StoredSeries]) -> Source:
        """This source under the name of a stored series of the same content and settings.

        Where the files are gone, of one that was read from files of the same name with the same
        settings, if all such have the same content.

        Raises:
            ConfigError: if they have not: which is meant is not to be guessed.
        """
        if self.product is not None:
            return self
        series = find_known(
            stored, lambda: self.revision, self._may_be, self._files.label, "source.product"
        )
        if series is None:
            return self
        known = copy(self)
        object.__setattr__(known, "product", series)
        return known

    def _may_be(self, stored: StoredSeries) -> bool:
        """Whether a stored series was read from files of this name, with these settings."""
        named = re.fullmatch(rf"{re.escape(self._files.stem)}-[0-9a-f]{{8}}", stored.series)
        digests = list_digests(", ".join(stored.checksums))
        rules = range(1, RULES + 1)  # read by an earlier version too
        made = {self._compute_revision(digests, number) for number in rules}
        return named is not None and stored.revision in made

    def find_missing(self, revision: str, origin: str, checksum: str) -> list[str]:
        """Files of a folder or pattern that are gone, where all that is left is as it was stored.

        Args:
            revision: that of this source when it was stored.
            origin: of the block that was stored.
            checksum: of that block.

        Returns:
            Their names; empty if none is gone, or something else has changed too.
        """
        stored = list_digests(checksum)
        if revision not in {self._compute_revision(stored, each) for each in range(1, RULES + 1)}:
            return []
        return self._files.list_gone(stored, origin)

    def _compute_revision(self, digests: list[str], rules: int) -> str:
        return hashlib.sha256(b"%d" % rules + self._encode_settings(digests)).hexdigest()

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        """Yield one block with every closed bar of all files; its span is theirs.

        Shorter bars than asked for are joined to such.

        Args:
            interval: seconds.
            span: bars that open at or after its end are not closed yet, and left out.

        Raises:
            SourceError: if a file is missing or damaged, or its columns cannot be told.
            CandleError: naming the first row that is no candle.
        """
        reading = make_reading(self)
        files = self._files.find()
        bars: list[Bars] = []
        absent: AbsentSymbolError | None = None
        with ArrowReader() as arrow:
            for path in show_each(files, "files"):
                for where, table in read_tables(
                    path,
                    arrow,
                    dataset=self.dataset,
                    symbol=self.symbol,
                    drop_invalid=self.drop_invalid,
                ):
                    try:
                        bars.append(read_bars(table, reading, interval, span[1], where))
                    except AbsentSymbolError as error:  # another file may have it
                        absent = error
        if absent is not None and not bars:
            raise absent
        candles, notes = join_bars(
            bars, interval, self._files.label, drop_invalid=self.drop_invalid
        )
        origin = ", ".join(f"file {path.name}" for path in files)
        checksums = ", ".join(f"sha256:{hash_file(path)}" for path in files)
        yield Block(candles.span, candles, origin, notes, checksums)

    @property
    def _files(self) -> Paths:
        """``path``, from where it was given."""
        paths: Paths = vars(self)["_paths"]
        return paths

    def _encode_settings(self, files: list[str]) -> bytes:
        settings: list[object] = [files, parse_columns(self.columns), self.dataset]
        more = list_later(self)
        return json.dumps([*settings, more] if more else settings).encode()
