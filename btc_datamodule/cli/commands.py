"""The command line: ``btc-datamodule`` and ``python -m btc_datamodule``.

``fit``, ``validate``, ``test``, ``predict`` and ``folds`` are LightningCLI's, with any
LightningModule and any BTCDataModule by class path. ``prepare`` and the others after it need the
data alone and take the same YAML; what concerns the trainer or the model in it is passed over.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from btc_datamodule.cli.data import DATA_COMMANDS, run_on_data
from btc_datamodule.cli.messages import explain_error, suggest_name
from btc_datamodule.cli.parsing import complain, fail
from btc_datamodule.cli.trainer import TRAINER_COMMANDS, run_trainer
from btc_datamodule.cli.yaml_files import check_files

HELP = """\
usage: btc-datamodule COMMAND --config FILE.yaml [--KEY VALUE ...]

Bitcoin candles as training windows that never show the future.

commands
  fit        train a model: download what is missing, build the features, run the Trainer
  validate   one pass over the validation windows
  test       one pass over the test windows
  predict    the model's predict_step on every bar from the first test bar on
  folds      fit, test and predict every fold of the split, join and score the forecasts
  prepare    only download to HDF5 and build the feature file
  info       what is stored: rows, span, holes, outages, covariates, windows of each stage
  verify     read every byte of what is stored, and name what is wrong
  audit      check on these very candles and settings that nothing of the future leaks
  score      how good --forecasts of PredictionWriter are, beside baselines (extra: score)
  report     one --output FILE.html that shows it all: prices, holes, features, windows, --forecasts
  export     the candles, or --series NAME of a covariate, as --output FILE.parquet or FILE.csv
  plot       a picture: --kind timeline, holes, folds, batch, features, forecasts (extra: plot)

Each value of the YAML can be given on the command line, by its path:
  btc-datamodule fit --config configs/dummy.yaml --trainer.max_epochs 3 --data.lookback 96
  --data.covariates.day Resampled --data.covariates.day.interval 1d --data.features+=day.close

All settings of the data:  btc-datamodule prepare --data.help BTCDataModule
All options of a command:  btc-datamodule fit --help
The YAML a command sees:   btc-datamodule fit --config FILE.yaml --print_config
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; give the exit status.

    0; 1 for an error in the data, 2 for a typing error, 130 if it was interrupted, 143 if a
    SIGTERM ended it.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:
        sys.path.append(str(Path.cwd()))  # for classes of one's own, as with `python -m`
    command = given[0] if given else "--help"
    if command in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if command == "--version":
        from btc_datamodule import __version__

        print(__version__)
        return 0
    try:
        if command in (*TRAINER_COMMANDS, *DATA_COMMANDS):
            check_files(given[1:])
        if command in TRAINER_COMMANDS:
            run_trainer(given if arguments is not None else None)
        elif command in DATA_COMMANDS:
            run_on_data(command, given[1:])
        else:
            names = [*TRAINER_COMMANDS, *DATA_COMMANDS]
            if command.startswith("-"):
                named = next((each for each in given if each in names), "fit")
                fail(f"{command} stands before the command: write btc-datamodule {named} {command}")
            fail(f"unknown command {command!r}{suggest_name(command, names)}")
    except KeyboardInterrupt:
        print(
            "btc-datamodule: interrupted: what came is kept, run it again to go on", file=sys.stderr
        )
        return 130
    except Exception as error:
        told = explain_error(error)
        if told is None:
            raise
        complain(told)
        return 1
    return 0
