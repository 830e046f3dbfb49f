"""``mask: feature``: statistics of each feature, origins by each, nothing of what comes later."""

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from btc_datamodule import BTCDataModule, Candles, ConfigError, FractionSplit, Simulator, StoreError
from btc_datamodule.evaluation.fitted import ObservedRows
from btc_datamodule.evaluation.scaling import NORMAL_IQR, Scaler, Scaling
from btc_datamodule.evaluation.splits import Stage
from btc_datamodule.features import layout
from btc_datamodule.features.moments import Moments
from btc_datamodule.features.varying import change_bars
from tests.factories import HOUR, T0, InMemory, candles_of, make_datamodule
from tests.features.tables import PATCHY

FEATURES = ["log_return", "quiet = volume.log()", PATCHY, "day_sin"]
EVALUATED: tuple[Stage, ...] = ("train", "val", "test")

make = partial(
    make_datamodule,
    source=Simulator(seed=5, no_trade=0.1, outages_per_year=100),
    features=FEATURES,
    mask="feature",
    min_observed=0.3,
    split=FractionSplit(0.2, 0.2),
)


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "SEGMENT_ROWS", 64)


@pytest.fixture(autouse=True)
def quiet() -> Any:
    """That windows are left out is meant here."""
    with warnings.catch_warnings():
        for message in ("windows are left out", "`mask: feature` with"):
            warnings.filterwarnings("ignore", message=message)
        yield


def counted(dm: BTCDataModule, column: int, rows: slice) -> NDArray[np.float64]:
    """The observed values of a feature in some rows."""
    seen = dm.table.observed[rows, column] == 1
    values: NDArray[np.float64] = dm.table.x[rows, column][seen].astype(np.float64)
    return values[~np.isnan(values)]


# --- statistics ---------------------------------------------------------------------------------


