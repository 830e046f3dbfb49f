"""Targets as functions of the future window."""

import numpy as np
import pytest
from numpy.typing import NDArray

from btc_datamodule import ConfigError, Direction, LogReturn, Target


def bars(*closes: list[float]) -> NDArray[np.float64]:
    return np.array(closes, dtype=np.float64)[:, :, np.newaxis]


def test_log_return_is_the_path_of_one_bar_returns() -> None:
    y = LogReturn()(bars([100, 110, 99], [50, 50, 100]))
    assert y.shape == (2, *LogReturn().shape(2))
    np.testing.assert_allclose(y[0, :, 0], [np.log(1.1), np.log(0.9)])
    np.testing.assert_allclose(y[1, :, 0], [0, np.log(2)])


def test_direction_is_the_sign_over_the_whole_horizon() -> None:
    y = Direction()(bars([100, 50, 101], [100, 200, 99], [100, 1, 100]))
    assert y.shape == (3, *Direction().shape(2))
    assert y[:, 0].tolist() == [1, -1, 0]


def test_the_dead_zone_counts_as_no_direction() -> None:
    y = Direction(dead_zone=0.01)(bars([100, 100.9], [100, 101.1], [100, 99.1], [100, 98.9]))
    assert y[:, 0].tolist() == [0, 1, 0, -1]


@pytest.mark.parametrize("target", [LogReturn(), Direction(), Direction(0.5)])
def test_an_unknown_future_is_nan(target: Target) -> None:
    assert np.isnan(target(bars([100.0, np.nan]))).all()


def test_a_negative_dead_zone_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"target.dead_zone -0.1 must be 0 or more"):
        Direction(-0.1)
