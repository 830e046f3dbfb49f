"""The audit finds every leak planted on purpose, and passes what is clean."""

import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from btc_datamodule import (
    Batch,
    BTCDataModule,
    CandleFile,
    CombinatorialPurged,
    Feature,
    FractionSplit,
    Simulator,
    Target,
    WalkForward,
)
from btc_datamodule import stages as wiring
from btc_datamodule.audit import guarantees
from btc_datamodule.audit import report as audit
from btc_datamodule.cli.commands import main
from btc_datamodule.evaluation.fitted import ObservedRows
from btc_datamodule.evaluation.origins import FoundOrigins, Origins, find_origins
from btc_datamodule.evaluation.splits import Fold, Stage
from btc_datamodule.features import build as building
from btc_datamodule.features.causality import change_bars
from btc_datamodule.features.table import Table
from btc_datamodule.settings import Settings
from btc_datamodule.windows.dataset import WindowDataset
from btc_datamodule.windows.sampler import WindowSampler
from tests.factories import HOUR, START, InMemory, make_datamodule, random_hourly

ROWS = 600
TRAIN_BLIND = "train is blind to val and test"
VAL_BLIND = "val is blind to test"
INPUTS = "inputs end at the origin"
TARGETS = "targets are made of their own bars"
APART = "stages share no target bar"
ALLOWED = "windows are those allowed"
STATISTICS = "statistics are those of train"
TABLE = "the table is that of the candles"
FIRST_VAL_ROW = 360


def datamodule(folder: Path, **arguments: Any) -> BTCDataModule:
    present = np.ones(ROWS, dtype=bool)
    for start, length in ((100, 2), (200, 7), (420, 5), (530, 1)):
        present[start : start + length] = False
    settings: dict[str, Any] = {
        "source": InMemory(random_hourly(present.tolist(), seed=1)),
        "features": ["log_return"],
        "lookback": 8,
        "batch_size": 16,
        "split": FractionSplit(val=0.2, test=0.2),
    }
    return make_datamodule(folder, ready=False, **settings | arguments)


@cache
def clean_audit(arguments: tuple[tuple[str, Any], ...]) -> audit.Audit:
    """Without a leak, on the same settings; once for all leaks that share them."""
    with tempfile.TemporaryDirectory() as folder:
        return audited(Path(folder), **dict(arguments))


def audited(folder: Path, **arguments: Any) -> audit.Audit:
    dm = datamodule(folder, **arguments)
    dm.prepare_data()
    return dm.audit()


# --- features -------------------------------------------------------------------------------------


def trailing(bars: pl.DataFrame) -> pl.Series:
    return bars["close"].log().diff().rolling_mean(5)


def centred(bars: pl.DataFrame) -> pl.Series:
    return bars["close"].log().diff().rolling_mean(5, center=True)


def previous(bars: pl.DataFrame) -> pl.Series:
    return (bars["close"].shift(1) / bars["close"]).log()


def following(bars: pl.DataFrame) -> pl.Series:
    return (bars["close"].shift(-1) / bars["close"]).log()


def forward_filled(bars: pl.DataFrame) -> pl.Series:
    return bars["close"].forward_fill(4).log().diff()


def back_filled(bars: pl.DataFrame) -> pl.Series:
    return bars["close"].backward_fill().log()


def standardised(bars: pl.DataFrame) -> pl.Series:
    return (bars["close"] - bars["close"].mean()) / bars["close"].std()


def peeking_at(row: int) -> Callable[[pl.DataFrame], pl.Series]:
    """Looks one bar ahead, in one row of the whole history."""

    def peek(bars: pl.DataFrame) -> pl.Series:
        there = bars["open_time"] == START + row * HOUR
        return bars.select(
            pl.when(there).then(pl.col("close").shift(-1)).otherwise(pl.col("close")).log()
        ).to_series()

    return peek


FEATURES = {
    "centred": (Feature("mean", 6, centred), Feature("mean", 6, trailing)),
    "shifted": (Feature("other", 2, following), Feature("other", 2, previous)),
    "back-filled": (Feature("filled", 6, back_filled), Feature("filled", 6, forward_filled)),
    "of the whole": (Feature("z", 24, standardised), Feature("z", 6, trailing)),
    "one bar of val": (Feature("rare", 1, peeking_at(400)), Feature("rare", 1, peeking_at(-1))),
    "the last of train": (
        Feature("edge", 1, peeking_at(FIRST_VAL_ROW - 1)),
        Feature("edge", 1, peeking_at(-1)),
    ),
}