@given(st.integers(0, 9999), st.lists(st.integers(0, 400), max_size=4))
@settings(max_examples=50)
def test_statistics_are_those_of_the_values_that_count_whatever_the_parts(
    seed: int, cuts: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal([0, 6e4, 1], [1e-3, 20, 0], (400, 3)).astype(np.float32)
    rows[rng.random((400, 3)) < [0.9, 0.3, 0.5]] = np.nan
    rows[:, rng.random(3) < 0.1] = np.nan  # of a feature that never is observed
    parts = np.split(rows, sorted(cuts))
    exact = [column[~np.isnan(column)] for column in rows.T.astype(np.float64)]
    merged = Moments.merge(map(Moments.of, parts), 3)
    robust = Scaler.fit("robust", lambda: parts, 3)
    for feature, values in enumerate(exact):
        assert merged.n[feature] == len(values)
        if not len(values):
            assert (merged.mean[feature], merged.squares[feature]) == (0, 0)
            assert (robust.center[feature], robust.scale[feature]) == (0, 1)
            continue
        assert merged.mean[feature] == pytest.approx(values.mean(), rel=1e-12)
        assert merged.deviation[feature] == pytest.approx(values.std(), rel=1e-9, abs=1e-15)
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
        assert robust.center[feature] == middle
        if high - low > 1e-6 * abs(middle):
            assert robust.scale[feature] == pytest.approx((high - low) / NORMAL_IQR, rel=1e-12)


@pytest.mark.each_value
@pytest.mark.parametrize("undefined", ["drop", "flag"])
@pytest.mark.parametrize("scaling", ["train", "robust", "window"])
def test_the_scaler_has_what_is_observed_of_each_feature_in_train(
    tmp_path: Path, scaling: Scaling, undefined: str
) -> None:
    dm = make(tmp_path, scaling=scaling, undefined=undefined, purge=3)
    train = slice(0, dm.table.find_row(dm.fold.train[0][1]) - 3)
    found = ObservedRows(dm.table, [(0, train.stop)]).moments()
    counts = [len(counted(dm, column, train)) for column in range(len(FEATURES))]
    assert found.n[: len(FEATURES)].tolist() == counts
    assert len(set(counts)) > 2, "each has its own"
    for column in range(len(FEATURES)):
        values = counted(dm, column, train)
        center, scale = values.mean(), values.std()
        if scaling == "robust":
            low, center, high = np.quantile(values, [0.25, 0.5, 0.75])
            scale = (high - low) / NORMAL_IQR
        assert dm.scaler.center[column] == (
            0 if scaling == "window" else pytest.approx(center, rel=1e-9, abs=1e-12)
        )
        assert dm.scaler.scale[column] == pytest.approx(scale, rel=1e-9)
    if undefined == "flag":
        assert (dm.scaler.center[-1], dm.scaler.scale[-1]) == (0, 1)


# --- origins ------------------------------------------------------------------------------------


@pytest.mark.each_value
@pytest.mark.parametrize("undefined", ["drop", "flag"])
@pytest.mark.parametrize("min_observed", [0.2, 0.4, 1.0])
@pytest.mark.parametrize("lookback", [1, 12])
def test_of_each_feature_the_least_share_of_the_inputs_is_observed_and_the_origin_has_a_candle(
    tmp_path: Path, min_observed: float, lookback: int, undefined: str
) -> None:
    dm = make(
        tmp_path,
        min_observed=min_observed,
        lookback=lookback,
        horizon=1,
        batch_size=1,
        undefined=undefined,
        ready=False,
    )
    dm.prepare_data()
    try:
        dm.setup()
    except ConfigError:  # patchy is observed in two bars of five
        assert undefined == "drop"
        assert min_observed > 0.4
        assert lookback > 1
        return
    table = dm.table
    present = np.ones(table.rows, dtype=bool)
    for low, high in table.holes.tolist():
        present[low:high] = False
    known = np.isfinite(table.bars("close"))
    for stage in EVALUATED:
        ((start, end),) = dm.fold.spans(stage)
        first = table.warm_up if stage == "train" else 0
        due = [
            origin
            for origin in range(max(table.find_row(start), table.warm_up) - 1, table.rows - 1)
            if start <= table.find_time(origin + 1) < end
            and origin - lookback + 1 >= max(first, table.warm_up)
            and present[origin]
            and known[origin : origin + 2].all()
            and (
                table.observed[origin - lookback + 1 : origin + 1].sum(axis=0)
                >= min_observed * lookback - 1e-9
            ).all()
        ]
        windows = dm.dataset(stage)
        assert windows.origins[np.arange(len(windows))].tolist() == due
    told = dm.describe()
    reasons = ["eligible", "end", "history", "embargo", "target", "origin", "inputs", "undefined"]
    for row in told.filter(told["stage"] != "predict").to_dicts():
        assert row["bars"] == sum(row[name] for name in reasons)
    if undefined == "flag":
        assert told["undefined"].sum() == 0


def test_no_window_of_a_mask_of_bars_is_lost_by_one_of_features(tmp_path: Path) -> None:
    given: dict[str, Any] = {"features": ["log_return", "quiet = volume.log()", "volatility"]}
    for share in (1.0, 0.5):
        bars, features = (
            make(tmp_path, mask=mask, min_observed=share, eval_stride=1, **given)
            for mask in ("bar", "feature")
        )
        more = 0
        for stage in EVALUATED:
            fewer, kept = (
                {*each.origins[np.arange(len(each))].tolist()}
                for each in (bars.dataset(stage), features.dataset(stage))
            )
            assert fewer <= kept
            more += len(kept - fewer)
        assert (share == 1) == (more == 0)


def test_a_window_that_is_left_out_is_told_of(tmp_path: Path) -> None:
    dm = make(tmp_path, min_observed=0.4, lookback=4, ready=False)
    dm.prepare_data()
    with pytest.warns(UserWarning, match=r"windows are left out .*patchy in"):
        dm.setup()


# --- what is known ------------------------------------------------------------------------------


def test_nothing_after_the_boundary_changes_train_or_val(tmp_path: Path) -> None:
    rows = np.arange(500)
    present = (rows % 97 != 0) | (rows == 0)
    whole = candles_of(present)
    volume = np.where(rows[present] % 11 == 0, 0.0, whole["volume"])
    columns = {**whole.columns, "volume": volume}
    features = ["log_return", "quiet = volume.log()", "up = (close / open - 1).sqrt()"]

    def made(name: str, since: int | None) -> BTCDataModule:
        candles = Candles(HOUR, columns)
        if since is not None:  # other bars, another mask, other holes
            others = candles.open_time >= T0 + since * HOUR
            changed = change_bars(columns, 2.0, others)
            changed["volume"] = np.where(others, columns["volume"][::-1], columns["volume"])
            kept = ~others | (np.arange(len(others)) % 13 != 0)
            kept[-1] = True
            candles = Candles(HOUR, {key: values[kept] for key, values in changed.items()})
        return make(tmp_path / name, source=InMemory(candles), features=features, scaling="robust")

    clean = made("clean", None)
    edges = [clean.table.find_row(end) for _, end in (clean.fold.train[-1], clean.fold.val[-1])]
    for stage, edge in zip(("train", "val"), edges, strict=True):
        blind = made(stage, edge)
        seen: list[Stage] = ["train"] if stage == "train" else ["train", "val"]
        for each in seen:
            ours, theirs = [
                dm.dataset(each)[np.arange(len(dm.dataset(each)))] for dm in (clean, blind)
            ]
            assert 0 < ours.observed.float().mean() < 1
            for one, other in zip(ours, theirs, strict=True):
                assert one.numpy().tobytes() == other.numpy().tobytes()
        assert clean.state_dict() == blind.state_dict()
        low = clean.table.warm_up
        for name in ("x", "observed"):
            mine, other_rows = (np.array(dm.table.array(name)) for dm in (clean, blind))
            assert mine[low:edge].tobytes() == other_rows[low:edge].tobytes()
            assert mine[edge:].tobytes() != other_rows[edge:].tobytes(), "the probe works"


def test_the_audit_holds_and_looks_at_cells(tmp_path: Path) -> None:
    for undefined in ("drop", "flag"):
        found = make(tmp_path, undefined=undefined).audit(ask_source=False)
        assert found.passed, found
        assert not found.unchecked


# --- checkpoints --------------------------------------------------------------------------------


def test_a_checkpoint_tells_its_mask_and_one_from_before_there_was_one_goes_on(
    tmp_path: Path,
) -> None:
    given: dict[str, Any] = {"features": ["log_return", "volatility"]}
    bars, features = (make(tmp_path, mask=mask, **given) for mask in ("bar", "feature"))
    kept = bars.state_dict()
    assert kept["settings"]["mask"] == "bar"
    with pytest.raises(ConfigError, match="mask was 'bar', is 'feature'"):
        features.load_state_dict(kept)
    del kept["settings"]["mask"]
    make(tmp_path, mask="bar", **given).load_state_dict(kept)
    with pytest.raises(StoreError, match="are not those that the statistics were fitted on"):
        features.load_state_dict(kept)


def test_another_mask_is_an_error_and_one_that_changes_nothing_a_warning() -> None:
    with pytest.raises(ConfigError, match="mask is 'cell': choose one of bar, feature"):
        BTCDataModule(mask="cell")  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="lower `min_observed` for those in which some are not"):
        BTCDataModule(mask="feature")
