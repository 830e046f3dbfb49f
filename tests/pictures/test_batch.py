"""Windows of a batch."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from btc_datamodule import ConfigError, Feature
from btc_datamodule.pictures.batch import plot_batch
from tests.factories import make_datamodule
from tests.pictures.conftest import Make
from tests.pictures.words import SIZES, assert_readable, list_texts, make_figure, words_of


@pytest.mark.parametrize(
    ("name", "size"),
    [("once", SIZES[1]), ("features", SIZES[1]), ("unscaled", SIZES[0]), ("thin", SIZES[0])],
)
def test_words_can_be_read(make: Make, name: str, size: tuple[float, float]) -> None:
    figure = make_figure(size)
    assert plot_batch(make(name).stages, None, figure) is figure
    assert_readable(figure)


def test_lines_are_the_inputs_of_the_windows_up_to_their_origins(make: Make) -> None:
    dm = make("once")
    batch = dm.dataset("test")[np.arange(5)]
    figure: Any = plot_batch(dm.stages, batch, make_figure(SIZES[1]))
    assert len(figure.axes) == 5
    for axes, x, y in zip(figure.axes, batch.x, batch.y, strict=True):
        assert len(axes.lines) == dm.n_features
        for line, values in zip(axes.lines, x.T, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), np.arange(-11, 1))
            np.testing.assert_allclose(line.get_ydata(), values)
        assert f"y: {y.ravel()[0]:.3g}" in axes.get_title()
    said = words_of(figure)
    assert "5 of 5 windows of a batch" in said
    assert "y: LogReturn" in said
    assert "scaled value" in said
    assert "log_range" in said


def test_what_is_not_observed_is_no_line(make: Make) -> None:
    dm = make("thin")
    windows = dm.dataset("train")
    batch = windows[np.arange(len(windows))]
    place = int(torch.argmin(batch.observed.reshape(len(batch.x), -1).sum(1)))
    chosen = type(batch)(*(each[place : place + 1] for each in batch))
    absent = ~chosen.observed[0].numpy()
    assert absent.any()
    figure: Any = plot_batch(dm.stages, chosen, make_figure())
    for number, line in enumerate(figure.axes[0].lines):
        values = np.asarray(line.get_ydata(), dtype=np.float64)
        np.testing.assert_array_equal(np.isnan(values), absent[:, number])
    assert len(figure.axes[0].patches) == absent.any(axis=1).sum()
    assert "not observed" in words_of(figure)


def test_many_features_are_rows_of_a_picture(make: Make) -> None:
    dm = make("features")
    batch = dm.dataset("train")[np.arange(2)]
    figure: Any = plot_batch(dm.stages, batch, make_figure(SIZES[1]))
    image = figure.axes[0].images[0]
    np.testing.assert_allclose(image.get_array(), batch.x[0].T)
    assert image.get_clim() == (-3, 3)
    plain = make("unscaled")
    one = plot_batch(plain.stages, plain.dataset("train")[0], make_figure())
    assert one.axes[0].images[0].get_clim()[1] > 1000  # a price
    assert "value, not scaled" in words_of(one)


def test_a_single_sample_is_a_batch_of_one(make: Make) -> None:
    dm = make("once")
    figure: Any = plot_batch(dm.stages, dm.dataset("train")[0], make_figure())
    assert len(figure.axes) == 1


@pytest.mark.parametrize("wrong", ["x", (1, 2, 3, 4), (torch.zeros(2, 3, 4),) * 4])
def test_what_is_no_batch_is_told(make: Make, wrong: Any) -> None:
    with pytest.raises(ConfigError, match="batch"):
        plot_batch(make("once").stages, wrong, make_figure())


def test_dollars_in_names_are_no_formula(tmp_path: Path) -> None:
    names = ("$x_{$", "$a$", "_$b^$", "$", "c", "d", "e", "f")
    features = [Feature(each, lookback=1, compute=pl.col("close")) for each in names]
    dm = make_datamodule(tmp_path, features=features)
    for count in (8, 2):
        own = dm if count == 8 else make_datamodule(tmp_path, features=features[:2])
        figure = own.plot_batch(fig=make_figure(SIZES[1]))
        assert "$x_{$" in words_of(figure)
        assert not any(
            text.get_parse_math() for text in list_texts(figure) if "$" in text.get_text()
        )
        figure = own.plot_features(fig=make_figure(SIZES[1]))
        assert "$x_{$" in words_of(figure)


def test_a_part_of_a_figure_is_drawn_into(make: Make) -> None:
    dm = make("once")
    figure = make_figure((12, 8))
    parts = figure.subfigures(2, 2).ravel()
    assert dm.plot_batch(fig=parts[0]) is figure
    assert dm.plot_features(fig=parts[1]) is figure
    assert dm.plot_timeline(parts[2].add_subplot()) is figure
    assert all(part.axes for part in parts[:3])
    assert not parts[3].axes
    assert len(parts[0].axes) == 4
    assert_readable(figure)


def test_a_batch_without_windows_is_refused(make: Make) -> None:
    dm = make("once")
    with pytest.raises(ConfigError, match="batch has no window"):
        dm.plot_batch(dm.dataset("test")[[]])
