"""Some cases stand for all of them where a run has less time."""

from typing import Any, cast

import pytest

from tests.marks import keep_some, split_cases


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
