"""Each example runs for a few batches, from fit to score, by the commands that it names."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from btc_datamodule.cli.commands import main

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples"
LONGEST = 150
"""Lines of an example."""

NAMES = sorted(path.stem for path in FOLDER.glob("*/*.yaml"))
NEEDED = {"hf_patchtst": "transformers", "foundation": "fracast"}
FEW = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=3", "--trainer.limit_val_batches=2")
SHORT = ("--data.start=2021-03-01", "--data.batch_size=64")
"""Half a year is enough, and so are some hundred forecasts."""


QUIET = ("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false")


def list_commands(name: str) -> list[list[str]]:
    """The arguments of the commands that an example names, one after the other."""
    text = (FOLDER / name / f"{name}.py").read_text(encoding="utf-8").replace("\\\n", "")
    text = text.replace("examples/", f"{FOLDER}/")
    return [line.split()[1:] for line in text.splitlines() if line.startswith("btc-datamodule ")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all examples run, so that they share the candles."""
    return tmp_path_factory.mktemp("examples")


@pytest.mark.parametrize("name", NAMES)
def test_an_example_runs_from_fit_to_score(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if name in NEEDED:
        pytest.importorskip(NEEDED[name], reason=f"{NEEDED[name]} is in the extra examples")
    pytest.importorskip("scipy", reason="scipy is in the extra score")
    monkeypatch.chdir(folder)
    # A foundation model takes a fifth of a second for each forecast.
    sizes = (*SHORT[:1], "--data.batch_size=16") if name == "foundation" else SHORT
    batches = 1 if name == "foundation" else 5
    few = {
        "fit": (*FEW, *QUIET),
        "predict": (f"--trainer.limit_predict_batches={batches}", *QUIET),
        "score": (),
    }
    commands = list_commands(name)
    assert [command[0] for command in commands][-2:] == ["predict", "score"]
    for command in commands:
        capsys.readouterr()
        assert main([*command, *few[command[0]], *sizes]) == 0
    told = capsys.readouterr().out
    assert re.search(r"^(forecasts|foundation) +[\d.-]", told, re.MULTILINE), "its measures"
    assert re.search(r"^(forecasts|foundation) .+ the best baseline: ", told, re.MULTILINE), (
        "and a verdict"
    )
    assert ("pinball" in told) == (name in ("quantiles", "foundation"))
    if name == "triple_barrier":
        assert "balanced_accuracy" in told


def test_every_example_is_tried_here_and_named_by_the_page() -> None:
    page = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
    found = {path.parent.name for path in FOLDER.glob("*/*.py")}
    assert found == {*NAMES, "search", "honest_rerun"}
    for name in found:
        assert f"**`{name}`**" in page, "says what it shows"
    for name in NAMES:
        assert f"| `{name}` | " in page, "and has a row"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*/*.py")), ids=lambda path: path.stem)
def test_an_example_is_read_at_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.stress
def test_one_is_fitted_by_two_processes_of_torchrun(folder: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "-m", "btc_datamodule"]
    (fit, *_) = list_commands("gru")
    ranks = ("--trainer.devices=2", "--trainer.strategy=ddp", "--data.batch_size=32")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [*command, *fit, *FEW, SHORT[0], *ranks],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "`max_epochs=1` reached" in done.stdout + done.stderr
    assert "GLOBAL_RANK: 1, MEMBER: 2/2" in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["gru", "triple_barrier"])
def test_the_overlay_of_real_hours_takes_the_place_of_the_simulator(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (fit, *_) = list_commands(name)
    with pytest.raises(SystemExit, match="0"):
        main([*fit, "--config", str(FOLDER / "binance.yaml"), "--print_config"])
    printed = capsys.readouterr().out
    assert "class_path: btc_datamodule.BinanceArchive" in printed
    assert "product: BTCUSDT" in printed
    assert "no_trade" not in printed, "nothing of the simulator is left"
    assert "test: '2025-01-01'" in printed
