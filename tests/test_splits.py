"""Splits are pure functions from spans to folds."""

import doctest

import pytest

import btc_datamodule.splits
from btc_datamodule import ConfigError, DateSplit, FractionSplit
from btc_datamodule.timeline import parse_instant

HOUR = 3600
DAY = 24 * HOUR


def test_the_examples_of_the_module_hold() -> None:
    result = doctest.testmod(btc_datamodule.splits)
    assert (result.attempted > 0, result.failed) == (True, 0)


def test_fractions_are_shares_of_time_and_the_stages_tile_the_span() -> None:
    (fold,) = FractionSplit(val=0.25, test=0.125).folds((0, 80 * HOUR), HOUR)
    assert fold.train == ((0, 50 * HOUR),)
    assert fold.val == ((50 * HOUR, 70 * HOUR),)
    assert fold.test == ((70 * HOUR, 80 * HOUR),)


def test_boundaries_are_rounded_up_to_the_grid() -> None:
    (fold,) = FractionSplit(val=0.3, test=0.3).folds((0, 7 * HOUR), HOUR)
    assert fold.val == ((3 * HOUR, 5 * HOUR),)  # 2.8 h and 4.9 h
    (fold,) = DateSplit("1970-01-02T00:30", "1970-01-03").folds((0, 4 * DAY), HOUR)
    assert fold.val == ((DAY + HOUR, 2 * DAY),)


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


@pytest.mark.parametrize(("val", "test"), [(0, 0.1), (0.1, 0), (0.5, 0.5), (-0.1, 0.1), (2, 0.1)])
def test_fractions_that_leave_no_room_are_refused(val: float, test: float) -> None:
    with pytest.raises(ConfigError, match="leave room for train"):
        FractionSplit(val, test)


def test_dates_out_of_order_or_outside_the_candles_are_refused() -> None:
    with pytest.raises(ConfigError, match="must follow each other"):
        DateSplit(val="2020-02-01", test="2020-01-01")
    with pytest.raises(ConfigError, match=r"inside the candles, 1970-01-01T00:00:00Z to 1970"):
        DateSplit(val="2020-01-01", test="2020-02-01").folds((0, DAY), HOUR)
    with pytest.raises(ConfigError, match=r"split.val 'soon' is not an ISO 8601 time"):
        DateSplit(val="soon", test="2020-02-01")
