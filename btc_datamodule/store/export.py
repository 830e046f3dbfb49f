"""Candles and records for other programs: Parquet or CSV, with times that any of them reads."""

from pathlib import Path
from typing import TYPE_CHECKING

from btc_datamodule.candles.records import INSTANTS
from btc_datamodule.candles.timeline import Interval, Span
from btc_datamodule.disk.atomic import check_output, replace_file
from btc_datamodule.store.candle_file import CandleReader
from btc_datamodule.store.record_file import RecordReader

if TYPE_CHECKING:
    import polars as pl

SUFFIXES = (".parquet", ".csv")


def export_candles(
    candle_path: Path, span: Span, output: str | Path, interval: Interval | None = None
) -> Path:
    """Write the candles that open in ``span`` to a file; give its path.

    The file has the columns of ``Candles``; ``open_time`` is a timestamp in UTC (in CSV: ISO
    8601). A file of that name is replaced once the new one is whole.

    Args:
        candle_path: the candle file.
        span: epoch seconds.
        output: a name that ends in .parquet or .csv.
        interval: of longer bars, to which they are joined; None to leave them as they are.

    Raises:
        ConfigError: if the name ends in something else, or cannot be written.
        StoreError: if the candle file is missing or damaged.
    """
    path = check_output(output, SUFFIXES)
    with CandleReader(candle_path) as reader:
        candles = reader.slice(*span)
    if interval is not None:
        candles, _ = candles.resample(interval)
    return _write(candles.to_polars(), ("open_time",), path)


def export_records(record_path: Path, span: Span, output: str | Path) -> Path:
    """Write the records whose time is in ``span`` to a file; give its path.

    The file has the columns of ``RecordSet``; ``time`` and ``known_at`` are timestamps as of
    ``export_candles``, and a value that is not there is null.

    Args:
        record_path: the file of records.
        span: epoch seconds.
        output: a name that ends in .parquet or .csv.

    Raises:
        ConfigError: if the name ends in something else, or cannot be written.
        StoreError: if the file of records is missing or damaged.
    """
    import polars as pl

    path = check_output(output, SUFFIXES)
    with RecordReader(record_path) as reader:
        columns = reader.slice(*span).columns
    frame = pl.DataFrame({name: pl.Series(values) for name, values in columns.items()})
    return _write(frame.fill_nan(None), INSTANTS, path)


def _write(frame: "pl.DataFrame", instants: tuple[str, ...], path: Path) -> Path:
    """Write a frame whose columns ``instants`` are epoch seconds."""
    import polars as pl

    frame = frame.with_columns(pl.from_epoch(name).dt.replace_time_zone("UTC") for name in instants)
    with replace_file(path) as temporary:
        if path.suffix.lower() == ".parquet":
            frame.write_parquet(temporary)
        else:
            frame.write_csv(temporary, datetime_format="%Y-%m-%dT%H:%M:%SZ")
    return path
