"""All folds: each by itself, the same whatever is run beside it, and gone on with when stopped."""

import json
import os
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from btc_datamodule import (
    Batch,
    BTCDataModule,
    CombinatorialPurged,
    ConfigError,
    DummyModule,
    FractionSplit,
    PredictionWriter,
    run_folds,
)
from btc_datamodule.disk.lock import hold_lock
from btc_datamodule.folds import run as run_module
from btc_datamodule.folds.record import read_record
from btc_datamodule.folds.results import FoldRuns
from tests.factories import InMemory, candles_of, make_trainer
from tests.folds.models import keep_best, keep_none, make_data, make_model, run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("folds")


@pytest.fixture(scope="module")
def whole(folder: Path) -> FoldRuns:
    return run(folder, keep_best, prices=True)


def read(found: FoldRuns, fold: int) -> pl.DataFrame:
    return pl.read_parquet(found.forecasts).filter(pl.col("fold") == fold)


# --- what comes of all folds ----------------------------------------------------------------------


def test_each_fold_is_fitted_tested_and_predicted_with_its_best_checkpoint(
    whole: FoldRuns, folder: Path
) -> None:
    dm = make_data(folder)
    dm.setup()
    assert list(whole.records) == [0, 1, 2, 3] == list(range(dm.n_folds))
    for fold, record in whole.records.items():
        one = dm.with_fold(fold)
        one.setup()
        assert whole.spans[fold] == one.fold
        (path,) = (folder / "out" / f"fold_{fold:03d}" / "best").glob("*.ckpt")
        assert record.checkpoint == str(path)
        model = DummyModule.load_from_checkpoint(path, weights_only=True)
        assert record.metrics == pytest.approx(
            make_trainer(folder).test(model, datamodule=one, verbose=False)[0]
        )
        batch = one.dataset("predict")[:]
        told = read(whole, fold)
        times = told["origin_time"].dt.epoch("s").to_numpy()
        np.testing.assert_array_equal(times, batch.origin_time)
        forecast = model(batch.x).detach().numpy()
        np.testing.assert_allclose(told["forecast_0"].to_numpy(), forecast[:, 0], rtol=1e-5)
        prices = one.to_prices(forecast, batch.origin_time)[:, 0]
        np.testing.assert_allclose(told["forecast_price_0"].to_numpy(), prices, rtol=1e-6)


def test_the_score_is_that_of_the_joined_file_and_of_all_files(
    whole: FoldRuns, folder: Path
) -> None:
    dm = make_data(folder)
    dm.setup()
    assert whole.card is not None
    by_fold = whole.card.by("fold")
    assert by_fold["fold"].to_list() == ["0", "1", "2", "3"]
    files = [folder / "out" / f"fold_{fold:03d}" / "forecasts.parquet" for fold in range(4)]
    for card in (
        dm.score(whole.forecasts),
        dm.score([f"forecasts={whole.forecasts}"]),
        dm.score(pl.read_parquet(whole.forecasts).rename({"forecast_0": "forecasts_0"})),
        dm.score({"forecasts": dict(enumerate(files))}),
    ):
        assert card.by("fold").drop("forecast").equals(by_fold.drop("forecast"))


def test_they_print_as_a_table_and_a_score(whole: FoldRuns) -> None:
    text = str(whole)
    assert text.startswith("fold")
    assert text.splitlines()[0].split() == ["fold", "test", "epochs", "steps", "test_loss"]
    assert "test, fold 0, 1, 2, 3: " in text
    assert "in units of their own train span" in text
    assert text.endswith(f"forecasts: {whole.forecasts}")
    assert whole.metrics.columns == ["fold", "test", "epochs", "steps", "checkpoint", "test_loss"]
    assert whole.metrics["epochs"].to_list() == [2, 2, 2, 2]


# --- nothing goes from one fold to the next -------------------------------------------------------


def test_a_fold_by_itself_gives_what_it_gives_among_others(whole: FoldRuns, folder: Path) -> None:
    alone = run(folder, keep_best, "alone", folds=[2, 2], prices=True)
    assert list(alone.records) == [2]
    assert read(alone, 2).equals(read(whole, 2))
    assert alone.records[2].metrics == whole.records[2].metrics
    other = run(folder, keep_best, "other", folds=[2], prices=True, seed=1)
    assert not read(other, 2).equals(read(whole, 2))


