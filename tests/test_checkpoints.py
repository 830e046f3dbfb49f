"""What was fitted goes with the checkpoint, and is held against the data that it meets again."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from btc_datamodule import (
    Batch,
    BTCDataModule,
    Candles,
    ConfigError,
    Direction,
    DummyModule,
    Feature,
    FractionSplit,
    Simulator,
    StoreError,
    WalkForward,
    read_candles,
)
from btc_datamodule.cli.commands import main
from btc_datamodule.store.candle_file import read_header, write_candles
from tests.factories import changed, make_datamodule, make_trainer

CONFIG = Path(__file__).parents[1] / "configs" / "dummy.yaml"
FEATURES = ("log_return", "log_range")


def datamodule(folder: Path, **arguments: Any) -> BTCDataModule:
    settings: dict[str, Any] = {
        "source": Simulator(seed=3, outages_per_year=50),
        "start": "2020-01-01",
        "end": "2020-07-01",
        "features": FEATURES,
        "lookback": 8,
        "horizon": 2,
        "split": FractionSplit(0.2, 0.2),
        "scaling": "robust",
        "target_scaling": "robust",
    }
    return make_datamodule(folder, ready=False, **settings | arguments)


trainer = partial(
    make_trainer,
    max_epochs=1,
    limit_train_batches=3,
    limit_val_batches=2,
    enable_checkpointing=True,
)


class Recorder(DummyModule):
    """Remembers the origins that it was tested on, and their inputs."""

    def on_test_start(self) -> None:
        self.seen: list[Batch] = []

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.seen.append(batch)
        super().test_step(batch, batch_idx)


def recorder(dm: BTCDataModule) -> Recorder:
    torch.manual_seed(0)
    return Recorder(dm.n_features, dm.lookback, dm.horizon, dm.target_shape)


@dataclass(frozen=True)
class Trained:
    """A fit, and what its test gave."""

    folder: Path
    checkpoint: str
    dm: BTCDataModule
    scores: Any
    seen: list[Batch]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    dm = datamodule(folder)
    model = recorder(dm)
    runner = trainer(folder)
    runner.fit(model, datamodule=dm)
    scores = runner.test(model, datamodule=dm, verbose=False)
    checkpoint = runner.checkpoint_callback.best_model_path  # type: ignore[union-attr]
    return Trained(folder, checkpoint, dm, scores, model.seen)


@pytest.fixture
def trained(fitted: Trained, tmp_path: Path) -> Trained:
    """The fit, with a copy of its files to change."""
    shutil.copytree(fitted.folder / "data", tmp_path / "data")
    return Trained(tmp_path, fitted.checkpoint, fitted.dm, fitted.scores, fitted.seen)


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, b)
        for first, second in zip(one, other, strict=True)
        for a, b in zip(first, second, strict=True)
    )


def rewrite(path: Path, edit: Callable[[Candles], Candles]) -> None:
    """Change candles where they are stored, as if the file had always held the others."""
    header = read_header(path)
    write_candles(
        path,
        [edit(read_candles(path))],
        source=header.source,
        series=header.series,
        interval=header.interval,
        columns=header.columns,
        covered=header.covered,
        revision=header.revision,
        provenance=header.provenance,
    )


def with_a_higher_close(row: int) -> Callable[[Candles], Candles]:
    """A close a tenth of the way up to the high: still a valid candle."""

    def edit(candles: Candles) -> Candles:
        close = candles["close"].copy()
        close[row] += 0.1 * (candles["high"][row] - close[row]) + 0.01
        high = np.maximum(candles["high"], close)
        return changed(candles, close=close, high=high)

    return edit


# With a Trainer


def test_a_year_more_of_candles_changes_nothing_that_was_fitted_or_tested(
    trained: Trained,
) -> None:
    longer = datamodule(trained.folder, end="2021-07-01")
    model = recorder(longer)
    scores = trainer(trained.folder).test(
        model, datamodule=longer, ckpt_path=trained.checkpoint, verbose=False
    )
    assert longer.table.rows > trained.dm.table.rows + 8000
    assert longer.fold == trained.dm.fold
    assert longer.scaler == trained.dm.scaler
    assert longer.target_scaler == trained.dm.target_scaler
    assert scores == trained.scores
    assert same(model.seen, trained.seen)

    without = datamodule(trained.folder, end="2021-07-01")
    without.setup()
    assert without.fold != trained.dm.fold
    assert without.scaler != trained.dm.scaler


def test_predict_from_a_checkpoint_goes_on_to_the_newest_bar(trained: Trained) -> None:
    longer = datamodule(trained.folder, end="2021-07-01")
    found = trainer(trained.folder).predict(
        recorder(longer), datamodule=longer, ckpt_path=trained.checkpoint
    )
    assert found is not None
    times = torch.cat([batch["origin_time"] for batch in found])  # type: ignore[call-overload]
    assert times[-1] == longer.table.find_time(longer.table.rows - 1)
    assert times[0] + 3600 >= trained.dm.fold.test[0][0]


def test_a_train_candle_that_was_altered_in_the_file_is_refused(trained: Trained) -> None:
    dm = datamodule(trained.folder)
    rewrite(dm.candle_path, with_a_higher_close(1000))
    with pytest.raises(
        StoreError,
        match=r"the train rows \(2020-01-01T00:00:00Z to 2020-04-19T\d\d:00:00Z\) in .*features-.*"
        r" are not those that the statistics were fitted on: candles, covariates, `start`, "
        r"`max_fill`, `purge`, a feature or how holes are filled \(in 0\.2\) have changed since; "
        "train again, or restore what it was trained on",
    ):
        trainer(trained.folder).test(
            recorder(dm), datamodule=dm, ckpt_path=trained.checkpoint, verbose=False
        )


def test_a_test_candle_may_change(trained: Trained) -> None:
    dm = datamodule(trained.folder)
    rewrite(dm.candle_path, with_a_higher_close(-100))
    model = recorder(dm)
    trainer(trained.folder).test(model, datamodule=dm, ckpt_path=trained.checkpoint, verbose=False)
    assert (dm.fold, dm.scaler) == (trained.dm.fold, trained.dm.scaler)
    assert not same(model.seen, trained.seen)


def test_other_train_rows_or_a_feature_of_the_same_name_are_refused(trained: Trained) -> None:
    state = torch.load(trained.checkpoint, weights_only=True)["BTCDataModule"]
    wider = Feature("log_range", 1, lambda bars: (bars["high"] / bars["low"]).log() * 2)
    for arguments in (
        {"features": ["log_return", wider]},
        {"max_fill": 1},
    ):
        other = datamodule(trained.folder, **arguments)
        other.prepare_data()
        other.setup()
        with pytest.raises(StoreError, match="are not those that the statistics were fitted on"):
            other.load_state_dict(state)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"features": ["log_range", "log_return"]},
            r"features was \['log_return', 'log_range'\], is \['log_range', 'log_return'\]\.",
        ),
        ({"lookback": 9}, "lookback was 8, is 9[.]"),
        ({"horizon": 3, "gap": 1}, "horizon was 2, is 3; gap was 0, is 1[.]"),
        ({"target": Direction(0.1)}, r"target was 'LogReturn\(\)', is 'Direction\(dead_zone=0.1\)"),
        ({"scaling": "train"}, "scaling was 'robust', is 'train'[.]"),
        ({"target_scaling": "none"}, "target_scaling was 'robust', is 'none'[.]"),
        ({"embargo": 5}, "embargo was 0, is 5[.]"),
        ({"purge": 2}, "purge was 0, is 2[.]"),
        ({"interval": "30m"}, "interval was '1h', is '30m'[.]"),
        (
            {"split": FractionSplit(0.1, 0.2)},
            r"split was 'FractionSplit\(val=0.2, test=0.2\)', is 'FractionSplit\(val=0.1, test=0.2",
        ),
    ],
)
def test_other_settings_than_those_of_the_checkpoint_are_named(
    fitted: Trained, tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    state = torch.load(fitted.checkpoint, weights_only=True)["BTCDataModule"]
    dm = datamodule(tmp_path, **arguments)
    with pytest.raises(ConfigError, match=f"trained with other data settings: {message}"):
        dm.load_state_dict(state)


def test_the_checkpoint_of_another_fold_is_refused(tmp_path: Path) -> None:
    dm = datamodule(tmp_path, split=WalkForward("60d", "10d", "20d", fold=1))
    dm.prepare_data()
    dm.setup()
    with pytest.raises(
        ConfigError, match=r"split was .WalkForward\(.*fold=1\)., is .*fold=2\).[.]"
    ):
        dm.with_fold(2).load_state_dict(dm.state_dict())
    dm.with_fold(1).load_state_dict(dm.state_dict())


def test_settings_that_change_nothing_fitted_may_be_others(trained: Trained) -> None:
    free = {"batch_size": 7, "stride": 3, "eval_stride": 1, "seed": 5, "context": "strict"}
    dm = datamodule(trained.folder, **free, shuffle="none")
    runner = trainer(trained.folder)
    runner.test(recorder(dm), datamodule=dm, ckpt_path=trained.checkpoint, verbose=False)
    assert (dm.fold, dm.scaler) == (trained.dm.fold, trained.dm.scaler)


# What is in it


def assert_plain(value: Any) -> None:
    """Nothing but the types that YAML and JSON have."""
    if type(value) is dict:
        for key, item in value.items():
            assert type(key) is str
            assert_plain(item)
    elif type(value) is list:
        for item in value:
            assert_plain(item)
    else:
        assert value is None or type(value) in (bool, int, float, str), repr(value)


def test_a_checkpoint_holds_plain_values_and_loads_as_weights_only(fitted: Trained) -> None:
    content = torch.load(fitted.checkpoint, weights_only=True)
    state = content["BTCDataModule"]
    assert_plain(state)
    assert_plain(dict(content["datamodule_hyper_parameters"]))
    assert state["fold"]["train"] == [list(span) for span in fitted.dm.fold.train]
    assert state["scaler"] == {
        "method": "robust",
        "center": list(fitted.dm.scaler.center),
        "scale": list(fitted.dm.scaler.scale),
    }
    dm = datamodule(fitted.folder)
    scores = trainer(fitted.folder).test(
        recorder(dm), datamodule=dm, ckpt_path=fitted.checkpoint, weights_only=True, verbose=False
    )
    assert scores == fitted.scores


@pytest.mark.parametrize("target_scaling", ["train", "robust", "none"])
@pytest.mark.parametrize("scaling", ["train", "robust", "window", "none"])
def test_every_scaling_survives_as_text(fitted: Trained, scaling: str, target_scaling: str) -> None:
    chosen = {"scaling": scaling, "target_scaling": target_scaling}
    dm = datamodule(fitted.folder, **chosen)
    dm.setup()
    state = json.loads(json.dumps(dm.state_dict()))
    assert state == dm.state_dict()
    again = datamodule(fitted.folder, **chosen, split=dm.split)
    again.load_state_dict(state)
    again.setup()
    assert (again.scaler, again.target_scaler) == (dm.scaler, dm.target_scaler)
    assert (again.scaler.method, again.target_scaler.method) == (scaling, target_scaling)
    ours, theirs = (next(iter(each.test_dataloader())) for each in (again, dm))
    assert same([ours], [theirs])
    y = dm.inverse_transform(theirs.y)
    plain = datamodule(fitted.folder, target_scaling="none")
    plain.setup()
    torch.testing.assert_close(y, next(iter(plain.test_dataloader())).y, rtol=1e-5, atol=1e-8)


# On the command line


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The dummy config, but that its fits keep checkpoints; in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    text = CONFIG.read_text().replace("  logger: false\n  enable_checkpointing: false\n", "")
    Path("config.yaml").write_text(text)
    return "config.yaml"


def test_the_command_line_tests_with_what_the_checkpoint_was_fitted_on(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded: list[BTCDataModule] = []
    load = BTCDataModule.load_state_dict

    def recorded(self: BTCDataModule, state: dict[str, Any]) -> None:
        load(self, state)
        loaded.append(self)

    monkeypatch.setattr(BTCDataModule, "load_state_dict", recorded)
    quiet = ["--config", config, "--trainer.enable_progress_bar", "false"]
    short = [*quiet, "--trainer.limit_train_batches", "3", "--trainer.limit_val_batches", "2"]
    assert main(["fit", *short]) == 0
    checkpoint = str(next(Path().rglob("*.ckpt")))
    state = torch.load(checkpoint, weights_only=True)["BTCDataModule"]
    test = ["test", *quiet, "--ckpt_path", checkpoint]

    def tested(*arguments: str) -> str:
        capsys.readouterr()
        assert main([*test, *arguments]) == 0
        found = re.search(r"test_loss\W+([\d.e-]+)", capsys.readouterr().out)
        assert found is not None
        return found[1]

    before = tested()
    longer = ["--data.end", "2023-01-01"]
    assert main(["prepare", "--config", config, *longer]) == 0
    assert tested(*longer) == before
    dm = loaded[-1]
    assert dm.table.rows > 26_000
    assert [list(span) for span in dm.fold.test] == state["fold"]["test"]
    assert list(dm.scaler.center) == state["scaler"]["center"]
    assert list(dm.scaler.scale) == state["scaler"]["scale"]

    capsys.readouterr()
    assert main([*test, "--data.scaling", "robust"]) == 1
    error = capsys.readouterr().err
    assert "trained with other data settings: scaling was 'train', is 'robust'" in error
    rewrite(dm.candle_path, with_a_higher_close(1000))
    assert main(test) == 1
    error = capsys.readouterr().err
    assert "are not those that the statistics were fitted on" in error
    assert "Traceback" not in error


def test_a_model_that_keeps_its_arguments_and_takes_some_of_the_datas_goes_on_from_a_checkpoint(
    config: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """LightningCLI would give it, from the checkpoint, those too that it does not take."""
    (tmp_path / "keeping.py").write_text(
        "from btc_datamodule import DummyModule\n"
        "class Keeping(DummyModule):\n"
        "    def __init__(self, lookback: int, n_features: int, horizon: int, width: int = 1):\n"
        "        super().__init__(n_features, lookback, horizon)\n"
        "        self.save_hyperparameters()\n"
        "        print(f'width {width}')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    quiet = ["--config", config, "--trainer.enable_progress_bar", "false"]
    quiet += ["--trainer.limit_train_batches", "3", "--model", "keeping.Keeping"]
    assert main(["fit", *quiet, "--model.width", "7"]) == 0
    checkpoint = ["--ckpt_path", str(next(Path().rglob("*.ckpt")))]
    for command in ("validate", "test", "predict"):
        capsys.readouterr()
        assert main([command, *quiet, *checkpoint]) == 0
        assert "width 7" in capsys.readouterr().out
    assert main(["fit", *quiet, *checkpoint, "--trainer.max_epochs", "2"]) == 0


def test_a_file_that_no_training_can_go_on_from_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def said(path: str, command: str = "fit") -> str:
        capsys.readouterr()
        assert main([command, "--config", str(CONFIG), "--ckpt_path", path]) == 1
        (line,) = [each for each in capsys.readouterr().err.splitlines() if "error" in each]
        return line.removeprefix("btc-datamodule: error: ")

    Path("text.ckpt").write_text("not what it says")
    torch.save({"state_dict": {}}, "other.ckpt")
    for path, command in product(("text.ckpt", "other.ckpt"), ("fit", "test")):
        assert said(path, command) == f"{path} is not a checkpoint of a Trainer"

    dm = datamodule(tmp_path)
    runner = trainer(tmp_path, enable_checkpointing=False)
    runner.fit(recorder(dm), datamodule=dm)
    runner.save_checkpoint("whole.ckpt")
    assert said("whole.ckpt").startswith("the model in the checkpoint has other sizes than this")
    runner.save_checkpoint("weights.ckpt", weights_only=True)
    assert said("weights.ckpt").startswith("weights.ckpt has the weights alone: training cannot")
    content = torch.load("whole.ckpt")
    torch.save(content | {"anything": Path()}, "objects.ckpt")
    assert said("objects.ckpt").startswith("the checkpoint objects.ckpt cannot be read: Weights on")
    broken = bytearray(Path("whole.ckpt").read_bytes())
    broken[len(broken) // 3 : len(broken) // 2] = b"x" * (len(broken) // 2 - len(broken) // 3)
    Path("broken.ckpt").write_bytes(broken)
    assert "broken.ckpt" in said("broken.ckpt")


def test_a_checkpoint_of_more_epochs_than_are_wanted_is_one_line(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet = ["fit", "--config", config, "--trainer.enable_progress_bar", "false"]
    quiet += ["--trainer.limit_train_batches", "3", "--trainer.max_epochs"]
    assert main([*quiet, "2"]) == 0
    assert main([*quiet, "1", "--ckpt_path", str(next(Path().rglob("*.ckpt")))]) == 1
    assert "error: You restored a checkpoint with current_epoch=2" in capsys.readouterr().err
