"""Nothing of the future leaks: what train and validation see does not depend on later bars.

Neither on what they are nor on which there are: they are changed, removed and added.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from btc_datamodule import (
    Batch,
    BTCDataModule,
    Candles,
    CombinatorialPurged,
    ConfigError,
    DateSplit,
    Split,
    WalkForward,
)
from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.evaluation.splits import Stage
from btc_datamodule.features.varying import change_bars
from tests.evaluation.folds import Gapped
from tests.factories import HOUR, START, InMemory, random_hourly
from tests.marks import law

FEATURES = ["log_return", "log_open", "garman_klass", "day_sin", "relative_volume", "volatility"]
IN_PLACES = ["up = (close / open - 1).sqrt()", "fell = 1 / (close < open)"]
"""Features that are undefined in some rows, by what the bars are."""
ROWS = 200
INNER = set(range(1, ROWS - 1))
SEEN = np.zeros(ROWS, dtype=bool)
EVALUATED: tuple[Stage, ...] = ("val", "test")


@st.composite
def date_splits(draw: st.DrawFn) -> Split:
    val = draw(st.integers(90, 130))
    test = draw(st.integers(val + 10, 180))
    return DateSplit(*(format_instant(START + row * HOUR) for row in (val, test)))


@st.composite
def walks(draw: st.DrawFn) -> Split:
    return WalkForward(
        train=draw(st.integers(60, 100)),
        val=draw(st.integers(0, 30)),
        test=draw(st.integers(5, 40)),
        step=draw(st.sampled_from([None, 7])),
        expanding=draw(st.booleans()),
        fold=draw(st.sampled_from([0, -1])),
    )


@st.composite
def combinations(draw: st.DrawFn) -> Split:
    tested = draw(st.integers(1, 2))
    groups = draw(st.integers(tested + 1, 5))
    split = CombinatorialPurged(groups, tested)
    return CombinatorialPurged(groups, tested, fold=draw(st.integers(0, split.n_folds - 1)))


@st.composite
def absences(draw: st.DrawFn, edges: list[int]) -> list[int]:
    """The rows of some holes, neither the first nor the last row, some next to an edge."""
    starts = st.integers(1, ROWS - 2)
    if edges:
        near = st.tuples(st.sampled_from(edges), st.integers(-4, 1)).map(sum)
        starts |= near.filter(lambda row: 1 <= row <= ROWS - 2)
    holes = draw(st.lists(st.tuples(starts, st.integers(1, 6)), max_size=5))
    return sorted({row for start, length in holes for row in range(start, start + length)} & INNER)


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    gaps = st.builds(Gapped, *[st.integers(0, 9)] * 3)
    split = draw(st.one_of(date_splits(), walks(), combinations(), gaps))
    try:
        fold = split.select_fold((START, START + ROWS * HOUR), HOUR)
        spans = (*fold.train, *fold.val, *fold.test)
        edges = sorted({(when - START) // HOUR for span in spans for when in span})
    except ConfigError:
        edges = []
    mask = draw(st.sampled_from(["bar", "feature"]))
    offered, shares = (FEATURES, [1.0, 0.6]) if mask == "bar" else (FEATURES + IN_PLACES, [0.1])
    return {
        "seed": draw(st.integers(0, 1000)),
        "absent": draw(absences(edges)),
        "absent_instead": draw(absences(edges)),
        "arguments": {
            "split": split,
            "features": draw(
                st.lists(st.sampled_from(offered), min_size=1, max_size=3, unique=True)
            ),
            "lookback": draw(st.integers(1, 12)),
            "horizon": draw(st.integers(1, 5)),
            "gap": draw(st.integers(0, 3)),
            "purge": draw(st.integers(0, 3)),
            "embargo": draw(st.integers(0, 6)),
            "context": draw(st.sampled_from(["allow", "strict"])),
            "scaling": draw(st.sampled_from(["train", "robust", "window", "none"])),
            "target_scaling": draw(st.sampled_from(["none", "train", "robust"])),
            "stride": draw(st.integers(1, 3)),
            "eval_stride": draw(st.sampled_from([None, 1, 3])),
            "max_fill": draw(st.integers(0, 3)),
            "mask": mask,
            "min_observed": draw(st.sampled_from(shares)),
            "seed": draw(st.integers(0, 5)),
            "batch_size": draw(st.integers(1, 8)),
        },
    }


def candles_of(case: dict[str, Any], blind: NDArray[np.bool_]) -> Candles:
    """The candles of a case. In the ``blind`` rows all bars are others, and others are there.

    The first and the last bar are always there: the grid is the same.
    """
    whole = random_hourly([True] * ROWS, case["seed"])
    columns = change_bars(whole.columns, 2.0, blind)
    kinds = ("absent_instead", "absent")
    present = ~np.where(blind, *(np.isin(np.arange(ROWS), case[kind]) for kind in kinds))
    return Candles(HOUR, {name: values[present] for name, values in columns.items()})


def built(case: dict[str, Any], folder: str, blind: NDArray[np.bool_] = SEEN) -> BTCDataModule:
    """A datamodule of the candles of a case.

    With blind rows val and test may be left without any window: train is there all the same.
    """
    candles = candles_of(case, blind)
    dm = BTCDataModule(source=InMemory(candles), data_dir=folder, **case["arguments"])
    dm.prepare_data()
    try:
        dm.setup()
    except ConfigError as error:
        if not blind.any() or "a stage without windows" not in str(error):
            raise
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


def next_present(case: dict[str, Any], row: int) -> int:
    """The first row at or after ``row`` that has a candle."""
    return next(later for later in range(row, ROWS + 1) if later not in case["absent"])


def first_shown(case: dict[str, Any], rows: range) -> int:
    """The first bar that rows show: that of the row itself, or the one that it repeats."""
    return next(row for row in range(rows[0], -1, -1) if row not in case["absent"])


def union(ranges: list[range]) -> set[int]:
    return {row for rows in ranges for row in rows}


@given(cases())
@settings(max_examples=12)
def test_no_other_bar_changes_anything_that_train_or_val_sees(case: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            clean = built(case, f"{folder}/clean")
        except ConfigError:
            return  # the holes have left a stage without windows
        fold, times = clean.fold, START + HOUR * np.arange(ROWS)
        others = times >= fold.train[-1][1]
        for start, end in (*fold.val, *fold.test):
            others |= (times >= start) & (times < end)
        blind = built(case, f"{folder}/train", others)

        assert same(batches(clean, "train"), batches(blind, "train"))
        assert clean.scaler == blind.scaler
        assert clean.target_scaler == blind.target_scaler
        assert clean.state_dict()["train_digest"] == blind.state_dict()["train_digest"]
        train = clean.describe().filter(stage="train")
        assert train.equals(blind.describe().filter(stage="train"))
        for span in fold.train:
            low, high = map(clean.table.find_row, span)
            low = next_present(case, low) + clean.table.warm_up
            for name in ("x", "observed"):
                one, other = (getattr(dm.table, name)[low:high] for dm in (clean, blind))
                assert one.tobytes() == other.tobytes()
        assert not same(batches(clean, "test"), batches(blind, "test")), "the probe works"

        if fold.val and fold.train[-1][1] <= fold.val[0][0]:
            blind = built(case, f"{folder}/val", times >= fold.val[-1][1])
            assert same(batches(clean, "train"), batches(blind, "train"))
            assert same(batches(clean, "val"), batches(blind, "val"))
            assert clean.scaler == blind.scaler
            assert clean.target_scaler == blind.target_scaler
            assert not same(batches(clean, "test"), batches(blind, "test")), "the probe works"


@law(cases(), examples=12, many=200)
def test_no_train_or_val_sample_touches_a_target_of_another_stage(case: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            dm = built(case, folder)
        except ConfigError:
            return
        fold = dm.fold
        targets = {stage: union(target_rows(dm, stage)) for stage in ("train", *EVALUATED)}
        inputs = {stage: input_rows(dm, stage) for stage in ("train", *EVALUATED)}
        train = targets["train"] | union(inputs["train"])
        assert not train & (targets["val"] | targets["test"])
        assert not targets["val"] & targets["test"]
        if fold.val:
            assert max(targets["val"] | union(inputs["val"])) < min(targets["test"])
        assert min(union([*inputs["train"], *inputs["test"]])) >= 0
        shown = {first_shown(case, rows) for rows in inputs["train"]}
        for start, end in (*fold.val, *fold.test):
            first, past = dm.table.find_row(start), dm.table.find_row(end)
            embargoed = next_present(case, past) + dm.settings.embargo
            assert not train & set(range(first, embargoed))
            assert not shown & set(range(first, past))
            assert not targets["train"] & set(range(first - dm.settings.purge, first))
        if dm.settings.context == "strict":
            for stage in EVALUATED:
                spans = [range(*(map(dm.table.find_row, span))) for span in fold.spans(stage)]
                for rows in inputs[stage]:
                    assert any(first_shown(case, rows) in span for span in spans)


@given(cases())
@settings(max_examples=8)
def test_every_bar_of_val_and_test_is_a_target_at_stride_1_and_once_at_the_horizon(
    case: dict[str, Any],
) -> None:
    """But for less than a horizon at the end of each span, where no bar is to count twice."""
    case["absent"] = []
    case["arguments"] |= {"purge": 0, "context": "allow", "undefined": "flag"}
    for stride in (1, None):
        case["arguments"]["eval_stride"] = stride
        with tempfile.TemporaryDirectory() as folder:
            try:
                dm = built(case, folder)
            except ConfigError:
                return
            for stage in EVALUATED:
                targets = target_rows(dm, stage)
                # A test group at the very start has no history to forecast from.
                history = dm.table.warm_up + dm.lookback + dm.shape.gap
                due: list[int] = []
                for span in dm.fold.spans(stage):
                    first, past = map(dm.table.find_row, span)
                    rows = range(max(first, history), past)
                    whole = len(rows) // dm.horizon * dm.horizon
                    due += rows[:whole] if stride is None else rows if whole else []
                assert sorted(union(targets)) == due
                if stride is None:
                    assert sum(map(len, targets)) == len(due), "each bar once"


def test_the_probe_finds_a_leak_that_is_there(tmp_path: Path) -> None:
    """The same comparison with a boundary one bar too late fails: it can find something."""
    val, test = (format_instant(START + row * HOUR) for row in (80, 110))
    settings = {"split": DateSplit(val, test), "features": ["log_return"], "lookback": 4}
    arguments = settings | {"batch_size": 2, "target_scaling": "train"}
    for instead in ([], [79]):  # another bar there, or none
        case = {"seed": 3, "absent": [], "absent_instead": instead, "arguments": arguments}
        clean = built(case, str(tmp_path / f"clean{instead}"))
        leaked = built(case, str(tmp_path / f"leaked{instead}"), np.arange(ROWS) >= 79)
        assert not same(batches(clean, "train"), batches(leaked, "train"))
        assert clean.scaler != leaked.scaler
        assert clean.target_scaler != leaked.target_scaler
