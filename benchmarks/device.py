"""What a gather on the device reaches, beside a copy of the same bytes within its memory.

    python benchmarks/device.py                 # takes an accelerator
    python benchmarks/device.py --device cpu    # the same way, without one: no figure of a GPU

Windows of ``--lookback`` x 6 from ``--rows`` rows, ``--batch`` of them at a time. The first table
is of the gather alone: positions lie on the device, and a batch is made of them again and again.

    copy            of as many bytes of x, float32, within the device's memory: 100 %
    before          x alone by ``index_select`` of float32 rows
    plain torch     a whole batch, rows copied as the widest words
    Triton          a whole batch in one kernel, where there is Triton

The second is of whole batches: order, ``x``, ``y``, times and masks, by a loader and
``transfer_batch_to_device``, without a model. Medians of ``--rounds`` rounds, in which all take
turns; each share is the median of those within a round.
"""

import argparse
import logging
import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from contenders import FEATURES, datamodule
from timing import choose_device, machine, ratio
from torch import Tensor
from training import delivered, each_second, per_second

from btc_datamodule import BTCDataModule


def gathers(dm: BTCDataModule, device: torch.device) -> dict[str, Callable[[], object]]:
    """The ways to gather one batch on a device, by name."""
    starts: Any = next(iter(dm.train_dataloader()))
    gather = dm._get_device_gather()
    gather(starts, device)
    (held,) = gather._held.values()
    assert held is not None
    brought = starts.stretch.bring_to(next(iter(gather._held)))
    given = held.stages["train"], brought.positions, starts.at, len(starts)
    ways: dict[str, Callable[[], object]] = {"plain torch": lambda: held._gather_plainly(*given)}
    if held.kernel is not None:
        ways["Triton"] = lambda: held._launch(*given)
    return ways


def before(dm: BTCDataModule, device: torch.device) -> Callable[[], Tensor]:
    """``index_select`` of a batch of windows from rows of float32."""
    width = len(FEATURES)
    rows = torch.randn(dm.table.rows, width, device=device)
    windows = rows.as_strided((len(rows) - dm.lookback + 1, dm.lookback * width), (width, 1))
    starts = torch.randint(0, len(windows), (dm.batch_size,), device=device)
    return lambda: windows.index_select(0, starts)


def compare(ways: dict[str, Callable[[], object]], size: int, options: Any, device: Any) -> None:
    """Print how long each way takes, and its speed beside that of the first."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            rates[name].append(per_second(options.steps, way, device))
    print(f"{'the gather alone':24}{'us':>9}{'GB/s of x':>12}{'of the copy':>13}")
    for name, found in rates.items():
        rate, share = statistics.median(found), ratio(found, rates["copy"])
        bytes_each = size // 2 if "bfloat16" in name else size
        print(f"{name:24}{1e6 / rate:9.1f}{rate * bytes_each / 1e9:12,.0f}{share:13.0%}")


def main() -> None:
    parser = argparse.ArgumentParser(description="What a gather on the device reaches.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="bars in the series")
    parser.add_argument("--lookback", type=int, default=256, help="rows in a window")
    parser.add_argument("--batch", type=int, default=1024, help="windows in a batch")
    parser.add_argument("--steps", type=int, default=300, help="in each stretch")
    parser.add_argument("--rounds", type=int, default=5, help="stretches of each way")
    parser.add_argument("--device", help="default: an accelerator, if there is one")
    parser.add_argument("--data-dir", help="keep the files here (default: a temporary folder)")
    options = parser.parse_args()

    device = choose_device(options.device)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    print(machine())
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else device
    print(f"device: {card}" + ", which is no accelerator" * (device.type == "cpu"))
    size = options.batch * options.lookback * len(FEATURES) * 4
    print(
        f"{options.batch} windows of {options.lookback} x {len(FEATURES)}: {size / 1e6:,.1f} MB "
        "of float32\n"
    )
    with ExitStack() as stack:
        folder = options.data_dir or stack.enter_context(
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        )

        def made(**changes: Any) -> BTCDataModule:
            return datamodule(options.rows, options.lookback, options.batch, folder, **changes)

        wide = made(gather="device")
        narrow = made(gather="device", dtype="bfloat16")
        one, other = (torch.randn(size // 4, device=device) for _ in range(2))
        ways: dict[str, Callable[[], object]] = {"copy": lambda: other.copy_(one)}
        ways["before"] = before(wide, device)
        ways |= gathers(wide, device)
        ways |= {f"{name}, bfloat16": way for name, way in gathers(narrow, device).items()}
        compare(ways, size, options, device)

        print(f"\n{'whole batches':24}{'us':>9}{'windows/s':>14}")
        streams = {"float32": delivered(wide, device), "bfloat16": delivered(narrow, device)}
        rates: dict[str, list[float]] = {name: [] for name in streams}
        for _ in range(options.rounds):
            for name, stream in streams.items():
                rates[name].append(each_second(options.steps, stream, len, device))
        for name, each in rates.items():
            rate = statistics.median(each)
            print(f"{name:24}{1e6 / rate:9.1f}{rate * options.batch:14,.0f}")


if __name__ == "__main__":
    main()
