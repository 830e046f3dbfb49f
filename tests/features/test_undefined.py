"""Where features have no value for bars that are known: which rows count, and what is kept."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from btc_datamodule.features.cells import find_cells, join_cells
from btc_datamodule.features.undefined import (
    JudgedRows,
    find_counting,
    find_known,
    judge_rows,
)

NAN = float("nan")


def judge(
    values: NDArray[np.float32],
    lookbacks: list[int],
    outage: NDArray[np.bool_],
    *,
    flag: bool,
    by_feature: bool = False,
    first: int = 0,
) -> JudgedRows:
    """Rows of features of the candles, whose first is ``first`` of the table."""
    known = find_known(outage, lookbacks, len(values))
    counts = find_counting(outage[len(outage) - len(values) :], first, max(lookbacks) - 1)
    return judge_rows(values, known, counts, flag=flag, by_feature=by_feature)


def test_no_value_counts_as_undefined_only_where_all_bars_of_the_lookback_are_known() -> None:
    outage = np.array([False, False, False, True, False, False, False, False])
    values = np.ones((8, 1), dtype=np.float32)
    values[[0, 2, 3, 4, 6], 0] = NAN, np.inf, NAN, NAN, -np.inf
    judged = judge(values, [2], outage, flag=False)
    # Row 0 has no bar before it, 3 is an outage, 4 looks back into it: nothing brings these back.
    assert np.flatnonzero(judged.undefined).tolist() == [2, 6]
    assert np.flatnonzero(judged.observed).tolist() == [1, 5, 7]
    assert judged.x.ravel().tolist() == [0, 1, 0, 0, 0, 1, 0, 1]


def test_flagged_rows_are_observed_with_0_and_a_column_that_says_so() -> None:
    outage = np.array([False, False, False, True, False, False, False, False])
    values = np.full((8, 2), 5, dtype=np.float32)
    values[[2, 4], 1] = NAN
    judged = judge(values, [1, 2], outage, flag=True)
    assert np.flatnonzero(judged.observed).tolist() == [1, 2, 5, 6, 7]
    np.testing.assert_array_equal(judged.x[2], [5, NAN, 1])
    assert judged.counted.tolist() == [[5, 5, 0]] * 4
    assert judged.x[4].tolist() == [0, 0, 0]  # the second looks back into the outage
    assert judged.x[5].tolist() == [5, 5, 0]
    assert judged.undefined.tolist() == [[False, row == 2] for row in range(8)]


@given(st.data())
@settings(max_examples=200)
def test_rows_are_judged_alike_whatever_comes_before_their_lookback(data: st.DataObject) -> None:
    rows, lookbacks = 24, data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    outage = rng.random(rows) < 0.2
    values = np.where(rng.random((rows, len(lookbacks))) < 0.3, NAN, 1.0).astype(np.float32)
    flag = data.draw(st.booleans())
    whole = judge(values.copy(), lookbacks, outage, flag=flag)
    for row in range(rows):
        known = [
            row - each + 1 >= 0 and not outage[row - each + 1 : row + 1].any() for each in lookbacks
        ]
        without = np.isnan(values[row])
        excused = any(without & ~np.array(known)) or outage[row] or row < max(lookbacks) - 1
        assert whole.undefined[row].tolist() == (without & (not excused)).tolist()
        assert whole.observed[row] == (not excused and (flag or not without.any()))
    cut = data.draw(st.integers(0, rows - 1))
    early = max(0, cut - max(lookbacks) + 1)
    part = judge(values[cut:].copy(), lookbacks, outage[early:], flag=flag, first=cut)
    for one, other in zip(part, whole, strict=True):
        np.testing.assert_array_equal(one, other[cut:])
    first = find_cells(whole.undefined[:cut], 0)
    joined = join_cells([first, find_cells(whole.undefined[cut:], cut)])
    assert joined.tolist() == find_cells(whole.undefined, 0).tolist()
