"""Nothing of the future leaks: what train and validation see does not depend on later bars."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory import HOUR, START, Memory, random_hourly

from btc_datamodule import Batch, BTCDataModule, Candles, ConfigError, DateSplit
from btc_datamodule.splits import Stage
from btc_datamodule.timeline import format_instant

FEATURES = ["log_return", "log_open", "relative_volume", "volatility", "garman_klass", "day_sin"]
ROWS = 140


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    holes = draw(st.lists(st.tuples(st.integers(1, ROWS - 2), st.integers(1, 6)), max_size=5))
    present = np.ones(ROWS, dtype=bool)
    for start, length in holes:
        present[start : min(start + length, ROWS - 1)] = False
    val = draw(st.integers(75, 100))
    test = draw(st.integers(val + 10, 128))
    return {
        "candles": random_hourly(present.tolist(), draw(st.integers(0, 1000))),
        "boundaries": (val, test),
        "arguments": {
            "features": draw(st.lists(st.sampled_from(FEATURES), min_size=1, unique=True)),
            "lookback": draw(st.integers(1, 12)),
            "horizon": draw(st.integers(1, 5)),
            "gap": draw(st.integers(0, 3)),
            "purge": draw(st.integers(0, 3)),
            "stride": draw(st.integers(1, 3)),
            "eval_stride": draw(st.sampled_from([None, 1, 3])),
            "max_fill": draw(st.integers(0, 3)),
            "min_observed": draw(st.sampled_from([1.0, 0.6])),
            "seed": draw(st.integers(0, 5)),
            "batch_size": draw(st.integers(1, 8)),
        },
    }


def corrupted(candles: Candles, row: int, seed: int = 9) -> Candles:
    """The same bars, but those from a row of the grid on have other values."""
    later = candles.open_time >= START + row * HOUR
    factor = np.exp(np.random.default_rng(seed).normal(0, 2, later.sum()))
    columns = {"open_time": candles.open_time}
    for name, values in candles.columns.items():
        if name != "open_time":
            columns[name] = values.copy()
            columns[name][later] *= factor
    return Candles(candles.interval, columns)


def built(case: dict[str, Any], candles: Candles, folder: str) -> BTCDataModule:
    val, test = (format_instant(START + row * HOUR) for row in case["boundaries"])
    dm = BTCDataModule(
        source=Memory(candles), data_dir=folder, split=DateSplit(val, test), **case["arguments"]
    )
    dm.prepare_data()
    dm.setup()
    return dm


def batches(dm: BTCDataModule, stage: Stage) -> list[Batch]:
    loaders = {"train": dm.train_dataloader, "val": dm.val_dataloader, "test": dm.test_dataloader}
    return list(loaders[stage]())


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.view(torch.uint8), b.view(torch.uint8))
        for first, second in zip(one, other, strict=True)
        for a, b in zip(first, second, strict=True)
    )


def target_rows(dm: BTCDataModule, stage: Stage) -> list[range]:
    dataset = dm.dataset(stage)
    origins = dataset.origins[np.arange(len(dataset))]
    first = origins + 1 + dm.shape.gap
    return [range(row, row + dm.horizon) for row in first.tolist()]


def input_rows(dm: BTCDataModule, stage: Stage) -> list[range]:
    """Rows that the inputs depend on, the warm-up of the features included."""
    dataset = dm.dataset(stage)
    reach = dm.lookback + dm.table.warm_up
    origins = dataset.origins[np.arange(len(dataset))].tolist()
    return [range(row - reach + 1, row + 1) for row in origins]


@given(cases())
@settings(max_examples=40, deadline=None)
def test_corrupting_all_later_bars_changes_nothing_that_train_or_val_sees(
    case: dict[str, Any],
) -> None:
    val, test = case["boundaries"]
    with tempfile.TemporaryDirectory() as folder:
        try:
            clean = built(case, case["candles"], f"{folder}/clean")
        except ConfigError:
            return  # the holes have left a stage without windows
        from_val = built(case, corrupted(case["candles"], val), f"{folder}/val")
        from_test = built(case, corrupted(case["candles"], test), f"{folder}/test")

        assert same(batches(clean, "train"), batches(from_val, "train"))
        assert clean.scaler == from_val.scaler
        rows = clean.table.row_of(clean.fold.val[0][0])
        assert clean.table.x[:rows].tobytes() == from_val.table.x[:rows].tobytes()
        assert clean.table.observed[:rows].tobytes() == from_val.table.observed[:rows].tobytes()

        assert same(batches(clean, "train"), batches(from_test, "train"))
        assert same(batches(clean, "val"), batches(from_test, "val"))
        assert clean.scaler == from_test.scaler
        assert not same(batches(clean, "test"), batches(from_test, "test")), "the probe works"


@given(cases())
@settings(max_examples=40, deadline=None)
def test_no_train_or_val_sample_touches_a_target_of_a_later_stage(case: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            dm = built(case, case["candles"], folder)
        except ConfigError:
            return
        targets: dict[Stage, set[int]] = {
            stage: {row for rows in target_rows(dm, stage) for row in rows}
            for stage in ("train", "val", "test")
        }
        inputs: dict[Stage, set[int]] = {
            stage: {row for rows in input_rows(dm, stage) for row in rows}
            for stage in ("train", "val", "test")
        }
        first_val, first_test = min(targets["val"]), min(targets["test"])
        assert max(targets["train"] | inputs["train"]) < first_val
        assert max(targets["val"] | inputs["val"]) < first_test
        assert min(inputs["train"]) >= 0


@given(cases())
@settings(max_examples=25, deadline=None)
def test_every_val_bar_is_a_target_at_stride_1_and_at_the_horizon(case: dict[str, Any]) -> None:
    case["candles"] = random_hourly([True] * ROWS, seed=1)
    case["arguments"]["purge"] = 0
    start, end = case["boundaries"]
    for stride in (1, None):
        case["arguments"]["eval_stride"] = stride
        with tempfile.TemporaryDirectory() as folder:
            dm = built(case, case["candles"], folder)
            targets = target_rows(dm, "val")
            assert {row for rows in targets for row in rows} == set(range(start, end))
            if stride is None:
                whole = [row for rows in targets[:-1] for row in rows]
                assert len(whole) == len(set(whole)), "each bar once, but for the last window"


def test_the_probe_finds_a_leak_that_is_there(tmp_path: Path) -> None:
    """The same comparison with a boundary one bar too late fails: it can find something."""
    case = {
        "boundaries": (80, 110),
        "arguments": {"features": ["log_return"], "lookback": 4, "batch_size": 2},
    }
    candles = random_hourly([True] * ROWS, seed=3)
    clean = built(case, candles, str(tmp_path / "clean"))
    leaked = built(case, corrupted(candles, 79), str(tmp_path / "leaked"))
    assert not same(batches(clean, "train"), batches(leaked, "train"))
    assert clean.scaler != replace(leaked.scaler)
