"""Fixtures of the tests of features."""

from pathlib import Path

import pytest

from btc_datamodule.candles.series import concatenate
from btc_datamodule.candles.timeline import parse_instant
from btc_datamodule.features.build import build
from btc_datamodule.features.table import Table
from btc_datamodule.sources.files.source import CandleFile
from tests.features.markets import MAX_FILL, REAL, Market, by_hand, simulated
from tests.features.tables import recipe, series
from tests.helpers import write


@pytest.fixture(scope="module", params=["simulated", *REAL])
def market(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Market:
    """Up to 3,000 bars with holes of both kinds."""
    path = tmp_path_factory.mktemp("market") / "candles.h5"
    if request.param == "simulated":
        return Market(write(path, simulated()), MAX_FILL, *by_hand(simulated(), MAX_FILL))
    folder: Path = request.getfixturevalue("real_data")
    name, columns, interval, first, max_fill = REAL[request.param]
    start = parse_instant(first)
    span = (start, start + 3000 * interval)
    source = CandleFile(str(folder / name), columns=columns)
    candles = concatenate([b.candles for b in source.blocks(interval, span)]).slice(*span)
    return Market(write(path, candles), max_fill, *by_hand(candles, max_fill))


@pytest.fixture
def candles(tmp_path: Path) -> Path:
    return write(tmp_path / "candles.h5", series())


@pytest.fixture
def table(candles: Path) -> Table:
    return Table.open(build(candles, recipe()))
