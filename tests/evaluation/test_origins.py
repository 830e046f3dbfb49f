"""Which samples a stage may see, against brute force over rows."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from btc_datamodule.candles.runs import find_runs
from btc_datamodule.evaluation.origins import (
    TABLE_LIMIT,
    Origins,
    SampleShape,
    Unseen,
    count_target_bars,
    find_origins,
    find_sparse_origins,
    space_runs,
)
from tests.marks import law


def rows_of(runs: NDArray[np.int64]) -> list[int]:
    return [row for start, end in runs for row in range(start, end)]


def marks(rows: int) -> st.SearchStrategy[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Rows in which a feature is not observed, and those in which it is undefined."""
    odds = st.lists(st.integers(0, 9), min_size=rows, max_size=rows).map(np.array)
    return st.tuples(odds.map(lambda each: each < 2), odds.map(lambda each: each % 3 == 0))


@st.composite
def cases(draw: st.DrawFn) -> dict[str, object]:
    rows = draw(st.integers(1, 60))
    absent = np.array(draw(st.lists(st.booleans(), min_size=rows, max_size=rows))) & (
        np.array(draw(st.lists(st.integers(0, 3), min_size=rows, max_size=rows))) == 0
    )
    filled = np.array(draw(st.lists(st.booleans(), min_size=rows, max_size=rows)))
    outage = absent & ~filled
    extra = np.array(draw(st.lists(st.integers(0, 9), min_size=rows, max_size=rows))) == 0
    start = draw(st.integers(0, rows))
    return {
        "shape": SampleShape(
            lookback=draw(st.integers(1, 12)),
            horizon=draw(st.integers(1, 6)),
            gap=draw(st.integers(0, 3)),
            reference_bars=draw(st.integers(1, 3)),
        ),
        "rows": rows,
        "absent": absent,
        "outage": outage,
        "unobserved": outage | extra,
        "undefined": np.array(draw(st.lists(st.booleans(), min_size=rows, max_size=rows))),
        "of_features": draw(st.none() | st.lists(marks(rows), min_size=1, max_size=3)),
        "span": (start, draw(st.integers(start, rows + 3))),
        "warm_up": draw(st.integers(0, 5)),
        "purge": draw(st.integers(0, 3)),
        "wall": draw(st.sampled_from([0, start]) | st.integers(0, rows + 3)),
        "embargo": draw(st.just(0) | st.integers(0, rows + 3)),
        "min_observed": draw(st.sampled_from([1.0, 0.9, 0.5, 0.1, 0.01])),
        "need_target": draw(st.booleans()),
    }


def fate(case: dict, origin: int) -> str | None:  # type: ignore[type-arg]  # noqa: PLR0911
    """The rules of the module docstring, for one origin; None for no candidate."""
    shape, (begin, end), rows = case["shape"], case["span"], case["rows"]
    target, need = origin + 1 + shape.gap, case["need_target"]
    first_raw = origin - shape.lookback + 1 - case["warm_up"]
    if need:
        first_raw = min(first_raw, target - shape.reference_bars)
    if not begin <= target < end or (target >= rows if need else origin >= rows):
        return None
    if need and target + shape.horizon > min(end, rows):
        return "end"
    if need and target + shape.horizon > min(end, rows) - case["purge"]:
        return "purge"
    if first_raw < case["wall"]:
        return "history"
    if first_raw < case["embargo"]:
        return "embargo"
    if need and case["outage"][target - shape.reference_bars : target + shape.horizon].any():
        return "target"
    return fate_of_inputs(case, origin)


def fate_of_inputs(case: dict, origin: int) -> str:  # type: ignore[type-arg]
    own = slice(origin - case["shape"].lookback + 1, origin + 1)
    allowed = (1 - case["min_observed"]) * case["shape"].lookback + 1e-9
    by_feature = case["of_features"] is not None
    unseen = case["of_features"] if by_feature else [(case["unobserved"], case["undefined"])]
    unknown = [unobserved & ~undefined for unobserved, undefined in unseen]
    if case["absent"][origin] or (not by_feature and unknown[0][origin]):
        return "origin"
    if any(rows[own].sum() > allowed for rows in unknown):
        return "inputs"
    if any(rows[own].sum() > allowed for rows, _ in unseen):
        return "undefined"
    return "undefined" if not by_feature and unseen[0][0][origin] else "kept"


@law(cases(), examples=120, many=4000)
def test_every_candidate_is_kept_or_left_out_for_its_first_reason(case: dict) -> None:  # type: ignore[type-arg]
    of_bars = (case["unobserved"], case["undefined"])
    reckoning = find_origins(
        case["shape"],
        span=case["span"],
        rows=case["rows"],
        warm_up=case["warm_up"],
        purge=case["purge"],
        wall=case["wall"],
        embargo=case["embargo"],
        min_observed=case["min_observed"],
        holes=find_runs(case["absent"]),
        outages=find_runs(case["outage"]),
        unseen=[Unseen(*map(find_runs, each)) for each in case["of_features"] or [of_bars]],
        by_feature=case["of_features"] is not None,
        need_target=case["need_target"],
    )
    fates = {origin: fate(case, origin) for origin in range(-8, case["rows"] + 8)}
    assert rows_of(reckoning.runs) == [origin for origin, why in fates.items() if why == "kept"]
    assert reckoning.candidates == sum(why is not None for why in fates.values())
    for name, count in reckoning.dropped._asdict().items():
        assert count == sum(why == name for why in fates.values()), name


