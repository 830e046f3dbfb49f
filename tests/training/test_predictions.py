"""``PredictionWriter``: one file with every prediction once, by time."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import polars as pl
import pytest
import torch
from lightning.pytorch import LightningModule
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from btc_datamodule import Batch, BTCDataModule, ConfigError, Direction, DummyModule, Simulator
from btc_datamodule.cli.commands import main
from btc_datamodule.training.predictions import PredictionWriter, extract_columns, merge_parts
from tests.factories import make_datamodule, make_trainer

CONFIG = Path(__file__).parents[2] / "configs" / "dummy.yaml"
START = 1_600_000_000


class Pair(NamedTuple):
    mean: Tensor
    spread: Tensor


class Predicts(LightningModule):
    """Gives as prediction what a function makes of the batch."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        return self.function(batch)


@pytest.fixture(scope="module")
def dm(tmp_path_factory: pytest.TempPathFactory) -> BTCDataModule:
    return make_datamodule(
        tmp_path_factory.mktemp("data"),
        source=Simulator(seed=2, outages_per_year=60),
        end="2021-03-25",
        lookback=8,
        horizon=2,
        batch_size=20,
    )


def predict(function: Callable[[Any], Any], output: Path, data: Any) -> Any:
    runner = make_trainer(output.parent, PredictionWriter(str(output)))
    if isinstance(data, BTCDataModule):
        return runner.predict(Predicts(function), datamodule=data, return_predictions=False)
    return runner.predict(Predicts(function), data, return_predictions=False)


def due(dm: BTCDataModule) -> Batch:
    windows = dm.dataset("predict")
    return windows[np.arange(len(windows))]


# --- what the files hold ------------------------------------------------------------------------


def test_hdf5_holds_the_predictions_in_their_shape_by_time(
    tmp_path: Path, dm: BTCDataModule
) -> None:
    output = tmp_path / "out.h5"
    predict(lambda batch: {"forecast": batch.x[:, :2, :1], "last": batch.x[:, -1, 0]}, output, dm)
    whole = due(dm)
    with h5py.File(output) as file:
        assert sorted(file) == ["forecast", "last", "origin_time"]
        assert file["origin_time"].dtype == np.int64
        assert np.array_equal(file["origin_time"][()], whole.origin_time.numpy())
        assert np.array_equal(file["forecast"][()], whole.x[:, :2, :1].numpy())
        assert np.array_equal(file["last"][()], whole.x[:, -1, 0].numpy())
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]


def test_parquet_holds_a_timestamp_and_a_column_for_each_number(
    tmp_path: Path, dm: BTCDataModule
) -> None:
    output = tmp_path / "out.parquet"
    predict(lambda batch: {"forecast": batch.x[:, :2, :1], "last": batch.x[:, -1, 0]}, output, dm)
    frame, whole = pl.read_parquet(output), due(dm)
    assert frame.columns == ["origin_time", "forecast_0_0", "forecast_1_0", "last"]
    assert frame.schema["origin_time"] == pl.Datetime("us", "UTC")
    assert frame["origin_time"].dt.epoch("s").to_list() == whole.origin_time.tolist()
    assert np.array_equal(frame["forecast_1_0"].to_numpy(), whole.x[:, 1, 0].numpy())
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


@pytest.mark.parametrize(
    ("prediction", "names"),
    [
        (torch.ones(3), ["prediction"]),
        (torch.ones(3, 2), ["prediction"]),
        ((torch.ones(3), torch.ones(3, 1)), ["prediction_0", "prediction_1"]),
        ([torch.ones(3)], ["prediction_0"]),
        (Pair(torch.ones(3), torch.ones(3)), ["mean", "spread"]),
        ({"origin_time": torch.arange(3), "up": torch.ones(3) > 0}, ["up"]),
    ],
    ids=["(B,)", "(B, H)", "tuple", "list", "named tuple", "dict"],
)
def test_columns_are_named_by_what_predict_step_returns(prediction: Any, names: list[str]) -> None:
    batch = Batch(torch.ones(3), torch.ones(3), torch.ones(3), torch.arange(3) + START)
    columns = extract_columns(prediction, batch)
    assert list(columns) == ["origin_time", *names]
    assert columns["origin_time"].tolist() == [START, START + 1, START + 2]


