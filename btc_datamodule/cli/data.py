"""``prepare`` and the other commands that need the datamodule alone, built from the same YAML."""

import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from btc_datamodule.cli.manner import MANNERS
from btc_datamodule.cli.messages import TOP_KEYS, explain_message, suggest_name
from btc_datamodule.cli.parsing import complain, fail, import_classes, restore_nulls, say
from btc_datamodule.disk.atomic import check_output
from btc_datamodule.errors import AuditError, ConfigError, NotPreparedError, StoreError

if TYPE_CHECKING:
    from btc_datamodule.datamodule import BTCDataModule
    from btc_datamodule.scoring.card import ScoreCard

FULL, LIGHT = "btc_datamodule.BTCDataModule", "btc_datamodule.data.Data"
NAMES = (FULL, "btc_datamodule.datamodule.BTCDataModule", "BTCDataModule")
"""How a ``BTCDataModule`` may be named."""

OUTPUTS = {"export": "candles.parquet", "plot": "candles.png", "report": "report.html"}
"""Commands that write a file, and its name where none is given."""

PICTURES = ("timeline", "holes", "folds", "batch", "features", "forecasts")
"""Kinds of ``plot``; the first is what it draws where none is named."""


def run_on_data(command: str, arguments: list[str]) -> None:
    """Run one of ``DATA_COMMANDS``."""
    parser = _make_parser(command, asks_help=bool({"-h", "--help"} & {*arguments}))
    config = parser.parse_args([_lighten_argument(each) for each in arguments])
    if config.data is None:
        fail("there is no datamodule: give --config FILE.yaml with a `data:` in it")
    restore_nulls(config.data)
    if command == "audit" or config.get("audit"):  # which look at what a Trainer is handed
        config.data.class_path = config.data.class_path.replace(LIGHT, FULL)
    DATA_COMMANDS[command](parser.instantiate(config).data, config)


def _make_parser(command: str, *, asks_help: bool) -> Any:
    """The parser of a command, which for its help alone need not know the datamodule."""
    from jsonargparse import ActionConfigFile, ArgumentParser, set_loader  # type: ignore[attr-defined]

    class Parser(ArgumentParser):
        def error(self, message: str, ex: Exception | None = None) -> NoReturn:
            if not self.exit_on_error:  # one of the parsers inside, whose errors are collected
                super().error(message, ex)
            fail(explain_message(message.replace(LIGHT, FULL), list_words(command)))

        def dump(self, *given: Any, **options: Any) -> str:
            return str(super().dump(*given, **options)).replace(LIGHT, FULL)

        def format_help(self, *given: Any, **options: Any) -> str:
            return str(super().format_help(*given, **options)).replace(LIGHT, FULL)

    set_loader("light", _load_light, (yaml.YAMLError,))
    parser = Parser(prog=f"btc-datamodule {command}", allow_abbrev=False, parser_mode="light")
    parser.add_argument("-c", "--config", action=ActionConfigFile, help="YAML file")
    told = "the datamodule, by class path, or a YAML file with that and `init_args`"
    if asks_help:
        told += "; all of its settings: --data.help BTCDataModule"
        parser.add_argument("--data", type=dict | str | None, help=told)
    else:
        from btc_datamodule.data import Data

        import_classes(with_trainer=False)
        parser.add_argument("--data", type=Data | None, sub_configs=True, help=told)
    for key in TOP_KEYS:
        if key != "data":  # a plain dict is neither checked nor instantiated
            kind = Any if key in ("seed_everything", "ckpt_path") else dict | str | None
            parser.add_argument(f"--{key}", type=kind, help="passed over by this command")
    _add_options(parser, command)
    return parser


def list_options(command: str) -> list[str]:
    """The options of one of ``DATA_COMMANDS`` but for the settings of the data."""
    shown = _make_parser(command, asks_help=True).format_help()
    return list(dict.fromkeys(re.findall(r"(?<![\w-])--[a-z]\w*(?:\.\w+)*", shown)))


def list_words(command: str) -> list[str]:
    """All that one of ``DATA_COMMANDS`` may be given, with the settings of the data."""
    from btc_datamodule.data import ARGUMENTS

    return [*MANNERS, *list_options(command), *(f"--data.{name}" for name in ARGUMENTS)]


def _add_options(parser: Any, command: str) -> None:
    """The options that a command has beside the datamodule."""
    if command == "info":
        parser.add_argument("--provenance", type=bool, default=False, help="name every origin")
    if command == "export":
        parser.add_argument(
            "--series", default="", help="name of a covariate; the candles without it"
        )
    if command == "clean":
        parser.add_argument("--yes", action="store_true", help="remove what is of no use")
        parser.add_argument(
            "--all", action="store_true", help="with --yes: every feature file that is not in use"
        )
    if command in ("score", "report"):
        parser.add_argument(
            "--forecasts",
            nargs="+",
            help="files that PredictionWriter wrote: PATH, NAME=PATH, or NAME=PATH@FOLD",
        )
        parser.add_argument("--stage", default="test", help="train, val or test")
        parser.add_argument("--cost", type=float, default=10.0, help="basis points of one side")
        parser.add_argument("--trials", type=int, default=1, help="models and settings tried")
        parser.add_argument("--level", type=float, default=0.95, help="of the intervals")
    if command in ("score", "report", "plot"):
        parser.add_argument(
            "--quantiles", nargs="+", type=float, help="levels that forecasts have a number for"
        )
        parser.add_argument(
            "--draws", type=bool, default=False, help="forecasts are draws of a distribution"
        )
    if command == "score":
        parser.add_argument("--by", default="", help="fold, path, year, volatility or hour")
    if command == "report":
        parser.add_argument(
            "--audit", type=bool, default=False, help="run the audit too, which takes a minute"
        )
    if command == "plot":
        parser.add_argument(
            "--kind",
            choices=PICTURES,
            default=PICTURES[0],
            help="what is drawn",
        )
        parser.add_argument(
            "--forecasts", nargs="+", help="of kind forecasts: as of the command score"
        )
        parser.add_argument("--stage", default="test", help="of forecasts: train, val or test")
    if command == "audit":
        parser.add_argument(
            "--ask_source", type=bool, default=True, help="ask the source for some bars again"
        )
    if command in OUTPUTS:
        parser.add_argument("--output", default=OUTPUTS[command], help="file to write")


