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
    low, high = span
    needs = _count_seconds(settings)
    if covariate.beside.max_age is None and table.reach is not None:
        rows = slice(max(0, table.find_row(low)), table.find_row(high))
        low = int(min(low, table.reach[rows].min(initial=low)))
    if covariate.beside.is_candles:
        with CandleReader(path) as reader:
            first, last = reader.header.span[0], reader.header.span[1] - reader.header.interval
            early = max(first, min(low - needs, last))  # at least one, for there to be a grid
            return reader.slice(early, high)
    with RecordReader(path) as reader:
        early, most = reader.find(low - needs - reader.header.longest_delay), reader.find(low)
        if covariate.beside.interval is None:
            early = 0
        records = reader.rows(max(early, most - MOST_BEFORE), reader.find(high))
        return records.take(records.known_at <= high)


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
