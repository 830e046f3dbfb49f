"""One small report, shared by the tests of what it is made of."""

from pathlib import Path

import numpy as np
import pytest

from btc_datamodule import BTCDataModule, Resampled, Simulator, WalkForward
from btc_datamodule.audit.report import Audit, Finding
from btc_datamodule.report.alerts import list_alerts
from btc_datamodule.report.facts import Facts, gather_facts
from btc_datamodule.report.page import make_page
from btc_datamodule.scoring.card import ScoreCard
from tests.factories import make_datamodule

HOSTILE = """</script><script>document.title = "taken"</script><img src=x onerror="taken()">"""
"""A name of a model that would like to be more."""


@pytest.fixture(scope="package")
def dm(tmp_path_factory: pytest.TempPathFactory) -> BTCDataModule:
    """Three months of hours with outages, a covariate, purge, embargo, and the second fold."""
    return make_datamodule(
        tmp_path_factory.mktemp("report"),
        source=Simulator(seed=1, outages_per_year=50),
        covariates={"day": Resampled("1d")},
        features=["log_return", "mine = close / close.shift(5) - 1", "day.close"],
        start="2021-01-01",
        split=WalkForward(train="40d", val="10d", test="20d", fold=1, step="10d"),
        purge=3,
        embargo=5,
    )


@pytest.fixture(scope="package")
def card(dm: BTCDataModule) -> ScoreCard:
    """The score of the truth and of noise, which has a hostile name."""
    pytest.importorskip("scipy", reason="scores need scipy")
    batch = dm.dataset("test")[:]
    truth, times = batch.y.numpy(), batch.origin_time.numpy()
    noise = np.random.default_rng(0).normal(0, 0.01, truth.shape)
    given = {"truth": truth, HOSTILE: noise}
    fold = {name: {1: {"origin_time": times, "y": each}} for name, each in given.items()}
    return dm.score(fold)


@pytest.fixture(scope="package")
def facts(dm: BTCDataModule, card: ScoreCard) -> Facts:
    """All that the report shows."""
    found = (
        Finding("inputs end at the origin", True, "12 samples unchanged"),
        Finding("no covariate runs ahead", None, "could not be checked: too few bars"),
    )
    return gather_facts(dm.stages, card=card, audit=Audit("these candles", found))


@pytest.fixture(scope="package")
def page(facts: Facts) -> str:
    """The report as HTML."""
    return make_page(facts, list_alerts(facts))


@pytest.fixture(scope="package")
def report(page: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report as a file."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page, encoding="utf-8")
    return path
