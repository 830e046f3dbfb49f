"""What came from outside is shown escaped."""

import pickle
import traceback
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btc_datamodule import errors
from btc_datamodule.escaping import escape, escape_chain, escape_lines, shorten

HOSTILE = {
    "\x1b[31m": r"\x1b[31m",
    "\x07": r"\x07",
    "a\r\nb": r"a\r\nb",
    "\b\b\t\0\x7f": r"\x08\x08\t\x00\x7f",
    "\x9b2J\x85": r"\x9b2J\x85",
    "\u202egpj.exe\u2066\u2069": r"\u202egpj.exe\u2066\u2069",
    "\u200b\u200d\ufeff\u00ad": r"\u200b\u200d\ufeff\xad",
    "\u2028\u2029": r"\u2028\u2029",
    "\udc80": r"\udc80",
    "\U000e0041": r"\U000e0041",
}


@pytest.mark.parametrize(("text", "shown"), HOSTILE.items(), ids=HOSTILE.values())
def test_letters_that_steer_hide_or_turn_are_written_as_repr_writes_them(
    text: str, shown: str
) -> None:
    assert escape(f"<{text}>") == f"<{shown}>"
    assert shown == repr(text)[1:-1]


@pytest.mark.parametrize("text", ["", "plain", r"C:\new\x1b", "Zürich, 東京, ₿ 1.5 %", "é́ 🙂"])
def test_other_letters_of_any_script_stay(text: str) -> None:
    assert escape(text) is text


@given(st.text(st.characters()))
def test_nothing_that_is_not_shown_is_left_and_escaping_twice_changes_nothing(text: str) -> None:
    shown = escape(text)
    assert shown.isprintable()
    assert not any(unicodedata.category(each) in ("Cc", "Cf", "Cs", "Zl", "Zp") for each in shown)
    assert escape(shown) == shown
    assert escape_lines(text).split("\n") == [escape(line) for line in text.split("\n")]


def test_one_short_line_is_made_of_a_long_text() -> None:
    assert shorten(" two\r\n\tlines \x1b ") == r"two lines \x1b"
    assert shorten("x" * 10**7, 10) == f"{'x' * 10}..."


@pytest.mark.parametrize("name", [name for name in vars(errors) if name.endswith("Error")])
def test_every_error_of_ours_is_one_line_of_what_can_be_shown(name: str) -> None:
    error = getattr(errors, name)("the file a\x1b[2J\nbtc-datamodule: error: all is lost\u202e")
    assert str(error) == r"the file a\x1b[2J\nbtc-datamodule: error: all is lost\u202e"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert error.args == (str(error),)


def make_chain() -> RuntimeError:
    """An error with another behind it, and one more behind that."""
    first, second, last = ValueError("\x1b[31m", 7), KeyError("two\nlines"), RuntimeError("\x9b")
    second.__cause__, last.__context__ = first, second
    first.__cause__ = last  # a circle
    return last


def test_a_traceback_shows_no_word_of_the_errors_behind_raw() -> None:
    error = make_chain()
    escape_chain(error)
    shown = "".join(traceback.format_exception(error))
    assert escape_lines(shown) == shown
    assert shown.count(r"\x1b[31m") == shown.count(r"\x9b") == 1
    assert error.__context__ is not None
    assert error.__context__.args == ("two\nlines",)
