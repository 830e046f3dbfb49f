"""Samples by when they are."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from btc_datamodule import ConfigError, CumulativeReturn
from btc_datamodule.scoring.groups import list_groups, score_groups
from btc_datamodule.scoring.samples import list_samples
from tests.scoring.test_score import make, score


def test_each_sample_is_in_one_group_of_each_kind(tmp_path: Path) -> None:
    dm = make(tmp_path, target=CumulativeReturn(), start="2019-11-01", end="2020-02-01")
    found = score(dm, list_samples(dm.stages, "test").truth)
    for by in ("fold", "year", "volatility", "hour"):
        groups = list_groups(found, by)
        assert (np.sum([*groups.values()], axis=0) == 1).all()
    hours = list_groups(found, "hour")
    for at in (0, 7, 100):
        when = datetime.fromtimestamp(int(found.origin_time[at]), UTC)
        assert hours[when.strftime("%a %H")][at]
    assert {*list_groups(found, "year")} == {"2020"}
    counts = [int(rows.sum()) for rows in list_groups(found, "volatility").values()]
    assert max(counts) - min(counts) <= 2


def test_a_group_is_measured_as_if_it_were_all_there_is(tmp_path: Path) -> None:
    dm = make(tmp_path, target=CumulativeReturn())
    truth = list_samples(dm.stages, "test").truth
    found = score(dm, np.zeros_like(truth))
    frame = score_groups(found, "volatility")
    assert frame["volatility"].to_list() == ["low", "middle", "high"]
    rows = list_groups(found, "volatility")["high"]
    assert frame["mae"][2] == pytest.approx(np.abs(found.truth[rows]).mean())
    assert frame["mae"][0] < frame["mae"][2]
    assert frame["samples"].sum() == len(truth)
    few = score_groups(found, "hour")
    assert few["difference"].null_count() == len(few), "of ten samples or fewer nothing is tested"


def test_what_there_is_to_group_by_is_told(tmp_path: Path) -> None:
    dm = make(tmp_path, target=CumulativeReturn())
    found = score(dm, list_samples(dm.stages, "test").truth)
    by: Any = "month"
    with pytest.raises(ConfigError, match="choose one of fold, year, volatility, hour"):
        list_groups(found, by)
