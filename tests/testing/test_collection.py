"""Contracts in a test module of one's own: what pytest makes of them."""

import subprocess
import sys
from pathlib import Path

MODULE = """
from dataclasses import dataclass

import numpy as np

from btc_datamodule import Target
from btc_datamodule.testing import SplitContract, TargetContract


@dataclass(frozen=True)
class Sign(Target):
    def shape(self, horizon):
        return (1,)

    def __call__(self, bars):
        return np.sign(bars[:, -1] - bars[:, 0])


@dataclass(frozen=True)
class UpOrDown(Sign):
    def __call__(self, bars):
        return np.where(bars[:, -1] > bars[:, 0], 1.0, 0.0)


class TestSign(TargetContract):
    def make(self):
        return Sign()


class TestUpOrDown(TargetContract):
    def make(self):
        return UpOrDown()


class TestNothing(SplitContract):
    pass
"""


def test_a_class_that_says_how_to_make_one_runs_the_whole_contract(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(MODULE)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", "--tb=line"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    # 14 tests of each target, of which one is for prices and one for classes; 13 of the split.
    assert "13 failed, 23 passed, 5 skipped" in lines[-1]
    assert any("with bar 0 of 2 not known (NaN) it gives a number" in line for line in lines)
    assert any("TestNothing must define make(self)" in line for line in lines)
    assert any("it is no target of prices" in line for line in lines)
