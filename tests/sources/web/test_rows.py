"""``read_rows``: finite numbers and whole seconds pass, and the first row that is else is named."""

from typing import Any

import numpy as np
import pytest

from btc_datamodule.errors import SourceError
from btc_datamodule.sources.web.rows import RowFormat, read_rows

PLAIN = RowFormat(("open_time", "open"), "a time and a price", "ask them")
LOOSE = RowFormat(
    ("open_time", "open"),
    "a time and a price",
    "ask them",
    ticks=1000,
    has_gaps=True,
    has_more=True,
)
NAN, INF = float("nan"), float("inf")


def test_rows_come_in_their_order_as_float64_with_times_in_seconds() -> None:
    plain = read_rows([[60, 2], [0, 1.5]], PLAIN, "here")
    assert plain.dtype == np.float64
    assert plain.tolist() == [[60.0, 2.0], [0.0, 1.5]]
    loose = read_rows([(60_000, None, "more"), [1_000, 1.5]], LOOSE, "here")
    np.testing.assert_array_equal(loose, [[60.0, NAN], [1.0, 1.5]])


@pytest.mark.parametrize("form", [PLAIN, LOOSE])
def test_no_rows_keep_the_width(form: RowFormat) -> None:
    assert read_rows([], form, "here").shape == (0, 2)


@pytest.mark.parametrize(
    "row",
    [[0], [0, 1, 2], [0, None], [0, True], [0, "1"], [0, NAN], [0, INF], [0, 10**400], [None, 1],
     [0.5, 1], [-60, 1], [9e15, 1], [NAN, 1], [True, 1], [[0], 1], {"0": 1}, "ab", None, 7],
)  # fmt: skip
def test_the_first_row_that_is_another_thing_is_named(row: Any) -> None:
    with pytest.raises(SourceError) as caught:
        read_rows([[0, 1], row, row], PLAIN, "here")
    assert str(caught.value) == (
        f"here, row 1: expected a time and a price, got {repr(row)[:80]}: run it again later; if "
        "it stays, ask them"
    )


@pytest.mark.parametrize("row", [[0], [1, 1], [60_500, 1], [None, 1], [0, True], [0, INF]])
def test_gaps_and_longer_rows_do_not_let_anything_else_pass(row: Any) -> None:
    with pytest.raises(SourceError, match=r"^here, row 0: expected a time and a price, got "):
        read_rows([row], LOOSE, "here")


@pytest.mark.parametrize("answer", [{"message": "no"}, None, "rows", 7])
def test_an_answer_that_is_no_list_is_quoted(answer: Any) -> None:
    with pytest.raises(SourceError) as caught:
        read_rows(answer, PLAIN, "here")
    assert str(caught.value) == (
        f"here: not a list of rows but {str(answer)!r}: run it again later; if it stays, ask them"
    )
