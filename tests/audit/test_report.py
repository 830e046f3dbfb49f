"""What the audit leaves, what it says, and how it is called."""

import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from btc_datamodule import CandleFile, Simulator
from btc_datamodule.audit import blindness
from btc_datamodule.audit.compare import compare, list_arrays
from btc_datamodule.audit.others import vary_candles
from btc_datamodule.cli.commands import main
from btc_datamodule.errors import BTCDataError
from btc_datamodule.features.varying import change_bars
from btc_datamodule.overview.identity import identify
from btc_datamodule.stages import Stages
from btc_datamodule.windows.batch import Batch
from tests.audit.planted.inside import scaler_sees_everything
from tests.audit.planted.leak import (
    ROWS,
    STATISTICS,
    TRAIN_BLIND,
    VAL_BLIND,
    make,
    make_candles,
)
from tests.audit.test_clean import add_noise
from tests.factories import HOUR, START, candles_of, make_datamodule


def test_nothing_is_left_behind_and_nothing_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    dm = make(tmp_path / "data", transform=lambda batch: batch)
    dm.prepare_data()
    dm.setup()
    before = {path: path.read_bytes() for path in (tmp_path / "data").rglob("*.h5")}
    state = dm.state_dict()
    assert dm.audit().passed
    with monkeypatch.context() as patched:
        patched.setattr(blindness, "check_val_is_blind", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            dm.audit()
    assert list((tmp_path / "temporary").iterdir()) == []
    assert {path: path.read_bytes() for path in (tmp_path / "data").rglob("*.h5")} == before
    assert dm.state_dict() == state
    assert dm.transform is not None


def _interrupted(_: object) -> Any:
    raise KeyboardInterrupt


def test_changed_bars_are_valid_and_all_of_their_columns_differ() -> None:
    span = (START, START + 500 * HOUR)
    (block,) = Simulator().blocks(HOUR, span)
    columns = block.candles.columns
    rows = np.arange(len(block.candles)) >= 100
    for strength in (0.1, 1.0):
        other = type(block.candles)(HOUR, change_bars(columns, strength, rows))  # checks the bars
        for name in columns:
            same = other[name] == columns[name] if name != "open_time" else ~rows
            assert not same[100:].any()
            assert np.array_equal(other[name][:100], columns[name][:100])
        assert (other["taker_buy_volume"] <= other["volume"]).all()
        moved = np.log(other["high"] / other["low"]) - np.log(columns["high"] / columns["low"])
        assert (moved[100:] != 0).all(), "the shape of a bar changes, not its level alone"


def test_a_twin_has_other_bars_fewer_and_more_where_it_may_and_the_same_elsewhere() -> None:
    candles = make_candles()
    rows = np.arange(ROWS) >= 300
    other = vary_candles(candles, 0.1, rows, max_fill=3)
    split = START + 300 * HOUR
    assert other.span == candles.span
    for name in candles.columns:
        one, two = (each[name][each.open_time < split] for each in (candles, other))
        assert np.array_equal(one, two)
    both = np.intersect1d(candles.open_time, other.open_time)
    later = both[both >= split]
    closes = [each["close"][np.searchsorted(each.open_time, later)] for each in (candles, other)]
    assert (closes[0] != closes[1]).all()
    assert len(np.setdiff1d(candles.open_time, other.open_time)) > 5
    assert len(np.setdiff1d(other.open_time, candles.open_time)) > 0
    lengths = np.diff(other.holes(), axis=1)[:, 0] // HOUR
    assert lengths.min() <= 3 < lengths.max()


def test_chance_that_no_seed_decides_is_told_from_a_leak(tmp_path: Path) -> None:
    def add_unseeded(batch: Batch) -> Batch:
        return batch._replace(x=batch.x + np.random.default_rng().normal())

    dm = make(tmp_path, transform=add_unseeded)
    dm.prepare_data()
    found = dm.audit()
    assert "comes out different each time, whatever the seed" in str(found)
    assert found.data == identify(Stages.open(dm.settings))


def test_the_random_numbers_of_a_user_go_on_as_if_there_had_been_no_audit(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    dm = make(tmp_path, transform=add_noise)
    dm.prepare_data()
    assert dm.audit().passed
    assert torch.equal(torch.rand(3), expected)


# --- how arrays are compared ----------------------------------------------------------------------


def test_arrays_are_found_in_any_nesting() -> None:
    x, y = torch.zeros(2, 3), np.ones(2)
    assert list(list_arrays({"a": [x, {"b": y}], "c": "text"})) == ["a.0", "a.1.b"]
    assert list(list_arrays(Batch(x, x, x, x))) == list(Batch._fields)
    assert list(list_arrays(x)) == ["batch"]


def test_a_difference_is_named_by_its_place_and_time() -> None:
    one = np.zeros((3, 2), dtype=np.float32)
    other = one.copy()
    other[1, 0] = 1
    with pytest.raises(BTCDataError, match=r"x changes in 1 of 3, the first at item 1"):
        compare("x", one, other, None)
    with pytest.raises(BTCDataError, match=r"the first at 1970-01-01T00:00:07Z"):
        compare("x", one, other, np.array([0, 7, 9]))
    with pytest.raises(BTCDataError, match=r"float32 \(3, 2\) becomes float64 \(3, 2\)"):
        compare("x", one, one.astype(np.float64), None)


# --- the command ----------------------------------------------------------------------------------

CONFIG = """
data:
  class_path: BTCDataModule
  init_args:
    source: {{class_path: Simulator}}
    start: 2021-01-01
    end: 2021-02-01
    features: [log_return, {feature}]
    lookback: 12
    batch_size: 32
"""


def test_the_command_prints_the_report_and_exits_with_0_or_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.yaml").write_text(CONFIG.format(feature="log_range"))
    assert main(["audit", "--config", "good.yaml"]) == 1
    assert "run `btc-datamodule prepare`" in capsys.readouterr().err
    assert main(["prepare", "--config", "good.yaml"]) == 0
    capsys.readouterr()
    assert main(["audit", "--config", "good.yaml"]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0].endswith("candles.h5: 744 bars")
    assert re.match(r"pass  train is blind to val and test +480 windows, ", lines[1])
    assert lines[1].endswith(
        "unchanged bit for bit with 223 bars of val, test and after changed, removed or added"
    )
    assert lines[-1] == "12 of 12 guarantees hold"
    assert main(["audit", "--config", "good.yaml", "--ask_source", "false"]) == 0
    assert capsys.readouterr().out.endswith("11 of 11 guarantees hold\n")

    scaler_sees_everything(monkeypatch)
    assert main(["audit", "--config", "good.yaml"]) == 1
    said = capsys.readouterr()
    assert "FAIL  statistics are those of train" in said.out
    assert "pass  inputs end at the origin" in said.out
    (error,) = said.err.strip().splitlines()
    broken = "; ".join((TRAIN_BLIND, VAL_BLIND, STATISTICS))
    assert error == f"btc-datamodule: error: 3 guarantees do not hold: {broken}"


def test_a_file_that_is_gone_is_no_failure_of_the_source(tmp_path: Path) -> None:
    path = tmp_path / "hours.csv"
    candles_of(np.ones(400, dtype=bool)).to_polars().write_csv(path)
    dm = make_datamodule(tmp_path, source=CandleFile(str(path)), lookback=4, horizon=1)
    path.unlink()
    found = {each.guarantee: each for each in dm.audit().findings}
    source = found.pop("the source tells the same when asked for less")
    assert source.passed is None
    assert "hours.csv: no such file" in source.detail
    assert all(each.passed for each in found.values())
