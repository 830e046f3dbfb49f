"""What is stored and what becomes of it, as text for a person."""

from pathlib import Path
from typing import TYPE_CHECKING

from btc_datamodule.candles.gaps import find_suspicious
from btc_datamodule.candles.timeline import format_interval, format_span
from btc_datamodule.escaping import escape
from btc_datamodule.features.undefined import list_undefined
from btc_datamodule.store.candle_file import CandleReader
from btc_datamodule.store.series_file import Provenance

if TYPE_CHECKING:
    from btc_datamodule.datamodule import BTCDataModule

ORIGINS_SHOWN = 5
SUSPICIOUS_SHOWN = 5
LEFT_OUT = """\
windows: those at the stage's stride; eligible: origins that may be used. The columns after it
count origins that were left out: target past the end of the span (end), purge, too little history
before (history), embargo, an outage in the target (target), no candle at the origin, or an outage
before it (origin), too few inputs observed (inputs), a feature without a value (undefined).
scored: target bars of val and test, each in one window; unscored: those left over at the end of an
unbroken stretch."""


def describe(data: "BTCDataModule", *, provenance: bool = False) -> str:
    """Rows, span, holes, outages, split dates and windows of a datamodule after ``setup``.

    Args:
        data: the datamodule.
        provenance: name every origin of the candles, not only the latest ones.
    """
    candles = describe_candles(data, provenance=provenance)
    return "\n\n".join([candles, _describe_grid(data), _describe_stages(data)])


def describe_candles(data: "BTCDataModule", *, provenance: bool = False) -> str:
    """The part of ``describe`` that is about the candle file; needs no ``setup``."""
    header = data.settings.read_candle_header()
    series = escape(f"{header.source} {header.series}")
    shown = len(header.provenance) if provenance else ORIGINS_SHOWN
    lines = [
        f"candles   {escape(str(data.candle_path))}",
        f"          {series}, {format_interval(header.interval)} bars",
        f"          {header.rows:,} rows, {format_span(header.span)}",
        f"          digest {header.digest[:16]}, {data.candle_path.stat().st_size:,} bytes",
    ]
    first = max(0, len(header.provenance) - shown)
    lines += [f"          {_format_provenance(record)}" for record in header.provenance[first:]]
    if first:
        lines.append(f"          and {first:,} earlier answers: `info --provenance true`")
    return "\n".join([*lines, *_describe_suspicious(data.candle_path)])


def _describe_suspicious(path: Path) -> list[str]:
    """Lines on what looks cut or thinned out of the candles; none if nothing does."""
    with CandleReader(path) as reader:
        header = reader.header
        found = find_suspicious(reader.holes(), header.interval, header.span)
    if not found:
        return []
    absent = sum(stretch.absent for stretch in found)
    advice = "`refresh: true` asks the source again, and adds what it has"
    if header.revision:  # a file is read whole: asking again brings the same
        advice = "what was read has it so"
    return [
        f"suspicious {len(found):,} stretches, {absent:,} bars absent though the bars around are "
        "there: outages, or answers that were cut",
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
