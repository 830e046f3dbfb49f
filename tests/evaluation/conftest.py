"""Files that tests of folds share."""

import tempfile
from collections.abc import Iterator

import pytest

from btc_datamodule import (
    BTCDataModule,
)
from tests.evaluation.folds import FEATURES, SOURCES


@pytest.fixture(scope="module")
def folder() -> Iterator[str]:
    """Candle and feature files of every source and every list of features."""
    with tempfile.TemporaryDirectory() as made:
        for source in SOURCES:
            for features in FEATURES:
                for max_fill in (0, 2):
                    BTCDataModule(
                        source=source, features=features, max_fill=max_fill, data_dir=made
                    ).prepare_data()
        yield made
