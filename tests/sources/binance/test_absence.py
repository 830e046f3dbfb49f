"""Files that the archive says it does not have: which of them are settled, and by what witness."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from btc_datamodule.candles.records import make_empty
from btc_datamodule.candles.timeline import Span, format_instant, parse_instant
from btc_datamodule.errors import SourceError
from btc_datamodule.sources.base import Source
from btc_datamodule.sources.binance.files import ArchiveFiles
from btc_datamodule.sources.binance.funding import BinanceFunding
from btc_datamodule.sources.binance.kline_kinds import BinanceKlines
from btc_datamodule.sources.binance.metrics import BinanceMetrics
from btc_datamodule.sources.binance.source import BinanceArchive
from btc_datamodule.store.candle_file import read_candles
from btc_datamodule.store.update import update
from btc_datamodule.testing.exchange import (
    FUNDING_HEADER,
    NO_SUCH_KEY,
    BinanceArchiveAnswers,
    Exchange,
)
from btc_datamodule.testing.exchange.messages import Answer, Reply, Request
from tests.factories import HOUR
from tests.helpers import assert_same
from tests.sources.binance.helpers import (
    DAY,
    HELD,
    QUICK,
    TODAY,
    archive_with,
    bars,
    fetch,
    notes_of,
    source,
    span_of,
)

AFTER = span_of("2020-03-29", "2020-04-06")
"""Three days that are held, and five after them."""


def ends(blocks: list[Any]) -> list[tuple[str, bool]]:
    """Where each block ends, and whether it is answered."""
    return [(format_instant(block.span[1])[:10], block.answered) for block in blocks]


def checksums(exchange: Exchange) -> list[str]:
    """The names whose checksums alone were asked for, without the file, or once more than it."""
    names = [request.path.rsplit("/", 1)[1] for request in exchange.requests]
    for name in [name for name in names if name.endswith("zip")]:
        names.remove(name)
        names.remove(f"{name}.CHECKSUM")
    return [name.removesuffix(".zip.CHECKSUM") for name in names]


def forgets(answers: BinanceArchiveAnswers, names: list[str]) -> Answer:
    """An archive that says of some files the first time that they are not there."""
    told: set[str] = set()

    def reply(request: Request) -> Reply:
        if any(name in request.path for name in names) and request.path not in told:
            told.add(request.path)
            return NO_SUCH_KEY
        return answers(request)

    return reply


def test_a_mirror_that_has_nothing_for_a_while_settles_nothing(
    exchange: Exchange, answers: BinanceArchiveAnswers, tmp_path: Path
) -> None:
    path, (start, end) = tmp_path / "candles.h5", span_of("2020-01-05", "2020-01-30")
    update(path, source(exchange), HOUR, start, start + 5 * DAY)
    answers.works = False
    during = update(path, source(exchange), HOUR, start, end)
    assert during.header.covered == ((start, start + 5 * DAY),)
    assert during.notes[0] == (
        "binance BTCUSDT: the archive has no 1h file from 2020-01-10 to 2020-01-29, nor a later "
        "one: no answer yet, asked for again by the next run"
    )
    answers.works = True
    after = update(path, source(exchange), HOUR, start, end)
    assert after.header.covered == ((start, end),)
    assert after.notes == ()
    assert_same(read_candles(path), HELD.slice(start, end))


def test_where_nothing_is_stored_a_broken_mirror_leaves_no_empty_file(
    exchange: Exchange, answers: BinanceArchiveAnswers, tmp_path: Path
) -> None:
    path, span = tmp_path / "candles.h5", span_of("2020-01-05", "2020-01-08")
    answers.works = False
    with pytest.raises(SourceError, match=r"none came: .* no answer yet.* run it again later"):
        update(path, source(exchange), HOUR, *span)
    assert not path.exists()


SOURCES: dict[str, Callable[..., Any]] = {
    "klines": lambda **given: BinanceArchive("ETHUSDT", **given),
    "mark": lambda **given: BinanceKlines("ETHUSDT", interval="1h", **given),
    "index": lambda **given: BinanceKlines("ETHUSD", "index", "1h", "cm", **given),
    "metrics": lambda **given: BinanceMetrics("ETHUSDT", **given),
}
TYPES = {
    "klines": ("klines", "BTCUSDT-1h-2022-02-10"),
    "mark": ("markPriceKlines", "BTCUSDT-1h-2022-02-10"),
    "index": ("indexPriceKlines", "BTCUSD-1h-2022-02-10"),
    "metrics": ("metrics", "BTCUSDT-metrics-2022-02-10"),
}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("works", [True, False], ids=["works", "broken"])
def test_the_product_that_always_trades_tells_an_absence_from_a_broken_archive(
    kind: str, works: bool
) -> None:
    type, witness = TYPES[kind]
    span = span_of("2022-02-08", "2022-02-11")
    made = SOURCES[kind](**QUICK)
    answers = BinanceArchiveAnswers(
        make_empty(()),
        market=made.market,
        product=made.product,
        type=type,
        interval=HOUR if "1h" in witness else 0,
        works=works,
    )
    with Exchange(answers) as exchange:
        made = SOURCES[kind](base_url=exchange.url, **QUICK)
        given = made.blocks(HOUR, span) if isinstance(made, Source) else made.blocks(span)
        blocks = list(given)
        asked = [request.path.rsplit("/", 1)[1] for request in exchange.requests]
    assert [block.span for block in blocks] == [span]
    assert blocks[0].answered == works
    assert f"{witness}.zip.CHECKSUM" in asked
    told = f"nor {witness}.zip, of a product that always trades: no answer yet"
    assert ("taken as without" in blocks[0].notes[0], told in blocks[0].notes[0]) == (
        works,
        not works,
    )


@pytest.mark.parametrize("works", [True, False], ids=["works", "broken"])
def test_months_of_funding_have_the_same_witness(works: bool) -> None:
    january = {"ETHUSD_PERP-fundingRate-2022-01.zip": FUNDING_HEADER + "1641024000000,8,0.0001\n"}
    with archive_with(january, "fundingRate", "cm", "ETHUSD_PERP") as exchange:
        answers = exchange.answer
        exchange.answer = lambda request: (
            answers(request) if works or "-02." not in request.path else NO_SUCH_KEY
        )
        made = BinanceFunding("ETHUSD_PERP", "cm", base_url=exchange.url, **QUICK)
        blocks = list(made.blocks(span_of("2022-01-01", "2022-03-01")))
    assert ends(blocks) == [("2022-02-01", True), ("2022-03-01", works)]
    told = "nor BTCUSD_PERP-fundingRate-2022-02.zip, of a product that always trades: no answer yet"
    assert (told in blocks[1].notes[0]) != works


def test_a_product_that_was_delisted_costs_two_small_requests() -> None:
    answers = BinanceArchiveAnswers(HELD, product="LUNAUSDT")
    with Exchange(answers) as exchange:
        blocks = fetch(exchange, AFTER, product="LUNAUSDT")
        assert checksums(exchange) == ["BTCUSDT-1h-2020-04-05", "LUNAUSDT-1h-2020-04-05"]
    assert ends(blocks)[-2:] == [("2020-04-01", True), ("2020-04-06", True)]


def test_of_the_product_that_always_trades_a_later_file_is_the_witness() -> None:
    held = bars("2020-01-01", "2020-04-01")
    answers = BinanceArchiveAnswers(held)
    with Exchange(answers) as exchange:
        assert ends(fetch(exchange, AFTER))[-1] == ("2020-04-06", False)
        recent = format_instant(TODAY - 4 * DAY)[:10]
        answers.files[f"BTCUSDT-1h-{recent}.zip"] = b"a file"
        blocks = fetch(exchange, AFTER)
    assert ends(blocks)[-1] == ("2020-04-06", True)
    assert notes_of(blocks)[0].endswith("taken as without candles (`refresh: true` asks again)")


def test_files_from_before_there_were_any_are_settled_by_the_first_that_follows() -> None:
    with Exchange(BinanceArchiveAnswers(HELD, product="ETHUSDT", market="um")) as exchange:
        blocks = fetch(
            exchange, span_of("2019-12-20", "2020-01-03"), product="ETHUSDT", market="um"
        )
        assert checksums(exchange) == ["ETHUSDT-1h-2020-01-01", "ETHUSDT-1h-2019-12-31"]
    assert ends(blocks)[0] == ("2020-01-01", True)


@pytest.mark.parametrize("until", ["2020-01-13", "2020-01-12"], ids=["followed", "trailing"])
def test_a_mirror_that_is_well_again_meanwhile_does_not_settle_what_it_had_not(
    answers: BinanceArchiveAnswers, until: str
) -> None:
    answers.product = "ETHUSDT"
    with Exchange(forgets(answers, ["ETHUSDT-1h-2020-01-10", "ETHUSDT-1h-2020-01-11"])) as exchange:
        span = span_of("2020-01-09", until)
        blocks = fetch(exchange, span, product="ETHUSDT", downloads=1)
    assert ends(blocks)[:2] == [("2020-01-10", True), ("2020-01-12", False)]
    assert notes_of(blocks) == [
        "binance ETHUSDT: the archive has no 1h file from 2020-01-10 to 2020-01-11, and has "
        "ETHUSDT-1h-2020-01-11.zip now: no answer yet, asked for again by the next run"
    ]


@pytest.mark.parametrize(
    ("market", "type", "product", "witness"),
    [
        ("spot", "klines", "ETHUSDT", "BTCUSDT"),
        ("um", "metrics", "ETHUSDT", "BTCUSDT"),
        ("cm", "fundingRate", "ETHUSD_PERP", "BTCUSD_PERP"),
        ("cm", "indexPriceKlines", "ETHUSD", "BTCUSD"),
        ("spot", "klines", "BTCUSDT", None),
        ("cm", "indexPriceKlines", "BTCUSD", None),
    ],
)
def test_the_witness_is_the_same_file_of_the_product_that_always_trades(
    market: str, type: str, product: str, witness: str | None
) -> None:
    span: Span = (parse_instant("2022-02-08"), parse_instant("2022-02-09"))
    files = ArchiveFiles(product, market, 0, HOUR if "lines" in type else 0, type)
    [file] = files.select_days(span)
    found = files.find_witness(file)
    assert (found and found.path) == (witness and file.path.replace(product, witness))
    assert found is None or np.array_equal(found.period, file.period)
