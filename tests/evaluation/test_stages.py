"""What stages hand out: predict what a live run has, val and test each target bar once."""

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

from btc_datamodule import BTCDataModule, Candles, DateSplit, FractionSplit, Simulator
from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.evaluation.origins import SampleShape, find_origins
from btc_datamodule.evaluation.unseen import find_unseen
from btc_datamodule.features.build import build
from btc_datamodule.features.table import Table
from tests.evaluation.folds import outages_of
from tests.factories import HOUR, START, InMemory, make_datamodule, random_hourly
from tests.features.tables import recipe
from tests.helpers import write
from tests.marks import keep_some, law

# --- predict, and a run at each bar's close -----------------------------------------------------

BARS = 120
FIRST = 84
"""The first bar that a live run is made at. All are there in the 14 before it, which test needs."""


@cache
def thin() -> tuple[bool, ...]:
    """Which bars there are: from ``FIRST`` on holes of one to four bars, with few between."""
    present = np.ones(BARS, dtype=bool)
    for hole in ((20, 22), (40, 45), (86, 87), (94, 96), (103, 107), (113, 116)):
        present[slice(*hole)] = False
    return tuple(present.tolist())


def up_to(last: int) -> Candles:
    """The candles whose bars open no later than row ``last``."""
    return random_hourly(thin(), seed=8).slice(START, START + (last + 1) * HOUR)


def live(folder: Path, last: int, **arguments: Any) -> BTCDataModule:
    """A datamodule at the close of bar ``last``."""
    val, test = (format_instant(START + row * HOUR) for row in (50, 70))
    return make_datamodule(
        folder / str(last),
        source=InMemory(up_to(last)),
        split=DateSplit(val, test),
        features=["log_return", "log_volume", "trend = close / close.shift(3) - 1"],
        lookback=3,
        horizon=2,
        eval_stride=1,
        batch_size=4,
        **arguments,
    )


