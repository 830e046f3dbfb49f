"""Statistics of train rows, and their use on batches."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from btc_datamodule import ConfigError
from btc_datamodule.evaluation.scaling import NORMAL_IQR, TILED_ROWS, Scaler, Scaling

PRICE_LIKE = np.random.default_rng(0).normal(60_000, 20, (50_000, 1)).astype(np.float32)


@given(st.lists(st.integers(0, 50_000), max_size=6))
@settings(max_examples=30)
def test_statistics_do_not_depend_on_blocks_and_keep_a_small_variance(cuts: list[int]) -> None:
    blocks = np.split(PRICE_LIKE, sorted(cuts))
    scaler = Scaler.fit("train", lambda: blocks, 1)
    exact = PRICE_LIKE.astype(np.float64)
    np.testing.assert_allclose(scaler.center, exact.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(scaler.scale, exact.std(axis=0), rtol=1e-9)


def test_small_returns_get_unit_variance() -> None:
    returns = np.random.default_rng(1).normal(0, 3.5e-4, (10_000, 2)).astype(np.float32)
    scaled = Scaler.fit("train", lambda: [returns], 2).apply_(torch.from_numpy(returns.copy()))
    np.testing.assert_allclose(scaled.std(dim=0, correction=0), 1.0, rtol=1e-5)
    np.testing.assert_allclose(scaled.mean(dim=0), 0.0, atol=1e-6)


def test_a_constant_feature_is_centred_and_left_alone() -> None:
    rows = np.full((100, 2), 0.1, dtype=np.float32)
    rows[:, 1] = np.arange(100)
    scaler = Scaler.fit("train", lambda: [rows], 2)
    assert scaler.scale[0] == 1.0
    scaled = scaler.apply_(torch.from_numpy(rows.copy()))
    np.testing.assert_allclose(scaled[:, 0], 0.0, atol=1e-7)


def test_applying_works_in_place_on_batches_and_single_windows_alike() -> None:
    scaler = Scaler("train", center=(1.0, -2.0, 3.0), scale=(2.0, 0.5, 4.0))
    x = torch.randn(33, 7, 3)
    expected = (x.double() - torch.tensor(scaler.center)) / torch.tensor(scaler.scale)
    batch = x.clone()
    assert scaler.apply_(batch) is batch
    np.testing.assert_allclose(batch, expected, rtol=1e-5, atol=1e-5)
    alone = torch.stack([scaler.apply_(window.clone()) for window in x])
    assert torch.equal(alone, batch), "bit for bit"


def test_a_window_of_any_length_is_scaled_to_the_same_bits_in_little_more_memory() -> None:
    scaler = Scaler("train", center=(1.0, -2.0, 3.0), scale=(2.0, 0.5, 4.0))
    rows = torch.randn(2, 3 * TILED_ROWS + 7, 3)
    rows[1, -1] = 1e30
    short = torch.cat([scaler.apply_(part.clone()) for part in torch.split(rows, 10, dim=1)], dim=1)
    longest = rows.clone()
    tracemalloc.start()
    assert scaler.apply_(longest) is longest
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert torch.equal(longest, short)
    assert most < 8 * TILED_ROWS * 3 * 8, "a few arrays of a part, whatever the window's length"


def test_inverting_gives_the_features_back() -> None:
    scaler = Scaler("train", center=(1.0, -2.0), scale=(2.0, 0.5))
    x = torch.randn(5, 4, 2)
    np.testing.assert_allclose(scaler.invert(scaler.apply_(x.clone())), x, atol=1e-6)


@pytest.mark.parametrize("method", ["train", "robust"])
def test_what_is_fitted_on_rows_is_undone(method: Scaling) -> None:
    rows = np.random.default_rng(6).normal(60_000, 20, (500, 2)).astype(np.float32)
    scaler = Scaler.fit(method, lambda: [rows], 2)
    scaled = scaler.apply_(torch.from_numpy(rows.copy()))
    np.testing.assert_allclose(scaler.invert(scaled), rows, rtol=1e-6)


def test_window_scaling_cannot_be_undone_and_says_what_can() -> None:
    rows = np.random.default_rng(7).normal(60_000, 20, (500, 2)).astype(np.float32)
    scaler = Scaler.fit("window", lambda: [rows], 2)
    scaled = scaler.apply_(torch.from_numpy(rows[:60].reshape(5, 12, 2).copy()))
    with pytest.raises(ConfigError, match=r"its own input bars.* set `scaling` to train or robust"):
        scaler.invert(scaled)


def test_the_identity_changes_nothing() -> None:
    x = torch.randn(5, 4, 2)
    assert torch.equal(Scaler.identity(2).apply_(x.clone()), x)
    assert torch.equal(Scaler.identity(2).invert(x), x)


FLOATS = st.floats(-1e6, 1e6, width=32)


@given(
    st.lists(st.tuples(FLOATS, st.sampled_from([0.0, -0.0, 1e-6, -3.5])), min_size=1, max_size=60),
    st.lists(st.integers(0, 60), max_size=3),
)
@settings(max_examples=100)
def test_robust_statistics_are_the_exact_quartiles_whatever_the_blocks(
    values: list[tuple[float, float]], cuts: list[int]
) -> None:
    rows = np.array(values, dtype=np.float32)
    scaler = Scaler.fit("robust", lambda: np.split(rows, sorted(cuts)), 2)
    low, median, high = np.quantile(rows.astype(np.float64), [0.25, 0.5, 0.75], axis=0)
    np.testing.assert_allclose(scaler.center, median, rtol=1e-12, atol=1e-300)
    for feature in range(2):
        spread = (high - low)[feature]
        if spread > np.finfo(np.float32).eps * abs(median[feature]):
            np.testing.assert_allclose(scaler.scale[feature], spread / NORMAL_IQR, rtol=1e-9)


def test_robust_falls_back_to_the_deviation_where_the_quartiles_are_equal() -> None:
    rows = np.zeros((1000, 2), dtype=np.float32)
    rows[::10, 0] = np.arange(100)  # a thin market: nine returns in ten are 0
    scaler = Scaler.fit("robust", lambda: [rows], 2)
    assert scaler.center == (0.0, 0.0)
    np.testing.assert_allclose(scaler.scale, [rows[:, 0].astype(np.float64).std(), 1.0])


def test_robust_equals_the_z_score_of_a_normal_distribution_and_ignores_outliers() -> None:
    rows = np.random.default_rng(3).normal(5, 2, (200_000, 1)).astype(np.float32)
    rows[:100] = 1e6
    scaler = Scaler.fit("robust", lambda: [rows], 1)
    np.testing.assert_allclose([scaler.center[0], scaler.scale[0]], [5, 2], rtol=0.01)


def test_window_scaling_uses_the_observed_bars_of_each_window_alone() -> None:
    rows = np.random.default_rng(4).normal(60_000, 20, (500, 2)).astype(np.float32)
    scaler = Scaler.fit("window", lambda: [rows], 2)
    x = torch.from_numpy(rows[:60].reshape(5, 12, 2).copy())
    observed = torch.ones(5, 12, dtype=torch.bool)
    observed[2, 3:6] = False
    expected = x.numpy().astype(np.float64)
    for window in range(5):
        seen = expected[window][observed[window].numpy()]
        expected[window] = (expected[window] - seen.mean(axis=0)) / seen.std(axis=0)
    alone = torch.stack([scaler.apply_(w.clone(), o) for w, o in zip(x, observed, strict=True)])
    assert scaler.apply_(x, observed) is x
    np.testing.assert_allclose(x, expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(alone, x), "bit for bit, in a batch or alone"


def test_a_calm_window_is_divided_by_a_share_of_the_train_deviation() -> None:
    rows = np.random.default_rng(5).normal(0, 1e-3, (1000, 1)).astype(np.float32)
    scaler = Scaler.fit("window", lambda: [rows], 1)
    calm = torch.full((1, 8, 1), 2e-4)
    calm[0, 0] = 2e-4 + 1e-7
    scaled = scaler.apply_(calm.clone())
    centred = calm.double() - calm.double().mean()
    np.testing.assert_allclose(scaled, centred / (0.01 * scaler.scale[0]), rtol=1e-3, atol=1e-6)
    assert scaled.abs().max() < 0.1


def test_of_no_rows_the_statistics_change_nothing() -> None:
    for method in ("train", "robust"):
        scaler = Scaler.fit(method, lambda: [], 2)
        x = torch.randn(3, 4, 2)
        assert torch.equal(scaler.apply_(x.clone()), x)


@pytest.mark.parametrize(
    ("center", "scale"),
    [
        ([0.0], [0.0]),
        ([0.0], [-1.0]),
        ([0.0], [float("nan")]),
        ([float("inf")], [1.0]),
        ([0.0, 0.0], [1.0]),
    ],
)
def test_statistics_in_a_checkpoint_that_no_training_gives_are_refused(
    center: list[float], scale: list[float]
) -> None:
    with pytest.raises(ConfigError, match=r"statistics that no training gives.*train again"):
        Scaler.from_state({"method": "train", "center": center, "scale": scale})
