"""Rows of the archive as records: each once, revisions kept, contradictions never settled."""

from collections.abc import Sequence

import numpy as np
import pytest

from btc_datamodule.candles.records import RecordSet
from btc_datamodule.errors import RecordError, SourceError
from btc_datamodule.sources.binance.tidying import Rows, leave_out, make_records

NONE: dict[str, np.ndarray] = {}


def rows_of(*rows: tuple[int, int, float], apart: tuple[str, ...] = ()) -> Rows:
    """Rows of time, known_at and a value; ``other`` numbers them."""
    time, known_at, value = (np.array(column) for column in zip(*rows, strict=True))
    columns = {"time": time, "known_at": known_at, "value": value.astype(float)}
    if apart:
        columns["other"] = np.arange(len(rows), dtype=float)
    return Rows(columns, 1 + np.arange(len(rows)), "a.zip", apart)


def plain(records: RecordSet) -> list[tuple[int, int, float]]:
    columns: Sequence[list[float]] = [column.tolist() for column in records.columns.values()]
    return [(int(time), int(known), value) for time, known, value in zip(*columns, strict=True)]


def test_what_became_known_later_stays_as_a_revision_and_what_was_known_does_not() -> None:
    rows = rows_of((60, 70, 2), (60, 60, 1), (60, 90, 1), (60, 80, 2), (0, 0, 5))
    records, notes = make_records(rows, NONE, drop_invalid=False)
    assert plain(records) == [(0, 0, 5), (60, 60, 1), (60, 70, 2), (60, 90, 1)]
    assert notes == ("a.zip: 1 rows repeat another one and were left out",)


def test_values_that_are_not_known_are_the_same() -> None:
    rows = rows_of((0, 0, np.nan), (0, 0, np.nan), (60, 60, np.nan))
    records, notes = make_records(rows, NONE, drop_invalid=False)
    assert records.time.tolist() == [0, 60]
    assert len(notes) == 1


def test_of_contradictory_rows_none_stays_however_often_one_stands_there() -> None:
    rows = rows_of((0, 0, 1), (60, 60, 1), (60, 60, 2), (60, 60, 1), (60, 90, 3))
    with pytest.raises(RecordError, match=r"^a.zip, row 2 \(1970-01-01T00:01:00Z\): another row"):
        make_records(rows, NONE, drop_invalid=False)
    records, notes = make_records(rows, NONE, drop_invalid=True)
    assert plain(records) == [(0, 0, 1), (60, 90, 3)]
    assert len(notes) == 1
    assert notes[0].startswith("3 rows that are no records were left out, such as a.zip, row 2 (")


def test_columns_that_stand_apart_make_no_contradiction() -> None:
    rows = rows_of((0, 0, 1), (0, 0, 1), apart=("other",))
    records, _ = make_records(rows, NONE, drop_invalid=False)
    assert records["other"].tolist() == [0.0]


def test_rows_that_fail_are_named_or_left_out_unless_none_would_be_left() -> None:
    rows = rows_of((0, 0, 1), (60, 60, 2), (120, 120, 3))
    faults = {"odd": np.array([False, True, False]), "ugly": np.array([True, True, False])}
    with pytest.raises(RecordError, match=r"^a.zip, row 2 \(.*\): odd$"):
        make_records(rows, faults, drop_invalid=False)
    records, notes = make_records(rows, faults, drop_invalid=True)
    assert plain(records) == [(120, 120, 3)]
    assert notes == (
        "2 rows that are no records were left out, such as a.zip, row 2 (1970-01-01T00:01:00Z): "
        "odd",
    )
    with pytest.raises(RecordError, match="worst"):
        make_records(rows, {"worst": np.ones(3, dtype=bool)}, drop_invalid=True)


def test_a_file_of_which_no_row_is_its_own_is_another_file() -> None:
    rows = rows_of((0, 0, 1), (60, 60, 2))
    odd = {"are early": np.array([True, False]), "are late": np.array([False, True])}
    with pytest.raises(
        SourceError,
        match=r"^u: 1 of 2 rows are early, the first at 1970-01-01T00:00:00Z; 1 of 2 rows are late,"
        r" the first at 1970-01-01T00:01:00Z: is it another file\?",
    ):
        leave_out(rows, odd, "u")
    left, notes = leave_out(rows, {"are early": odd["are early"]}, "u")
    assert left.numbers.tolist() == [2]
    assert notes == ("a.zip: 1 of 2 rows are early, the first at 1970-01-01T00:00:00Z: left out",)
