"""The map of folds."""

from itertools import pairwise
from pathlib import Path

import numpy as np

from btc_datamodule import BTCDataModule, CombinatorialPurged, WalkForward
from btc_datamodule.overview.folds import map_folds
from btc_datamodule.overview.spans import list_ribbons
from tests.factories import make_datamodule


def test_a_map_has_all_folds_of_a_walk(tmp_path: Path) -> None:
    dm = make_datamodule(tmp_path, split=WalkForward("10d", "3d", "3d", fold=-1), purge=2)
    found = map_folds(dm.stages)
    assert found.total == dm.n_folds == len(found.numbers) > 3
    assert found.chosen == dm.n_folds - 1
    assert list(found.ribbons[-1]) == list_ribbons(dm.stages)
    assert found.groups == ()
    assert found.paths is None
    tests = [r.span for each in found.ribbons for r in each if r.stage == "test"]
    assert all(a[1] == b[0] for a, b in pairwise(tests))


def test_a_map_of_a_combinatorial_split_has_its_paths(tmp_path: Path) -> None:
    split = CombinatorialPurged(6, 2, fold=4)
    dm = make_datamodule(tmp_path, split=split)
    found = map_folds(dm.stages)
    assert (found.total, found.chosen) == (15, 4)
    assert len(found.groups) == 6
    assert found.paths is not None
    np.testing.assert_array_equal(found.paths, split.paths())
    for path in found.paths:
        for group, fold in enumerate(path):
            tested = [r.span for r in found.ribbons[fold] if r.stage == "test"]
            assert any(
                a <= found.groups[group][0] and found.groups[group][1] <= b for a, b in tested
            )


def test_of_many_folds_some_are_shown_and_the_one_in_use_with_them(holed: BTCDataModule) -> None:
    dm = make_datamodule(
        holed.settings.data_dir.parent, split=WalkForward("10d", 0, "6h", fold=11), lookback=2
    )
    found = map_folds(dm.stages, most=5)
    assert found.total == dm.n_folds > 50
    assert len(found.numbers) == 5
    assert 11 in found.numbers
    assert list(found.ribbons[found.numbers.index(11)]) == list_ribbons(dm.stages)
