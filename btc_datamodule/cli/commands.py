"""The command line: ``btc-datamodule`` and ``python -m btc_datamodule``.

``fit``, ``validate``, ``test`` and ``predict`` are LightningCLI's, with any LightningModule and
any BTCDataModule by class path. ``prepare`` and the others after it need the data
alone and take the same YAML; what concerns the trainer or the model in it is passed over.
"""

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from zipfile import is_zipfile

from btc_datamodule import __all__ as public_names
from btc_datamodule.cli.messages import TOP_KEYS, explained, known, readable
from btc_datamodule.errors import AuditError, ConfigError, NotPreparedError, StoreError

if TYPE_CHECKING:
    from btc_datamodule.datamodule import BTCDataModule

HELP = """\
usage: btc-datamodule COMMAND --config FILE.yaml [--KEY VALUE ...]

Bitcoin candles as training windows that never show the future.

commands
  fit        train a model: download what is missing, build the features, run the Trainer
  validate   one pass over the validation windows
  test       one pass over the test windows
  predict    the model's predict_step on every bar from the first test bar on
  prepare    only download to HDF5 and build the feature file
  info       what is stored: rows, span, holes, outages, windows of each stage, split dates
  verify     read every byte of what is stored, and name what is wrong
  audit      check on these very candles and settings that nothing of the future leaks
  export     the candles as --output FILE.parquet or FILE.csv
  plot       the closes with the stages and the outages, as a picture (extra: plot)

Each value of the YAML can be given on the command line, by its path:
  btc-datamodule fit --config configs/dummy.yaml --trainer.max_epochs 3 --data.lookback 96

All settings of the data:  btc-datamodule prepare --data.help BTCDataModule
All options of a command:  btc-datamodule fit --help
The YAML a command sees:   btc-datamodule fit --config FILE.yaml --print_config
"""

TRAINER_COMMANDS = ("fit", "validate", "test", "predict")
OUTPUTS = {"export": "candles.parquet", "plot": "candles.png"}
LINKED = ("n_features", "lookback", "horizon", "target_shape")


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
    commands: dict[str, Callable[[BTCDataModule, Any], None]] = {
        "prepare": _prepare,
        "info": _info,
        "verify": _verify,
        "audit": _audit,
        "export": _export,
        "plot": _plot,
    }
    try:
        if command in TRAINER_COMMANDS:
            _run_trainer(given if arguments is not None else None)
        elif command in commands:
            _run_on_data(command, given[1:], commands[command])
        else:
            _fail(f"unknown command {command!r}{known(command, [*TRAINER_COMMANDS, *commands])}")
    except KeyboardInterrupt:
        print(
            "btc-datamodule: interrupted: what came is kept, run it again to go on", file=sys.stderr
        )
        return 130
    except Exception as error:
        told = explained(error)
        if told is None:
            raise
        print(f"btc-datamodule: error: {told}", file=sys.stderr)
        return 1
    return 0


def _run_trainer(arguments: list[str] | None) -> None:
    """A LightningCLI command; ``None`` stands for the arguments of this process."""
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
    from lightning.pytorch.utilities import rank_zero_info
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    from btc_datamodule.datamodule import BTCDataModule

    class Parser(LightningArgumentParser):
        def error(self, message: str, ex: Exception | None = None) -> NoReturn:
            if not self.exit_on_error:  # one of the parsers inside, whose errors are collected
                super().error(message, ex)
            _fail(readable(message))

    class SaveConfig(SaveConfigCallback):
        def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
            if trainer.logger is not None:  # without one it would land in the current folder
                super().setup(trainer, pl_module, stage)

    class CLI(LightningCLI):
        def _parse_ckpt_path(self) -> None:
            config = self.config[self.config.subcommand]
            if config.ckpt_path is None and self.config.subcommand != "fit":
                rank_zero_info("no --ckpt_path: the model is as its class makes it, not trained")
            if config.ckpt_path in ("", "best"):  # an unset variable; what only its Trainer knows
                raise ConfigError(f"--ckpt_path is {config.ckpt_path!r}: give the path of a file")
            if not Path(config.ckpt_path or "").is_file():
                return  # "last", which the Trainer finds
            kept = read_arguments(config.ckpt_path, self.config.subcommand == "fit")
            class_path = kept.pop("_class_path", config.model.class_path)
            model = {"class_path": class_path, "dict_kwargs": kept}
            self.config = self.parser.parse_object(
                {self.config.subcommand: {"model": model}}, self.config
            )

        def instantiate_trainer(self, **arguments: Any) -> Trainer:
            try:
                return super().instantiate_trainer(**arguments)
            except ValueError as error:
                raise ConfigError(f"trainer: {' '.join(str(error).split())}") from error

        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            for name in LINKED:  # a model that does not take one of them is not given it
                parser.link_arguments(
                    f"data.{name}", f"model.init_args.{name}", apply_on="instantiate"
                )

    _import_classes()
    try:
        CLI(
            LightningModule,
            BTCDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=SaveConfig,
            save_config_kwargs={"overwrite": True},
            parser_class=Parser,
            parser_kwargs={"prog": "btc-datamodule", "allow_abbrev": False},
            args=arguments,
        )
    except SIGTERMException:
        print("btc-datamodule: ended by a SIGTERM", file=sys.stderr)
        raise SystemExit(143) from None