def test_half_precision_is_kept_as_float32() -> None:
    batch = {"origin_time": torch.arange(2)}
    for kind in (torch.bfloat16, torch.float16):
        columns = extract_columns(batch | {"up": torch.tensor([0.5, -2.0], dtype=kind)}, None)
        assert columns["up"].dtype == np.float32
        assert columns["up"].tolist() == [0.5, -2.0]


def test_a_loader_of_ones_own_is_put_in_order_and_each_origin_kept_once(tmp_path: Path) -> None:
    times = torch.tensor([5, 3, 9, 3, 1, 9, 7]) * 60
    loader: Any = DataLoader([{"origin_time": each} for each in times], batch_size=2)  # type: ignore[arg-type]
    output = tmp_path / "out.h5"
    predict(
        lambda batch: {"origin_time": batch["origin_time"], "y": batch["origin_time"] * 2.0},
        output,
        loader,
    )
    with h5py.File(output) as file:
        assert file["origin_time"][()].tolist() == [60, 180, 300, 420, 540]
        assert file["y"][()].tolist() == [120, 360, 600, 840, 1080]


# --- memory, and what is left behind ------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".h5", ".parquet"])
def test_memory_is_bounded_by_parts_on_disk_and_the_file_is_the_same(
    tmp_path: Path, dm: BTCDataModule, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = []
    largest = [0]

    def watched(parts: list[tuple[int, Path]]) -> Any:
        for block in merge_parts(parts):
            largest.append(len(block["origin_time"]))
            yield block

    monkeypatch.setattr("btc_datamodule.training.predictions.merge_parts", watched)
    for size in (1, 1 << 25):
        monkeypatch.setattr("btc_datamodule.training.predictions.PART_BYTES", size)
        output = tmp_path / f"out{size}{suffix}"
        predict(lambda batch: batch.x[:, -1], output, dm)
        files.append(read(output))
        if size == 1:
            assert max(largest) == 20, "a batch at a time"
    assert files[0].keys() == files[1].keys()
    for name in files[0]:
        assert np.array_equal(files[0][name], files[1][name])


def read(path: Path) -> dict[str, NDArray[Any]]:
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return {name: data[()] for name, data in file.items()}
    return {column.name: column.to_numpy() for column in pl.read_parquet(path)}


def test_parts_of_several_ranks_are_merged_without_reading_them_all_at_once(
    tmp_path: Path,
) -> None:
    """Ranks take turns by batches of 10; each part has 3 of them."""
    rows = np.arange(600)
    parts = []
    for rank in range(2):
        own = rows[rows // 10 % 2 == rank]
        for number, part in enumerate(np.split(own, 10)):
            path = tmp_path / f"{rank}-{number}.npz"
            np.savez(path, origin_time=part * 60, y=part)
            parts.append((int(part[0]) * 60, path))
    blocks = list(merge_parts(parts))
    assert max(len(block["y"]) for block in blocks) <= 60
    assert np.concatenate([block["y"] for block in blocks]).tolist() == rows.tolist()


def test_a_prediction_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, dm: BTCDataModule
) -> None:
    output = tmp_path / "out.h5"
    output.write_text("old")

    def fails(batch: Batch) -> Tensor:
        if batch.origin_time[0] != due(dm).origin_time[0]:
            raise RuntimeError("out of memory")
        return batch.x

    with pytest.raises(RuntimeError, match="out of memory"):
        predict(fails, output, dm)
    assert output.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]


def test_what_a_killed_run_has_left_is_not_taken_in(tmp_path: Path, dm: BTCDataModule) -> None:
    folder = tmp_path / "out.parquet.parts"
    folder.mkdir()
    np.savez(folder / "00007-000000.npz", origin_time=np.array([1]), prediction=np.array([1.0]))
    predict(lambda batch: batch.x[:, -1, 0], tmp_path / "out.parquet", dm)
    assert len(pl.read_parquet(tmp_path / "out.parquet")) == len(due(dm).x)


@pytest.mark.parametrize("fails", [False, True])
def test_what_lies_in_the_folder_of_the_parts_and_is_none_stays(
    tmp_path: Path, dm: BTCDataModule, fails: bool
) -> None:
    folder = tmp_path / "out.parquet.parts"
    folder.mkdir()
    names = ["mine.txt", "mine.npz", "mine-00001-000000.npz", "00001-000000.npz.old"]
    for name in names:
        (folder / name).write_text("precious")

    def step(batch: Any) -> Any:
        if fails:
            raise RuntimeError("on purpose")
        return batch.x[:, -1, 0]

    with pytest.raises(RuntimeError) if fails else nullcontext():
        predict(step, tmp_path / "out.parquet", dm)
    assert sorted(each.name for each in folder.iterdir()) == sorted(names)


