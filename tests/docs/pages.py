"""The pages of the documentation: their blocks of code, their links, and what links may lead to."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block of a page; what it prints, if a block of text follows it."""

    language: str
    text: str
    shown: str | None

    @property
    def file(self) -> str:
        """The file that a reader saves it as: its first line says so, ``# model.py``; or ""."""
        found = re.match(r"# ([\w/]+\.\w+)\n", self.text)
        return found[1] if found else ""


def name_page(page: Path) -> str:
    """Its path in the repository."""
    return page.relative_to(ROOT).as_posix()


def read_blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for found in FENCED.finditer(text):
        after = FENCED.match(text, found.end() + 2)
        shown = after[2] if after and after[1] == "text" else None
        yield Block(found[1], found[2], shown)


def list_commands(block: Block) -> list[str]:
    """The lines of a block of a shell that call the command line of the package."""
    lines = block.text.replace("\\\n", " ").splitlines() if block.language == "sh" else []
    found = (re.search(r"\bbtc-datamodule (\w.*)", line) for line in lines)
    return [each[1] for each in found if each]


def read_links(text: str) -> list[tuple[str, str]]:
    """The links of a page to places in the repository, as (path or "", anchor or "")."""
    prose = re.sub(r"`[^`\n]*`", "``", FENCED.sub("", text))
    return re.findall(r"\]\((?!\w+:)([^)\s#]*)#?([^)\s]*)\)", prose)


def list_anchors(text: str) -> set[str]:
    """What ``#...`` may name: headings, as hosts of repositories and the site write them."""
    anchors: set[str] = set(re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE))
    for heading in re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        number = next(n for n in range(99) if (f"{slug}-{n}" if n else slug) not in anchors)
        anchors.add(f"{slug}-{number}" if number else slug)
    return anchors
