"""Damaged files of ours: the same batches or one line, whatever has happened to the bytes."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest

from tests.damage_worker import STEPS, make

Random = np.random.Generator
Rewrite = Callable[[h5py.File, Random], str]
NUMBERS = (0, 1, 2**31 - 1, 2**32, 2**40, 2**62, 2**64 - 1)
VALUES: tuple[Any, ...] = (
    *(0, 1, -1, 2**31, 2**40, 2**62, -(2**63), 1.5, float("nan")),
    *("", "x", "0" * 64, "[]", "[1]", '{"a": 1}', "x" * 70_000, b"\xff", True),
    *(np.arange(3), np.zeros(0), np.ones((300, 300)), np.array(["a", "b"], dtype="S1")),
)


class Outcome(NamedTuple):
    """What came of one folder, step by step; and what it took."""

    told: dict[str, str]
    code: int
    seconds: float
    mebibytes: float


class Worker:
    """Does the steps of ``damage_worker`` with one damaged file after another."""

    def __init__(self, folder: Path) -> None:
        self.whole, self.folder, self.output = folder / "a", folder / "b", folder / "told"
        made = make(self.whole)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.damage_worker"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(each or "." for each in sys.path)},
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.right = self._ask(self.whole).told  # which prepares it
        self.right = self._ask(self.whole).told
        (features,) = made.candle_path.parent.glob("features-*.h5")
        self.names = {
            "candles": made.candle_path.relative_to(self.whole),
            "features": features.relative_to(self.whole),
        }

    def run(self, which: str, change: Callable[[Path], None]) -> Outcome:
        """What comes of a file that ``change`` has changed, the other one being whole."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.whole, self.folder)
        change(self.folder / self.names[which])
        return self._ask(self.folder)

    def _ask(self, folder: Path) -> Outcome:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.output.write_text("nothing")
        self.process.stdin.write(f"{folder}\t{self.output}\n")
        self.process.stdin.flush()
        took = json.loads(self.process.stdout.readline())
        assert took["code"] <= 0, self.output.read_text()
        told = json.loads(self.output.read_text()) if took["code"] == 0 else {}
        return Outcome(told, **took)

    def judge(self, found: Outcome, what: str) -> str:
        """One word on an outcome that is allowed; anything else fails, and says ``what`` it is."""
        assert found.code == 0, f"{what}: ended by signal {-found.code}"
        assert found.seconds < 10, what
        assert found.mebibytes < 1024, what
        for step in ("fit", "info", "read", "prepare"):
            told = found.told[step]
            if told != self.right[step]:
                assert told.startswith("error: "), f"{what}: {step} gives {told:.200}"
                assert "\n" not in told, what
                assert len(told) < 1000, what
        return "harmless" if found.told == self.right else "found"

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    made = Worker(tmp_path_factory.mktemp("damage"))
    yield made
    made.close()


# --- bytes ---------------------------------------------------------------------------------------


def flip_bit(data: bytearray, random: Random) -> None:
    data[random.integers(len(data))] ^= 1 << int(random.integers(8))


def change_bytes(data: bytearray, random: Random) -> None:
    for at in random.integers(0, len(data), int(random.integers(1, 5))):
        data[at] = int(random.integers(256))


def change_the_beginning(data: bytearray, random: Random) -> None:
    for at in random.integers(0, min(8192, len(data)), int(random.integers(1, 5))):
        data[at] = int(random.integers(256))


def put_number(data: bytearray, random: Random) -> None:
    at = int(random.integers(min(len(data), 16_384) - 8))
    data[at : at + 8] = NUMBERS[random.integers(len(NUMBERS))].to_bytes(8, "little")


