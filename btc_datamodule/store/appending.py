"""Appending: new bars that follow those of a large candle file are written to its tail.

What is read is the tail and the segment of the content digest that it begins in; what is written
is the tail. The bars of the file itself are neither read nor written.
"""

from collections.abc import Iterable, Sequence

from btc_datamodule.candles.digest import ContentDigest, number_segment, span_segment
from btc_datamodule.candles.series import Candles, concatenate
from btc_datamodule.candles.timeline import TIMES, Span
from btc_datamodule.disk.hdf5 import advise_repair
from btc_datamodule.errors import StoreError
from btc_datamodule.store import tail
from btc_datamodule.store.candle_file import CandleReader
from btc_datamodule.store.candle_layout import LAYOUT, describe_series, list_arrays
from btc_datamodule.store.series_file import Header, Provenance, write_columns


def is_appended(reader: CandleReader, answers: Sequence[Header]) -> bool:
    """Whether the bars of answers can stand in the tail: they follow what is stored, and are few.

    Args:
        reader: of the candle file.
        answers: headers of the parts.
    """
    base, header = reader.files[0], reader.header
    known, end = {*base.header.columns}, header.span[1]
    return (
        reader.segments is not None
        and base.rows >= tail.LARGE_ROWS
        and header.rows - base.rows + sum(each.rows for each in answers) <= tail.TAIL_ROWS
        and all(not each.rows or each.span[0] >= end for each in answers)
        and all({*each.columns} <= known for each in answers)
    )


def append_candles(
    reader: CandleReader,
    candles: Iterable[Candles],
    *,
    covered: Iterable[Span],
    provenance: Iterable[Provenance],
) -> None:
    """Write the tail of a candle file anew, with more bars.

    Args:
        reader: of the candle file.
        candles: the bars that follow, in order of time.
        covered: spans answered for, of all bars.
        provenance: of all bars.

    Raises:
        StoreError: if the bars in the last segment, or in the tail, are not those that were
            written, or the tail cannot be written.
    """
    base, *tails = reader.files
    header, segments = reader.header, reader.segments
    assert segments is not None
    kept = [each.read_rows(0, each.rows) for each in tails]
    new = concatenate([base.read_rows(0, 0), *kept, *candles])
    first = int(new.open_time[0]) if len(new) else header.span[1]
    number = number_segment(first, header.interval)
    start = span_segment(number, header.interval)[0]
    digest = ContentDigest(header.interval)
    digest.update(reader.slice(start, TIMES[1]))
    if digest.hexdigest() != segments.take_from(number).hexdigest():
        which = tails[0] if tails and tails[0].rows else base
        raise StoreError(
            f"{which.path}: the newest candles are not those that were written: "
            f"{advise_repair(which.path)}"
        )
    digest.update(new.slice(header.span[1], TIMES[1]))
    later = digest.get_segments()
    write_columns(
        tail.locate_tail(reader.path),
        LAYOUT,
        header.columns,
        [new],
        lambda rows: {
            **describe_series(
                header.source,
                header.series,
                header.interval,
                rows=rows,
                digest=segments.followed_by(later).hexdigest(),
                revision=header.revision,
            ),
            "follows": tail.identify(base.header),
        },
        covered=covered,
        provenance=provenance,
        compress=False,
        others=lambda: list_arrays(later),
        most_rows=len(new),
    )
