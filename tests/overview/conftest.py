"""A fold over simulated hours with holes, shared by the tests of what there is to see."""

import pytest

from btc_datamodule import BTCDataModule
from tests.factories import make_datamodule


@pytest.fixture(scope="package")
def holed(tmp_path_factory: pytest.TempPathFactory) -> BTCDataModule:
    """A month of hours, split once, with what purge and embargo leave out."""
    return make_datamodule(tmp_path_factory.mktemp("holed"), purge=4, embargo=5)
