"""``Records``: records that already lie in files: on-chain data, sentiment, releases of statistics.

Receives files from ``paths``, columns from ``tables`` and their meaning from ``record_rows``, gives
back one set of records. As of candles nothing is settled in silence: what was left out is counted
in the block's notes, and a row that makes no sense is an error with the file and its number.

    Records("data/cpi.csv", time="month", known_at="released")        # revisions are later rows
    Records("data/fear_greed.csv", time="date", interval="1d", delay="1h", columns=["value"])
    Records("data/addresses.parquet", time="time", delay="10m")

Since when a value was known is what makes it fit to be learned from, and no file can be used that
does not say it, and of which its user does not.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from btc_datamodule.candles.timeline import (
    Span,
    format_interval,
    get_offset,
    parse_duration,
    parse_interval,
)
from btc_datamodule.errors import AbsentError, CandleError, ConfigError, RecordError
from btc_datamodule.progress import show_each
from btc_datamodule.public import public
from btc_datamodule.sources.base import StoredSeries, check_path_part
from btc_datamodule.sources.files.arrow_tables import ArrowReader
from btc_datamodule.sources.files.paths import (
    Paths,
    check_texts,
    check_time_format,
    check_timezone,
    find_known,
    hash_file,
    list_digests,
)
from btc_datamodule.sources.files.raw import RawTable
from btc_datamodule.sources.files.record_rows import (
    explain_name,
    join_rows,
    list_values,
    read_rows,
)
from btc_datamodule.sources.files.record_times import RecordReading
from btc_datamodule.sources.files.tables import read_tables
from btc_datamodule.sources.records import RecordBlock, RecordSource

RULES = 2
"""Of these modules; raised when the same file comes to mean something else, to read it again."""


@public
@dataclass(frozen=True)
class Records(RecordSource):
    """Records from CSV, JSON, Feather, Arrow, Parquet, Excel or HDF5 files, also packed.

    Say by ``known_at`` or by ``delay`` since when a value was known: it enters a row once it was,
    and without either nobody can tell.

    Attributes:
        path: one file, a folder, a glob pattern, or several of them, read together as one series;
            see ``CandleFile``.
        time: name of the column of the instant that a record is about; with ``interval`` the
            beginning of the period. A date without a time of day is the beginning of that day, and
            a month (2019-11, Nov 2019) or quarter (2019Q4) its first day.
        known_at: name of the column of the instant at which it was published. A date without a
            time of day, or one that is midnight in every row and names no zone, is the end of that
            day, UTC or of ``timezone``: the next midnight; a month or quarter is its end too. Rows
            of one time with a later one are revisions.
        delay: length of time such as "15m", "1h" or "1d" ("0s" for none) after the time, with
            ``interval`` after the end of the period, at which a value was known; after the end of a
            month or quarter, where ``time`` is one.
        columns: names of the columns of values; none for all that hold numbers alone, as they are
            in the first file when the source is made. They are words, as features name them: case,
            spaces and punctuation are no part of the name in the file. A blank cell is no value
            (NaN), and so is a dash, a point, NA or null.
        interval: length of the period that a record is about, such as "1d", or seconds, on whose
            grid all times lie; none where they follow no grid.
        covers: length of time before its time that a record tells of, such as "8h", or seconds.
        product: name of the folder for this series; see ``CandleFile``.
        dataset: path of the dataset or group inside HDF5 files.
        time_format: how times are written, as of ``strptime``, such as "%d/%m/%Y %H:%M". If no
            cell of one of the two columns of times is written so, that one is read without it.
        timezone: of times that name none, such as "America/New_York"; UTC by default. Of an hour
            that clocks show twice ``known_at`` is the second.
        decimal: what parts decimals, where 84.350 could be thousands.

    Times are whole seconds: fractions are rounded down in ``time``, and up in ``known_at``.

    Raises:
        ConfigError: if an argument is wrong.
        SourceError: if no ``columns`` are named, and the file cannot be read.
    """

    path: str | Sequence[str | os.PathLike[str]] | os.PathLike[str]
    time: str
    known_at: str | None = None
    delay: str | None = None
    columns: tuple[str, ...] = ()
    interval: str | int | None = None  # type: ignore[assignment]  # a number once it is made
    covers: str | int = 0  # type: ignore[assignment,misc]  # so is this
    product: str | None = None
    dataset: str | None = None
    time_format: str | None = None
    timezone: str | None = None
    decimal: Literal[".", ","] | None = None

    name: ClassVar[str] = "records"

    def __post_init__(self) -> None:
        paths = Paths.of(self.path)
        several = not isinstance(self.path, str | os.PathLike)  # plain, as a checkpoint keeps it
        self._set("path", list(paths.patterns) if several else paths.patterns[0])
        self._set("_paths", paths)
        check_texts(self, ("known_at", "product", "dataset", "time_format", "timezone"))
        if not isinstance(self.time, str) or not self.time:
            raise ConfigError(f"time is {self.time!r}: name the column of times")
        if (self.known_at is None) == (self.delay is None):
            given = "neither is" if self.delay is None else "both are"
            raise ConfigError(
                f"known_at and delay: {given} given, and one is needed: a value enters once it was "
                "known, and nobody can tell when without `known_at`, the column of when it was "
                'published, or `delay`, such as "1h", how long after its time it was'
            )
        if self.delay is not None and not isinstance(self.delay, str):
            raise ConfigError(
                f'delay is {self.delay!r}: give a length of time with its unit, such as "3h"'
            )
        if self.product is not None:
            check_path_part(self.product, "product")
        if self.decimal not in (None, ".", ","):
            raise ConfigError(f"decimal is {self.decimal!r}: choose a point or a comma")
        if self.time_format is not None:
            check_time_format(self.time_format)
        if self.timezone is not None:
            check_timezone(self.timezone)
        self._set("interval", _parse_interval(self.interval))
        self._set("covers", _parse_length(self.covers, "covers"))
        _ = self._reading
        self._set("columns", self._find_columns())

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
        return self._compute_revision(self._files.hash())

    def recognise(self, stored: Iterable[StoredSeries]) -> RecordSource:
        """This source under the name of a stored series of the same content and settings.

        See ``CandleFile.recognise``.

        Raises:
            ConfigError: if it may be several.
        """
        if self.product is not None:
            return self
        series = find_known(
            stored, lambda: self.revision, self._may_be, self._files.label, "product"
        )
        if series is None:
            return self
        known = copy(self)
        known._set("product", series)
        return known

    def find_missing(self, revision: str, origin: str, checksum: str) -> list[str]:
        """Files that are gone, where all that is left is as stored; see ``CandleFile``."""
        stored = list_digests(checksum)
        if revision != self._compute_revision(stored):
            return []
        return self._files.list_gone(stored, origin)

    def blocks(self, span: Span) -> Iterator[RecordBlock]:
        """Yield one block with every record of all files; its span is theirs.

        Args:
            span: records of times at or after its end are yet to come, and left out.

        Raises:
            SourceError: if a file is missing or damaged, or lacks a column.
            RecordError: naming the first row that is no record.
        """
        files = self._files.find()
        with ArrowReader() as arrow:
            rows = [
                read_rows(table, self._reading, self.columns, span[1], where)
                for path in show_each(files, "files")
                for where, table in self._read_tables(path, arrow)
            ]
        records, notes = join_rows(rows, self._files.label)
        start, last = records.span
        yield RecordBlock(
            (start, last - 1 + (self._reading.interval or 1)),
            records,
            ", ".join(f"file {path.name}" for path in files),
            notes,
            ", ".join(f"sha256:{hash_file(path)}" for path in files),
        )

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def _files(self) -> Paths:
        """``path``, from where it was given."""
        paths: Paths = vars(self)["_paths"]
        return paths

    @property
    def _reading(self) -> RecordReading:
        return RecordReading(
            self.time,
            self.known_at,
            0 if self.delay is None else _parse_length(self.delay, "delay"),
            int(self.interval or 0),
            self.time_format,
            self.timezone,
            self.decimal,
        )

    def _find_columns(self) -> tuple[str, ...]:
        """The names in ``columns``, or of all columns of the first file that are numbers."""
        given = self.columns
        if not isinstance(given, list | tuple) or not all(isinstance(each, str) for each in given):
            raise ConfigError(f"columns is {given!r:.200}: it must be a list of names")
        for name in given:
            problem = explain_name(name)
            if problem:
                raise ConfigError(f"columns: {problem}")
        if len(set(given)) < len(given):
            raise ConfigError(f"columns: {', '.join(given)}: one stands there more than once")
        if given:
            return tuple(given)
        try:
            first = self._files.find()[0]
            if not first.is_file():
                raise AbsentError(f"{first}: no such file, check `path`")
        except AbsentError as error:
            raise AbsentError(
                f"{error}; or name its `columns`, so that what is stored of it can be used"
            ) from None
        with ArrowReader() as arrow:
            where, table = self._read_tables(first, arrow)[0]
        return list_values(table, self._reading, where)

    def _read_tables(self, path: Any, arrow: ArrowReader) -> list[tuple[str, RawTable]]:
        names = [self.time, *([] if self.known_at is None else [self.known_at]), *self.columns]
        try:
            return read_tables(
                path, arrow, dataset=self.dataset, symbol=None, drop_invalid=False, names=names
            )
        except CandleError as error:
            problem, _, _ = str(error).partition(": set `source.drop_invalid")
            raise RecordError(f"{problem}: mend that row") from None

    def _may_be(self, stored: StoredSeries) -> bool:
        """Whether a stored series was read from files of this name, with these settings."""
        named = re.fullmatch(rf"{re.escape(self._files.stem)}-[0-9a-f]{{8}}", stored.series)
        digests = list_digests(", ".join(stored.checksums))
        return named is not None and stored.revision == self._compute_revision(digests)

    def _compute_revision(self, digests: list[str]) -> str:
        return hashlib.sha256(b"%d" % RULES + self._encode_settings(digests)).hexdigest()

    def _encode_settings(self, files: list[str]) -> bytes:
        settings = [files, *self._reading, self.columns, self.dataset]
        return json.dumps(settings).encode()


def _parse_length(given: Any, argument: str) -> int:
    """Seconds of a length of time, given as a text or as seconds."""
    if given == "0s" or (type(given) is int and given >= 0):
        return int(str(given).removesuffix("s"))
    try:
        return parse_duration(given)
    except ConfigError:
        raise ConfigError(
            f'{argument} {given!r} is no length of time such as 15m, 1h or 1d, nor "0s" for none'
        ) from None


def _parse_interval(given: Any) -> int | None:
    """Seconds of an interval, given as a text or as seconds."""
    if given is None:
        return None
    interval = parse_interval(format_interval(given) if type(given) is int else given)
    if get_offset(interval) != get_offset(int(interval)):
        raise ConfigError(
            f"interval {given!r}: records on a grid of their own follow none here: leave it out, "
            "and let `delay` count from the beginning of the period, its length included"
        )
    return int(interval)
