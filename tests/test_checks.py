"""Numbers and times as users have them: numpy's and pandas' are taken, and kept as plain values."""

from datetime import date
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from jsonargparse import ArgumentParser

from btc_datamodule import (
    BTCDataModule,
    CombinatorialPurged,
    ConfigError,
    DateSplit,
    Feature,
    FractionSplit,
    Simulator,
    TripleBarrier,
    WalkForward,
)
from btc_datamodule.plain import describe, to_plain
from tests.factories import make_datamodule

WHEN = 1_577_836_800  # 2020-01-01
WHOLE = (
    "lookback",
    "horizon",
    "gap",
    "purge",
    "embargo",
    "batch_size",
    "stride",
    "eval_stride",
    "seed",
    "max_fill",
    "num_workers",
)


def is_plain(value: Any) -> bool:
    """Whether a checkpoint can hold a value under ``weights_only=True``."""
    if isinstance(value, dict):
        return all(map(is_plain, value.values()))
    if isinstance(value, list):
        return all(map(is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def test_numbers_of_numpy_are_those_of_python() -> None:
    given: dict[str, Any] = dict.fromkeys(WHOLE, 3) | {"min_observed": 0.5, "refresh": False}
    odd: dict[str, Any] = {name: np.int64(3) for name in WHOLE}
    odd |= {"min_observed": np.float32(0.5), "refresh": np.False_}
    dm, plain = BTCDataModule(**odd), BTCDataModule(**given)
    assert dm.settings == plain.settings
    for name in WHOLE:
        assert (type(getattr(dm, name)), getattr(dm, name)) == (int, 3)
    assert is_plain(dict(dm.hparams))
    assert dict(dm.hparams) == dict(plain.hparams)


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("value", [True, 1.5, "3", np.float64(3.0)])
def test_what_is_no_whole_number_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{name} is .*: it must be a whole number"):
        BTCDataModule(**{name: value})


int64: Any = np.int64  # to a type checker it is no int
small: Any = np.uint8


@pytest.mark.parametrize(
    ("odd", "plain"),
    [
        (
            WalkForward(int64(40), int64(5), small(5), fold=int64(1)),
            WalkForward(40, 5, 5, fold=1),
        ),
        (CombinatorialPurged(int64(5), int64(2), small(1)), CombinatorialPurged(5, 2, 1)),
        (FractionSplit(np.float64(0.2), np.float64(0.2)), FractionSplit(0.2, 0.2)),
        (TripleBarrier(volatility_bars=int64(7)), TripleBarrier(volatility_bars=7)),
        (Simulator(seed=small(3)), Simulator(seed=3)),
        (DateSplit(int64(WHEN), float(WHEN + 1)), DateSplit(WHEN, WHEN + 1)),
        (DateSplit(date(2020, 1, 1), date(2020, 1, 2)), DateSplit("2020-01-01", "2020-01-02")),
        (
            DateSplit(np.datetime64("2020-01-01"), pd.Timestamp("2020-01-02")),
            DateSplit("2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z"),
        ),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_objects_hold_plain_values(odd: Any, plain: Any) -> None:
    assert odd == plain
    assert describe(odd) == describe(plain)
    assert is_plain(to_plain(odd))
    assert to_plain(odd) == to_plain(plain)


def test_a_lookback_of_numpy_is_one_of_a_feature() -> None:
    feature = Feature("f", int64(3), lambda bars: bars["close"])
    assert (type(feature.lookback), feature.lookback) == (int, 3)


def test_a_fold_is_chosen_by_any_whole_number() -> None:
    split = WalkForward().with_fold(int64(2))
    assert (type(split.fold), split.fold) == (int, 2)
    with pytest.raises(ConfigError, match=r"fold is 1\.5: it must be a whole number"):
        split.with_fold(cast("Any", 1.5))


TIMES = {
    "text": "2020-01-01",
    "number": WHEN,
    "numpy number": int64(WHEN),
    "float": float(WHEN),
    "date": date(2020, 1, 1),
    "numpy time": np.datetime64("2020-01-01"),
    "pandas": pd.Timestamp("2020-01-01"),
}


@pytest.mark.parametrize("when", TIMES.values(), ids=TIMES)
def test_times_are_taken_as_they_come_and_kept_plain(when: Any, tmp_path: Path) -> None:
    dm = BTCDataModule(start=when, data_dir=tmp_path)
    assert (type(dm.settings.start), dm.settings.start) == (int, WHEN)
    kept = dict(dm.hparams)
    assert is_plain(kept)
    assert kept["data_dir"] == str(tmp_path)
    again = BTCDataModule(start=kept["start"], data_dir=kept["data_dir"])
    assert again.settings == dm.settings


@pytest.mark.parametrize("name", ["start", "end"])
def test_milliseconds_are_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match=rf'{name} \d+ looks .* write {WHEN}, or "2020-01-01"'):
        BTCDataModule(**cast("Any", {name: WHEN * 1000}))
    with pytest.raises(ConfigError, match=r"split\.test \d+ looks like milliseconds"):
        DateSplit("2019-01-01", WHEN * 1000)


@pytest.mark.parametrize("text", ["2020-01-01", "'2020-01-01'", str(WHEN), f"{WHEN}.0", "20200101"])
@pytest.mark.parametrize("way", ["yaml", "command line"])
def test_yaml_and_the_command_line_give_times_in_any_form(text: str, way: str) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--data", type=BTCDataModule)
    if way == "yaml":
        if text == "20200101":
            pytest.skip("YAML reads it as a number")
        config = parser.parse_string(
            "data:\n  class_path: btc_datamodule.BTCDataModule\n  init_args:\n"
            f"    start: {text}\n    data_dir: here\n    split:\n"
            f"      class_path: btc_datamodule.DateSplit\n"
            f"      init_args: {{val: {text}, test: 2021-01-01}}\n"
        )
    else:
        asked = ["--data", "btc_datamodule.BTCDataModule", "--data.start", text.strip("'")]
        config = parser.parse_args(
            [
                *asked,
                "--data.split",
                "DateSplit",
                "--data.split.val",
                text.strip("'"),
                "--data.split.test",
                "2021-01-01",
            ]
        )
    dm = parser.instantiate(config).data
    assert dm.settings.start == WHEN
    assert dm.split.folds((WHEN - 86400, WHEN + 400 * 86400), 86400)[0].val[0][0] == WHEN


def test_a_checkpoint_of_0_1_with_dates_in_its_split_goes_on(tmp_path: Path) -> None:
    split = DateSplit(date(2021, 3, 15), "2021-03-22")
    dm = make_datamodule(tmp_path, split=split, lookback=4)
    state = dm.state_dict()
    state["settings"] = {
        **state["settings"],
        "split": "DateSplit(val=datetime.date(2021, 3, 15), test='2021-03-22', end=None)",
    }
    make_datamodule(tmp_path, split=split, lookback=4).load_state_dict(state)
    state["settings"]["split"] = state["settings"]["split"].replace("15", "16")
    with pytest.raises(ConfigError, match="split was"):
        make_datamodule(tmp_path, split=split, lookback=4).load_state_dict(state)


@pytest.mark.parametrize(
    "argument", ["lookback", "horizon", "gap", "embargo", "batch_size", "seed", "max_fill"]
)
def test_a_number_beyond_all_counting_is_named(argument: str) -> None:
    arguments: dict[str, Any] = {argument: 10**30}
    with pytest.raises(ConfigError, match=rf"{argument} is 10+: .*whole number of at most [\d,]+$"):
        BTCDataModule(**arguments)


def test_a_folder_whose_name_no_file_system_takes_is_named() -> None:
    with pytest.raises(ConfigError, match=r"data_dir is 'a\\x00b': name a folder"):
        BTCDataModule(data_dir="a\0b")
