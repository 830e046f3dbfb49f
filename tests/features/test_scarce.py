"""What a person is told who has no windows, of what bars know of covariates."""

from pathlib import Path

from btc_datamodule import BTCDataModule, Resampled, SimulatedFunding
from btc_datamodule.features.scarce import measure_reach, tell_scarce
from tests.factories import HOUR, make_datamodule


def of(folder: Path, *features: str) -> BTCDataModule:
    return make_datamodule(
        folder,
        covariates={"day": Resampled("1d"), "funding": SimulatedFunding(seed=1)},
        max_age={"day": "20h"},  # so that a day counts until the next evening
        features=features,
        min_observed=0.5,
    )


def test_nothing_is_told_of_features_of_the_candles(tmp_path: Path) -> None:
    dm = of(tmp_path, "log_return")
    assert tell_scarce(dm.table, dm.features) == ""
    assert measure_reach(dm.table) == 0


def test_how_far_back_bars_reach_is_told_in_hours(tmp_path: Path) -> None:
    dm = of(tmp_path, "log_return", "funding.rate")
    # Paid at 08:00 for the eight hours before, and known until the bar that closes at 15:00.
    assert measure_reach(dm.table) == 14 * HOUR
    assert tell_scarce(dm.table, dm.features) == (
        ". What bars know of covariates is up to 14h old, and none of it may be from before the "
        "start of train"
    )


def test_features_that_lack_values_in_known_bars_are_named(tmp_path: Path) -> None:
    dm = of(tmp_path, "day.close", "funding.rate")
    valued = dict(zip(dm.table.features, dm.table.valued.tolist(), strict=True))
    told = tell_scarce(dm.table, dm.features)
    assert f"have a value in fewer of these bars, day.close in {valued['day.close']}: widen" in told
    assert "funding.rate in" not in told
