"""Whether prices beside the candles move before them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from btc_datamodule import Block, BTCDataModule, Candles, Simulator, Source
from btc_datamodule.audit.ahead import check_nothing_runs_ahead
from btc_datamodule.audit.compare import LeakError
from btc_datamodule.candles.records import RecordSet
from btc_datamodule.candles.timeline import Span
from tests.audit.planted.beside import Told, make_eth
from tests.audit.planted.leak import make, make_candles
from tests.factories import HOUR, InMemory, random_hourly

WITH_RECORDS = ["log_return", "r = told.close.log().diff()"]


@dataclass(frozen=True)
class Shifted(Source):
    """The ether of the simulator, ``early`` seconds before it was."""

    early: int

    name = "shifted"

    @property
    def series(self) -> str:
        return f"by-{self.early}"

    def blocks(self, interval: int, span: Span) -> Any:
        start, end = span
        for block in Simulator(seed=2, coin="ETH").blocks(
            interval, (start + self.early, end + self.early)
        ):
            times = block.candles.open_time - self.early
            candles = Candles(interval, {**block.candles.columns, "open_time": times})
            low, high = (each - self.early for each in block.span)
            yield Block((low, high), candles, "shifted")


def open_stages(folder: Path, **arguments: Any) -> Any:
    dm: BTCDataModule = make(folder, **arguments)
    dm.prepare_data()
    dm.setup()
    return dm.stages


def make_shifted(folder: Path, early: int, interval: str) -> Any:
    return open_stages(
        folder,
        source=Simulator(seed=2),
        interval=interval,
        start="2021-03-01",
        end="2021-03-15",
        covariates={"eth": Shifted(early)},
        features=["log_return", "eth.log_return"],
    )


@pytest.mark.parametrize(
    ("early", "interval", "said"),
    [(HOUR, "1h", "1h"), (HOUR, "15m", "1h"), (13 * HOUR, "1h", "13h"), (1800, "5m", "30m")],
)
def test_a_clock_that_is_fast_is_told_by_how_much(
    early: int, interval: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(LeakError, match=rf"'eth' runs ahead: .* the candles have {said} later"):
        check_nothing_runs_ahead(make_shifted(tmp_path, early, interval))


@pytest.mark.parametrize(("early", "alike"), [(0, 1), (-HOUR, 0)])
def test_a_right_clock_or_a_slow_one_shows_nothing_too_early(
    early: int, alike: int, tmp_path: Path
) -> None:
    found = check_nothing_runs_ahead(make_shifted(tmp_path, early, "1h"))
    assert found == {"series": 1, "alike": alike}


def test_a_market_that_moves_a_minute_before_another_does_not_run_ahead(tmp_path: Path) -> None:
    stages = open_stages(
        tmp_path,
        source=Simulator(seed=2),
        interval="1m",
        start="2021-03-01",
        end="2021-03-02",
        covariates={"eth": Shifted(60)},
        features=["log_return", "eth.log_return"],
    )
    assert check_nothing_runs_ahead(stages) == {"series": 1, "alike": 0}


def test_of_records_it_is_told_by_when_they_were_known(tmp_path: Path) -> None:
    eth = make_eth()
    for number, (late, fails) in enumerate([(HOUR, False), (0, True)]):
        columns = {"time": eth.open_time, "known_at": eth.open_time + late, "close": eth["close"]}
        stages = open_stages(
            tmp_path / str(number),
            covariates={"told": Told(RecordSet(columns))},
            features=WITH_RECORDS,
        )
        if fails:
            with pytest.raises(LeakError, match="'told' runs ahead"):
                check_nothing_runs_ahead(stages)
        else:
            assert check_nothing_runs_ahead(stages) == {"series": 1, "alike": 1}


def test_nothing_is_told_of_what_has_no_prices_or_goes_its_own_way(tmp_path: Path) -> None:
    eth = make_eth()
    above = eth["close"] - eth["close"].mean()
    signed = {"time": eth.open_time, "known_at": eth.open_time + HOUR, "close": above}
    few = RecordSet({name: np.array([1, 5]) for name in ("time", "known_at", "close")})
    own = random_hourly([True] * 600, seed=5)
    for number, (source, feature, series) in enumerate(
        [
            (Told(RecordSet(signed)), "told.close", 0),
            (Told(few), "told.close", 0),
            (InMemory(own, "own"), "told.log_return", 1),
        ]
    ):
        stages = open_stages(
            tmp_path / str(number),
            covariates={"told": source},
            features=["log_return", feature],
        )
        found = check_nothing_runs_ahead(stages)
        assert (found["series"], found["alike"]) == (series, 0)


def test_outages_of_either_hide_nothing(tmp_path: Path) -> None:
    stages = open_stages(
        tmp_path,
        source=InMemory(make_candles((50, 40), (300, 30))),
        covariates={"eth": InMemory(make_eth((120, 50), (400, 30), shift=3 * HOUR), "early")},
        features=["log_return", "eth.log_return"],
        max_fill=0,
    )
    with pytest.raises(LeakError, match="3h later"):
        check_nothing_runs_ahead(stages)
    assert np.isnan(stages.table.bars("close")).sum() > 60
