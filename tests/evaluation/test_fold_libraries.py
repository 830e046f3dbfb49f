"""Folds and paths held against those of other libraries: scikit-learn and skfolio."""

import numpy as np
import pytest
from numpy.typing import NDArray

from btc_datamodule import (
    BTCDataModule,
    CombinatorialPurged,
    WalkForward,
)
from tests.evaluation.folds import FEATURES, ROWS, SOURCES, Sample, first_targets, opened
from tests.factories import HOUR

# Against other libraries. Their samples are numbered rows; ours are known by their first target
# bar, which is what their row t stands for. No holes.


def known(dm: BTCDataModule, rows: NDArray[np.int64]) -> list[int]:
    """The rows that may be first targets at all: with history before and a horizon after."""
    least = Sample(dm, 0).first_target - Sample(dm, 0).first_read
    return [row for row in rows.tolist() if least <= row <= ROWS - dm.horizon]


@pytest.mark.parametrize("expanding", [True, False])
@pytest.mark.parametrize(("count", "test", "val"), [(5, 20, 0), (4, 30, 24), (7, 12, 5)])
def test_the_folds_of_a_walk_are_those_of_scikit_learn(
    count: int, test: int, val: int, expanding: bool
) -> None:
    """TimeSeriesSplit counts its tests from the end: they agree where nothing is left over.

    Its ``gap`` is where our validation lies, its ``max_train_size`` our rolling train.
    """
    sklearn = pytest.importorskip("sklearn.model_selection", reason="extra crosscheck")
    train = ROWS - count * test - val
    theirs = sklearn.TimeSeriesSplit(
        count, test_size=test, gap=val, max_train_size=None if expanding else train
    )
    folds = WalkForward(train, val, test, expanding=expanding).folds((0, ROWS * HOUR), HOUR)
    expected = list(theirs.split(np.zeros(ROWS)))
    assert len(folds) == len(expected) == count
    for fold, (in_train, in_test) in zip(folds, expected, strict=True):
        for spans, rows in ((fold.train, in_train), (fold.test, in_test)):
            ((start, end),) = spans
            assert list(range(start // HOUR, end // HOUR)) == rows.tolist()


@pytest.mark.parametrize(("horizon", "purge"), [(1, 0), (1, 3), (4, 0), (4, 2)])
def test_a_gap_of_scikit_learn_is_the_horizon_less_one_and_the_purge(
    folder: str, horizon: int, purge: int
) -> None:
    sklearn = pytest.importorskip("sklearn.model_selection", reason="extra crosscheck")
    theirs = sklearn.TimeSeriesSplit(4, test_size=30, gap=horizon - 1 + purge)
    for k, (in_train, in_test) in enumerate(theirs.split(np.zeros(ROWS))):
        dm = opened(
            folder,
            source=SOURCES[0],
            features=FEATURES[0],
            max_fill=0,
            lookback=6,
            horizon=horizon,
            purge=purge,
            eval_stride=1,
            split=WalkForward(ROWS - 4 * 30, 0, 30, expanding=True, fold=k),
        )
        assert first_targets(dm, "train") == known(dm, in_train)
        assert first_targets(dm, "test") == in_test[: 30 - horizon + 1].tolist()


@pytest.mark.parametrize(("n_groups", "n_test_groups"), [(3, 2), (4, 2), (5, 3), (6, 2), (6, 5)])
def test_groups_folds_and_paths_are_those_of_skfolio(n_groups: int, n_test_groups: int) -> None:
    """They agree where the groups are of one length: the rest, theirs puts into the last group."""
    skfolio = pytest.importorskip("skfolio.model_selection", reason="extra crosscheck")
    theirs = skfolio.CombinatorialPurgedCV(n_groups, n_test_groups)
    ours = CombinatorialPurged(n_groups, n_test_groups)
    assert (ours.n_folds, ours.n_paths) == (theirs.n_splits, theirs.n_test_paths)
    assert ours.paths().tolist() == theirs.recombined_paths.T.tolist()
    path_ids = theirs.get_path_ids()
    for fold, groups in enumerate(theirs.test_set_index.tolist()):
        for place, group in enumerate(groups):
            assert ours.paths()[path_ids[fold, place], group] == fold
    rows = 20 * n_groups
    expected = list(theirs.split(np.zeros(rows)))
    for our, (in_train, in_tests) in zip(ours.folds((0, rows), 1), expected, strict=True):
        assert [row for a, b in our.train for row in range(a, b)] == in_train.tolist()
        assert [list(range(a, b)) for a, b in our.test] == [rows.tolist() for rows in in_tests]


@pytest.mark.parametrize(
    ("lookback", "horizon", "gap", "embargo", "features"),
    [(1, 1, 0, 0, 0), (5, 3, 0, 0, 0), (5, 3, 2, 4, 0), (3, 4, 1, 2, 1)],
)
def test_purge_and_embargo_of_skfolio_follow_from_the_shape_of_a_sample(
    folder: str, lookback: int, horizon: int, gap: int, embargo: int, features: int
) -> None:
    """purged_size = H - 1, and purged_size + embargo_size = W + L + g + E.

    H - 1 more first targets before a test group would reach into it; W + L + g after it would
    have read from it, and E more are the embargo.
    """
    skfolio = pytest.importorskip("skfolio.model_selection", reason="extra crosscheck")
    split = CombinatorialPurged(4, 2)
    for fold in range(split.n_folds):
        dm = opened(
            folder,
            source=SOURCES[0],
            features=FEATURES[features],
            max_fill=0,
            lookback=lookback,
            horizon=horizon,
            gap=gap,
            embargo=embargo,
            eval_stride=1,
            split=CombinatorialPurged(4, 2, fold),
        )
        warm_up = dm.table.warm_up
        theirs = skfolio.CombinatorialPurgedCV(
            4, 2, horizon - 1, warm_up + lookback + gap + embargo - (horizon - 1)
        )
        in_train, in_tests = list(theirs.split(np.zeros(ROWS)))[fold]
        assert first_targets(dm, "train") == known(dm, in_train)
        # Their test sets are whole groups; a sample of ours must lie in one with all its targets.
        whole = np.concatenate([rows[: len(rows) - horizon + 1] for rows in in_tests])
        assert first_targets(dm, "test") == known(dm, whole)
