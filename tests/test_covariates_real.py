"""Real files beside each other: what rows are due by the lines of the files, worked out by hand.

Logarithms are those of ``bc -l``. The files are not part of the repository.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from btc_datamodule import BTCDataModule, CandleFile, Resampled
from btc_datamodule.candles.timeline import parse_instant
from tests.factories import make_datamodule


def row_of(dm: BTCDataModule, opened: str) -> dict[str, float]:
    """The features of the bar that opens then, by name; all of them observed."""
    table = dm.table
    row = table.find_row(parse_instant(opened))
    assert table.observed[row] == 1
    return dict(zip(table.features, table.x[row].tolist(), strict=True))


def assert_due(dm: BTCDataModule, opened: str, due: dict[str, float]) -> None:
    found = row_of(dm, opened)
    assert found.keys() == due.keys()
    for name, value in due.items():
        assert found[name] == np.float32(value), name


@pytest.fixture(scope="module")
def exchanges(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> BTCDataModule:
    """Hours of Kraken, and beside them hours and days of Coinbase."""
    return make_datamodule(
        tmp_path_factory.mktemp("exchanges"),
        source=CandleFile(str(real_data / "kraken/XBTUSD_60.csv"), columns="kraken"),
        interval="1h",
        start="2019-05-01",
        end="2020-06-01",
        covariates={
            "coinbase": CandleFile(
                str(real_data / "cryptodatadownload/Coinbase_BTCUSD_1h_2020-10.csv")
            ),
            "day": Resampled("1d", of="coinbase"),
        },
        features=[
            "kraken = close",
            "coinbase.log_return",
            "basis = (coinbase.close / close).log()",
            "day.close",
        ],
    )


EXCHANGES = {
    # 1584007200,7348.2,7361.0,5632.3,6066.6,5533.8594708801,19690
    # 1584003600.0,2020-03-12 09-AM,BTCUSD,7373.08,7382.16,7331.49,7346.44,724.35,5330437.28
    # 1584007200.0,2020-03-12 10-AM,BTCUSD,7346.44,7360.9,5578,6103.89,7048.06,47010460.25
    # The newest day that has closed is the one before:
    # 1583967600.0,2020-03-11 11-PM,BTCUSD,7954.43,7980,7912.86,7938.05,378.81,3007619.95
    "2020-03-12T10:00:00": {
        "kraken": 6066.6,
        "coinbase.log_return": -0.185289569296164844882370,  # ln(6103.89 / 7346.44)
        "basis": 0.006127956506649080764759,  # ln(6103.89 / 6066.6)
        "day.close": 7938.05,
    },
    # 1584054000,5794.1,5796.3,4672.3,4850.0,7113.4208622302,21215
    # 1584050400.0,2020-03-12 10-PM,BTCUSD,5805.8,5940,5717.1,5802.24,5435.6,31595635.25
    # 1584054000.0,2020-03-12 11-PM,BTCUSD,5802.24,5802.24,4644,4857.1,14339.11,73117493.12
    # The last hour of the day closes with it.
    "2020-03-12T23:00:00": {
        "kraken": 4850.0,
        "coinbase.log_return": -0.177802497897729251242411,  # ln(4857.1 / 5802.24)
        "basis": 0.001462847043116926548051,  # ln(4857.1 / 4850.0)
        "day.close": 4857.1,
    },
    # 1563138000,10644.88223,10644.88223,10616.37264,10621.1,4.31425333,9
    # (Kraken has no trade from 22:00 to 01:00: its last close stands)
    # 1563138000.0,2019-07-14 09-PM,BTCUSD,10638,10718.2,10534.86,10657.96,787.0,8367564.59
    # 1563141600.0,2019-07-14 10-PM,BTCUSD,10657.96,10670.37,10468.09,10492.51,962.93,10195258.76
    # The day before: 1563058800.0,2019-07-13 11-PM,BTCUSD,11275,11401,11217.09,11370.08,...
    "2019-07-14T22:00:00": {
        "kraken": 10621.1,
        "coinbase.log_return": -0.015645361531329746553710,  # ln(10492.51 / 10657.96)
        "basis": -0.012180919317506268762730,  # ln(10492.51 / 10621.1)
        "day.close": 11370.08,
    },
}


@pytest.mark.parametrize("opened", EXCHANGES)
def test_hours_of_kraken_with_hours_and_days_of_coinbase(
    exchanges: BTCDataModule, opened: str
) -> None:
    assert_due(exchanges, opened, EXCHANGES[opened])


def test_days_joined_by_their_label_would_know_the_crash_ten_hours_before(
    exchanges: BTCDataModule,
) -> None:
    """What a join by the opening of the day gives at 10:00 is the close of the night to come."""
    by_label = EXCHANGES["2020-03-12T23:00:00"]["day.close"]
    for hour in range(23):
        assert row_of(exchanges, f"2020-03-12T{hour:02}:00:00")["day.close"] != np.float32(by_label)


@pytest.fixture(scope="module")
def markets(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> BTCDataModule:
    """Hours of Binance's spot market, and beside them five minutes of the perpetual, joined."""
    perpetual: Any = CandleFile(str(real_data / "binance_um_5m/BTCUSDT-5m-2025-01.csv"))
    return make_datamodule(
        tmp_path_factory.mktemp("markets"),
        source=CandleFile(str(real_data / "binance_spot_1h/BTCUSDT-1h-2025-01.csv")),
        interval="1h",
        covariates={"fine": Resampled("5m", of=perpetual), "perp": Resampled("1h", of="fine")},
        features=[
            "perp.close",
            "perp.volume",
            "perp.trades",
            "perp.log_return",
            "perp.log_range",
            "basis = (perp.close / close).log()",
            "fine.open",
        ],
    )


