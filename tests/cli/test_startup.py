"""What a command imports: what takes seconds only where it is needed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_commands import CONFIGS

CONFIG = ["--config", str(CONFIGS / "dummy.yaml"), "--data.end", "2020-03-01"]
AFTER = """\
import json, sys
from contextlib import suppress
from btc_datamodule.cli import main
for command in json.loads(sys.argv[1]):
    with suppress(SystemExit):
        main(command)
print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("startup")


def run(folder: Path, *commands: list[str]) -> tuple[str, set[str]]:
    """What commands print in one process, and the packages that it has imported then."""
    result = subprocess.run(
        [sys.executable, "-c", AFTER, json.dumps(commands)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return result.stdout, set(result.stderr.splitlines()[-1].split())


def test_commands_without_a_trainer_do_not_import_lightning(folder: Path) -> None:
    commands = (["prepare"], ["info"], ["report", "--output", "report.html"])
    told, packages = run(
        folder,
        *([*command, *CONFIG] for command in commands),
        ["verify", *CONFIG, "--print_config"],
    )
    assert "rows, 2020-01-01T00:00:00Z to 2020-03-01T00:00:00Z" in told
    assert "report.html" in told
    assert "torch" in packages
    assert not {"lightning", "pytorch_lightning", "torchmetrics"} & packages
    _, _, config = told.partition("report.html")
    assert "class_path: btc_datamodule.BTCDataModule" in config, "the public class"
    assert "btc_datamodule.data" not in config


@pytest.mark.parametrize("command", ["info", "audit"])
def test_the_help_of_a_command_imports_no_torch_either(folder: Path, command: str) -> None:
    told, packages = run(folder, [command, "--help"])
    assert "--data.help BTCDataModule" in " ".join(told.split())
    assert not {"lightning", "torch", "polars", "h5py"} & packages


def test_a_datamodule_of_ones_own_is_taken_by_a_command_that_needs_no_trainer(folder: Path) -> None:
    (folder / "own.py").write_text(
        "from btc_datamodule import BTCDataModule\n\n\n"
        "class Own(BTCDataModule):\n"
        "    def __init__(self, bars: int = 7, data_dir: str = 'data') -> None:\n"
        "        super().__init__(end='2010-03-01', lookback=bars, data_dir=data_dir)\n"
    )
    told, packages = run(folder, ["prepare", "--data", "own.Own", "--print_config"])
    assert "class_path: own.Own" in told
    assert "lightning" in packages
