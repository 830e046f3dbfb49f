"""What is stored and what becomes of it, as text for a person."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from btc_datamodule.candles.gaps import find_suspicious
from btc_datamodule.candles.timeline import format_interval, format_span
from btc_datamodule.covariates import Covariate
from btc_datamodule.errors import NotPreparedError
from btc_datamodule.escaping import escape
from btc_datamodule.features.feature import Feature
from btc_datamodule.features.joined import open_series
from btc_datamodule.features.table import Table
from btc_datamodule.features.undefined import list_undefined
from btc_datamodule.progress import show_step
from btc_datamodule.store.candle_file import CandleReader
from btc_datamodule.store.record_file import RecordHeader
from btc_datamodule.store.series_file import Header, Provenance
from btc_datamodule.store.stray import describe_stray
from btc_datamodule.store.tail import list_files

if TYPE_CHECKING:
    from btc_datamodule.datamodule import BTCDataModule

SHOWN = 5
"""Origins of each file, unless all are wanted."""

SUSPICIOUS_SHOWN = 5
INDENT = " " * 10
UNITS = (("days", 86_400), ("h", 3600), ("min", 60))
LEFT_OUT = """\
windows: those at the stage's stride; eligible: origins that may be used. The columns after it
count origins that were left out: target past the end of the span (end), purge, too little history
before (history), embargo, an outage in the target (target), no candle at the origin, an outage
before it, or nothing known of a covariate then (origin), too few inputs observed (inputs), a
feature without a value (undefined).
scored: target bars of val and test, each in one window; unscored: those left over at the end of an
unbroken stretch."""


def describe(data: "BTCDataModule", *, provenance: bool = False) -> str:
    """Rows, span, holes, outages, split dates and windows of a datamodule after ``setup``.

    Args:
        data: the datamodule.
        provenance: name every origin of what is stored, not only the latest ones.
    """
    stored = describe_stored(data, data.table, provenance=provenance)
    return "\n\n".join([stored, _describe_grid(data), _describe_stages(data)])


def describe_stored(
    data: "BTCDataModule", table: Table | None = None, *, provenance: bool = False
) -> str:
    """The part of ``describe`` that is about the files of the candles and of each covariate.

    Args:
        data: the datamodule, before ``setup`` too.
        table: its feature file, if what is made of covariates is to be told.
        provenance: as of ``describe``.
    """
    header = data.settings.read_candle_header()
    lines = _describe_file("candles", data.candle_path, header, provenance=provenance)
    told = [[*lines, *_describe_doubts(data.candle_path)]]
    shown = {data.candle_path: "the candles"}
    ages = {} if table is None else measure_ages(data, table)
    for covariate in data.settings.covariates:
        lines = _describe_covariate(data, covariate, shown, provenance=provenance)
        if table is not None:
            lines += _describe_use(table, data.features, covariate, ages)
        told.append(lines)
    return "\n\n".join("\n".join(lines) for lines in told)


def _describe_covariate(
    data: "BTCDataModule", covariate: Covariate, shown: dict[Path, str], *, provenance: bool
) -> list[str]:
    """Lines on the file of a covariate; ``shown`` has the files that were told of before."""
    name, path = covariate.name, covariate.locate(data.settings.data_dir, data.candle_path)
    try:
        header = data.settings.read_covariate_header(covariate)
    except NotPreparedError:
        return [f"{name:<9} {escape(str(path))}", f"{INDENT}not stored yet"]
    joined = f"{covariate.clock} bars, joined of " if covariate.is_joined else ""
    if path in shown:
        bars = header.interval and f"{format_interval(header.interval)} "
        lines = [f"{name:<9} {joined}the {bars}bars of {shown[path]}"]
    else:
        lines = _describe_file(name, path, header, provenance=provenance)
        if covariate.beside.is_candles:
            lines += _describe_doubts(path)
        lines += [f"{INDENT}{joined}these"] * covariate.is_joined
        shown[path] = name
    return lines


def _describe_use(
    table: Table, features: tuple[Feature, ...], covariate: Covariate, ages: "dict[str, Age]"
) -> Iterator[str]:
    """Lines on what the bars of a table know of a covariate, and features have of it."""
    name, max_age = covariate.name, covariate.beside.max_age
    if name not in ages:
        yield f"{INDENT}no feature names it"
        return
    age, of = ages[name], f"of {table.rows:,} bars"
    limit = "none" if max_age is None else format_interval(max_age)
    told = f"{INDENT}max_age {limit}: known in {age.bars:,} {of}"
    if age.bars:
        told += f", {_format_age(age.mean)} old on average, {_format_age(age.most)} at most"
    yield told
    for feature, valued in zip(features, table.valued.tolist(), strict=True):
        if name in (feature.series, *feature.beside):
            yield f"{INDENT}{escape(feature.name)} has a value in {valued:,} {of}"


class Age(NamedTuple):
    """How old the newest row of a series is at the close of bars.

    Attributes:
        bars: at the close of which one is known, and not too old.
        mean: seconds since it became known, of these.
        most: at most.
    """

    bars: int
    mean: float
    most: float


def measure_ages(data: "BTCDataModule", table: Table) -> dict[str, Age]:
    """How old each covariate is that features name, in the bars of a table."""
    found: dict[str, Age] = {}
    with (
        open_series(data.settings.recipe.beside, table.span[1]) as series,
        show_step("ages of covariates", table.rows * len(series.clocks), " bars") as step,
    ):
        for name in series.clocks:
            bars, total, most = 0, 0.0, 0.0
            for rows in table.segments(0, table.rows):
                closes = table.first + table.interval * np.arange(rows.start + 1, rows.stop + 1)
                joined = series.join(name, closes)
                ages = joined.age[joined.some]
                bars, total = bars + len(ages), total + float(ages.sum())
                most = max(most, float(ages.max(initial=0)))
                step.advance(len(closes))
            found[name] = Age(bars, total / max(1, bars), most)
    return found


def _format_age(seconds: float) -> str:
    unit, size = next(((u, s) for u, s in UNITS if seconds >= 2 * s), ("s", 1))
    return f"{seconds / size:.3g} {unit}"


def _describe_file(name: str, path: Path, header: Header, *, provenance: bool) -> list[str]:
    """Lines on a candle file or a file of records."""
    rows, (start, end) = "bars", header.span
    if isinstance(header, RecordHeader):
        rows = f"records of {', '.join(header.values)}"
        end -= bool(header.rows)  # the time of the last one
    length = f"{format_interval(header.interval)} " if header.interval else ""
    size = sum(file.stat().st_size for file in list_files(path))
    lines = [
        f"{name:<9} {escape(str(path))}",
        f"{INDENT}{escape(f'{header.source} {header.series}, {length}{rows}')}",
        f"{INDENT}{header.rows:,} rows, {format_span((start, end))}",
        f"{INDENT}digest {header.digest[:16]}, {size:,} bytes",
    ]
    first = max(0, len(header.provenance) - (len(header.provenance) if provenance else SHOWN))
    lines += [f"{INDENT}{_format_provenance(record)}" for record in header.provenance[first:]]
    if first:
        lines.append(f"{INDENT}and {first:,} earlier answers: `info --provenance true`")
    return lines


def _describe_doubts(path: Path) -> list[str]:
    """Lines on candles that are not read, and on what looks cut or thinned out."""
    stray = [f"{'not read':<9} {escape(sentence)}" for sentence in describe_stray(path)]
    return [*stray, *_describe_suspicious(path)]


def _describe_suspicious(path: Path) -> list[str]:
    """Lines on what looks cut or thinned out of the candles; none if nothing does."""
    with CandleReader(path) as reader:
        header = reader.header
        found = find_suspicious(reader.holes(), header.interval, header.span)
    if not found:
        return []
    absent = sum(stretch.absent for stretch in found)
    cause = "outages, or answers that were cut"
    advice = "`refresh: true` asks the source again, and adds what it has"
    if header.revision:  # a file is read whole: asking again brings the same
        cause, advice = "outages, or rows that the file lacks", "what was read has it so"
    return [
        f"suspicious {len(found):,} stretch{'es' * (len(found) > 1)}, {absent:,} "
        f"bar{'s' * (absent > 1)} absent though the bars around are there: {cause}",
        *(f"          {stretch.describe()}" for stretch in found[:SUSPICIOUS_SHOWN]),
        *(
            [f"          and {len(found) - SUSPICIOUS_SHOWN:,} more"]
            * (len(found) > SUSPICIOUS_SHOWN)
        ),
        f"          {advice}",
    ]


def _format_provenance(record: Provenance) -> str:
    told = f"{record.rows:,} rows, {format_span(record.span)}, from {record.origin}"
    checksum = record.checksum and f", {record.checksum}"
    return escape(f"{told}, {record.retrieved}{checksum}")


def _describe_grid(data: "BTCDataModule") -> str:
    table = data.table
    outage_bars = int((table.outages[:, 1] - table.outages[:, 0]).sum())
    return "\n".join(
        [
            f"features  {escape(str(table.path))}",
            f"          {escape(', '.join(table.features))}; warm-up {table.warm_up} bars",
            f"          {table.rows:,} bars on the grid, {table.present:,} of them in the candles",
            f"holes     {len(table.holes):,} holes, {table.rows - table.present:,} bars absent",
            f"          {table.filled:,} bars filled flat (the first {table.max_fill} of a hole), "
            "taken as time without trades",
            f"          {len(table.outages):,} outages (longer holes): {outage_bars:,} bars not "
            "observed",
            *[f"undefined {told}" for told in list_undefined(data.table)],
        ]
    )


def _describe_stages(data: "BTCDataModule") -> str:
    frame = data.describe()
    for name in ("from", "to"):
        frame = frame.with_columns(frame[name].dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    cells = [[_format_cell(value) for value in row] for row in frame.rows()]
    table = [frame.columns, *cells]
    widths = [max(len(row[i]) for row in table) for i in range(len(frame.columns))]
    lines = [
        "  ".join(
            cell.ljust(width) if i < 3 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    return "\n".join([*lines, LEFT_OUT])


def _format_cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)