MARKETS = {
    # spot: 1735693200000000,94401.13,94408.72,93578.77,93607.74,586.53456,...
    # 00:55 1735692900000,94223.50,94449.20,94177.60,94363.60,1017.607,...
    # highest of the hour: 01:00 1735693200000,94363.60,94363.70,94062.80,94081.60,600.166,...
    # lowest:  01:50 1735696200000,93829.80,93829.80,93545.00,93602.70,573.369,...
    # last:    01:55 1735696500000,93602.60,93621.20,93566.60,93588.00,220.423,...
    "2025-01-01T01:00:00": {
        "perp.close": 93588.00,
        "perp.volume": 3991.464,
        "perp.trades": 83154,
        "perp.log_return": -0.008253235434573131846915,  # ln(93588.00 / 94363.60)
        "perp.log_range": 0.008713861363649850770083,  # ln(94363.70 / 93545.00)
        "basis": -0.000210902236056965761258,  # ln(93588.00 / 93607.74)
        "fine.open": 93602.60,
    },
    # spot: 1737385200000000,107866.65,107990.00,104480.00,104957.99,4436.56636,...
    # 14:55 closes at 107918.50
    # highest: 15:05 1737385500000,107842.00,108050.00,107625.30,107682.10,542.635,...
    # lowest and last: 15:55 1737388500000,105580.00,105589.00,104500.00,105008.70,5634.706,...
    "2025-01-20T15:00:00": {
        "perp.close": 105008.70,
        "perp.volume": 27471.726,
        "perp.trades": 575562,
        "perp.log_return": -0.027333108750407655078982,  # ln(105008.70 / 107918.50)
        "perp.log_range": 0.033407011548029286392910,  # ln(108050.00 / 104500.00)
        "basis": 0.000483029007943677610425,  # ln(105008.70 / 104957.99)
        "fine.open": 105580.00,
    },
    # spot: 1738364400000000,102261.29,102439.31,101955.00,102429.56,587.31239,...
    # 22:55 closes at 102212.90
    # lowest: 23:05 1738364700000,101970.80,102071.30,101900.50,102071.30,358.628,...
    # highest and last: 23:55 1738367700000,102352.60,102390.50,102326.80,102379.70,163.458,...
    "2025-01-31T23:00:00": {
        "perp.close": 102379.70,
        "perp.volume": 2783.077,
        "perp.trades": 75627,
        "perp.log_return": 0.001630557869211222436843,  # ln(102379.70 / 102212.90)
        "perp.log_range": 0.004797087876200452933755,  # ln(102390.50 / 101900.50)
        "basis": -0.000486892057370847381986,  # ln(102379.70 / 102429.56)
        "fine.open": 102352.60,
    },
}


@pytest.mark.parametrize("opened", MARKETS)
def test_hours_of_the_spot_market_with_the_perpetual_joined_of_five_minutes(
    markets: BTCDataModule, opened: str
) -> None:
    assert_due(markets, opened, MARKETS[opened])
