"""A feature file is used again only if its features still compute what is stored."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from btc_datamodule.errors import ConfigError
from btc_datamodule.features.build import build
from btc_datamodule.features.feature import Feature, is_own
from btc_datamodule.features.layout import MaskOf
from btc_datamodule.features.table import Table
from tests.features.tables import recipe


@pytest.fixture
def by(tmp_path: Path) -> Path:
    """A file with the number that ``read_from`` multiplies by."""
    file = tmp_path / "by.txt"
    file.write_text("1.5")
    return file


def read_from(file: Path, first: int = 0) -> Feature:
    """A feature that reads a file, and what is in it counts from a row on."""

    def compute(bars: pl.DataFrame) -> pl.Series:
        changed = (bars["open_time"] >= first).cast(pl.Float64)
        return bars["close"] * (1 + changed * float(file.read_text()))

    return Feature("scaled", 1, compute)


@pytest.mark.parametrize("row", [0, -1])
def test_a_feature_that_reads_what_has_changed_is_named_and_the_advice_works(
    by: Path, candles: Path, row: int
) -> None:
    first = 0
    if row:
        table = Table.open(build(candles, recipe("log_return")))
        first = table.find_time(table.rows + row)
    ours = recipe("log_return", read_from(by, first))
    path = build(candles, ours)
    assert build(candles, ours) == path
    by.write_text("2.5")
    with pytest.raises(ConfigError, match=r"feature 'scaled' at 20\d\d.* Remove .*h5 to") as raised:
        build(candles, ours)
    assert str(path) in str(raised.value)
    before = Table.open(path).x[-1, 1]
    path.unlink()
    assert build(candles, ours) == path
    now = Table.open(path).x[-1, 1]
    assert now / before == pytest.approx(3.5 / 2.5)


@pytest.mark.parametrize(
    "compute",
    [
        lambda bars: bars["close"].rolling_mean(20),
        lambda bars: bars["close"].log().diff().rolling_std(20),
        lambda bars: bars["volume"].rolling_sum(20),
        lambda bars: np.log(bars["close"]),
    ],
)
@pytest.mark.parametrize("mask", ["bar", "feature"])
def test_what_computes_the_same_is_used_again(
    compute: Callable[[pl.DataFrame], pl.Series], mask: MaskOf, candles: Path
) -> None:
    ours = recipe(Feature("mine", 21, compute), "log_return", mask=mask)
    path = build(candles, ours)
    written = path.stat().st_mtime_ns
    assert build(candles, ours) == path
    assert path.stat().st_mtime_ns == written


def test_features_of_the_package_are_not_computed_again() -> None:
    features = recipe("log_return", "mine = close.log().diff().rolling_std(5)").features
    assert not any(map(is_own, features))
    assert is_own(read_from(Path("by.txt")))
