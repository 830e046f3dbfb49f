"""What is stored and what becomes of it, as text for a person."""

from typing import TYPE_CHECKING

from btc_datamodule.splits import STAGES
from btc_datamodule.store import Header, read_header
from btc_datamodule.timeline import Span, format_instant, format_interval

if TYPE_CHECKING:
    from btc_datamodule.datamodule import BTCDataModule

ORIGINS_SHOWN = 5


def describe(data: "BTCDataModule") -> str:
    """Rows, span, holes, outages, split dates and windows of a datamodule after ``setup``."""
    header = read_header(data.candle_path)
    return "\n\n".join([_candles(data, header), _grid(data), _stages(data)])


def _candles(data: "BTCDataModule", header: Header) -> str:
    lines = [
        f"candles   {data.candle_path}",
        f"          {header.source} {header.series}, {format_interval(header.interval)} bars",
        f"          {header.rows:,} rows, {_range(header.span)}",
        f"          digest {header.digest[:16]}, {data.candle_path.stat().st_size:,} bytes",
    ]
    lines += [
        f"          {record.rows:,} rows from {record.origin}, {record.retrieved}"
        for record in header.provenance[-ORIGINS_SHOWN:]
    ]
    hidden = len(header.provenance) - ORIGINS_SHOWN
    if hidden > 0:
        lines.append(f"          and {hidden} earlier retrievals")
    return "\n".join(lines)


def _grid(data: "BTCDataModule") -> str:
    table = data.table
    outage_bars = int((table.outages[:, 1] - table.outages[:, 0]).sum())
    no_trade_holes = table.holes - len(table.outages)
    return "\n".join(
        [
            f"features  {table.path}",
            f"          {', '.join(table.features)}; warm-up {table.warm_up} bars",
            f"          {table.rows:,} bars on the grid, {table.present:,} of them in the candles",
            f"holes     {table.holes:,} holes, {table.rows - table.present:,} bars absent",
            f"          {no_trade_holes:,} without trades (up to {data.max_fill} bars): "
            f"{table.no_trade:,} bars filled flat",
            f"          {len(table.outages):,} outages: {outage_bars:,} bars not observed",
        ]
    )


def _stages(data: "BTCDataModule") -> str:
    head = ("stage", "from", "to", "bars", "eligible", "windows", "target", "origin", "inputs")
    rows: list[tuple[str, ...]] = [head]
    table = data.table
    for stage in STAGES:
        start, end = data.fold.span(stage)
        end = min(end, table.time_of(table.rows))
        reckoning = data.reckoning(stage)
        counts = (
            (end - start) // table.interval,
            int((reckoning.runs[:, 1] - reckoning.runs[:, 0]).sum()),
            len(data.dataset(stage)),
            reckoning.dropped_target,
            reckoning.dropped_origin,
            reckoning.dropped_inputs,
        )
        rows.append(
            (stage, format_instant(start), format_instant(end), *(f"{n:,}" for n in counts))
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if i < 3 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    note = (
        "eligible: origins that may be used; windows: those at the stage's stride. Left out for "
        "an outage\nin the target, an origin not observed, too few inputs observed: the last "
        "three columns."
    )
    return "\n".join([*lines, note])


def _range(span: Span) -> str:
    return f"{format_instant(span[0])} to {format_instant(span[1])}"
