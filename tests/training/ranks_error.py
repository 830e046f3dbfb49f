"""A fit on two ranks in which one of them goes wrong, with a ``StopCheckpoint`` in FOLDER.

python ranks_error.py FOLDER RANK
"""

import sys
from pathlib import Path

import torch
from torch import Tensor

from btc_datamodule import Batch, StopCheckpoint
from tests.training.ranks_run import GLOBAL_BATCH, Recorder, datamodule, model_for, trainer

STEP = 4


class GoesWrong(Recorder):
    """On one rank."""

    rank = -1

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if self.global_step == STEP and self.global_rank == self.rank:
            raise RuntimeError(f"rank {self.rank} goes wrong")
        assert len(batch.x) == GLOBAL_BATCH // 2
        return super().training_step(batch, batch_idx)


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    dm = datamodule(folder, 2)
    model = model_for(dm)
    model.__class__ = GoesWrong
    assert isinstance(model, GoesWrong)
    model.rank = int(sys.argv[2])
    kept = StopCheckpoint(str(folder))
    trainer(folder, 2, kept, enable_checkpointing=True).fit(model, datamodule=dm)
