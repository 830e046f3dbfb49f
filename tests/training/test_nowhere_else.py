"""No module but ``training.internals`` touches what Lightning or torch do not promise to keep."""

import ast
from collections.abc import Iterator
from pathlib import Path

import btc_datamodule

ROOT = Path(btc_datamodule.__file__).parent
LOOPS = {"fit_loop", "validate_loop", "epoch_loop", "val_loop", "epoch_progress", "batch_progress"}
"""Attributes without an underscore of which Lightning says nothing."""
NAMED_TUPLES = {"_replace", "_asdict", "_fields", "_make"}
PUBLIC = {"lightning.fabric.utilities", "lightning.pytorch"} | {
    f"lightning.pytorch.{each}" for each in ("callbacks", "cli", "strategies", "utilities")
}
DEEP = {("cli", "SIGTERMException"), ("cli", "MisconfigurationException")}
"""Names that are no public ones, but by which alone an error or a state can be known."""


def sources() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).with_suffix("").as_posix()
        if name != "training/internals":
            yield name, ast.parse(path.read_text())


def private_uses(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Lines at which a private attribute of something else than ``self`` or ``cls`` is used.

    Those that the same file defines are its own.
    """
    own: set[str] = set()
    used: list[tuple[int, str, bool]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            own.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            own.add(node.target.id)
        elif isinstance(node, ast.Attribute):
            itself = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if itself and isinstance(node.ctx, ast.Store):
                own.add(node.attr)
            if not itself and ast.unparse(node.value) not in ("super()", "os"):
                used.append((node.lineno, node.attr, node.attr in LOOPS))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr"):
            used += [
                (node.lineno, each.value, each.value in LOOPS)
                for each in node.args[1:2]
                if isinstance(each, ast.Constant) and isinstance(each.value, str)
            ]
    for line, name, loop in used:
        private = name.startswith("_") and not name.endswith("__")
        if loop or (private and name not in own | NAMED_TUPLES):
            yield line, name


def deep_imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Lines at which a name comes from a module of Lightning that is none of its public ones."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lightning."):
            for alias in node.names:
                if node.module not in PUBLIC or alias.name.startswith("_"):
                    yield node.lineno, alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("lightning."):
                    yield node.lineno, alias.name


def test_no_other_module_touches_a_private_name_of_lightning() -> None:
    found = [
        f"{name}, line {line}: {used}"
        for name, tree in sources()
        if name != "sources/web/transport"  # which has those of httpx
        for line, used in private_uses(tree)
    ]
    assert not found, "\n".join(found)


def test_no_other_module_imports_from_where_lightning_promises_nothing() -> None:
    found = [
        f"{name}, line {line}: {used}"
        for name, tree in sources()
        for line, used in deep_imports(tree)
        if (name.split("/")[0], used) not in DEEP
    ]
    assert not found, "\n".join(found)
