"""Leaks in what a Trainer hands to the model: transforms, hooks of batches, loaders."""

from typing import Any

import numpy as np
from torch.utils.data import DataLoader, default_collate

from btc_datamodule import Batch, BTCDataModule
from btc_datamodule.evaluation.splits import Stage
from tests.audit.planted.leak import ALLOWED, INPUTS, TRAIN_BLIND, UNKNOWN, Kind, Leak


def put_target_into_inputs(batch: Batch) -> Batch:
    x = batch.x.clone()
    x[..., -1, 0] = batch.y.nan_to_num().sum(dim=(-1, -2))
    return batch._replace(x=x)


def centre_by_batch(batch: Batch) -> Batch:
    return batch._replace(x=batch.x - batch.x.mean())


def take_target_from_inputs(batch: Batch) -> Batch:
    """What is to be forecast is the last input."""
    return batch._replace(y=batch.x[..., -1:, :1])


class Remembering:
    """A transform that keeps the batches that it has seen."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, batch: Batch) -> Batch:
        self.seen.append(int(batch.origin_time.max()))
        return batch


class BeforeTransfer(BTCDataModule):
    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return put_target_into_inputs(batch)


class AfterTransfer(BTCDataModule):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return put_target_into_inputs(batch)


class InTransfer(BTCDataModule):
    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        batch = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return put_target_into_inputs(batch)


class InTraining(BTCDataModule):
    """Asks its Trainer, and leaks while it trains only."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        assert self.trainer is not None
        return put_target_into_inputs(batch) if self.trainer.training else batch


class IntoPairs(BTCDataModule):
    """Hands out (inputs, targets), as most models take them, the target among the inputs."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return put_target_into_inputs(batch).x, batch.y


class IntoDicts(BTCDataModule):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return {"inputs": {"x": put_target_into_inputs(batch).x}, "target": batch.y}


class Standardising(BTCDataModule):
    """A setup of its own takes statistics of everything; a hook applies them."""

    def setup(self, stage: str | None = None) -> None:
        super().setup(stage)
        self.level = float(np.nanmean(np.log(self.table.bars("close"))))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch._replace(x=batch.x - self.level)


class ValInTrain(BTCDataModule):
    """A train loader of its own goes over validation too."""

    def train_dataloader(self) -> Any:
        return [*super().train_dataloader(), *super().val_dataloader()]


class Unfinished(BTCDataModule):
    """A test loader of its own leaves out its last batch."""

    def test_dataloader(self) -> Any:
        return list(super().test_dataloader())[:-1]


class PredictingTest(BTCDataModule):
    """A predict loader of its own leaves out the newest bars."""

    def predict_dataloader(self) -> Any:
        return super().test_dataloader()


def collate(samples: list[Batch]) -> Batch:
    """Puts samples together, and the target among the inputs."""
    return put_target_into_inputs(Batch(*default_collate(samples)))


def collate_pairs(samples: list[Batch]) -> Any:
    batch = collate(samples)
    return batch.x, batch.y


class OwnLoader(BTCDataModule):
    """Loaders of torch's own over the dataset, as the tutorial had them."""

    def collate(self, samples: list[Batch]) -> Any:
        return Batch(*default_collate(samples))

    def make(self, stage: Stage, *, shuffle: bool = False) -> Any:
        return DataLoader(
            self.dataset(stage), batch_size=16, shuffle=shuffle, collate_fn=self.collate
        )

    def train_dataloader(self) -> Any:
        return self.make("train", shuffle=True)

    def test_dataloader(self) -> Any:
        return self.make("test")

    def predict_dataloader(self) -> Any:
        return self.make("predict")


class Collating(OwnLoader):
    def collate(self, samples: list[Batch]) -> Any:
        return collate(samples)


class CollatingPairs(OwnLoader):
    """Its batches do not say which samples they hold."""

    def collate(self, samples: list[Batch]) -> Any:
        return collate_pairs(samples)


class SecondLoader(OwnLoader):
    """The first of two test loaders is honest."""

    def test_dataloader(self) -> Any:
        leaking = DataLoader(self.dataset("test"), batch_size=16, collate_fn=collate)
        return {"honest": self.make("test"), "leaking": leaking}


class CollatingPredict(BTCDataModule):
    def predict_dataloader(self) -> Any:
        return DataLoader(self.dataset("predict"), batch_size=16, collate_fn=collate)


def of(found_by: str, kind: Kind = BTCDataModule, clean: Kind = BTCDataModule, **leak: Any) -> Leak:
    return Leak((found_by,), leak, dict.fromkeys(leak), kind=kind, clean_kind=clean)


HANDED = {
    "a transform that writes y into x": of(INPUTS, transform=put_target_into_inputs),
    "likewise on the device": Leak(
        (INPUTS,),
        {"transform": put_target_into_inputs, "gather": "device"},
        {"transform": None, "gather": "device"},
    ),
    "a transform that makes y of x": of(UNKNOWN, transform=take_target_from_inputs),
    "a transform that remembers": of(INPUTS, transform=Remembering()),
    "y into x in the second of two loaders": of(INPUTS, SecondLoader, OwnLoader),
    "a transform that mixes a batch": of(INPUTS, transform=centre_by_batch),
    "y into x before the transfer": of(INPUTS, BeforeTransfer),
    "y into x in the transfer": of(INPUTS, InTransfer),
    "y into x after the transfer": of(INPUTS, AfterTransfer),
    "y into x while training": of(INPUTS, InTraining),
    "y into x of pairs": of(INPUTS, IntoPairs),
    "y into x of dicts": of(INPUTS, IntoDicts),
    "statistics of a setup of its own": of(TRAIN_BLIND, Standardising),
    "a train loader that serves val": of(TRAIN_BLIND, ValInTrain),
    "a test loader that drops a batch": of(ALLOWED, Unfinished),
    "a predict loader that ends early": of(ALLOWED, PredictingTest),
    "y into x in a collate": of(INPUTS, Collating, OwnLoader),
    "y into x in a collate to pairs": of(INPUTS, CollatingPairs, OwnLoader),
    "y into x in the loader of predict": of(INPUTS, CollatingPredict),
}
