"""The house of docs/architecture.md as a test: which part may know which, and how long files are.

An *arrow* is an import of one file of the package by another, wherever it stands: at the top, in a
function, under ``TYPE_CHECKING``. ``from btc_datamodule.candles import Candles`` is an arrow to
``candles/__init__``, and ``from btc_datamodule import Candles`` one to the public ``__init__``.
That lies above all that it names: only ``cli`` and ``testing``, which speak to a user, may import
by it. Everywhere below an import says in which file a thing lies.
"""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import btc_datamodule

ROOT = Path(btc_datamodule.__file__).parent

FLOORS = (  # from the ground up; parts on one floor know nothing of each other
    ("public", "escaping", "filters"),
    ("errors", "progress"),
    ("checks",),
    ("candles",),
    ("disk", "sources"),
    ("store",),
    ("features",),
    ("covariates", "evaluation", "plain"),
    ("settings", "windows"),
    ("eligible", "opening"),
    ("cleaning", "options", "preparing", "stages", "training"),
    ("scoring",),
    ("overview",),
    ("pictures",),
    ("views",),
    ("data",),
    ("arguments",),
    ("audit",),
    ("report",),
    ("datamodule",),
    ("folds", "live"),
    ("__init__",),
    ("cli", "testing"),
    ("__main__",),
)
FLOOR = {part: number for number, parts in enumerate(FLOORS) for part in parts}

LONGEST = {"package": 430, "tests": 610}
"""Lines of a file: about 400 and 600."""


class Arrow(NamedTuple):
    """File ``source`` imports file ``target``, at ``line``; names such as ``candles.series``."""

    source: str
    target: str
    line: int

    def __str__(self) -> str:
        return f"{self.source}, line {self.line}: imports {self.target}"


def list_files() -> dict[str, Path]:
    """Every file of the package by its name: ``candles.series``, ``candles.__init__``."""
    files = sorted(ROOT.rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files}


def find_file(module: str) -> str | None:
    """The file of a module or package called by its full name; None if there is none."""
    name = module.removeprefix("btc_datamodule").removeprefix(".")
    for candidate in (name, f"{name}.__init__".removeprefix(".")):
        if candidate in FILES:
            return candidate
    return None


def list_arrows(source: str, code: str) -> Iterator[Arrow]:
    """The imports of the package in the code of one of its files."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            modules = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            # What is imported from a package is a file of it, or a name of its __init__.
            package = node.module or ""
            inner = [f"{package}.{name.name}" for name in node.names]
            modules = [each if find_file(each) else package for each in inner]
        else:
            continue
        for module in dict.fromkeys(modules):
            if module.split(".")[0] == "btc_datamodule":
                target = find_file(module)
                assert target, f"{source}, line {node.lineno}: there is no {module}"
                yield Arrow(source, target, node.lineno)


def find_part(file: str) -> str:
    return file.split(".", maxsplit=1)[0]


def find_upward(arrows: list[Arrow]) -> list[str]:
    """Arrows from one part to another that do not point down."""
    return [
        str(arrow)
        for arrow in arrows
        if (one := find_part(arrow.source)) != (other := find_part(arrow.target))
        and FLOOR[other] >= FLOOR[one]
    ]


def find_circle(arrows: list[Arrow]) -> str:
    """Files that import each other in a circle, "a -> b -> a"; "" if there are none."""
    graph: dict[str, set[str]] = {}
    for arrow in arrows:
        graph.setdefault(arrow.source, set()).add(arrow.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return " -> ".join(reversed(error.args[1]))
    return ""


FILES = list_files()


@pytest.fixture(scope="module")
def arrows() -> list[Arrow]:
    """All imports between files of the package."""
    return [arrow for name, path in FILES.items() for arrow in list_arrows(name, path.read_text())]


# --- the package ----------------------------------------------------------------------------------


def test_every_part_has_a_floor() -> None:
    assert {find_part(file) for file in FILES} == set(FLOOR)


def test_every_arrow_between_parts_points_down(arrows: list[Arrow]) -> None:
    upward = find_upward(arrows)
    assert not upward, "\n".join(upward)


def test_no_files_import_each_other_in_a_circle(arrows: list[Arrow]) -> None:
    assert find_circle(arrows) == ""


def test_imports_name_the_whole_path() -> None:
    relative = [
        f"{file}, line {node.lineno}"
        for file, path in FILES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not relative, f"relative imports: {relative}"


def test_no_file_is_too_long() -> None:
    folders = {"package": ROOT, "tests": Path(__file__).parent}
    long = [
        f"{path.relative_to(folder.parent)}: {lines} lines"
        for name, folder in folders.items()
        for path in sorted(folder.rglob("*.py"))
        if (lines := len(path.read_text().splitlines())) > LONGEST[name]
    ]
    assert not long, "\n".join(long)


# --- these tests ----------------------------------------------------------------------------------


def test_every_way_to_write_an_import_is_an_arrow() -> None:
    code = """
import btc_datamodule.store.update
from btc_datamodule import Candles, errors
from btc_datamodule.candles import Candles, timeline
from btc_datamodule.candles.series import Candles, tidy
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from btc_datamodule.datamodule import BTCDataModule
def late():
    import numpy, btc_datamodule
"""
    assert [arrow.target for arrow in list_arrows("disk.lock", code)] == [
        "store.update",
        *("__init__", "errors"),
        *("candles.__init__", "candles.timeline"),
        "candles.series",
        "datamodule",
        "__init__",
    ]


def test_an_arrow_that_points_up_or_aside_is_named_with_its_line() -> None:
    down = Arrow("store.update", "candles.series", 1)
    within = Arrow("store.update", "store.parts", 2)
    up = Arrow("store.update", "features.grid", 3)
    aside = Arrow("disk.lock", "sources.base", 4)
    public = Arrow("audit.twins", "__init__", 5)
    allowed = Arrow("cli.parsing", "__init__", 6)
    assert find_upward([down, within, up, aside, public, allowed]) == [
        "store.update, line 3: imports features.grid",
        "disk.lock, line 4: imports sources.base",
        "audit.twins, line 5: imports __init__",
    ]


def test_a_circle_is_named() -> None:
    one, two, three = Arrow("a.x", "a.y", 1), Arrow("a.y", "b.__init__", 2), Arrow("a.y", "a.z", 3)
    assert find_circle([one, two, three]) == ""
    assert find_circle([one, two, Arrow("b.__init__", "a.x", 4)]) in (
        "a.x -> a.y -> b.__init__ -> a.x",
        "a.y -> b.__init__ -> a.x -> a.y",
        "b.__init__ -> a.x -> a.y -> b.__init__",
    )
