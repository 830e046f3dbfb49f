"""What a device holds, and how it is copied: as words, by a kernel or by plain torch."""

import os
import subprocess
import sys
import warnings
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

from btc_datamodule import Batch
from btc_datamodule.windows.held import Held, HeldStage, find_kernel, view_words

T, LOOKBACK = 40, 5


def held(features: int = 6, dtype: torch.dtype = torch.float32, **options: Any) -> Held:
    x = torch.randn(T, features).to(dtype)
    settings: dict[str, Any] = {"lookback": LOOKBACK, "by_feature": False, "observed": None}
    return Held(x=x, first=1000, interval=60, **settings | options)


def stage(count: int = T - LOOKBACK + 1) -> HeldStage:
    return HeldStage(torch.arange(count), torch.randn(count, 2, 1))


@pytest.mark.parametrize(
    ("features", "dtype", "word"),
    [
        (6, torch.float32, torch.int64),
        (5, torch.float32, torch.int32),
        (4, torch.bfloat16, torch.int64),
        (6, torch.bfloat16, torch.int32),
        (5, torch.bfloat16, torch.int16),
        (1, torch.bool, torch.uint8),
        (8, torch.bool, torch.int64),
    ],
)
def test_a_row_is_copied_in_the_widest_words_that_it_divides_into(
    features: int, dtype: torch.dtype, word: torch.dtype
) -> None:
    rows = torch.zeros(T, features, dtype=dtype)
    words = view_words(rows)
    assert words.dtype == word
    assert words.shape == (T, features * dtype.itemsize // word.itemsize)
    assert words.data_ptr() == rows.data_ptr()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("features", [1, 4, 6])
def test_a_batch_is_the_rows_targets_and_times_of_its_windows(
    features: int, dtype: torch.dtype
) -> None:
    observed = torch.rand(T, features) < 0.5
    rows, own = held(features, dtype, observed=observed, by_feature=True), stage()
    rows.add("train", own)
    positions = torch.tensor([9, 3, 35, 0, 3, 7])
    one, two = rows.gather("train", positions, 1, 2, 2)
    for batch, starts in ((one, [3, 35]), (two, [0, 3])):
        assert torch.equal(batch.x, torch.stack([rows.x[at : at + LOOKBACK] for at in starts]))
        due = torch.stack([observed[at : at + LOOKBACK] for at in starts])
        assert torch.equal(batch.observed, due)
        assert torch.equal(batch.y, own.y[starts])
        assert batch.origin_time.tolist() == [1000 + 60 * at for at in starts]


def test_where_all_is_observed_the_mask_says_so() -> None:
    for by_feature, shape in ((False, (3, LOOKBACK)), (True, (3, LOOKBACK, 6))):
        rows = held(by_feature=by_feature)
        rows.add("val", stage())
        (batch,) = rows.gather("val", torch.arange(3), 0, 3)
        assert batch.observed.shape == shape
        assert batch.observed.all()


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (torch.zeros(4, 3, 2), (4, 6)),
        (torch.zeros(4, dtype=torch.int64), (4, 2)),
        (torch.zeros(0, 3, 1), (0, 3)),
        (None, (4, 0)),
    ],
)
def test_targets_of_any_shape_are_words_of_four_bytes(y: Any, words: tuple[int, int]) -> None:
    count = 4 if y is None else len(y)
    assert HeldStage(torch.zeros(count, dtype=torch.int64), y).y_words.shape == words


def test_as_many_batches_are_gathered_together_as_take_little_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    each = 10 * LOOKBACK * 6 * 4
    monkeypatch.setattr("btc_datamodule.windows.held.TOGETHER_BYTES_CPU", 3 * each)
    assert held().count_together(10) == 3
    assert held().count_together(11) == 2
    assert held().count_together(1000) == 1
    assert held(dtype=torch.bfloat16).count_together(10) == 6


class Kernel:
    """In the place of Triton's, launched as that is."""

    def __init__(self, fails: bool) -> None:
        self.fails = fails

    def __getitem__(self, grid: tuple[int, int]) -> "Kernel":
        return self

    def __call__(self, *given: Any, **options: Any) -> None:
        if self.fails:
            raise RuntimeError("Failed to find C compiler.\nPlease specify")
        out: tuple[Tensor, ...] = given[6:10]
        for each in out:
            each.zero_()


@pytest.mark.parametrize(
    ("fails", "told"),
    [
        (True, r"\(RuntimeError: Failed to find C compiler\.\): plain torch"),
        (False, "its windows are not those of plain torch"),
    ],
)
def test_a_kernel_that_fails_or_is_wrong_is_not_used_and_a_warning_says_so(
    fails: bool, told: str
) -> None:
    rows, own = held(), stage()
    rows.kernel = Kernel(fails)
    with pytest.warns(UserWarning, match=f"Triton does not work on cpu .*{told}"):
        rows.add("train", own)
    assert rows.kernel is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows.add("val", own)
        (batch,) = rows.gather("val", torch.arange(4), 0, 4)
    assert torch.equal(batch.y, own.y[:4])


def test_no_kernel_is_asked_for_on_a_cpu() -> None:
    assert find_kernel(torch.device("cpu")) is None


INTERPRETED = """
import torch
import btc_datamodule.windows.held as module
from btc_datamodule.windows.kernel import copy_windows
from tests.windows.test_held import held, stage

module.BLOCK = 16
for features in (1, 4, 6):
    for dtype in (torch.float32, torch.bfloat16):
        for observed in (None, torch.rand(40, features) < 0.5):
            rows = held(features, dtype, observed=observed, by_feature=True)
            rows.kernel = copy_windows
            rows.add("train", stage())
            assert rows.kernel is copy_windows
print("done")
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="no Triton")
def test_the_kernel_as_triton_interprets_it_without_a_gpu_is_plain_torch() -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONWARNINGS": "error::UserWarning"}
    command = [sys.executable, "-c", INTERPRETED]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout == "done\n", done.stderr


@pytest.mark.skipif(
    not torch.cuda.is_available() or find_spec("triton") is None, reason="no GPU with Triton"
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernel_on_a_gpu_is_plain_torch(dtype: torch.dtype) -> None:
    x, y = torch.randn(5000, 6, device="cuda").to(dtype), torch.randn(4000, 3, device="cuda")
    rows = Held(x, None, lookback=300, by_feature=False, first=0, interval=86400)
    own = HeldStage(torch.arange(4000, device="cuda"), y)
    rows.add("train", own)
    assert rows.kernel is not None
    positions = torch.randint(4000, (3000,), device="cuda")
    (batch,) = rows.gather("train", positions, 17, 2000)
    due = rows._gather_plainly(own, positions, 17, 2000)
    assert isinstance(batch, Batch)
    assert all(torch.equal(a, b) for a, b in zip(batch, due, strict=True))
    assert batch.origin_time.max() > 2**28
