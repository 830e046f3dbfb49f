"""Forecasts over time, as numbers."""

from pathlib import Path

import numpy as np
import pytest

from btc_datamodule import CumulativeReturn, Direction, LogReturn
from btc_datamodule.overview.forecasts import view_forecasts
from btc_datamodule.scoring.samples import list_samples
from tests.factories import make_datamodule

pytest.importorskip("scipy", reason="scores need scipy")


def test_of_values_there_is_the_last_of_each_target_and_the_lead_on_the_baseline(
    tmp_path: Path,
) -> None:
    dm = make_datamodule(tmp_path, target=LogReturn(), horizon=3)
    samples = list_samples(dm.stages, "test")
    given = {"origin_time": samples.origin_time, "forecast": samples.truth}
    score = dm.score({"right": given}).score
    view = view_forecasts(score)
    assert (view.kind, view.target, view.window) == ("value", "LogReturn", 1)
    assert view.truth is not None
    np.testing.assert_array_equal(view.truth, samples.truth[:, 2, 0])
    np.testing.assert_allclose(view.values["right"], view.truth)
    np.testing.assert_array_equal(view.times, samples.origin_time)
    assert list(view.values) == ["right", score.best]
    assert list(view.lead) == ["right"]
    np.testing.assert_allclose(view.lead["right"], -np.cumsum(score.losses[score.best]))


@pytest.mark.parametrize("target", [Direction(), Direction(classes=True)])
def test_of_classes_there_is_the_share_that_was_right_lately(
    tmp_path: Path, target: Direction
) -> None:
    dm = make_datamodule(tmp_path, target=target)
    samples = list_samples(dm.stages, "test")
    wrong = 1 - samples.truth if target.classes else -samples.truth
    half = np.where(np.arange(len(samples)) % 2 == 0, wrong.T, samples.truth.T).T
    given = {"origin_time": samples.origin_time, "forecast": half}
    view = view_forecasts(dm.score({"half": given}).score)
    assert (view.kind, view.truth) == ("classes", None)
    assert view.window == len(samples) // 40
    hits = np.arange(len(samples)) % 2 * 1.0
    for place in (0, 1, len(samples) - 1):
        lately = hits[max(0, place + 1 - view.window) : place + 1]
        assert view.values["half"][place] == pytest.approx(lately.mean())


def test_what_is_right_leads_what_is_wrong(tmp_path: Path) -> None:
    dm = make_datamodule(tmp_path, target=CumulativeReturn())
    samples = list_samples(dm.stages, "test")
    time = samples.origin_time
    wrong = {"origin_time": time, "forecast": -3 * samples.truth}
    right = {"origin_time": time, "forecast": samples.truth}
    view = view_forecasts(dm.score({"right": right, "wrong": wrong}).score)
    assert view.lead["right"][-1] < 0 < view.lead["wrong"][-1]
