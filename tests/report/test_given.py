"""A report takes no audit and no score of other data."""

from pathlib import Path
from typing import Any

import pytest

from btc_datamodule import BTCDataModule, ConfigError
from btc_datamodule.audit.report import Audit, Finding
from btc_datamodule.overview.identity import identify
from btc_datamodule.report.given import check_audit, check_card
from btc_datamodule.scoring.card import ScoreCard
from tests.factories import make_datamodule

HELD = (Finding("inputs end at the origin", True, "all"),)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> BTCDataModule:
    return make_datamodule(tmp_path_factory.mktemp("other"), lookback=5)


@pytest.fixture(scope="module")
def another_fold(dm: BTCDataModule) -> BTCDataModule:
    made = dm.with_fold(0)
    made.setup()
    return made


def test_what_is_of_the_same_data_is_taken(dm: BTCDataModule, card: ScoreCard) -> None:
    check_card(dm.stages, card)
    check_card(dm.stages, None)
    check_audit(dm.stages, Audit("all", HELD, identify(dm.stages)))
    check_audit(dm.stages, Audit("all", HELD))
    check_audit(dm.stages, None)


def test_what_is_of_other_settings_is_refused(
    dm: BTCDataModule, other: BTCDataModule, card: ScoreCard
) -> None:
    with pytest.raises(ConfigError, match=r"card is of another datamodule .*lookback 12, here 5"):
        check_card(other.stages, card)
    with pytest.raises(ConfigError, match=r"audit is of another datamodule .*lookback 12, here 5"):
        check_audit(other.stages, Audit("all", HELD, identify(dm.stages)))


def test_what_is_of_another_fold_alone_is_refused(
    dm: BTCDataModule, another_fold: BTCDataModule, card: ScoreCard
) -> None:
    with pytest.raises(ConfigError, match=r"card .*\(train 2021-01-11T.*, here 2021-01-01[^;]*\)"):
        check_card(another_fold.stages, card)
    with pytest.raises(ConfigError, match=r"audit .*train 2021-01-11T.*, here 2021-01-01[^;]*\)"):
        check_audit(another_fold.stages, Audit("all", HELD, identify(dm.stages)))


def test_a_score_of_several_folds_is_taken_by_each(
    dm: BTCDataModule, another_fold: BTCDataModule
) -> None:
    pytest.importorskip("scipy", reason="scores need scipy")
    given: dict[int, Any] = {}
    for fold, each in ((0, another_fold), (1, dm)):
        batch = each.dataset("test")[:]
        given[fold] = {"origin_time": batch.origin_time.numpy(), "y": batch.y.numpy()}
    joined = dm.score({"one": given})
    for each in (dm, another_fold):
        check_card(each.stages, joined)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"card": "foo"}, "card is 'foo': give what `score`"),
        ({"audit": "foo"}, "audit is 'foo': give what `audit`"),
        ({"path": None}, r"output is None: give the path of a file that ends in one of \.html"),
        ({"path": 3}, "output is 3: give the path"),
        ({"path": ""}, "output is '': give the path"),
    ],
)
def test_what_is_nothing_of_the_kind_is_refused(
    dm: BTCDataModule, tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        dm.report(**{"path": tmp_path / "x.html", **arguments})
    assert not [*tmp_path.iterdir()]


def test_the_audit_is_run_where_it_is_asked_for(
    dm: BTCDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        BTCDataModule, "audit", lambda self: Audit("all", HELD, identify(self.stages))
    )
    page = dm.report(tmp_path / "x.html", audit=True).read_text(encoding="utf-8")
    assert "All 1 guarantees of the audit hold." in page
    assert "was not run" in dm.report(tmp_path / "x.html", audit=False).read_text(encoding="utf-8")
