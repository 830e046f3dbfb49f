"""Real ranks: several processes that train, evaluate and predict together as one would alone."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import polars as pl
import pytest
import torch
from filelock import FileLock

from btc_datamodule import Block, BTCDataModule, Simulator, Source
from btc_datamodule.candles.timeline import Span
from tests.training import ranks_error, ranks_run, ranks_stops
from tests.training.ranks_run import EPOCHS, GLOBAL_BATCH, STOP, Times

ROOT = Path(__file__).parents[2]
SCRIPT = Path(ranks_run.__file__)
TIMEOUT = 300
WAYS = {
    "script": (sys.executable, str(SCRIPT)),
    "torchrun": (
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node={ranks}"),
        *("--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", str(SCRIPT)),
    ),
}


@dataclass(frozen=True)
class Ranks:
    """What each of some ranks has noted."""

    folder: Path
    notes: tuple[dict[str, Any], ...]

    @classmethod
    def read(cls, folder: Path, ranks: int) -> "Ranks":
        files = (folder / f"rank{rank}.json" for rank in range(ranks))
        return cls(folder, tuple(json.loads(file.read_text()) for file in files))

    def batches(self, stage: str) -> list[list[list[int]]]:
        """For each global batch the origin times of each rank; none where a rank has no batch."""
        times: list[Times] = [note["times"][stage] for note in self.notes]
        count = max(map(len, times))
        return [[part[i] if i < len(part) else [] for part in times] for i in range(count)]

    def order(self, stage: str) -> list[int]:
        """The origin times of all ranks, rank by rank in each global batch."""
        return [each for batch in self.batches(stage) for part in batch for each in part]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the workers of pytest-xdist share, so that each run is made only once."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "ranks"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def alone(shared: Path) -> Ranks:
    """One process, one device."""
    folder = shared / "alone"
    with FileLock(shared / "alone.lock"):
        if not (folder / "rank0.json").exists():
            folder.mkdir()
            (folder / "rank0.json").write_text(json.dumps(ranks_run.run(folder, 1)))
    return Ranks.read(folder, 1)


@pytest.fixture(
    params=[
        ("script", 2),
        pytest.param(("script", 3), marks=pytest.mark.stress),
        pytest.param(("torchrun", 2), marks=pytest.mark.stress),
        pytest.param(("torchrun", 3), marks=pytest.mark.stress),
    ],
    ids=lambda way: f"{way[1]} ranks by {way[0]}",
)
def together(request: pytest.FixtureRequest, alone: Ranks, shared: Path) -> Ranks:
    """Several processes, which also continue a checkpoint of the one that was alone."""
    way, ranks = request.param
    folder = shared / f"{way}-{ranks}"
    with FileLock(shared / f"{folder.name}.lock"):
        if not folder.exists():
            folder.mkdir()
            shutil.copy(alone.folder / "middle.ckpt", folder / "resume.ckpt")
            command = [part.format(ranks=ranks) for part in WAYS[way]]
            run([*command, str(folder), str(ranks)])
    return Ranks.read(folder, ranks)


def run(command: list[str], status: int = 0) -> str:
    """Run a command that starts processes of its own; leave none of them behind."""
    inherited = ("RANK", "WORLD_SIZE", "MASTER_", "GROUP_", "NODE_", "TORCHELASTIC", "SLURM")
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(inherited) and "LOCAL_RANK" not in name
    }
    environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=TIMEOUT)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert process.returncode == status, said
    return said


# --- train --------------------------------------------------------------------------------------


def test_train_ranks_share_each_global_batch_which_is_that_of_one_rank(
    alone: Ranks, together: Ranks
) -> None:
    for epoch in range(EPOCHS):
        stage = f"train {epoch}"
        share = GLOBAL_BATCH // len(together.notes)
        assert {len(part) for batch in together.batches(stage) for part in batch} == {share}
        assert together.order(stage) == alone.order(stage)
        assert len(set(together.order(stage))) == len(together.order(stage))


def test_an_epoch_of_train_leaves_out_the_ragged_end_alone(together: Ranks) -> None:
    dm = ranks_run.datamodule(together.folder, 1)
    dm.setup()
    windows = len(dm.dataset("train"))
    assert windows % GLOBAL_BATCH > 0
    for epoch in range(EPOCHS):
        seen = together.order(f"train {epoch}")
        assert len(seen) == windows - windows % GLOBAL_BATCH


def test_each_epoch_has_an_order_of_its_own_on_every_rank(together: Ranks) -> None:
    for note in together.notes:
        assert note["times"]["train 0"] != note["times"]["train 1"]


def test_the_weights_are_those_of_one_rank(alone: Ranks, together: Ranks) -> None:
    for note in together.notes:
        for one, other in zip(alone.notes[0]["weights"], note["weights"], strict=True):
            np.testing.assert_allclose(other, one, atol=1e-6)


# --- evaluation ---------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["val", "test", "predict"])
def test_evaluation_sees_every_window_once_and_in_order_on_each_rank(
    alone: Ranks, together: Ranks, stage: str
) -> None:
    assert sorted(together.order(stage)) == alone.order(stage)
    for note in together.notes:
        times = list(chain.from_iterable(note["times"][stage]))
        assert times == sorted(times)
    if stage != "test":
        counts = {len(note["times"][stage]) for note in together.notes}
        assert len(counts) == 2, "some ranks have a batch less"


@pytest.mark.parametrize("stage", ["val", "test"])
def test_metrics_are_those_of_one_device(alone: Ranks, together: Ranks, stage: str) -> None:
    for note in together.notes:
        one, other = (each["metrics"][f"{stage}_mean"] for each in (alone.notes[0], note))
        assert other == pytest.approx(one, rel=1e-6)


@pytest.mark.parametrize("stage", ["val", "test"])
def test_lightning_21859_its_own_mean_over_ranks_is_off_by_less_than_a_window_per_rank(
    alone: Ranks, together: Ranks, stage: str
) -> None:
    """It divides by the mean number of windows on a rank, as an integer: fractions are lost."""
    mean = len(alone.order(stage)) / len(together.notes)
    for note in together.notes:
        logged, right = (note["metrics"][f"{stage}_{kind}"] for kind in ("logged", "mean"))
        assert logged == pytest.approx(right, rel=1e-6) or logged == pytest.approx(
            right * mean / int(mean), rel=1e-6
        )


def test_predictions_of_all_ranks_are_one_file_by_time(alone: Ranks, together: Ranks) -> None:
    one, other = (
        pl.read_parquet(each.folder / "predictions.parquet") for each in (alone, together)
    )
    assert one.columns == other.columns == ["origin_time", "forecast_0_0", "forecast_1_0"]
    assert other["origin_time"].dt.epoch("s").to_list() == alone.order("predict")
    assert other["origin_time"].equals(one["origin_time"])
    for column in one.columns[1:]:
        np.testing.assert_allclose(other[column], one[column], atol=1e-6)
    with h5py.File(together.folder / "predictions.h5") as file:
        assert file["origin_time"][()].tolist() == alone.order("predict")
        assert np.array_equal(file["forecast"][:, 1, 0], other["forecast_1_0"].to_numpy())
    assert not list(together.folder.glob("*.parts"))


# --- resume on another number of ranks ----------------------------------------------------------


def test_a_checkpoint_of_one_rank_goes_on_in_the_same_order_on_several(
    alone: Ranks, together: Ranks
) -> None:
    resumed = Ranks(together.folder, tuple(note["resumed"] for note in together.notes))
    for epoch, done in enumerate((STOP, 0)):
        stage = f"train {epoch}"
        assert resumed.order(stage) == alone.order(stage)[done * GLOBAL_BATCH :]
    for one, other in zip(alone.notes[0]["weights"], resumed.notes[0]["weights"], strict=True):
        np.testing.assert_allclose(other, one, atol=1e-6)


def test_a_checkpoint_of_several_ranks_goes_on_in_the_same_order_on_one(
    alone: Ranks, together: Ranks, tmp_path: Path
) -> None:
    dm = ranks_run.datamodule(alone.folder, 1)
    model = ranks_run.model_for(dm)
    runner = ranks_run.trainer(tmp_path, 1, limit_val_batches=0)
    runner.fit(model, datamodule=dm, ckpt_path=str(together.folder / "middle.ckpt"))
    resumed = Ranks(tmp_path, ({"times": model.times},))
    for epoch, done in enumerate((STOP, 0)):
        stage = f"train {epoch}"
        assert resumed.order(stage) == alone.order(stage)[done * GLOBAL_BATCH :]


# --- stopped in every way -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ranks", "workers"),
    [
        (2, 0),
        pytest.param(2, 2, marks=pytest.mark.stress),
        pytest.param(3, 0, marks=pytest.mark.stress),
    ],
)
def test_ranks_that_are_stopped_in_any_way_go_on_with_the_same_batches_and_weights(
    tmp_path: Path, ranks: int, workers: int
) -> None:
    run([sys.executable, ranks_stops.__file__, str(tmp_path), str(ranks), str(workers)])
    for note in Ranks.read(tmp_path, ranks).notes:
        for setting, stop in product(ranks_stops.SETTINGS, ranks_stops.STOPS):
            whole, resumed = note[setting], note[f"{setting} {stop}"]
            done = len(whole["times"]) - len(resumed["times"])
            in_a_step = ranks_stops.STOPS[stop].stage == "train"
            assert 0 < done < len(whole["times"]), (setting, stop)
            assert not in_a_step or done <= ranks_stops.STEP + 1, (setting, stop)
            assert resumed["times"] == whole["times"][done:], (setting, stop)
            assert resumed["weights"] == whole["weights"], (setting, stop)


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.stress), 1])
def test_an_error_on_one_rank_ends_all_and_a_checkpoint_is_kept(tmp_path: Path, rank: int) -> None:
    """Lightning's ``OnExceptionCheckpoint`` waits there for the others for ever."""
    said = run([sys.executable, ranks_error.__file__, str(tmp_path), str(rank)], status=1)
    assert f"RuntimeError: rank {rank} goes wrong" in said
    assert torch.load(tmp_path / "stopped.ckpt")["global_step"] == ranks_error.STEP


