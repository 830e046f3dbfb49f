"""What loading costs a training loop: by worker processes, a prefetching thread, and ``gather``.

    python benchmarks/training.py                    # on an accelerator, if there is one
    python benchmarks/training.py --device cpu --batch 256

A small model, ``--hidden`` units, is trained on windows of ``--lookback`` x 6 with a loop of plain
PyTorch. How to read the table:

    no loading      the same batch again and again: what the model itself takes
    workers 0       batches are made in the loop's own process: the default
    workers 2       by two worker processes
    pinned          as workers 0, in pinned memory: the default of a Trainer on a GPU
    thread          by a thread of the loop's own process, two batches ahead
    gather: device  rows and targets lie in the device's memory, and only positions travel

    steps/s         median of the rounds, in which all take turns
    of the model    as a share of no loading, within a round
    loading alone   windows/s of the same loader without a model, the transfer included

What the gather on the device takes beside a copy of the same bytes: ``benchmarks/device.py``.
"""

import argparse
import logging
import queue
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import repeat
from typing import Any

import torch
from contenders import FEATURES, datamodule, epochs
from timing import choose_device, machine, ratio
from torch import nn

from btc_datamodule import Batch, BTCDataModule

AHEAD = 2


def ahead(batches: Iterator[Any]) -> Iterator[Any]:
    """The same batches, made by a thread up to ``AHEAD`` before they are asked for."""
    made: queue.Queue[Any] = queue.Queue(AHEAD)
    over = threading.Event()

    def work() -> None:
        for batch in batches:
            while not over.is_set():
                try:
                    made.put(batch, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if over.is_set():
                return

    thread = threading.Thread(target=work)
    thread.start()
    try:
        while True:
            yield made.get()
    finally:
        over.set()
        thread.join()


def delivered(dm: BTCDataModule, device: torch.device) -> Iterator[Batch]:
    """The batches of train on a device, without end."""
    for batch in epochs(dm.train_dataloader()):
        yield dm.transfer_batch_to_device(batch, device, 0)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def per_second(count: int, run: Callable[[], object], device: torch.device) -> float:
    """How often something is done in a second, of ``count`` times."""
    for _ in range(3):
        run()
    synchronise(device)
    begin = time.perf_counter()
    for _ in range(count):
        run()
    synchronise(device)
    return count / (time.perf_counter() - begin)


def each_second(
    count: int, batches: Iterator[Batch], act: Callable[[Batch], object], device: torch.device
) -> float:
    """How many batches a second are made and used, of ``count``."""
    return per_second(count, lambda: act(next(batches)), device)


def trainer_step(options: argparse.Namespace, device: torch.device) -> Callable[[Batch], None]:
    """One step of training on a batch."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(options.lookback * len(FEATURES), options.hidden),
        nn.ReLU(),
        nn.Linear(options.hidden, 1),
    ).to(device)
    optimizer = torch.optim.Adam(model.parameters())

    def step(batch: Batch) -> None:
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.mse_loss(model(batch.x), batch.y[:, 0]))
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description="What loading costs a training loop.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="bars in the series")
    parser.add_argument("--lookback", type=int, default=256, help="rows in a window")
    parser.add_argument("--batch", type=int, default=1024, help="windows in a batch")
    parser.add_argument("--hidden", type=int, default=64, help="units of the model")
    parser.add_argument("--steps", type=int, default=100, help="in each stretch")
    parser.add_argument("--rounds", type=int, default=5, help="stretches of each way")
    parser.add_argument("--device", help="default: an accelerator, if there is one")
    parser.add_argument("--data-dir", help="keep the files here (default: a temporary folder)")
    options = parser.parse_args()

    device = choose_device(options.device)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    print(machine())
    print(
        f"device {device}; windows of {options.lookback} x {len(FEATURES)}, batch {options.batch}, "
        f"a model of {options.hidden} units, {torch.get_num_threads()} torch threads\n"
    )
    with ExitStack() as stack:
        folder = options.data_dir or stack.enter_context(
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        )

        def made(**changes: Any) -> BTCDataModule:
            return datamodule(options.rows, options.lookback, options.batch, folder, **changes)

        host, workers, on_device = made(), made(num_workers=2), made(gather="device")
        pinned = made(pin_memory=device.type == "cuda")
        one = next(delivered(host, device))
        ways: dict[str, Callable[[], Iterator[Batch]]] = {
            "no loading": lambda: repeat(one),
            "workers 0": lambda: delivered(host, device),
            "workers 2": lambda: delivered(workers, device),
            "pinned": lambda: delivered(pinned, device),
            "thread": lambda: ahead(delivered(host, device)),
            "gather: device": lambda: delivered(on_device, device),
        }
        step = trainer_step(options, device)
        steps: dict[str, list[float]] = {name: [] for name in ways}
        alone: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, way in ways.items():
                for rates, act in ((steps, step), (alone, len)):
                    rates[name].append(each_second(options.steps, way(), act, device))
        print(f"{'':16}{'steps/s':>10}{'of the model':>14}{'loading alone':>16}")
        for name in ways:
            share = ratio(steps[name], steps["no loading"])
            rate = statistics.median(alone[name]) * options.batch
            shown = "" if name == "no loading" else f"{rate:16,.0f}"
            print(f"{name:16}{statistics.median(steps[name]):10,.1f}{share:14.0%}{shown}")


if __name__ == "__main__":
    main()
