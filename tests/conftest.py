"""Fixtures that more than one test module needs."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

# Its log handlers take hold of stderr when it is imported: that must not be one test's capture.
import lightning.pytorch
import pytest
from hypothesis import HealthCheck, settings

from tests.marks import split_cases

assert lightning.pytorch

# How long an example takes says how busy the machine is, and nothing of the package.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a run have some cases of each test instead of all."""
    parser.addoption("--cases", type=int, help="at most so many cases of each test function")


@pytest.hookimpl(trylast=True)  # of those that the markers leave
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave cases out as ``--cases`` says."""
    most = config.getoption("--cases")
    if most is not None:
        items[:], left_out = split_cases(items, most)
        config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real candle files, which are not part of the repository."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("BTC_DATAMODULE_REAL_DATA", default))
    if not (folder / "MANIFEST.md").is_file():
        pytest.skip(f"no real candle files in {folder}: set BTC_DATAMODULE_REAL_DATA")
    return folder


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    """Leave no figure of pyplot open: others would see it, and its memory stays."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