class Watch(Callback):
    """Notes what a fit begins with."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        weights = [each.detach().clone() for each in pl_module.parameters()]
        (optimizer,) = trainer.optimizers
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self.seen.append((weights, dict(optimizer.state), trainer.global_step, data.scaler))


def test_a_fit_begins_with_weights_optimizer_and_statistics_of_its_own(folder: Path) -> None:
    watch = Watch()
    found = run(
        folder, lambda where: make_trainer(where, watch, max_epochs=1), "watched", folds=[0, 1]
    )
    dm = make_data(folder)
    dm.setup()
    assert len(watch.seen) == 2
    for fold, (weights, state, step, scaler) in enumerate(watch.seen):
        torch.manual_seed(0)  # of no effect on what a fold gives
        one = dm.with_fold(fold)
        one.setup()
        assert scaler == one.scaler
        assert (state, step) == ({}, 0)
        torch.manual_seed(fold)
        for mine, fresh in zip(weights, make_model(one).parameters(), strict=True):
            assert mine.equal(fresh)
    assert found.records[0].checkpoint == "last"


# --- a run that was stopped -----------------------------------------------------------------------


class Stop(DummyModule):
    """Ends the run at a step of the third fold."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if "STOP_IN_FOLD" in os.environ and data.split.fold == 2 and batch_idx == 3:
            raise RuntimeError("the power went")
        return super().training_step(batch, batch_idx)


def make_stop(dm: BTCDataModule) -> Stop:
    return Stop(dm.n_features, dm.lookback, dm.horizon, dm.target_shape)


def test_a_stopped_run_goes_on_and_ends_with_the_same_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = partial(run_folds, make_model=make_stop, make_trainer=keep_best, folds=[1, 2])
    straight = start(make_data(folder), out=folder / "straight")
    monkeypatch.setenv("STOP_IN_FOLD", "1")
    with pytest.raises(RuntimeError, match="the power went"):
        start(make_data(folder), out=folder / "stopped")
    monkeypatch.delenv("STOP_IN_FOLD")
    ran = count_fits(monkeypatch)
    again = start(make_data(folder), out=folder / "stopped")
    assert (ran, again.kept) == ([2], (1,))
    assert again.forecasts.read_bytes() == straight.forecasts.read_bytes()
    assert "finished by an earlier run with the same settings: fold 1" in str(again)
    assert again.metrics.drop("checkpoint").equals(straight.metrics.drop("checkpoint"))


