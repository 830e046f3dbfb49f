"""Instants as users give them: times of any library, and numbers that are epoch seconds or none."""

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from btc_datamodule.candles.timeline import (
    PLAUSIBLE,
    format_instant,
    parse_instant,
    to_plain_instant,
)
from btc_datamodule.errors import ConfigError

WHEN = 1_585_699_200  # 2020-04-01
SECONDS = st.integers(PLAUSIBLE[0], PLAUSIBLE[1] - 1)


@pytest.mark.parametrize(
    "when",
    [
        WHEN,
        np.int32(WHEN),
        np.uint64(WHEN),
        float(WHEN),
        np.float64(WHEN),
        str(WHEN),
        f"{WHEN}.0",
        "20200401",
        date(2020, 4, 1),
        datetime(2020, 4, 1, tzinfo=UTC),
        np.datetime64("2020-04-01"),
        np.datetime64("2020-04"),
        np.datetime64("2020-04-01T00:00:00", "ns"),
        pd.Timestamp("2020-04-01"),
        pd.Timestamp("2020-04-01T02:00", tz="Europe/Berlin"),
        pd.Series(pd.to_datetime(["2020-04-01"]))[0],
    ],
    ids=repr,
)
def test_a_time_of_any_library_is_taken(when: Any) -> None:
    assert parse_instant(when) == WHEN
    assert type(parse_instant(when)) is int
    plain = to_plain_instant(when)
    assert type(plain) in (int, str)
    assert parse_instant(plain) == WHEN
    assert to_plain_instant(plain) == plain


@pytest.mark.parametrize(("unit", "ticks"), [("milli", 10**3), ("micro", 10**6), ("nano", 10**9)])
@pytest.mark.parametrize("kind", [int, np.int64, float, str])
def test_a_number_of_smaller_units_is_refused_with_what_to_write(
    unit: str, ticks: int, kind: Any
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_instant(kind(WHEN * ticks), "end")
    assert str(caught.value) == (
        f"end {kind(WHEN * ticks)} looks like {unit}seconds, and whole numbers are epoch seconds: "
        'write 1585699200, or "2020-04-01"'
    )


@pytest.mark.parametrize(
    "when", [0, -1, 2020, 20200401, 10**11, 10**30, float("inf"), "1577", PLAUSIBLE[0] - 1]
)
def test_a_number_that_is_no_time_of_bitcoin_is_refused(when: Any) -> None:
    with pytest.raises(ConfigError, match=r"start .* no epoch second between 2009-01-01 and 2100"):
        parse_instant(when, "start")


@pytest.mark.parametrize(
    "when",
    [
        WHEN + 0.5,
        f"{WHEN}.5",
        np.datetime64(WHEN * 1000 + 1, "ms"),
        np.datetime64(WHEN * 10**9 + 1, "ns"),
        pd.Timestamp(WHEN * 10**9 + 1),
        "2020-04-01T00:00:00.000000001",
    ],
    ids=repr,
)
def test_a_part_of_a_second_is_refused_however_small(when: Any) -> None:
    with pytest.raises(ConfigError, match="is not on a whole second"):
        parse_instant(when)


@pytest.mark.parametrize(
    "when",
    [True, np.True_, None, [2020], pd.NaT, np.datetime64("NaT"), np.datetime64(10**12, "D"), "1e9"],
    ids=repr,
)
def test_what_is_no_time_names_the_argument(when: Any) -> None:
    with pytest.raises(ConfigError, match=r"^split.val .* write 2020-01-01"):
        parse_instant(when, "split.val")


def test_a_number_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="no epoch second"):
        parse_instant(float("nan"))


@given(SECONDS)
def test_whatever_form_an_instant_has_it_is_the_same(seconds: int) -> None:
    forms = (
        np.int64(seconds),
        float(seconds),
        np.datetime64(seconds, "s"),
        np.datetime64(seconds * 1000, "ms"),
        datetime.fromtimestamp(seconds, UTC),
        pd.Timestamp(seconds, unit="s"),
        format_instant(seconds),
    )
    assert {parse_instant(form) for form in forms} == {seconds}


@given(SECONDS, st.sampled_from([10**3, 10**6, 10**9]))
def test_no_number_in_smaller_units_passes(seconds: int, ticks: int) -> None:
    with pytest.raises(ConfigError, match=rf"write {seconds}, or"):
        parse_instant(seconds * ticks)
