"""What lies where in a feature file, and what its digest is made of.

Layout, schema 7 (all datasets contiguous and unfiltered, little-endian)::

    /x               (T, F) float32   features; 0 where not observed, NaN where undefined and kept
    /observed        (T,)   uint8     with mask bar: 1 where the bar was observed and every feature
                                      has a value; (T, F) with mask feature: where this one has
    /<column>        (T,)   float64   open, high, low, close, volume, for targets; NaN in outages
    /reach           (T,)   int64     the earliest instant that anything of another series in a row
                                      is made of, never falling; only where there are others
    /holes           (n, 2) int64     runs of rows for which there is no candle
    /unobserved      (m, 2) int64     runs of rows of which not all is observed
    /unobserved_cells (k, 3) int64    the number of a feature, and a run of rows in which it is not
                                      observed; none with mask bar
    /undefined       (k, 3) int64     likewise, in which it has no value though all that it is made
                                      of is known
    /valued          (f,)   int64     rows in which each feature has a value, whatever the others
                                      have; not of the flag
    /segment_count   (s, F) int64     values in each segment that statistics are of: observed ones
    /segment_mean    (s, F) float64   their mean
    /segment_squares (s, F) float64   sum of their squared deviations from that mean
    /segment_digest  (s, n, 32) uint8 SHA-256 of the bytes of x, observed, open, ... volume, reach
    attributes       schema, key, candles (digest of the candle file), first, interval, features,
                     warm_up, present, max_fill, mask, flag (whether the last column says where
                     others are undefined), beside (JSON: path and digest of each file of another
                     series), checked (JSON: see ``Recipe.list_identities``), digest (see
                     ``combine_digests``)

Of a large file the columns of bars lie in a rows file (``sharing``), of one that has grown the
other arrays, too (``growing``).

Segments are cut by the clock (``split_segments``): no candle that is added, older or newer, moves
their edges.

How one is read is told in ``contents``.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

SCHEMA = 7
SEGMENT_ROWS = 1 << 18
"""Rows of a segment: built at once, with moments and a digest of their own."""

LARGE_ROWS = 1 << 16
"""Rows from which on a feature file grows, and shares its bars; a smaller one is built as fast."""

BAR_COLUMNS = ("open", "high", "low", "close", "volume")
REACH = "reach"
DTYPES = {"x": "<f4", "observed": "u1", **dict.fromkeys(BAR_COLUMNS, "<f8"), REACH: "<i8"}
"""Type of each array with a row per bar. Only the last need not be there."""

SEGMENT_DTYPES = {
    **{"segment_count": "<i8", "segment_mean": "<f8", "segment_squares": "<f8"},
    "segment_digest": "u1",
}
"""Type of each array with an item per segment."""

RUNS = ("holes", "unobserved")
"""Datasets of runs of rows."""

CELLS = ("unobserved_cells", "undefined")
"""Datasets of runs of rows of single features."""

SIZED = {**SEGMENT_DTYPES, "valued": "<i8"}
"""Type of each dataset whose size the others tell."""

SMALL = (*SIZED, *RUNS, *CELLS)
"""All datasets but the arrays with a row per bar: read, and part of the digest, as a whole."""

ATTRIBUTES = {
    **dict.fromkeys(("schema", "first", "interval", "warm_up", "present", "max_fill", "flag"), int),
    **dict.fromkeys(("key", "candles", "features", "mask", "beside", "checked", "digest"), str),
}
"""Type of each attribute of the root; there are no others."""

FLAG = "undefined"
"""Last column of ``x`` where undefined features are observed: 1 in rows that have one, else 0."""

MaskOf = Literal["bar", "feature"]
"""Whether bars are observed as a whole, or each feature by itself."""
MASKS: tuple[MaskOf, ...] = get_args(MaskOf)


def split_segments(first: int, interval: int, low: int, high: int) -> Iterator[slice]:
    """Rows [low, high) of a grid in segments of ``SEGMENT_ROWS``, fewer at the two ends.

    A segment begins with each bar whose number since the epoch is a multiple of ``SEGMENT_ROWS``.

    Args:
        first: open time of row 0.
        interval: seconds.
        low: first row.
        high: row past the last.
    """
    before = _count_rows_before(first, interval)
    while low < high:
        end = min(high, low + SEGMENT_ROWS - (low + before) % SEGMENT_ROWS)
        yield slice(low, end)
        low = end


def find_segment(first: int, interval: int, rows: slice) -> int | None:
    """The number of the segment that has exactly some rows and is whole; None if there is none."""
    number, rest = divmod(rows.start + _count_rows_before(first, interval), SEGMENT_ROWS)
    return number if rest == 0 and rows.stop - rows.start == SEGMENT_ROWS else None


def find_edges(first: int, interval: int, rows: int) -> NDArray[np.int64]:
    """(s + 1,) the rows at which the segments of a table begin, and the one past the last."""
    before = _count_rows_before(first, interval)
    number = (rows + before - 1) // SEGMENT_ROWS + 1
    return (np.arange(number + 1) * SEGMENT_ROWS - before).clip(0, rows)


def _count_rows_before(first: int, interval: int) -> int:
    """Rows of the first segment that lie before row 0."""
    return first // interval % SEGMENT_ROWS


def is_large(rows: int) -> bool:
    """Whether a feature file of so many rows grows, and shares its bars."""
    return rows >= LARGE_ROWS


def hash_array(values: NDArray[Any]) -> bytes:
    """SHA-256 of the bytes of an array."""
    return hashlib.sha256(np.ascontiguousarray(values).data).digest()


def combine_digests(
    segments: NDArray[np.uint8],
    shape: tuple[int, ...],
    small: Mapping[str, NDArray[Any]],
    attributes: Mapping[str, Any],
) -> str:
    """The digest of a whole feature file, made of the digests of its segments.

    Args:
        segments: (s, n, 32) SHA-256 of each segment of the first n arrays of ``DTYPES``.
        shape: (T, F), that of ``x``.
        small: the other datasets, which count with all their bytes.
        attributes: of the file; ``digest`` itself does not count.

    Returns:
        SHA-256 as a hexadecimal text.
    """
    digest = hashlib.sha256(f"{shape}".encode())
    for number, (name, code) in zip(range(segments.shape[1]), DTYPES.items(), strict=False):
        digest.update(f"{name} {code}".encode())
        digest.update(segments[:, number].tobytes())
    for name in sorted(small):
        digest.update(f"{name} {small[name].shape} {small[name].dtype.str}".encode())
        digest.update(small[name].tobytes())
    for name in sorted(attributes.keys() - {"digest"}):
        digest.update(f"{name} {attributes[name]}".encode())
    return digest.hexdigest()


def stack_digests(digests: Sequence[Sequence[bytes]]) -> NDArray[np.uint8]:
    """(s, n, 32) uint8 of the SHA-256 of each segment of the first n arrays of ``DTYPES``."""
    joined = b"".join(each for segment in digests for each in segment)
    return np.frombuffer(joined, "u1").reshape(len(digests), -1, hashlib.sha256().digest_size)


def shape_array(name: str, shape: tuple[int, ...], mask: str) -> tuple[int, ...]:
    """The shape of an array of ``DTYPES`` in a file whose ``x`` has the shape (T, F)."""
    return shape if name == "x" or (name == "observed" and mask == "feature") else shape[:1]
