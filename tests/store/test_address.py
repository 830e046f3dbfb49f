"""An address belongs to a series: a mirror has the same rows, and another exchange others."""

from pathlib import Path

import pytest

from btc_datamodule.errors import ConfigError, SourceError
from btc_datamodule.sources.binance.funding import BinanceFunding
from btc_datamodule.store.record_file import read_records
from btc_datamodule.store.update import update, update_records
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import BinanceArchiveAnswers, CoinbaseAnswers, Exchange
from tests.factories import HOUR
from tests.sources.binance.helpers import QUICK, archive_with, span_of
from tests.store.exchanges import (
    COINBASE,
    DAY,
    DAYS,
    ZIP,
    assert_nothing_half_written,
    assert_whole,
)

SANDBOX = ex.random_walk("2020-01-01", bars=750, interval=HOUR, seed=9)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "series" / "candles.h5"


def test_another_exchange_is_refused_before_anything_is_written(path: Path, tmp_path: Path) -> None:
    with COINBASE.serve() as real, Exchange(CoinbaseAnswers(SANDBOX)) as sandbox:
        update(path, COINBASE.at(real), HOUR, *COINBASE.parts(0, 1))
        before = path.read_bytes()
        with pytest.raises(ConfigError) as caught:
            update(path, COINBASE.at(sandbox), HOUR, *COINBASE.parts(0, 2))
        assert assert_nothing_half_written(path, before) == []
        assert len(sandbox.requests) == 1
        first = COINBASE.parts(1, 1)[0] - 100 * HOUR
        theirs, ours = (
            held.slice(first, first + HOUR)["open"][0] for held in (SANDBOX, COINBASE.held)
        )
        assert str(caught.value) == (
            f"coinbase BTC-USD: {sandbox.url} has other candles than those stored, which came from "
            f"{real.url}: of 99 that were compared 99 differ, the first at 2020-01-09T08:00:00Z, "
            f"where open is {theirs} and not {ours}: it is another exchange, such as a sandbox: "
            "set another `data_dir` for it, or `source.base_url` as it was"
        )
        elsewhere = tmp_path / "sandbox" / "candles.h5"
        update(elsewhere, COINBASE.at(sandbox), HOUR, *COINBASE.span)
    assert_whole(elsewhere, SANDBOX)


def test_a_mirror_is_asked_once_for_what_is_stored_and_then_as_ever(path: Path) -> None:
    with COINBASE.serve() as real, COINBASE.serve() as mirror:
        update(path, COINBASE.at(real), HOUR, *COINBASE.parts(0, 1))
        second = update(path, COINBASE.at(mirror), HOUR, *COINBASE.parts(0, 2))
        assert len(mirror.requests) == 2
        third = update(path, COINBASE.at(mirror), HOUR, *COINBASE.parts(0, 3))
        assert len(mirror.requests) == 3
        asked = len(real.requests)
        update(path, COINBASE.at(real), HOUR, *COINBASE.parts(0, 3))
        assert len(real.requests) == asked
    assert second.notes == third.notes == ()
    assert_whole(path, COINBASE.held)


def test_a_service_without_the_rows_that_are_stored_is_told_once(path: Path) -> None:
    later = BinanceArchiveAnswers(DAYS.slice(*ZIP.parts(1, 2)))
    with ZIP.serve() as real, Exchange(later) as other:
        update(path, ZIP.at(real), HOUR, *ZIP.parts(0, 1))
        second = update(path, ZIP.at(other), HOUR, *ZIP.parts(0, 2))
        third = update(path, ZIP.at(other), HOUR, *ZIP.parts(0, 3))
    assert second.notes == (
        f"binance BTCUSDT: new candles come from {other.url}, those stored from {real.url}, and it "
        "has none of these to compare: in one file they are right only if these are one exchange, "
        "such as a mirror; if not (a sandbox), set another `data_dir`",
    )
    assert third.notes == ()


def test_what_a_killed_run_left_is_compared_too(path: Path) -> None:
    with COINBASE.serve() as real, Exchange(CoinbaseAnswers(SANDBOX)) as sandbox:
        real.faults.extend([None, *[ex.SERVER_ERROR] * 9])
        with pytest.raises(SourceError, match="HTTP 500"):
            update(path, COINBASE.at(real), HOUR, *COINBASE.parts(0, 2))
        with pytest.raises(ConfigError, match="has other candles than those stored"):
            update(path, COINBASE.at(sandbox), HOUR, *COINBASE.parts(0, 2))
        real.faults.clear()
        update(path, COINBASE.at(real), HOUR, *COINBASE.span)
    assert_whole(path, COINBASE.held)


def funding(rate: float, start: int) -> str:
    """A month of rates, every eight hours."""
    times = range(start, start + 28 * DAY, 8 * HOUR)
    return ex.FUNDING_HEADER + "".join(f"{1000 * time},8,{rate}\n" for time in times)


@pytest.mark.parametrize("rate", [0.0001, 0.0002], ids=["mirror", "another"])
def test_records_are_compared_as_candles_are(tmp_path: Path, rate: float) -> None:
    path, (start, end) = tmp_path / "records.h5", span_of("2022-01-01", "2022-03-01")
    february = span_of("2022-02-01", "2022-03-01")[0]
    name = "BTCUSDT-fundingRate-2022"
    january = {f"{name}-01.zip": funding(0.0001, start)}
    both = {f"{name}-01.zip": funding(rate, start), f"{name}-02.zip": funding(rate, february)}
    with archive_with(january, "fundingRate") as real, archive_with(both, "fundingRate") as other:
        made = [BinanceFunding(base_url=each.url, **QUICK) for each in (real, other)]
        update_records(path, made[0], start, february)
        if rate == 0.0001:
            assert update_records(path, made[1], start, end).notes == ()
            assert len(read_records(path)) == 2 * 84
            return
        with pytest.raises(ConfigError, match=r"other records .* rate is 0.0002 and not 0.0001"):
            update_records(path, made[1], start, end)
    assert len(read_records(path)) == 84
