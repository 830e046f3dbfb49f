"""Which cases of a test run always, and which with the marker ``stress`` alone."""

from collections.abc import Iterable
from typing import Any

import pytest
from _pytest.mark.structures import ParameterSet


def keep_some(cases: Iterable[Any], every: int, names: Iterable[str] = ()) -> list[ParameterSet]:
    """Cases, each a value or a tuple of them; all but one in ``every`` have the marker."""
    ids = iter(names)
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            id=next(ids, None),
            marks=[pytest.mark.stress] if number % every else [],
        )
        for number, case in enumerate(cases)
    ]
