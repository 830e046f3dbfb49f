"""Which windows are chosen to be looked at."""

from pathlib import Path

import numpy as np
import pytest

from btc_datamodule import BTCDataModule, WalkForward
from btc_datamodule.report import facts as module
from btc_datamodule.report.facts import Facts, gather_facts
from tests.factories import make_datamodule


def test_windows_are_the_ends_the_extremes_and_some_between(facts: Facts) -> None:
    train = [each for each in facts.samples if each.window.stage == "train"]
    labels = {each.label for each in train}
    assert {"train: first", "train: last", "train: largest target", "train: smallest target"} <= (
        labels
    )
    positions = [each.window.position for each in train]
    assert positions == sorted({*positions})
    largest = next(each for each in train if each.label == "train: largest target")
    assert largest.window.truth.max() == np.max([each.window.truth.max() for each in train])


def test_of_long_windows_there_are_fewer(
    dm: BTCDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = (12 + 4) * 4 + 12 * 3
    monkeypatch.setattr(module, "SAMPLE_NUMBERS", 3 * 2 * each)
    found = gather_facts(dm.stages).samples
    stages = [each.window.stage for each in found]
    assert {stage: stages.count(stage) for stage in {*stages}} == {"train": 2, "val": 2, "test": 2}


def test_a_split_without_validation_has_no_windows_of_it(tmp_path: Path) -> None:
    dm = make_datamodule(tmp_path, split=WalkForward(train="10d", val=0, test="10d"))
    found = gather_facts(dm.stages)
    assert {each.window.stage for each in found.samples} == {"train", "test"}
    assert [each.stage for each in found.labels.stages] == ["train", "test"]
