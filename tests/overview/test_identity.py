"""By what two datamodules are told apart."""

from pathlib import Path

from btc_datamodule import BTCDataModule
from btc_datamodule.overview.identity import identify, identify_settings, list_differences
from tests.factories import make_datamodule


def test_the_same_settings_are_the_same_data_wherever_they_lie(
    holed: BTCDataModule, tmp_path: Path
) -> None:
    again = make_datamodule(tmp_path, purge=4, embargo=5)
    assert identify(again.stages) == identify(holed.stages)
    assert list_differences(identify(again.stages), identify(holed.stages)) == []


def test_a_cause_is_told_without_its_consequences(holed: BTCDataModule) -> None:
    ours = identify(holed.stages)
    assert list_differences({**ours, "lookback": "3", "train rows": "0"}, ours) == [
        "lookback 3, here 12"
    ]
    assert list_differences({**ours, "val": "none"}, ours) == [f"val none, here {ours['val']}"]


def test_what_only_one_of_them_tells_is_not_compared(holed: BTCDataModule) -> None:
    ours = identify(holed.stages)
    known = identify_settings(holed.settings, holed.table.key)
    assert "train rows" not in known
    assert list_differences(known, ours) == []
    assert list_differences({}, ours) == []
