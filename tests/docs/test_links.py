"""Every link of every page leads somewhere, on a host of repositories as on the site."""

import json
import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES, ROOT, list_anchors, name_page, read_links

NOTEBOOKS = sorted(DOCS.rglob("*.ipynb"))
LINKING = [*(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")), *PAGES]


def read_prose(page: Path) -> str:
    """The Markdown of a page, or of a notebook."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".md":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


@pytest.mark.parametrize("page", [*LINKING, *NOTEBOOKS], ids=name_page)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    text = read_prose(page)
    for path, anchor in read_links(text):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert target.is_relative_to(ROOT), path
        if anchor:
            assert anchor in list_anchors(read_prose(target)), f"{path}#{anchor}"


def test_links_and_headings_are_found() -> None:
    text = "# One `x`, two\n\n[a](b.md#c) ![d](e.png) [f](#g) [h](ftp://i) `[j](k)`\n## A\n## A\n"
    assert read_links(text) == [("b.md", "c"), ("e.png", ""), ("", "g")]
    assert list_anchors(text) == {"one-x-two", "a", "a-1"}


def test_every_page_has_a_place_in_the_navigation() -> None:
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = re.findall(r"([\w/.]+\.md)$", settings.split("\nnav:\n")[1], re.MULTILINE)
    pages = {page.relative_to(DOCS).with_suffix(".md").as_posix() for page in (*PAGES, *NOTEBOOKS)}
    project = ("CHANGELOG", "CONTRIBUTING", "SECURITY", "CITATION.cff", "LICENSE")
    outside = {f"repository/{name}.md" for name in project}
    assert (pages | outside) - set(named) == set(), "without a place in mkdocs.yml"
    assert set(named) - (pages | outside) == set(), "in mkdocs.yml, but not there"
