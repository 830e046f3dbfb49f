"""What is said at the top of the page, and when."""

from dataclasses import replace

import numpy as np
import pytest

from btc_datamodule import Direction
from btc_datamodule.audit.report import Audit, Finding
from btc_datamodule.candles.gaps import Stretch
from btc_datamodule.overview.distributions import Distribution
from btc_datamodule.overview.labels import Labels, Targets
from btc_datamodule.report.alerts import REASONS, Alert, give_verdict, grade_feature, list_alerts
from btc_datamodule.report.facts import Facts

HELD = Finding("inputs end at the origin", True, "all")
BROKEN = Finding("train is blind to val and test", False, "a row changed")
UNCHECKED = Finding("no covariate runs ahead", None, "too few bars")


def tell(facts: Facts, place: str) -> list[str]:
    return [f"{each.grade}: {each.text}" for each in list_alerts(facts) if each.place == place]


def make_feature(**changes: object) -> Distribution:
    plain = Distribution(
        name="log_return",
        edges=np.linspace(0, 1, 3),
        density={"train": np.ones(2), "test": np.ones(2)},
        rows={"train": 10, "val": 0, "test": 10},
        missing={"train": 0.0, "test": 0.0},
        mean={"train": 0.5, "test": 0.5},
        deviation={"train": 0.1, "test": 0.1},
        drift={"test": 0.01},
        autocorrelation={1: 0.5},
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def make_targets(stage: str, counts: list[int], deviation: float = float("nan")) -> Targets:
    windows = sum(counts)
    return Targets(stage, windows, 1, 0, np.array(counts), 0, 0, 0.0, deviation)  # type: ignore[arg-type]


def test_the_gravest_come_first(facts: Facts) -> None:
    broken = replace(facts, audit=Audit("all", (UNCHECKED, BROKEN, HELD)))
    found = list_alerts(broken)
    assert found[0].text == "Audit: train is blind to val and test: a row changed"
    grades = [each.grade for each in found]
    assert grades == sorted(grades, key=("bad", "warn", "note").index)
    assert grades.count("bad") == 1


@pytest.mark.parametrize(
    ("audit", "alerts", "grade", "text"),
    [
        (None, [], "warn", "Nothing stands out in the data. Whether anything of the future leaks"),
        ((HELD, HELD), [], "good", "All 2 guarantees of the audit hold."),
        ((HELD, UNCHECKED), ["warn"], "warn", "1 of 2 guarantees to hold, and could not check"),
        ((HELD, BROKEN), ["bad"], "bad", "1 thing must be mended first. The audit found 1 broken"),
        (None, ["warn", "warn", "note"], "warn", "2 things to look at. Whether anything"),
    ],
)
def test_the_verdict_says_what_was_checked(
    facts: Facts, audit: tuple[Finding, ...] | None, alerts: list[str], grade: str, text: str
) -> None:
    given = replace(facts, audit=None if audit is None else Audit("all", audit))
    made = [Alert(each, "", "windows") for each in alerts]  # type: ignore[arg-type]
    found = give_verdict(given, made)
    assert found[0] == grade
    assert text in found[1]
    assert ("was not run" in found[1]) == (audit is None)


def test_features_that_lack_values_drift_or_never_change_are_named(facts: Facts) -> None:
    features = (
        make_feature(),
        make_feature(name="gone", missing={"train": 0.0, "test": 1.0}),
        make_feature(name="rare", missing={"train": 0.2, "test": 0.01}),
        make_feature(name="moves", drift={"val": 0.1, "test": 0.9}),
        make_feature(name="still", deviation={"train": 0.0}, drift={"test": 2.0}),
    )
    assert tell(replace(facts, features=features), "features") == [
        "bad: gone has no value at all in test",
        "warn: Features with missing values: rare (20.0 % of train)",
        "warn: Features that never change in train: still",
        "warn: Features that drift away from train (stability index of 0.25 or more): "
        "still (2.00 in test), moves (0.90 in test)",
    ]
    assert [grade_feature(each) for each in features] == [
        ("good", ""),
        ("bad", "no value"),
        ("warn", "missing"),
        ("warn", "drifts"),
        ("warn", "never changes, drifts"),
    ]


def test_the_flag_of_bars_without_a_value_is_no_feature_that_was_asked_for(facts: Facts) -> None:
    flag = make_feature(name="undefined", deviation={"train": 0.0}, drift={"test": 2.0})
    found = replace(facts, features=(make_feature(), flag))
    assert len(tell(found, "features")) == 2
    settings = replace(facts.stages.settings, undefined="flag")
    stages = replace(facts.stages, settings=settings)
    assert tell(replace(found, stages=stages), "features") == []


def test_classes_that_differ_or_that_train_lacks_are_told(facts: Facts) -> None:
    stages = (make_targets("train", [50, 50, 0]), make_targets("test", [80, 10, 10]))
    labels = Labels(Direction(), ("down", "flat", "up"), np.zeros(0), stages, ())
    assert tell(replace(facts, labels=labels), "targets") == [
        "bad: train has no target of class up",
        "warn: The classes of test are not those of train: 40.0 % of the targets would have to be "
        "of another class to match",
    ]


def test_targets_that_are_wider_are_told(facts: Facts) -> None:
    stages = (make_targets("train", [9, 9], 0.01), make_targets("val", [9, 9], 0.025))
    labels = replace(facts.labels, classes=(), stages=stages)
    (told,) = tell(replace(facts, labels=labels), "targets")
    assert told.startswith("warn: Targets of val are 2.5 times as wide as those of train")


def test_few_windows_and_those_left_out_are_told(facts: Facts) -> None:
    told = tell(facts, "windows")
    assert any(each.startswith("warn: test has ") for each in told)
    (train,) = [each for each in told if each.startswith("note: train: ")]
    row = next(row for row in facts.counts if row["stage"] == "train")
    assert f"{row['history']:,} because too little comes before them" in train
    assert f" of {row['eligible'] + sum(_list_dropped(row))} bars" in train


def test_every_reason_and_one_of_a_thing_are_told_in_words(facts: Facts) -> None:
    row = dict(facts.counts[0]) | dict.fromkeys(REASONS, 1) | {"eligible": 92, "end": 2}
    told = tell(replace(facts, counts=(row,)), "windows")
    (train,) = [each for each in told if each.startswith("note: train: 9 of 101 bars")]
    for words in REASONS.values():
        assert words in train
    assert "no candle at their origin, or a series beside the candles is not known" in train
    assert " more" not in train
    few = replace(facts.labels, stages=(make_targets("test", [1]),))
    assert any(
        each.startswith("warn: test has 1 window:")
        for each in tell(replace(facts, labels=few), "windows")
    )


def _list_dropped(row: object) -> list[int]:
    names = ("end", "purge", "history", "embargo", "target", "origin", "inputs", "undefined")
    return [row[name] for name in names]  # type: ignore[index]


def test_doubts_of_the_stages_are_told(facts: Facts) -> None:
    told = tell(replace(facts, doubts=("windows are left out (train 3)",)), "windows")
    assert "warn: Windows are left out (train 3)" in told


def test_outages_and_holes_are_told_with_figures(facts: Facts) -> None:
    table = facts.stages.table
    (told,) = tell(facts, "prices")
    rows, outages = table.rows, table.outages
    begin, end = (table.find_row(each) for each in facts.stages.fold.train[0])
    inside = (outages.clip(begin, end)[:, 1] - outages.clip(begin, end)[:, 0]).sum()
    assert f"no price is known of {inside} bars of train" in told
    holes = tell(replace(facts, suspicious=(Stretch((0, 7200), 2, 0),)), "holes")
    assert holes[0].startswith("warn: 2 bars are absent though those around are there")
    assert f"{facts.holes.absent} of {rows:,} bars" in holes[1]


def test_forecasts_are_told_unless_they_are_better(facts: Facts) -> None:
    told = tell(facts, "forecasts")
    assert len(told) == 1
    assert told[0].startswith("warn: Forecast </script><script>")
    assert "than '" in told[0]
