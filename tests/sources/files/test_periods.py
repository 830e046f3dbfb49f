"""Months, quarters and years: how statistics write them, when they begin and when they are over."""

import datetime as dt
from typing import Any

import polars as pl
import pytest

from btc_datamodule.sources.files.periods import find_periods

WRITTEN = {
    "months": (
        *("2019-10", "2019/10", "2019 10", "10/2019", "10-2019", "2019M10", "2019-M10", "2019m10"),
        *("Oct 2019", "October 2019", "OCT 2019", "Oct. 2019", "oct-2019", "2019 Oct", "2019-OCT"),
    ),
    "quarters": ("2019Q4", "2019-Q4", "2019 Q4", "2019q4", "Q4 2019", "Q4/2019", "q4-2019"),
}


@pytest.mark.parametrize(("kind", "text"), [(k, text) for k in WRITTEN for text in WRITTEN[k]])
def test_a_period_begins_with_its_first_day_and_is_over_on_the_next_one_s(
    kind: str, text: str
) -> None:
    found = find_periods(pl.Series([f" {text}", None, ""]), None)
    assert found is not None
    assert found.kind == kind
    assert found.first.to_list() == [dt.date(2019, 10, 1), None, None]
    over = dt.date(2019, 11, 1) if kind == "months" else dt.date(2020, 1, 1)
    assert found.after.to_list() == [over, None, None]


def test_months_of_one_digit_and_the_turn_of_the_year() -> None:
    found = find_periods(pl.Series(["2019-9", "2019-12"]), None)
    assert found is not None
    assert found.first.to_list() == [dt.date(2019, 9, 1), dt.date(2019, 12, 1)]
    assert found.after.to_list() == [dt.date(2019, 10, 1), dt.date(2020, 1, 1)]


@pytest.mark.parametrize(
    "cells",
    [
        ["2019-13"], ["2019-00"], ["2019Q5"], ["Summer 2019"], ["2019-10-01"], ["2019-10 08:00"],
        ["2019-10", "2019-10-02"], ["2019-10", "2019Q4"], ["2019"], ["201910"], ["2019.1"],
        ["2019-W10"], [""], [], [201910], [2019.5], [dt.date(2019, 10, 1)],
    ],
)  # fmt: skip
def test_whatever_else_stands_there_is_no_column_of_periods(cells: list[Any]) -> None:
    kind = pl.String if not cells else None
    assert find_periods(pl.Series(cells, dtype=kind), None) is None


@pytest.mark.parametrize(
    ("cells", "form", "kind", "over"),
    [
        (["2019-10"], "%Y-%m", "months", dt.date(2019, 11, 1)),
        (["Oct-19"], "%b-%y", "months", dt.date(2019, 11, 1)),
        ([201910], "%Y%m", "months", dt.date(2019, 11, 1)),
        ([2019], "%Y", "years", dt.date(2020, 1, 1)),
        ([2019.0], "%Y", "years", dt.date(2020, 1, 1)),
    ],
)
def test_a_way_to_write_times_without_a_day_is_one_of_periods(
    cells: list[Any], form: str, kind: str, over: dt.date
) -> None:
    found = find_periods(pl.Series(cells), form)
    assert found is not None
    assert (found.kind, found.after.to_list()) == (kind, [over])


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("2019-10-01", "%Y-%m-%d"),
        ("2019-10-1", "%Y-%m-%-d"),
        ("2019-300", "%Y-%j"),
        ("2019-10 08:00", "%Y-%m %H:%M"),
        ("2019-10", "%m/%Y"),
    ],
)
def test_one_with_a_day_or_that_does_not_fit_is_none(text: str, form: str) -> None:
    assert find_periods(pl.Series([text]), form) is None
