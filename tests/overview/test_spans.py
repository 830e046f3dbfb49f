"""Ribbons of the stages, what is left out of them, and outages."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from btc_datamodule import BTCDataModule, CombinatorialPurged
from btc_datamodule.overview.spans import (
    Ribbon,
    list_fold_ribbons,
    list_outages,
    list_ribbons,
    widen_spans,
)
from tests.factories import HOUR, START, InMemory, make_datamodule, random_hourly


def test_ribbons_are_the_spans_and_what_is_left_out_of_them(holed: BTCDataModule) -> None:
    (train,), (val,), (test,) = holed.fold.train, holed.fold.val, holed.fold.test
    assert list_ribbons(holed.stages) == [
        Ribbon("stage", "train", *train),
        Ribbon("purge", "train", train[1] - 4 * HOUR, train[1]),
        Ribbon("stage", "val", *val),
        Ribbon("purge", "val", val[1] - 4 * HOUR, val[1]),
        Ribbon("stage", "test", *test),
    ]


def test_no_origin_of_train_has_a_target_in_the_purge_nor_inputs_in_the_embargo(
    tmp_path: Path,
) -> None:
    dm = make_datamodule(
        tmp_path, split=CombinatorialPurged(4, 1, fold=1), purge=4, embargo=30, gap=2
    )
    ribbons = list_ribbons(dm.stages)
    starts = dm.dataset("train").origins[np.arange(len(dm.dataset("train").origins))]
    times = dm.table.first + HOUR * starts
    for kind, low, high in (("purge", 3 * HOUR, 6 * HOUR), ("embargo", -11 * HOUR, HOUR)):
        spans = [each.span for each in ribbons if each.kind == kind and each.stage == "train"]
        assert spans
        for start, end in spans:
            assert not ((times + high > start) & (times + low < end)).any()
    (embargo,) = [each for each in ribbons if each.kind == "embargo"]
    assert embargo.end - embargo.start >= 30 * HOUR
    assert embargo.start == dm.fold.test[0][1]


def test_predict_is_shown_only_where_it_is_not_test(holed: BTCDataModule) -> None:
    stages = holed.stages
    (start, end) = stages.fold.test[0]
    fold = replace(stages.fold, predict=((start + 48 * HOUR, end),))
    shown = list_fold_ribbons(stages.settings, stages.table, fold)
    assert shown[-1] == Ribbon("stage", "predict", start + 48 * HOUR, end)


def test_every_outage_is_listed(tmp_path: Path) -> None:
    present = [row not in (40, 60, 61, 62, 63, 64, 200, 201, 202, 203) for row in range(400)]
    source = InMemory(random_hourly(present, seed=1))
    dm = make_datamodule(tmp_path, source=source, batch_size=8)
    assert list_outages(dm.table) == [
        (START + 63 * HOUR, START + 65 * HOUR),
        (START + 203 * HOUR, START + 204 * HOUR),
    ]


def test_short_spans_are_widened_until_they_can_be_seen_and_none_is_lost() -> None:
    spans = [(0, 10), (100, 101), (104, 105), (200, 201)]
    assert widen_spans(spans, 0) == [(0, 10), (100, 101), (104, 105), (200, 201)]
    assert widen_spans(spans, 5) == [(0, 10), (98, 107), (198, 203)]
    assert widen_spans([], 5) == []