def test_without_holes_the_ranges_are_those_of_the_arithmetic() -> None:
    """The ranges of first inputs in the split arithmetic, for W 5, L 4, H 3, g 2, P 1."""
    none = np.zeros((0, 2), dtype=np.int64)
    shape = SampleShape(lookback=4, horizon=3, gap=2)

    def first_inputs(span: tuple[int, int], wall: int = 0, embargo: int = 0) -> list[int]:
        runs = find_origins(
            shape,
            span=span,
            rows=100,
            warm_up=5,
            purge=1,
            min_observed=1.0,
            holes=none,
            outages=none,
            unseen=[Unseen(none, none)],
            wall=wall,
            embargo=embargo,
        ).runs
        return [origin - 3 for origin in rows_of(runs)]

    assert first_inputs((0, 60)) == list(range(0 + 5, 60 - 1 - 4 - 2 - 3 + 1))
    assert first_inputs((60, 80)) == list(range(60 - 4 - 2, 80 - 1 - 4 - 2 - 3 + 1))
    assert first_inputs((60, 80), wall=60) == list(range(60 + 5, 80 - 1 - 4 - 2 - 3 + 1))
    late = list(range(63 + 5, 80 - 1 - 4 - 2 - 3 + 1))
    assert first_inputs((60, 80), wall=63) == first_inputs((60, 80), wall=60, embargo=63) == late


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 10), st.integers(0, 10))
def test_too_sparse_windows_are_found_exactly(
    unseen: list[bool], lookback: int, allowed: int
) -> None:
    mask = np.array(unseen, dtype=bool)
    padded = np.concatenate([np.zeros(lookback, dtype=bool), mask, np.zeros(lookback, dtype=bool)])
    runs = find_sparse_origins(find_runs(padded), lookback, allowed)
    expected = [
        origin
        for origin in range(lookback - 1, len(padded))
        if padded[origin - lookback + 1 : origin + 1].sum() > allowed
    ]
    assert rows_of(runs) == expected


def test_positions_count_origins_through_runs_at_a_stride() -> None:
    origins = Origins.of(np.array([[2, 10], [20, 21], [30, 34]]), stride=3)
    assert origins[np.arange(len(origins))].tolist() == [2, 5, 8, 20, 30, 33]


@given(
    lengths=st.lists(st.integers(1, 40) | st.integers(1, 5000), min_size=1, max_size=60),
    stride=st.integers(1, 7),
)
@settings(max_examples=200)
def test_any_positions_are_found_in_runs_however_uneven(lengths: list[int], stride: int) -> None:
    starts = np.cumsum([0, *(length + 3 for length in lengths[:-1])])
    runs = np.stack([starts, starts + lengths], axis=1)
    origins = Origins.of(runs, stride)
    expected = [row for start, end in runs.tolist() for row in range(start, end, stride)]
    shuffled = np.random.default_rng(0).permutation(len(origins))
    assert len(origins) == len(expected)
    assert origins[shuffled].tolist() == np.array(expected)[shuffled].tolist()
    assert origins[np.zeros(0, dtype=np.int64)].tolist() == []


# --- which of them are handed out -----------------------------------------------------------------

MASKS = st.lists(st.booleans(), max_size=80).map(lambda rows: np.array(rows, dtype=bool))


def taken(origins: Origins) -> list[int]:
    rows: list[int] = origins[np.arange(len(origins))].tolist()
    return rows


@given(MASKS, st.integers(1, 12))
@settings(max_examples=300)
def test_spaced_origins_are_never_closer_than_the_stride_and_none_is_passed_over(
    eligible: NDArray[np.bool_], stride: int
) -> None:
    """The first eligible origin at a stride after the one before, whichever run it lies in."""
    found = taken(Origins.of(space_runs(find_runs(eligible), stride), stride))
    expected, free = [], 0
    for row in np.flatnonzero(eligible).tolist():
        if row >= free:
            expected.append(row)
            free = row + stride
    assert found == expected
    assert all(later - row >= stride for row, later in pairwise(found))


def test_of_runs_closer_than_a_stride_some_begin_later_and_some_are_left_out() -> None:
    runs = np.array([[0, 6], [7, 12], [14, 15], [16, 30]])
    assert space_runs(runs, 5).tolist() == [[0, 6], [10, 12], [16, 30]]
    assert space_runs(runs, 1).tolist() == runs.tolist()
    assert space_runs(runs[:0], 5).shape == (0, 2)


@given(MASKS, st.integers(1, 9), st.integers(1, 9), st.booleans())
@settings(max_examples=300)
def test_target_bars_are_counted_once_however_many_windows_have_them(
    eligible: NDArray[np.bool_], stride: int, horizon: int, spaced: bool
) -> None:
    runs = find_runs(eligible)
    origins = Origins.of(space_runs(runs, stride) if spaced else runs, stride)
    bars = [row + 1 + ahead for row in taken(origins) for ahead in range(horizon)]
    assert count_target_bars(origins, horizon) == len(set(bars))
    if spaced and stride >= horizon:
        assert len(bars) == len(set(bars)), "none is scored twice"


def test_the_table_of_runs_stays_small_however_many_there_are() -> None:
    starts = np.arange(200_000) * 10
    origins = Origins.of(np.stack([starts, starts + 4], axis=1), stride=1)
    positions = np.array([0, 3, 4, 799_999])
    assert origins[positions].tolist() == [0, 3, 10, 1_999_993]
    assert len(origins._table[1]) <= TABLE_LIMIT


def test_a_billion_origins_cost_no_memory() -> None:
    origins = Origins.of(np.array([[0, 10**9]]), stride=1)
    assert len(origins) == 10**9
    assert origins[np.array([10**9 - 1, 0])].tolist() == [10**9 - 1, 0]