# --- several nodes prepare the data at once -----------------------------------------------------


@dataclass(frozen=True)
class Slow(Source):
    """A slow source that notes in a file what it was asked for."""

    log: str

    name: ClassVar[str] = "slow"
    series: ClassVar[str] = "BTC"

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        with Path(self.log).open("a") as file:
            file.write(f"{span[0]} {span[1]}\n")
        time.sleep(1.0)
        yield from Simulator(seed=5).blocks(interval, span)


def prepare(folder: Path, nodes: int) -> tuple[str, int, float]:
    """What each node does; the name of its feature file, and what the first train batch holds."""
    (folder / f"ready-{os.getpid()}").touch()
    while len(list(folder.glob("ready-*"))) < nodes:
        time.sleep(0.01)
    dm = BTCDataModule(
        source=Slow(str(folder / "asked.txt")),
        start="2021-03-01",
        end="2021-03-20",
        data_dir=str(folder),
        batch_size=16,
    )
    dm.prepare_data()
    dm.setup()
    batch = next(iter(dm.train_dataloader()))
    return dm.table.path.name, len(dm.dataset("train")), float(batch.x.sum())


def test_nodes_that_prepare_a_shared_folder_at_once_download_once_and_all_end_well(
    tmp_path: Path,
) -> None:
    nodes = 3
    with get_context("spawn").Pool(nodes) as pool:  # forks would wait for threads of polars
        results = [pool.apply_async(prepare, (tmp_path, nodes)) for _ in range(nodes)]
        found = {result.get(timeout=TIMEOUT) for result in results}
    assert len(found) == 1
    assert len((tmp_path / "asked.txt").read_text().splitlines()) == 1
    folder = tmp_path / "slow/BTC/1h"
    left = {path.name for path in folder.iterdir() if path.suffix != ".lock"}
    assert left == {"candles.h5", found.pop()[0]}
