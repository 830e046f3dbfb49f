"""Every example, trained and scored on hours of Binance: the table of docs/examples.md.

    python benchmarks/examples.py                     # downloads from Binance's archive, once
    python benchmarks/examples.py --file BTC_USDT-30m.feather
    python benchmarks/examples.py --simulator --only gru quantiles

Each is run by the commands that stand in its file, in processes of their own: fit, where there is
something to train, predict and score. For each the whole score, and its row: minutes of the clock
and of the processors (downloads and the start of three processes included), and the verdict against
the best baseline. torch uses as many threads as OMP_NUM_THREADS says, by default all cores. Needs
``pip install -e ".[examples]"``.
"""

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from timing import machine

ROOT = Path(__file__).parents[1]

QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]


REAL = {"foundation": ["--data.split.test", "2025-08-25"]}
"""What is said beside of real candles: 600 hours of test where each costs a fifth of a second."""


def find_examples() -> list[str]:
    """Those that are run by commands."""
    return sorted(path.stem for path in (ROOT / "examples").glob("*/*.yaml"))


def list_commands(name: str, given: list[str]) -> list[list[str]]:
    """The arguments of the commands that an example names, one after the other.

    Args:
        name: of the example.
        given: where the candles come from.
    """
    text = (ROOT / f"examples/{name}/{name}.py").read_text(encoding="utf-8")
    named = re.findall(r"^btc-datamodule (.+)$", text.replace("\\\n", ""), re.MULTILINE)
    commands = []
    for command, *arguments in map(str.split, named):
        paths = [each.replace("examples/", f"{ROOT}/examples/") for each in arguments]
        data, rest = paths[:2], paths[2:]  # --config and its file
        quiet = [] if command == "score" else QUIET
        real = REAL.get(name, []) if given else []
        commands.append([command, *data, *given, *real, *rest, *quiet])
    return commands


def run(arguments: list[str], folder: Path) -> str:
    """What a command prints, run in a folder."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "btc_datamodule", *arguments]
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


def count_seconds() -> float:
    """Processor seconds of the processes that were run so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Run the examples and print their scores and the table."""
    parser = argparse.ArgumentParser(description="Every example, trained and scored.")
    parser.add_argument("--file", type=Path, help="candles of BTCUSDT; without it a download")
    parser.add_argument("--simulator", action="store_true", help="simulated hours, no real ones")
    parser.add_argument("--only", nargs="+", choices=find_examples(), default=find_examples())
    options = parser.parse_args()
    given = [] if options.simulator else ["--config", str(ROOT / "examples/binance.yaml")]
    if options.file is not None:
        given += ["--data.source", "CandleFile", "--data.source.path", str(options.file.resolve())]
    print(f"{machine()}, {torch.get_num_threads()} threads", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only:
            clock, processors = time.perf_counter(), count_seconds()
            for command in list_commands(name, given):
                told = run(command, Path(folder))
            spent = [(time.perf_counter() - clock) / 60, (count_seconds() - processors) / 60]
            *_, verdict = (line for line in told.splitlines() if "best baseline" in line)
            print(f"\n{told}\n| {name} | {spent[0]:.1f} | {spent[1]:.1f} | {verdict} |", flush=True)


if __name__ == "__main__":
    main()
