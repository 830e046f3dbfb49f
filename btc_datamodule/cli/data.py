"""``prepare`` and the other commands that need the datamodule alone, built from the same YAML."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from btc_datamodule.cli.messages import TOP_KEYS, explain_message
from btc_datamodule.cli.parsing import complain, fail, import_classes, restore_nulls, say
from btc_datamodule.errors import AuditError, ConfigError, NotPreparedError, StoreError

if TYPE_CHECKING:
    from btc_datamodule.datamodule import BTCDataModule

OUTPUTS = {"export": "candles.parquet", "plot": "candles.png"}
"""Commands that write a file, and its name where none is given."""


def run_on_data(command: str, arguments: list[str]) -> None:
    """Run one of ``DATA_COMMANDS``."""
    from jsonargparse import ActionConfigFile, ArgumentParser  # type: ignore[attr-defined]

    from btc_datamodule.datamodule import BTCDataModule

    class Parser(ArgumentParser):
        def error(self, message: str, ex: Exception | None = None) -> NoReturn:
            if not self.exit_on_error:  # one of the parsers inside, whose errors are collected
                super().error(message, ex)
            fail(explain_message(message))

    import_classes()
    parser = Parser(prog=f"btc-datamodule {command}", allow_abbrev=False)
    parser.add_argument("-c", "--config", action=ActionConfigFile, help="YAML file")
    parser.add_argument(
        "--data",
        type=BTCDataModule | None,
        sub_configs=True,
        help="the datamodule, by class path, or a YAML file with that and `init_args`",
    )
    for key in TOP_KEYS:
        if key != "data":  # a plain dict is neither checked nor instantiated
            kind = Any if key in ("seed_everything", "ckpt_path") else dict | str | None
            parser.add_argument(f"--{key}", type=kind, help="passed over by this command")
    if command == "info":
        parser.add_argument("--provenance", type=bool, default=False, help="name every origin")
    if command == "audit":
        parser.add_argument(
            "--ask_source", type=bool, default=True, help="ask the source for some bars again"
        )
    if command in OUTPUTS:
        parser.add_argument("--output", default=OUTPUTS[command], help="file to write")
    config = parser.parse_args(arguments)
    if config.data is None:
        fail("there is no datamodule: give --config FILE.yaml with a `data:` in it")
    restore_nulls(config.data)
    DATA_COMMANDS[command](parser.instantiate(config).data, config)


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
    from btc_datamodule.cli.info import describe, describe_candles

    try:
        data.setup()
    except NotPreparedError:
        say(describe_candles(data, provenance=config.provenance))
        raise
    say(describe(data, provenance=config.provenance))


def _verify(data: "BTCDataModule", _: Any) -> None:
    from btc_datamodule.audit.verify import verify_series

    problems = verify_series(data.candle_path)
    if not problems:
        data.settings.read_candle_header()
    for problem in problems[:-1]:
        complain(problem)
    if problems:
        raise StoreError(problems[-1])
    say(f"{data.candle_path.parent}: nothing is wrong")


def _audit(data: "BTCDataModule", config: Any) -> None:
    found = data.audit(ask_source=config.ask_source)
    say(found)
    if not found.passed:
        raise AuditError(f"{len(found.failed)} guarantees do not hold: {'; '.join(found.failed)}")


def _export(data: "BTCDataModule", config: Any) -> None:
    from btc_datamodule.store.export import export_candles

    say(export_candles(data.candle_path, data.settings.recipe.span, config.output))


def _plot(data: "BTCDataModule", config: Any) -> None:
    from btc_datamodule.cli.plots import plot_candles

    data.setup()
    say(plot_candles(data, config.output))


DATA_COMMANDS: "dict[str, Callable[[BTCDataModule, Any], None]]" = {
    "prepare": _prepare,
    "info": _info,
    "verify": _verify,
    "audit": _audit,
    "export": _export,
    "plot": _plot,
}
