"""Fits on several ranks that are stopped in every way, and what they do when they go on.

    python ranks_stops.py FOLDER RANKS WORKERS

Each rank writes FOLDER/rank<n>.json: for each setting and stop the steps that were done before, the
batches after (as origin times), and the weights at the end, beside those of a fit without a stop.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import Timer
from torch import Tensor

from btc_datamodule import Batch, StopCheckpoint
from tests.training.ranks_run import Recorder, Times, datamodule, hand_in, model_for, trainer

SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulating": {"accumulate_grad_batches": 3, "val_check_interval": 0.5},
}
STEP = 7
"""The step of the stop: in the middle of an epoch, and of an accumulation."""

START = "forkserver"
"""How workers start: before Python 3.11.10 a fork beside gloo's threads can hang (gh-112275)."""


class StoppedError(Exception):
    pass


class Stops(Recorder):
    """Does something in one step, or as the next validation begins."""

    slow = 0.0
    """Seconds to wait in a step."""

    def at(self, step: int, stop: "Stop") -> "Stops":
        self.done, self.step, self.stop = 0, step, stop
        return self

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if self.done == self.step and self.stop.stage != "val":
            self.stop.act(self)
        self.done += 1
        time.sleep(self.slow)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        if batch_idx == 0 and self.done > self.step > 0 and self.stop.stage == "val":
            self.stop.act(self)
        super().validation_step(batch, batch_idx)


class Stop(NamedTuple):
    """What stops a fit, and where."""

    act: Callable[[Stops], None]
    stage: str = "train"  # "val" as a validation begins; "any" some time after a step


def fail(_: Stops) -> None:
    raise StoppedError


def terminate(*ranks: int) -> Callable[[Stops], None]:
    """A SIGTERM for some of the ranks; rank 0 passes it on to those that Lightning started."""

    def act(model: Stops) -> None:
        if model.global_rank in ranks:
            os.kill(os.getpid(), signal.SIGTERM)

    return act


def terminate_soon(model: Stops) -> None:
    """A SIGTERM for one rank, a while later, wherever it is then."""
    if model.global_rank == 1:
        threading.Timer(0.035, os.kill, (os.getpid(), signal.SIGTERM)).start()
    model.slow = 0.02


def run_out(model: Stops) -> None:
    """Let the time of ``max_time`` run out."""
    for each in model.trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(each, Timer):
            each._duration = 0.0


STOPS = {
    "exception": Stop(fail),
    "SIGTERM": Stop(terminate(0, 1, 2)),
    "SIGTERM of rank 0": Stop(terminate(0)),
    "SIGTERM of rank 1": Stop(terminate(1)),
    "SIGTERM in validation": Stop(terminate(1), "val"),
    "SIGTERM at some time": Stop(terminate_soon, "any"),
    "max_time": Stop(run_out),
}


def run(folder: Path, ranks: int, workers: int) -> dict[str, Any]:
    """All settings and stops on this rank."""
    torch.set_num_threads(1)
    loading = {"num_workers": workers, "start_method": START}
    notes: dict[str, Any] = {}
    for name, options in SETTINGS.items():
        dm = datamodule(folder, ranks, **loading)
        model = stops_for(dm).at(-1, Stop(fail))
        runner = trainer(folder, ranks, **options)
        runner.fit(model, datamodule=dm)
        notes[name] = result(model)
        for kind, stop in STOPS.items():
            path = folder / f"{name}-{kind}.ckpt"
            callbacks: list[Callback] = [StopCheckpoint(str(folder), path.stem)]
            if stop.act is run_out:
                callbacks.append(Timer(timedelta(days=1)))
            dm = datamodule(folder, ranks, **loading)
            with suppress(StoppedError, SystemExit):
                runner = trainer(folder, ranks, *callbacks, enable_checkpointing=True, **options)
                runner.fit(stops_for(dm).at(STEP, stop), datamodule=dm)
            torch.distributed.barrier()  # the file is there
            dm = datamodule(folder, ranks, **loading)
            model = stops_for(dm).at(-1, Stop(fail))
            trainer(folder, ranks, **options).fit(model, datamodule=dm, ckpt_path=str(path))
            notes[f"{name} {kind}"] = result(model)
    return notes | {"rank": runner.global_rank}


def stops_for(dm: Any) -> Stops:
    model = model_for(dm)
    model.__class__ = Stops
    assert isinstance(model, Stops)
    return model


def result(model: Stops) -> dict[str, Any]:
    times: Times = [each for epoch in (0, 1) for each in model.times.get(f"train {epoch}", [])]
    weights = [value.flatten().tolist() for value in model.state_dict().values()]
    return {"times": times, "weights": weights}


if __name__ == "__main__":
    multiprocessing.set_forkserver_preload(["btc_datamodule.datamodule"])
    place = Path(sys.argv[1])
    hand_in(place, run(place, int(sys.argv[2]), int(sys.argv[3])))