def _load_light(text: str) -> Any:
    """A YAML text, in which ``Data`` stands for a ``BTCDataModule``."""
    from jsonargparse import get_loader

    return _lighten(get_loader("yaml")(text))


def _lighten(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lighten(each) for key, each in value.items()}
    return LIGHT if value in NAMES else value


def _lighten_argument(argument: str) -> str:
    option, equals, value = argument.rpartition("=")
    return f"{option}{equals}{LIGHT}" if value in NAMES else argument


def _prepare(data: "BTCDataModule", _: Any) -> None:
    with _end_on_sigterm():
        data.prepare_data()
    try:
        data.setup()  # so that settings that leave nothing to train on are found now
    except ConfigError as error:
        raise ConfigError(f"candles and features are stored, but {error}") from None


@contextmanager
def _end_on_sigterm() -> Iterator[None]:
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
    from btc_datamodule.cli.info import describe, describe_stored

    try:
        data.setup()
    except NotPreparedError:
        say(describe_stored(data, provenance=config.provenance))
        raise
    say(describe(data, provenance=config.provenance))


def _verify(data: "BTCDataModule", _: Any) -> None:
    from btc_datamodule.audit.verify import verify_covariates, verify_series
    from btc_datamodule.preparing import list_paths

    settings = data.settings
    problems = verify_series(data.candle_path) + verify_covariates(settings)
    if not problems:
        settings.read_candle_header()
        for covariate in settings.covariates:
            settings.read_covariate_header(covariate)
    for problem in problems[:-1]:
        complain(problem)
    if problems:
        raise StoreError(problems[-1])
    say(f"{data.candle_path.parent}: nothing is wrong")
    for name, path in list_paths(settings).items():
        if name:
            say(f"{path}, of covariate {name}: nothing is wrong")


def _audit(data: "BTCDataModule", config: Any) -> None:
    found = data.audit(ask_source=config.ask_source)
    say(found)
    if not found.passed:
        raise AuditError(f"{len(found.failed)} guarantees do not hold: {'; '.join(found.failed)}")


def _clean(data: "BTCDataModule", config: Any) -> None:
    from btc_datamodule.cleaning import clean, list_stored, tell_stored

    found = list_stored(data.settings)
    removed = clean(found, every=config.all) if config.yes else []
    say(tell_stored(data.settings.data_dir, found, removed))


def _export(data: "BTCDataModule", config: Any) -> None:
    from btc_datamodule.store.export import export_candles, export_records

    settings, name = data.settings, config.series
    if not name:
        say(export_candles(data.candle_path, settings.recipe.span, config.output))
        return
    covariates = {each.name: each for each in settings.covariates}
    if name not in covariates:
        raise ConfigError(
            f"--series {name}: there is no such covariate"
            f"{suggest_name(name, covariates, 'There are') if covariates else ', and no other'}"
        )
    covariate = covariates[name]
    settings.read_covariate_header(covariate)
    path, (_, end) = covariate.locate(settings.data_dir, data.candle_path), settings.recipe.span
    start = covariate.find_start(settings.start or 0, settings.features, settings.covariates)
    if not covariate.beside.is_candles:
        if covariate.beside.interval is None:  # the newest before the start may be of long ago
            start = 0
        say(export_records(path, (start, end), config.output))
        return
    interval = covariate.beside.interval if covariate.is_joined else None
    say(export_candles(path, (start, end), config.output, interval))


def _score(data: "BTCDataModule", config: Any) -> None:
    if not config.forecasts:
        raise ConfigError(
            "there is nothing to score: give --forecasts FILE.parquet, as PredictionWriter wrote it"
        )
    data.setup()
    card = _make_card(data, config)
    groups = card.tell(config.by) if config.by else ""
    say(card)
    if groups:
        say(f"\n{groups}")


def _make_card(data: "BTCDataModule", config: Any) -> "ScoreCard":
    return data.score(
        config.forecasts,
        config.stage,
        cost=config.cost,
        trials=config.trials,
        level=config.level,
        quantiles=config.quantiles,
        draws=config.draws,
    )


def _plot(data: "BTCDataModule", config: Any) -> None:
    from btc_datamodule.cli.plots import write_picture

    manner = {"quantiles": config.quantiles, "draws": config.draws}
    given = config.forecasts or ()
    say(write_picture(data, config.output, config.kind, given, config.stage, **manner))


def _report(data: "BTCDataModule", config: Any) -> None:
    from btc_datamodule.report.page import write_report

    check_output(config.output, [".html"])  # before what takes long
    data.setup()
    card = _make_card(data, config) if config.forecasts else None
    run = data.audit if config.audit else None
    say(write_report(data.stages, config.output, transform=data.transform, audit=run, card=card))


DATA_COMMANDS: "dict[str, Callable[[BTCDataModule, Any], None]]" = {
    "prepare": _prepare,
    "info": _info,
    "verify": _verify,
    "audit": _audit,
    "score": _score,
    "report": _report,
    "export": _export,
    "plot": _plot,
    "clean": _clean,
}
