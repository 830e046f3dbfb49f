"""The join beside pandas: ``merge_asof`` on when things were known, and on what they are labelled.

Everything on the right side of ``merge_asof`` is made here, by pandas, from the stored candles and
records. Merged on when each value became known it agrees with the feature file on every row of a
month; merged on labels, as is often done, it has values that nobody knew yet.
"""

import numpy as np
import pandas as pd
import pytest

from btc_datamodule import (
    BTCDataModule,
    DateSplit,
    Resampled,
    SimulatedFunding,
    SimulatedOpenInterest,
    Simulator,
    read_candles,
)
from btc_datamodule.candles.records import RecordSet
from btc_datamodule.store.record_file import read_records

MINUTES, HOUR = 300, 3600
FEATURES = ("hour.close", "eth.close", "funding.rate", "oi.sum_open_interest", "hour.log_return")


@pytest.fixture(scope="module")
def dm(tmp_path_factory: pytest.TempPathFactory) -> BTCDataModule:
    made = BTCDataModule(
        Simulator(seed=3, no_trade=0.02),
        interval="5m",
        start="2024-01-01",
        end="2024-02-01",
        covariates={
            "hour": Resampled("1h"),
            "eth": Simulator(seed=3, coin="ETH", no_trade=0.02),
            "funding": SimulatedFunding(seed=3),
            "oi": SimulatedOpenInterest(seed=3, late=0.1, missing=0.05),
        },
        max_age={"hour": None, "eth": None, "oi": None},
        features=FEATURES,
        mask="feature",
        min_observed=0.5,
        split=DateSplit(val="2024-01-20", test="2024-01-25"),
        data_dir=str(tmp_path_factory.mktemp("data")),
    )
    made.prepare_data()
    made.setup()
    return made


def list_right(dm: BTCDataModule) -> dict[str, pd.DataFrame]:
    """For each feature its values, what they are labelled and since when they are known."""
    settings = dm.settings
    paths = {
        each.name: each.locate(settings.data_dir, dm.candle_path) for each in settings.covariates
    }
    close = read_candles(dm.candle_path).to_pandas()["close"]
    hour = close.resample("1h", label="left", closed="left").last()
    eth = read_candles(paths["eth"]).to_pandas()["close"]
    # A bar that is absent is filled flat; of those that are, no more than 3 come in a row.
    eth = eth.asfreq("5min").ffill()
    made = {
        "hour.close": make_frame(hour.index, HOUR, hour.to_numpy()),
        "hour.log_return": make_frame(hour.index, HOUR, np.log(hour / hour.shift(1)).to_numpy()),
        "eth.close": make_frame(eth.index, MINUTES, eth.to_numpy()),
        "funding.rate": make_frame_of_records(read_records(paths["funding"]), "rate"),
        "oi.sum_open_interest": make_frame_of_records(
            read_records(paths["oi"]), "sum_open_interest"
        ),
    }
    return {name: frame.dropna() for name, frame in made.items()}


def make_frame(index: pd.DatetimeIndex, interval: int, values: np.ndarray) -> pd.DataFrame:
    label = index.as_unit("s").astype("int64")
    return pd.DataFrame({"label": label, "known_at": label + interval, "value": values})


def make_frame_of_records(records: RecordSet, column: str) -> pd.DataFrame:
    """Records by when they became known; one of an earlier time than is known says nothing new."""
    frame = pd.DataFrame(
        {"label": records.time, "known_at": records.known_at, "value": records[column]}
    ).sort_values(["known_at", "label"])
    return frame[frame["label"] >= frame["label"].cummax()]


def merge(dm: BTCDataModule, right: pd.DataFrame, on: str, instant: int) -> np.ndarray:
    """The values that ``merge_asof`` gives each bar at an instant, counted from its opening."""
    table = dm.table
    opens = table.first + table.interval * np.arange(table.rows)
    left = pd.DataFrame({"when": opens + instant})
    merged = pd.merge_asof(left, right.sort_values(on), left_on="when", right_on=on)
    values: np.ndarray = merged["value"].to_numpy()
    return values


@pytest.mark.parametrize("name", FEATURES)
def test_merged_on_when_values_are_known_pandas_agrees_on_every_row(
    dm: BTCDataModule, name: str
) -> None:
    column = FEATURES.index(name)
    ours = np.array(dm.table.x[:, column], dtype=np.float64)
    ours[dm.table.observed[:, column] == 0] = np.nan
    theirs = merge(dm, list_right(dm)[name], "known_at", MINUTES)
    warm = dm.table.warm_up
    assert dm.table.rows == 31 * 288
    np.testing.assert_allclose(ours[warm:], theirs[warm:], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "least"), [("hour.close", 0.9), ("eth.close", 0.9), ("oi.sum_open_interest", 0.5)]
)
def test_merged_on_labels_pandas_has_what_nobody_knew(
    dm: BTCDataModule, name: str, least: float
) -> None:
    right = list_right(dm)[name]
    opened = 0 if name == "hour.close" else MINUTES
    naive = merge(dm, right, "label", opened)
    known = merge(dm, right, "known_at", MINUTES)
    wrong = ~np.isclose(naive, known, rtol=1e-9, equal_nan=True)
    assert wrong.mean() > least
    row = int(np.flatnonzero(wrong & np.isfinite(naive))[100])
    close = dm.table.find_time(row) + MINUTES
    of_naive = right[np.isclose(right["value"], naive[row], rtol=1e-12)]
    assert (of_naive["known_at"] > close).all()  # the value of a time that was still to come
    column = FEATURES.index(name)
    assert dm.table.x[row, column] == pytest.approx(known[row], rel=1e-6)
