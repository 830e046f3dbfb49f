"""Numbers as people write them: which mark parts decimals, and what stands around the digits."""

from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from btc_datamodule.sources.files.numbers import read_number_columns


def read(*columns: list[Any], separator: str = ",") -> list[list[float | None]]:
    """The values of columns of one file, together; no text in them may be bad."""
    series = [pl.Series(values) for values in columns]
    read = read_number_columns(series, separator)
    assert not any(column.bad.any() for column in read)
    return [column.values.to_list() for column in read]


def test_what_stands_for_no_number_beside_the_usual_is_said() -> None:
    cells = pl.Series([".", "1.5", "-"])
    (usual,) = read_number_columns([cells])
    (said,) = read_number_columns([cells], blanks=(".",))
    assert usual.bad.to_list() == [True, False, False]
    assert (said.bad.any(), said.values.to_list()) == (False, [None, 1.5, None])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("84349.95", 84349.95), ("84,349.95", 84349.95), ("1,234,567.5", 1234567.5),
        ("$84,349.95", 84349.95), ("€ 84,349.95", 84349.95), ("₿0.5", 0.5),
        ("84 349.95", 84349.95), ("84'349.95", 84349.95), ("84\u2019349.95", 84349.95),
        ("84\u00a0349.95", 84349.95), ("84\u202f349.95", 84349.95), ("84_349.95", 84349.95),
        ("95.91K", 95910), ("1.5M", 1.5e6), ("2.25b", 2.25e9), ("0.12T", 1.2e11),
        ("121.63K", 121630), ("164.31K", 164310), ("3.51E+11", 3.51e11), ("1e-8", 1e-8),
        ("-1.5", -1.5), ("+1.5", 1.5), (".5", 0.5), ("12,345", 12345), (" 7 ", 7),
    ],
)  # fmt: skip
def test_a_number_is_read_as_it_is_written(text: str, value: float) -> None:
    assert read([text, "1,000.25"]) == [[value, 1000.25]]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("84349,95", 84349.95), ("84.349,95", 84349.95), ("1.234.567,5", 1234567.5),
        ("84 349,95", 84349.95), ("95,91K", 95910), ("0,00236048", 0.00236048), ("12.345", 12345),
        ("1,5E+3", 1500), ("259", 259),
    ],
)  # fmt: skip
def test_with_decimal_commas_points_part_groups(text: str, value: float) -> None:
    assert read([text, "1.000,25"]) == [[value, 1000.25]]
    assert read([text, "1.000,25"], separator=";") == [[value, 1000.25]]


def test_what_one_column_says_of_the_marks_holds_for_all() -> None:
    assert read(["28,935"], ["1,234.5"]) == [[28935], [1234.5]]
    assert read(["28.935"], ["1.234,5"]) == [[28935], [1234.5]]
    assert read(["28,935"], ["0.5"]) == [[28935], [0.5]]
    assert read(["28,935"], [0.5]) == [[28935], [0.5]]


@pytest.mark.parametrize(
    ("one", "two"), [("1.234,5", "1,234.5"), ("1234,56", "1234.5"), ("84,35", "84.35")]
)
def test_marks_that_contradict_each_other_are_quoted(one: str, two: str) -> None:
    with pytest.raises(ValueError, match="are written in different ways") as caught:
        read([one], [two])
    assert repr(one) in str(caught.value)
    assert repr(two) in str(caught.value)


@pytest.mark.parametrize("nothing", ["", " ", "nan", "NaN", "-", "--", None])
def test_nothing_is_null_and_not_bad(nothing: str | None) -> None:
    assert read(["1.5", nothing]) == [[1.5, None]]
    assert read(["1,234.5", nothing]) == [[1234.5, None]]


@pytest.mark.parametrize("nothing", ["N/A", "null", "NULL", "None", "NA", "#N/A"])
def test_words_for_nothing_are_null_beside_grouped_numbers_too(nothing: str) -> None:
    assert read(["1,234.5", nothing]) == [[1234.5, None]]


@pytest.mark.parametrize("text", ["abc", "12,34,5", "70,84,349.95", "K", "0x10"])
def test_a_text_that_is_no_number_is_bad_and_the_others_are_not(text: str) -> None:
    (column,) = read_number_columns([pl.Series(["1,234.5", text])], ",")
    assert column.bad.to_list() == [False, True]
    assert column.text.to_list() == ["1,234.5", text]


def test_columns_of_numbers_pass_as_they_are_and_nan_is_null() -> None:
    assert read([1, 2], [0.1, float("nan")], [None, None]) == [[1, 2], [0.1, None], [None, None]]


def test_a_column_of_another_kind_is_bad_wherever_it_holds_something() -> None:
    (column,) = read_number_columns([pl.Series([True, None])])
    assert column.bad.to_list() == [True, False]


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("prices", [["84.350", "86.558"], ["84,350", "86,558"]])
def test_thousands_that_may_be_decimals_are_never_read_in_silence(
    separator: str, prices: list[str]
) -> None:
    """84.350 in a German sheet is 84350, 84,350 in an American one too: 1000 times what it says."""
    try:
        values = read(prices, separator=separator)
    except ValueError:
        return  # an error that asks is as good
    assert values == [[84350, 86558]]


@given(
    st.lists(st.integers(0, 10**11), min_size=1),
    st.sampled_from([(",", "."), (".", ","), (" ", ","), ("'", "."), ("\u202f", ",")]),
)
def test_hundredths_survive_every_way_of_writing_them(
    hundredths: list[int], marks: tuple[str, str]
) -> None:
    group, decimal = marks
    texts = [
        f"{n // 100:,}.{n % 100:02d}".translate({ord(","): group, ord("."): decimal})
        for n in hundredths
    ]
    assert read(texts) == [[float(f"{n // 100}.{n % 100:02d}") for n in hundredths]]
