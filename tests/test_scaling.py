"""Statistics of train rows, and their use on batches."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from btc_datamodule.scaling import Scaler

PRICE_LIKE = np.random.default_rng(0).normal(60_000, 20, (50_000, 1)).astype(np.float32)


@given(st.lists(st.integers(0, 50_000), max_size=6))
@settings(max_examples=30, deadline=None)
def test_statistics_do_not_depend_on_blocks_and_keep_a_small_variance(cuts: list[int]) -> None:
    blocks = np.split(PRICE_LIKE, sorted(cuts))
    scaler = Scaler.fit(blocks, 1)
    exact = PRICE_LIKE.astype(np.float64)
    np.testing.assert_allclose(scaler.mean, exact.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(scaler.std, exact.std(axis=0), rtol=1e-9)


def test_small_returns_get_unit_variance() -> None:
    returns = np.random.default_rng(1).normal(0, 3.5e-4, (10_000, 2)).astype(np.float32)
    scaled = Scaler.fit([returns], 2).apply_(torch.from_numpy(returns.copy()))
    np.testing.assert_allclose(scaled.std(dim=0, correction=0), 1.0, rtol=1e-5)
    np.testing.assert_allclose(scaled.mean(dim=0), 0.0, atol=1e-6)


def test_a_constant_feature_is_centred_and_left_alone() -> None:
    rows = np.full((100, 2), 0.1, dtype=np.float32)
    rows[:, 1] = np.arange(100)
    scaler = Scaler.fit([rows], 2)
    assert scaler.std[0] == 1.0
    scaled = scaler.apply_(torch.from_numpy(rows.copy()))
    np.testing.assert_allclose(scaled[:, 0], 0.0, atol=1e-7)


def test_applying_works_in_place_on_batches_and_single_windows_alike() -> None:
    scaler = Scaler(mean=(1.0, -2.0, 3.0), std=(2.0, 0.5, 4.0))
    x = torch.randn(33, 7, 3)
    expected = (x.double() - torch.tensor(scaler.mean)) / torch.tensor(scaler.std)
    batch = x.clone()
    assert scaler.apply_(batch) is batch
    np.testing.assert_allclose(batch, expected, rtol=1e-5, atol=1e-5)
    alone = torch.stack([scaler.apply_(window.clone()) for window in x])
    assert torch.equal(alone, batch), "bit for bit"


def test_inverting_gives_the_features_back() -> None:
    scaler = Scaler(mean=(1.0, -2.0), std=(2.0, 0.5))
    x = torch.randn(5, 4, 2)
    np.testing.assert_allclose(scaler.invert(scaler.apply_(x.clone())), x, atol=1e-6)


def test_the_identity_changes_nothing() -> None:
    x = torch.randn(5, 4, 2)
    assert torch.equal(Scaler.identity(2).apply_(x.clone()), x)