def count_fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the folds that are run from here on."""
    ran: list[int] = []
    run_fold = run_module._run_fold

    def note(one: BTCDataModule, *arguments: Any) -> Any:
        ran.append(one.split.fold)
        return run_fold(one, *arguments)

    monkeypatch.setattr(run_module, "_run_fold", note)
    return ran


def test_a_fold_is_run_again_where_anything_that_it_is_made_of_has_changed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = count_fits(monkeypatch)

    def start(make: Any = make_model, trainer: Any = keep_none, **settings: Any) -> list[int]:
        ran.clear()
        dm = make_data(folder, **settings)
        run_folds(dm, make, trainer, out=folder / "changed", folds=[0])
        return list(ran)

    assert start() == [0]
    assert start() == []
    assert start(end="2021-03-28") == []  # later candles are none of its
    assert start(num_workers=1) == []
    assert start(stride=2) == [0]
    assert start(stride=2, trainer=lambda where: make_trainer(where, max_steps=3)) == [0]
    assert start(make=make_stop) == [0]
    assert start(make=make_stop) == []
    forecasts = folder / "changed" / "fold_000" / "forecasts.parquet"
    forecasts.write_bytes(forecasts.read_bytes()[:-1])
    assert start(make=make_stop) == [0]
    forecasts.unlink()
    assert start(make=make_stop) == [0]
    record = folder / "changed" / "fold_000" / "fold.json"
    record.write_text(json.dumps({"fold": 0}))
    assert start(make=make_stop) == [0]


class Locked(DummyModule):
    """Holds what cannot be told from another of its kind."""

    def __init__(self, *sizes: Any) -> None:
        super().__init__(*sizes)
        self.gate = threading.Lock()


def test_a_fold_of_a_model_that_cannot_be_told_from_another_is_run_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = count_fits(monkeypatch)
    for _ in range(2):
        found = run_folds(
            make_data(folder),
            lambda dm: Locked(dm.n_features, dm.lookback, dm.horizon, dm.target_shape),
            keep_none,
            out=folder / "locked",
            folds=[0],
        )
    assert (ran, found.kept) == ([0, 0], ())
    assert "told from another of its kind: model.gate: lock" in str(found)


def test_one_run_at_a_time_uses_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "PATIENCE_SECONDS", 0.0)
    out = folder / "held"
    said = (
        rf"^another run is using `out`: {out}/folds\.lock has been held .* by process {os.getpid()}"
    )
    with hold_lock(out / "folds.lock"), pytest.raises(ConfigError, match=said):
        run(folder, name="held")
    assert not out.exists()


# --- several paths, few folds ---------------------------------------------------------------------


def test_folds_of_a_combinatorial_split_are_scored_by_path(tmp_path: Path) -> None:
    dm = make_data(tmp_path, split=CombinatorialPurged(3, 2))
    found = run_folds(dm, make_model, keep_none, out=tmp_path / "out")
    assert found.has_paths
    assert found.card is not None
    assert found.card.by("path")["path"].to_list() == ["0", "1"]
    assert "\npath" in str(found)
    joined = pl.read_parquet(found.forecasts)
    assert joined["origin_time"].is_duplicated().any()
    assert not joined.select("fold", "origin_time").is_duplicated().any()
    part = run_folds(dm, make_model, keep_none, out=tmp_path / "part", folds=[2, 0, 2])
    assert (list(part.records), part.has_paths) == ([0, 2], False)
    assert pl.read_parquet(part.forecasts)["fold"].unique().sort().to_list() == [0, 2]
    told = "note: the forecasts are of 2 of 3 folds: not finished with these settings: fold 1"
    assert told in str(part)


def test_a_fold_run_by_itself_is_joined_with_those_that_are_finished(tmp_path: Path) -> None:
    def start(folds: list[int], **settings: Any) -> FoldRuns:
        dm = make_data(tmp_path, split=CombinatorialPurged(3, 2), **settings)
        return run_folds(dm, make_model, keep_none, out=tmp_path / "out", folds=folds)

    assert start([0]).notes != ()
    both = start([1])
    assert (list(both.records), both.kept) == ([0, 1], (0,))
    assert read(both, 0).height
    assert read(both, 1).height
    other = start([1], stride=2)
    assert (list(other.records), other.kept) == ([1], ())
    assert "of 1 of 3 folds: not finished with these settings: fold 0, 2" in str(other)


def test_a_folder_of_checkpoints_that_is_the_same_for_all_folds_is_one_in_each(
    tmp_path: Path,
) -> None:
    """As a YAML gives it."""

    def keep_in_one(folder: Path) -> Trainer:
        checkpoint = ModelCheckpoint(
            tmp_path / "checkpoints", filename="best", enable_version_counter=False
        )
        return make_trainer(folder, checkpoint, max_epochs=1)

    found = run(tmp_path, keep_in_one, folds=[0, 1])
    for number, record in found.records.items():
        best = tmp_path / "out" / f"fold_{number:03d}" / "checkpoints" / "best.ckpt"
        assert record.checkpoint == str(best)
        assert best.is_file()
    assert not (tmp_path / "checkpoints").exists()
    assert run(tmp_path, keep_in_one, folds=[0, 1]).kept == (0, 1)


class Silent(LightningModule):
    """Has no test, and truth values for forecasts."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return (self.weight**2).sum()

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return batch.x[:, -1, 0] > 0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_what_cannot_be_scored_is_kept_and_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = run_folds(
        make_data(folder), lambda dm: Silent(), keep_none, out=folder / "silent", folds=[1]
    )
    assert found.card is None
    assert found.records[1].metrics == {}
    assert "note: not scored: " in str(found)
    monkeypatch.setattr(run_module, "find_spec", lambda name: None)
    found = run_folds(
        make_data(folder), lambda dm: Silent(), keep_none, out=folder / "silent", folds=[1]
    )
    assert found.kept == (1,)
    assert "scores need scipy: pip install scipy, then dm.score(" in str(found)


