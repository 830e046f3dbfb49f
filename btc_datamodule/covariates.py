"""Covariates: the series beside the candles, as a user gives them, checked and located.

``parse_covariates`` makes of the mapping ``covariates`` of a ``BTCDataModule`` one ``Covariate``
each: whose rows they are, on which clock, where they are stored, and how old a value may be.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from btc_datamodule.candles.joining import can_join
from btc_datamodule.candles.series import COLUMNS
from btc_datamodule.candles.timeline import (
    Interval,
    format_interval,
    get_offset,
    parse_interval,
)
from btc_datamodule.checks import name_type, unwrap
from btc_datamodule.errors import ConfigError, SourceError, retell
from btc_datamodule.features.beside import AGE, TIMES, Beside, check_series_name
from btc_datamodule.features.clocks import StoredBeside
from btc_datamodule.features.feature import Feature
from btc_datamodule.sources.answering import check_declaration
from btc_datamodule.sources.base import Source
from btc_datamodule.sources.records import RecordSource
from btc_datamodule.sources.resampled import Resampled
from btc_datamodule.sources.resampling import choose_base
from btc_datamodule.store.candle_file import read_header
from btc_datamodule.store.forms import find_form
from btc_datamodule.store.locating import (
    check_there,
    find_record_source,
    find_source,
    locate_candles,
    locate_records,
)
from btc_datamodule.store.series_file import Header

DAY = 86_400
"""How far apart records without an interval are taken to be, where they do not say."""

OLDEST = 2
"""A value is too old after as many intervals of its series, unless ``max_age`` says otherwise."""


@dataclass(frozen=True)
class Covariate:
    """A series beside the candles.

    Attributes:
        given: what it was given as.
        beside: what features may know of it before it is read.
        source: whose candles or records are stored for it; None for those of the main candles.
        stored: interval of the stored candles; None of records.
        max_fill: bars of each hole, from its first, that are filled.
    """

    given: Source | RecordSource | Resampled
    beside: Beside
    source: Source | RecordSource | None
    stored: Interval | None
    max_fill: int

    def __str__(self) -> str:
        max_age = self.beside.max_age
        age = "any age" if max_age is None else f"at most {format_interval(max_age)} old"
        return f"{self.name}: {self.clock}, {age}"

    @property
    def clock(self) -> str:
        """How its rows follow each other: their interval, or that they have none."""
        interval = self.beside.interval
        return "records" if interval is None else format_interval(interval)

    @property
    def name(self) -> str:
        """By which features name it."""
        return self.beside.name

    @property
    def argument(self) -> str:
        """Which argument its source is, as errors write it: ``covariates.eth``."""
        of = self.given.of if isinstance(self.given, Resampled) else None
        if of is None or isinstance(of, str):
            return f"covariates.{of or self.name}"
        return f"covariates.{self.name}.of"

    @property
    def is_joined(self) -> bool:
        """Whether its rows are joined from shorter bars."""
        return self.stored is not None and self.stored != self.beside.interval

    def recognise_source(self, data_dir: Path) -> "Source | RecordSource | None":
        """The source, under the name by which it is stored; None for that of the main candles."""
        if isinstance(self.source, Source):
            assert self.stored is not None
            return find_source(data_dir, self.source, format_interval(self.stored))
        return None if self.source is None else find_record_source(data_dir, self.source)

    def locate(self, data_dir: Path, candle_path: Path) -> Path:
        """Its candle file, or file of records.

        Args:
            data_dir: folder of the HDF5 files.
            candle_path: that of the main candles.
        """
        source = self.recognise_source(data_dir)
        if isinstance(source, RecordSource):
            return locate_records(data_dir, source)
        if source is None:
            return candle_path
        assert self.stored is not None
        return locate_candles(data_dir, source, format_interval(self.stored))

    def read_header(self, data_dir: Path, candle_path: Path) -> Header:
        """What its file says of itself; of one that is that of the main candles, whose they are.

        Raises:
            NotPreparedError: if there is none.
            StoreError: if it is damaged, or holds another series than that of ``source``.
        """
        path, source = self.locate(data_dir, candle_path), self.recognise_source(data_dir)
        check_there(path, self.name)
        if source is None:
            return read_header(path)
        form = find_form(source)
        header: Header = form.read_header(path)
        interval = source.interval if isinstance(source, RecordSource) else self.stored
        form.check_series(path, header, source.name, source.series, interval)
        return header

    def to_stored(self, data_dir: Path, candle_path: Path) -> StoredBeside:
        """What building a feature file needs to know of it."""
        path = self.locate(data_dir, candle_path)
        return StoredBeside(
            self.beside, path, self.stored if self.is_joined else None, self.max_fill
        )

    def find_start(
        self, start: int, features: Iterable[Feature], covariates: Iterable["Covariate"]
    ) -> int:
        """From when on its rows are wanted, for features of bars from ``start`` on.

        Args:
            start: epoch seconds.
            features: all that there are.
            covariates: all that there are: beside one of them its rows are wanted as far back as
                the rows of that are.
        """
        reach = self._find_reach(1)
        others = {each.name: each for each in covariates}
        for feature in features:
            if feature.series == self.name:
                reach = max(reach, self._find_reach(feature.lookback))
            elif feature.series and self.name in feature.beside:
                first = others[feature.series]._find_reach(feature.lookback)
                reach = max(reach, first + self._find_reach(1))
        return max(0, start - reach)

    def _find_reach(self, rows: int) -> int:
        """Seconds before an instant at which so many of its rows begin, old as they may be."""
        step = self.beside.interval or max(self.beside.covers, DAY)
        return rows * step + (self.beside.max_age or step) + self.beside.covers


AS_COVARIATE = (
    "which stands beside candles: give it in `covariates`, under a name of your own, and a source "
    "of candles as `source`"
)
"""What a covariate is in the place of the candles."""


def explain_beside(thing: Any) -> str | None:
    """The end of an error on a ``source`` that can be a covariate alone; None if it cannot."""
    kind = thing if isinstance(thing, type) else type(thing)
    return (
        f"{kind.__name__}, {AS_COVARIATE}" if issubclass(kind, RecordSource | Resampled) else None
    )


def parse_covariates(
    given: Any, max_age: Any, *, interval: Interval, max_fill: int
) -> tuple[Covariate, ...]:
    """The covariates of the arguments of a ``BTCDataModule``.

    Args:
        given: ``covariates``: a mapping from names to sources, or None.
        max_age: a mapping from some of these names to texts such as "2h", or None.
        interval: of the main candles.
        max_fill: bars of each hole that are filled.

    Raises:
        ConfigError: for the first that is wrong on the face of it, by its name.
        SourceError: if a source has no bars of the interval, nor any to join.
    """
    given = _read_mapping("covariates", given, "eth: {class_path: Coinbase, ...}")
    ages = _read_mapping("max_age", max_age, "funding: 8h")
    for name in ages.keys() - given.keys():
        raise ConfigError(
            f"max_age names {name!r}, and there is no such covariate: there are "
            f"{', '.join(given) or 'none'}"
        )
    return tuple(
        _parse_one(name, given, _parse_age(name, ages), interval, max_fill) for name in given
    )


def _read_mapping(argument: str, given: Any, example: str) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"{argument} is of type {name_type(given)}: give a mapping from names, such as "
            f"{{{example}}}"
        )
    return {str(name): unwrap(value) for name, value in given.items()}


_DEFAULT = -1


def _parse_age(name: str, ages: Mapping[str, Any]) -> int | None:
    """Seconds; None for never, ``_DEFAULT`` where nothing is said."""
    if name not in ages:
        return _DEFAULT
    if ages[name] is None:
        return None
    try:
        return int(parse_interval(ages[name]))
    except ConfigError as error:
        raise ConfigError(
            f"max_age of {name!r}: {error}; none (null in YAML) for never too old"
        ) from None


def _parse_one(
    name: str, given: Mapping[str, Any], max_age: int | None, main: Interval, max_fill: int
) -> Covariate:
    check_series_name(name)
    source = given[name]
    interval: Interval | None
    if isinstance(source, Source | RecordSource):
        try:
            check_declaration(source)
        except SourceError as error:
            raise retell(error, f"covariate {name!r}: {error}") from error
    if isinstance(source, RecordSource):
        covers = source.covers
        interval = None if source.interval is None else Interval(int(source.interval))
        columns, stored = source.columns, None
        _check_columns(name, columns)
    else:
        source, interval, stored = _find_candles(name, given, main)
        columns, covers = COLUMNS[1:], 0
    if max_age == _DEFAULT:
        max_age = None if interval is None else OLDEST * interval
    is_candles = stored is not None
    beside = Beside(name, interval, columns, is_candles, max_age, covers)
    return Covariate(given[name], beside, source, stored, max_fill)


def _check_columns(name: str, columns: Iterable[str]) -> None:
    """Raise ``ConfigError`` if a column of records is called as one that every frame has."""
    for column in columns:
        if column in (*TIMES, AGE):
            raise ConfigError(
                f"covariate {name!r} has a column {column!r}, which is what every series has of "
                "its own: leave it out of `columns`, or give it another name"
            )


def _find_candles(
    name: str, given: Mapping[str, Any], main: Interval
) -> tuple[Source | None, Interval, Interval]:
    """Whose candles a covariate is made of (None for the main ones), its interval and theirs."""
    source = given[name]
    if isinstance(source, Source):
        _check_source(name, source, main)
        return source, main, main
    if not isinstance(source, Resampled):
        what = f"the class {source.__name__}" if isinstance(source, type) else repr(source)
        raise ConfigError(
            f"covariate {name!r} is {what:.80}: give a source of candles or of records, such as "
            "Coinbase(product='ETH-USD'), or Resampled('1h')"
        )
    interval = source.grid
    if isinstance(source.of, Source):
        _check_source(name, source.of, interval)
        return source.of, interval, interval
    base: tuple[Source | None, Interval] = (None, main)
    if source.of is not None:
        if source.of not in given or source.of == name:
            others = ", ".join(each for each in given if each != name)
            raise ConfigError(
                f"covariate {name!r} is resampled of {source.of!r}, and there is no such "
                f"covariate: there are {others or 'no others'}"
            )
        other = given[source.of]
        if isinstance(other, Resampled) and isinstance(other.of, str):
            raise ConfigError(
                f"covariate {name!r} is resampled of {source.of!r}, which is resampled itself: "
                f"set its `of` to {other.of!r}"
            )
        if isinstance(other, RecordSource):
            raise ConfigError(
                f"covariate {name!r} is resampled of {source.of!r}, which has records and no "
                "candles: a feature of it takes its latest record as it is"
            )
        base = _find_candles(source.of, given, main)[::2]
    if not can_join(base[1], interval) or interval <= base[1]:
        shift = get_offset(base[1]) % base[1]
        mend = "choose a longer interval that is a multiple"
        if interval > base[1] and interval % base[1] == 0:
            mend = f"set its `offset` to {format_interval(shift) if shift else 'none'}"
        raise ConfigError(
            f"covariate {name!r}: bars of {format_interval(interval)} cannot be joined from those "
            f"of {source.of or 'the candles'}, which are of {format_interval(base[1])}: {mend}"
        )
    return base[0], interval, base[1]


def _check_source(name: str, source: Source, interval: Interval) -> None:
    try:
        choose_base(source, interval, source.intervals)
    except (ConfigError, SourceError) as error:
        raise retell(error, f"covariate {name!r}: {error}") from None
