"""Preparing: candles, the series beside them and the feature file brought up to date on disk.

All that ``prepare_data`` does: each series by its own source, then the features of all of them.
"""

import re
from pathlib import Path
from typing import NamedTuple

from btc_datamodule.candles.timeline import Interval
from btc_datamodule.errors import BTCDataError, NotPreparedError, retell
from btc_datamodule.escaping import escape
from btc_datamodule.features.build import build
from btc_datamodule.features.table import Table
from btc_datamodule.opening import Choice
from btc_datamodule.progress import show_each
from btc_datamodule.settings import Settings
from btc_datamodule.sources.base import Source
from btc_datamodule.sources.records import RecordSource
from btc_datamodule.store.forms import AnySource
from btc_datamodule.store.locating import is_there
from btc_datamodule.store.update import Update, update, update_records, use_stored

SIMULATES = (
    "note:     no `source` is given, so that the candles are simulated: set `source: Coinbase`, "
    "`CandleFile` or another for real ones, or `source: Simulator` if that is meant"
)
"""What ``prepare_data`` says first where the simulator stands for a source that was not named."""


class PreparedSeries(NamedTuple):
    """A series that is stored.

    Attributes:
        name: of the covariate; "" of the candles.
        path: its file.
        source: whose it is, under the name by which it is stored.
        named: the name of the series by which it is meant.
        interval: of its candles; None of records.
        start: first instant wanted; None for as early as there is.
        end: instant past the last one; None for up to now.
    """

    name: str
    path: Path
    source: AnySource
    named: str
    interval: Interval | None
    start: int | None
    end: int | None


class Prepared(NamedTuple):
    """What is on disk now.

    Attributes:
        told: what a person should read: notes of the sources, and where the files lie.
        table: the feature file.
    """

    told: list[str]
    table: Choice


def prepare(settings: Settings, *, refresh: bool = False, offline: bool = False) -> Prepared:
    """Bring the candles, the series beside them and the feature file up to date.

    Args:
        settings: which candles, which series and which features of them.
        refresh: ask the sources again for everything.
        offline: ask no source: take what is stored.

    Raises:
        NotPreparedError: if a series is not stored, and no source is asked.
    """
    told: list[str] = []
    arguments = {covariate.name: covariate.argument for covariate in settings.covariates}
    for series in show_each(list_series(settings), "series"):
        argument = arguments.get(series.name, "source")
        try:
            found = _use_stored(series) if offline else _update(series, refresh=refresh)
        except BTCDataError as error:
            if not series.name:
                raise
            said = _name_argument(str(error), argument)
            raise retell(error, f"covariate {series.name!r}: {said}") from error
        told += (f"note:     {_name_argument(note, argument)}" for note in found.notes)
        what, rows = f"{series.name or 'candles'}:", "bars" if series.interval else "records"
        told.append(
            f"{what:<9} {escape(str(series.path))} ({found.header.rows:,} {rows}, "
            f"{found.added:,} new)"
        )
    settings.read_candle_header()  # which checks whose candles they are
    for covariate in settings.named_covariates:
        settings.read_covariate_header(covariate)
    features = build(settings.candle_path, settings.recipe)
    made = Choice(features, Table.open(features).candles)
    return Prepared([*told, f"features: {escape(str(features))}"], made)


def list_paths(settings: Settings) -> dict[str, Path]:
    """The file of each series of some settings, by the covariate's name; that of the candles "".

    A file that several covariates are made of stands under the first of them.
    """
    return {series.name: series.path for series in list_series(settings)}


def list_series(settings: Settings) -> list[PreparedSeries]:
    """The series that are stored for some settings, each file once: the candles first.

    Of a file that several are made of as much is wanted as the one that reaches back the longest
    needs.
    """
    source, named = settings.recognise_source(), settings.source.series
    span = settings.start, settings.end
    candles = PreparedSeries("", settings.candle_path, source, named, settings.interval, *span)
    found = {candles.path: candles}
    for covariate in settings.covariates:
        path = covariate.locate(settings.data_dir, candles.path)
        start, end = settings.start, settings.end
        if start is not None:
            start = covariate.find_start(start, settings.features, settings.covariates)
        if path in found:
            known = found[path]
            if known.start is not None and start is not None:
                start = min(known.start, start)
            found[path] = known._replace(start=start)
            continue
        stored = covariate.recognise_source(settings.data_dir)
        assert stored is not None
        assert covariate.source is not None
        found[path] = PreparedSeries(
            covariate.name,
            path,
            stored,
            covariate.source.series,
            covariate.stored,
            start,
            end,
        )
    return list(found.values())


def _name_argument(text: str, argument: str) -> str:
    """What a source says of its own arguments as ``source``, said of it as another argument."""
    return re.sub(r"`source(?=[.`])", f"`{argument}", text)


def _update(series: PreparedSeries, *, refresh: bool) -> Update:
    source, span = series.source, (series.start, series.end)
    if isinstance(source, RecordSource):
        # A record of the very end is known at the last close; a period that begins then is not.
        with_end = source.interval is None
        return update_records(series.path, source, *span, with_end=with_end, refresh=refresh)
    assert isinstance(source, Source)
    assert series.interval is not None
    return update(series.path, source, series.interval, *span, refresh=refresh)


def _use_stored(series: PreparedSeries) -> Update:
    if not is_there(series.path):
        raise NotPreparedError(
            f"{series.path} does not exist, and `offline: true` asks no source: put `data_dir` "
            "where the candles are stored, or run `btc-datamodule prepare` without `offline` first"
        )
    return use_stored(series.path, series.source, series.start, series.end, name=series.named)
