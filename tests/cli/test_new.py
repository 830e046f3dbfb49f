"""``new``, ``completion``, ``--quiet`` and ``--verbose``, and the hint of what comes next."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from btc_datamodule.cli.commands import COMMANDS, main
from tests.cli.test_commands import error_of

TINY = ["--trainer.max_epochs", "1", "--data.end", "2020-03-01"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("new") / "deep" / "my_project"
    assert main(["new", str(folder)]) == 0
    return folder


def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "btc_datamodule", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )


def test_a_new_project_fits_predicts_and_scores_and_quiet_leaves_the_answer(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("scipy")
    config = ["--config", "config.yaml", *TINY]
    fitted = run(project, "fit", *config, "--quiet")
    assert (fitted.stdout, fitted.stderr) == ("", "")
    checkpoint = ["--ckpt_path", "checkpoints/model.ckpt", "--return_predictions=false"]
    predicted = run(project, "predict", *config, *checkpoint)
    assert "LeafSpec" not in predicted.stderr
    monkeypatch.chdir(project)
    capsys.readouterr()
    score = ["score", *config[:2], *TINY[2:], "--quiet", "--forecasts", "forecasts.parquet"]
    assert main(score) == 0
    scored = capsys.readouterr()
    assert scored.err == ""
    assert "forecasts" in scored.out
    assert "mean" in scored.out


def test_a_new_project_ignores_what_it_makes_and_says_how_to_go_on(project: Path) -> None:
    assert {path.name for path in project.iterdir()} >= {
        *("config.yaml", "forecaster.py", "README.md", ".gitignore")
    }
    commands = re.findall(r"^btc-datamodule (\w+)", (project / "README.md").read_text(), re.M)
    assert commands == ["prepare", "info", "fit", "test", "predict", "score"]
    assert set(commands) < set(COMMANDS)


@pytest.mark.parametrize("command", ["new", "completion"])
def test_a_command_without_options_has_a_help(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert not ended.value.code
    assert capsys.readouterr().out.startswith(f"usage: btc-datamodule {command} ")


def test_a_project_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    told = error_of(capsys, 2, ["new", str(tmp_path / "mine")])
    assert told == (
        f"{tmp_path / 'mine'} is there already, and nothing is overwritten: give another name"
    )
    assert not list((tmp_path / "mine").iterdir())
    assert "btc-datamodule new my_project" in error_of(capsys, 2, ["new"])


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        (["inf"], ["info"]),
        (["info", "--prov"], ["--provenance"]),
        (["plot", "--data.lookb"], ["--data.lookback"]),
        (["fit", "--trainer.max_ep"], ["--trainer.max_epochs"]),
        (["completion", "z"], ["zsh"]),
        (["new", "--q"], ["--quiet"]),
    ],
)
def test_a_shell_completes_commands_and_options(
    script: str, typed: list[str], completed: list[str]
) -> None:
    words = " ".join(["btc-datamodule", *typed])
    asked = f"COMP_WORDS=({words}); COMP_CWORD={len(typed)}; _btc_datamodule"
    result = subprocess.run(
        ["bash", "-c", f'{script}\n{asked}; echo "${{COMPREPLY[@]}}"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == completed


@pytest.fixture(scope="module")
def script() -> str:
    from btc_datamodule.cli.completion import write_completion

    return write_completion(["bash"], COMMANDS)


def test_a_shell_that_is_not_known_is_told_the_ones_that_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "bash, zsh" in error_of(capsys, 2, ["completion", "tcsh"])


def test_verbose_shows_what_is_read_and_where_an_error_comes_from(project: Path) -> None:
    command = [sys.executable, "-m", "btc_datamodule", "--verbose", "verify", "-c", "config.yaml"]
    result = subprocess.run(
        [*command, "--data.data_dir", "nowhere"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = result.stderr.splitlines()
    assert result.returncode == 1
    assert lines[0] == "reads: config.yaml"
    assert "Traceback (most recent call last):" in lines
    assert lines[-1].startswith("btc-datamodule: error: ")


def test_verbose_shows_which_columns_of_a_file_were_taken_and_info_how_few_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"{1_577_836_800 + 3600 * hour};1;2;1;2" for hour in range(2400) if hour // 60 != 17]
    Path("mine.csv").write_text("\n".join(["Date;Opening;High;Low;Last", *rows]))
    where = ["--data.source", "CandleFile", "--data.source.path", "mine.csv"]
    assert main(["prepare", *where, "--data.features", "[log_return]", "--verbose"]) == 0
    assert (
        "reads: mine.csv: 2,340 rows, parted by ';'; open_time from Date, open from Opening, high "
        "from High, low from Low, close from Last; times that name no zone are in UTC\n"
    ) in capsys.readouterr().err
    assert main(["info", *where, "--data.features", "[log_return]"]) == 0
    assert (
        "suspicious 1 stretch, 60 bars absent though the bars around are there: outages, or rows "
        "that the file lacks\n"
    ) in capsys.readouterr().out


def test_a_person_at_a_terminal_is_told_the_next_command_without_colours(project: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "btc_datamodule", "prepare", "-c", "config.yaml", *TINY]
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        process = subprocess.Popen(command, cwd=project, stdout=theirs, stderr=theirs)
        os.close(theirs)
        said = b""
        try:
            while piece := terminal.read(4096):
                said += piece
        except OSError:  # so Linux says that the other side has closed it
            pass
        assert process.wait() == 0
    assert b"next: btc-datamodule info --config config.yaml" in said.splitlines()[-1]
    assert not re.search(rb"\x1b\[[\d;]*m", said)


def test_a_script_is_not_told_what_comes_next(project: Path) -> None:
    result = run(project, "prepare", "-c", "config.yaml", *TINY)
    assert "candles:" in result.stderr
    assert "next:" not in result.stdout + result.stderr


@pytest.mark.parametrize("buffered", [True, False])
def test_an_answer_that_nobody_reads_ends_without_a_word(buffered: bool) -> None:
    read, write = os.pipe()
    os.close(read)
    environment = {**os.environ, "PYTHONUNBUFFERED": "" if buffered else "1"}
    told_by_argparse = [["info", "--help"]] if buffered else []  # which passes over the error
    for arguments in (["--help"], *told_by_argparse):
        result = subprocess.run(
            [sys.executable, "-m", "btc_datamodule", *arguments],
            env=environment,
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert (result.returncode, result.stderr) == (141, "")
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "btc_datamodule", "--help"],
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    told = "btc-datamodule: error: [Errno 28] No space left on device\n"
    assert (result.returncode, result.stderr) == (1, told)


def test_a_shell_or_a_folder_that_is_none_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert "'bsh': did you mean 'bash'?" in error_of(capsys, 2, ["completion", "bsh"])
    assert "folder is empty" in error_of(capsys, 2, ["new", ""])
