"""Wrong answers of an exchange make no hole: what was no answer is asked for again.

Each goes the whole way into ``candles.h5``. Once the server is well again, the next run ends with
the digest of an undisturbed one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from btc_datamodule.candles.series import Candles, make_empty
from btc_datamodule.candles.timeline import Span
from btc_datamodule.errors import SourceError
from btc_datamodule.sources.base import Block, Source
from btc_datamodule.store.candle_file import read_candles
from btc_datamodule.store.update import update
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import BinanceArchiveAnswers, Exchange
from tests.factories import HOUR, T0, candles_of
from tests.helpers import assert_same
from tests.store.exchanges import DAYS, ZIP, assert_whole, publish


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "series" / "candles.h5"


# --- what an update makes of a block that is not answered ---------------------------------------

HELD = candles_of([True] * 30)
END = HELD.span[1]
NONE = make_empty(HOUR)


@dataclass(frozen=True)
class Parted(Source):
    """Ten bars a block; the second is not answered, and holds ``bars`` all the same."""

    well: bool = False
    bars: Candles = NONE

    name: ClassVar[str] = "parted"
    series: ClassVar[str] = "BTC"

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        for start in range(*span, 10 * HOUR):
            page = (start, min(start + 10 * HOUR, span[1]))
            if self.well or start != T0 + 10 * HOUR:
                yield Block(page, HELD.slice(*page), "memory")
            else:
                yield Block(page, self.bars, "memory", ("half of it is there",), answered=False)


def test_a_block_that_is_not_answered_settles_nothing_and_those_after_it_are_stored(
    path: Path,
) -> None:
    unknown = (T0 + 10 * HOUR, T0 + 20 * HOUR)
    result = update(path, Parted(), HOUR, T0, END)
    assert_same(read_candles(path), ex.without(HELD, unknown))
    assert result.header.covered == ((T0, unknown[0]), (unknown[1], END))
    assert result.notes == (
        "half of it is there",
        "parted BTC: not answered yet: 10 bars between 2020-01-01T10:00:00Z and "
        "2020-01-01T20:00:00Z: neither candles nor holes, and asked for again by the next run",
    )
    assert update(path, Parted(), HOUR, T0, END).notes == result.notes
    mended = update(path, Parted(well=True), HOUR, T0, END)
    assert (mended.added, mended.notes) == (10, ())
    assert_whole(path, HELD)
    assert mended.header.covered == ((T0, END),)


def test_what_is_stored_stays_where_a_refresh_is_not_answered(path: Path) -> None:
    update(path, Parted(well=True), HOUR, T0, END)
    header = update(path, Parted(), HOUR, T0, END, refresh=True).header
    assert_whole(path, HELD)
    assert header.covered == ((T0, END),)


def test_a_block_with_bars_that_is_not_answered_breaks_the_contract(path: Path) -> None:
    bars = HELD.slice(T0 + 10 * HOUR, T0 + 12 * HOUR)
    with pytest.raises(SourceError, match=r"broke its contract: .* not answered, and holds"):
        update(path, Parted(bars=bars), HOUR, T0, END)


# --- files of Binance that are there in part ----------------------------------------------------

NAME = "BTCUSDT-1h-2020-01-06.zip"


def hide_zip(answers: BinanceArchiveAnswers) -> None:
    answers.halved.add(NAME)


def hide_checksum(answers: BinanceArchiveAnswers) -> None:
    answers.halved.add(f"{NAME}.CHECKSUM")


def empty_csv(answers: BinanceArchiveAnswers) -> None:
    publish(answers, "2020-01-06", lambda lines: [])


def header_alone(answers: BinanceArchiveAnswers) -> None:
    publish(answers, "2020-01-06", lambda lines: [ex.KLINE_HEADER.encode()])


PARTS = {
    "a checksum without its zip": (hide_zip, "has its .CHECKSUM, and not the file"),
    "a zip without its checksum": (hide_checksum, "has the file, and not its .CHECKSUM"),
    "an empty CSV": (empty_csv, "holds no rows"),
    "a CSV with a header and no rows": (header_alone, "holds no rows"),
}


@pytest.mark.parametrize(("spoil", "said"), PARTS.values(), ids=PARTS.keys())
def test_a_file_that_is_there_in_part_is_set_aside_and_asked_for_again_by_the_next_run(
    path: Path, spoil: Callable[[BinanceArchiveAnswers], None], said: str
) -> None:
    answers = BinanceArchiveAnswers(DAYS)
    spoil(answers)
    with Exchange(answers) as exchange:
        for _ in range(2):
            result = update(path, ZIP.at(exchange), HOUR, *ZIP.span)
            assert_whole(path, ex.without(DAYS, ZIP.parts(1, 1)))  # what follows is not held up
            assert result.header.covered == (ZIP.parts(0, 1), ZIP.parts(2, 1))
            [note, summary] = result.notes
            assert note.startswith(f"binance {NAME}: ")
            assert said in note
            assert note.endswith("no answer yet, set aside and asked for again by the next run")
            assert "not answered yet: 24 bars" in summary
        exchange.requests.clear()
        answers.halved.clear()
        answers.files.clear()
        mended = update(path, ZIP.at(exchange), HOUR, *ZIP.span)
        assert ZIP.asked(exchange) == [ZIP.parts(1, 1)[0]]
    assert_whole(path, DAYS)
    assert mended.notes == ()
    assert mended.header.covered == (ZIP.span,)
