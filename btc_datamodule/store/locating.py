"""Where a series lies under ``data_dir``, and under which name a source finds its own there."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.errors import NotPreparedError, StoreError, UnreadableError
from btc_datamodule.sources.base import Source, StoredSeries
from btc_datamodule.sources.records import RecordSource
from btc_datamodule.store.candle_file import read_header
from btc_datamodule.store.record_file import RecordHeader, read_record_header
from btc_datamodule.store.series_file import Header


def locate_series(data_dir: Path, source: Source, interval_text: str) -> Path:
    """Where everything of one series and interval lies."""
    return data_dir / source.name / source.series / interval_text


def locate_candles(data_dir: Path, source: Source, interval_text: str) -> Path:
    """The candle file of one series and interval."""
    return locate_series(data_dir, source, interval_text) / "candles.h5"


def locate_records(data_dir: Path, source: RecordSource) -> Path:
    """The file of records of one series."""
    return data_dir / source.name / source.series / "records.h5"


def is_there(path: Path) -> bool:
    """Whether there is a file of ours at ``path``.

    Raises:
        UnreadableError: if this user may not look.
    """
    try:
        path.stat()  # unlike ``exists``, which in some versions of Python only says no
    except PermissionError:
        raise UnreadableError(
            f"{path}: this user may not look into a folder on the way to it: change its "
            "permissions, or set another `data_dir`"
        ) from None
    except OSError:
        return path.exists()
    return True


def check_there(path: Path, whose: str = "") -> None:
    """Raise ``NotPreparedError`` unless there is a file of ours at ``path``.

    Args:
        path: of a series.
        whose: the covariate that it belongs to; "" for the candles.
    """
    if not is_there(path):
        covariate = f"covariate {whose!r}: " if whose else ""
        raise NotPreparedError(
            f"{covariate}{path} does not exist: run `btc-datamodule prepare`, or prepare_data(), "
            "first"
        )


def find_source(data_dir: Path, source: Source, interval_text: str) -> Source:
    """The source under the name by which its candles are stored, which most often is its own.

    Raises:
        ConfigError: if it may be several of those that are stored.
    """
    if is_there(locate_candles(data_dir, source, interval_text)):
        return source
    pattern = f"*/{interval_text}/candles.h5"
    return source.recognise(_list_stored(data_dir / source.name, pattern, read_header))


def find_record_source(data_dir: Path, source: RecordSource) -> RecordSource:
    """The source under the name by which its records are stored, as ``find_source`` of candles.

    Raises:
        ConfigError: if it may be several of those that are stored.
    """
    if is_there(locate_records(data_dir, source)):
        return source
    stored = _list_stored(data_dir / source.name, "*/records.h5", read_record_header)
    return source.recognise(stored)


def _list_stored(
    folder: Path, pattern: str, read: Callable[[Path], Header]
) -> Iterator[StoredSeries]:
    """The series under the folder of a source that can be read; damaged ones are nobody's."""
    for path in sorted(folder.glob(pattern)):
        with suppress(StoreError):
            header = read(path)
            yield StoredSeries(
                header.series,
                header.revision,
                tuple(record.checksum for record in header.provenance),
                describe_origin(header),
            )


def describe_origin(header: Header) -> str:
    """Where the newest of what is stored came from, and when; "" if nobody knows."""
    if not header.provenance:
        return ""
    last = header.provenance[-1]
    return f"from {last.origin}, {last.retrieved}{last.checksum and f', {last.checksum}'}"


def tell_ends(header: Header) -> tuple[str, str]:
    """From when to when something is stored: to the close of the last bar, or the last record."""
    start, end = header.span
    if isinstance(header, RecordHeader) and header.rows:
        end -= 1
    return format_instant(start), format_instant(end)
