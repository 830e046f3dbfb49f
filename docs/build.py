"""Build the site of the documentation, offline: `make docs`, or `python docs/build.py`.

The pages are plain Markdown that a host of repositories shows as it is, so their links are paths in
the repository. The generator, Zensical, sees one folder and knows neither notebooks nor commands.
Pages are gathered in ``build/docs`` first, where

- notebooks have become pages that show their stored outputs; nothing is executed;
- what pages link to outside of ``docs/`` is a page below ``repository/``: the README and the like
  as they are, a configuration or a script as its text, a folder as the texts in it;
- the page of commands has the options of each, as the parser tells them.

Then Zensical builds the site of them, and refuses a link, an anchor or a name that leads nowhere.
"""

import argparse
import os
import posixpath
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from importlib import import_module
from io import StringIO
from pathlib import Path
from types import ModuleType

from notebook_pages import render_notebook

ROOT = Path(__file__).resolve().parents[1]
COPIED = (".png", ".svg", ".css")
PROJECT_PAGES = (
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md"),
    *("SECURITY.md", "CITATION.cff", "LICENSE"),
)
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s#]+)(?=[)#])")
NAMED = re.compile(r"^ +- (?:.+: )?([\w/.-]+\.md)$", re.MULTILINE)
FENCED = re.compile(r"(^ *(```+)[^`]*?^ *\2$)", re.MULTILINE)
SETTINGS = re.compile(r"^## What the YAML can say\n(.*?)(?=^## )", re.MULTILINE | re.DOTALL)
SETTINGS_HERE = "<!-- what the README says of the settings, by docs/build.py -->"
COMMANDS_HERE = "<!-- the options of each command, by docs/build.py -->"
PASSED_OVER = re.compile(
    r"passed over by this command|^  --(trainer\.|\S+\.help |optimizer |lr_scheduler )| --> "
)
"""Options that are not listed: docs/reference/commands.md tells of them."""
LANGUAGES = {".py": "python", ".yaml": "yaml", ".cff": "yaml", ".toml": "toml", ".sh": "sh"}


def main() -> int:
    """Gather the pages, build the site, and give the exit status of the generator."""
    parser = argparse.ArgumentParser(description="Build the site of docs/, offline.")
    parser.add_argument("--output", type=Path, default=ROOT / "site", help="folder of the site")
    parser.add_argument("--pages", type=Path, default=ROOT / "build" / "docs", help="of the pages")
    given = parser.parse_args()
    output, pages = given.output.resolve(), given.pages.resolve()
    shutil.rmtree(pages, ignore_errors=True)
    shutil.rmtree(output, ignore_errors=True)
    os.environ["COLUMNS"] = "90"  # of the options of commands
    gather_pages(pages / "docs")
    check_navigation(pages / "docs")
    shutil.copy(ROOT / "mkdocs.yml", pages)
    # The reference is read from this checkout, whatever else is installed.
    here = (str(ROOT), str(ROOT / "docs"), os.environ.get("PYTHONPATH"))
    paths = os.pathsep.join(filter(None, here))
    built = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=pages,
        env={**os.environ, "PYTHONPATH": paths},
        check=False,
    )
    if built.returncode == 0:
        shutil.move(pages / "site", output)
        print(f"To read it at http://localhost:8000: python -m http.server -d {output}")
    return built.returncode


# --- gathering ------------------------------------------------------------------------------------


