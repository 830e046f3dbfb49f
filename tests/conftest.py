"""Fixtures that more than one test module needs."""

import gc
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# As many tests at once as there are cores: threads of torch would only wait for each other, which
# made a fit of a few batches take four times as long. Processes that a test starts inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Its log handlers take hold of stderr when it is imported: that must not be one test's capture.
import lightning.pytorch
import pytest
from hypothesis import HealthCheck, settings

from tests.marks import keep_each_value, split_cases

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

assert lightning.pytorch

# How long an example takes says how busy the machine is, and nothing of the package.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a run have some cases of each test instead of all."""
    parser.addoption("--cases", type=int, help="at most so many cases of each test function")


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Iterator[None]:
    """Mark cases before the markers choose, and of what they leave take as ``--cases`` says."""
    keep_each_value(items)
    yield
    most = config.getoption("--cases")
    if most is not None:
        items[:], left_out = split_cases(items, most)
        config.hook.pytest_deselected(items=left_out)


def pytest_collection_finish() -> None:
    """Let no collection of garbage in a test go through all modules and tests: it took 0.4 s."""
    gc.collect()
    gc.freeze()


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


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Chrome"]:
    """Headless Chromium, which says what it logs and asks for."""
    driver, binary = shutil.which("chromedriver"), shutil.which("chromium")
    if driver is None or binary is None:
        pytest.skip("no chromium and chromedriver: Debian's packages chromium and chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in ("headless=new", "disable-gpu", "disable-dev-shm-usage", "window-size=1200,900"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # it will not run as root with one
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        yield chrome
    finally:
        chrome.quit()
