"""Binance's archive on a server of this machine, for tests of what asks there."""

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from btc_datamodule.candles.records import INSTANTS, RecordSet, make_empty
from btc_datamodule.candles.series import OPTIONAL, Candles, concatenate
from btc_datamodule.candles.timeline import (
    Span,
    floor_to,
    format_instant,
    parse_instant,
    parse_interval,
)
from btc_datamodule.sources.base import Block
from btc_datamodule.sources.binance.source import BinanceArchive
from btc_datamodule.sources.records import RecordBlock
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import BinanceArchiveAnswers, Exchange
from tests.factories import HOUR, candles_of

DAY = 86_400


def bars(start: str | int, end: str | int, interval: int = HOUR) -> Candles:
    """Candles with every optional column for [start, end)."""
    times = np.arange(parse_instant(start), parse_instant(end), interval)
    return candles_of(times, interval, optional=OPTIONAL)


HELD = bars("2020-01-01", "2020-04-01")
MONTHS = ["2020-01", "2020-02", "2020-03"]
JANUARY_5 = "BTCUSDT-1h-2020-01-05.zip"
DAY_5 = (parse_instant("2020-01-05"), parse_instant("2020-01-06"))
CSV = BinanceArchiveAnswers(HELD).csv(JANUARY_5)
ZIP = ex.zipped("BTCUSDT-1h-2020-01-05.csv", CSV)


def source(exchange: Exchange, **changes: Any) -> BinanceArchive:
    """The archive at the test server, with waits that tests can afford."""
    quick: dict[str, Any] = {"requests_per_second": 5000.0, "attempts": 3, "retry_wait": 0.01}
    return BinanceArchive(**{"base_url": exchange.url, **quick, **changes})


def fetch(
    exchange: Exchange, span: Span = HELD.span, interval: int = HOUR, **changes: Any
) -> list[Block]:
    return list(source(exchange, **changes).blocks(interval, span))


def candles_in(blocks: list[Block]) -> Candles:
    return concatenate([block.candles for block in blocks])


def span_of(start: str, end: str) -> Span:
    return parse_instant(start), parse_instant(end)


def asked(exchange: Exchange) -> list[str]:
    """The dates of the zips that were asked for, in order of time; checksums have their own."""
    names = [request.path.rsplit("/", 1)[1] for request in exchange.requests]
    return sorted(re.sub(r"BTCUSDT-\w+?-|\.zip", "", name) for name in names if name.endswith("ip"))


def notes_of(blocks: list[Block]) -> list[str]:
    return [note for block in blocks for note in block.notes]


def serve_lines(
    answers: BinanceArchiveAnswers,
    edit: Callable[[list[bytes]], list[bytes]],
    name: str = JANUARY_5,
) -> None:
    """Serve ``name`` with its rows edited, and a checksum that fits."""
    lines = edit(answers.csv(name).splitlines(keepends=True))
    answers.files[name] = ex.zipped(name.replace(".zip", ".csv"), b"".join(lines))


# --- records ------------------------------------------------------------------------------------

QUICK: dict[str, Any] = {"requests_per_second": 5000.0, "attempts": 2, "retry_wait": 0.01}


@contextmanager
def archive_with(
    files: Mapping[str, str | bytes], type: str, market: str = "um", product: str = "BTCUSDT"
) -> Iterator[Exchange]:
    """The archive with these files alone: texts as zips of a CSV, bytes as they are."""
    bars = re.fullmatch(r"(\d+[mhd]) (\w+)", type)
    nothing = make_empty(())
    answers = BinanceArchiveAnswers(nothing, market=market, product=product, type=type)
    if bars:
        answers.type, answers.interval = bars[2], parse_interval(bars[1])
    for name, held in files.items():
        csv = name.replace(".zip", ".csv")
        answers.files[name] = ex.zipped(csv, held.encode()) if isinstance(held, str) else held
    with Exchange(answers) as server:
        yield server


def answers_of(exchange: Exchange) -> BinanceArchiveAnswers:
    """What an exchange of ``archive_with`` answers."""
    assert isinstance(exchange.answer, BinanceArchiveAnswers)
    return exchange.answer


def records_in(blocks: list[RecordBlock]) -> RecordSet:
    """The records of blocks, checked together."""
    sets = [block.records for block in blocks]
    return RecordSet({name: np.concatenate([s[name] for s in sets]) for name in sets[0].columns})


def rows_of(records: RecordSet, *columns: str) -> list[tuple[Any, ...]]:
    """Time and known_at as texts without the zone's Z, and values of columns."""
    instants = [map(format_instant, records[name]) for name in INSTANTS]
    texts = [[text.removesuffix("Z") for text in instant] for instant in instants]
    return list(zip(*texts, *(records[name].tolist() for name in columns), strict=True))


def told_by(blocks: list[RecordBlock]) -> list[str]:
    return [note for block in blocks for note in block.notes]


DIGEST_OF_ANOTHER = f"{'0' * 64}  "
BROKEN_FILES: dict[str, Callable[[str, bytes], dict[str, bytes]]] = {
    "its sha256 is": lambda name, body: {
        name: body,
        f"{name}.CHECKSUM": f"{DIGEST_OF_ANOTHER}{name}".encode(),
    },
    "its .CHECKSUM holds no digest": lambda name, body: {
        name: body,
        f"{name}.CHECKSUM": b"<html></html>",
    },
    "the zip is damaged or cut short": lambda name, body: {name: body[:-30]},
    "the zip is refused: it holds 2 files": lambda name, body: {
        name: ex.zipped("a.csv", b"1", ("b.csv", b"2"))
    },
    "row 1: no row of": lambda name, body: {name: ex.zipped("a.csv", b"a,b,c\n1,2,3\n")},
    "row 1: 2 fields instead of": lambda name, body: {name: ex.zipped("a.csv", b"1,2\n")},
    "holds no rows": lambda name, body: {name: ex.zipped("a.csv", b"")},
}
"""What a note says of a file that is set aside, and how to serve it so, with its checksum."""

# --- days without a file ------------------------------------------------------------------------

TODAY = floor_to(time.time(), DAY)


# --- several at a time --------------------------------------------------------------------------


def downloading() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("binance")]
