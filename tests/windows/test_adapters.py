"""Batches as other libraries take them: exact contents, and what is refused."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from btc_datamodule import Batch, ClosePath, ConfigError, LogReturn, Simulator, to_chronos2, to_hf
from tests.factories import make_datamodule

NAN = float("nan")


def batch_of(
    observed: Tensor, columns: int = 2, dtype: torch.dtype = torch.float32, y: Tensor | None = None
) -> Batch:
    """Two windows of three bars and two features, and two target bars."""
    x = torch.tensor([[[1, 10], [2, 20], [6, 30]], [[4, 40], [5, 50], [6, 60]]], dtype=dtype)
    path = torch.arange(4.0 * columns).reshape(2, 2, columns) if y is None else y
    return Batch(x, path, observed, torch.tensor([0, 3600]))


BARS = torch.tensor([[True, False, True], [True, True, True]])
CELLS = torch.tensor([[[1, 1], [0, 1], [1, 0]], [[1, 1], [1, 1], [0, 1]]], dtype=torch.bool)


def same(a: Tensor, b: Sequence[object]) -> bool:
    return torch.equal(torch.nan_to_num(a.double(), nan=-1.0), torch.tensor(b, dtype=torch.double))


def test_a_bar_that_was_not_observed_holds_the_mean_of_its_window() -> None:
    found = to_hf(batch_of(BARS))
    assert same(found["past_values"][0], [[1, 10], [3.5, 20], [6, 30]])
    assert found["past_values"][1].equal(batch_of(BARS).x[1])
    assert found["past_observed_mask"].equal(BARS.unsqueeze(-1).expand(2, 3, 2))
    assert found["future_values"].equal(batch_of(BARS).y)
    assert found["future_observed_mask"].all()


def test_a_feature_that_was_not_observed_does_so_by_itself() -> None:
    found = to_hf(batch_of(CELLS))
    assert same(found["past_values"][0], [[1, 10], [3.5, 20], [6, 15]])
    assert same(found["past_values"][1], [[4, 40], [5, 50], [4.5, 60]])
    assert found["past_observed_mask"].equal(CELLS)
    empty = to_hf(batch_of(torch.zeros_like(CELLS)))
    assert empty["past_values"].eq(0).all()


def test_columns_of_the_target_continue_the_features_that_are_named() -> None:
    found = to_hf(batch_of(BARS, columns=1), channels=[1])
    assert same(found["future_values"][0], [[-1, 0], [-1, 1]])
    assert found["future_observed_mask"][..., 1].all()
    assert not found["future_observed_mask"][..., 0].any()
    turned = to_hf(batch_of(BARS), channels=(1, 0))
    assert turned["future_values"].equal(batch_of(BARS).y.flip(-1))


def test_of_the_future_what_is_not_known_is_masked() -> None:
    y = torch.tensor([[[1.0, 2.0], [NAN, 4.0]]] * 2)
    found = to_hf(batch_of(BARS, y=y))
    assert found["future_observed_mask"][0].tolist() == [[True, True], [False, True]]


def test_for_chronos_each_feature_of_a_sample_is_a_row_of_its_group() -> None:
    found = to_chronos2(batch_of(CELLS, columns=1), patch=16, channels=[0])
    assert isinstance(found["context"], Tensor)
    assert same(found["context"], [[1, -1, 6], [10, 20, -1], [4, 5, -1], [40, 50, 60]])
    assert isinstance(found["future_target"], Tensor)
    assert same(found["future_target"], [[0, 1], [-1, -1], [2, 3], [-1, -1]])
    assert isinstance(found["group_ids"], Tensor)
    assert found["group_ids"].tolist() == [0, 0, 1, 1]
    assert found["num_output_patches"] == 1


@pytest.mark.parametrize(("patch", "patches"), [(1, 2), (2, 1), (3, 1)])
def test_there_are_as_many_output_patches_as_hold_the_horizon(patch: int, patches: int) -> None:
    assert to_chronos2(batch_of(BARS), patch)["num_output_patches"] == patches


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_values_keep_their_type(dtype: torch.dtype) -> None:
    batch = batch_of(BARS, dtype=dtype)
    assert to_hf(batch)["past_values"].dtype == dtype
    context = to_chronos2(batch, 4)["context"]
    assert isinstance(context, Tensor)
    assert context.dtype == torch.float32, "in which the model scales"


def test_all_of_it_stays_on_the_device_of_the_batch() -> None:
    batch = Batch(*(field.to("meta") for field in batch_of(CELLS, columns=1)))
    made = [*to_hf(batch, [0]).values(), *to_chronos2(batch, 2, [0]).values()]
    assert {each.device.type for each in made if isinstance(each, Tensor)} == {"meta"}


@pytest.mark.parametrize("mask", ["bar", "feature"])
@pytest.mark.parametrize("what", [1e6, NAN, -float("inf")])
def test_what_lies_under_the_mask_does_not_matter(mask: str, what: float) -> None:
    observed = BARS if mask == "bar" else CELLS
    batch = batch_of(observed)
    hidden = ~to_hf(batch)["past_observed_mask"]
    other = batch._replace(x=batch.x.masked_fill(hidden, what))
    assert to_hf(batch)["past_values"].equal(to_hf(other)["past_values"])
    one, two = to_chronos2(batch, 4)["context"], to_chronos2(other, 4)["context"]
    assert isinstance(one, Tensor)
    assert isinstance(two, Tensor)
    torch.testing.assert_close(one, two, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("batch", "channels", "said"),
    [
        (batch_of(BARS, y=torch.zeros(2, 1)), None, r"y is torch.float32 of shape \(2, 1\)"),
        (batch_of(BARS, y=torch.zeros(2, dtype=torch.int64)), None, "such as LogReturn"),
        (batch_of(BARS, columns=1), None, r"1 columns and x 2 features: say which"),
        (batch_of(BARS, columns=1), [2], r"channels \[2\] must name another feature, from 0 to 1"),
        (batch_of(BARS), [0, 0], r"for each of the 2 columns"),
        (batch_of(BARS, columns=1), [-1], "must name"),
    ],
)
def test_what_does_not_fit_is_refused(batch: Batch, channels: list[int] | None, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        to_hf(batch, channels)
    with pytest.raises(ConfigError, match=said):
        to_chronos2(batch, 16, channels)


@pytest.mark.parametrize("patch", [0, True, 2.0])
def test_a_patch_that_is_none_is_refused(patch: int) -> None:
    with pytest.raises(ConfigError, match="must be a whole number of 1 or more"):
        to_chronos2(batch_of(BARS), patch)


def test_prices_go_in_and_are_forecast_as_they_are(tmp_path: Path) -> None:
    dm = make_datamodule(
        tmp_path,
        source=Simulator(seed=3),
        features=["price = close"],
        scaling="none",
        target=ClosePath(),
    )
    batch = dm.dataset("test")[:8]
    found = to_chronos2(batch, 16)
    context, future = found["context"], found["future_target"]
    assert isinstance(context, Tensor)
    assert isinstance(future, Tensor)
    closes = torch.from_numpy(dm.table.array("close")).float()
    rows = (batch.origin_time - dm.table.first) // dm.table.interval
    assert context[:, -1].equal(closes[rows])
    assert future[:, -1].equal(closes[rows + 3])
    prices = torch.from_numpy(dm.to_prices(batch.y, batch.origin_time))
    assert prices.float().equal(batch.y)


def test_returns_continue_returns_in_one_scale(tmp_path: Path) -> None:
    dm = make_datamodule(
        tmp_path,
        source=Simulator(seed=3),
        features=["log_return"],
        scaling="none",
        target=LogReturn(),
        eval_stride=3,
    )
    first, second = dm.dataset("test")[:2].x, to_hf(dm.dataset("test")[:2])["future_values"]
    torch.testing.assert_close(first[1, -3:], second[0], rtol=1e-4, atol=1e-7)
