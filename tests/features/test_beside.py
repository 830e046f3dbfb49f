"""What a series beside the candles may be called."""

import pytest

from btc_datamodule import ConfigError
from btc_datamodule.features.beside import check_series_name
from btc_datamodule.features.builtin import FEATURES, resolve
from tests.features.series import of_candles, of_records


@pytest.mark.parametrize("name", ["eth", "ETH", "h1", "open_interest", "match", "log", *FEATURES])
def test_a_series_can_be_called_anything_that_a_line_of_text_can_name(name: str) -> None:
    check_series_name(name)
    beside = {name: of_candles(name)}
    texts = [f"{name}.log_return", f"{name}.close", f"x = {name}.close.log() + age({name})"]
    assert [each.text for each in resolve(texts, beside, 3600)] == texts


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "begin its name with a letter and go on with letters, digits and underscores"),
        ("1h", "begin its name with a letter"),
        ("_eth", "begin its name with a letter"),
        ("open-interest", "begin its name with a letter"),
        ("a.b", "begin its name with a letter"),
        ("éth", "begin its name with a letter"),
        ("eth\n", "begin its name with a letter"),
        ("close", "a column of candles or records is called that: give it another name"),
        ("open_time", "a column of candles or records is called that"),
        ("taker_buy_volume", "a column of candles or records is called that"),
        ("known_at", "a column of candles or records is called that"),
        ("min", "a function of features is called that"),
        ("age", "a function of features is called that"),
        ("is", "a word of Python is called that"),
        ("None", "a word of Python is called that"),
        ("candles", "a line of what commands print is called that: give it another name"),
        ("features", "a line of what commands print is called that"),
        ("note", "a line of what commands print is called that"),
    ],
)
def test_a_name_that_means_something_else_is_refused(name: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_series_name(name)
    assert str(caught.value).startswith(f"covariate {name!r}: {problem}")


def test_instants_and_ages_are_no_values() -> None:
    assert of_records("x", None, "time", "rate", "known_at", "age").values == ("rate",)
