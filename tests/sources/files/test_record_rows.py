"""What stands in rows of records: cells without a value, and names that features can write."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from btc_datamodule import BTCDataModule, ConfigError, Records, Simulator, SourceError
from btc_datamodule.candles.timeline import parse_instant

EVER = (0, parse_instant("2030-01-01"))
T0 = parse_instant("2020-01-01")


def make(folder: Path, text: str, **fields: Any) -> Records:
    path = folder / "own.csv"
    path.write_text(text, encoding="utf-8")
    return Records(str(path), "time", **{"delay": "1h", **fields})


# --- no value -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [".", "..", ":", " . ", "", "NA", "null", "n/a", "-", "--", "NaN"])
@pytest.mark.parametrize("mark", [".", ","])
def test_what_statistics_write_for_no_value_is_none(tmp_path: Path, cell: str, mark: str) -> None:
    source = make(tmp_path, f"time;a\n{T0};1{mark}5\n{T0 + 60};{cell}\n{T0 + 120};-2\n")
    assert source.columns == ("a",)
    (block,) = source.blocks(EVER)
    np.testing.assert_array_equal(block.records["a"], [1.5, np.nan, -2.0])


def test_a_column_without_any_value_is_none_of_numbers(tmp_path: Path) -> None:
    text = f"time,a,b\n{T0},.,1\n{T0 + 60},.,2\n"
    assert make(tmp_path, text).columns == ("b",)


# --- names ----------------------------------------------------------------------------------------

WORDS = {
    "My Value (%)": "My_Value",
    "a/b": "a_b",
    "7d change": "_7d_change",
    "1. open": "open",
    "class": "class_",
    "plain_2": "plain_2",
}


@pytest.mark.parametrize("name", WORDS)
def test_a_column_is_called_by_a_word_that_features_can_write(tmp_path: Path, name: str) -> None:
    word = WORDS[name]
    text = f"time,{name},x\n{T0},1,y\n{T0 + 60},2,z\n"
    source = make(tmp_path, text)
    assert source.columns == (word,)
    (block,) = source.blocks(EVER)
    assert block.records[word].tolist() == [1.0, 2.0]
    assert make(tmp_path, text, columns=[word]).columns == (word,)
    BTCDataModule(
        Simulator(),
        covariates={"own": source},
        features=["log_return", f"own.{word}", f"change = own.{word}.diff()"],
        data_dir=str(tmp_path),
    )
    if word != name:
        with pytest.raises(
            ConfigError, match=rf"columns: values cannot be called .*: call it {word} in `columns`"
        ):
            make(tmp_path, text, columns=[name])


@pytest.mark.parametrize("name", ["価格", "%", "age", "known_at"])
def test_a_name_of_which_no_word_can_be_made_is_to_be_mended_in_the_file(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(ConfigError, match=r"values cannot be called .*: rename that column in the"):
        make(tmp_path, f"time,{name},b\n{T0},1,2\n", columns=[name])


def test_two_columns_of_one_word_are_not_told_apart(tmp_path: Path) -> None:
    text = f"time,a %,a $\n{T0},1,2\n"
    with pytest.raises(SourceError, match=r"own.csv: values cannot be called 'a %', .*rename"):
        make(tmp_path, text)
