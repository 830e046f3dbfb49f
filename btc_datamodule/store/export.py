"""Candles for other programs: Parquet or CSV, with times that any of them reads."""

from pathlib import Path

from btc_datamodule.candles.timeline import Span
from btc_datamodule.disk.atomic import check_output, replace_file
from btc_datamodule.store.candle_file import CandleReader

SUFFIXES = (".parquet", ".csv")


def export_candles(candle_path: Path, span: Span, output: str | Path) -> Path:
    """Write the candles that open in ``span`` to a file; give its path.

    The file has the columns of ``Candles``; ``open_time`` is a timestamp in UTC (in CSV: ISO
    8601). A file of that name is replaced once the new one is whole.

    Args:
        candle_path: the candle file.
        span: epoch seconds.
        output: a name that ends in .parquet or .csv.

    Raises:
        ConfigError: if the name ends in something else, or cannot be written.
        StoreError: if the candle file is missing or damaged.
    """
    import polars as pl

    path = Path(output)
    check_output(path, SUFFIXES)
    with CandleReader(candle_path) as reader:
        frame = reader.slice(*span).to_polars()
    frame = frame.with_columns(pl.from_epoch("open_time").dt.replace_time_zone("UTC"))
    with replace_file(path) as temporary:
        if path.suffix.lower() == ".parquet":
            frame.write_parquet(temporary)
        else:
            frame.write_csv(temporary, datetime_format="%Y-%m-%dT%H:%M:%SZ")
    return path