@pytest.mark.parametrize(("leak", "twin"), FEATURES.values(), ids=FEATURES.keys())
def test_a_feature_that_peeks_is_found_where_the_build_does_not_look(
    leak: Feature, twin: Feature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "check_lookback", lambda *_: None)
    found = audited(tmp_path / "leak", features=[leak, "log_range"])
    assert f"{leak.name} reads no later bar" in found.failed
    assert "log_range reads no later bar" not in found.failed
    assert "it looks ahead" in str(found) or "further back" in str(found)
    if leak.name in ("mean", "other", "z", "edge"):
        assert TRAIN_BLIND in found.failed, "its peek goes over the boundary"
    clean = audited(tmp_path / "clean", features=[twin, "log_range"])
    assert clean.passed, str(clean)


@pytest.mark.parametrize("leak", ["centred", "shifted", "back-filled", "of the whole"])
def test_a_feature_that_the_build_finds_is_a_finding_not_an_error(
    leak: str, tmp_path: Path
) -> None:
    dm = datamodule(tmp_path)
    dm.prepare_data()
    found = datamodule(tmp_path, features=[FEATURES[leak][0]]).audit()
    assert found.failed == ("no feature reads a later bar",)
    assert f"feature {FEATURES[leak][0].name!r} at 2020-" in str(found)


# --- what happens inside --------------------------------------------------------------------------

Plant = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Inside:
    """A leak inside the package: how to plant it, who must find it, on which settings."""

    plant: Plant
    found_by: tuple[str, ...]
    arguments: dict[str, Any]


def scaler_sees_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "find_train_runs", lambda table, *_: [(table.warm_up, table.rows)])


def scaler_sees_val(monkeypatch: pytest.MonkeyPatch) -> None:
    def runs(table: Table, fold: Fold, embargo: int) -> list[tuple[int, int]]:
        return [(table.warm_up, table.find_row(fold.val[-1][1]))]

    monkeypatch.setattr(wiring, "find_train_runs", runs)


