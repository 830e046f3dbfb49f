"""A floor of pyproject.toml is a version that the suite is run with, and says why it is there."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PINS = {
    pin.name: pin
    for line in (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
    for pin in [Requirement(line)]
}


def requirements() -> list[Requirement]:
    """What the lowest end is installed with: the package itself and its extra for the tests."""
    project = tomllib.loads(PYPROJECT)["project"]
    extras = project["optional-dependencies"]
    named = [*project["dependencies"], *extras["plot"], *extras["ccxt"], *extras["test"]]
    return [Requirement(one) for one in named]


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_the_lowest_version_that_is_allowed_is_the_one_that_is_tested(
    requirement: Requirement,
) -> None:
    floors = [one.version for one in requirement.specifier if one.operator == ">="]
    pins = [one.version for one in PINS[requirement.name].specifier]
    assert [Version(floor) for floor in floors] == [Version(pin) for pin in pins]


def test_every_floor_has_its_reason_beside_it() -> None:
    floors = [line for line in PYPROJECT.splitlines() if re.search(r'"[\w\[\],-]+>=', line)]
    assert len(floors) > len(requirements())
    assert [line for line in floors if not re.search(r"# \S", line)] == []
