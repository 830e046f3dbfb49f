"""CONTRIBUTING, the architecture page and the Makefile tell the truth."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.test_architecture import FLOORS
from tests.test_architecture import ROOT as PACKAGE

ROOT = Path(__file__).parents[1]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
LINT = ("ruff check .", "ruff format --check .", "mypy --strict")

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_every_file_that_is_named_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"(?<![\w<>./])(?:[\w.-]+/)+(?:[\w.-]+\.\w+)?(?=[`\s,;:)])", text)
    named += re.findall(r"`([\w.-]+\.(?:md|toml|txt|py))`", text)
    named += [f"docs/{path}" for path in re.findall(r"\]\((\w+\.md)\)", ARCHITECTURE)]
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()  # made by commands
    missing = [
        path
        for path in named
        if path not in ignored and not (ROOT / path).exists() and not (PACKAGE / path).exists()
    ]
    assert len(named) > 10
    assert not missing


def test_the_house_has_every_room_and_file() -> None:
    rows = re.findall(r"^\| `([\w/]+/)` \| .+? \| ((?:`\w+` ?)+) \|$", ARCHITECTURE, re.MULTILINE)
    listed = {room: set(re.findall(r"`(\w+)`", files)) for room, files in rows}
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        if path.stem != "__init__":
            room = path.relative_to(PACKAGE).parent.as_posix() + "/"
            found.setdefault("btc_datamodule/" if room == "./" else room, set()).add(path.stem)
    assert listed == found


def test_the_floors_are_those_of_the_test() -> None:
    floors = ARCHITECTURE.split("### The floors")[1].split("\n- ")[0]
    listed = [re.findall(r"`(\w+)`", row) for row in re.findall(r"^\d+\. (.+)$", floors, re.M)]
    assert listed == [sorted(parts, key=parts.index) for parts in reversed(FLOORS)]


def test_each_word_has_one_meaning_and_stands_in_order() -> None:
    rows = ARCHITECTURE.split("## Words")[1]
    words = re.findall(r"^\| ([\w -]+) \|", rows, re.MULTILINE)[1:]
    assert len(words) > 40
    assert words == sorted(set(words), key=lambda word: word.replace("-", " "))


def test_the_contract_in_the_page_passes(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", CONTRIBUTING, re.DOTALL)
    names: dict[str, object] = {"__name__": "test_example"}
    exec(compile(example, "CONTRIBUTING.md", "exec"), names)
    contract = names["TestMySource"]()  # type: ignore[operator]
    contract.test_its_bars_are_closed_candles_inside_their_blocks()


def run_make(*arguments: str) -> str:
    """What make prints, also where these tests are run by make."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    made = subprocess.run(
        ["make", *arguments], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    return made.stdout


def list_commands(target: str) -> str:
    """What make would run for a target."""
    return run_make("-n", target)


@needs_make
def test_lint_is_what_ci_runs() -> None:
    ci = (ROOT / ".ci" / "run").read_text()
    commands = list_commands("lint").splitlines()
    assert [command.split(" -m ")[1] for command in commands] == list(LINT)
    for command in LINT:
        assert f".venv-dev/bin/{command}\n" in ci


@needs_make
def test_the_hooks_before_a_commit_are_the_lint() -> None:
    yaml = pytest.importorskip("yaml")
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    for hook, command in zip(hooks, LINT, strict=True):
        assert hook["language"] == "system"
        assert command in list_commands(hook["entry"].removeprefix("make "))


@needs_make
def test_make_lists_its_targets_and_runs_nothing() -> None:
    listed = re.findall(r"^make (\S+) ", run_make(), re.MULTILINE)
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    assert listed == phony[1].split()


@needs_make
@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("check", "-m pytest -n auto"),
        ("test", "-m pytest -n auto"),
        ("docs", "docs/build.py"),
        ("check-docs", "-m pytest -q tests/test_readme.py tests/test_contributing.py tests/docs"),
        ("notebooks", "docs/renew_notebooks.py"),
        ("bench", "benchmarks/loaders.py"),
    ],
)
def test_a_target_runs_what_it_says(target: str, command: str) -> None:
    assert command in list_commands(target)


def test_a_build_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    script = shutil.copy(ROOT / "scripts" / "dist.sh", tmp_path / "scripts")
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho the cause\necho and more of it >&2\nexit 3\n")
    python.chmod(0o755)
    result = subprocess.run(
        ["bash", script],
        env={**os.environ, "PYTHON": str(python)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr == "the cause\nand more of it\n"
