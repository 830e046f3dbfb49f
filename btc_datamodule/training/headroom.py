"""What loading costs: a training step beside the same step on a batch that is there already.

The most that a faster loader could win is what the loop gains if it is given one batch again and
again. A Trainer trains a copy of the model, by turns on such a batch and on those of the loader,
each for a stretch of time, so that a machine that is busy now and then is so for both.
"""

import copy
import logging
import random
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Literal, Protocol

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from btc_datamodule.errors import ConfigError
from btc_datamodule.settings import Settings
from btc_datamodule.training import internals

ROUNDS = 5
"""In each of which there is a stretch with loading and one without; one more comes before."""

MOST_SECONDS = 3600

Clock = Callable[[], float]


@dataclass(frozen=True, repr=False)
class Headroom:
    """What loading costs, and what could be won, printed as one line.

    Attributes:
        device: that the model was trained on.
        batch_size: windows in a batch.
        now: the way of loading that the datamodule has.
        loaded: seconds that a step takes with loading, for each way: ``host``, ``pinned`` (made in
            pinned memory) and ``device`` (``gather="device"``), of those that there are.
        cached: seconds that it takes on one batch again and again, measured beside it.
        share: of a step that loading takes, from 0 to 1: the median of those within a round.
    """

    device: str
    batch_size: int
    now: str
    loaded: Mapping[str, float]
    cached: Mapping[str, float]
    share: Mapping[str, float]

    def __repr__(self) -> str:
        others = "".join(
            f"; {way}: {share:.0%}, {self.loaded[way] * 1e3:,.2f} ms"
            for way, share in self.share.items()
            if way != self.now
        )
        return (
            f"loading takes {self.share[self.now]:.0%} of a training step ({self.now}, batches of "
            f"{self.batch_size:,} on {self.device}): {self.loaded[self.now] * 1e3:,.2f} ms, "
            f"{self.cached[self.now] * 1e3:,.2f} without; the most to be won is "
            f"{self.gain:.2f} times as many steps{others}"
        )

    @property
    def gain(self) -> float:
        """How many times as many steps there would be, were loading to take no time at all."""
        return 1 / (1 - self.share[self.now])


class Loading(Protocol):
    """A datamodule, as far as it decides how batches are loaded."""

    settings: Settings
    num_workers: int
    pin_memory: bool | None
    gather: Literal["host", "device"]

    @property
    def batch_size(self) -> int:
        """Windows in a batch."""

    def train_dataloader(self) -> Iterable[Any]:
        """An epoch of train, each time it is gone through."""

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device | str, dataloader_idx: int
    ) -> Any:
        """What a Trainer does with each batch."""


def find_headroom(
    model: Any,
    loading: Loading,
    serve: Callable[[], Loading],
    *,
    seconds: float,
    precision: Any,
    clock: Clock = time.perf_counter,
) -> Headroom:
    """What ``BTCDataModule.headroom`` gives.

    Args:
        model: a copy of which is trained.
        loading: the datamodule.
        serve: gives another one with the same batches, which may be changed.
        seconds: about how long each way is measured.
        precision: of the Trainer.
        clock: what time it is, in seconds.
    """
    _check_model(model)
    if not 0 < seconds <= MOST_SECONDS:
        raise ConfigError(f"seconds is {seconds!r:.40}: give more than 0, at most {MOST_SECONDS:,}")
    ways, now = _list_ways(loading)
    found: dict[str, Turns] = {}
    for way in ways:
        twin = serve()
        twin.num_workers, twin.pin_memory = loading.num_workers, way == "pinned"
        twin.gather = "device" if way == "device" else "host"
        found[way] = _train(model, twin, seconds / (2 * (ROUNDS + 1)), precision, clock)
        if len(found[way].loaded) < ROUNDS:
            raise ConfigError(
                f"model {type(model).__name__} has stopped its Trainer: give one that trains on"
            )
    shares = {
        way: statistics.median(1 - b / a for a, b in zip(each.loaded, each.cached, strict=True))
        for way, each in found.items()
    }
    return Headroom(
        str(found[now].device),
        loading.batch_size,
        now,
        {way: statistics.median(each.loaded) for way, each in found.items()},
        {way: statistics.median(each.cached) for way, each in found.items()},
        {way: max(0.0, share) for way, share in shares.items()},
    )