@pytest.mark.parametrize("min_observed", keep_some([0.6, 1.0], 2))
@pytest.mark.parametrize(("max_fill", "gap"), keep_some([(3, 2), (0, 0), (1, 0), (3, 0)], 4))
def test_predict_has_the_origins_and_inputs_that_a_run_at_each_bars_close_has(
    tmp_path: Path, min_observed: float, max_fill: int, gap: int
) -> None:
    closes = [row for row in range(FIRST, BARS) if thin()[row]]
    assert len(closes) >= 20
    arguments: dict[str, Any] = {"max_fill": max_fill, "min_observed": min_observed, "gap": gap}
    windows = live(tmp_path, BARS - 1, **arguments).dataset("predict")
    every = windows[np.arange(len(windows))]
    found = ((every.origin_time - START) // HOUR).tolist()
    made = []
    for row in closes:
        now = live(tmp_path, row, **arguments)
        assert now.table.rows == row + 1
        forecasts = now.dataset("predict")
        newest = forecasts[len(forecasts) - 1]
        if newest.origin_time == START + row * HOUR:
            made.append(row)
            same = found.index(row)
            for name in ("x", "observed"):
                one, other = (getattr(each, name) for each in (newest, every))
                assert one.numpy().tobytes() == other[same].numpy().tobytes()
            assert torch.isnan(newest.y).all()
    assert made == [row for row in found if row >= FIRST]
    assert 5 < len(made) <= len(closes)


@law(
    st.lists(st.booleans(), max_size=50),
    st.integers(0, 4),
    st.sampled_from([1.0, 0.6, 0.2]),
    st.integers(1, 6),
    st.data(),
    examples=20,
    many=200,
)
def test_whether_a_bar_is_an_origin_of_predict_and_what_it_is_made_of_is_known_at_its_close(
    mask: list[bool], max_fill: int, min_observed: float, lookback: int, data: st.DataObject
) -> None:
    whole = random_hourly([True, *mask, True], seed=2)
    last = data.draw(st.sampled_from(whole.open_time.tolist()[1:]), label="close")
    made = recipe(max_fill=max_fill)

    def predict(folder: str, candles: Candles) -> tuple[Table, list[int]]:
        table = Table.open(build(write(Path(folder, "candles.h5"), candles), made))
        runs = find_origins(
            SampleShape(lookback, horizon=3),
            span=(0, 2**40),
            rows=table.rows,
            warm_up=table.warm_up,
            min_observed=min_observed,
            holes=table.holes,
            outages=table.outages,
            unseen=find_unseen(table),
            need_target=False,
        ).runs
        return table, [row for low, high in runs.tolist() for row in range(low, high)]

    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        table, origins = predict(one, whole)
        now, of_now = predict(other, whole.slice(START, last + HOUR))
        assert of_now == [row for row in origins if row < now.rows]
        for name in ("x", "observed", "open", "high", "low", "close", "volume"):
            rows = table.array(name)[: now.rows]
            assert rows.tobytes() == now.array(name).tobytes(), name


# --- which bars are scored ----------------------------------------------------------------------


@pytest.mark.parametrize("context", ["allow", "strict"])
@pytest.mark.parametrize(("horizon", "gap"), [(24, 0), (24, 5), (7, 0)])
def test_at_a_stride_of_the_horizon_each_target_bar_is_in_one_window_and_the_others_are_counted(
    tmp_path: Path, horizon: int, gap: int, context: str
) -> None:
    dm = make_datamodule(
        tmp_path,
        source=Simulator(seed=1, no_trade=0.01, outages_per_year=40),
        start="2020-01-01",
        end="2021-01-01",
        split=FractionSplit(0.3, 0.3),
        horizon=horizon,
        gap=gap,
        context=context,
    )
    first, rows = dm.table.first, dm.table.rows
    present = np.ones(rows, dtype=bool)
    for low, high in dm.table.holes.tolist():
        present[low:high] = False
    outage = outages_of(present.tolist(), 3)
    np.testing.assert_array_equal(np.isnan(dm.table.bars("close")), outage)
    unseen = outage | np.concatenate([[True], outage[:-1]])  # the return after it, too
    for stage in ("val", "test"):
        (span,) = dm.fold.spans(stage)
        low, high = ((when - first) // HOUR for when in span)
        wall = low + int(np.argmax(present[low:])) if context == "strict" else 0
        eligible = [
            origin
            for origin in range(low - 1 - gap, high - gap - horizon)
            if origin - dm.lookback >= wall
            and present[origin]
            and not unseen[origin - dm.lookback + 1 : origin + 1].any()
            and not outage[origin + gap : origin + gap + 1 + horizon].any()
        ]
        check_scored(dm, stage, np.array(eligible), horizon, gap)


def check_scored(
    dm: BTCDataModule, stage: Any, eligible: NDArray[np.int64], horizon: int, gap: int
) -> None:
    windows = dm.dataset(stage)
    batch = windows[np.arange(len(windows))]
    origins = ((batch.origin_time.numpy() - dm.table.first) // HOUR).tolist()
    taken: list[int] = []
    for origin in eligible.tolist():
        if not taken or origin >= taken[-1] + horizon:
            taken.append(origin)
    assert origins == taken
    ahead = np.arange(1 + gap, 1 + gap + horizon)
    scored = [row for origin in taken for row in (origin + ahead).tolist()]
    assert len(scored) == len(set(scored)), "each target bar in one window"
    could_be = set(np.add.outer(eligible, ahead).ravel().tolist())
    (row,) = dm.describe().filter(stage=stage).to_dicts()
    assert row["eligible"] == len(eligible)
    assert (row["scored"], row["unscored"]) == (len(scored), len(could_be - set(scored)))
    assert row["unscored"] > 0
    close = dm.table.bars("close")
    returns = [np.log(close[bar] / close[bar - 1]) for bar in scored]
    np.testing.assert_allclose(batch.y.reshape(-1), returns, rtol=1e-5, atol=1e-8)
