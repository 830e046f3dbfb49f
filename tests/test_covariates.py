"""Covariates as people use them: which files there are, what is asked for, what is missing."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from btc_datamodule import (
    BTCDataModule,
    CandleFile,
    Candles,
    Coinbase,
    ConfigError,
    Feature,
    NotPreparedError,
    Resampled,
    SimulatedFunding,
    SimulatedOpenInterest,
    Simulator,
    Source,
    SourceError,
    StoreError,
    read_candles,
)
from btc_datamodule.candles.timeline import format_instant, parse_instant
from btc_datamodule.features.undefined import find_features
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import CoinbaseAnswers, Exchange
from btc_datamodule.testing.series import random_walk
from tests.factories import HOUR, make_datamodule

DAY = 24
BTC = random_walk("2020-01-01", 20 * DAY, HOUR)
ETH = random_walk("2020-01-01", 20 * DAY, HOUR, seed=1)
FINE = random_walk("2020-01-01", 20 * DAY * 12, 300, seed=2)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What has been said at rank zero."""
    lines: list[str] = []
    monkeypatch.setattr("btc_datamodule.datamodule.rank_zero_info", lines.append)
    return lines


def write(folder: Path, name: str, candles: Candles) -> CandleFile:
    """A file of candles as people have them, as a source."""
    frame = candles.to_polars().rename({"open_time": "timestamp"})
    frame.write_csv(folder / name)
    return CandleFile(str(folder / name))


def make(folder: Path, *, ready: bool = True, **arguments: Any) -> BTCDataModule:
    """Twenty days of hours out of a file, and what stands beside them."""
    settings: dict[str, Any] = {"source": write(folder, "btc.csv", BTC), "batch_size": 8}
    return make_datamodule(folder, ready=ready, **settings | arguments)


def column(dm: BTCDataModule, name: str) -> NDArray[np.float32]:
    """A feature of every row of the file, NaN where it is not observed."""
    place = list(dm.table.features).index(name)
    return np.where(np.asarray(dm.table.observed) == 1, dm.table.x[:, place], np.nan)


def path_of(dm: BTCDataModule, name: str) -> Path:
    covariate = next(each for each in dm.settings.covariates if each.name == name)
    return covariate.locate(dm.settings.data_dir, dm.candle_path)


# --- what an argument may be ----------------------------------------------------------------------


def test_a_datamodule_shows_the_covariates_that_it_was_given(tmp_path: Path) -> None:
    given = {"hour": Resampled("4h"), "eth": Simulator(coin="ETH"), "funding": SimulatedFunding()}
    dm = make(
        tmp_path,
        ready=False,
        covariates=given,
        max_age={"funding": "9h"},
        features=["hour.close", "eth.close", "funding.rate"],
    )
    assert dm.covariates == given
    assert dm.max_age == {"hour": 8 * HOUR, "eth": 2 * HOUR, "funding": 9 * HOUR}
    assert "beside  hour (4h), eth (1h), funding (records)" in repr(dm)
    assert make(tmp_path, ready=False).covariates == {}
    assert "beside" not in repr(make(tmp_path, ready=False))


