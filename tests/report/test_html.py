"""Markup is made of text by escaping it, and only markup is markup."""

import base64
import json

import numpy as np
import pytest

from btc_datamodule.report.html import (
    Html,
    dump_json,
    element,
    escape_text,
    join,
    pack,
    prose,
    table,
)

HOSTILE = """</script><script>alert('1')</script>&"<b>\x1b[31m\u202eno"""


def test_text_is_escaped_and_markup_is_not_escaped_again() -> None:
    inner = element("b", "a < b")
    assert inner == "<b>a &lt; b</b>"
    assert element("p", inner, " & ", 3, None, [Html("<i></i>"), "x"]) == (
        "<p><b>a &lt; b</b> &amp; 3<i></i>x</p>"
    )


def test_attributes_are_escaped_too() -> None:
    made = element("a", "x", href='"><script>', class_="c", data_at=1, hidden=True, title=None)
    assert made == '<a href="&quot;&gt;&lt;script&gt;" class="c" data-at="1" hidden>x</a>'
    assert element("p", open=False, name="n") == '<p name="n"></p>'


def test_what_steers_a_terminal_or_turns_letters_is_written_out() -> None:
    told = escape_text(HOSTILE)
    assert "<" not in told
    assert "\\x1b[31m\\u202e" in told
    assert escape_text("a\nb") == "a\nb"


def test_elements_without_content_have_no_end() -> None:
    assert element("path", d="M0 0") == '<path d="M0 0"/>'


def test_code_stands_between_backticks_and_is_escaped() -> None:
    assert prose("set `a < b` to `1`") == "set <code>a &lt; b</code> to <code>1</code>"


def test_a_table_has_a_heading_for_each_row_and_column() -> None:
    made = table(["", "n"], [["<a>", "1"]], class_="c", caption="all")
    assert '<th scope="col">n</th>' in made
    assert '<th scope="row">&lt;a&gt;</th><td>1</td>' in made
    assert "<caption>all</caption>" in made


def test_nothing_in_json_ends_a_script() -> None:
    dumped = dump_json({"name": HOSTILE, "n": [1, 2.5, None]})
    assert "<" not in dumped
    assert ">" not in dumped
    assert "&" not in dumped
    assert json.loads(dumped) == {"name": HOSTILE, "n": [1, 2.5, None]}


@pytest.mark.parametrize("dtype", ["<u2", "<i8", "<f4"])
def test_numbers_are_packed_little_endian(dtype: str) -> None:
    numbers = np.array([0, 1, 513])
    unpacked = np.frombuffer(base64.b64decode(pack(numbers, dtype)), dtype)
    assert unpacked.tolist() == [0, 1, 513]


def test_children_are_joined() -> None:
    assert join(None) == ""
    assert join(["<", [Html("<"), 5]]) == "&lt;<5"
