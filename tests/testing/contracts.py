"""Running a contract by hand: which of its tests fail, and what they say."""

from typing import Any

import pytest

from btc_datamodule.testing.contracts.values import ValueContract


def find_failures(contract: ValueContract[Any]) -> dict[str, str]:
    """The tests of a contract that fail, by name, and what each says."""
    failures = {}
    for name in list_tests(type(contract)):
        try:
            getattr(contract, name)()
        except pytest.skip.Exception:
            continue
        except Exception as error:
            failures[name] = f"{type(error).__name__}: {error}"
    return failures


def list_tests(contract: type) -> list[str]:
    return [name for name in dir(contract) if name.startswith("test_")]


def assert_caught(contract: ValueContract[Any], test: str, words: str) -> None:
    """A test of the contract fails, and says in these words what is wrong."""
    with pytest.raises(AssertionError) as caught:
        getattr(contract, test)()
    assert words in str(caught.value)
