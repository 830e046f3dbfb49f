"""What the reference tells of the package, beside what a look at its files alone would give.

Griffe, by which mkdocstrings reads docstrings, loads this as an extension; mkdocs.yml names it.
"""

from typing import Any

import griffe

SOURCES = ("btc_datamodule.sources.base.Source", "btc_datamodule.sources.records.RecordSource")
"""Their pages tell what every source does."""

OF_SOURCES = (
    *("blocks", "check_interval", "find_missing", "hurry", "list_intervals", "manners"),
    *("recognise", "revision", "series"),
)
"""What the datamodule calls of a source, and a user never."""


class ReferenceReading(griffe.Extension):
    """Docstrings that are borrowed, and sources without what only the datamodule calls."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Change what was read of the package."""
        pkg["datamodule.BTCDataModule"].docstring = pkg["data.Data"].docstring
        for part in walk(pkg["sources"]):
            if part.path not in SOURCES and derives(part):
                for name in set(OF_SOURCES) & set(part.members):
                    part.del_member(name)


def walk(module: griffe.Module) -> list[griffe.Class]:
    """Every class of a package."""
    classes = [each for each in module.members.values() if isinstance(each, griffe.Class)]
    for each in module.modules.values():
        if isinstance(each, griffe.Module):
            classes += walk(each)
    return classes


def derives(part: griffe.Class) -> bool:
    """Whether a class is a source."""
    bases = (getattr(base, "canonical_path", base) for base in part.bases)
    return any(str(base) in SOURCES for base in bases)
