"""What resuming costs, and how it goes without a Trainer."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from btc_datamodule import Batch
from btc_datamodule.windows.permutation import permute_run
from btc_datamodule.windows.sampler import WindowSampler
from btc_datamodule.windows.together import TOGETHER
from tests.training.resume.fits import (
    StoppedError,
    break_off,
    datamodule,
    digest_of,
    model_for,
    prepared,
    stop_after,
    trainer,
)


@pytest.mark.parametrize("stop", [1, 30])
def test_resuming_late_in_an_epoch_permutes_and_gathers_nothing_of_what_was_seen(
    folder: Path, tmp_path: Path, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    dm = datamodule(folder, batch_size=8)
    kept = stop_after(stop, tmp_path, dm, max_epochs=1)
    asked: list[int] = []

    def counting(start: int, count: int, size: int, seed: int, epoch: int) -> Any:
        asked.extend(range(start, start + count))
        return permute_run(start, count, size, seed, epoch)

    monkeypatch.setattr("btc_datamodule.windows.sampler.permute_run", counting)
    monkeypatch.setattr("btc_datamodule.windows.sampler.PERMUTED_AT_ONCE", 16)
    after = model_for(dm).prepare(0, break_off)
    with pytest.raises(StoppedError):
        trainer(tmp_path).fit(after, datamodule=dm, ckpt_path=kept)
    assert asked == list(range(8 * stop, 8 * stop + len(asked)))
    assert 16 <= len(asked) <= 8 * TOGETHER


@pytest.mark.parametrize("shuffle", ["full", "block", "none"])
@pytest.mark.parametrize("workers", [0, 2])
def test_plain_pytorch_resumes_with_the_epoch_and_a_number_of_batches(
    folder: Path, shuffle: str, workers: int
) -> None:
    def loader() -> Any:
        return prepared(folder, shuffle=shuffle, num_workers=workers).train_dataloader()

    def digests(batches: Iterator[Batch]) -> list[str]:
        return [digest_of(batch) for batch in batches]

    first = loader()
    first.sampler.set_epoch(2)
    whole = digests(first)
    resumed = loader()
    assert isinstance(resumed.sampler, WindowSampler)
    resumed.sampler.set_epoch(2)
    resumed.sampler.skip(5)
    assert digests(resumed) == whole[5:]
    assert digests(resumed) == whole, "the epoch after it is whole"