def test_a_part_that_another_node_has_written_elsewhere_is_missed(
    tmp_path: Path, dm: BTCDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_two_ranks(_: Any, parts: Tensor, **__: Any) -> Tensor:
        return parts + 1

    monkeypatch.setattr("lightning.pytorch.strategies.SingleDeviceStrategy.reduce", of_two_ranks)
    with pytest.raises(ConfigError, match=r"1 of 2 parts are in .*: give an output in a folder"):
        predict(lambda batch: batch.x, tmp_path / "out.h5", dm)
    assert not list(tmp_path.iterdir())


# --- prices -------------------------------------------------------------------------------------


def predict_prices(
    function: Callable[[Batch], Any], output: Path, dm: BTCDataModule, prices: Any = True
) -> None:
    runner = make_trainer(output.parent, PredictionWriter(str(output), prices=prices))
    runner.predict(Predicts(function), datamodule=dm, return_predictions=False)


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> BTCDataModule:
    folder = tmp_path_factory.mktemp("scaled")
    return make_datamodule(folder, target_scaling="train", end="2021-03-25", horizon=2)


def test_prices_stand_beside_the_predictions_that_they_are_of(
    tmp_path: Path, scaled: BTCDataModule
) -> None:
    whole = due(scaled)
    prices = scaled.to_prices(whole.y, whole.origin_time)
    predict_prices(lambda b: {"forecast": b.y, "x": b.x[:, 0]}, tmp_path / "out.h5", scaled)
    with h5py.File(tmp_path / "out.h5") as file:
        assert sorted(file) == ["forecast", "forecast_price", "origin_time", "x"]
        assert file["forecast_price"].dtype == np.float64
        assert np.array_equal(file["forecast_price"][()], prices, equal_nan=True)
    predict_prices(lambda b: b.y.bfloat16(), tmp_path / "out.parquet", scaled)
    frame = pl.read_parquet(tmp_path / "out.parquet")
    assert frame.columns[3:] == ["prediction_price_0_0", "prediction_price_1_0"]
    np.testing.assert_allclose(frame["prediction_price_1_0"], prices[:, 1, 0], rtol=2e-3)


def test_to_prices_makes_the_same_of_what_was_written(
    tmp_path: Path, scaled: BTCDataModule
) -> None:
    predict_prices(lambda b: {"forecast": b.y}, tmp_path / "out.parquet", scaled)
    frame = pl.read_parquet(tmp_path / "out.parquet")
    again = scaled.to_prices(frame, frame["origin_time"])
    written = frame.select("forecast_price_0_0", "forecast_price_1_0").to_numpy()
    assert np.array_equal(again[:, :, 0], written, equal_nan=True)
    assert np.isfinite(written[:80]).all()


def test_prices_of_named_predictions_alone(tmp_path: Path, scaled: BTCDataModule) -> None:
    given: Callable[[Batch], Any] = lambda b: {"mean": b.y, "spread": b.y.abs()}  # noqa: E731
    predict_prices(given, tmp_path / "out.h5", scaled, ["mean"])
    with h5py.File(tmp_path / "out.h5") as file:
        assert sorted(file) == ["mean", "mean_price", "origin_time", "spread"]
    with pytest.raises(ConfigError, match=r"gave mean \(\d+, 2, 1\), spread \(\d+, 2, 1\)"):
        predict_prices(given, tmp_path / "out.h5", scaled, ["median"])


def test_predictions_without_the_axes_of_the_target_have_prices_too(
    tmp_path: Path, scaled: BTCDataModule
) -> None:
    predict_prices(lambda b: b.y[:, :, 0], tmp_path / "out.h5", scaled)
    whole = due(scaled)
    with h5py.File(tmp_path / "out.h5") as file:
        prices = scaled.to_prices(whole.y, whole.origin_time)
        assert np.array_equal(file["prediction_price"][()], prices, equal_nan=True)
    with pytest.raises(
        ConfigError, match=r"of shape \(2, 1\) has; it gave prediction \(\d+, 12, 3\)"
    ):
        predict_prices(lambda b: b.x, tmp_path / "out.h5", scaled)


def test_what_has_no_prices_says_so_before_anything_is_predicted(tmp_path: Path) -> None:
    def fails(_: Any) -> Any:
        raise AssertionError("it was asked")

    dm = make_datamodule(tmp_path, target=Direction())
    with pytest.raises(ConfigError, match="no prices can be told from the target Direction"):
        predict_prices(fails, tmp_path / "out.h5", dm)
    runner = make_trainer(tmp_path, PredictionWriter(str(tmp_path / "out.h5"), prices=True))
    with pytest.raises(ConfigError, match=r"call `trainer\.predict\(model, datamodule=dm\)`"):
        runner.predict(Predicts(fails), dm.predict_dataloader())
    assert not list(tmp_path.glob("out*"))


# --- errors -------------------------------------------------------------------------------------


def test_another_kind_of_file_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match=r"output 'out\.csv' must end in one of \.parquet, \.h5"):
        PredictionWriter("out.csv")


