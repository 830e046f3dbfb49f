"""Covariates in checkpoints: made again, gone on with, and held against those that are met."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from btc_datamodule import (
    Batch,
    BTCDataModule,
    ConfigError,
    Records,
    Resampled,
    SimulatedFunding,
    SimulatedOpenInterest,
    Simulator,
    StoreError,
    WalkForward,
)
from tests.factories import make_datamodule
from tests.training.resume.fits import assert_goes_on, go_on, model_for, stop_after, trainer

RELEASES = "day,out,cpi\n" + "".join(
    f"2021-{month:02d}-01,2021-{month:02d}-12T13:30:00Z,{month / 10}\n" for month in range(1, 5)
)
FEATURES = (
    "log_return",
    "four.log_return",
    "eth.log_return",
    "long.log_return",
    "quarter.close",
    "funding.rate",
    "since = age(funding) / 8",
    "oi_change = oi.sum_open_interest.log().diff()",
    "macro.cpi",
)


def beside(folder: Path) -> dict[str, Any]:
    """A covariate of each kind."""
    (folder / "macro.csv").write_text(RELEASES)
    return {
        "four": Resampled("4h"),
        "eth": Simulator(seed=1, coin="ETH"),
        "long": Resampled("1d", of="eth", offset="8h"),
        "quarter": Resampled("15m", of=Simulator(seed=5)),
        "funding": SimulatedFunding(seed=1),
        "oi": SimulatedOpenInterest(seed=1, missing=0.01, late=0.01, revised=0.01),
        "macro": Records(str(folder / "macro.csv"), time="day", known_at="out", columns=("cpi",)),
    }


def datamodule(folder: Path, **arguments: Any) -> BTCDataModule:
    settings: dict[str, Any] = {
        "covariates": beside(folder),
        "max_age": {"funding": "9h", "macro": None},
        "features": FEATURES,
        "start": "2021-02-14",
        "end": "2021-03-14",
        "min_observed": 0.5,
    }
    return make_datamodule(folder, ready=False, **settings | arguments)


class Fitted(NamedTuple):
    """A fit that was stopped after some batches, and another one without a stop."""

    folder: Path
    dm: BTCDataModule
    checkpoint: Path
    seen: list[str]
    model: Any


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    folder = tmp_path_factory.mktemp("fitted")
    dm = datamodule(folder)
    whole = model_for(dm)
    trainer(folder).fit(whole, datamodule=dm)
    checkpoint = stop_after(5, folder, datamodule(folder))
    return Fitted(folder, dm, checkpoint, whole.seen, whole)


def first_batch(dm: BTCDataModule) -> Batch:
    batch: Batch = next(iter(dm.test_dataloader()))
    return batch


def test_a_datamodule_is_made_again_of_a_checkpoint_with_its_covariates(fitted: Fitted) -> None:
    again = BTCDataModule.load_from_checkpoint(fitted.checkpoint)
    assert again.covariates == fitted.dm.covariates
    assert again.max_age == fitted.dm.max_age
    assert again.settings.comparable == fitted.dm.settings.comparable
    again.setup()
    for one, other in zip(first_batch(again), first_batch(fitted.dm), strict=True):
        assert torch.equal(one, other)


def test_a_checkpoint_holds_covariates_as_plain_values_and_loads_as_weights_only(
    fitted: Fitted,
) -> None:
    kept = torch.load(fitted.checkpoint, weights_only=True)
    arguments = kept["datamodule_hyper_parameters"]
    assert arguments["covariates"]["long"] == {
        "class_path": "btc_datamodule.Resampled",
        "init_args": {"interval": "1d", "of": "eth", "offset": "8h"},
    }
    assert arguments["covariates"]["funding"] == {
        "class_path": "btc_datamodule.SimulatedFunding",
        "init_args": {"seed": 1},
    }
    assert arguments["max_age"] == {"funding": "9h", "macro": None}
    assert kept["BTCDataModule"]["settings"]["covariates"] == [
        "four: 4h, at most 8h old",
        "eth: 1h, at most 2h old",
        "long: 1d+8h, at most 2d old",
        "quarter: 15m, at most 30m old",
        "funding: records, at most 9h old",
        "oi: 5m, at most 10m old",
        "macro: records, any age",
    ]


def test_loggers_are_told_the_covariates(fitted: Fitted) -> None:
    told = fitted.dm.hparams_initial
    assert list(told["data/covariates"]) == list(fitted.dm.covariates)
    assert told["data/max_age"] == {"funding": "9h", "macro": None}


def test_a_fit_with_covariates_that_was_stopped_goes_on_with_the_very_next_batch(
    fitted: Fitted, tmp_path: Path
) -> None:
    after = go_on(fitted.checkpoint, datamodule(fitted.folder))
    assert_goes_on(after, fitted.model, 5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"max_age": {"funding": "10h"}},
            r"covariates was \['funding: records, at most 9h old'\], "
            r"is \['funding: records, at most 10h old'\]\. Give those, or begin anew without it",
        ),
        (
            {"covariates": {"four": Resampled("2h")}},
            r"covariates was \['four: 4h, at most 8h old'\], is \['four: 2h, at most 4h old'\]\.",
        ),
        (
            {"features": (*FEATURES[:-1], "eth.close")},
            r"features was \[.*\], is \[.*\]; covariates was \['macro: records, any age'\], is \[",
        ),
    ],
    ids=["max_age", "interval", "another feature"],
)
def test_other_covariates_than_those_of_the_checkpoint_are_named(
    fitted: Fitted, changes: dict[str, Any], message: str
) -> None:
    arguments: dict[str, Any] = {**changes}
    if "covariates" in changes:
        arguments["covariates"] = {**beside(fitted.folder), **changes["covariates"]}
    if "max_age" in changes:
        arguments["max_age"] = {"macro": None, **changes["max_age"]}
    dm = datamodule(fitted.folder, **arguments)
    with pytest.raises(
        ConfigError, match=rf"stop.ckpt was trained with other data settings: {message}"
    ):
        go_on(fitted.checkpoint, dm)


def test_another_series_under_the_name_of_a_covariate_is_other_train_rows(fitted: Fitted) -> None:
    covariates = {**beside(fitted.folder), "funding": SimulatedFunding(seed=2)}
    dm = datamodule(fitted.folder, covariates=covariates)
    with pytest.raises(StoreError, match="statistics were fitted on: candles, covariates, `start`"):
        go_on(fitted.checkpoint, dm)


def test_a_covariate_that_no_feature_names_changes_nothing(fitted: Fitted) -> None:
    dm = datamodule(fitted.folder, covariates={**beside(fitted.folder), "x": Simulator(seed=9)})
    assert dm.settings.comparable == fitted.dm.settings.comparable


def test_a_checkpoint_of_before_there_were_covariates_loads(tmp_path: Path) -> None:
    dm = make_datamodule(tmp_path)
    kept = trainer(tmp_path, max_epochs=1)
    kept.fit(model_for(dm), datamodule=dm)
    kept.save_checkpoint(tmp_path / "new.ckpt")
    state = torch.load(tmp_path / "new.ckpt", weights_only=True)
    for name in ("covariates", "max_age", "mask"):
        del state["datamodule_hyper_parameters"][name]
        state["BTCDataModule"]["settings"].pop(name, None)
    torch.save(state, tmp_path / "old.ckpt")
    old = BTCDataModule.load_from_checkpoint(tmp_path / "old.ckpt")
    assert old.covariates == {}
    old.setup()
    trainer(tmp_path).test(
        model_for(old), datamodule=old, ckpt_path=str(tmp_path / "old.ckpt"), verbose=False
    )


def test_another_fold_has_the_same_covariates(tmp_path: Path) -> None:
    dm = datamodule(
        tmp_path, features=FEATURES[:-1], split=WalkForward(train="10d", val="3d", test="3d")
    )
    dm.prepare_data()
    dm.setup()
    other = dm.with_fold(1)
    assert other.covariates == dm.covariates
    assert other.max_age == dm.max_age
    other.setup()
    assert other.table.key == dm.table.key
