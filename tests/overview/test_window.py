"""One sample taken apart is the sample that a loader hands out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from btc_datamodule import Batch, BTCDataModule, Resampled, SimulatedFunding, Simulator
from btc_datamodule.overview.window import NEVER, find_position, take_apart
from tests.factories import HOUR, make_datamodule

DAY = 86_400


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> BTCDataModule:
    return make_datamodule(
        tmp_path_factory.mktemp("beside"),
        source=Simulator(seed=1, outages_per_year=50),
        covariates={"day": Resampled("1d"), "funding": SimulatedFunding(seed=1)},
        features=["log_return", "day.volatility", "funding.rate"],
        gap=2,
        target_scaling="train",
    )


def test_it_has_the_numbers_of_the_dataset(beside: BTCDataModule) -> None:
    dataset = beside.dataset("test")
    position = len(dataset) // 2
    window, sample = take_apart(beside.stages, "test", position), dataset[position]
    np.testing.assert_array_equal(window.x, sample.x.numpy())
    np.testing.assert_array_equal(window.y, sample.y.numpy())
    assert window.observed.shape == window.x.shape
    np.testing.assert_array_equal(window.observed[:, 0], sample.observed.numpy())
    assert window.origin_time == int(sample.origin_time)
    assert window.first == window.origin_time - 11 * HOUR
    truth = beside.inverse_transform(sample.y).numpy()
    np.testing.assert_allclose(window.truth, truth, atol=1e-6)
    assert not window.is_transformed


def test_its_bars_go_from_the_first_input_to_the_last_target(beside: BTCDataModule) -> None:
    window = take_apart(beside.stages, "val", 0)
    row = beside.table.find_row(window.first)
    assert window.prices.shape == (4, 12 + 2 + 3)
    np.testing.assert_array_equal(window.prices[3], beside.table.bars("close")[row : row + 17])


def test_a_covariate_is_known_from_the_close_of_its_row(beside: BTCDataModule) -> None:
    window = take_apart(beside.stages, "train", 20)
    closes = window.first + HOUR * np.arange(1, 13)
    day, funding = window.known
    assert (day.name, funding.name) == ("day", "funding")
    np.testing.assert_array_equal(day.known_at, closes // DAY * DAY)
    np.testing.assert_array_equal(day.time, day.known_at - DAY)
    np.testing.assert_array_equal(day.age, closes - day.known_at)
    assert (funding.known_at <= closes).all()
    assert (funding.known_at > closes - 8 * HOUR).all()


def test_a_covariate_of_which_nothing_was_known_says_so(tmp_path: Path) -> None:
    dm = make_datamodule(
        tmp_path,
        source=Simulator(seed=1, outages_per_year=50),
        covariates={"day": Resampled("1d")},
        features=["log_return", "day.close"],
        mask="feature",
        min_observed=0.1,
        start="2021-03-01",
        max_age={"day": "1h"},
    )
    known = take_apart(dm.stages, "train", 0).known[0]
    none = known.time == NEVER
    assert none.any()
    assert np.isnan(known.age[none]).all()
    assert (known.known_at[none] == NEVER).all()


@pytest.mark.parametrize(
    ("transform", "taken"),
    [
        (lambda batch: batch._replace(x=batch.x * 2), True),
        (lambda batch: batch._replace(x=batch.x[:, -3:]), False),
        (lambda batch: {"x": batch.x}, False),
    ],
    ids=["same shape", "other shape", "no batch"],
)
def test_what_a_transform_makes_is_shown_where_it_has_the_same_shape(
    holed: BTCDataModule, transform: Callable[[Batch], Batch], taken: bool
) -> None:
    plain = take_apart(holed.stages, "train", 3)
    made = take_apart(holed.stages, "train", 3, transform)
    assert made.is_transformed == taken
    np.testing.assert_array_equal(made.x, 2 * plain.x if taken else plain.x)


def test_a_position_is_found_by_the_time_of_its_origin(holed: BTCDataModule) -> None:
    dataset = holed.dataset("train")
    times = dataset[:].origin_time.tolist()
    assert find_position(dataset, times[7]) == 7
    assert find_position(dataset, times[7] + 1) == 7
    assert find_position(dataset, times[0] - 1) == 0
    assert find_position(dataset, times[-1] + DAY) == len(times) - 1
