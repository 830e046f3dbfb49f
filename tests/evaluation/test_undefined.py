"""Features without a value for known bars: windows are counted, named, and kept if so wished."""

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from btc_datamodule import BTCDataModule, CandleFile, Feature, FractionSplit
from btc_datamodule.candles.runs import count_rows
from btc_datamodule.errors import ConfigError
from btc_datamodule.evaluation.splits import STAGES
from btc_datamodule.features.undefined import find_features
from tests.factories import HOUR, START, candles_of, make_datamodule

QUIET = [50, 51, 52, 168, 193]
"""Rows without a trade: three in train, one in val, one in test."""

BARS = 200


@pytest.fixture
def source(tmp_path: Path) -> CandleFile:
    frame = candles_of(np.ones(BARS, dtype=bool)).to_polars()
    number = pl.int_range(pl.len())
    volume = pl.when(number.is_in(QUIET)).then(0.0).otherwise(pl.col("volume"))
    frame.with_columns(volume.alias("volume")).write_csv(tmp_path / "hours.csv")
    return CandleFile(str(tmp_path / "hours.csv"))


make = partial(
    make_datamodule,
    lookback=4,
    horizon=1,
    batch_size=16,
    split=FractionSplit(val=0.1, test=0.1),
    features=["log_return", "quiet = volume.log()"],
)


def test_a_warning_names_the_feature_the_windows_and_where(
    tmp_path: Path, source: CandleFile
) -> None:
    dm = make(tmp_path, source=source, ready=False)
    dm.prepare_data()
    with pytest.warns(UserWarning, match="windows are left out") as told:
        dm.setup()
    text = str(told[0].message)
    # Each quiet bar is an input of four windows; the three in a row of six.
    assert "(train 6, val 4, test 4, predict 4)" in text
    assert "quiet in 5 of 200 bars (2020-01-03T02:00:00Z to 2020-01-09T01:00:00Z)" in text
    assert "`undefined: flag`" in text
    frame = dm.describe()
    assert dict(frame.select("stage", "undefined").rows()) == {
        "train": 6,
        "val": 4,
        "test": 4,
        "predict": 4,
    }


def test_what_the_warning_advises_keeps_every_window(tmp_path: Path, source: CandleFile) -> None:
    with pytest.warns(UserWarning, match="left out"):
        dropped = make(tmp_path, source=source)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        features = ["log_return", "quiet = max(volume, 0.001).log()"]
        written = make(tmp_path, source=source, features=features)
        flagged = make(tmp_path, source=source, undefined="flag")
    for stage, lost in zip(STAGES, (6, 4, 4, 4), strict=True):
        assert len(written.dataset(stage)) == len(dropped.dataset(stage)) + lost
        assert len(flagged.dataset(stage)) == len(dropped.dataset(stage)) + lost
    assert flagged.describe()["undefined"].sum() == 0


def test_flagged_bars_hold_0_and_a_last_column_says_so(tmp_path: Path, source: CandleFile) -> None:
    dm = make(tmp_path, source=source, undefined="flag", scaling="none", shuffle="none")
    assert dm.n_features == 3
    assert dm.table.features == ("log_return", "quiet", "undefined")
    batch = dm.dataset("train")[np.arange(len(dm.dataset("train")))]
    rows = (batch.origin_time.numpy() - START) // HOUR
    flags = np.isin(rows[:, None] + np.arange(-3, 1), QUIET)
    np.testing.assert_array_equal(batch.x[:, :, 2].numpy(), flags)
    assert (batch.x[:, :, 1].numpy()[flags] == 0).all()
    assert batch.observed.all()
    assert dm.audit(ask_source=False).passed


@pytest.mark.parametrize("scaling", ["train", "robust", "window"])
def test_a_flagged_bar_is_in_the_middle_of_what_is_scaled_and_no_statistic_counts_it(
    tmp_path: Path, source: CandleFile, scaling: str
) -> None:
    dm = make(tmp_path, source=source, undefined="flag", scaling=scaling)
    ahead, rows = dm.dataset("train"), dm.dataset("train")
    rows.ahead_bytes = 0
    batch, other = (each[np.arange(len(each))] for each in (ahead, rows))
    for one, same in zip(batch, other, strict=True):
        assert one.numpy().tobytes() == same.numpy().tobytes()
    at = (batch.origin_time.numpy() - START) // HOUR
    flags = np.isin(at[:, None] + np.arange(-3, 1), QUIET)
    assert flags.any()
    assert (batch.x[:, :, 1].numpy()[flags] == 0).all()
    assert np.isfinite(batch.x.numpy()).all()
    volume = np.delete(dm.table.bars("volume")[1:160], np.array(QUIET[:3]) - 1)
    due = {"train": np.log(volume).mean(), "robust": np.median(np.log(volume)), "window": 0}
    assert dm.scaler.center[1] == pytest.approx(due[scaling], rel=1e-6)
    assert dm.scaler.scale[2] == 1
    assert dm.audit(ask_source=False).passed


