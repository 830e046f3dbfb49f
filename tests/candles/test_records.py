"""``RecordSet``s: what a record is, joined, merged, compared, and known by their digest."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btc_datamodule.candles.records import (
    RecordDigest,
    RecordSet,
    check_grid,
    concatenate,
    find_lacking,
    is_column_name,
    make_empty,
    merge,
)
from btc_datamodule.candles.timeline import Interval
from btc_datamodule.errors import RecordError
from tests.factories import HOUR, T0

Row = tuple[int, int, float]


def records_of(*rows: Row, name: str = "rate") -> RecordSet:
    """Records of (hour, hours until known, value), in any order."""
    rows = tuple(sorted(rows, key=lambda row: row[:2]))
    time = np.array([T0 + HOUR * row[0] for row in rows], dtype=np.int64)
    delay = np.array([HOUR * row[1] for row in rows], dtype=np.int64)
    values = np.array([row[2] for row in rows], dtype=np.float64)
    return RecordSet({"time": time, "known_at": time + delay, name: values})


def rows_of(records: RecordSet, name: str = "rate") -> list[Row]:
    hours = ((records.time - T0) // HOUR).tolist()
    delays = ((records.known_at - records.time) // HOUR).tolist()
    return list(zip(hours, delays, records[name].tolist(), strict=True))


def digest_of(*parts: RecordSet, interval: int = 0, values: tuple[str, ...] = ("rate",)) -> str:
    digest = RecordDigest(interval, values)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"known_at": [5, 5]}, r"row 1, 1970-01-01T00:00:05Z .*: times must not fall"),
        ({"known_at": [6, 5]}, "each record of one time must become known later"),
        ({"known_at": [4, 6]}, r"row 0, .* it would be known before the time that it is about"),
        ({"time": [6, 5], "known_at": [6, 6]}, r"row 1, .* times must not fall"),
        ({"rate": [0.0, np.inf]}, r"row 1, .* rate is infinite"),
        ({"rate": [0.0]}, "columns are not of one length"),
    ],
)
def test_what_is_no_record_is_refused(columns: dict[str, Any], problem: str) -> None:
    given: dict[str, Any] = {"time": [5, 5], "known_at": [5, 6], "rate": [0.0, 1.0]}
    with pytest.raises(RecordError, match=problem):
        RecordSet(given | columns)


@pytest.mark.parametrize(
    ("instants", "problem"),
    [
        (np.array([36_000.9]), r"row 0: known_at is 36000.9: give whole epoch seconds"),
        (np.array([np.nan]), r"row 0: known_at is nan: give whole epoch seconds"),
        (np.array([1e300]), r"row 0: known_at is 1e\+300: give whole"),
        (np.array(["2020-01-01"], dtype="M8[s]"), r"known_at is datetime64\[s\]: give whole"),
        (np.array(["2020"]), r"known_at is <U4: give whole"),
    ],
)
def test_instants_are_whole_seconds(instants: Any, problem: str) -> None:
    """Cut off, one would be known earlier than it was."""
    with pytest.raises(RecordError, match=problem):
        RecordSet({"time": np.array([0]), "known_at": instants, "value": np.ones(1)})
    floats = RecordSet({"time": np.array([7.0]), "known_at": np.array([9.0])})
    assert floats.time.dtype == np.int64
    assert floats.known_at.tolist() == [9]


def test_a_revision_is_another_record_of_the_same_time() -> None:
    records = records_of((0, 1, 1.0), (0, 5, 2.0), (1, 1, np.nan))
    assert rows_of(records.slice(T0, T0 + HOUR)) == [(0, 1, 1.0), (0, 5, 2.0)]
    assert records.span == (T0, T0 + HOUR + 1)
    assert np.isnan(records["other"]).all()


def test_records_of_an_interval_begin_on_its_grid_and_are_known_once_it_is_over() -> None:
    records = records_of((0, 4, 1.0), (4, 4, 2.0))
    check_grid(records, 4 * HOUR, "here")
    with pytest.raises(RecordError, match=r"here, row 1, 2020-01-01T04.* not on the grid of 8h"):
        check_grid(records, 8 * HOUR, "here")
    with pytest.raises(RecordError, match=r"row 0, .* not on the grid of 4h"):
        check_grid(records, Interval(4 * HOUR, HOUR), "here")
    with pytest.raises(RecordError, match=r"row 0, .* known before its 4h are over"):
        check_grid(records_of((0, 3, 1.0)), 4 * HOUR, "here")


@pytest.mark.parametrize("name", ["", ".", "a/b", " a", "a\n", "time", "known_at"])
def test_what_cannot_be_a_column_is_told(name: str) -> None:
    assert not is_column_name(name)
    assert is_column_name(f"x{name.strip().replace('/', '')}")


# --- joined ---------------------------------------------------------------------------------------


def test_sets_that_follow_each_other_become_one_with_the_columns_of_all() -> None:
    one, other = records_of((0, 1, 1.0)), records_of((1, 1, 2.0), name="other")
    both = concatenate([make_empty(()), one, other])
    assert both.values == ("rate", "other")
    np.testing.assert_array_equal(both["rate"], [1.0, np.nan])
    np.testing.assert_array_equal(both["other"], [np.nan, 2.0])
    with pytest.raises(RecordError, match="times must not fall"):
        concatenate([other, one])


def test_revisions_that_come_later_stand_beside_what_is_stored() -> None:
    stored, fetched = records_of((0, 1, 1.0), (2, 1, 3.0)), records_of((0, 9, 7.0), (1, 1, 2.0))
    merged, differing = merge(stored, fetched, refresh=False)
    assert rows_of(merged) == [(0, 1, 1.0), (0, 9, 7.0), (1, 1, 2.0), (2, 1, 3.0)]
    assert differing.tolist() == []


@pytest.mark.parametrize(("refresh", "kept"), [(False, 1.0), (True, 9.0)])
def test_of_two_values_of_one_record_the_stored_one_stays_unless_refreshed(
    refresh: bool, kept: float
) -> None:
    stored, fetched = records_of((0, 1, 1.0), (1, 1, 2.0)), records_of((0, 1, 9.0), (1, 1, 2.0))
    merged, differing = merge(stored, fetched, refresh)
    assert rows_of(merged) == [(0, 1, kept), (1, 1, 2.0)]
    assert differing.tolist() == [T0]


def test_what_one_does_not_know_is_taken_from_the_other_and_is_no_disagreement() -> None:
    stored = records_of((0, 1, np.nan), (1, 1, 2.0))
    fetched = records_of((0, 1, 1.0), (1, 1, np.nan))
    for refresh in (False, True):
        merged, differing = merge(stored, fetched, refresh)
        assert rows_of(merged) == [(0, 1, 1.0), (1, 1, 2.0)]
        assert differing.tolist() == []
    merged, _ = merge(stored, records_of((1, 1, 5.0), name="other"), refresh=False)
    np.testing.assert_array_equal(merged["other"], [np.nan, 5.0])


PAIRS = st.dictionaries(
    st.tuples(st.integers(0, 5), st.integers(0, 3)), st.sampled_from([1.0, 2.0, np.nan]), max_size=9
)


@settings(max_examples=200)
@given(PAIRS, PAIRS, st.booleans())
def test_a_merge_is_that_of_two_dicts_by_time_and_known_at(
    old: dict[tuple[int, int], float], new: dict[tuple[int, int], float], refresh: bool
) -> None:
    stored, fetched = (records_of(*((*k, v) for k, v in each.items())) for each in (old, new))
    first, second = (new, old) if refresh else (old, new)
    merged, differing = merge(stored, fetched, refresh)
    RecordSet(merged.columns)
    due = {
        pair: first[pair] if pair in first and not np.isnan(first[pair]) else second.get(pair)
        for pair in old.keys() | new.keys()
    }
    found = {row[:2]: row[2] for row in rows_of(merged)}
    np.testing.assert_equal(found, {pair: np.nan if v is None else v for pair, v in due.items()})
    both = old.keys() & new.keys()
    odd = [pair for pair in both if abs(old[pair] - new[pair]) > 0]
    assert differing.tolist() == [T0 + HOUR * pair[0] for pair in sorted(odd)]
    lacking = [T0 + HOUR * pair[0] for pair in sorted(old.keys() - new.keys())]
    assert find_lacking(stored, [fetched]).tolist() == lacking
    assert find_lacking(stored, [fetched, stored]).tolist() == []


# --- digest ---------------------------------------------------------------------------------------


def test_the_digest_is_that_of_the_content_alone() -> None:
    records = records_of((0, 1, 1.0), (0, 2, -0.0), (3, 1, np.nan))
    whole = digest_of(records)
    assert digest_of(records.slice(0, T0 + 1), records.slice(T0 + 1, 2**40)) == whole
    assert digest_of(records_of((0, 1, 1.0), (0, 2, 0.0), (3, 1, -np.nan))) == whole
    unknown = RecordSet({**records.columns, "other": np.full(3, np.nan)})
    assert digest_of(unknown, values=("other", "rate")) == whole


def test_whatever_changes_is_another_digest() -> None:
    records = records_of((0, 1, 1.0), (1, 1, 2.0))
    others = [
        digest_of(records, interval=HOUR),
        digest_of(records_of((0, 1, 1.0), (1, 2, 2.0))),
        digest_of(records_of((0, 1, 1.0), (2, 1, 2.0))),
        digest_of(records_of((0, 1, 1.0), (1, 1, 2.5))),
        digest_of(records_of((0, 1, 1.0))),
        digest_of(records_of((0, 1, 1.0), (1, 1, 2.0), name="other"), values=("other",)),
        digest_of(records),
    ]
    assert len(set(others)) == len(others)
