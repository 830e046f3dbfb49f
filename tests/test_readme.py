"""The README tells the truth: its code runs, its tables name everything there is."""

import inspect
import re
from pathlib import Path

import pytest

from btc_datamodule import FEATURES, BTCDataModule, Simulator

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_examples_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 6
    # A module of its own, guarded as the workers' start method may demand.
    names: dict[str, object] = {"__name__": "example"}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert names["candles"].height == 3984  # type: ignore[attr-defined]


def test_the_table_of_settings_names_every_argument_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \| ", README, re.MULTILINE))
    parameters = dict(inspect.signature(BTCDataModule.__init__).parameters)
    parameters.pop("self")
    assert list(rows) == list(parameters)
    for name, parameter in parameters.items():
        default = parameter.default
        if isinstance(default, bool):
            assert rows[name] == str(default).lower()
        elif isinstance(default, int | float):
            assert rows[name] == str(default)
        elif isinstance(default, str):
            assert rows[name] == f"`{default}`"
        elif isinstance(default, tuple):
            assert rows[name] == f"`{', '.join(default)}`"


def test_the_defaults_that_are_objects_are_those_of_the_table() -> None:
    dm = BTCDataModule()
    assert dm.source == Simulator()
    assert repr(dm.target) == "LogReturn()"
    assert repr(dm.split).startswith("FractionSplit(")


def test_every_feature_is_named() -> None:
    listed = README.split("**Features.**")[1].split("Your own")[0]
    assert re.findall(r"`(\w+)`", listed) == list(FEATURES)


def test_every_command_and_file_that_is_named_exists() -> None:
    for path in re.findall(r"\b(?:configs|tests|benchmarks|docs)/\w+\.\w+", README):
        assert (ROOT / path).is_file(), path
