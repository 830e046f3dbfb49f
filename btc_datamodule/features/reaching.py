"""What a function reaches by name in the code of its user, beyond the file that it stands in.

A feature may call ``helpers.scale``, read ``helpers.FACTOR`` or a table that was read from a file
when its module was imported, or import what it needs when it is called. Whoever names a feature
file after what a function computes must see all of these. Code of the user is what lies in no
library: neither in Python's own nor among installed packages, nor in this one.
"""

import dis
import functools
import importlib
import importlib.util
import sysconfig
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

LIBRARIES = ("site-packages", "dist-packages")


class Reached(NamedTuple):
    """What a function names.

    Attributes:
        value: a function, a class, a module, or whatever else stands under the name.
        names: all that the code names, and so what of a module it may mean.
    """

    value: Any
    names: tuple[str, ...]


def list_reached(function: types.FunctionType) -> list[tuple[str, Reached]]:
    """What a function of the user's own code names, and by which name."""
    code = function.__code__
    names, known = tuple(find_names(code)), function.__globals__
    found = [(name, known[name]) for name in dict.fromkeys(names) if name in known]
    found += [(module.__name__, module) for module in _list_imported(code, known)]
    return [(name, Reached(value, names)) for name, value in found]


def list_members(module: types.ModuleType, names: tuple[str, ...]) -> list[tuple[str, Reached]]:
    """What code that has some names may mean of a module."""
    has = vars(module)
    return [(name, Reached(has[name], names)) for name in dict.fromkeys(names) if name in has]


def find_names(code: types.CodeType) -> list[str]:
    """The names that code reads beside its own variables, those of functions inside included."""
    inner = [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return [*code.co_names, *(name for each in inner for name in find_names(each))]


def is_own_module(module: types.ModuleType) -> bool:
    """Whether a module is code of the user; one that is typed in has no file."""
    file = getattr(module, "__file__", None)
    return module.__name__ == "__main__" if file is None else is_own_file(file)


def is_own_class(kind: type) -> bool:
    """Whether a class is code of the user, by the file that a method or its module stands in."""
    for member in vars(kind).values():
        if isinstance(member, types.FunctionType) and member.__module__ == kind.__module__:
            return is_own_file(member.__code__.co_filename)
    return kind.__module__ == "__main__" or is_own_file(_find_file(kind.__module__))


@functools.cache
def is_own_file(file: str) -> bool:
    """Whether a file holds code of the user; what was typed in is in none, such as ``<stdin>``."""
    if not file or file.startswith("<frozen"):
        return False
    if file.startswith("<"):
        return True
    path = Path(file)
    return not (
        any(part in LIBRARIES for part in path.parts)
        or any(path.is_relative_to(folder) for folder in _find_libraries())
    )


@functools.cache
def _find_libraries() -> tuple[Path, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    paths = sysconfig.get_paths()
    return (*(Path(paths[name]) for name in names), Path(__file__).parents[1])


def _find_file(module: str) -> str:
    """The file of a module by its name, without importing it; "" if it has none."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return ""
    return spec.origin or "" if spec and spec.has_location else ""


def _list_imported(code: types.CodeType, known: dict[str, Any]) -> Iterator[types.ModuleType]:
    """Modules of the user that code imports when it runs; those that cannot be imported but then.

    A package is followed by the whole name of the module: ``import one.two`` gives both.
    """
    steps = list(dis.get_instructions(code))
    for at, step in enumerate(steps):
        if step.opname != "IMPORT_NAME":
            continue
        level, package = steps[at - 2].argval or 0, known.get("__package__") or ""
        try:
            name = importlib.util.resolve_name("." * level + step.argval, package)
        except ImportError:
            continue
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            whole = ".".join(parts[:count])
            if not is_own_file(_find_file(whole)):
                break
            try:
                yield importlib.import_module(whole)
            except ImportError:
                break
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _list_imported(const, known)
