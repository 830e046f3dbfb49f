"""Some cases stand for all of them where a run has less time."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.marks import keep_each_value, keep_some, split_cases


class Named:
    def __init__(self, nodeid: str) -> None:
        self.nodeid = nodeid


def test_a_function_keeps_so_many_of_its_cases_spread_over_them() -> None:
    many = [f"a.py::many[{n}]" for n in range(10)]
    names = ["a.py::one", *many, "b.py::many[0]", "b.py::many[1]"]
    items = cast("list[pytest.Item]", [Named(name) for name in names])
    kept, left_out = split_cases(items, 3)
    assert [item.nodeid for item in kept] == [
        "a.py::one", "a.py::many[0]", "a.py::many[3]", "a.py::many[6]", "b.py::many[0]",
        "b.py::many[1]",
    ]  # fmt: skip
    assert len(kept) + len(left_out) == len(names)


def test_all_but_one_in_so_many_cases_are_stress() -> None:
    cases: list[Any] = keep_some(range(5), 2, "abcde")
    assert [case.id for case in cases if not case.marks] == ["a", "c", "e"]
    assert [case.values for case in cases] == [(0,), (1,), (2,), (3,), (4,)]


class Case:
    """One of a function ``f`` with parameters."""

    def __init__(self, stress: bool = False, **parameters: object) -> None:
        self.nodeid = f"a.py::f[{'-'.join(map(str, parameters.values()))}]"
        self.callspec = SimpleNamespace(params=parameters)
        self.marks = {"each_value", *(["stress"] if stress else [])}

    def get_closest_marker(self, name: str) -> bool:
        return name in self.marks

    def add_marker(self, marker: pytest.MarkDecorator) -> None:
        self.marks.add(marker.name)


def test_few_cases_have_each_value_of_each_parameter() -> None:
    cases = [Case(letter=letter, number=number) for letter in "ab" for number in range(4)]
    longer = Case(stress=True, letter="c", number=0)
    keep_each_value(cast("list[pytest.Item]", [*cases, longer]))
    kept = [case.nodeid for case in cases if "stress" not in case.marks]
    assert kept == ["a.py::f[a-0]", "a.py::f[a-2]", "a.py::f[a-3]", "a.py::f[b-1]"]
    assert longer.marks == {"each_value", "stress"}
