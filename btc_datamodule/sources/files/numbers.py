"""Numbers as people and programs write them: 28,935.9 and 28.935,9, 95.91K, $84 349.

Which mark parts decimals is told by all columns of a file together: a text that could be read
either way is read as the others are.
"""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import polars as pl

_SUFFIXES = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
_EUROPEAN = (";", "\t", "|")
"""Separators of files whose numbers may have commas."""

_NOTHING = ["", "nan", "-", "--", "<na>", "n/a", "#n/a", "na", "null", "none"]


class NumberColumn(NamedTuple):
    """A column read as numbers.

    Attributes:
        values: Float64, null where there is none.
        bad: Boolean, where a text is no number.
        text: the column as it stands.
    """

    values: "pl.Series"
    bad: "pl.Series"
    text: "pl.Series"


def read_number_columns(
    columns: "list[pl.Series]",
    separator: str = "",
    decimal: str | None = None,
    blanks: tuple[str, ...] = (),
) -> list[NumberColumn]:
    """Read columns of numbers, or of texts that are numbers.

    Args:
        columns: of one file, together.
        separator: of the fields in the text that they come from; "" for none.
        decimal: what parts decimals, a point or a comma; None to go by what stands there.
        blanks: texts that stand for no number, beside the usual ones.

    Raises:
        ValueError: saying why it cannot be told what parts decimals.
    """
    import polars as pl

    texts: dict[int, pl.Series] = {}
    read: dict[int, NumberColumn] = {}
    told: list[pl.Series] = []
    for i, column in enumerate(columns):
        if column.dtype == pl.String:
            text = column.str.strip_chars()
            texts[i] = text.set(text.str.to_lowercase().is_in([*_NOTHING, *blanks]), None)
            plain = texts[i].cast(pl.Float64, strict=False)
            read[i] = NumberColumn(plain, plain.is_null() & texts[i].is_not_null(), column)
        elif column.dtype.is_numeric() or column.dtype == pl.Null:
            values = column.cast(pl.Float64).fill_nan(None)
            read[i] = NumberColumn(values, values.is_null() & False, column)
            told.append(values.head(1000).cast(pl.String).str.strip_suffix(".0"))
        else:
            nothing = pl.Series([None] * len(column), dtype=pl.Float64)
            read[i] = NumberColumn(nothing, column.is_not_null(), column)
    doubtful = decimal == "," or separator in _EUROPEAN
    if any(read[i].bad.any() for i in texts) or (doubtful and texts):
        mark = decimal or _find_decimal_mark([*texts.values(), *told], separator)
        for i, text in texts.items():
            if read[i].bad.any() or (mark == "," and text.str.contains(r"[.,]").any()):
                read[i] = _read_spelled(text, mark)
    return [read[i] for i in range(len(columns))]


def _strip_signs(text: "pl.Series") -> "pl.Series":
    """Texts without what stands around a number or between its groups beside points and commas."""
    return text.str.replace_all(r"[\s\u00a0\u202f'\u2019_$€£¥₿]", "")


def _find_decimal_mark(columns: "list[pl.Series]", separator: str) -> str:
    """Whether a comma or a point parts decimals."""
    import polars as pl

    text = _strip_signs(pl.concat(columns)).drop_nulls().unique(maintain_order=True)
    number = text.str.replace(r"(?i)(?:[kmbt%]|e[+-]?\d+)$", "")
    points, commas = number.str.count_matches(r"\."), number.str.count_matches(r",")
    groups = number.str.contains(r"^[+-]?\d{1,3}[.,]\d{3}$")
    comma = _first(
        text,
        number.str.contains(r"\..*,") | (points > 1) | ((commas == 1) & (points == 0) & ~groups),
    )
    point = _first(
        text,
        number.str.contains(r",.*\.") | (commas > 1) | ((points == 1) & (commas == 0) & ~groups),
    )
    if comma and point:
        raise ValueError(
            f"{comma!r} and {point!r} are written in different ways: write all numbers in one"
        )
    if comma or point:
        return "," if comma else "."
    # What is left are groups of three digits, or decimals of three.
    doubt = _first(text, commas > 0) or _first(text, points > 0)
    usual = separator not in _EUROPEAN if "." in doubt else separator == ","
    if doubt and (not usual or (_first(text, commas > 0) and _first(text, points > 0))):
        raise ValueError(
            f"whether {doubt!r} has decimals or thousands cannot be told: set `decimal` to "
            '"," or "."'
        )
    return "."


def _first(text: "pl.Series", found: "pl.Series") -> str:
    """The first text that was found; "" if none was."""
    place = found.arg_max() if found.any() else None
    return "" if place is None else str(text[place])


def _read_spelled(column: "pl.Series", mark: str) -> NumberColumn:
    """Read numbers with groups of digits and suffixes, decimals parted by ``mark``."""
    import polars as pl

    group = "," if mark == "." else "."
    text = _strip_signs(column)
    suffix = text.str.extract(r"(?i)\d([kmbt])$").str.to_lowercase()
    number = text.str.replace(r"(?i)(\d)[kmbt]$", "${1}")
    grouped = number.str.contains(rf"^[+-]?\d{{1,3}}(?:\{group}\d{{3}})+(?:\{mark}\d*)?$")
    number = number.zip_with(
        ~grouped.fill_null(False), number.str.replace_all(group, "", literal=True)
    )
    plain = number.str.replace_all(mark, ".", literal=True) if mark == "," else number
    values = plain.cast(pl.Float64, strict=False)
    factor = suffix.replace_strict(
        list(_SUFFIXES), list(_SUFFIXES.values()), default=1.0, return_dtype=pl.Float64
    )
    # 121.63 thousand are 121630, which no product of binary fractions is for certain.
    scaled = values.zip_with(factor == 1.0, (values * factor).round_sig_figs(15))
    return NumberColumn(scaled, scaled.is_null() & column.is_not_null(), column)
