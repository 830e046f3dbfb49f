"""Forms: candles and records, each with what the one way to disk has to know of it.

``update``, ``parts``, ``merging`` and ``notes`` bring files of both up to date, by the same steps.
What they do not share stands here: how a file is read and written, how two of them are merged, how
a source is asked, and what rows are called. The form follows from the kind of source.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles import records, series
from btc_datamodule.candles.records import RecordSet
from btc_datamodule.candles.series import Candles
from btc_datamodule.candles.timeline import Span, format_instant
from btc_datamodule.disk.hdf5 import explain_damage, open_hdf5, read_attribute
from btc_datamodule.errors import RecordError, SourceError
from btc_datamodule.sources.answering import list_answers
from btc_datamodule.sources.base import Block, Source
from btc_datamodule.sources.records import RecordBlock, RecordSource
from btc_datamodule.sources.resampling import ask
from btc_datamodule.store.candle_file import (
    CandleReader,
    check_series,
    read_header,
    write_candles,
)
from btc_datamodule.store.record_file import (
    RecordReader,
    check_record_series,
    read_record_header,
    write_records,
)
from btc_datamodule.store.tail import locate_tail

AnySource = Source | RecordSource
AnyBlock = Block | RecordBlock
Content = Candles | RecordSet


@dataclass(frozen=True)
class Form:
    """What the way to disk has to know of candles, or of records.

    Attributes:
        row: what a row is called where rows are counted: "bar".
        content: what it is called where it is about what it holds: "candle".
        open: opens a file, of a path: a ``CandleReader``.
        read_header: the header of a file, of a path.
        check_series: raises ``StoreError`` unless a header is of a source, series and interval.
        write: as ``write_candles``.
        ask: a source's answers for a span in rows of an interval.
        concatenate: one content of several that follow each other.
        merge: the union of two, and the times of rows that disagree; of two and ``refresh``.
        find_lacking: the times of rows of one that none of others has.
        get_keys: (N,) int64 each, what tells one row from another, and orders them: times first.
        check_block: raises ``SourceError`` if a block is not of a source and interval.
    """

    row: str
    content: str
    open: Callable[[Path], Any]
    read_header: Callable[[Path], Any]
    check_series: Callable[..., None]
    write: Callable[..., None]
    ask: Callable[[Any, int | None, Span], Generator[Any, None, None]]
    concatenate: Callable[[list[Any]], Any]
    merge: Callable[[Any, Any, bool], tuple[Any, NDArray[np.int64]]]
    find_lacking: Callable[[Any, list[Any]], NDArray[np.int64]]
    get_keys: Callable[[Any], tuple[NDArray[np.int64], ...]]
    check_block: Callable[[Any, Any, int | None], None]


def find_form(source: AnySource) -> Form:
    """The form of what a source answers with."""
    return RECORDS if isinstance(source, RecordSource) else CANDLES


def read_digest(path: Path) -> str:
    """The digest that a file of candles, with its tail, or of records says it has."""
    if locate_tail(path).exists():
        return read_header(path).digest
    with open_hdf5(path) as file, explain_damage(path):
        digest: str = read_attribute(path, file, "digest", str)
    return digest


def _ask_for_candles(
    source: Source, interval: int | None, span: Span
) -> Generator[Block, None, None]:
    assert interval is not None
    return ask(source, interval, span)


def _ask_for_records(
    source: RecordSource, _: int | None, span: Span
) -> Generator[RecordBlock, None, None]:
    return list_answers(source, lambda: source.blocks(span), RecordBlock)


def _check_candles(block: Block, source: Source, interval: int | None) -> None:
    if block.candles.interval != interval:
        raise _explain_breach(source, block, "holds candles outside it, or of another interval")
    _check_inside(block, source, "candles outside it, or of another interval", "candles")


def _check_records(block: RecordBlock, source: RecordSource, interval: int | None) -> None:
    _check_inside(block, source, "records outside it", "records")
    strange = set(block.records.values) - set(source.columns)
    if strange:
        raise _explain_breach(
            source, block, f"has columns of other names: {', '.join(sorted(strange))}"
        )
    if interval is not None:
        try:
            records.check_grid(block.records, interval, "records")
        except RecordError as error:
            raise _explain_breach(source, block, f"has other records ({error})") from None


def _check_inside(block: AnyBlock, source: AnySource, outside: str, rows: str) -> None:
    if len(block.content.slice(*block.span)) != len(block.content):
        raise _explain_breach(source, block, f"holds {outside}")
    if len(block.content) and not block.answered:
        raise _explain_breach(source, block, f"is not answered, and holds {rows}")


def _explain_breach(source: AnySource, block: AnyBlock, problem: str) -> SourceError:
    start, end = map(format_instant, block.span)
    return SourceError(f"{source.name} broke its contract: a block for {start} to {end} {problem}")


CANDLES = Form(
    row="bar",
    content="candle",
    open=CandleReader,
    read_header=read_header,
    check_series=check_series,
    write=write_candles,
    ask=_ask_for_candles,
    concatenate=series.concatenate,
    merge=series.merge,
    find_lacking=series.find_lacking,
    get_keys=lambda candles: (candles.open_time,),
    check_block=_check_candles,
)

RECORDS = Form(
    row="record",
    content="record",
    open=RecordReader,
    read_header=read_record_header,
    check_series=check_record_series,
    write=write_records,
    ask=_ask_for_records,
    concatenate=records.concatenate,
    merge=records.merge,
    find_lacking=records.find_lacking,
    get_keys=lambda found: (found.time, found.known_at),
    check_block=_check_records,
)
