"""Contracts of sources, targets and splits: what the package relies on, as tests to inherit."""

from btc_datamodule.testing.contracts.records import RecordSourceContract
from btc_datamodule.testing.contracts.sources import SourceContract
from btc_datamodule.testing.contracts.splits import SplitContract
from btc_datamodule.testing.contracts.targets import TargetContract

__all__ = ["RecordSourceContract", "SourceContract", "SplitContract", "TargetContract"]
