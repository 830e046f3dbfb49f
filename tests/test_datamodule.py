"""The datamodule through its whole life: with a Trainer, without, from a checkpoint."""

import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from lightning.pytorch import LightningModule

from btc_datamodule import (
    Batch,
    BTCDataError,
    BTCDataModule,
    Candles,
    Coinbase,
    ConfigError,
    DateSplit,
    Direction,
    DummyModule,
    Feature,
    FractionSplit,
    LogReturn,
    LookAheadError,
    NotPreparedError,
    Resampled,
    SimulatedFunding,
    Simulator,
    SourceError,
    StoreError,
)
from btc_datamodule.candles.timeline import format_instant
from tests.factories import (
    HOUR,
    START,
    InMemory,
    make_datamodule,
    make_model,
    make_trainer,
    random_hourly,
)

ROWS = 400


datamodule = partial(make_datamodule, ready=False)
prepared = make_datamodule
dummy = make_model
trainer = partial(make_trainer, enable_checkpointing=True)


def test_no_name_of_the_package_brings_in_more_than_lightning_does() -> None:
    """polars, httpx, h5py and plotting are imported when they are first used."""
    code = (
        "import sys, lightning.pytorch; before = set(sys.modules); import btc_datamodule as b; "
        "ours = [m for n, m in sys.modules.items() if n.startswith('btc_datamodule.')]; "
        "assert not [m for m in ours if hasattr(m, '__file__')]; "  # but names of 0.1
        "[getattr(b, name) for name in b.__all__]; b.BTCDataModule(); "
        "new = {m.partition('.')[0] for m in set(sys.modules) - before}; "
        "print(sorted({'polars', 'httpx', 'tenacity', 'h5py', 'matplotlib', 'ccxt'} & new))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_every_stage_runs_in_any_order_again_and_again(tmp_path: Path) -> None:
    dm = datamodule(tmp_path)
    model = dummy(dm)
    runner = trainer(tmp_path, max_epochs=1, enable_checkpointing=False)
    first = runner.predict(model, datamodule=dm)
    runner.test(model, datamodule=dm)
    runner.fit(model, datamodule=dm)
    runner.validate(model, datamodule=dm)
    (one,) = runner.test(model, datamodule=dm)
    (two,) = runner.test(model, datamodule=dm)
    second = runner.predict(model, datamodule=dm)
    assert one == two
    assert first is not None
    assert second is not None
    times = [torch.cat([batch["origin_time"] for batch in batches]) for batches in (first, second)]  # type: ignore[call-overload]
    assert torch.equal(*times)
    assert times[0][-1] == dm_last(dm), "the newest bar has a forecast"


def dm_last(dm: BTCDataModule) -> int:
    dm.setup()
    return dm.table.find_time(dm.table.rows - 1)


def test_what_sizes_a_model_is_known_without_data(tmp_path: Path) -> None:
    dm = datamodule(tmp_path, features=["log_return", "day_sin"], target=Direction())
    assert (dm.n_features, dm.lookback, dm.horizon, dm.target_shape) == (2, 12, 3, (1,))
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("target", [LogReturn(), Direction(0.001)])
def test_batches_have_the_shapes_and_types_they_promise(
    tmp_path: Path, target: LogReturn | Direction
) -> None:
    dm = prepared(tmp_path, target=target, features=["log_return", "log_range"])
    for loader in (dm.train_dataloader(), dm.val_dataloader(), dm.test_dataloader()):
        batch = next(iter(loader))
        assert isinstance(batch, Batch)
        assert batch.x.shape == (32, 12, 2)
        assert batch.y.shape == (32, *dm.target_shape)
        assert batch.observed.shape == (32, 12)
        assert batch.origin_time.shape == (32,)
        assert [field.dtype for field in batch] == [
            torch.float32,
            torch.float32,
            torch.bool,
            torch.int64,
        ]
        assert torch.isfinite(batch.y).all()
        assert torch.isfinite(batch.x).all()


def test_loaders_before_setup_say_what_to_call(tmp_path: Path) -> None:
    dm = datamodule(tmp_path)
    for ask in (dm.train_dataloader, dm.predict_dataloader, lambda: dm.dataset("val")):
        with pytest.raises(NotPreparedError, match=r"call prepare_data\(\) and setup\(\) first"):
            ask()
    with pytest.raises(NotPreparedError, match=r"candles\.h5 does not exist: run"):
        dm.setup()
    dm.prepare_data()
    with pytest.raises(NotPreparedError, match="no feature file for these settings"):
        datamodule(tmp_path, features=["log_range"]).setup()


def test_after_a_teardown_everything_can_still_be_asked_and_setup_changes_nothing(
    tmp_path: Path,
) -> None:
    dm = prepared(tmp_path)
    before = next(iter(dm.train_dataloader()))
    dm.teardown("fit")
    assert dm.describe()["stage"].to_list() == ["train", "val", "test", "predict"]
    dm.setup("test")
    after = next(iter(dm.train_dataloader()))
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_preparing_twice_downloads_and_builds_once(tmp_path: Path) -> None:
    dm = prepared(tmp_path)
    paths = (dm.candle_path, dm.table.path)
    before = [path.stat().st_mtime_ns for path in paths]
    dm.prepare_data()
    assert [path.stat().st_mtime_ns for path in paths] == before


def test_train_is_shuffled_anew_each_epoch_and_evaluation_is_in_order(tmp_path: Path) -> None:
    dm = prepared(tmp_path)
    loader = dm.train_dataloader()
    epochs = []
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        epochs.append(torch.cat([batch.origin_time for batch in loader]))
    assert not torch.equal(*epochs)
    assert not torch.equal(epochs[0], epochs[0].sort().values)
    for evaluation in (dm.val_dataloader(), dm.test_dataloader(), dm.predict_dataloader()):
        times = torch.cat([batch.origin_time for batch in evaluation])
        assert (times.diff() > 0).all()
        assert len(times) == len(evaluation.dataset)  # type: ignore[arg-type]


def test_the_trainer_advances_the_epoch_of_the_sampler(tmp_path: Path) -> None:
    seen: list[list[int]] = []

    class Recorder(DummyModule):
        def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
            if batch_idx == 0:
                seen.append(batch.origin_time.tolist())
            return super().training_step(batch, batch_idx)

    dm = datamodule(tmp_path)
    model = Recorder(dm.n_features, dm.lookback, dm.horizon)
    trainer(tmp_path, max_epochs=3, enable_checkpointing=False).fit(model, datamodule=dm)
    assert len({tuple(times) for times in seen}) == 3
    loader = dm_again(dm).train_dataloader()
    loader.sampler.set_epoch(2)  # type: ignore[attr-defined]
    assert next(iter(loader)).origin_time.tolist() == seen[2]


def test_after_a_fit_that_overfits_a_loader_made_by_hand_is_shuffled_again(tmp_path: Path) -> None:
    def first_epoch(loader: Any) -> list[int]:
        return [time for batch in loader for time in batch.origin_time.tolist()]

    seen: list[int] = []

    class Recorder(DummyModule):
        def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
            seen.extend(batch.origin_time.tolist())
            return super().training_step(batch, batch_idx)

    dm = prepared(tmp_path)
    before = first_epoch(dm.train_dataloader())
    assert before != sorted(before)
    runner = trainer(tmp_path, max_epochs=1, overfit_batches=2, enable_checkpointing=False)
    runner.fit(make_model(dm, Recorder), datamodule=dm)
    assert seen == dm.dataset("train")[np.arange(64)].origin_time.tolist(), "in order of time"
    assert dm.trainer is runner
    assert first_epoch(dm.train_dataloader()) == before


def dm_again(dm: BTCDataModule) -> BTCDataModule:
    dm.setup()
    return dm


def test_a_checkpoint_is_plain_and_gives_back_spans_and_statistics(tmp_path: Path) -> None:
    dm = datamodule(tmp_path)
    runner = trainer(tmp_path, max_epochs=1)
    model = dummy(dm)
    runner.fit(model, datamodule=dm)
    (before,) = runner.test(model, datamodule=dm)
    path = runner.checkpoint_callback.best_model_path  # type: ignore[union-attr]
    state = torch.load(path, weights_only=True)
    assert state["BTCDataModule"] == dm.state_dict()
    assert state["datamodule_hyper_parameters"]["source"] == {
        "class_path": "btc_datamodule.Simulator",
        "init_args": {"seed": 1, "no_trade": 0.0, "outages_per_year": 50.0, "coin": "BTC"},
    }

    again = datamodule(tmp_path)
    (after,) = trainer(tmp_path).test(dummy(again), datamodule=again, ckpt_path=path)
    assert after == before
    assert again.state_dict() == dm.state_dict()

    restored = BTCDataModule.load_from_checkpoint(path)
    restored.setup()
    assert restored.state_dict() == dm.state_dict()
    assert restored.source == dm.source
    assert restored.shape == dm.shape


def test_longer_candles_leave_the_spans_and_statistics_of_a_checkpoint(tmp_path: Path) -> None:
    trained = prepared(tmp_path)
    longer = prepared(tmp_path, end="2021-05-01")
    assert longer.fold != trained.fold
    longer.load_state_dict(trained.state_dict())
    assert longer.fold == trained.fold
    assert longer.scaler == trained.scaler
    ours, theirs = (next(iter(dm.test_dataloader())) for dm in (longer, trained))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_checkpoint_of_other_settings_is_refused_with_what_changed(tmp_path: Path) -> None:
    state = prepared(tmp_path).state_dict()
    other = prepared(tmp_path, features=["log_range"], horizon=2)
    with pytest.raises(
        ConfigError, match=r"features was \['log_return.*is \['log_range'\]; horizon was 3, is 2"
    ):
        other.load_state_dict(state)


def test_a_train_candle_that_changed_since_is_refused(tmp_path: Path) -> None:
    candles = random_hourly([True] * ROWS, seed=1)
    columns = {name: values.copy() for name, values in candles.columns.items()}
    columns["volume"][100] += 1
    changed = Candles(HOUR, columns)
    state = prepared(tmp_path / "a", source=InMemory(candles), start=None, end=None).state_dict()
    other = prepared(tmp_path / "b", source=InMemory(changed), start=None, end=None)
    with pytest.raises(StoreError, match="are not those that the statistics were fitted on"):
        other.load_state_dict(state)


def test_what_was_fitted_stays_when_candles_are_added_in_between(tmp_path: Path) -> None:
    source = InMemory(random_hourly([True] * ROWS, seed=1))
    split = FractionSplit()
    dm = prepared(tmp_path, source=source, start=None, end=None, split=split)
    fold, scaler = dm.fold, dm.scaler
    more = InMemory(random_hourly([True] * (ROWS + 50), seed=1))
    dm.settings = replace(dm.settings, source=more)
    (tmp_path / "data/memory/memory/1h/candles.h5").unlink()
    dm.prepare_data()
    dm.setup("test")
    assert dm.table.rows == ROWS + 50
    assert (dm.fold, dm.scaler) == (fold, scaler)


def test_state_loaded_before_setup_is_used_and_checked(tmp_path: Path) -> None:
    trained = prepared(tmp_path)
    dm = datamodule(tmp_path, end="2021-05-01")
    dm.load_state_dict(trained.state_dict())
    dm.prepare_data()
    dm.setup()
    assert dm.fold == trained.fold
    assert BTCDataModule().state_dict() == {}
    BTCDataModule().load_state_dict({})


def test_only_the_asked_span_is_used_when_the_file_holds_more(tmp_path: Path) -> None:
    wide = prepared(tmp_path, start="2021-02-01", end="2021-05-01")
    narrow = prepared(tmp_path)
    assert wide.candle_path == narrow.candle_path
    assert narrow.table.find_time(0) == 1_614_556_800  # 2021-03-01
    assert narrow.table.find_time(narrow.table.rows) == 1_617_235_200  # 2021-04-01


def test_a_user_feature_is_built_checked_and_rebuilt_when_it_changes(tmp_path: Path) -> None:
    slow = Feature("slow", 3, lambda bars: bars["close"].rolling_mean(3))
    dm = prepared(tmp_path, features=["log_return", slow], scaling="none")
    quick = Feature("slow", 3, lambda bars: bars["close"].rolling_mean(2))
    other = prepared(tmp_path, features=["log_return", slow])
    assert (dm.n_features, other.table.path) == (2, dm.table.path)
    values = dm.table.bars("close")
    expected = (values[2:] + values[1:-1] + values[:-2]) / 3
    seen = dm.table.observed[2:] == 1
    np.testing.assert_allclose(dm.table.x[2:, 1][seen], expected[seen], rtol=1e-6)
    assert quick.definition().startswith("slow:3:")


def test_hyperparameters_do_not_clash_with_those_of_the_model(tmp_path: Path) -> None:
    dm = datamodule(tmp_path)
    runner = trainer(tmp_path, max_epochs=1, logger=True, limit_train_batches=2)
    runner.fit(dummy(dm), datamodule=dm)
    logged = (tmp_path / "lightning_logs/version_0/hparams.yaml").read_text()
    assert "lookback: 12" in logged
    assert "Simulator" in logged


def test_a_model_of_ones_own_needs_nothing_but_the_batch(tmp_path: Path) -> None:
    class Mean(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.bias = torch.nn.Parameter(torch.zeros(()))

        def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
            return (batch.y - self.bias).square().mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    runner = trainer(tmp_path, max_epochs=1, enable_checkpointing=False)
    runner.fit(Mean(), datamodule=datamodule(tmp_path))
    assert runner.global_step > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0: it must be a whole number from 1 up"),
        ({"lookback": 0}, "lookback is 0: it must be a whole number from 1 up"),
        ({"horizon": -1}, "horizon is -1"),
        ({"gap": -1}, "gap is -1: it must be a whole number from 0 up"),
        ({"stride": 0}, "stride is 0"),
        ({"num_workers": -1}, "num_workers is -1"),
        ({"min_observed": 0}, r"min_observed is 0: it must be a number in \(0, 1\]"),
        ({"shuffle": "some"}, "shuffle is 'some': choose one of full, block, none"),
        ({"scaling": "minmax"}, "scaling is 'minmax': choose one of train, robust, window, none"),
        ({"features": []}, "features is empty"),
        ({"features": ["log_retrun"]}, "did you mean 'log_return'.*known features: log_return, "),
        ({"interval": "1 hour"}, "interval '1 hour' is not understood"),
        ({"interval": "90s", "source": Coinbase()}, "coinbase has no bars of 90s"),
        ({"offset": "1h"}, "offset .1h. is no length of time .* shorter than the interval, 1h"),
        ({"start": "yesterday"}, "start 'yesterday' is not an ISO 8601 time"),
        ({"start": "2021-04-01"}, "the range is empty: start 2021-04-01T00:00:00Z is not before"),
    ],
)
def test_a_wrong_argument_is_named(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message) as caught:
        datamodule(tmp_path, **arguments)
    assert issubclass(caught.type, BTCDataError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"split": DateSplit(val="2021-03-30", test="2021-03-31T22:00")},
            r"leaves a stage without windows \(train \d+, val \d+, test 0, of 744 bars, \d+ of",
        ),
        ({"lookback": 1000}, "a sample needs 1004 bars .* and there are 744: shorten `lookback`"),
        ({"batch_size": 10_000}, "train has fewer windows than one batch"),
        (
            {"split": DateSplit(val="2022-01-01", test="2022-02-01")},
            "must lie inside the candles, 2021-03-01T00:00:00Z to 2021-04-01T00:00:00Z",
        ),
    ],
)
def test_settings_that_leave_nothing_to_train_on_say_what_to_change(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    dm = datamodule(tmp_path, source=Simulator(), **arguments)
    dm.prepare_data()
    with pytest.raises(ConfigError, match=message):
        dm.setup()


def test_a_range_without_candles_says_what_there_is(tmp_path: Path) -> None:
    source = InMemory(random_hourly([True] * ROWS, seed=1))
    dm = datamodule(tmp_path, source=source, start="2020-06-01", end="2020-07-01")
    with pytest.raises(SourceError, match=r"asked from 2020-06-01.*no candles there.*`start`"):
        dm.prepare_data()
    datamodule(tmp_path, source=source, start=None, end=None).prepare_data()
    with pytest.raises(ConfigError, match=r"no candles between 2020-06-01.*change `start`"):
        dm.prepare_data()


def test_a_feature_of_a_column_that_the_source_lacks_is_named(tmp_path: Path) -> None:
    source = InMemory(random_hourly([True] * ROWS, seed=1))
    dm = datamodule(tmp_path, source=source, start=None, end=None, features=["taker_share"])
    with pytest.raises(ConfigError, match=r"'taker_share' needs taker_buy_volume.*'memory'"):
        dm.prepare_data()


def test_too_many_outages_for_the_lookback_name_the_ways_out(tmp_path: Path) -> None:
    present = np.arange(ROWS) % 10 != 0
    present[[0, -1]] = True
    source = InMemory(random_hourly(present.tolist(), seed=1))
    arguments: dict[str, Any] = {"source": source, "start": None, "end": None}
    split = DateSplit(
        val=format_instant(START + 300 * HOUR), test=format_instant(START + 350 * HOUR)
    )
    dm = datamodule(tmp_path, max_fill=0, split=split, **arguments)
    dm.prepare_data()
    with pytest.raises(ConfigError, match=r"raise `max_fill` or lower `min_observed`"):
        dm.setup()
    assert len(prepared(tmp_path, max_fill=1, split=split, **arguments).dataset("train")) > 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": "btc.csv"}, r"source is 'btc.csv': for a file write CandleFile\('btc.csv'\)"),
        (
            {"source": pl.DataFrame({"close": [1.0]})},
            r"^source is of type polars.DataFrame: .* write CandleFrame\(frame\)",
        ),
        *(
            ({"source": beside}, rf"^source is {name}, which stands beside candles: give")
            for name, beside in (
                ("SimulatedFunding", SimulatedFunding()),
                ("SimulatedFunding", SimulatedFunding),
                ("Resampled", Resampled("4h")),
            )
        ),
        ({"target": LogReturn}, r"target is the class LogReturn: give an object, with \(\) after"),
        ({"target": [1.0]}, r"target is of type list: it must be an object such as LogReturn\(\)"),
        ({"split": 0.2}, r"split is 0\.2: it must be an object such as FractionSplit\(\)"),
    ],
)
def test_what_is_no_source_target_or_split_is_refused(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        datamodule(tmp_path, **arguments)


@pytest.mark.parametrize("transform", ["torch.nn.functional.relu", 5])
def test_a_transform_that_is_no_function_is_refused_at_once(tmp_path: Path, transform: Any) -> None:
    with pytest.raises(ConfigError, match=f"transform is {transform!r}: give a function itself"):
        datamodule(tmp_path, transform=transform)


def test_a_transform_that_returns_nothing_is_told_to_return_a_batch(tmp_path: Path) -> None:
    def forget(batch: Batch) -> None:
        batch.x.mul_(2)

    data = prepared(tmp_path, transform=forget)
    with pytest.raises(ConfigError, match="transform forget returned None: it must return a Batch"):
        data.dataset("train")[0]
    prepared(tmp_path, transform=Batch._asdict).dataset("train")[0]["x"]  # type: ignore[call-overload]


def test_a_stage_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no stage 'trian': choose one of train, val, test"):
        prepared(tmp_path).dataset("trian")  # type: ignore[arg-type]


def test_a_damaged_feature_file_is_made_again(tmp_path: Path) -> None:
    dm = prepared(tmp_path)
    path = dm.table.path
    whole = path.read_bytes()
    path.write_bytes(whole[:3000])
    dm.prepare_data()
    dm.setup()
    assert path.read_bytes() == whole


@pytest.mark.parametrize("threshold", [0.01, 0.02, 0.03, 0.04])
def test_a_feature_that_peeks_only_at_rare_large_moves_is_found(
    tmp_path: Path, threshold: float
) -> None:
    def rare(bars: pl.DataFrame) -> pl.Series:
        coming = bars["close"].shift(-1) / bars["close"] - 1
        return coming.set(coming.abs() <= threshold, 0.0).fill_null(0.0)

    arguments: dict[str, Any] = {"start": "2020-01-01", "end": "2022-06-15", "source": Simulator()}
    dm = datamodule(tmp_path, features=["log_return", Feature("rare", 2, rare)], **arguments)
    with pytest.raises(LookAheadError, match=r"feature 'rare' at 202.*: it looks ahead"):
        dm.prepare_data()


@pytest.mark.parametrize(
    ("compute", "message"),
    [
        (lambda bars: bars["clse"], "'odd' failed: ColumnNotFoundError"),
        (lambda bars: bars["close"].to_numpy(), "'odd' must give a polars Series of .*: ndarray"),
        (lambda bars: pl.col("close"), "'odd' must give a polars Series of numbers: Expr"),
        (lambda bars: bars["close"].cast(pl.String), "'odd' must give .* of numbers: String"),
    ],
)
def test_a_feature_that_gives_no_numbers_is_named(
    tmp_path: Path, compute: Any, message: str
) -> None:
    dm = datamodule(tmp_path, features=["log_return", Feature("odd", 1, compute)])
    with pytest.raises(ConfigError, match=message):
        dm.prepare_data()


def test_a_checkpoint_does_not_care_where_the_same_candles_come_from(tmp_path: Path) -> None:
    candles = random_hourly([True] * ROWS, seed=1)
    here = prepared(tmp_path / "a", source=InMemory(candles, "here"), start=None, end=None)
    there = prepared(tmp_path / "b", source=InMemory(candles, "there"), start=None, end=None)
    there.load_state_dict(here.state_dict())
    assert there.scaler == here.scaler
