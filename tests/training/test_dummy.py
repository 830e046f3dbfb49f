"""The losses that ``DummyModule`` logs: those of all windows, for any number of ranks."""

import os
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from filelock import FileLock

from btc_datamodule import Batch, BTCDataModule, DummyModule
from tests.factories import make_datamodule, make_model, make_trainer
from tests.training import ranks_dummy
from tests.training.ranks_dummy import WINDOWS, compute_loss
from tests.training.ranks_run import EPOCHS, GLOBAL_BATCH, hand_in
from tests.training.test_ranks import Ranks, run

EXACT = 2e-6
"""Relative: forecasts are float32, and what is due is computed in float64."""


@pytest.fixture(
    scope="module",
    params=[1, 2, pytest.param(3, marks=pytest.mark.stress)],
    ids=lambda ranks: f"{ranks} ranks",
)
def notes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], ...]:
    """What each of some ranks has noted; the workers of pytest-xdist share a run."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder /= f"dummy-{request.param}"
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            folder.mkdir()
            if request.param == 1:
                hand_in(folder, ranks_dummy.run(folder, 1))
            else:
                run([sys.executable, ranks_dummy.__file__, str(folder), str(request.param)])
    return Ranks.read(folder, request.param).notes


@pytest.mark.each_value
@pytest.mark.parametrize("windows", WINDOWS)
@pytest.mark.parametrize("stage", ["val", "test"])
def test_an_evaluation_logs_the_mean_over_all_windows_however_the_ranks_share_them(
    notes: tuple[dict[str, Any], ...], stage: str, windows: int
) -> None:
    for note in notes:
        logged, due, count = note[f"{windows} windows"][stage]
        assert count == windows
        assert logged == {f"{stage}_loss": pytest.approx(due, rel=EXACT)}


def test_some_of_the_ends_are_ragged_and_some_ranks_have_no_batch(
    notes: tuple[dict[str, Any], ...],
) -> None:
    ranks = len(notes)
    ends = [windows % GLOBAL_BATCH % ranks for windows in WINDOWS]
    assert any(ends) == any(windows < ranks for windows in WINDOWS) == (ranks > 1)


def test_validations_of_a_fit_log_it_too_for_all_that_watch(
    notes: tuple[dict[str, Any], ...],
) -> None:
    """Nothing is left of the sanity check."""
    for note in notes:
        logged, due = np.transpose(note["fit"]["val"])
        assert len(logged) == EPOCHS
        np.testing.assert_allclose(logged, due, rtol=EXACT)
        assert note["fit"]["best"] == note["fit"]["early"] == min(logged)
        assert note["fit"]["shown"] == logged[-1]


def test_a_step_logs_the_mean_over_the_batches_of_all_ranks(
    notes: tuple[dict[str, Any], ...],
) -> None:
    own = np.mean([[loss for _, loss in note["fit"]["train"]] for note in notes], axis=0)
    assert len(own) > 10
    for note in notes:
        np.testing.assert_allclose([logged for logged, _ in note["fit"]["train"]], own, rtol=EXACT)


def test_an_epoch_without_a_batch_on_any_rank_logs_nothing(
    notes: tuple[dict[str, Any], ...],
) -> None:
    for note in notes:
        assert [note["empty"][stage][0] for stage in ("val", "test")] == [{}, {}]


# --- in one process -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dm(tmp_path_factory: pytest.TempPathFactory) -> BTCDataModule:
    return make_datamodule(tmp_path_factory.mktemp("dummy"))


@pytest.mark.parametrize("stage", ["val", "test"])
def test_nothing_is_left_of_an_evaluation_that_was_cut_short(
    dm: BTCDataModule, tmp_path: Path, stage: Literal["val", "test"]
) -> None:
    class CutShort(DummyModule):
        fails = True

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.fails and len(x) < dm.batch_size:
                raise RuntimeError("in the last batch")
            return super().forward(x)

    model = make_model(dm, CutShort)
    trainer = make_trainer(tmp_path)
    evaluate = trainer.validate if stage == "val" else trainer.test
    with pytest.raises(RuntimeError, match="in the last batch"):
        evaluate(model, datamodule=dm, verbose=False)
    model.fails = False  # type: ignore[assignment]
    (logged,) = evaluate(model, datamodule=dm, verbose=False)
    assert logged[f"{stage}_loss"] == pytest.approx(compute_loss(dm, stage, model), rel=EXACT)


def test_a_loss_that_a_model_logs_in_steps_of_its_own_stays_as_it_is(
    dm: BTCDataModule, tmp_path: Path
) -> None:
    class Own(DummyModule):
        def validation_step(self, batch: Batch, batch_idx: int) -> None:
            self.log("val_loss", 7.0, batch_size=len(batch.x))

    trainer = make_trainer(tmp_path)
    assert trainer.validate(make_model(dm, Own), dm, verbose=False) == [{"val_loss": 7.0}]


def test_weights_are_all_that_a_checkpoint_holds_of_the_model(
    dm: BTCDataModule, tmp_path: Path
) -> None:
    model = make_model(dm)
    make_trainer(tmp_path).validate(model, dm, verbose=False)
    assert set(model.state_dict()) == {"linear.weight", "linear.bias"}


def test_it_fits_whatever_dtype_torch_makes_by_default(tmp_path: Path) -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        dm = make_datamodule(tmp_path, scaling="robust", target_scaling="robust", min_observed=0.5)
        batch = next(iter(dm.train_dataloader()))
        assert [field.dtype for field in batch] == [*[torch.float32] * 2, torch.bool, torch.int64]
        runner = make_trainer(tmp_path, max_epochs=1, limit_train_batches=2)
        runner.fit(make_model(dm), datamodule=dm)
    finally:
        torch.set_default_dtype(before)
    assert runner.global_step == 2
