"""What stands in the brackets of a dataset means what it means to numpy, or is an error."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from btc_datamodule import WindowDataset
from btc_datamodule.windows.positions import read_positions
from tests.factories import make_datamodule

SIZE = 100
MASK = np.arange(SIZE) % 7 == 3


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> WindowDataset:
    return make_datamodule(tmp_path_factory.mktemp("positions")).dataset("train")


SEVERAL: list[Any] = [
    slice(0, 4),
    slice(None, None, -7),
    slice(-3, None),
    slice(5, 5),
    [0, -1, 0],
    [],
    (2, 1),
    range(3),
    np.array([1, 2], dtype=np.uint8),
    np.array([3], dtype=np.uint64),
    np.array([-1, 4], dtype=np.int32),
    np.arange(20)[::3],
    np.zeros(0, dtype=np.int16),
    torch.tensor([3, 4], dtype=torch.int32),
]


@pytest.mark.parametrize("index", SEVERAL, ids=str)
def test_several_positions_are_a_batch_of_what_numpy_would_take(
    dataset: WindowDataset, index: Any
) -> None:
    every = dataset[np.arange(len(dataset))]
    plain = np.asarray(index, dtype=np.int64) if not isinstance(index, slice) else index
    batch = dataset[index]
    for taken, field in zip(batch, every, strict=True):
        assert np.array_equal(taken.numpy(), field.numpy()[plain])


@pytest.mark.parametrize("kind", [np.asarray, list, torch.from_numpy], ids=["numpy", "list", "to"])
def test_a_mask_takes_the_windows_where_it_is_true(dataset: WindowDataset, kind: Any) -> None:
    mask = np.arange(len(dataset)) >= len(dataset) - 3
    last = dataset[[-3, -2, -1]]
    for one, other in zip(dataset[kind(mask)], last, strict=True):
        assert torch.equal(one, other)
    assert len(dataset[kind(mask & False)].x) == 0


@pytest.mark.parametrize(
    "index", [3, np.int8(3), np.array(3), torch.tensor(3), np.uint64(3)], ids=repr
)
def test_a_whole_number_of_any_kind_is_one_sample(dataset: WindowDataset, index: Any) -> None:
    sample = dataset[index]
    assert sample.x.shape == (12, 3)
    assert sample.origin_time == dataset[[3]].origin_time[0]


@given(
    start=st.none() | st.integers(-150, 150),
    stop=st.none() | st.integers(-150, 150),
    step=st.none() | st.integers(-9, 9).filter(bool),
)
def test_every_slice_is_numpys(start: int | None, stop: int | None, step: int | None) -> None:
    index = slice(start, stop, step)
    positions, single = read_positions(index, SIZE)
    assert positions.tolist() == np.arange(SIZE)[index].tolist()
    assert not single


REFUSED: list[tuple[Any, str]] = [
    (2.7, "2.7 is no position: give a whole number, a slice"),
    (2.0, "2.0 is no position"),
    (True, "True is no position"),
    (np.False_, "is no position"),
    (None, "None is no position"),
    (..., "Ellipsis is no position"),
    ("1", "'1' is no position"),
    ([0.5], r"\[0.5\] is no position"),
    ([1, None], r"\[1, None\] is no position"),
    (np.arange(3.0), r"array\(\[0., 1., 2.\]\) is no position"),
    (np.zeros(0), r"array\(\[\], dtype=float64\) is no position"),
    (torch.tensor([1.0]), "is no position"),
    (10**30, "is no position"),
    ([[1, 2], [3]], "is no position"),
    ([[1, 2], [3, 4]], "is no position"),
    ((slice(0, 1), 2), "is no position"),
    (np.zeros((2, 2), dtype=np.int64), r"an array of shape \(2, 2\) is no position"),
    (torch.ones(4, 1, dtype=torch.int64), r"an array of shape \(4, 1\) is no position"),
    (MASK[:, np.newaxis], r"an array of shape \(100, 1\) is no position"),
    (MASK[:-1], "a mask of 99 for a dataset of 100 windows: give one bool for each"),
    ([True], "a mask of 1 for a dataset of 100 windows"),
]


@pytest.mark.parametrize(("index", "told"), REFUSED, ids=[repr(each)[:30] for each, _ in REFUSED])
def test_anything_else_is_an_error_of_one_line(index: Any, told: str) -> None:
    with pytest.raises(IndexError, match=f"^(.*){told}") as caught:
        read_positions(index, SIZE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "index", [10**6, -(10**6), [0, 10**6], np.array([2**64 - 1], dtype=np.uint64), range(10**6)]
)
def test_a_position_outside_is_named(dataset: WindowDataset, index: Any) -> None:
    with pytest.raises(IndexError, match=r"position -?\d+ lies outside a dataset of \d+ windows$"):
        dataset[index]