def test_flagged_bars_come_alike_from_a_device(tmp_path: Path, source: CandleFile) -> None:
    options: dict[str, Any] = {"source": source, "undefined": "flag", "shuffle": "none"}
    host = next(iter(make(tmp_path, **options).train_dataloader()))
    dm = make(tmp_path, gather="device", **options)
    device = dm.transfer_batch_to_device(next(iter(dm.train_dataloader())), "cpu", 0)
    for one, other in zip(host, device, strict=True):
        assert one.numpy().tobytes() == other.numpy().tobytes()


def test_a_name_is_shown_escaped(tmp_path: Path, source: CandleFile) -> None:
    named = Feature("quiet\x1b[31m", 1, pl.col("volume").log())
    with pytest.warns(UserWarning, match="left out") as told:
        make(tmp_path, source=source, features=["log_return", named])
    assert r"quiet\x1b[31m in 5 of 200 bars" in str(told[0].message)


def test_fail_is_an_error_that_names_the_feature(tmp_path: Path, source: CandleFile) -> None:
    dm = make(tmp_path, source=source, undefined="fail", ready=False)
    dm.prepare_data()
    with pytest.raises(ConfigError, match=r"no value for bars that are known: quiet in 5 of 200"):
        dm.setup()
    make(tmp_path, source=source, undefined="fail", features=["log_return"])


@pytest.mark.parametrize("undefined", ["drop", "flag"])
def test_a_feature_that_never_has_a_value_is_named(
    tmp_path: Path, source: CandleFile, undefined: str
) -> None:
    features = ["log_return", "never = 1 / (close - close)"]
    with pytest.raises(ConfigError, match=r"^never has no value in any bar: mend it, or take it"):
        make(tmp_path, source=source, features=features, undefined=undefined)


def test_where_no_window_is_left_for_it_the_feature_is_blamed_and_not_the_split(
    tmp_path: Path, source: CandleFile
) -> None:
    late = Feature("late", 1, pl.when(pl.col("open_time") < START + 150 * HOUR).then(1.0))
    with pytest.raises(ConfigError, match=r"^features leave a stage without windows \(train "):
        make(tmp_path, source=source, features=["log_return", late])


def test_bars_after_an_outage_are_no_fault_of_a_feature(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dm = make_datamodule(tmp_path, features=["log_return", "relative_volume"])
    assert len(dm.table.outages)
    assert not len(dm.table.undefined)


def test_on_the_clock_of_a_covariate_the_value_before_stands_and_nothing_is_undefined(
    tmp_path: Path, source: CandleFile
) -> None:
    features = ["log_return", "own = eth.volume.log()", "met = eth.volume.log() - close.log()"]
    arguments: dict[str, Any] = {"source": source, "covariates": {"eth": source}}
    arguments["max_age"] = {"eth": "1h"}  # a value of an hour before stands, one of two does not
    dm = make(tmp_path, **arguments, features=features[:2], undefined="fail")
    own = np.array(dm.table.x[:, 1])
    np.testing.assert_array_equal(own[[50, 168, 193]], own[[49, 167, 192]])
    assert np.flatnonzero(dm.table.observed[1:] == 0).tolist() == [50, 51]  # rows 51 and 52
    arguments |= {"mask": "feature", "min_observed": 0.9}
    dm = make(tmp_path, **arguments, features=features, undefined="flag")
    flagged, *_ = find_features(dm.table).items()
    assert (flagged[0], count_rows(flagged[1])) == ("met", len(QUIET))
    assert np.flatnonzero(dm.table.observed[1:, 1] == 0).tolist() == [50, 51]


def test_a_checkpoint_says_whether_its_features_were_flagged(
    tmp_path: Path, source: CandleFile
) -> None:
    flagged = make(tmp_path, source=source, undefined="flag").state_dict()
    with pytest.warns(UserWarning, match="left out"):
        dm = make(tmp_path, source=source)
    with pytest.raises(ConfigError, match="undefined was 'flag', is 'drop'"):
        dm.load_state_dict(flagged)
    strict = make(tmp_path, source=source, undefined="fail", ready=False)
    strict.settings.check_same(dm.state_dict()["settings"], "the checkpoint")
    kept = dm.state_dict()
    del kept["settings"]["undefined"]  # as before there was such a setting
    dm.load_state_dict(kept)


def test_a_feature_may_not_have_the_name_of_the_flag() -> None:
    with pytest.raises(ConfigError, match="a feature is named 'undefined'"):
        BTCDataModule(features=["undefined = close / open"], undefined="flag")
    with pytest.raises(ConfigError, match="undefined is 'keep': choose one of drop, flag, fail"):
        BTCDataModule(undefined="keep")  # type: ignore[arg-type]