def clear_sector(data: bytearray, random: Random) -> None:
    at = 512 * int(random.integers(len(data) // 512))
    data[at : at + 512] = bytes(512)


def swap_sectors(data: bytearray, random: Random) -> None:
    one, other = (512 * random.integers(0, len(data) // 512, 2)).tolist()
    data[one : one + 512], data[other : other + 512] = (
        data[other : other + 512],
        data[one : one + 512],
    )


def cut(data: bytearray, random: Random) -> None:
    del data[int(random.integers(len(data))) :]


BYTES = (
    flip_bit, change_bytes, change_the_beginning, put_number, clear_sector, swap_sectors, cut,
)  # fmt: skip


@pytest.mark.parametrize("which", ["candles", "features"])
@pytest.mark.parametrize("times", [4, pytest.param(400, marks=pytest.mark.stress)])
def test_changed_bytes_give_the_same_batches_or_one_line(
    worker: Worker, which: str, times: int
) -> None:
    count = Counter[str]()
    for number in range(times):
        count[judge_bytes(worker, which, number)] += 1
    print(which, dict(count))
    assert count["found"] >= times // 2


def judge_bytes(worker: Worker, which: str, number: int) -> str:
    """What comes of the change of bytes of a number."""
    kind = BYTES[number % len(BYTES)]

    def change(path: Path) -> None:
        data = bytearray(path.read_bytes())
        kind(data, np.random.default_rng(number))
        path.write_bytes(data)

    return worker.judge(worker.run(which, change), f"{kind.__name__} {number}")


# --- what the file says of itself ----------------------------------------------------------------


def rewrite_attribute(file: h5py.File, random: Random) -> str:
    names = sorted(file.attrs)
    name = names[random.integers(len(names))]
    old = file.attrs[name]
    value = VALUES[random.integers(len(VALUES))]
    if random.integers(4) == 0:
        value = old[:-1] if isinstance(old, str) else old + int(random.integers(-2, 3))
    del file.attrs[name]
    if random.integers(10):
        file.attrs[name] = value
    return f"{name} {value!r:.30}"


def rewrite_dataset(file: h5py.File, random: Random) -> str:
    """Another dataset in the place of one: other values, another shape, type or storage."""
    names: list[str] = []
    file.visit(names.append)
    names = [name for name in names if isinstance(file[name], h5py.Dataset)]
    name = names[random.integers(len(names))]
    old = file[name][()]
    del file[name]
    kind = int(random.integers(9))
    more: dict[str, Any] = {}
    if kind == 0:
        more = {"shape": (10**9, *old.shape[1:]), "dtype": old.dtype, "chunks": True}
    elif kind == 1:
        more = {"shape": (3 * 10**8,), "dtype": "S1000", "chunks": (1000,)}
    elif kind == 2:
        more = {"data": old[: len(old) // 2]}
    elif kind == 3:
        more = {"data": np.concatenate([old, old])}
    elif kind == 4:
        more = {"data": old.astype(">f8") if old.dtype.kind != "S" else old.astype("S7")}
    elif kind == 5:
        more = {"data": ["text"] * 3}
    elif kind == 6:
        more = {"data": np.zeros(3, dtype=[("a", "i8"), ("b", "f8")])}
    elif kind == 7:
        more = {"shape": old.shape, "dtype": old.dtype}
    elif kind == 8:
        file[name] = h5py.SoftLink("/elsewhere")
    if more:
        file.create_dataset(name, **more)
    return f"{name} {kind}"


@pytest.mark.parametrize("which", ["candles", "features"])
@pytest.mark.parametrize("rewrite", [rewrite_attribute, rewrite_dataset])
@pytest.mark.parametrize("times", [2, pytest.param(150, marks=pytest.mark.stress)])
def test_rewritten_parts_give_the_same_batches_or_one_line(
    worker: Worker, which: str, rewrite: Rewrite, times: int
) -> None:
    count = Counter[str]()
    for number in range(times):
        count[judge_rewriting(worker, which, rewrite, number)] += 1
    print(which, rewrite.__name__, dict(count))
    assert count["found"]


def judge_rewriting(worker: Worker, which: str, rewrite: Rewrite, number: int) -> str:
    """What comes of the rewriting of a number."""
    said = [f"{number}"]

    def change(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            said.append(rewrite(file, np.random.default_rng(number)))

    found = worker.run(which, change)
    return worker.judge(found, " ".join(said))


def test_all_steps_are_judged(worker: Worker) -> None:
    assert set(worker.right) == set(STEPS)
    assert worker.right["verify"] == "nothing"
    assert not [told for told in worker.right.values() if told.startswith("error")]