def rows_but_not_digest_see_val(monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(table: Table, runs: Any) -> Any:
        return ObservedRows(table, [(low, high + 1) for low, high in runs])

    monkeypatch.setattr(wiring, "ObservedRows", rows)


def target_scaler_sees_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = WindowDataset.stream_targets

    def of_all(self: WindowDataset) -> Iterator[NDArray[np.float32]]:
        every = np.array([[40, self.table.rows - 20]], dtype=np.int64)
        known = WindowDataset(
            self.table, Origins.of(every, 1, last=False), self.shape, self.target, self.scaler
        )
        return blocks(known)

    monkeypatch.setattr(WindowDataset, "stream_targets", of_all)


def target_one_bar_late(monkeypatch: pytest.MonkeyPatch) -> None:
    future = WindowDataset._gather_bars

    def late(self: WindowDataset, columns: Any, origins: NDArray[np.int64]) -> Any:
        last = self.table.rows - self.shape.reach
        return future(self, columns, np.minimum(origins + 1, max(last, 0)))

    monkeypatch.setattr(WindowDataset, "_gather_bars", late)


def lookback_runs_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    gather = WindowDataset._gather

    def ahead(self: WindowDataset, origins: NDArray[np.int64]) -> Batch:
        there = np.minimum(origins + 1, self.origins.span[1] - 1)
        return gather(self, there)._replace(
            y=gather(self, origins).y, origin_time=gather(self, origins).origin_time
        )

    monkeypatch.setattr(WindowDataset, "_gather", ahead)


def windows_say_another_time(monkeypatch: pytest.MonkeyPatch) -> None:
    gather = WindowDataset._gather

    def mislabelled(self: WindowDataset, origins: NDArray[np.int64]) -> Batch:
        batch = gather(self, origins)
        return batch._replace(origin_time=batch.origin_time + self.table.interval)

    monkeypatch.setattr(WindowDataset, "_gather", mislabelled)


def eligible_with(**other: Any) -> Plant:
    """The rules of origins with some arguments changed; an int is added, a bool put in place."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        def loose(shape: Any, **arguments: Any) -> FoundOrigins:
            for name, value in other.items():
                arguments[name] = value(arguments) if callable(value) else value
            return find_origins(shape, **arguments)

        monkeypatch.setattr(wiring, "find_origins", loose)

    return plant


def shuffled_then_split(monkeypatch: pytest.MonkeyPatch) -> None:
    made = wiring.make_windows

    def pooled(
        settings: Settings, table: Table, fold: Fold, stage: Stage, scaler: Any
    ) -> WindowDataset:
        dataset = made(settings, table, fold, stage, scaler)
        span = (fold.train[0][0], fold.test[-1][1])
        whole = replace(fold, train=(span,))
        rows = made(settings, table, whole, "train", scaler).origins
        order = np.random.default_rng(0).permutation(len(rows))
        low, high = {"train": (0.0, 0.6), "val": (0.6, 0.8)}.get(stage, (0.8, 1.0))
        mine = np.sort(rows[order[int(low * len(rows)) : int(high * len(rows))]])
        dataset.origins = Origins.of(np.stack([mine, mine + 1], axis=1), 1, last=False)
        return dataset

    monkeypatch.setattr(wiring, "make_windows", pooled)


def last_batch_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    made = WindowSampler.__init__

    def dropping(self: WindowSampler, *arguments: Any, **named: Any) -> None:
        made(self, *arguments, **{**named, "drop_last": True})

    monkeypatch.setattr(WindowSampler, "__init__", dropping)


def outages_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    none = np.zeros((0, 2), dtype=np.int64)
    eligible_with(outages=none)(monkeypatch)


PURGED = {"split": CombinatorialPurged(n_groups=5, n_test_groups=2, fold=3), "embargo": 6}
INSIDE = {
    "scaler fitted on everything": Inside(scaler_sees_everything, (TRAIN_BLIND, STATISTICS), {}),
    "robust scaler fitted on val too": Inside(
        scaler_sees_val, (TRAIN_BLIND, STATISTICS), {"scaling": "robust"}
    ),
    "scaler fitted on one bar of val": Inside(
        rows_but_not_digest_see_val, (TRAIN_BLIND, STATISTICS), {}
    ),
    "target scaler fitted on everything": Inside(
        target_scaler_sees_everything, (TRAIN_BLIND, STATISTICS), {"target_scaling": "train"}
    ),
    "target one bar too long": Inside(target_one_bar_late, (TRAIN_BLIND, TARGETS), {}),
    "lookback runs ahead": Inside(lookback_runs_ahead, (INPUTS,), {}),
    "another time is told": Inside(windows_say_another_time, (INPUTS, TARGETS), {}),
    "targets of train cross the boundary": Inside(
        eligible_with(span=lambda given: (given["span"][0], given["span"][1] + 2)),
        (TRAIN_BLIND, VAL_BLIND, APART, ALLOWED),
        {},
    ),
    "purge is ignored": Inside(eligible_with(purge=0), (ALLOWED,), {"purge": 4}),
    "embargo is ignored": Inside(eligible_with(embargo=0), (ALLOWED,), PURGED),
    "full-span purge is ignored": Inside(
        eligible_with(inside=False, embargo=0), (TRAIN_BLIND, APART, ALLOWED), PURGED
    ),
    "strict context is ignored": Inside(
        eligible_with(inside=False), (ALLOWED,), {"context": "strict"}
    ),
    "outages are forgotten": Inside(outages_are_forgotten, (ALLOWED,), {}),
    "windows shuffled, then split": Inside(shuffled_then_split, (TRAIN_BLIND, APART, ALLOWED), {}),
    "the last test batch is dropped": Inside(last_batch_is_dropped, (ALLOWED,), {}),
}


@pytest.mark.parametrize("leak", INSIDE.values(), ids=INSIDE.keys())
def test_a_leak_inside_is_found_by_the_guarantee_that_it_breaks(
    leak: Inside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as planted:
        leak.plant(planted)
        found = audited(tmp_path, **leak.arguments)
    assert set(leak.found_by) <= set(found.failed), str(found)
    clean = clean_audit(tuple(leak.arguments.items()))
    assert clean.passed, str(clean)


@dataclass(frozen=True)
class Mixed(Target):
    """Takes what a sample's target is from the batch around it."""

    def shape(self, horizon: int) -> tuple[int, ...]:
        return (1,)

    def __call__(self, bars: NDArray[np.float64]) -> NDArray[np.floating]:
        returns: NDArray[np.float64] = np.log(bars[:, -1] / bars[:, 0])
        shifted: NDArray[np.float64] = returns - returns.mean()
        return shifted


def test_a_target_that_mixes_the_samples_of_a_batch_is_found(tmp_path: Path) -> None:
    found = audited(tmp_path, target=Mixed())
    assert found.failed == (TARGETS,), str(found)
    assert "each without the rest of its batch" in str(found)


def test_a_feature_file_that_is_not_made_of_these_candles_is_found(tmp_path: Path) -> None:
    dm = datamodule(tmp_path)
    dm.prepare_data()
    dm.setup()
    mapped = np.memmap(dm.table.path, "<f4", "r+", dm.table.offsets["x"], (dm.table.rows, 1))
    mapped[300] += 0.01
    mapped.flush()
    assert dm.audit().failed == (TABLE,)


# --- what is clean --------------------------------------------------------------------------------

CLEAN: dict[str, dict[str, Any]] = {
    "fractions": {"gap": 2, "purge": 3, "target_scaling": "robust"},
    "strict": {"context": "strict", "scaling": "robust", "min_observed": 0.7},
    "walk": {
        "split": WalkForward(train="60d", val="20d", test="20d", fold=1),
        "scaling": "window",
        "target_scaling": "train",
        "horizon": 5,
        "eval_stride": 2,
    },
    "walk without val": {
        "split": WalkForward(train="60d", val=0, test="20d", expanding=True, fold=-1),
        "scaling": "none",
    },
    "purged": {
        "split": CombinatorialPurged(n_groups=6, n_test_groups=2, fold=6),
        "embargo": 24,
        "purge": 2,
        "scaling": "robust",
        "target_scaling": "train",
        "stride": 3,
    },
}


@pytest.mark.parametrize("arguments", CLEAN.values(), ids=CLEAN.keys())
def test_real_candles_with_holes_pass(
    arguments: dict[str, Any], real_data: Path, tmp_path: Path
) -> None:
    dm = BTCDataModule(
        source=CandleFile(str(real_data / "kraken" / "XBTUSD_60.csv"), columns="kraken"),
        start="2016-01-01",
        end="2016-07-01",
        features=["log_return", "relative_volume", "m = close / close.shift(10) - 1"],
        lookback=24,
        batch_size=64,
        data_dir=str(tmp_path),
        **arguments,
    )
    dm.prepare_data()
    dm.setup()
    assert (dm.table.holes, len(dm.table.outages)) == (105, 5)
    found = dm.audit()
    assert found.passed, str(found)


def test_of_a_long_history_the_bars_around_the_boundaries_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "BARS", 400)
    for number, split in enumerate(
        (FractionSplit(), CombinatorialPurged(5, 2, fold=4), WalkForward("60d", "5d", "5d"))
    ):
        dm = datamodule(
            tmp_path / str(number),
            source=Simulator(outages_per_year=20),
            start="2021-01-01",
            end="2021-07-01",
            split=split,
        )
        dm.prepare_data()
        found = dm.audit()
        assert found.passed, str(found)
        looked_at = int(found.scope.split(": ")[1].split(" of")[0])
        assert 300 < looked_at <= 400, found.scope


def test_nothing_is_left_behind_and_nothing_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    dm = datamodule(tmp_path / "data", transform=lambda batch: batch)
    dm.prepare_data()
    dm.setup()
    before = {path: path.read_bytes() for path in (tmp_path / "data").rglob("*.h5")}
    state = dm.state_dict()
    assert dm.audit().passed
    with monkeypatch.context() as patched:
        patched.setattr(guarantees, "check_val_is_blind", _interrupted)
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
    assert lines[0].endswith("candles.h5: 744 of 744 bars")
    assert re.match(r"pass  train is blind to val and test +480 windows, ", lines[1])
    assert lines[1].endswith("unchanged bit for bit with 223 bars of val, test and after corrupted")
    assert lines[-1] == "10 of 10 guarantees hold"

    scaler_sees_everything(monkeypatch)
    assert main(["audit", "--config", "good.yaml"]) == 1
    said = capsys.readouterr()
    assert "FAIL  statistics are those of train" in said.out
    assert "pass  inputs end at the origin" in said.out
    (error,) = said.err.strip().splitlines()
    broken = "; ".join((TRAIN_BLIND, VAL_BLIND, STATISTICS))
    assert error == f"btc-datamodule: error: 3 guarantees do not hold: {broken}"
