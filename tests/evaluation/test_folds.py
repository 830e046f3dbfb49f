"""Folds through the datamodule: who sees what."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from btc_datamodule import (
    Block,
    BTCDataModule,
    CandleFile,
    Candles,
    CombinatorialPurged,
    ConfigError,
    DummyModule,
    FractionSplit,
    Split,
    WalkForward,
    read_candles,
)
from btc_datamodule.candles.timeline import Span, format_instant
from btc_datamodule.cli.commands import main
from btc_datamodule.evaluation.splits import Stage
from btc_datamodule.evaluation.targets import TripleBarrier
from tests.evaluation.folds import (
    FEATURES,
    PRESENT,
    ROWS,
    SOURCES,
    STAGES,
    Gapped,
    Sample,
    first_targets,
    next_present,
    opened,
    outages_of,
    repeated_rows,
    samples,
)
from tests.factories import HOUR, START, InMemory, make_trainer

CONFIG = str(Path(__file__).parents[2] / "configs" / "dummy.yaml")


@st.composite
def splits(draw: st.DrawFn) -> Split:
    kind = draw(st.sampled_from(["fraction", "walk", "gapped", "combinatorial", "combinatorial"]))
    if kind == "gapped":
        return Gapped(*(draw(st.integers(0, 9)) for _ in range(3)))
    if kind == "fraction":
        return FractionSplit(draw(st.floats(0.15, 0.35)), draw(st.floats(0.15, 0.35)))
    if kind == "walk":
        return WalkForward(
            train=draw(st.integers(60, 110)),
            val=draw(st.sampled_from([0, 20, 35])),
            test=draw(st.integers(20, 50)),
            step=draw(st.sampled_from([None, 7, 60])),
            expanding=draw(st.booleans()),
            fold=draw(st.sampled_from([0, -1])),
        )
    n_groups = draw(st.integers(2, 5))
    split = CombinatorialPurged(n_groups, draw(st.integers(1, n_groups - 1)))
    fold = draw(st.integers(0, split.n_folds - 1))
    return CombinatorialPurged(n_groups, split.n_test_groups, fold)


@st.composite
def settings_of_data(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "source": draw(st.integers(0, len(SOURCES) - 1)),
        "features": draw(st.sampled_from(FEATURES)),
        "max_fill": draw(st.sampled_from([0, 2])),
        "split": draw(splits()),
        "lookback": draw(st.integers(1, 9)),
        "horizon": draw(st.integers(1, 5)),
        "gap": draw(st.integers(0, 3)),
        "purge": draw(st.integers(0, 4)),
        "embargo": draw(st.integers(0, 6)),
        "context": draw(st.sampled_from(["allow", "strict"])),
        "min_observed": draw(st.sampled_from([1.0, 0.6])),
        "stride": draw(st.integers(1, 3)),
        "eval_stride": draw(st.sampled_from([1, None])),
        "target": draw(st.sampled_from([None, TripleBarrier(volatility_bars=6)])),
    }


def spans_of(dm: BTCDataModule, stage: Stage) -> list[tuple[int, int]]:
    return [((a - START) // HOUR, (b - START) // HOUR) for a, b in dm.fold.spans(stage)]


def wall_of(case: dict[str, Any], span: tuple[int, int]) -> int:
    """The first row of a span whose bar is its own: those before repeat one from outside."""
    return next_present(PRESENT[case["source"]], span[0])


def embargo_of(dm: BTCDataModule, case: dict[str, Any], span: tuple[int, int]) -> int:
    """The first row after all embargoes of what is evaluated before a train span."""
    present = PRESENT[case["source"]]
    ends = [end for stage in ("val", "test") for _, end in spans_of(dm, stage)]
    past = [next_present(present, end) for end in ends if end <= span[0]]
    return max([0, *(row + dm.settings.embargo for row in past)])


def fates(
    dm: BTCDataModule, case: dict[str, Any], stage: Stage, span: tuple[int, int]
) -> list[str]:
    """What becomes of each bar of a span as the first target bar, in order."""
    present = PRESENT[case["source"]]
    outage = outages_of(present, case["max_fill"])
    unseen = dm.table.observed[:] == 0
    allowed = (1 - dm.settings.min_observed) * dm.lookback + 1e-9
    purge = dm.settings.purge if stage != "test" else 0
    inside = stage == "train" or dm.settings.context == "strict"
    wall = wall_of(case, span) if inside else 0
    embargo = embargo_of(dm, case, span) if stage == "train" else 0

    def fate(sample: Sample) -> str:  # noqa: PLR0911
        if sample.last_target >= span[1]:
            return "end"
        if sample.last_target >= span[1] - purge:
            return "purge"
        if sample.first_read < wall:
            return "history"
        if sample.first_read < embargo:
            return "embargo"
        measured = sample.first_target - dm.target.reference_bars
        if outage[measured : sample.last_target + 1].any():
            return "target"
        if unseen[sample.origin] or not present[sample.origin]:
            return "origin"
        if unseen[sample.origin - dm.lookback + 1 : sample.origin + 1].sum() > allowed:
            return "inputs"
        return "eligible"

    return [fate(Sample(dm, target - 1 - dm.shape.gap)) for target in range(*span)]


def check_that_nothing_leaks(dm: BTCDataModule, case: dict[str, Any]) -> None:
    """No train sample touches a val or test target; what is later waits for the embargo.

    What a sample is made of begins with the bar that its first row repeats.
    """
    present = PRESENT[case["source"]]
    shown = repeated_rows(present)
    evaluation = spans_of(dm, "val") + spans_of(dm, "test")
    for stage in STAGES:
        assert all(present[sample.origin] for sample in samples(dm, stage))
    for sample in samples(dm, "train"):
        for start, end in evaluation:
            after = next_present(present, end) + dm.settings.embargo
            assert sample.last_target < start or sample.first_read >= after
            assert sample.last_target < start or shown[sample.first_read] >= end
        assert any(
            start <= shown[sample.first_read] and sample.last_target < end - dm.settings.purge
            for start, end in spans_of(dm, "train")
        )
    targets = {
        stage: {
            row
            for sample in samples(dm, stage)
            for row in range(sample.first_target, sample.last_target + 1)
        }
        for stage in STAGES
    }
    assert not targets["val"] & targets["test"]
    assert not targets["train"] & (targets["val"] | targets["test"])
    if not isinstance(dm.split, CombinatorialPurged | Gapped):
        assert max(targets["train"]) < min(targets["val"] | targets["test"])
        assert not targets["val"] or max(targets["val"]) < min(targets["test"])
    if dm.settings.context == "strict":
        for stage in STAGES:
            for sample in samples(dm, stage):
                assert any(
                    start <= shown[sample.first_read] and sample.last_target < end
                    for start, end in spans_of(dm, stage)
                )


def check_that_the_numbers_add_up(dm: BTCDataModule, case: dict[str, Any]) -> None:
    """describe() counts what brute force finds, and every candidate once."""
    reasons = ["end", "purge", "history", "embargo", "target", "origin", "inputs"]
    for stage in STAGES:
        rows = dm.describe().filter(pl.col("stage") == stage)
        spans = spans_of(dm, stage)
        assert rows.height == len(spans)
        for span, row in zip(spans, rows.iter_rows(named=True), strict=True):
            found = fates(dm, case, stage, span)
            assert {name: row[name] for name in [*reasons, "eligible"]} == {
                name: found.count(name) for name in [*reasons, "eligible"]
            }
            assert (
                row["bars"]
                == span[1] - span[0]
                == sum(row[name] for name in reasons) + row["eligible"]
            )
            targets = [span[0] + at for at, why in enumerate(found) if why == "eligible"]
            check_what_is_scored(dm, stage, targets, row)
        assert rows["windows"].sum() == len(dm.dataset(stage))
    for row in dm.describe().filter(pl.col("stage") == "predict").iter_rows(named=True):
        assert (row["scored"], row["unscored"]) == (None, None)
        unknown = 1 + dm.shape.gap if row["to"].timestamp() == dm.table.span[1] else 0
        counted = sum(row[name] for name in reasons) + row["eligible"]
        assert counted == row["bars"] + unknown


def check_what_is_scored(
    dm: BTCDataModule, stage: Stage, targets: list[int], row: dict[str, Any]
) -> None:
    """The windows of a span, told from the first targets of its eligible origins."""
    if stage == "train":
        assert (row["scored"], row["unscored"]) == (None, None)
        return
    stride = dm.settings.eval_stride
    taken: list[int] = []
    for target in targets:
        if not taken or target >= taken[-1] + stride:
            taken.append(target)
    assert row["windows"] == len(taken)
    span = range(*((int(row[name].timestamp()) - START) // HOUR for name in ("from", "to")))
    assert [t for t in first_targets(dm, stage) if t in span] == taken
    scored, could_be = (
        {bar for target in chosen for bar in range(target, target + dm.horizon)}
        for chosen in (taken, targets)
    )
    assert (row["scored"], row["unscored"]) == (len(scored), len(could_be) - len(scored))
    if stride >= dm.horizon:
        assert row["scored"] == row["windows"] * dm.horizon, "no bar is scored twice"


def check_that_every_bar_is_scored(dm: BTCDataModule) -> None:
    """Without holes, val and test targets cover their spans from the first that has a history.

    At a stride of the horizon each once, but for less than a horizon at the end.
    """
    back = Sample(dm, 0).first_target - Sample(dm, 0).first_read
    for stage in ("val", "test"):
        purge = dm.settings.purge if stage == "val" else 0
        targets = [
            row
            for sample in samples(dm, stage)
            for row in range(sample.first_target, sample.last_target + 1)
        ]
        expected: list[int] = []
        for start, end in spans_of(dm, stage):
            first = start + back if dm.settings.context == "strict" else max(start, back)
            most = end - purge - first
            if dm.settings.eval_stride > 1:
                most -= most % dm.horizon
            if most >= dm.horizon:
                expected += range(first, first + most)
        assert sorted(set(targets)) == expected
        if dm.settings.eval_stride > 1:
            assert sorted(targets) == expected


def check(folder: str, case: dict[str, Any]) -> bool:
    """All of the above; false if the split leaves a stage without windows."""
    try:
        dm = opened(folder, **case | {"source": SOURCES[case["source"]]})
    except ConfigError as error:
        if "a stage without windows" not in str(error):
            raise
        return False
    check_that_nothing_leaks(dm, case)
    check_that_the_numbers_add_up(dm, case)
    if all(PRESENT[case["source"]]):
        check_that_every_bar_is_scored(dm)
    return True


@pytest.mark.parametrize("examples", [25, pytest.param(1000, marks=pytest.mark.stress)])
def test_any_fold_keeps_its_samples_apart_and_counts_them_all(folder: str, examples: int) -> None:
    @given(settings_of_data())
    @settings(max_examples=examples)
    def law(case: dict[str, Any]) -> None:
        checked.append(check(folder, case))

    checked: list[bool] = []
    law()
    assert sum(checked) > examples / 2, "most of the cases have samples in every stage"


# with_fold


@dataclass(frozen=True, eq=False)
class Counting(InMemory):
    """Memory that remembers what it was asked for."""

    asked: list[Span] = field(default_factory=list)

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        self.asked.append(span)
        return super().blocks(interval, span)


def test_folds_share_the_files_and_ask_the_source_for_nothing(tmp_path: Path) -> None:
    source = Counting(SOURCES[0].candles)
    first = BTCDataModule(
        source,
        start=format_instant(START),
        end=format_instant(START + ROWS * HOUR),
        split=WalkForward(80, 20, 20),
        lookback=4,
        batch_size=8,
        data_dir=str(tmp_path),
    )
    first.prepare_data()
    first.setup()

    def files() -> dict[Path, tuple[int, int]]:
        found = {path: path.stat() for path in tmp_path.rglob("*.h5")}
        return {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in found.items()}

    before, asked = files(), list(source.asked)
    assert set(before) == {first.candle_path, first.table.path}
    assert first.n_folds == (ROWS - 100 - 20) // 20 + 1
    tests = []
    for k in range(first.n_folds):
        dm = first.with_fold(k)
        dm.prepare_data()
        dm.setup()
        assert dm.source is first.source
        assert dm.table.path == first.table.path
        assert dm.hparams["split"]["init_args"]["fold"] == k
        assert dm.hparams["lookback"] == first.lookback
        tests.append(dm.fold.test[0])
    assert (files(), source.asked) == (before, asked)
    assert tests == [
        (START + (100 + 20 * k) * HOUR, START + (120 + 20 * k) * HOUR) for k in range(7)
    ]
    assert first.split.fold == 0


def returns_of(candles: Candles) -> NDArray[np.float32]:
    """ln(C_t / C_{t-1}) of bars without holes, NaN for the first."""
    close = candles["close"]
    return np.concatenate([[np.nan], np.log(close[1:] / close[:-1])]).astype(np.float32)


@pytest.mark.each_value
@pytest.mark.parametrize(("embargo", "purge"), [(0, 0), (5, 0), (0, 3), (5, 7)])
@pytest.mark.parametrize(
    "split",
    [
        WalkForward(80, 20, 20),
        WalkForward(80, 20, 20, expanding=True),
        CombinatorialPurged(4, 2),
        CombinatorialPurged(6, 3),
    ],
    ids=str,
)
def test_each_fold_has_the_statistics_of_its_own_train_rows(
    folder: str, split: Split, embargo: int, purge: int
) -> None:
    shared: dict[str, Any] = {"source": SOURCES[0], "features": FEATURES[0], "max_fill": 0}
    base = opened(
        folder,
        split=split,
        embargo=embargo,
        purge=purge,
        lookback=4,
        target_scaling="train",
        **shared,
    )
    returns = returns_of(SOURCES[0].candles).astype(np.float64)
    seen = set()
    for k in range(base.n_folds):
        dm = base.with_fold(k)
        dm.setup()
        rows: list[int] = []
        ends = [end for stage in ("val", "test") for _, end in spans_of(dm, stage)]
        for start, end in spans_of(dm, "train"):
            # The first return of a span is made of the bar before it.
            rows += range(start + 1 + (embargo if start in ends else 0), end - purge)
        np.testing.assert_allclose(dm.scaler.center, returns[rows].mean(), rtol=1e-9)
        np.testing.assert_allclose(dm.scaler.scale, returns[rows].std(), rtol=1e-9)
        targets = first_targets(dm, "train")
        np.testing.assert_allclose(dm.target_scaler.center, returns[targets].mean(), rtol=1e-5)
        np.testing.assert_allclose(dm.target_scaler.scale, returns[targets].std(), rtol=1e-5)
        seen.add(dm.scaler.center)
    assert len(seen) == base.n_folds


def test_a_fold_that_does_not_exist_is_refused(folder: str) -> None:
    shared: dict[str, Any] = {"source": SOURCES[0], "features": FEATURES[0], "max_fill": 0}
    dm = opened(folder, split=WalkForward(80, 20, 20), **shared)
    for fold in (7, -8):
        with pytest.raises(
            ConfigError,
            match=rf"split\.fold is {fold}: 2020-01-01T00:00:00Z to 2020-01-11T00:00:00Z has 7 "
            "folds, 0 to 6",
        ):
            dm.with_fold(fold)
    last = dm.with_fold(-1)
    last.setup()
    assert last.fold == dm.with_fold(6).split.folds(dm.table.span, HOUR)[6]
    with pytest.raises(ConfigError, match=r"FractionSplit\(val=0\.15, test=0\.15\) has only one"):
        opened(folder, **shared).with_fold(1)


def test_a_fit_without_validation_runs(folder: str, tmp_path: Path) -> None:
    for split in (WalkForward(80, 0, 20), CombinatorialPurged(3, 1, 1)):
        dm = opened(folder, source=SOURCES[0], features=FEATURES[0], max_fill=0, split=split)
        model = DummyModule(dm.n_features, dm.lookback, dm.horizon)
        runner = trainer(tmp_path, limit_train_batches=2)
        runner.fit(model, datamodule=dm)
        assert runner.global_step == 2
        runner.test(model, datamodule=dm, verbose=False)


trainer = partial(make_trainer, max_epochs=1)


def test_the_forecasts_of_all_folds_join_to_histories_of_the_whole_time(folder: str) -> None:
    shared: dict[str, Any] = {"source": SOURCES[0], "features": FEATURES[0], "max_fill": 0}
    split = CombinatorialPurged(4, 2)
    base = opened(folder, split=split, lookback=4, horizon=2, gap=1, eval_stride=1, **shared)
    frames = []
    for k in range(base.n_folds):
        dm = base.with_fold(k)
        dm.setup()
        times = torch.cat([batch.origin_time for batch in dm.test_dataloader()])
        frames.append(pl.DataFrame({"origin_time": times.numpy(), "fold": [k] * len(times)}))
    histories = split.stitch(frames, base.table.span, base.interval, 1 + base.shape.gap)
    assert len(histories) == split.n_paths == 3
    groups = [range(60 * g, 60 * (g + 1)) for g in range(4)]
    for path, history in zip(split.paths().tolist(), histories, strict=True):
        expected = [
            (START + (target - 2) * HOUR, fold)
            for fold, group in zip(path, groups, strict=True)
            for target in group[:-1]  # two target bars must lie in the group
            if target >= 6  # warm-up of 1, lookback of 4, gap of 1
        ]
        assert history.rows() == expected


# The command line


@pytest.mark.parametrize(
    "spelling",
    [
        ["--data.split", "WalkForward", "--data.split.fold", "2", "--data.split.val", "240"],
        [
            *["--data.init_args.split", "btc_datamodule.WalkForward"],
            *["--data.init_args.split.init_args.fold", "2"],
            *["--data.init_args.split.init_args.val", "10d"],
        ],
    ],
)
def test_a_fold_is_chosen_on_the_command_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spelling: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", "--config", CONFIG, *spelling]) == 0
    capsys.readouterr()
    assert main(["info", "--config", CONFIG, *spelling]) == 0
    lines = [line.split()[:3] for line in capsys.readouterr().out.splitlines()]
    # 2020-01-01 + 2 * 30 days, + 365, + 10, + 30
    times = [f"2021-{day}T00:00:00Z" for day in ("03-01", "03-11", "04-10")]
    for stage, times_of in (
        ("train", ["2020-03-01T00:00:00Z", times[0]]),
        ("val", times[:2]),
        ("test", times[1:]),
    ):
        assert [stage, *times_of] in lines
    quiet = ["--trainer.enable_progress_bar", "false", "--trainer.limit_train_batches", "1"]
    assert main(["fit", "--config", CONFIG, *spelling, *quiet]) == 0
    assert main(["prepare", "--config", CONFIG, *spelling, "--data.split.fold", "99"]) == 1
    assert "split.fold is 99: 2020-01-01T00:00:00Z to 2022-01-01" in capsys.readouterr().err


# Real minutes


def test_five_folds_of_real_minutes_are_fitted(real_data: Path, tmp_path: Path) -> None:
    """The script of docs/evaluation.md, on two years of Bitfinex minutes."""
    base = BTCDataModule(
        CandleFile(str(real_data / "bitfinex_1m" / "*.csv.gz"), columns="bitfinex"),
        interval="1m",
        lookback=60,
        horizon=15,
        split=WalkForward(train="365d", val="30d", test="60d"),
        min_observed=0.9,
        batch_size=512,
        data_dir=str(tmp_path),
    )
    base.prepare_data()
    base.setup()
    assert base.n_folds == 5
    opens = read_candles(base.candle_path).open_time
    scores: list[Any] = []
    tests: list[Span] = []
    for k in range(base.n_folds):
        dm = base.with_fold(k)
        model = DummyModule(dm.n_features, dm.lookback, dm.horizon)
        runner = trainer(
            tmp_path, limit_train_batches=20, limit_val_batches=5, limit_test_batches=5
        )
        runner.fit(model, datamodule=dm)
        scores += runner.test(model, datamodule=dm, verbose=False)
        tests += dm.fold.test
        (row,) = dm.describe().filter(pl.col("stage") == "test").iter_rows(named=True)
        assert row["bars"] == 60 * 1440
        # Thousands of minutes of these months are absent, most of them one or two at a time: no
        # forecast is made there. All but a few others are origins of one.
        start, end = (int(row[name].timestamp()) - 60 for name in ("from", "to"))
        present = int(((opens >= start) & (opens < end)).sum())
        assert 0.9 * row["bars"] < present < row["bars"]
        assert 0.98 * present < row["eligible"] <= present
    assert np.isfinite([score["test_loss"] for score in scores]).all()
    assert all(one[1] == other[0] for one, other in pairwise(tests))
