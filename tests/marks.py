"""Which cases of a test run always, which with the marker ``stress``, and with ``--cases``."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from _pytest.mark.structures import ParameterSet
from hypothesis import given, settings
from hypothesis import strategies as st


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


def law(
    *strategies: st.SearchStrategy[Any], examples: int = 100, many: int = 2000
) -> Callable[..., Any]:
    """A property test of so many examples, and of many under the marker ``stress``."""

    def decorate(check: Callable[..., None]) -> Callable[[int], None]:
        @pytest.mark.parametrize(
            "examples", [examples, pytest.param(many, marks=pytest.mark.stress)]
        )
        def test(examples: int) -> None:
            settings(max_examples=examples)(given(*strategies)(check))()

        return test

    return decorate


def keep_each_value(items: Iterable[pytest.Item]) -> None:
    """Leave of functions marked ``each_value`` few cases, which have each value of each parameter.

    All others have the marker ``stress`` from then on.
    """
    families = defaultdict(list)
    for item in items:
        if item.get_closest_marker("each_value") and not item.get_closest_marker("stress"):
            families[item.nodeid.partition("[")[0]].append(item)
    for family in families.values():
        values = [
            {(name, id(value)) for name, value in case.callspec.params.items()}  # type: ignore[attr-defined]
            for case in family
        ]
        missing = set[tuple[str, int]]().union(*values)
        kept = set[int]()
        while missing:
            best = max(range(len(family)), key=lambda at: len(values[at] & missing))
            missing -= values[best]
            kept.add(best)
        for at, item in enumerate(family):
            if at not in kept:
                item.add_marker(pytest.mark.stress)


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
