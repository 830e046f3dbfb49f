"""The command line: ``btc-datamodule`` and ``python -m btc_datamodule``.

``fit``, ``validate``, ``test``, ``predict``, ``folds`` and ``follow`` are LightningCLI's, with any
LightningModule and any BTCDataModule by class path. ``prepare`` and the others after it need the
data alone and take the same YAML; what concerns the trainer or the model in it is passed over.
"""

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from btc_datamodule.cli.completion import write_completion
from btc_datamodule.cli.data import DATA_COMMANDS, run_on_data
from btc_datamodule.cli.manner import Manner, hint_next, hold_manner, take_manner
from btc_datamodule.cli.messages import explain_error, suggest_name
from btc_datamodule.cli.new import write_project
from btc_datamodule.cli.parsing import complain, drop_answer, fail, is_unread, say
from btc_datamodule.cli.trainer import TRAINER_COMMANDS, run_trainer
from btc_datamodule.cli.yaml_files import check_files

USAGES = {"new": "FOLDER", "completion": "bash|zsh"}
"""Commands without options, and what each is given."""

COMMANDS = (*TRAINER_COMMANDS, *DATA_COMMANDS, *USAGES)

HELP = """\
usage: btc-datamodule COMMAND --config FILE.yaml [--KEY VALUE ...]

Bitcoin candles as training windows that never show the future.

commands
  new        a small project to begin with, that runs as it is: new my_project
  fit        train a model: download what is missing, build the features, run the Trainer
  validate   one pass over the validation windows
  test       one pass over the test windows
  predict    the model's predict_step on every bar from the first test bar on
  folds      fit, test and predict every fold of the split, join and score the forecasts
  follow     from a checkpoint: a forecast of each bar when it has closed, added to --output
  prepare    only download to HDF5 and build the feature file
  info       what is stored: rows, span, holes, outages, covariates, windows of each stage
  verify     read every byte of what is stored, and name what is wrong
  audit      check on these very candles and settings that nothing of the future leaks
  score      how good --forecasts of PredictionWriter are, beside baselines (extra: score)
  report     one --output FILE.html that shows it all: prices, holes, features, windows, --forecasts
  export     the candles, or --series NAME of a covariate, as --output FILE.parquet or FILE.csv
  plot       a picture: --kind timeline, holes, folds, batch, features, forecasts (extra: plot)
  clean      what is stored; --yes removes what is of no use, --all feature files of all settings
  completion a script for a shell to complete all this: completion bash, or zsh

Each value of the YAML can be given on the command line, by its path:
  btc-datamodule fit --config configs/dummy.yaml --trainer.max_epochs 3 --data.lookback 96
  --data.covariates.day Resampled --data.covariates.day.interval 1d --data.features+=day.close

--quiet: errors and the answer alone.  --verbose: what is read and asked, and tracebacks.

All options:  fit --help; of the data: prepare --data.help BTCDataModule; as YAML: --print_config
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; give the exit status.

    0; 1 for an error in the data, 2 for a typing error, 130 if it was interrupted, 141 if nobody
    reads the answer any more, 143 if a SIGTERM ended it.
    """
    manner, given = take_manner(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:
        sys.argv[1:] = given
        sys.path.append(str(Path.cwd()))  # for classes of one's own, as with `python -m`
    command = given[0] if given else "--help"
    with hold_manner(manner):
        return _answer(command, given, None if arguments is None else given, manner)


def _answer(command: str, given: list[str], typed: list[str] | None, manner: Manner) -> int:
    """Run a command, and say in one line what went wrong; ``typed`` as of ``_run``."""
    try:
        try:
            _run(command, given, typed, manner)
        finally:
            sys.stdout.flush()  # an answer that finds no room, or no reader, is told of here
    except KeyboardInterrupt:
        print(
            "btc-datamodule: interrupted: what came is kept, run it again to go on", file=sys.stderr
        )
        return 130
    except Exception as error:
        unread = isinstance(error, BrokenPipeError) and is_unread()
        drop_answer()
        if unread:
            return 141  # as of a SIGPIPE, of which shells say nothing: `... | head -1`
        told = explain_error(error)
        if told is None:
            raise
        if manner is Manner.VERBOSE:
            traceback.print_exc()
        complain(told)
        return 1
    if manner is not Manner.QUIET:
        hint_next(command, given[1:])
    return 0


def _run(command: str, given: list[str], typed: list[str] | None, manner: Manner) -> None:
    """Run a command; ``typed`` is None where the arguments are those of this process."""
    if command in (*TRAINER_COMMANDS, *DATA_COMMANDS):
        check_files(given[1:])
    if command in ("-h", "--help", "help"):
        print(HELP, end="")
    elif command == "--version":
        from btc_datamodule import __version__

        print(__version__)
    elif command in TRAINER_COMMANDS:
        run_trainer(typed, quiet=manner is Manner.QUIET)
    elif command in DATA_COMMANDS:
        run_on_data(command, given[1:])
    elif command in USAGES and given[1:2] in (["-h"], ["--help"]):
        print(f"usage: btc-datamodule {command} {USAGES[command]}")
        sys.exit()
    elif command == "new":
        say(write_project(given[1:]))
    elif command == "completion":
        print(write_completion(given[1:], COMMANDS), end="")
    else:
        if command.startswith("-"):
            named = next((each for each in given if each in COMMANDS), "fit")
            fail(f"{command} stands before the command: write btc-datamodule {named} {command}")
        fail(f"unknown command {command!r}{suggest_name(command, COMMANDS)}")