@pytest.mark.parametrize(
    ("output", "message"),
    [("absent/out.h5", "there is no folder .*absent"), ("/proc/out.h5", "/proc cannot be written")],
)
def test_a_folder_that_is_not_there_or_not_writable_is_named(
    tmp_path: Path,
    dm: BTCDataModule,
    output: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        predict(lambda batch: batch.x, Path(output), dm)


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (None, r"gave 'prediction' as NoneType for 20 samples"),
        (torch.ones(()), r"gave 'prediction' as \(\) for 20 samples"),
        ({"loss": torch.ones(3)}, r"gave 'loss' as \(3,\) for 20 samples"),
    ],
)
def test_a_prediction_without_a_row_for_each_sample_is_an_error(
    tmp_path: Path, dm: BTCDataModule, prediction: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        predict(lambda _: prediction, tmp_path / "out.h5", dm)
    assert not list(tmp_path.iterdir())


def test_a_batch_without_origin_time_is_an_error(tmp_path: Path) -> None:
    loader: Any = DataLoader(list(torch.ones(4, 2)), batch_size=2)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="finds no origin_time in the batch"):
        predict(lambda batch: batch, tmp_path / "out.h5", loader)


# --- from the command line ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["btc_datamodule.PredictionWriter", "PredictionWriter"])
def test_it_works_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--trainer.enable_progress_bar=false", "--return_predictions=false"]
    writer = [f"--trainer.callbacks={name}", "--trainer.callbacks.output=out.parquet"]
    writer += ["--trainer.callbacks.prices=true"]
    assert main(["predict", "--config", str(CONFIG), *options, *writer]) == 0
    frame = pl.read_parquet("out.parquet")
    names = [f"forecast{price}_{bar}_0" for price in ("", "_price") for bar in range(4)]
    assert frame.columns == ["origin_time", *names]
    assert 1000 < frame["forecast_price_0_0"][0] < 1_000_000
    assert str(frame["origin_time"][-1]) == "2021-12-31 23:00:00+00:00"
    assert frame["origin_time"].is_sorted()
    assert frame["origin_time"].n_unique() == len(frame) > 2000
    assert frame["forecast_0_0"].is_finite().all()


def test_a_wrong_output_is_one_line_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    writer = ["--trainer.callbacks=btc_datamodule.PredictionWriter"]
    for output, said in (
        ("out.csv", "must end in one of"),
        ("no/out.h5", f"there is no folder {tmp_path}/no: make it"),
    ):
        arguments = [*writer, f"--trainer.callbacks.output={output}"]
        try:
            status = main(["predict", "--config", str(CONFIG), *arguments])
        except SystemExit as stop:
            status = int(stop.code or 0)
        assert status in (1, 2)
        lines = capsys.readouterr().err.strip().splitlines()
        assert lines[-1].startswith("btc-datamodule: error: ")
        assert said in lines[-1]


def test_the_dummy_model_predicts_what_the_writer_can_write(dm: BTCDataModule) -> None:
    model = DummyModule(dm.n_features, dm.lookback, dm.horizon)
    batch = due(dm)
    columns = extract_columns(model.predict_step(batch, 0), batch)
    assert list(columns) == ["origin_time", "forecast"]