def _list_ways(loading: Loading) -> tuple[list[str], str]:
    """The ways of loading that there are here, and the one that a Trainer would use."""
    ways, now = ["host"], "host"
    if torch.cuda.is_available():
        ways.append("pinned")
        now = "host" if loading.pin_memory is False else "pinned"
    on_device = loading.gather == "device"
    if loading.settings.scaling != "window" and (on_device or torch.accelerator.is_available()):
        ways.append("device")
        now = "device" if on_device else now
    return ways, now


def _check_model(model: Any) -> None:
    """Raise ``ConfigError`` unless a Trainer can train a model."""
    if not isinstance(model, LightningModule):
        raise ConfigError(f"model is a {type(model).__name__}: give a LightningModule")
    for name in ("training_step", "configure_optimizers"):
        if getattr(type(model), name) is getattr(LightningModule, name):
            raise ConfigError(f"model {type(model).__name__} has no {name}: give one that trains")


def _train(
    model: LightningModule, loading: Loading, seconds: float, precision: Any, clock: Clock
) -> "Turns":
    """Train a copy of a model by turns; a stretch takes so many seconds."""
    twin = copy.deepcopy(model)
    setattr(twin, "configure_callbacks", list)  # noqa: B010 (its callbacks may write files)
    with _keep_random(), _hush():
        trainer = Trainer(
            devices=1,
            plugins=[internals.make_lone_environment()],
            precision=precision,
            max_epochs=1,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        device = trainer.strategy.root_device
        turns = Turns(_load(loading, device), device, seconds, clock)
        trainer.fit(twin, datamodule=Given(loading, turns))
    return turns


def _load(loading: Loading, device: torch.device) -> Iterator[Any]:
    """Batches of train on a device, without end."""
    loader = loading.train_dataloader()
    while True:
        for batch in loader:
            yield loading.transfer_batch_to_device(batch, device, 0)


class Given(LightningDataModule):
    """The datamodule as a model sees it, with other batches, and nothing to prepare.

    Args:
        loading: where all else is looked up.
        batches: of train.
    """

    def __init__(self, loading: Loading, batches: "Turns") -> None:
        self._loading = loading
        self._batches = batches
        super().__init__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loading, name)

    def train_dataloader(self) -> "Turns":
        """What a Trainer trains on."""
        return self._batches


class Turns:
    """What a Trainer is given as a loader: stretches of batches, loaded and the same one, by turns.

    A stretch is measured from before its first batch is asked for until the step of its last one
    is done.

    Args:
        batches: without end, of which one at least is asked for in each stretch.
        device: that does the work.
        seconds: that a stretch takes at least.
        clock: what time it is.

    Attributes:
        loaded: seconds a step, of each stretch with loading but the first.
        cached: of each stretch without.
    """

    def __init__(
        self, batches: Iterator[Any], device: torch.device, seconds: float, clock: Clock
    ) -> None:
        self.device = device
        self.loaded: list[float] = []
        self.cached: list[float] = []
        self._batches = batches
        self._seconds = seconds
        self._clock = clock

    def __len__(self) -> int:
        return 1 << 40  # of a loader without a length a Trainer asks for a batch ahead

    def __iter__(self) -> Iterator[Any]:
        one = next(self._batches)
        yield one  # whose step takes longer, as the first of all
        for _ in range(ROUNDS + 1):
            yield from self._stretch(repeat(one), self.cached)
            yield from self._stretch(self._batches, self.loaded)
        del self.cached[0], self.loaded[0]

    def _stretch(self, batches: Iterator[Any], times: list[float]) -> Iterator[Any]:
        begin, count = self._tell_time(), 0
        while not count or self._clock() - begin < self._seconds:
            yield next(batches)
            count += 1
        times.append((self._tell_time() - begin) / count)

    def _tell_time(self) -> float:
        """The time when all is done that the device was given."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        return self._clock()


@contextmanager
def _keep_random() -> Iterator[None]:
    """Leave the random states as they are, also if what is done ends in an error."""
    plain, numbers = random.getstate(), np.random.get_state()  # noqa: NPY002 (the global one)
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(plain)
        np.random.set_state(numbers)  # noqa: NPY002


@contextmanager
def _hush() -> Iterator[None]:
    """Let a Trainer say nothing of what it was given on purpose."""
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
