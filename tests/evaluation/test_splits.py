"""Splits are pure functions from spans to folds: against brute force over bars and instants."""

import doctest
from fractions import Fraction
from itertools import combinations, pairwise
from math import ceil, comb
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import strategies as st

import btc_datamodule.evaluation.splits
from btc_datamodule import CombinatorialPurged, ConfigError, DateSplit, FractionSplit, WalkForward
from btc_datamodule.candles.timeline import Span, format_instant, format_interval, parse_instant
from btc_datamodule.evaluation.splits import END_OF_TIME, Fold, Spans, Split
from tests.marks import law

MINUTE = 60
HOUR = 3600
DAY = 24 * HOUR


@st.composite
def grids(draw: st.DrawFn, most: int = 300) -> tuple[Span, int]:
    """A span and its interval: any number of bars from any bar since 2010 on."""
    interval = draw(st.sampled_from([MINUTE, HOUR, DAY]))
    first = draw(st.integers(1_262_304_000 // interval, 1_700_000_000 // interval))
    bars = draw(st.integers(2, most))
    return (first * interval, (first + bars) * interval), interval


def bars_in(spans: Spans, grid: tuple[Span, int]) -> list[int]:
    """Numbers of the bars, in order, that the spans own; the spans lie on the grid, inside it."""
    (start, end), interval = grid
    for a, b in spans:
        assert start <= a < b <= end
        assert a % interval == b % interval == 0
    return [
        bar for a, b in spans for bar in range((a - start) // interval, (b - start) // interval)
    ]


def stages_of(fold: Fold, grid: tuple[Span, int]) -> dict[str, list[int]]:
    """The bars of each stage. They are disjoint, and predict is test, without end at the end."""
    stages = {name: bars_in(getattr(fold, name), grid) for name in ("train", "val", "test")}
    owned = [bar for bars in stages.values() for bar in bars]
    assert len(owned) == len(set(owned))
    assert all(bars == sorted(bars) for bars in stages.values())
    end = grid[0][1]
    assert fold.predict == tuple((a, END_OF_TIME if b == end else b) for a, b in fold.test)
    return stages


def opening_in(start: float, end: float, grid: tuple[Span, int]) -> list[int]:
    """Numbers of the bars that open in [start, end)."""
    (first, last), interval = grid
    opens = np.arange(first, last, interval)
    return np.flatnonzero((opens >= start) & (opens < end)).tolist()


def test_the_examples_of_the_module_hold() -> None:
    result = doctest.testmod(btc_datamodule.evaluation.splits)
    assert (result.attempted > 0, result.failed) == (True, 0)


# FractionSplit


@law(grids(most=3000), st.integers(1, 998), st.data())
def test_a_bar_belongs_to_the_stage_that_its_share_of_time_lies_in(
    grid: tuple[Span, int], val: int, data: st.DataObject
) -> None:
    test = data.draw(st.integers(1, 999 - val))
    (start, end), interval = grid
    bars = (end - start) // interval
    edges = [ceil(Fraction(1000 - taken, 1000) * bars) for taken in (val + test, test)]
    (fold,) = FractionSplit(val / 1000, test / 1000).folds(*grid)
    spans = [(0, edges[0]), (edges[0], edges[1]), (edges[1], bars)]
    expected = [((start + a * interval, start + b * interval),) for a, b in spans]
    assert [fold.train, fold.val, fold.test] == expected


def test_fractions_are_shares_of_time_and_the_stages_tile_the_span() -> None:
    (fold,) = FractionSplit(val=0.25, test=0.125).folds((0, 80 * HOUR), HOUR)
    assert fold.train == ((0, 50 * HOUR),)
    assert fold.val == ((50 * HOUR, 70 * HOUR),)
    assert fold.test == ((70 * HOUR, 80 * HOUR),)


def test_the_rounding_of_floats_costs_no_bar() -> None:
    assert 1 - 0.2 - 0.2 > 0.6
    (fold,) = FractionSplit(val=0.2, test=0.2).folds((0, 10 * HOUR), HOUR)
    assert fold.train == ((0, 6 * HOUR),)


def test_boundaries_are_rounded_up_to_the_grid() -> None:
    (fold,) = FractionSplit(val=0.3, test=0.3).folds((0, 7 * HOUR), HOUR)
    assert fold.val == ((3 * HOUR, 5 * HOUR),)  # 2.8 h and 4.9 h
    (fold,) = DateSplit("1970-01-02T00:30", "1970-01-03").folds((0, 4 * DAY), HOUR)
    assert fold.val == ((DAY + HOUR, 2 * DAY),)


@pytest.mark.parametrize(("val", "test"), [(0, 0.1), (0.1, 0), (0.5, 0.5), (-0.1, 0.1), (2, 0.1)])
def test_fractions_that_leave_no_room_are_refused(val: float, test: float) -> None:
    with pytest.raises(ConfigError, match="leave room for train"):
        FractionSplit(val, test)


# DateSplit


@law(grids(), st.data())
def test_a_bar_belongs_to_the_stage_that_it_opens_in(
    grid: tuple[Span, int], data: st.DataObject
) -> None:
    (start, end), interval = grid
    margin = 3 * interval
    instants = st.integers(start - margin, end + margin)
    val, test, last = sorted(data.draw(st.lists(instants, min_size=3, max_size=3, unique=True)))
    ends = data.draw(st.booleans())
    split = DateSplit(
        format_instant(val), format_instant(test), format_instant(last) if ends else None
    )
    expected = {
        "train": opening_in(start, val, grid),
        "val": opening_in(val, test, grid),
        "test": opening_in(test, last if ends else end, grid),
    }
    if all(expected.values()):
        (fold,) = split.folds(*grid)
        assert stages_of(fold, grid) == expected
    else:
        with pytest.raises(ConfigError, match=r"must lie inside the candles|no bar of .* opens"):
            split.folds(*grid)


def test_dates_are_utc_and_an_end_cuts_the_test_stage() -> None:
    split = DateSplit(val="2020-05-01", test="2020-05-24T00:00:00+02:00", end="2020-06-01")
    span = (parse_instant("2020-01-01"), parse_instant("2020-06-15"))
    (fold,) = split.folds(span, HOUR)
    assert fold.train == ((span[0], parse_instant("2020-05-01")),)
    assert fold.test == ((parse_instant("2020-05-23T22:00"), parse_instant("2020-06-01")),)


def test_predict_starts_with_test_and_has_no_end() -> None:
    (fold,) = FractionSplit().folds((0, 100 * HOUR), HOUR)
    ((start, end),) = fold.spans("predict")
    assert start == fold.test[0][0]
    assert end > 10**15


def test_predict_ends_with_a_test_that_ends_before_the_candles_do() -> None:
    (fold,) = DateSplit("1970-01-02", "1970-01-03", "1970-01-04").folds((0, 5 * DAY), HOUR)
    assert fold.predict == fold.test == ((2 * DAY, 3 * DAY),)


def test_dates_out_of_order_or_outside_the_candles_are_refused() -> None:
    with pytest.raises(ConfigError, match="must follow each other"):
        DateSplit(val="2020-02-01", test="2020-01-01")
    with pytest.raises(ConfigError, match=r"inside the candles, 1970-01-01T00:00:00Z to 1970"):
        DateSplit(val="2020-01-01", test="2020-02-01").folds((0, DAY), HOUR)
    with pytest.raises(ConfigError, match=r"split.val 'soon' is not an ISO 8601 time"):
        DateSplit(val="soon", test="2020-02-01")


def test_dates_between_the_same_two_bars_are_refused() -> None:
    with pytest.raises(ConfigError, match="no bar of 1h opens between val and test"):
        DateSplit("1970-01-02T00:10", "1970-01-02T00:50").folds((0, 4 * DAY), HOUR)
    with pytest.raises(ConfigError, match="no bar of 1d opens between test and end"):
        DateSplit("1970-01-02", "1970-01-03T01", "1970-01-03T02").folds((0, 9 * DAY), DAY)


# WalkForward


@st.composite
def lengths(draw: st.DrawFn, interval: int, least: int = 1) -> int | str:
    """A number of bars, or a duration of at least one, on the grid or between."""
    if draw(st.booleans()):
        return draw(st.integers(least, 40))
    unit = draw(st.sampled_from([unit for unit in (1, MINUTE, HOUR, DAY) if unit <= interval]))
    count = draw(st.integers(interval // unit, 40 * interval // unit))
    return f"{count}{ {1: 's', MINUTE: 'm', HOUR: 'h', DAY: 'd'}[unit] }"


def seconds_of(length: int | str, interval: int) -> int:
    """What a length says, independently of the package."""
    if isinstance(length, int):
        return length * interval
    return int(length[:-1]) * {"s": 1, "m": MINUTE, "h": HOUR, "d": DAY}[length[-1]]


@st.composite
def walks(draw: st.DrawFn) -> tuple[tuple[Span, int], WalkForward]:
    grid = draw(grids())
    interval = grid[1]
    return grid, WalkForward(
        train=draw(lengths(interval)),
        val=draw(lengths(interval, least=0)),
        test=draw(lengths(interval)),
        step=draw(st.none() | lengths(interval)),
        expanding=draw(st.booleans()),
    )


@law(walks(), examples=250)
def test_each_fold_of_a_walk_owns_the_bars_that_open_in_its_instants(
    walk: tuple[tuple[Span, int], WalkForward],
) -> None:
    grid, split = walk
    (start, end), interval = grid
    train, val, test = (seconds_of(x, interval) for x in (split.train, split.val, split.test))
    step = test if split.step is None else seconds_of(split.step, interval)
    first = start + train + val
    count = (end - start - (train + val) - test) // step + 1
    if first + test > end:
        assert count <= 0
        with pytest.raises(ConfigError, match="need more time than there is"):
            split.folds(*grid)
        return
    folds = split.folds(*grid)
    assert len(folds) == count
    for k, fold in enumerate(folds):
        at = first + k * step
        begin = start if split.expanding else at - val - train
        assert stages_of(fold, grid) == {
            "train": opening_in(begin, at - val, grid),
            "val": opening_in(at - val, at, grid),
            "test": opening_in(at, at + test, grid),
        }
        assert (len(fold.train), len(fold.val), len(fold.test)) == (1, int(val > 0), 1)
        assert fold.train[0][1] == (fold.val or fold.test)[0][0]
        assert not fold.val or fold.val[0][1] == fold.test[0][0]


@law(walks())
def test_tests_that_step_by_their_length_cover_the_time_once(
    walk: tuple[tuple[Span, int], WalkForward],
) -> None:
    grid, split = walk
    split = WalkForward(split.train, split.val, split.test, None, split.expanding)
    try:
        folds = split.folds(*grid)
    except ConfigError:
        return
    tested = [bar for fold in folds for bar in bars_in(fold.test, grid)]
    assert tested == list(range(tested[0], tested[0] + len(tested)))
    left = (grid[0][1] - folds[-1].test[0][1]) / grid[1]
    assert left * grid[1] < seconds_of(split.test, grid[1])


@law(grids(), st.tuples(*[st.integers(1, 30)] * 4))
def test_in_bars_a_walk_is_the_arithmetic_of_bars(
    grid: tuple[Span, int], sizes: tuple[int, int, int, int]
) -> None:
    train, val, test, step = sizes
    bars = (grid[0][1] - grid[0][0]) // grid[1]
    if train + val + test > bars:
        return
    rolling = WalkForward(train, val, test, step).folds(*grid)
    expanding = WalkForward(train, val, test, step, expanding=True).folds(*grid)
    assert len(rolling) == len(expanding) == (bars - (train + val) - test) // step + 1
    for k, (one, other) in enumerate(zip(rolling, expanding, strict=True)):
        at = train + val + k * step
        assert bars_in(one.train, grid) == list(range(at - val - train, at - val))
        assert bars_in(other.train, grid) == list(range(at - val))
        for fold in (one, other):
            assert bars_in(fold.val, grid) == list(range(at - val, at))
            assert bars_in(fold.test, grid) == list(range(at, at + test))


def test_a_walk_of_a_number_of_bars_is_that_of_the_same_duration() -> None:
    span = (parse_instant("2020-01-01"), parse_instant("2021-01-01"))
    in_days = WalkForward("60d", "10d", "20d", "5d").folds(span, HOUR)
    assert in_days == WalkForward(60 * 24, 240, 480, 120).folds(span, HOUR)
    assert len(in_days) == (366 - 70 - 20) // 5 + 1


@pytest.mark.parametrize("train", ["9075600s", "00009075600s", "151260m"])
def test_a_duration_may_have_any_number_of_digits(train: str) -> None:
    span = (parse_instant("2020-01-01"), parse_instant("2021-01-01"))
    split = WalkForward(train=train, val="864000s", test="2592000s")
    assert split.folds(span, HOUR) == WalkForward("2521h", "10d", "30d").folds(span, HOUR)
    assert split.folds(span, HOUR)[0].train == ((span[0], span[0] + 9_075_600),)


def test_a_duration_is_at_most_a_million_days() -> None:
    for whole in ("1000000d", "24000000h", "86400000000s"):
        assert WalkForward(train=whole).train == whole
        with pytest.raises(ConfigError, match="need more time than there is"):
            WalkForward(train=whole).folds((0, 100 * DAY), DAY)
    for more in ("1000001d", "24000001h", "86400000001s", "9" * 15 + "s", "9" * 40 + "d"):
        with pytest.raises(ConfigError, match=r"12h \(of at most a million days\), or a whole"):
            WalkForward(train=more)


def test_tests_between_bars_take_the_bars_that_open_in_them() -> None:
    folds = WalkForward(2, 0, "90m").folds((0, 8 * HOUR), HOUR)
    tests = [[s // HOUR for s in fold.test[0]] for fold in folds]
    assert tests == [[2, 4], [4, 5], [5, 7], [7, 8]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": 0}, r"split\.train is 0: it must be longer"),
        ({"test": 0}, r"split\.test is 0: it must be longer"),
        ({"step": 0}, r"split\.step is 0: it must be longer"),
        ({"val": -1}, r"split\.val is -1: it must be longer"),
        ({"val": "0d"}, r"split\.val is '0d': give a duration such as 60d or 12h \(of"),
        ({"train": "a year"}, r"split\.train is 'a year': give a duration such as 60d"),
        ({"train": 1.5}, r"split\.train is 1\.5: give a duration such as 60d"),
        ({"test": True}, r"split\.test is True: give a duration such as 60d, or bars"),
        ({"step": "-3d"}, r"split\.step is '-3d': give a duration"),
    ],
)
def test_a_wrong_length_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WalkForward(**arguments)


@pytest.mark.parametrize("name", ["train", "val", "test", "step"])
def test_a_length_of_less_than_a_bar_is_refused(name: str) -> None:
    lengths: dict[str, Any] = {"train": 5, "val": 2, "test": 2, name: "30m"}
    split = WalkForward(**lengths)
    with pytest.raises(ConfigError, match=rf"split\.{name} is '30m', less than a bar of 1h: it"):
        split.folds((0, 100 * HOUR), HOUR)
    assert split.folds((0, 100 * HOUR), 30 * MINUTE)


def test_a_walk_that_is_longer_than_the_candles_says_what_there_is() -> None:
    with pytest.raises(
        ConfigError,
        match=r"train 365d, val 30d and test 30d need more time than there is, "
        r"2020-01-01T00:00:00Z to 2020-06-01T00:00:00Z: shorten them",
    ):
        WalkForward().folds((parse_instant("2020-01-01"), parse_instant("2020-06-01")), HOUR)


# CombinatorialPurged


@st.composite
def combinatorials(draw: st.DrawFn) -> tuple[tuple[Span, int], CombinatorialPurged]:
    n_groups = draw(st.integers(2, 7))
    return draw(grids()), CombinatorialPurged(n_groups, draw(st.integers(1, n_groups - 1)))


def groups_of(bars: int, n_groups: int) -> list[list[int]]:
    """The bars of each group: that of bar i is the largest g with floor(g * bars / N) <= i."""
    edges = [g * bars // n_groups for g in range(n_groups + 1)]
    return [list(range(a, b)) for a, b in pairwise(edges)]


@law(combinatorials())
def test_each_fold_tests_one_choice_of_groups_and_trains_on_all_others(
    case: tuple[tuple[Span, int], CombinatorialPurged],
) -> None:
    grid, split = case
    bars = (grid[0][1] - grid[0][0]) // grid[1]
    if bars < split.n_groups:
        with pytest.raises(ConfigError, match=rf"n_groups {split.n_groups} is more than there are"):
            split.folds(*grid)
        return
    groups = groups_of(bars, split.n_groups)
    assert max(map(len, groups)) - min(map(len, groups)) <= 1
    folds = split.folds(*grid)
    chosen = list(combinations(range(split.n_groups), split.n_test_groups))
    assert len(folds) == len(chosen) == split.n_folds == comb(split.n_groups, split.n_test_groups)
    for tested, fold in zip(chosen, folds, strict=True):
        stages = stages_of(fold, grid)
        assert fold.val == ()
        assert [bars_in((span,), grid) for span in fold.test] == [groups[g] for g in tested]
        assert stages["train"] == sorted(set(range(bars)) - set(stages["test"]))
        assert all(a[1] < b[0] for a, b in pairwise(fold.train))
        edges = {end for _, end in fold.test}
        for span in fold.train:
            assert (span[0] in edges) == (span[0] > grid[0][0])


@pytest.mark.parametrize("n_groups", range(2, 10))
def test_each_path_forecasts_each_group_once_and_each_forecast_is_in_one_path(
    n_groups: int,
) -> None:
    for n_test_groups in range(1, n_groups):
        split = CombinatorialPurged(n_groups, n_test_groups)
        chosen = list(combinations(range(n_groups), n_test_groups))
        paths = split.paths()
        assert split.n_paths == comb(n_groups - 1, n_test_groups - 1)
        assert split.n_paths * n_groups == split.n_folds * n_test_groups
        assert paths.shape == (split.n_paths, n_groups)
        used = {(fold, group) for path in paths.tolist() for group, fold in enumerate(path)}
        assert used == {(fold, group) for fold, tests in enumerate(chosen) for group in tests}
        assert (np.diff(paths, axis=0) > 0).all()


@law(combinatorials(), st.integers(1, 4), st.integers(0, 1000), examples=40)
def test_stitching_takes_each_group_of_a_path_from_its_fold(
    case: tuple[tuple[Span, int], CombinatorialPurged], lead: int, seed: int
) -> None:
    grid, split = case
    (start, end), interval = grid
    bars = (end - start) // interval
    if bars < split.n_groups:
        return
    random = np.random.default_rng(seed)
    # Forecasts of some bars, of all groups, out of order: only those of the test groups count.
    frames = []
    for fold in range(split.n_folds):
        targets = random.permutation(np.flatnonzero(random.random(bars) < 0.7))
        origin_time = start + (targets - lead) * interval
        columns = {"origin_time": origin_time, "forecast": targets + 1000.0 * fold}
        frames.append(pl.DataFrame(columns | {"fold": np.full(len(targets), fold)}))
    groups = groups_of(bars, split.n_groups)
    histories = split.stitch(frames, grid[0], interval, lead)
    assert len(histories) == split.n_paths
    for path, history in zip(split.paths().tolist(), histories, strict=True):
        expected = []
        for fold, group in zip(path, groups, strict=True):
            forecast = {int(y) - 1000 * fold for y in frames[fold]["forecast"].to_list()}
            expected += [
                (start + (bar - lead) * interval, bar + 1000.0 * fold, fold)
                for bar in group
                if bar in forecast
            ]
        assert history.rows() == expected


def test_stitching_needs_the_forecasts_of_every_fold() -> None:
    frame = pl.DataFrame({"origin_time": [0]})
    with pytest.raises(ConfigError, match="needs the forecasts of all 6 folds, not 5"):
        CombinatorialPurged(4, 2).stitch([frame] * 5, (0, 8 * HOUR), HOUR)


@pytest.mark.parametrize(("n_groups", "n_test_groups"), [(6, 0), (6, 6), (1, 1), (0, 0), (4, -1)])
def test_groups_that_leave_nothing_to_train_or_test_are_refused(
    n_groups: int, n_test_groups: int
) -> None:
    with pytest.raises(
        ConfigError, match=rf"n_test_groups {n_test_groups} must be at least 1 and less than n_gr"
    ):
        CombinatorialPurged(n_groups, n_test_groups)


# Any split


@law(grids(), st.integers(-30, 30))
def test_the_chosen_fold_is_counted_from_either_end(grid: tuple[Span, int], fold: int) -> None:
    splits: list[Split] = [CombinatorialPurged(2, 1, fold), WalkForward(1, 0, 1, fold=fold)]
    for split in splits:
        folds = split.folds(*grid)
        if -len(folds) <= fold < len(folds):
            assert split.select_fold(*grid) == folds[fold]
        else:
            first, last = (format_instant(when) for when in grid[0])
            message = rf"split\.fold is {fold}: {first} to {last} has {len(folds)} folds, 0 to "
            with pytest.raises(ConfigError, match=message + str(len(folds) - 1)):
                split.select_fold(*grid)


@law(grids())
def test_a_fold_does_not_depend_on_where_the_grid_lies(grid: tuple[Span, int]) -> None:
    """A shift of all bars by whole bars shifts every boundary by as much."""
    (start, end), interval = grid
    splits = [FractionSplit(0.2, 0.2), CombinatorialPurged(2, 1), WalkForward(1, 0, 1)]
    for split in splits:
        here, there = split.folds((0, end - start), interval), split.folds((start, end), interval)
        for one, other in zip(here, there, strict=True):
            for stage in ("train", "val", "test"):
                moved = tuple((a + start, b + start) for a, b in getattr(one, stage))
                assert moved == getattr(other, stage)


def test_durations_read_as_they_are_written() -> None:
    for seconds in (1, 59, MINUTE, 90 * MINUTE, HOUR, 36 * HOUR, DAY, 365 * DAY):
        assert seconds_of(format_interval(seconds), HOUR) == seconds


def test_more_combinations_than_anyone_can_fit_are_refused_at_once() -> None:
    with pytest.raises(ConfigError, match=r"118,264,581,564,861,424 folds, more than 100,000"):
        CombinatorialPurged(60, 30)
