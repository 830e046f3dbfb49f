"""The series beside the candles, as far as they matter to a stretch of these.

Owns which files they are, how much of each is read for a stretch, and how a twin's are written.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from btc_datamodule.candles.records import RecordSet
from btc_datamodule.candles.series import Candles
from btc_datamodule.candles.timeline import Span
from btc_datamodule.covariates import Covariate
from btc_datamodule.features.layout import REACH
from btc_datamodule.features.table import Table
from btc_datamodule.settings import Settings
from btc_datamodule.store.candle_file import CandleReader, write_series
from btc_datamodule.store.record_file import RecordReader, write_record_set

MOST_BEFORE = 100_000
"""Records of before a stretch that are read for it, at most."""


class Series(NamedTuple):
    """A series beside the candles, or a part of it.

    Attributes:
        covariate: whose rows are made of it; of several the first.
        content: its candles, or its records.
    """

    covariate: Covariate
    content: Candles | RecordSet


def list_files(settings: Settings) -> list[tuple[Covariate, Path]]:
    """The files of the series that features name, each once, without that of the candles."""
    found: dict[Path, Covariate] = {}
    for covariate in settings.named_covariates:
        path = covariate.locate(settings.data_dir, settings.candle_path)
        if path != settings.candle_path:
            found.setdefault(path, covariate)
    return [(covariate, path) for path, covariate in found.items()]


def read_series(settings: Settings, table: Table, span: Span) -> tuple[Series, ...]:
    """What the rows of a stretch of the candles can be made of, of each series.

    Args:
        settings: whose series.
        table: the feature file.
        span: of the candles.
    """
    return tuple(
        Series(covariate, _read_content(settings, table, covariate, path, span))
        for covariate, path in list_files(settings)
    )


def _read_content(
    settings: Settings, table: Table, covariate: Covariate, path: Path, span: Span
) -> Candles | RecordSet:
    if not covariate.beside.is_candles:
        with RecordReader(path) as records:
            return read_records_of(records, settings, table, covariate, span)
    early = _find_early(settings, table, covariate, span)
    with CandleReader(path) as reader:
        first, last = reader.header.span[0], reader.header.span[1] - reader.header.interval
        return reader.slice(max(first, min(early, last)), span[1])  # one at least, for a grid


def read_records_of(
    reader: RecordReader, settings: Settings, table: Table, covariate: Covariate, span: Span
) -> RecordSet:
    """As ``read_series``, of an open file of records."""
    early = _find_early(settings, table, covariate, span) - reader.header.longest_delay
    low = 0 if covariate.beside.interval is None else reader.find(early)
    most = reader.find(span[0]) - MOST_BEFORE
    records = reader.rows(max(low, most), reader.find(span[1] + 1))
    return records.take(records.known_at <= span[1])


def _find_early(settings: Settings, table: Table, covariate: Covariate, span: Span) -> int:
    """An instant before which nothing of a series matters to the bars of a span."""
    low, high = span
    if covariate.beside.max_age is None and table.has_reach:
        rows = slice(max(0, table.find_row(low)), table.find_row(high))
        low = min(low, int(table.read(REACH, rows).min(initial=low)))
    return low - _count_seconds(settings)


def _count_seconds(settings: Settings) -> int:
    """How long before a bar anything may be for the bar to be made of it, generously."""
    seconds = settings.interval * settings.recipe.warm_up
    for covariate in settings.named_covariates:
        beside, stored = covariate.beside, covariate.stored
        back = max(
            [each.lookback for each in settings.features if each.series == covariate.name],
            default=1,
        )
        step = beside.interval or 0
        seconds += back * step + (beside.max_age or step) + settings.max_fill * (stored or step)
    return seconds


def count_joined(settings: Settings) -> int:
    """Seconds of candles before a bar that longer bars joined of them are made of, for features."""
    path = settings.candle_path
    joined = {
        each.name: int(each.beside.interval or 0)
        for each in settings.named_covariates
        if each.locate(settings.data_dir, path) == path
    }
    lengths = [
        (feature.lookback + 1) * joined[feature.series]
        for feature in settings.features
        if feature.series in joined
    ]
    return max(lengths, default=0)


def write_beside(settings: Settings, series: Iterable[Series]) -> None:
    """Write the files of some series where settings look for them."""
    for covariate, content in series:
        source = covariate.source
        assert source is not None
        path = covariate.locate(settings.data_dir, settings.candle_path)
        of = {"source": source.name, "series": source.series}
        if isinstance(content, RecordSet):
            write_record_set(path, content, **of, interval=covariate.beside.interval)
        else:
            write_series(path, content, **of)