@pytest.mark.parametrize("name", ["covariates", "max_age"])
def test_covariates_are_fixed_once_a_datamodule_is_made(tmp_path: Path, name: str) -> None:
    dm = make(tmp_path, ready=False)
    with pytest.raises(ConfigError, match=rf"^{name} decides the windows and is fixed .*{name}="):
        setattr(dm, name, {})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"covariates": [Simulator()]}, "covariates is of type list: give a mapping from names"),
        ({"covariates": {"eth": "ETH-USD"}}, "covariate 'eth' is 'ETH-USD': give a source of"),
        ({"covariates": {"eth": Simulator}}, "covariate 'eth' is the class Simulator: give a"),
        ({"covariates": {"e-h": Simulator()}}, "covariate 'e-h': begin its name with a letter"),
        ({"covariates": {"close": Simulator()}}, "'close': a column of candles or records is call"),
        (
            {"covariates": {"h": Resampled("30m")}},
            "'h': bars of 30m cannot be joined from",
        ),
        ({"covariates": {"h": Resampled("4h", of="x")}}, "resampled of 'x', and there is no such"),
        ({"covariates": {"eth": Coinbase()}, "interval": "7s"}, "covariate 'eth': coinbase has no"),
        (
            {"max_age": {"eth": "1h"}},
            "max_age names 'eth', and there is no such covariate: ",
        ),
        ({"max_age": "8h"}, "max_age is of type str: give a mapping from names, such as {funding:"),
        (
            {"covariates": {"f": SimulatedFunding()}, "max_age": {"f": "8 hours"}},
            "max_age of 'f': interval '8 hours' is not understood: write a number and a unit",
        ),
        (
            {"covariates": {"f": SimulatedFunding()}, "features": ["f.rat"]},
            "there is no feature or column 'rat' of f: did you mean 'rate'? there are rate,",
        ),
        (
            {"covariates": {"f": SimulatedFunding()}, "features": ["g.rate"]},
            "there is no series 'g'",
        ),
    ],
)
def test_a_mistake_is_told_with_the_name_of_the_covariate(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises((ConfigError, SourceError)) as error:
        make_datamodule(tmp_path, ready=False, **{"source": Simulator()} | arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


class OfAge(SimulatedFunding):
    """A source of one's own whose column is called as what every series has."""

    columns = ("rate", "age")


def test_a_column_that_is_called_as_what_every_series_has_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^covariate 'own' has a column 'age', which is what ev"):
        make(tmp_path, ready=False, covariates={"own": OfAge()})


def test_a_covariate_that_no_feature_is_made_of_is_told(tmp_path: Path) -> None:
    beside = {"eth": write(tmp_path, "eth.csv", ETH), "long": Resampled("4h", of="eth")}
    with pytest.warns(UserWarning, match=r"^no feature names long: add one such as 'long."):
        make(tmp_path, ready=False, covariates=beside)
    dm = make(tmp_path, ready=False, covariates=beside, features=["long.close"])  # made of eth
    assert [each.name for each in dm.settings.named_covariates] == ["long"]


# --- which files there are ------------------------------------------------------------------------


def test_series_of_one_source_are_one_file_which_reaches_back_as_far_as_any_needs(
    tmp_path: Path, said: list[str]
) -> None:
    dm = make_datamodule(
        tmp_path,
        source=Simulator(seed=1),
        covariates={
            "eth": Simulator(seed=1, coin="ETH"),
            "same": Simulator(seed=1, coin="ETH"),
            "long": Resampled("1d", of="eth"),
            "day": Resampled("1d"),
        },
        features=["log_return", "eth.close", "same.close", "long.log_return", "day.log_return"],
    )
    assert [line.split()[0] for line in said] == ["candles:", "eth:", "features:"]
    assert path_of(dm, "eth") == path_of(dm, "same") == path_of(dm, "long")
    assert path_of(dm, "day") == dm.candle_path
    # A return of days needs two of them, and the first may be as old as two days.
    for path in (path_of(dm, "eth"), dm.candle_path):
        assert format_instant(read_candles(path).open_time[0]) == "2021-02-25T00:00:00Z"
    assert dm.table.span[0] == parse_instant("2021-03-01")
    assert dm.table.valued.tolist() == [31 * DAY - 1] * 5
    np.testing.assert_array_equal(column(dm, "eth.close"), column(dm, "same.close"))
    long = column(dm, "long.log_return")
    days = read_candles(path_of(dm, "eth")).resample("1d")[0]
    due = np.diff(np.log(days["close"]))  # from 26 February on
    assert np.unique(long[1:23]).tolist() == [np.float32(due[2])]  # the last of February
    np.testing.assert_array_equal(long[23::DAY], due[3:].astype(np.float32))


def test_a_covariate_may_be_the_source_itself(tmp_path: Path, said: list[str]) -> None:
    dm = make(
        tmp_path,
        covariates={"same": CandleFile(str(tmp_path / "btc.csv"))},
        features=["log_return", "none = same.close - close"],
    )
    assert len(said) == 2
    assert not column(dm, ["none", "=", "same.close", "-", "close"][0]).astype(bool)[1:].any()


def test_shorter_bars_and_records_stand_beside_days(tmp_path: Path) -> None:
    dm = make_datamodule(
        tmp_path,
        source=Simulator(seed=1),
        interval="1d",
        end="2021-08-01",
        covariates={
            "oi": SimulatedOpenInterest(seed=1),
            "hour": Resampled("1h", of=Simulator(seed=1)),
        },
        features=["close = close", "oi.sum_open_interest", "last = hour.close"],
    )
    # The last hour of a day ends with it.
    np.testing.assert_array_equal(column(dm, "last"), column(dm, "close"))
    assert dm.table.valued.tolist() == [153] * 3


def test_bars_that_open_at_another_hour(tmp_path: Path) -> None:
    dm = make(
        tmp_path,
        covariates={"day": Resampled("1d", offset="8h"), "four": Resampled("4h", offset="1h")},
        features=["log_return", "day.close", "four.close"],
    )
    day = column(dm, "day.close")
    assert np.isnan(day[:31]).all()  # the first day from 08:00 on closes with the bar of 07:00
    assert day[31] == np.float32(BTC["close"][31])
    assert day[54] == day[31]
    assert day[55] == np.float32(BTC["close"][55])
    assert column(dm, "four.close")[32] == np.float32(BTC["close"][32])
    shifted: dict[str, Any] = {"offset": "30m", "features": ["four.close"], "ready": False}
    with pytest.raises(ConfigError, match=r"4h cannot be joined .*: set its `offset` to 30m"):
        make(tmp_path, covariates={"four": Resampled("4h")}, **shifted)
    make(tmp_path, covariates={"four": Resampled("4h", offset="30m")}, **shifted)


def test_features_may_be_of_covariates_alone(tmp_path: Path) -> None:
    fine = Resampled("15m", of=write(tmp_path, "fine.csv", FINE))
    dm = make(tmp_path, covariates={"fine": fine}, features=["fine.close", "fine.log_return"])
    assert dm.table.warm_up == 0
    quarters = FINE.resample("15m")[0]["close"]
    np.testing.assert_array_equal(column(dm, "fine.close"), quarters[3::4].astype(np.float32))


def test_start_and_end_count_for_all_and_covariates_begin_earlier(tmp_path: Path) -> None:
    beside = {"eth": write(tmp_path, "eth.csv", ETH), "four": Resampled("4h")}
    dm = make(
        tmp_path,
        start="2020-01-03",
        end="2020-01-17",
        covariates=beside,
        features=["eth.volatility", "four.log_return"],
    )
    assert dm.table.rows == 14 * DAY
    assert dm.table.valued.tolist() == [14 * DAY] * 2


def test_what_stands_beside_a_covariate_begins_as_early_as_its_rows_do(tmp_path: Path) -> None:
    def count(eth: pl.DataFrame, funding: pl.DataFrame) -> pl.Series:
        return funding["rate"].is_not_null().cast(pl.Float64).rolling_sum(100)

    feature = Feature("known", lookback=100, compute=count, series="eth", beside=("funding",))
    beside = {"eth": write(tmp_path, "eth.csv", ETH), "funding": SimulatedFunding(seed=1)}
    dm = make(
        tmp_path,
        start="2020-01-10",
        end="2020-01-17",
        covariates=beside,
        features=["log_return", feature],
    )
    rows = column(dm, "known")
    assert rows[1:].tolist() == [100.0] * (7 * DAY - 1)


# --- what is not there ----------------------------------------------------------------------------


def test_a_series_that_begins_later_or_ends_earlier_is_named_where_it_leaves_no_windows(
    tmp_path: Path,
) -> None:
    part = ETH.slice(parse_instant("2020-01-05"), parse_instant("2020-01-13"))
    beside = {"eth": write(tmp_path, "eth.csv", part)}
    features = ["log_return", "eth.close"]
    # Eight days, and two bars that the last of them is not too old for.
    with pytest.raises(ConfigError, match=r"without windows .*, eth.close in 194: widen what they"):
        make(tmp_path, covariates=beside, features=features)
    dm = make(tmp_path, covariates=beside, features=features, max_age={"eth": None})
    assert np.flatnonzero(dm.table.observed)[[0, -1]].tolist() == [4 * DAY, 20 * DAY - 1]
    with pytest.raises(
        ConfigError,
        match=r"^eth.close has no value in any bar, 2020-01-15T00:00:00Z to 2020-01-21T00:00:00Z: "
        r"it is made of 'eth', stored from 2020-01-05T00:00:00Z to 2020-01-13T00:00:00Z: widen",
    ):
        make(tmp_path, covariates=beside, features=features, start="2020-01-15")


def test_a_covariate_that_is_not_stored_or_damaged_is_named(
    tmp_path: Path, said: list[str]
) -> None:
    beside: dict[str, Any] = {
        "eth": write(tmp_path, "eth.csv", ETH),
        "funding": SimulatedFunding(seed=1),
    }
    prepare: dict[str, Any] = {"covariates": beside, "features": ["eth.close", "funding.rate"]}
    dm = make(tmp_path, start="2020-01-02", end="2020-01-20", **prepare)

    def expect(kind: type[Exception], message: str, *, offline: bool = False) -> None:
        other = make(
            tmp_path,
            ready=False,
            start="2020-01-02",
            end="2020-01-20",
            offline=offline,
            **prepare,
        )
        with pytest.raises(kind, match=message):
            (other.prepare_data if offline else other.setup)()

    for name in beside:
        path = path_of(dm, name)
        kept = path.read_bytes()
        path.unlink()
        expect(NotPreparedError, rf"^covariate '{name}': .*/\w+.h5 does not exist: run `btc-da")
        expect(NotPreparedError, rf"^covariate '{name}': .* `offline: true` asks no", offline=True)
        path.write_bytes(kept[:1000])
        expect(StoreError, rf"{path.name} is not a whole HDF5 file: move it away and run")
        path.write_bytes(kept)
    path_of(dm, "eth").write_bytes(dm.candle_path.read_bytes())  # another market, by mistake
    expect(StoreError, r"holds file btc-\w+ 1h bars, not file eth-\w+ 1h: put it", offline=True)


def test_a_covariate_that_was_lost_is_fetched_again_to_the_same_features(
    tmp_path: Path, said: list[str]
) -> None:
    arguments: dict[str, Any] = {
        "covariates": {"funding": SimulatedFunding(seed=1)},
        "features": ["log_return", "funding.rate"],
        "start": "2020-01-02",
        "end": "2020-01-20",
    }
    dm = make(tmp_path, **arguments)
    path_of(dm, "funding").unlink()
    assert make(tmp_path, **arguments).table.key == dm.table.key


def test_in_an_outage_a_covariate_grows_old_and_meets_nobody(tmp_path: Path) -> None:
    gone = slice(9 * DAY + 8, 10 * DAY + 8)
    there = np.r_[0 : gone.start, gone.stop : 20 * DAY]
    columns = {name: ETH[name][there] for name in ETH.columns}
    patchy = write(tmp_path, "eth.csv", Candles(HOUR, columns))
    arguments: dict[str, Any] = {
        "covariates": {"eth": patchy},
        "features": ["eth.close", "old = age(eth)", "ratio = eth.close / close"],
        "max_age": {"eth": "6h"},
        "undefined": "flag",
        "mask": "feature",
    }
    dm = make(tmp_path, **arguments)
    assert find_features(dm.table) == {}, "what is not known is not undefined"
    hours = np.arange(20 * DAY)
    age = np.where((hours >= gone.start) & (hours < gone.stop), hours - gone.start + 1, 0)
    observed = np.asarray(dm.table.observed)
    np.testing.assert_array_equal(observed[:, 0], age <= 6)
    np.testing.assert_array_equal(observed[:, 1], age <= 6)
    np.testing.assert_array_equal(observed[:, 2], age == 0)
    np.testing.assert_array_equal(dm.table.x[age <= 6, 1], age[age <= 6])
    taken = (ETH["close"][hours - age])[age <= 6].astype(np.float32)
    np.testing.assert_array_equal(dm.table.x[age <= 6, 0], taken)


# --- a store that is moved, and files that are not there any more ---------------------------------


def test_a_store_that_is_moved_serves_without_its_files(tmp_path: Path, said: list[str]) -> None:
    beside = {"eth": write(tmp_path, "eth.csv", ETH), "funding": SimulatedFunding(seed=1)}
    arguments: dict[str, Any] = {
        "covariates": beside,
        "features": ["eth.close", "funding.rate"],
        "start": "2020-01-02",
        "end": "2020-01-20",
    }
    dm = make(tmp_path, **arguments)
    source = dm.source
    shutil.move(tmp_path / "data", tmp_path / "elsewhere")
    (tmp_path / "btc.csv").unlink()
    (tmp_path / "eth.csv").rename(tmp_path / "ether.csv")
    for renamed in (False, True):
        if renamed:  # the same bars under another name are the same series
            beside["eth"] = CandleFile(str(tmp_path / "ether.csv"))
        said.clear()
        other = make_datamodule(
            tmp_path, source=source, data_dir=str(tmp_path / "elsewhere"), batch_size=8, **arguments
        )
        assert other.table.key == dm.table.key
        notes = [line for line in said if "what is stored is used" in line]
        assert len(notes) == 2 - renamed


# --- a source out of reach ------------------------------------------------------------------------


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    with Exchange(CoinbaseAnswers(ETH, product="ETH-USD")) as server:
        yield server


def of_the_exchange(exchange: Exchange) -> Source:
    return Coinbase(
        product="ETH-USD",
        base_url=exchange.url,
        requests_per_second=10_000,
        attempts=1,
        retry_wait=0.001,
    )


def test_two_covariates_of_one_market_are_asked_for_once(
    tmp_path: Path, exchange: Exchange
) -> None:
    arguments: dict[str, Any] = {
        "start": "2020-01-02",
        "end": "2020-01-20",
        "covariates": {"eth": of_the_exchange(exchange), "also": of_the_exchange(exchange)},
        "features": ["eth.close", "also.close"],
    }
    make(tmp_path, **arguments)
    asked = len(exchange.requests)
    assert asked == len({str(request.query) for request in exchange.requests})
    make(tmp_path, **arguments)
    assert len(exchange.requests) == asked


def test_of_a_source_out_of_reach_the_latest_bars_are_done_without_and_others_are_an_error(
    tmp_path: Path, exchange: Exchange, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = parse_instant("2020-01-18")
    arguments: dict[str, Any] = {
        "max_age": {"eth": "5h"},
        "start": "2020-01-02",
        "covariates": {"eth": of_the_exchange(exchange)},
        "features": ["log_return", "eth.close"],
    }
    exchange.faults += [ex.SERVER_ERROR] * 9
    with pytest.raises(SourceError, match=r"^covariate 'eth': http://127.0.0.1:\d+/products/ETH"):
        make(tmp_path, **arguments)
    exchange.faults.clear()
    monkeypatch.setattr(time, "time", lambda: now + 10.0)
    make(tmp_path, **arguments)
    now += 4 * HOUR
    exchange.faults += [ex.SERVER_ERROR] * 9
    said.clear()
    dm = make(tmp_path, **arguments)
    [note] = [line for line in said if "what is stored is used, up to 2020-01-18T00:00" in line]
    assert note.startswith("note:     coinbase ETH-USD: http://127.0.0.1")
    stored = dm.table.find_row(parse_instant("2020-01-18"))
    assert np.flatnonzero(dm.table.observed)[-1] == stored + 4, (
        "what is five hours old is not too old"
    )


# --- in Python ------------------------------------------------------------------------------------


def test_a_function_is_given_the_frames_of_the_series_that_it_asks_for(tmp_path: Path) -> None:
    def spread(bars: pl.DataFrame, eth: pl.DataFrame, funding: pl.DataFrame) -> pl.Series:
        return (bars["close"] - eth["close"]) * (funding["age"] < 4)

    dm = make(
        tmp_path,
        start="2020-01-02",
        end="2020-01-10",
        covariates={
            "eth": write(tmp_path, "eth.csv", ETH),
            "funding": SimulatedFunding(seed=1),
        },
        features=[Feature("spread", lookback=1, compute=spread, beside=("eth", "funding"))],
    )
    found = column(dm, "spread")
    apart = (BTC["close"] - ETH["close"])[DAY : 9 * DAY].astype(np.float32)
    hours = np.arange(1, len(found) + 1) % 8  # since funding was paid, at the close of a bar
    np.testing.assert_array_equal(found, np.where(hours < 4, apart, 0))
