"""How pages are made for the site: notebooks as Markdown, links as those of the site."""

import json
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from tests.docs.pages import DOCS


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(DOCS)
    monkeypatch.delitem(sys.modules, "build", raising=False)
    return import_module("build")


def render(build: ModuleType, path: Path, *outputs: Mapping[str, object]) -> str:
    """The page of a notebook of a heading and a cell with these outputs."""
    cells: list[dict[str, object]] = [
        {"cell_type": "markdown", "source": ["# One\n", "text"]},
        {"cell_type": "code", "source": "1 + 1", "outputs": [*outputs]},
        {"cell_type": "code", "source": "", "outputs": []},
    ]
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    page: str = build.render_notebook(path)
    return page.removeprefix("# One\ntext\n\n```python\n1 + 1\n```\n")


def test_a_cell_is_shown_with_what_it_printed_as_a_terminal_leaves_it(
    build: ModuleType, tmp_path: Path
) -> None:
    printed = {
        "output_type": "stream",
        "text": ["\r 10%|#\r100%|##\n", "\x1b[31mred\x1b[0m ```\n"],
    }
    page = render(build, tmp_path / "a.ipynb", printed)
    assert page == "\n````text\n100%|##\nred ```\n````\n"


def test_a_table_or_picture_is_shown_in_place_of_its_text_and_a_widget_not_at_all(
    build: ModuleType, tmp_path: Path
) -> None:
    data: list[dict[str, object]] = [
        {"text/html": ["<b>2</b>\n", "\n", "<i>3</i>"], "text/plain": "2"},
        {"image/png": "QUJD\n", "text/plain": "<Figure>"},
        {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "HBox()"},
    ]
    outputs = [{"output_type": "display_data", "data": each} for each in data]
    page = render(build, tmp_path / "a.ipynb", *outputs)
    table, picture = page.strip().split("\n\n")
    assert table == '<div class="output">\n<b>2</b>\n<i>3</i>\n</div>'
    assert picture.startswith('<div class="output"><img ')
    assert picture.endswith('src="data:image/png;base64,QUJD"></div>')


def test_an_error_is_shown_by_its_traceback(build: ModuleType, tmp_path: Path) -> None:
    error = {"output_type": "error", "traceback": ["Traceback", "\x1b[1mValueError: 3\x1b[0m"]}
    assert "Traceback\nValueError: 3\n" in render(build, tmp_path / "a.ipynb", error)


def test_links_out_of_the_pages_lead_to_pages_made_for_them(build: ModuleType) -> None:
    text = (
        "[a](../README.md#use-it) [b](speed.md) [c](#d) [e](../configs/dummy.yaml) [f](https://g)"
    )
    pointed, linked = build.point_links("docs/files.md", f"{text}\n\n```md\n[a](no.md)\n```\n")
    assert pointed.splitlines()[0] == (
        "[a](repository/readme.md#use-it) [b](speed.md) [c](#d) "
        "[e](repository/configs/dummy.yaml.md) [f](https://g)"
    )
    assert "[a](no.md)" in pointed
    assert linked == {"README.md", "configs/dummy.yaml"}
    back, _ = build.point_links("README.md", "[a](docs/speed.md#b) [c](CHANGELOG.md)")
    assert back == "[a](../speed.md#b) [c](CHANGELOG.md)"


def test_a_link_to_nothing_ends_the_build_and_is_named(build: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"docs/files.md: links to no.md, which is not there"):
        build.point_links("docs/files.md", "[a](no.md)")


def test_a_file_is_shown_as_code_and_a_folder_as_its_files(build: ModuleType) -> None:
    assert build.make_page("configs/dummy.yaml").startswith("# `configs/dummy.yaml`\n\n`````yaml\n")
    folder = build.make_page("examples/honest_rerun")
    assert folder.startswith("# `examples/honest_rerun`\n\n## `")
    assert "## `rerun.py`\n\n`````python\n" in folder
    assert build.place_page("examples/honest_rerun") == "repository/examples/honest_rerun/index.md"


def test_a_page_of_the_navigation_that_is_not_there_ends_the_build(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(build, "ROOT", tmp_path)
    nav = "nav:\n  - Start: index.md\n  - About:\n      - howto/a-b.md\n      - C: D.cff.md\n"
    (tmp_path / "mkdocs.yml").write_text(f"site_name: x.md\n{nav}", encoding="utf-8")
    for page in ("index.md", "D.cff.md"):
        (tmp_path / page).write_text("# One\n", encoding="utf-8")
    with pytest.raises(
        SystemExit, match=r"^mkdocs.yml: nav names howto/a-b.md, which is not there"
    ):
        build.check_navigation(tmp_path)
    (tmp_path / "howto").mkdir()
    (tmp_path / "howto" / "a-b.md").write_text("# One\n", encoding="utf-8")
    build.check_navigation(tmp_path)


def test_another_copy_of_the_package_ends_the_build(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert build.import_here("btc_datamodule").__name__ == "btc_datamodule"
    monkeypatch.setattr(build, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match=r"btc_datamodule/__init__.py is not of "):
        build.import_here("btc_datamodule")


def test_the_page_of_the_settings_is_that_section_of_the_readme(build: ModuleType) -> None:
    page = build.make_page("docs/reference/settings.md")
    assert "\n| `lookback` | 48 | " in page
    assert "(../files.md)" in page
    assert "(../../configs/covariates.yaml)" in page
    assert "## " not in page