# --- what will not do -----------------------------------------------------------------------------


def test_what_will_not_do_is_said_before_anything_is_run(folder: Path) -> None:
    def start(
        make: Any = make_model, trainer: Any = keep_none, out: Any = folder / "no", **options: Any
    ) -> None:
        settings = {name: options.pop(name) for name in ("split", "source") if name in options}
        run_folds(make_data(folder, **settings), make, trainer, out=out, **options)

    with pytest.raises(ConfigError, match=r"only one fold: fit it with a Trainer, or set `split`"):
        start(split=FractionSplit())
    with pytest.raises(ConfigError, match="folds names 4: there are 4, 0 to 3"):
        start(folds=[0, 4])
    with pytest.raises(ConfigError, match=r"folds is \[\]: give a list of numbers"):
        start(folds=[])
    present = np.arange(30 * 24) // 24
    lacking = InMemory(candles_of((present < 21) | (present >= 25)))
    with pytest.raises(ConfigError, match=r"^fold 3: the split leaves a stage without windows"):
        start(source=lacking)
    with pytest.raises(ConfigError, match="make_model gave list: it must return a new Lightning"):
        start(make=lambda dm: [])
    with pytest.raises(ConfigError, match="make_trainer gave a Trainer with a PredictionWriter"):
        start(trainer=lambda where: make_trainer(where, PredictionWriter("x.parquet")))
    for strategy in ("ddp_spawn", "ddp_fork", "ddp_notebook"):
        with pytest.raises(ConfigError, match="strategy starts its ranks by spawn or fork, and a"):
            start(trainer=lambda where, name=strategy: make_trainer(where, strategy=name))
    with pytest.raises(ConfigError, match="out is 3: give the path of a folder"):
        start(out=3)
    (folder / "file").write_text("mine")
    with pytest.raises(ConfigError, match=r"^out: .*/file is no folder: give the path"):
        start(out=folder / "file")
    assert not (folder / "no").exists()
    (folder / "no" / "fold_000").mkdir(parents=True)
    (folder / "no" / "fold_000" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"fold_000 has no fold\.json, so that it is of"):
        start()
    assert (folder / "no" / "fold_000" / "notes.txt").read_text() == "mine"


def test_a_model_that_comes_twice_is_refused(folder: Path) -> None:
    dm = make_data(folder)
    shared = make_model(dm)

    class Around(DummyModule):
        def __init__(self, *sizes: Any) -> None:
            super().__init__(*sizes)
            self.linear = shared.linear

    message = "make_model gave {} for two folds, so that one would begin with what another has"
    with pytest.raises(ConfigError, match=message.format("the same object")):
        run_folds(dm, lambda _: shared, keep_none, out=folder / "same", folds=[0, 1])
    with pytest.raises(ConfigError, match=message.format("parameters of the same model")):
        run_folds(
            dm,
            lambda _: Around(dm.n_features, dm.lookback, dm.horizon, dm.target_shape),
            keep_none,
            out=folder / "part",
            folds=[0, 1],
        )
    trainer = keep_none(folder)
    with pytest.raises(ConfigError, match="make_trainer gave the same object for two folds"):
        run_folds(dm, make_model, lambda _: trainer, out=folder / "trainer", folds=[0, 1])


# --- several ranks --------------------------------------------------------------------------------


def test_two_ranks_run_all_folds_together(folder: Path) -> None:
    make_data(folder).prepare_data()
    root = Path(__file__).parents[2]
    told = subprocess.run(
        [sys.executable, "-m", "tests.folds.models", str(folder)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert told.returncode == 0, told.stderr[-2000:]
    assert "[0, 3]" in told.stdout
    joined = pl.read_parquet(folder / "ranks" / "forecasts.parquet")
    assert joined["fold"].unique().to_list() == [0, 3]
    assert not joined.is_duplicated().any()
    for fold in (0, 3):
        path = folder / "ranks" / f"fold_{fold:03d}"
        record = read_record(path)
        assert record is not None
        assert record.is_finished(path)
