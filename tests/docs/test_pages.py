"""The pages tell the truth: their code runs, and prints what they show; their commands are real."""

import inspect
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from doctest import ELLIPSIS, OutputChecker
from functools import cache
from io import StringIO
from pathlib import Path

import pytest

from btc_datamodule import BTCDataModule
from btc_datamodule.cli import main
from tests.docs.pages import DOCS, PAGES, ROOT, Block, list_commands, name_page, read_blocks

TYPED_OUT = (DOCS / "tutorial.md", DOCS / "howto" / "own_csv.md")
"""Pages whose commands are run as well."""

SHORTER = [f"--trainer.{name}=1" for name in ("max_epochs", "limit_train_batches")]
"""What a fit of these pages is cut to: what it learns is not judged here."""

WITH_CODE = [
    page for page in PAGES if any(block.language == "python" for block in read_blocks(page))
]
WITH_COMMANDS = [
    page
    for page in (ROOT / "README.md", *PAGES)
    if any(map(list_commands, read_blocks(page))) and page not in TYPED_OUT
]


def run_block(block: Block, names: dict[str, object], *, commands: bool) -> None:
    """Do with a block what a reader does."""
    if block.file:
        Path(block.file).write_text(block.text, encoding="utf-8")
    if block.language == "python":
        exec(compile(block.text, "page", "exec"), names)
    for command in list_commands(block) if commands else ():
        words = shlex.split(command, comments=True)
        assert main([*words, *(SHORTER if words[0] == "fit" else ())]) == 0, command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in, from which what is saved there can be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("page", WITH_CODE, ids=name_page)
def test_the_blocks_of_a_page_run_and_print_what_is_shown(
    page: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A module of its own, guarded as the workers' start method may demand.
    names: dict[str, object] = {"__name__": "example"}
    for block in read_blocks(page):
        capsys.readouterr()
        run_block(block, names, commands=page in TYPED_OUT)
        printed = capsys.readouterr().out
        if block.language == "python" and block.shown is not None:
            same = OutputChecker().check_output(block.shown, printed, ELLIPSIS)
            assert same, f"{block.text}\nshown:\n{block.shown}\nprinted:\n{printed}"


def test_examples_of_one_page_do_not_add_to_the_candles_of_another() -> None:
    """Whoever runs one page after another, in one folder, finds what each page says."""
    used: dict[str, str] = {}
    for page in (ROOT / "README.md", *PAGES):
        code = "".join(block.text for block in read_blocks(page) if block.language == "python")
        for simulator in set(re.findall(r"Simulator\([^)]*\)", code)):
            assert used.setdefault(simulator, name_page(page)) == name_page(page), simulator
    assert len(set(used.values())) >= 3


@cache
def list_options(command: str) -> frozenset[str]:
    """The options of a command, without what follows a point: ``--data`` of ``--data.lookback``."""
    printed = StringIO()
    with redirect_stdout(printed), suppress(SystemExit):
        main([command, "--help"])
    return frozenset(re.findall(r"(?<![\w-])(--?\w+)", printed.getvalue()))


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name_page)
def test_the_commands_of_each_page_have_the_options_that_are_shown(page: Path) -> None:
    settings = inspect.signature(BTCDataModule.__init__).parameters
    for block in read_blocks(page):
        for line in list_commands(block):
            command, *words = shlex.split(line, comments=True)
            options = [word for word in words if word.startswith("-") and not is_number(word)]
            given = {re.split(r"[.=+]", option, maxsplit=1)[0] for option in options}
            assert given <= list_options(command), line
            of_data = {option.split(".")[1] for option in options if option.startswith("--data.")}
            assert {re.split("[=+]", name)[0] for name in of_data} <= {*settings, "help"}, line


def is_number(word: str) -> bool:
    return re.fullmatch(r"-[\d.]+", word) is not None
