"""What the project says of itself in several places is the same in all."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import btc_datamodule

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
NAMES = {"torch": "pytorch", "jsonargparse[signatures]": "jsonargparse", "isal": "python-isal"}
"""What packages are called on conda-forge."""


def read_yaml(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text("utf-8"))


def test_the_citation_is_of_this_project_and_version() -> None:
    cited = read_yaml("CITATION.cff")
    assert cited["cff-version"] == "1.2.0"
    assert (cited["title"], cited["version"]) == (PROJECT["name"], PROJECT["version"])
    assert (cited["license"], cited["keywords"]) == (PROJECT["license"], PROJECT["keywords"])
    assert cited["repository-code"] == PROJECT["urls"]["Repository"]


def test_the_recipe_needs_what_the_wheel_needs() -> None:
    recipe = read_yaml("recipe/recipe.yaml")
    run = [each.split(" ", 1) for each in recipe["requirements"]["run"] if "python_min" not in each]
    needed = {name: floor for name, *rest in run for floor in rest}
    due = {}
    for requirement in PROJECT["dependencies"]:
        name, floor = re.match(r"([\w.\[\]-]+)([^;]*)", requirement).groups()  # type: ignore[union-attr]
        due[NAMES.get(name, name).lower()] = floor.strip()
    assert needed == due
    assert recipe["context"]["version"] == PROJECT["version"]
    assert PROJECT["requires-python"] == f">={recipe['context']['python_min']}"
    assert recipe["about"]["homepage"] == PROJECT["urls"]["Repository"]
    assert recipe["about"]["license_file"] == PROJECT["license-files"]
    (entry,) = recipe["build"]["python"]["entry_points"]
    assert entry == "btc-datamodule = " + PROJECT["scripts"]["btc-datamodule"]


def test_every_url_begins_with_that_of_the_repository() -> None:
    assert all(url.startswith(PROJECT["urls"]["Repository"]) for url in PROJECT["urls"].values())


def test_the_changelog_has_the_form_that_it_names() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert re.findall(r"^## (.+)$", text, re.M) == ["Unreleased", "0.1.0"]
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, re.M)) <= kinds
    assert f"To be {btc_datamodule.__version__}." in text


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob(".github/ISSUE_TEMPLATE/[!c]*.yml")), ids=lambda path: path.stem
)
def test_a_template_asks_for_something(path: Path) -> None:
    form = yaml.safe_load(path.read_text("utf-8"))
    assert form["name"]
    assert form["description"]
    fields = [part["id"] for part in form["body"]]
    assert len(set(fields)) == len(fields) > 0
    assert any(part.get("validations", {}).get("required") for part in form["body"])


def test_the_bounds_that_the_security_page_names_are_those_of_the_code() -> None:
    from btc_datamodule.sources.ccxt import adapter
    from btc_datamodule.sources.files import containers
    from btc_datamodule.sources.web import client, patience, unpacking

    page = " ".join((ROOT / "SECURITY.md").read_text("utf-8").split())
    mebibyte = 2**20
    assert f"at most {client.MAX_BODY // mebibyte} MiB unpacked" in page
    assert f"of ccxt {adapter.MAX_BODY // mebibyte} MiB" in page
    assert f"{unpacking.PIECE // 2**10} KiB at a time" in page
    assert patience.MAX_BACKOFF == 60
    assert "at most a minute" in page
    assert f"to {containers.MOST} times its size, or {containers.FREE // mebibyte} MiB" in page
