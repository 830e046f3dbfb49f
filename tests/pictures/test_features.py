"""Distributions of features."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.patches import StepPatch

from btc_datamodule import ConfigError
from btc_datamodule.overview.distributions import measure_distributions
from btc_datamodule.pictures.features import _draw, plot_features
from tests.pictures.conftest import Make
from tests.pictures.words import SIZES, assert_readable, make_axes, make_figure, words_of


@pytest.mark.parametrize(
    ("name", "size"),
    [("paths", SIZES[0]), ("features", SIZES[0]), ("features", SIZES[1]), ("thin", SIZES[0])],
)
def test_words_can_be_read(make: Make, name: str, size: tuple[float, float]) -> None:
    figure = make_figure(size)
    assert plot_features(make(name).stages, None, figure) is figure
    assert_readable(figure)


def test_each_panel_has_the_histograms_of_a_feature(make: Make) -> None:
    dm = make("once")
    figure: Any = plot_features(dm.stages, None, make_figure(SIZES[1]))
    for axes, each in zip(figure.axes, measure_distributions(dm.stages), strict=True):
        steps: list[Any] = [patch for patch in axes.patches if isinstance(patch, StepPatch)]
        assert len(steps) == 4  # train is filled too
        np.testing.assert_array_equal(steps[-1].get_data().values, each.density["test"])
        assert axes.get_title().startswith(each.name)
        assert f"test {each.drift['test']:.2f}" in axes.get_title()


def test_what_has_no_room_is_counted_and_can_be_chosen(make: Make) -> None:
    dm = make("features")
    small = words_of(plot_features(dm.stages, None, make_figure()))
    assert "of 17 features" in small
    chosen: Any = plot_features(dm.stages, ["momentum_over_20_bars"], make_figure())
    assert len(chosen.axes) == 1
    assert "momentum_over_20_bars" in words_of(chosen)
    for wrong in (["nothing"], []):
        with pytest.raises(ConfigError, match=r"features is .*: choose from log_return"):
            plot_features(dm.stages, wrong, make_figure())


def test_it_is_said_of_which_stage_values_are_missing(make: Make) -> None:
    dm = make("once")
    [found] = measure_distributions(dm.stages, ["log_return"])
    changed = replace(found, missing={"train": 0.0, "val": 0.0123, "test": 1.0})
    axes = make_axes()
    _draw(axes, changed)
    assert "missing 1.23% of val, 100% of test" in axes.get_title()
