"""The command line: ``btc-datamodule`` and ``python -m btc_datamodule``.

``fit``, ``validate``, ``test`` and ``predict`` are LightningCLI's, with any LightningModule and
any BTCDataModule by class path. ``prepare`` and the others after it need the data
alone and take the same YAML; what concerns the trainer or the model in it is passed over.
"""

import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any, NoReturn

from btc_datamodule import __all__ as public_names
from btc_datamodule.errors import (
    AuditError,
    BTCDataError,
    ConfigError,
    NotPreparedError,
    StoreError,
)

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
TOP_KEYS = ("seed_everything", "trainer", "model", "data", "optimizer", "lr_scheduler", "ckpt_path")
OUTPUTS = {"export": "candles.parquet", "plot": "candles.png"}
LINKED = ("n_features", "lookback", "horizon", "target_shape")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; give the exit status.

    0; 1 for an error in the data, 2 for a typing error, 130 if it was interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
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
            known = [*TRAINER_COMMANDS, *commands]
            _fail(f"unknown command {command!r}{_known(command, known)}")
    except KeyboardInterrupt:
        print(
            "btc-datamodule: interrupted: what came is kept, run it again to go on", file=sys.stderr
        )
        return 130
    except Exception as error:
        explained = _explained(error)
        if explained is None:
            raise
        print(f"btc-datamodule: error: {explained}", file=sys.stderr)
        return 1
    return 0


def _run_trainer(arguments: list[str] | None) -> None:
    """A LightningCLI command; ``None`` stands for the arguments of this process."""
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

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
        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            for name in LINKED:  # a model that does not take one of them is not given it
                parser.link_arguments(
                    f"data.{name}", f"model.init_args.{name}", apply_on="instantiate"
                )

    _import_classes()
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
            kind = Any if key in ("seed_everything", "ckpt_path") else dict | None
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
    from btc_datamodule.info import candles, describe

    try:
        data.setup()
    except NotPreparedError:
        print(candles(data, provenance=config.provenance))
        raise
    print(describe(data, provenance=config.provenance))


def _verify(data: "BTCDataModule", _: Any) -> None:
    from btc_datamodule.verify import verify_series

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
    from btc_datamodule.export import export_candles

    print(export_candles(data.candle_path, data.recipe.span, config.output))


def _plot(data: "BTCDataModule", config: Any) -> None:
    from btc_datamodule.plots import plot_candles

    data.setup()
    print(plot_candles(data, config.output))


def _import_classes() -> None:
    """Import what YAML can name, so that short names work and help lists every class."""
    package = import_module("btc_datamodule")
    for name in public_names:
        getattr(package, name)


def _explained(error: Exception) -> str | None:
    """What to say of an error that a user's input has caused; None if it is not of that kind."""
    ours: BaseException | None = error
    while ours is not None and not isinstance(ours, BTCDataError):
        ours = ours.__cause__  # jsonargparse wraps what it meets
    if ours is not None:
        return str(ours)
    if isinstance(error, OSError | UnicodeDecodeError):
        return " ".join(str(error).split())
    if "loading state_dict" in str(error):
        return (
            "the model in the checkpoint has other sizes than this one: were `lookback`, "
            f"`horizon` or `features` others? ({' '.join(str(error).split())})"
        )
    return None


def readable(message: str) -> str:
    """What jsonargparse says of a wrong setting, as one line that lists what would be right."""
    problems = re.findall(r"Problem with given class_path '([^']+)':\s*\n?\s*(.+)", message)
    if problems:
        path, problem = problems[-1]
        if option := re.search(r"Option '([^']+)' is not accepted", problem):
            return f"{_short(path)} has no option {option[1]!r}{_known(option[1], _options(path))}"
        if re.search(r"has no attribute|No module named|not a subclass", problem):
            return f"there is no class {path!r} to use here ({problem})"
    unknown = r"accept option '([^']+)'|^Option '([^']+)' is not accepted|^unrecognized.*: --(\S+)"
    if found := re.search(unknown, message):
        key, _, rest = next(name for name in found.groups() if name).partition(".")
        if key == "trainer" and rest:
            path = "lightning.pytorch.Trainer"
            return f"trainer has no option {rest!r}{_known(rest, _options(path))}"
        return f"there is no key {key!r}{_known(key, TOP_KEYS)}"
    if value := re.search(r'Parser key "([^"]+)":\s+Expected a (.+?)\. Got value: (.+)', message):
        kind = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", value[2])
        choices = re.fullmatch(r"(?:typing\.)?Literal\[(.+)\]", kind)
        due = f"choose one of {choices[1]}" if choices else f"it must be of type {kind}"
        return f"{value[1]} is {value[3]!r}: {due}"
    noise = r"Given value|Subtypes:|Errors:|Does not validate|<class 'NoneType'>|^\s*$"
    lines = [line.strip(" -") for line in message.splitlines() if not re.search(noise, line)]
    return re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", " ".join(lines))


def _options(class_path: str) -> list[str]:
    module, _, name = class_path.rpartition(".")
    parameters = signature(getattr(import_module(module), name)).parameters
    return [option for option in parameters if option not in ("self", "args", "kwargs")]


def _short(class_path: str) -> str:
    return class_path.rpartition(".")[2]


def _known(given: str, known: Iterable[str]) -> str:
    names = list(known)
    close = get_close_matches(given, names, n=1)
    guess = f": did you mean {close[0]!r}?" if close else ";"
    return f"{guess} It has: {', '.join(names)}"


def _fail(message: str) -> NoReturn:
    print(f"btc-datamodule: error: {message}", file=sys.stderr)
    raise SystemExit(2)
