"""Which cases of a test run always, with the marker ``stress``, and with ``--cases``."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
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


def split_cases(
    items: Sequence[pytest.Item], most: int
) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """At most ``most`` cases of each test function, spread over all of its own, and the rest."""
    families = defaultdict(list)
    for item in items:
        families[item.nodeid.partition("[")[0]].append(item)
    kept = {
        family[number * len(family) // min(most, len(family))].nodeid
        for family in families.values()
        for number in range(min(most, len(family)))
    }
    return (
        [item for item in items if item.nodeid in kept],
        [item for item in items if item.nodeid not in kept],
    )