def gather_pages(folder: Path) -> None:
    """Write every page and picture of the site into a folder.

    Raises:
        SystemExit: if a page links to a file that is not there.
    """
    kinds = (".md", ".ipynb", *COPIED)
    docs = (path for path in (ROOT / "docs").rglob("*") if path.suffix in kinds)
    waiting = [path.relative_to(ROOT).as_posix() for path in sorted(docs)]
    waiting += PROJECT_PAGES
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        place = folder / place_page(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.endswith(COPIED):
            shutil.copy(ROOT / path, place)
            continue
        text, linked = point_links(path, make_page(path))
        place.write_text(text, encoding="utf-8")
        waiting += sorted(linked - seen)
        seen |= linked


def check_navigation(folder: Path) -> None:
    """Refuse a page of mkdocs.yml that was not gathered: the generator would pass over it.

    Raises:
        SystemExit: it names every such page.
    """
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = NAMED.findall(settings.split("\nnav:\n")[1])
    if absent := [page for page in named if not (folder / page).is_file()]:
        sys.exit(f"mkdocs.yml: nav names {', '.join(absent)}, which is not there")


def place_page(path: str) -> str:
    """Where a file of the repository stands among the pages of the site."""
    if (ROOT / path).is_dir():
        path += "/index.md"
    elif path.endswith(".ipynb"):
        path = path.removesuffix(".ipynb") + ".md"
    elif not path.endswith((".md", *COPIED)):
        path += ".md"
    path = path.replace("README.md", "readme.md")  # not the index of its folder
    return path.removeprefix("docs/") if path.startswith("docs/") else f"repository/{path}"


def make_page(path: str) -> str:
    """The Markdown that shows a file or folder of the repository."""
    file = ROOT / path
    if file.is_dir():
        texts = [each for each in sorted(file.iterdir()) if each.suffix in (".md", *LANGUAGES)]
        shown = (show_text(each.relative_to(ROOT).as_posix(), level=2) for each in texts)
        return f"# `{path}`\n\n" + "\n".join(shown)
    if path.endswith(".ipynb"):
        return render_notebook(file)
    if not path.endswith(".md"):
        return show_text(path)
    text = file.read_text(encoding="utf-8")
    if SETTINGS_HERE in text:
        text = text.replace(SETTINGS_HERE, show_settings(posixpath.dirname(path)))
    return text.replace(COMMANDS_HERE, "\n".join(list_options())) if COMMANDS_HERE in text else text


def show_settings(folder: str) -> str:
    """What the README says of the settings, with its links as a page in this folder has them."""
    found = SETTINGS.search((ROOT / "README.md").read_text(encoding="utf-8"))
    if found is None:
        sys.exit("README.md: has no section with the settings")
    return LINK.sub(lambda link: posixpath.relpath(link[1], folder), found[1].strip())


def show_text(path: str, level: int = 1) -> str:
    """A file of the repository as a page, or as a section of one."""
    file = ROOT / path
    text = file.read_text(encoding="utf-8").rstrip()
    title = f"{'#' * level} `{path if level == 1 else file.name}`\n\n"
    return f"{title}`````{LANGUAGES.get(file.suffix, 'text')}\n{text}\n`````\n"


def point_links(path: str, text: str) -> tuple[str, set[str]]:
    """A page whose links lead to the pages of the site, and what it links to outside of docs/."""
    here, linked = posixpath.dirname(path), set()

    def point(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(here, link[1]))
        if not (ROOT / target).exists():
            sys.exit(f"{path}: links to {link[1]}, which is not there")
        if not target.startswith("docs/"):
            linked.add(target)
        return posixpath.relpath(place_page(target), posixpath.dirname(place_page(path)))

    parts = re.split(FENCED, text)  # text, a fenced block, its fence, text, ...
    parts[::3] = [LINK.sub(point, part) for part in parts[::3]]
    del parts[2::3]
    return "".join(parts), linked


# --- the command line -----------------------------------------------------------------------------


def list_options() -> Iterator[str]:
    """For each command a section with its options, those that ``fit`` has as well told once."""
    told: set[str] = set()
    for command, does in re.findall(r"^  (\w+)  +(\S.+)$", ask("--help"), re.MULTILINE):
        options = re.findall(r"^  \S.*\n(?: {3,}.*\n)*", ask(command, "--help"), re.MULTILINE)
        own = [each for each in options if each not in told and not PASSED_OVER.search(each)]
        if command == "fit":
            told.update(own)
        shown = f"\n```text\n{''.join(own)}```\n" if own else ""
        yield f"\n## `{command}`\n\n{does[0].upper()}{does[1:]}.\n{shown}"


def ask(*arguments: str) -> str:
    """What the command line prints."""
    run_command = import_here("btc_datamodule.cli").main
    printed = StringIO()
    with redirect_stdout(printed), suppress(SystemExit):
        run_command(arguments)
    return printed.getvalue().replace("\b", "")  # jsonargparse takes a space back with one


def import_here(name: str) -> ModuleType:
    """A module of the package in this checkout, whatever else is installed.

    Raises:
        SystemExit: if another copy has been imported before.
    """
    if str(ROOT) not in sys.path[:1]:
        sys.path.insert(0, str(ROOT))
    module = import_module(name)
    if not Path(str(module.__file__)).is_relative_to(ROOT):
        sys.exit(f"{module.__file__} is not of {ROOT}: run this by itself, outside of a program")
    return module


if __name__ == "__main__":
    sys.exit(main())
