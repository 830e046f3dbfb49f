"""Distributions against numpy on the very same rows."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from btc_datamodule import BTCDataModule
from btc_datamodule.evaluation.walls import find_train_runs
from btc_datamodule.overview.distributions import LAGS, SHOWN, measure_distributions, measure_drift
from tests.factories import make_datamodule


def rows_of(dm: BTCDataModule, stage: str) -> NDArray[np.float64]:
    """(n, features) values of a stage, NaN where not observed."""
    table, settings = dm.table, dm.settings
    runs = find_train_runs(table, dm.fold, embargo=settings.embargo, purge=settings.purge)
    if stage != "train":
        spans = getattr(dm.fold, stage)
        runs = [(table.find_row(a), min(table.find_row(b), table.rows)) for a, b in spans]
    seen = table.observed.astype(bool)
    seen = seen if seen.ndim > 1 else seen[:, np.newaxis]
    x = np.where(seen, table.x, np.nan).astype(np.float64)
    return np.concatenate([x[low:high] for low, high in runs])


@pytest.mark.parametrize("mask", ["bar", "feature"])
def test_counts_means_and_missing_shares_are_those_of_the_rows(tmp_path: Path, mask: str) -> None:
    features = [
        "log_return",
        "log_range",
        "slow = close / close.shift(30) - 1",
        "one = close / close",
    ]
    dm = make_datamodule(tmp_path, features=features, purge=3, mask=mask)
    found = measure_distributions(dm.stages)
    assert [each.name for each in found] == ["log_return", "log_range", "slow", "one"]
    for stage in SHOWN:
        rows = rows_of(dm, stage)
        for place, each in enumerate(found):
            values = rows[:, place]
            values = values[np.isfinite(values)]
            inside = values.clip(each.edges[0], each.edges[-1])
            expected = np.histogram(inside, each.edges, density=True)[0]
            np.testing.assert_allclose(each.density[stage], expected, atol=2 / len(values) * 1e3)
            assert each.density[stage] @ np.diff(each.edges) == pytest.approx(1)
            assert each.rows[stage] == len(rows)
            assert each.missing[stage] == pytest.approx(1 - len(values) / len(rows))
            assert each.mean[stage] == pytest.approx(values.mean(), rel=1e-6)
            assert each.deviation[stage] == pytest.approx(values.std(), rel=1e-6, abs=1e-12)
    assert {*found[0].drift} == {"val", "test"}
    assert np.isnan(list(found[3].autocorrelation.values())).all()
    assert found[3].drift["test"] == pytest.approx(0, abs=0.01)
    alone = measure_distributions(dm.stages, ["slow"])
    assert [each.name for each in alone] == ["slow"]
    np.testing.assert_array_equal(alone[0].density["train"], found[2].density["train"])


def test_the_autocorrelation_is_that_of_pairs_in_which_both_are_known(holed: BTCDataModule) -> None:
    values = rows_of(holed, "train")[:, 1]
    centred = values - np.nanmean(values)
    (found,) = measure_distributions(holed.stages, ["log_range"])
    for lag in LAGS:
        expected = np.nanmean(centred[lag:] * centred[:-lag]) / np.nanvar(values)
        assert found.autocorrelation[lag] == pytest.approx(expected)


def test_drift_is_nothing_for_the_same_and_grows_with_the_shift() -> None:
    random = np.random.default_rng(0)
    edges = np.linspace(-6, 6, 3001)
    train = np.histogram(random.normal(size=50_000), edges)[0]
    assert measure_drift(train, train) == pytest.approx(0)
    shifts = [0.0, 0.25, 0.5, 1.0]
    drifts = [
        measure_drift(train, np.histogram(random.normal(s, 1, 50_000), edges)[0]) for s in shifts
    ]
    assert drifts == sorted(drifts)
    # Of normal distributions with the same deviation the divergence of Jeffreys is the squared
    # shift; ten bins lose some of it.
    for shift, drift in zip(shifts[1:], drifts[1:], strict=True):
        assert 0.9 * shift**2 < drift < shift**2


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=40))
def test_drift_is_finite_and_never_negative(counts: list[tuple[int, int]]) -> None:
    train, other = np.array(counts, dtype=np.int64).T
    drift = measure_drift(train, other)
    assert np.isfinite(drift)
    assert drift >= 0