def read_arguments(path: str, resumes: bool) -> dict[str, Any]:
    """The arguments of the model that a checkpoint holds, but for those that come from the data.

    Its class is among them as ``_class_path`` if a command has made the checkpoint.

    Args:
        path: of the checkpoint.
        resumes: whether training is to go on from it.

    Raises:
        ConfigError: if it is no checkpoint, or has too little in it.
    """
    import torch

    checkpoint: Any = None
    if is_zipfile(path):  # as torch writes them
        try:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:  # damaged bytes give any
            said = str(error).strip().partition("\n")[0]
            raise ConfigError(f"the checkpoint {path} cannot be read: {said}") from error
    if not isinstance(checkpoint, dict) or "pytorch-lightning_version" not in checkpoint:
        raise ConfigError(f"{path} is not a checkpoint of a Trainer")
    if resumes and "optimizer_states" not in checkpoint:
        raise ConfigError(
            f"{path} has the weights alone: training cannot go on from it. Keep checkpoints with "
            "`save_weights_only: false`"
        )
    arguments = checkpoint.get("hyper_parameters", {})
    return {key: arguments[key] for key in arguments if key not in ("_instantiator", *LINKED)}


def _run_on_data(
    command: str, arguments: list[str], run: "Callable[[BTCDataModule, Any], None]"
) -> None:
    """A command that needs the datamodule alone, built from the same YAML."""
    from jsonargparse import ActionConfigFile, ArgumentParser  # type: ignore[attr-defined]

    from btc_datamodule.datamodule import BTCDataModule

    class Parser(ArgumentParser):
        def error(self, message: str, ex: Exception | None = None) -> NoReturn:
            if not self.exit_on_error:  # one of the parsers inside, whose errors are collected
                super().error(message, ex)
            _fail(readable(message))

    _import_classes()
    parser = Parser(prog=f"btc-datamodule {command}", allow_abbrev=False)
    parser.add_argument("-c", "--config", action=ActionConfigFile, help="YAML file")
    parser.add_argument("--data", type=BTCDataModule | None, help="the datamodule, by class path")
    for key in TOP_KEYS:
        if key != "data":  # a plain dict is neither checked nor instantiated
            kind = Any if key in ("seed_everything", "ckpt_path") else dict | str | None
            parser.add_argument(f"--{key}", type=kind, help="passed over by this command")
    if command == "info":
        parser.add_argument("--provenance", type=bool, default=False, help="name every origin")
    if command in OUTPUTS:
        parser.add_argument("--output", default=OUTPUTS[command], help="file to write")
    config = parser.parse_args(arguments)
    if config.data is None:
        _fail("there is no datamodule: give --config FILE.yaml with a `data:` in it")
    run(parser.instantiate_classes(config).data, config)


def _prepare(data: "BTCDataModule", _: Any) -> None:
    with _terminable():
        data.prepare_data()
    try:
        data.setup()  # so that settings that leave nothing to train on are found now
    except ConfigError as error:
        raise ConfigError(f"candles and features are stored, but {error}") from None


@contextmanager
def _terminable() -> Iterator[None]:
    """Take SIGTERM as Ctrl-C: what has come is written before the process ends."""

    def stop(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _info(data: "BTCDataModule", config: Any) -> None:
    from btc_datamodule.cli.info import candles, describe

    try:
        data.setup()
    except NotPreparedError:
        print(candles(data, provenance=config.provenance))
        raise
    print(describe(data, provenance=config.provenance))


def _verify(data: "BTCDataModule", _: Any) -> None:
    from btc_datamodule.audit.verify import verify_series

    problems = verify_series(data.candle_path)
    if not problems:
        data.candle_header()
    for problem in problems[:-1]:
        print(f"btc-datamodule: error: {problem}", file=sys.stderr)
    if problems:
        raise StoreError(problems[-1])
    print(f"{data.candle_path.parent}: nothing is wrong")


def _audit(data: "BTCDataModule", _: Any) -> None:
    found = data.audit()
    print(found)
    if not found.passed:
        raise AuditError(f"{len(found.failed)} guarantees do not hold: {'; '.join(found.failed)}")


def _export(data: "BTCDataModule", config: Any) -> None:
    from btc_datamodule.store.export import export_candles

    print(export_candles(data.candle_path, data.recipe.span, config.output))


def _plot(data: "BTCDataModule", config: Any) -> None:
    from btc_datamodule.cli.plots import plot_candles

    data.setup()
    print(plot_candles(data, config.output))


def _import_classes() -> None:
    """Import what YAML can name, so that short names work and help lists every class."""
    package = import_module("btc_datamodule")
    for name in public_names:
        getattr(package, name)


def _fail(message: str) -> NoReturn:
    print(f"btc-datamodule: error: {message}", file=sys.stderr)
    raise SystemExit(2)
