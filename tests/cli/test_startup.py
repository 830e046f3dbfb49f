"""What a command imports: what takes seconds only where it is needed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_commands import CONFIGS

CONFIG = ["--config", str(CONFIGS / "dummy.yaml"), "--data.end", "2020-03-01"]
AFTER = """\
import sys
from btc_datamodule.cli import main
try:
    main(sys.argv[1:])
finally:
    print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("startup")


def run(folder: Path, *arguments: str) -> tuple[str, set[str]]:
    """What a command prints, and the packages that it has imported."""
    result = subprocess.run(
        [sys.executable, "-c", AFTER, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return result.stdout, set(result.stderr.splitlines()[-1].split())


def test_commands_without_a_trainer_do_not_import_lightning(folder: Path) -> None:
    _, prepared = run(folder, "prepare", *CONFIG)
    told, informed = run(folder, "info", *CONFIG)
    written, reported = run(folder, "report", *CONFIG, "--output", "report.html")
    assert "rows, 2020-01-01T00:00:00Z to 2020-03-01T00:00:00Z" in told
    assert "report.html" in written
    for packages in (prepared, informed, reported):
        assert "torch" in packages
        assert not {"lightning", "pytorch_lightning", "torchmetrics"} & packages


@pytest.mark.parametrize("command", ["info", "audit"])
def test_the_help_of_a_command_imports_no_torch_either(folder: Path, command: str) -> None:
    told, packages = run(folder, command, "--help")
    assert "--data.help BTCDataModule" in " ".join(told.split())
    assert not {"lightning", "torch", "polars", "h5py"} & packages


def test_a_datamodule_of_ones_own_is_taken_by_a_command_that_needs_no_trainer(folder: Path) -> None:
    (folder / "own.py").write_text(
        "from btc_datamodule import BTCDataModule\n\n\n"
        "class Own(BTCDataModule):\n"
        "    def __init__(self, bars: int = 7, data_dir: str = 'data') -> None:\n"
        "        super().__init__(end='2010-03-01', lookback=bars, data_dir=data_dir)\n"
    )
    told, packages = run(folder, "prepare", "--data", "own.Own", "--print_config")
    assert "class_path: own.Own" in told
    assert "lightning" in packages


def test_the_config_that_is_printed_names_the_public_class(folder: Path) -> None:
    told, _ = run(folder, "verify", *CONFIG, "--print_config")
    assert "class_path: btc_datamodule.BTCDataModule" in told
    assert "btc_datamodule.data" not in told
