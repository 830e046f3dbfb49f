"""The audit of series beside the candles: what is found where, and that nothing else is.

Leaks that the audit or the build finds stand in ``planted/beside.py``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from btc_datamodule import (
    BTCDataModule,
    CandleFile,
    Candles,
    CombinatorialPurged,
    Feature,
    Resampled,
    SimulatedFunding,
    SimulatedOpenInterest,
    SimulatedPremium,
    Simulator,
    SourceError,
    WalkForward,
    progress,
)
from btc_datamodule.audit import report as audit
from btc_datamodule.audit import rows
from btc_datamodule.candles.records import RecordSet
from btc_datamodule.candles.series import concatenate
from btc_datamodule.candles.timeline import parse_instant
from tests.audit import peeks
from tests.audit.planted.beside import ETH, Told, make_interest, make_prices
from tests.audit.planted.leak import AHEAD, KNOWN, make, of_source
from tests.factories import HOUR, InMemory
from tests.marks import keep_some

SERIES: dict[str, Any] = {
    "hour": Resampled("1h"),
    "eth": Simulator(seed=2, coin="ETH", outages_per_year=60),
    "three": Resampled("3h", of="eth"),
    "funding": SimulatedFunding(seed=2),
    "oi": SimulatedOpenInterest(seed=2, missing=0.05, late=0.1, revised=0.05),
    "premium": SimulatedPremium(seed=2),
}
FEATURES: list[Any] = [
    "log_return",
    "hour.volatility",
    "eth.momentum",
    "three.log_range",
    "funding.rate",
    "oi_change = oi.sum_open_interest.log().diff()",
    "premium.close",
    "ratio = (eth.close / close).log().diff()",
    "since_funding = age(funding) / 32",
    Feature("blend", 3, peeks.blend_series, beside=("oi", "funding")),
    Feature("lean", 2, peeks.lean_on_funding, series="hour", beside=("funding",)),
]
CLEAN: dict[str, dict[str, Any]] = {
    "single features observed, strict": {
        "split": CombinatorialPurged(n_groups=5, n_test_groups=1, fold=2),
        "mask": "feature",
        "min_observed": 0.5,
        "context": "strict",
        "scaling": "robust",
        "max_age": {"oi": "20m", "funding": "6h", "eth": "4h"},
    },
    "a walk": {"split": WalkForward(train="5d", val="2d", test="2d")},
    "combinations, purged": {
        "split": CombinatorialPurged(n_groups=5, n_test_groups=2, fold=4),
        "embargo": 5,
        "target_scaling": "train",
    },
}


@pytest.mark.parametrize("arguments", keep_some(CLEAN.values(), 3, CLEAN))
def test_simulated_series_of_every_kind_pass(arguments: dict[str, Any], tmp_path: Path) -> None:
    dm = make(
        tmp_path,
        source=Simulator(seed=2, outages_per_year=60),
        interval="15m",
        start="2021-03-01",
        end="2021-03-11",
        covariates=SERIES,
        features=FEATURES,
        **arguments,
    )
    dm.prepare_data()
    found = dm.audit()
    assert found.passed, str(found)
    assert not found.unchecked, str(found)
    told = {each.guarantee: each.detail for each in found.findings}
    assert {KNOWN, AHEAD, *map(of_source, ("eth", "funding", "oi", "premium"))} <= told.keys()
    assert "and of 4 series" in told["train is blind to val and test"]
    assert told["eth.momentum reads no later bar"].endswith(
        "(100%) unchanged with all rows of eth but their last 25 rows changed, removed or added"
    )
    assert "of 1 series with prices the returns of 1 go with those" in told[AHEAD]


def test_whoever_watches_sees_which_part_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []

    @contextmanager
    def note(label: str, total: int | None = None, unit: str = "") -> Iterator[progress.Step]:
        shown.append(label)
        yield progress.Step(None, total)

    for module in (progress, audit, rows):
        monkeypatch.setattr(module, "show_step", note)
    dm = make(
        tmp_path,
        source=Simulator(seed=2),
        start="2021-01-01",
        end="2021-02-01",
        covariates={name: SERIES[name] for name in ("eth", "funding")},
        features=["log_return", "eth.log_return", "funding.rate"],
    )
    dm.prepare_data()
    shown.clear()
    assert dm.audit().passed
    parts = ["audit: opening", "audit", "log_return", "eth.log_return", "funding.rate"]
    parts += ["features made again", "rows made again"]
    asked = ("BTC-SIM-2", "ETH-SIM-2-out60", "BTC-SIM-2-funding")
    parts += [f"asking simulator {name}" for name in asked]
    assert [label for label in shown if label in parts] == parts


def test_of_a_long_history_series_are_read_around_the_boundaries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "BARS", 700)
    dm = make(
        tmp_path,
        source=Simulator(seed=2),
        start="2021-01-01",
        end="2021-05-01",
        covariates={name: SERIES[name] for name in ("eth", "funding")} | {"day": Resampled("1d")},
        features=["log_return", "eth.log_return", "funding.rate", "day.log_return"],
    )
    dm.prepare_data()
    found = dm.audit()
    assert found.passed, str(found)
    looked_at = int(found.scope.split("windows on ")[1].split(" of")[0])
    assert 600 < looked_at < 1000, "and before each boundary days for the days"


@pytest.mark.parametrize("early", [0, HOUR])
def test_real_candles_of_two_exchanges_pass_unless_a_clock_is_fast(
    early: int, real_data: Path, tmp_path: Path
) -> None:
    coinbase = CandleFile(str(real_data / "cryptodatadownload/Coinbase_BTCUSD_1h_2020-10.csv"))
    span = (parse_instant("2019-10-01"), parse_instant("2020-03-01"))
    bars = concatenate([block.candles for block in coinbase.blocks(HOUR, span)]).slice(*span)
    told = Candles(HOUR, {**bars.columns, "open_time": bars.open_time - early})
    dm = BTCDataModule(
        source=CandleFile(str(real_data / "kraken/XBTUSD_60.csv"), columns="kraken"),
        start="2019-11-01",
        end="2020-02-01",
        covariates={"coinbase": InMemory(told, "coinbase"), "day": Resampled("1d", of="coinbase")},
        features=["basis = (coinbase.close / close).log()", "coinbase.log_return", "day.log_range"],
        lookback=12,
        split=CombinatorialPurged(5, 2, fold=4),
        data_dir=str(tmp_path),
    )
    dm.prepare_data()
    found = dm.audit()
    assert found.failed == ((AHEAD,) if early else ()), str(found)
    said = "candles have 1h later" if early else "the returns of 1 go with those of the candles at"
    assert said in str(found)


# --- what is found when data is read --------------------------------------------------------------


@pytest.mark.parametrize("known_after", [0, HOUR - 1])
def test_a_record_that_is_known_before_its_interval_is_over_is_refused(
    known_after: int, tmp_path: Path
) -> None:
    told = Told(make_prices(known_after), step=HOUR)
    dm = make(tmp_path, covariates={"told": told}, features=["log_return", "told.close"])
    with pytest.raises(SourceError, match=r"'told'.*it would be known before its 1h are over"):
        dm.prepare_data()


# --- what cannot be told, and what is said of it --------------------------------------------------


def take_last(records: RecordSet) -> RecordSet:
    """The last revision of each figure, as if it had been known at first."""
    new = np.append(True, np.diff(records.time) > 0)
    last = np.append(new[1:], True)
    values = {name: each[last] for name, each in records.columns.items()}
    return RecordSet({**values, "known_at": records.known_at[new]})


def test_figures_that_were_revised_since_they_were_stored_are_no_leak_but_said(
    tmp_path: Path,
) -> None:
    records = make_interest()
    first = records.take(np.append(True, np.diff(records.time) > 0))
    arguments: dict[str, Any] = {"features": ["log_return", "r = told.interest.diff()"]}
    make(tmp_path, covariates={"told": Told(first)}, **arguments).prepare_data()
    now = make(tmp_path, covariates={"told": Told(take_last(records))}, **arguments)
    found = now.audit()
    assert found.passed, str(found)
    assert found.unchecked == (of_source("told"),)
    (detail,) = [each.detail for each in found.findings if each.guarantee in found.unchecked]
    assert "the source has another record at" in detail
    assert "than is stored: `refresh: true` takes it" in detail


def test_a_source_that_never_told_the_first_figures_cannot_be_told_from_a_true_one(
    tmp_path: Path,
) -> None:
    """As docs/evaluation.md says: it gives the same whatever it is asked."""
    told = Told(take_last(make_interest()))
    dm = make(tmp_path, covariates={"told": told}, features=["r = told.interest.diff()"])
    dm.prepare_data()
    assert dm.audit().passed


def test_a_source_that_does_not_answer_is_named(tmp_path: Path) -> None:
    def fail(*_: Any) -> RecordSet:
        raise ConnectionError("gone")

    arguments: dict[str, Any] = {"features": ["log_return", "r = told.interest.diff()"]}
    told = Told(make_interest())
    make(tmp_path, covariates={"told": told}, **arguments).prepare_data()
    found = make(tmp_path, covariates={"told": replace(told, alter=fail)}, **arguments).audit()
    assert found.passed
    assert found.unchecked == (of_source("told"),)
    assert "ConnectionError: gone" in str(found)


def test_only_series_that_features_name_are_looked_at(tmp_path: Path) -> None:
    covariates = {"eth": ETH, "told": Told(make_interest(), step=HOUR)}
    dm = make(tmp_path, covariates=covariates, features=["log_return", "told.interest"])
    dm.prepare_data()
    found = dm.audit()
    assert found.passed, str(found)
    guarantees = {each.guarantee for each in found.findings}
    assert of_source("told") in guarantees
    assert not {of_source("eth"), AHEAD} & guarantees
