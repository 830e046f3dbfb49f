"""What one HDF5 file of candles holds, and how it is read with checks.

``candle_file`` tells the layout; ``tail`` how two such files are one series. What a file says of
itself is not believed: its digest is the one that its segments make, or it is refused.
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.digest import SIZE, ContentDigest, Segments, WholeDigest
from btc_datamodule.candles.series import COLUMNS, REQUIRED, Candles
from btc_datamodule.candles.timeline import LONGEST_DURATION, WEEK, Interval, get_offset
from btc_datamodule.disk.hdf5 import (
    advise_repair,
    explain_damage,
    is_inside,
    open_hdf5,
    read_attribute,
)
from btc_datamodule.disk.stored import Stored
from btc_datamodule.errors import StoreError
from btc_datamodule.store.series_file import (
    ContentCheck,
    Header,
    Layout,
    find_group,
    open_columns,
    read_covered,
    read_ends,
    read_provenance,
)

if TYPE_CHECKING:
    import h5py

SCHEMA = 2

SHUFFLED = ("open_time", "quote_volume", "trades")
"""Columns whose bytes are shuffled before gzip. Other columns are mostly decimals of few digits,
whose eight bytes come again as a whole: shuffling these too made files 16 to 32 % larger
(``python benchmarks/ingest.py --compression``)."""

LAYOUT = Layout("candle file", SCHEMA, "candles", "candles", ("open_time",), SHUFFLED)

WHOLE_LAYOUT = replace(LAYOUT, schema=1)


class OpenCandles:
    """One open HDF5 file of candles.

    Attributes:
        path: where it was when it was opened.
        header: what it says of itself; of a tail ``rows`` and ``span`` are of its own bars, and all
            else of the series.
        follows: of a tail, which file it follows, as ``tail.identify`` tells; "" otherwise.
        segments: of the content digest; of a tail, from the one on that its first bar is in; None
            of a file of schema 1.

    Raises:
        StoreError: if the file is missing, is not HDF5, or is not of a schema that is read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open_hdf5(path)
        try:
            with explain_damage(path):
                layout = _choose_layout(path, self._file)
                self._columns = _find_columns(path, self._file, layout)
                self.header = _read_header(path, self._file, self._columns)
                self.follows = _read_follows(path, self._file)
                self.segments = (
                    _read_segments(path, self._file, self.header.interval)
                    if layout is LAYOUT
                    else None
                )
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close it."""
        self._file.close()

    @property
    def rows(self) -> int:
        """How many bars are in the file."""
        return self.header.rows

    def check_digest(self, segments: Segments) -> None:
        """Raise ``StoreError`` unless the digest that it says is that of the segments."""
        if segments.hexdigest() != self.header.digest:
            raise StoreError(
                f"{self.path}: its digest is not that of its segments: {advise_repair(self.path)}"
            )

    def find(self, instant: int) -> int:
        """The number of the first of its bars that opens at an instant or later."""
        if instant >= self.header.span[1]:
            return self.rows
        with explain_damage(self.path):
            return bisect_left(self._columns["open_time"], instant)

    def read_times(self, low: int, high: int) -> NDArray[np.int64]:
        """The open times of its bars by their numbers, [low, high)."""
        with explain_damage(self.path):
            times: NDArray[np.int64] = self._columns["open_time"][low:high]
        return times

    def read_rows(self, low: int, high: int) -> Candles:
        """Its bars by their numbers, [low, high)."""
        with explain_damage(self.path):
            columns = {name: data[low:high] for name, data in self._columns.items()}
            return Candles(self.header.interval, columns)

    def make_check(self) -> ContentCheck:
        """A check of its content, to be fed all bars of its segments in order."""
        if self.segments is None:
            digest, said = WholeDigest(self.header.interval), self.header.digest
            return ContentCheck(self.path, LAYOUT, said, digest)
        segments = ContentDigest(self.header.interval)
        return ContentCheck(self.path, LAYOUT, self.segments.hexdigest(), segments)


def describe_series(
    source: str, series: str, interval: int, *, rows: int, digest: str, revision: str
) -> dict[str, Any]:
    """The attributes of a file of candles, as of ``Header``."""
    attributes = {
        "source": source,
        "series": series,
        "interval": int(interval),
        "rows": rows,
        "digest": digest,
        "revision": revision,
    }
    if get_offset(interval) != get_offset(int(interval)):
        return attributes | {"offset": get_offset(interval)}
    return attributes


def list_arrays(segments: Segments) -> dict[str, NDArray[Any]]:
    """The datasets in which segments are stored."""
    return {"segments": segments.numbers.astype("<i8"), "digests": segments.digests}


def _choose_layout(path: Path, file: "h5py.File") -> Layout:
    """That of schema 1 if the file says so, or else that of today."""
    says = "schema" in file.attrs and read_attribute(path, file, "schema", int)
    return WHOLE_LAYOUT if says == WHOLE_LAYOUT.schema else LAYOUT


def _find_columns(path: Path, file: "h5py.File", layout: Layout) -> dict[str, Stored]:
    """The columns of an open candle file, all of one length."""
    group = find_group(path, file, layout)
    missing = [name for name in REQUIRED if not is_inside(group, name)]
    if missing:
        raise StoreError(f"{path} lacks the column {', '.join(missing)}: {advise_repair(path)}")
    names = [name for name in COLUMNS if group.id.links.exists(name.encode())]
    return open_columns(path, file, layout, names)


def _read_header(path: Path, file: "h5py.File", columns: Mapping[str, Stored]) -> Header:
    rows = len(columns["open_time"])
    first, last = read_ends(path, LAYOUT, columns["open_time"])
    interval = _read_interval(path, file, first if rows else None)
    return Header(
        source=read_attribute(path, file, "source", str),
        series=read_attribute(path, file, "series", str),
        interval=interval,
        columns=tuple(columns),
        rows=rows,
        span=(first, last + interval) if rows else (0, 0),
        covered=read_covered(path, file),
        digest=read_attribute(path, file, "digest", str),
        revision=read_attribute(path, file, "revision", str),
        provenance=read_provenance(path, file),
    )


def _read_follows(path: Path, file: "h5py.File") -> str:
    """Which file a tail follows; "" if it is no tail."""
    if "follows" not in file.attrs:
        return ""
    follows: str = read_attribute(path, file, "follows", str)
    return follows


def _read_segments(path: Path, file: "h5py.File", interval: Interval) -> Segments:
    """The segments of the content digest."""
    numbers, digests = Stored(path, file, "segments"), Stored(path, file, "digests")
    shape = (len(numbers), len(COLUMNS), SIZE)
    kinds = (numbers.dtype, digests.dtype) == (np.dtype("<i8"), np.dtype("u1"))
    if numbers.shape[1:] or digests.shape != shape or not kinds:
        raise StoreError(f"{path}: 'digests' holds no digests: {advise_repair(path)}")
    segments = Segments(
        interval,
        np.concatenate([np.zeros(0, np.int64), *numbers.read_small()]),
        np.concatenate([np.zeros((0, *shape[1:]), np.uint8), *digests.read_small()]),
    )
    if (np.diff(segments.numbers) <= 0).any():
        raise StoreError(f"{path}: 'segments' are out of order: {advise_repair(path)}")
    return segments


def _read_interval(path: Path, file: "h5py.File", first: int | None) -> Interval:
    """The interval with its grid; the weeks of version 0.1 began on Thursdays, and say nothing."""
    seconds: int = read_attribute(path, file, "interval", int)
    if not 1 <= seconds <= LONGEST_DURATION:
        raise StoreError(f"{path}: interval is {seconds}: {advise_repair(path)}")
    if "offset" in file.attrs:
        return Interval(seconds, read_attribute(path, file, "offset", int))
    return Interval(seconds, first if seconds % WEEK == 0 else None)
