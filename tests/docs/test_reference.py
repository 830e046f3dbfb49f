"""The reference has every public name in one place, and none that there is not."""

import inspect
import re
from importlib import import_module
from pathlib import Path

import btc_datamodule
from btc_datamodule import testing
from tests.docs.pages import DOCS

TYPES = DOCS / "reference" / "types.md"
PAGES = sorted({*(DOCS / "reference").glob("*.md")} - {TYPES})
PACKAGE = Path(btc_datamodule.__file__).parent
PUBLIC = [
    *(f"btc_datamodule.{name}" for name in btc_datamodule.__all__),
    *(f"btc_datamodule.testing.{name}" for name in testing.__all__),
]


def test_every_public_name_has_one_place() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = re.findall(r"^::: (\S+)$", text, re.MULTILINE)
    assert set(PUBLIC) - set(named) == set(), "without a place in docs/reference"
    assert set(named) - set(PUBLIC) == set(), "in docs/reference, but not public"
    assert len(named) == len(set(named))


def test_the_first_page_leads_to_every_name() -> None:
    index = (DOCS / "reference" / "index.md").read_text(encoding="utf-8")
    linked = re.findall(r"\[`([\w.]+)`\]\(\w+\.md#([\w.]+)\)", index)
    assert {anchor for _, anchor in linked} == set(PUBLIC)
    assert [f"btc_datamodule.{name}" for name, _ in linked] == [anchor for _, anchor in linked]


def test_every_public_name_says_what_it_is() -> None:
    for name in PUBLIC:
        module, own = name.rsplit(".", 1)
        thing = getattr(import_module(module), own)
        if inspect.isclass(thing) or inspect.isroutine(thing):
            assert thing.__doc__, name


def test_every_name_of_a_type_in_a_signature_is_explained() -> None:
    text = TYPES.read_text(encoding="utf-8")
    explained = {*re.findall(r"^::: ([\w.]+)\.(\w+)$", text, re.MULTILINE)}
    assert all(hasattr(import_module(module), name) for module, name in explained)
    sources = [path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")]
    named = {name for each in sources for name in re.findall(r"^(\w+) = Literal\[", each, re.M)}
    files = ("data.py", "sources/simulator.py", "evaluation/splits.py", "evaluation/targets.py")
    signatures = "".join((PACKAGE / name).read_text(encoding="utf-8") for name in files)
    used = {name for name in named if re.search(rf"^ +\w+: {name}\b", signatures, re.M)}
    assert len(used) >= 6
    assert used - {name for _, name in explained} == set()
