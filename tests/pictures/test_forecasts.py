"""Forecasts over time."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from btc_datamodule import BTCDataModule, CumulativeReturn, Direction, RealisedVolatility
from btc_datamodule.overview.forecasts import view_forecasts
from btc_datamodule.pictures.figures import to_days
from btc_datamodule.scoring.samples import list_samples
from tests.factories import make_datamodule
from tests.pictures.words import SIZES, assert_readable, make_figure, words_of

pytest.importorskip("scipy", reason="scores need scipy")

TARGETS = {
    "value": CumulativeReturn(),
    "volatility": RealisedVolatility(),
    "classes": Direction(classes=True),
}


@pytest.fixture(scope="module", params=TARGETS)
def forecast(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[BTCDataModule, dict[str, Any]]:
    """A datamodule, and forecasts of its test samples: one right, one with less of it."""
    dm = make_datamodule(tmp_path_factory.mktemp("forecast"), target=TARGETS[request.param])
    samples = list_samples(dm.stages, "test")
    wrong = 1 - samples.truth if request.param == "classes" else samples.truth * 1.5
    mixed = np.where(np.arange(len(samples)) % 3 == 0, wrong.T, samples.truth.T).T
    time = samples.origin_time
    return dm, {
        "right": {"origin_time": time, "forecast": samples.truth},
        "mixed": {"origin_time": time, "forecast": mixed},
    }


@pytest.mark.each_value
@pytest.mark.parametrize("size", SIZES)
def test_words_can_be_read(forecast: Any, size: tuple[float, float]) -> None:
    dm, given = forecast
    figure: Any = dm.plot_forecasts(given, fig=make_figure(size))
    assert_readable(figure)
    said = words_of(figure)
    for word in ("right", "mixed", "best baseline", "in test", "time (UTC)"):
        assert word in said


def test_lines_are_the_forecasts_and_what_they_gain_on_the_baseline(forecast: Any) -> None:
    dm, given = forecast
    card = dm.score(given)
    view = view_forecasts(card.score)
    figure: Any = dm.plot_forecasts(card, fig=make_figure())
    upper, lower = figure.axes
    drawn = {line.get_label(): np.asarray(line.get_ydata()) for line in upper.lines}
    np.testing.assert_allclose(drawn["right"], view.values["right"][-300:])
    assert set(drawn) >= {"right", "mixed", f"best baseline: {card.score.best}"}
    assert ("what came" in drawn) == (view.truth is not None)
    if view.truth is None:
        np.testing.assert_array_equal(drawn["right"], 1)
        assert 0 < drawn["mixed"][-1] < 1
    else:
        np.testing.assert_allclose(drawn["what came"], card.score.truth.ravel()[-300:])
    _, right, _ = lower.lines
    losses = card.score.losses
    np.testing.assert_allclose(
        right.get_ydata(), np.cumsum(losses["right"] - losses[card.score.best])
    )
    np.testing.assert_allclose(right.get_xdata(), to_days(card.score.origin_time))
    assert lower.get_ylim()[0] < 0 < lower.get_ylim()[1]


def test_a_file_of_forecasts_is_one_more_way(tmp_path: Path) -> None:
    import polars as pl

    dm = make_datamodule(tmp_path, target=CumulativeReturn())
    samples = list_samples(dm.stages, "val")
    frame = {"origin_time": samples.origin_time, "forecast": samples.truth[:, 0]}
    pl.DataFrame(frame).write_parquet(tmp_path / "model.parquet")
    figure: Any = dm.plot_forecasts(tmp_path / "model.parquet", "val", fig=make_figure())
    assert "model" in words_of(figure)
    hostile = {"_$\\frac$": pl.DataFrame(frame), "$a$": pl.DataFrame(frame)}
    said = words_of(dm.plot_forecasts(hostile, "val", fig=make_figure()))
    assert "_$\\frac$" in said  # and no formula, nor left out


def test_of_quantiles_the_median_is_drawn(forecast: Any) -> None:
    dm, given = forecast
    if dm.n_classes is not None:
        pytest.skip("classes have no quantiles")
    truth = given["right"]["forecast"]
    spread = np.stack([truth - 0.01, truth, truth + 0.01], axis=-1)
    three = {"three": {"origin_time": given["right"]["origin_time"], "forecast": spread}}
    for manner in ({"quantiles": [0.1, 0.5, 0.9]}, {"draws": True}):
        figure: Any = dm.plot_forecasts(three, fig=make_figure(), **manner)
        drawn = {line.get_label(): np.asarray(line.get_ydata()) for line in figure.axes[0].lines}
        np.testing.assert_allclose(drawn["three"], drawn["what came"])
