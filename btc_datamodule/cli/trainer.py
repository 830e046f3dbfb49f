"""``fit``, ``test``, ``folds``, ``follow``: LightningCLI, with checkpoints that know more.

What a checkpoint says of its model goes before what the config says, so that ``--ckpt_path`` is
all it takes.
"""

import re
import sys
from argparse import Namespace
from inspect import signature
from pathlib import Path
from typing import Any, NoReturn
from zipfile import is_zipfile

from btc_datamodule.cli.manner import MANNERS
from btc_datamodule.cli.messages import TOP_KEYS, explain_message, import_object
from btc_datamodule.cli.parsing import fail, import_classes, restore_nulls
from btc_datamodule.errors import ConfigError

TRAINER_COMMANDS = ("fit", "validate", "test", "predict", "folds", "follow")
LINKED = ("n_features", "lookback", "horizon", "target_shape")
"""What a model is told of the data, if its ``__init__`` takes it; and ``n_classes``, if it has any.
"""

NO_OPTIONS = ("self", "model", "datamodule", "train_dataloaders", "val_dataloaders", "dataloaders")
"""Arguments of the Trainer's methods that a command does not take."""

FOUND_BY_TRAINER = ("last", "hpc")
"""Values of ``--ckpt_path`` that are no path."""


def run_trainer(arguments: list[str] | None, *, quiet: bool = False) -> None:
    """A LightningCLI command.

    Args:
        arguments: as typed; None for those of this process.
        quiet: without a progress bar or a summary of the model.
    """
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
    from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    from btc_datamodule.datamodule import BTCDataModule

    class Parser(LightningArgumentParser):
        def error(self, message: str, ex: Exception | None = None) -> NoReturn:
            if not self.exit_on_error:  # one of the parsers inside, whose errors are collected
                super().error(message, ex)
            told = explain_message(message, list_trainer_words(command, trainer_class))
            if runs_folds and re.match(r"there is no (key '|option --)ckpt_path", told):
                told = (
                    "folds takes no ckpt_path: each fold begins with a new model, and finished "
                    "folds are kept in --out; leave it out"
                )
            fail(told)

    class SaveConfig(SaveConfigCallback):
        def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
            if trainer.logger is not None:  # without one it would land in the current folder
                super().setup(trainer, pl_module, stage)

    trainer_class: type[Trainer] = Trainer
    command = (sys.argv[1:] if arguments is None else arguments)[0]
    runs_folds, follows = command == "folds", command == "follow"
    if runs_folds:
        from btc_datamodule.cli.folds import FoldTrainer, run_from_config

        trainer_class = FoldTrainer
    elif follows:
        from btc_datamodule.cli.follow import FollowTrainer, follow_from_config

        trainer_class = FollowTrainer

    class CLI(LightningCLI):
        @staticmethod
        def subcommands() -> dict[str, set[str]]:
            """The one that was typed: a parser of each of the others takes as long to make."""
            return {command: LightningCLI.subcommands().get(command, {"model", "datamodule"})}

        def folds(self, model: LightningModule, datamodule: BTCDataModule, **options: Any) -> None:
            run_from_config(self, datamodule, options)

        def follow(self, model: LightningModule, datamodule: BTCDataModule, **options: Any) -> None:
            follow_from_config(self.trainer, model, datamodule, options)

        def _parse_ckpt_path(self) -> None:
            if runs_folds:
                return
            config = self.config[self.config.subcommand]
            if config.ckpt_path is None and self.config.subcommand not in ("fit", "follow"):
                rank_zero_info("no --ckpt_path: the model is as its class makes it, not trained")
            if config.ckpt_path in ("", "best"):  # an unset variable; what only its Trainer knows
                raise ConfigError(f"--ckpt_path is {config.ckpt_path!r}: give the path of a file")
            path = config.ckpt_path or "last"
            known = path in FOUND_BY_TRAINER or "://" in path or Path(path).exists()
            if not known:
                raise ConfigError(
                    f"--ckpt_path: there is no file {path}. A fit keeps its checkpoints under "
                    "lightning_logs/version_N/checkpoints unless it is told otherwise"
                )
            if not Path(path).is_file():
                return  # which the Trainer finds, or a folder of parts
            kept = read_arguments(path, self.config.subcommand == "fit")
            class_path = kept.pop("_class_path", config.model.class_path)
            check_class(path, class_path, config.model.class_path)
            if "n_classes" not in signature(import_object(class_path)).parameters:
                kept.pop("n_classes", None)  # a link is kept as if the model took it
            for line in list_overruled(kept, config.model):
                rank_zero_warn(f"{path} goes before what the model is given: {line}")
            model = {"class_path": class_path, "dict_kwargs": kept}
            self.config = self.parser.parse_object(
                {self.config.subcommand: {"model": model}}, self.config
            )

        def instantiate_trainer(self, **arguments: Any) -> Trainer:
            try:
                if quiet or follows:
                    arguments |= {"enable_progress_bar": False, "enable_model_summary": False}
                if follows and self.config[command].trainer.logger is None:
                    arguments |= {"logger": False}
                return super().instantiate_trainer(**arguments)
            except (TypeError, ValueError) as error:
                raise ConfigError(f"trainer: {' '.join(str(error).split())}") from error

        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            for name in LINKED:  # a model that does not take one of them is not given it
                parser.link_arguments(
                    f"data.{name}", f"model.init_args.{name}", apply_on="instantiate"
                )
            parser.link_arguments(
                "data.n_classes",
                "model.init_args.n_classes",
                self._choose_classes,
                apply_on="instantiate",
            )

        def before_instantiate_classes(self) -> None:
            restore_nulls(self.config[self.config.subcommand].data)

        def _choose_classes(self, found: int | None) -> int | None:
            """The classes of the target; where it has none, what the model was given."""
            given = self.config[self.config.subcommand].model.get("init_args") or {}
            return given.get("n_classes") if found is None else found

    import_classes(with_trainer=True)
    try:
        CLI(
            LightningModule,
            BTCDataModule,
            trainer_class=trainer_class,
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


def list_trainer_words(command: str, trainer_class: type) -> list[str]:
    """All that one of ``TRAINER_COMMANDS`` may be given, but for the settings of a model.

    Args:
        command: its name.
        trainer_class: with a method of that name, whose arguments are options.
    """
    from btc_datamodule.data import ARGUMENTS

    method = [*signature(getattr(trainer_class, command)).parameters]
    own = [f"--{name}" for name in method if name not in NO_OPTIONS]
    settings = [f"--trainer.{name}" for name in [*signature(trainer_class).parameters]]
    settings += [f"--data.{name}" for name in ARGUMENTS]
    keys = [f"--{key}" for key in TOP_KEYS if f"--{key}" not in own]
    return ["--config", *keys, *own, *MANNERS, "--help", "--print_config", *settings]


def check_class(path: str, kept: str, given: str) -> None:
    """Raise ``ConfigError`` unless a checkpoint holds a model of the class that is given.

    Args:
        path: of the checkpoint.
        kept: the class path that it holds.
        given: that of the config; the same class may have several.
    """
    try:
        if kept == given or import_object(kept) is import_object(given):
            return
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{path} holds a {kept}, which is not to be found: {error}") from None
    raise ConfigError(
        f"{path} holds a {kept}, and --model is {given}: give --model {kept}, or the checkpoint of "
        f"a {given.rpartition('.')[2]}"
    )


def list_overruled(kept: dict[str, Any], model: Any) -> list[str]:
    """What of the arguments that a model is given differs from what its checkpoint was made with.

    Args:
        kept: the arguments in the checkpoint.
        model: those of the config, with its class path; one that is the default is not meant.
    """
    given = {**(model.get("dict_kwargs") or {}), **vars(model.get("init_args") or Namespace())}
    defaults = signature(import_object(model.class_path)).parameters
    return [
        f"{name} is {kept[name]!r}, not {value!r}"
        for name, value in given.items()
        if name in kept
        and kept[name] != value
        and (name not in defaults or defaults[name].default != value)
    ]


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
