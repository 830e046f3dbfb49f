"""The command line as a person meets it: the shipped configs, and what a mistake is answered."""

import logging
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from btc_datamodule import CandleFile, Candles, Simulator, read_candles
from btc_datamodule.candles.series import concatenate
from btc_datamodule.candles.timeline import parse_instant
from btc_datamodule.cli.commands import main
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import CoinbaseAnswers, Exchange

CONFIGS = Path(__file__).parents[2] / "configs"
HOUR = 3600


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(command: str, config: str, *arguments: str) -> int:
    return main([command, "--config", str(CONFIGS / config), *arguments])


def edited(config: str, *edits: tuple[str, str]) -> str:
    """Path of a copy of a config with texts replaced."""
    text = (CONFIGS / config).read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    Path("edited.yaml").write_text(text)
    return str(Path("edited.yaml").resolve())


def error_of(capsys: pytest.CaptureFixture[str], status: int, arguments: list[str]) -> str:
    """The one line that a mistake is answered, without a traceback."""
    capsys.readouterr()
    if status == 2:
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
    else:
        assert main(arguments) == status
    lines = capsys.readouterr().err.strip().splitlines()
    assert "Traceback" not in "".join(lines)
    assert lines[-1].startswith("btc-datamodule: error: ")
    assert sum(line.startswith("btc-datamodule: error: ") for line in lines) == 1
    return lines[-1].removeprefix("btc-datamodule: error: ")


def test_a_fit_from_a_shell_finds_a_model_in_the_folder_and_says_where_the_files_lie() -> None:
    Path("my_model.py").write_text(
        "from btc_datamodule import DummyModule\nclass Mine(DummyModule):\n    pass\n"
    )
    command = [str(Path(sys.executable).with_name("btc-datamodule")), "fit"]
    command += ["--config", str(CONFIGS / "dummy.yaml"), "--model", "my_model.Mine"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    said = result.stdout + result.stderr
    assert "`max_epochs=1` reached" in said
    assert "val_loss" in said, "the progress bar"
    (path,) = set(re.findall(r"candles:\s+(\S+)", said))
    assert len(read_candles(Path(path))) == 17_520


def test_every_command_of_the_trainer_runs_on_the_dummy_config(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("lightning.pytorch").addHandler(caplog.handler)
    for command in ("fit", "validate", "test", "predict"):
        caplog.clear()
        assert run(command, "dummy.yaml", "--trainer.enable_progress_bar", "false") == 0
        assert ("no --ckpt_path: the model is" in caplog.text) == (command != "fit")
    logging.getLogger("lightning.pytorch").removeHandler(caplog.handler)
    assert "test_loss" in capsys.readouterr().out


def hourly_of_2020(request: pytest.FixtureRequest) -> Candles:
    """Real candles of the tutorial's span where there are any, else simulated ones."""
    try:
        folder: Path = request.getfixturevalue("real_data")
    except pytest.skip.Exception:
        return ex.random_walk("2020-01-01", bars=4000, interval=HOUR)
    source = CandleFile(str(folder / "cryptodatadownload/Coinbase_BTCUSD_1h_2020-10.csv"))
    (block,) = source.blocks(HOUR, (0, parse_instant("2021-01-01")))
    return block.candles


def test_the_coinbase_config_does_the_job_of_the_tutorial(
    request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    held = hourly_of_2020(request)
    asked = held.slice(parse_instant("2020-01-01"), parse_instant("2020-06-15"))
    with Exchange(CoinbaseAnswers(held)) as exchange:
        exchange.faults += [None, ex.too_many_requests("0.1"), None, ex.CUT]
        there = ["--data.source.init_args.base_url", exchange.url]
        there += ["--data.source.init_args.requests_per_second", "1000"]
        there += ["--data.source.init_args.retry_wait", "0.01"]
        assert run("prepare", "coinbase_1h.yaml", *there) == 0
        assert len(exchange.requests) == 14 + 2
        quiet = ["--trainer.enable_progress_bar", "false", "--trainer.max_epochs", "1"]
        assert run("fit", "coinbase_1h.yaml", *there, *quiet) == 0
        assert len(exchange.requests) == 14 + 2, "nothing is downloaded twice"
        capsys.readouterr()
        assert run("info", "coinbase_1h.yaml", *there) == 0
    stored = read_candles(Path("data/coinbase/BTC-USD/1h/candles.h5"))
    assert stored.open_time.tolist() == asked.open_time.tolist()
    assert stored["close"].tolist() == asked["close"].tolist()
    said = capsys.readouterr().out
    assert f"{len(asked):,} rows, 2020-01-01T00:00:00Z to 2020-06-15T00:00:00Z" in said
    assert re.search(r"val +2020-05-01T00:00:00Z +2020-05-24T00:00:00Z +552 ", said)


def test_info_tells_what_looks_cut_and_a_refresh_as_it_says_mends_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    held = ex.random_walk("2020-01-01", bars=4000, interval=HOUR)
    with Exchange(CoinbaseAnswers(held)) as exchange:
        exchange.faults += [None, ex.HALF_A_PAGE, ex.HALF_A_PAGE, None]
        exchange.faults += [ex.EVERY_OTHER_ROW, ex.EVERY_OTHER_ROW]
        there = ["--data.source.init_args.base_url", exchange.url]
        there += ["--data.source.init_args.requests_per_second", "1000"]
        assert run("prepare", "coinbase_1h.yaml", *there) == 0
        capsys.readouterr()
        assert run("info", "coinbase_1h.yaml", *there) == 0
        said = capsys.readouterr().out
        assert "suspicious 2 stretches, 300 bars absent though the bars around are there" in said
        assert "from 2020-01-13T12:00:00Z to 2020-01-19T18:00:00Z no bar of 150\n" in said
        assert re.search(r"from 2020-02-07T\S+Z to 2020-02-\S+Z one bar every 2h \(150 abs", said)
        assert "`refresh: true` asks the source again" in said
        assert run("prepare", "coinbase_1h.yaml", *there, "--data.refresh", "true") == 0
        capsys.readouterr()
        assert run("info", "coinbase_1h.yaml", *there) == 0
    assert "suspicious" not in capsys.readouterr().out


def test_the_binance_config_runs_on_an_archive_of_its_shape() -> None:
    span = (parse_instant("2021-01-01"), parse_instant("2021-03-01"))
    held = concatenate([block.candles for block in Simulator().blocks(60, span)])
    with Exchange(ex.BinanceArchiveAnswers(held)) as exchange:
        arguments = ["--data.source.init_args.base_url", exchange.url, "--data.end", "2021-03-01"]
        arguments += ["--data.split.init_args.val", "2021-02-15"]
        arguments += ["--data.split.init_args.test", "2021-02-22"]
        assert run("prepare", "binance_1m.yaml", *arguments) == 0
        quiet = ["--trainer.enable_progress_bar", "false", "--trainer.limit_train_batches", "5"]
        assert run("fit", "binance_1m.yaml", *arguments, *quiet) == 0
        assert len(exchange.requests) == 4, "two months, each with its checksum, once"
    stored = read_candles(Path("data/binance/BTCUSDT/1m/candles.h5"))
    assert stored["close"].tolist() == held["close"].tolist()


def test_the_file_config_runs_on_kraken_hours(
    real_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = ["--data.source.init_args.path", str(real_data / "kraken/XBTUSD_60.csv")]
    quiet = ["--trainer.enable_progress_bar", "false"]
    for command in ("prepare", "fit"):
        assert run(command, "file.yaml", *path, *(quiet if command == "fit" else [])) == 0
    checkpoint = str(next(Path("lightning_logs").rglob("*.ckpt")))
    assert run("test", "file.yaml", *path, *quiet, "--ckpt_path", checkpoint) == 0
    capsys.readouterr()
    assert run("info", "file.yaml", *path) == 0
    said = capsys.readouterr().out
    assert "70,253 rows, 2013-10-06T21:00:00Z to 2023-01-07T10:00:00Z" in said
    assert "3,254 holes, 10,856 bars absent" in said


def test_the_file_config_runs_on_two_years_of_bitfinex_minutes(
    real_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--data.source.init_args.path", str(real_data / "bitfinex_1m/*.csv.gz")]
    arguments += ["--data.source.init_args.columns", "bitfinex", "--data.interval", "1m"]
    quiet = ["--trainer.enable_progress_bar", "false", "--trainer.limit_train_batches", "50"]
    for command in ("prepare", "fit", "test"):
        extra = [] if command == "prepare" else quiet
        assert run(command, "file.yaml", *arguments, *extra) == 0
    capsys.readouterr()
    assert run("info", "file.yaml", *arguments) == 0
    said = capsys.readouterr().out
    assert "1,033,226 rows, 2018-01-01T00:00:00Z to 2020-01-01T00:00:00Z" in said
    assert "13,947 holes, 17,974 bars absent" in said  # 3,992 + 9,955 and 5,101 + 12,873


def test_info_agrees_with_the_simulator_that_leaves_known_holes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("prepare", "dummy.yaml") == 0
    capsys.readouterr()
    assert run("info", "dummy.yaml") == 0
    said = capsys.readouterr().out
    stored = read_candles(next(Path("data").rglob("candles.h5")))
    holes = stored.holes()
    lengths = (holes[:, 1] - holes[:, 0]) // HOUR
    filled, unseen = np.minimum(lengths, 3).sum(), np.maximum(lengths - 3, 0)
    assert f"{len(holes)} holes, {lengths.sum()} bars absent" in said
    assert f"{filled} bars filled flat (the first 3 of a hole)" in said
    assert f"{(unseen > 0).sum()} outages (longer holes): {unseen.sum()} bars not observed" in said
    train, val, test = (
        count_by_definition(stored.open_time, *bounds)
        for bounds in ((0, 12281), (12281, 14913), (14913, 17544))
    )
    span = "2020-01-01T00:00:00Z +2021-05-26T17:00:00Z"
    assert re.search(rf"train +{span} +12,281 +{train:,} +{train:,} .* -  +-\n", said)
    for stage, eligible in (("val", val), ("test", test)):
        assert re.search(rf"{stage} .* [\d,]+ +[\d,]+ +{eligible:,} .* [\d,]+ +[\d,]+\n", said)


def count_by_definition(times: NDArray[np.int64], start: int, end: int) -> int:
    """Eligible origins of the rows [start, end) of the dummy config, tried one by one."""
    rows = np.arange(17544)
    present = np.isin(rows, (times - times[0]) // HOUR)
    unknown = rows - np.maximum.accumulate(np.where(present, rows, 0)) > 3
    # relative_volume takes 24 bars, and is the feature that takes the most.
    seen = [row >= 23 and not unknown[row - 23 : row + 1].any() for row in rows.tolist()]
    return sum(
        bool(present[origin])
        and all(seen[origin - 47 : origin + 1])
        and not unknown[origin : origin + 5].any()
        for origin in range(max(start - 1, 47), end - 4)
    )


def test_plot_writes_a_picture() -> None:
    pytest.importorskip("matplotlib")
    assert run("prepare", "dummy.yaml") == 0
    assert run("plot", "dummy.yaml", "--output", "candles.png") == 0
    assert Path("candles.png").read_bytes().startswith(b"\x89PNG")
    assert run("plot", "dummy.yaml", "--kind", "holes", "--output", "holes.svg") == 0
    assert "<svg" in Path("holes.svg").read_text(encoding="utf-8")
    assert run("plot", "dummy.yaml", "--kind", "forecasts") == 1
    with pytest.raises(SystemExit, match="2"):
        run("plot", "dummy.yaml", "--kind", "cakes")


def test_a_model_and_a_datamodule_of_ones_own_plug_in_by_class_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Path("own_code.py").write_text(
        "from btc_datamodule import BTCDataModule, DummyModule\n"
        "class OwnData(BTCDataModule):\n"
        "    pass\n"
        "class OwnModel(DummyModule):\n"
        "    def __init__(self, n_features: int, lookback: int, horizon: int, width: int = 1):\n"
        "        super().__init__(n_features, lookback, horizon)\n"
        "        assert width == 7\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = edited("dummy.yaml", ("btc_datamodule.BTCDataModule", "own_code.OwnData"))
    own = ["--model", "own_code.OwnModel", "--model.init_args.width", "7"]
    assert main(["fit", "--config", config, *own, "--trainer.enable_progress_bar", "false"]) == 0


def test_help_is_short_and_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert len(said.splitlines()) <= 30
    for command in ("fit", "predict", "prepare", "info", "verify", "score", "export", "plot"):
        assert re.search(rf"^  {command} ", said, re.MULTILINE)
    assert main([]) == 0
    assert main(["--version"]) == 0


@pytest.mark.each_value
@pytest.mark.parametrize("command", ["fit", "prepare"])
@pytest.mark.parametrize(
    ("status", "edit", "message"),
    [
        (2, ("lookback:", "lokback:"), "BTCDataModule has no option 'lokback': did you mean 'look"),
        (2, ("seed: 0\n        outages", "sed: 0\n        outages"), "Simulator has no option 'se"),
        (2, ("data:\n  class", "dat:\n  class"), "there is no key 'dat': did you mean 'data'?"),
        (2, ("Simulator\n", "Simulatr\n"), "there is no class 'btc_datamodule.Simulatr'"),
        (2, ("data:\n  class", "x:\n  class"), "there is no key 'x'. It has: seed_everything, "),
        (2, ("lookback: 48", "lookback: many"), "lookback is 'many': it must be of type int"),
        (1, ("log_return,", "log_retrun,"), "unknown feature 'log_retrun': did you mean 'log_re"),
        (1, ("batch_size: 256", "batch_size: 0"), "batch_size is 0: it must be a whole number"),
        (1, ("interval: 1h", "interval: 1hour"), "interval '1hour' is not understood"),
        (1, ("interval: 1h", "interval: 1M"), "interval '1M' is not understood: write a number"),
        (1, ('"2020-01-01"', "1577836800000"), "start 1577836800000 looks like milliseconds"),
        (1, ('"2022-01-01"', '"2019-01-01"'), "the range is empty: start 2020-01-01T00:00:00Z"),
        (1, ("val: 0.15", "val: 0.9"), "split: val 0.9 and test 0.15 must be above 0 and leave"),
    ],
)
def test_a_mistake_in_the_yaml_is_answered_with_what_would_be_right(
    capsys: pytest.CaptureFixture[str],
    command: str,
    status: int,
    edit: tuple[str, str],
    message: str,
) -> None:
    config = edited("dummy.yaml", edit)
    assert error_of(capsys, status, [command, "--config", config]).startswith(message)


def test_a_mistyped_option_or_command_lists_those_that_exist(
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = ["--config", str(CONFIGS / "dummy.yaml")]
    said = error_of(capsys, 2, ["fit", *config, "--trainer.max_epoch", "3"])
    assert said.startswith("trainer has no option 'max_epoch': did you mean 'max_epochs'? It has: ")
    said = error_of(capsys, 2, ["prepare", *config, "--data.lokback", "3"])
    assert "It has: source, interval, start, end, features, " in said
    said = error_of(capsys, 2, ["fi", *config])
    assert said.startswith("unknown command 'fi': did you mean 'fit'?")
    said = error_of(capsys, 2, ["fit", "--config", "none.yaml"])
    assert said == "there is no file none.yaml: give one for --config"
    said = error_of(capsys, 2, ["info"])
    assert said == "there is no datamodule: give --config FILE.yaml with a `data:` in it"


@pytest.mark.each_value
@pytest.mark.parametrize("command", ["fit", "prepare"])
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("split", "WalkForwad", "split is 'WalkForwad': did you mean 'WalkForward'? There are: "),
        ("source", "Simulatr", "source is 'Simulatr': did you mean 'Simulator'? There are: "),
        ("target", "Nothing", "target is 'Nothing'. There are: ClosePath, "),
        ("start_method", "thread", "start_method is 'thread': choose one of 'fork', 'spawn', "),
        ("shuffle", "ful", "shuffle is 'ful': choose one of 'full', 'block', 'none'"),
        ("transform", "no.such", "transform is 'no.such': it must be the path of a function ("),
        ("source", "CandleFile", "CandleFile needs `path`"),
    ],
)
def test_a_mistyped_value_is_answered_with_those_there_are(
    capsys: pytest.CaptureFixture[str], command: str, key: str, value: str, message: str
) -> None:
    arguments = [command, "--config", str(CONFIGS / "dummy.yaml"), f"--data.{key}", value]
    assert error_of(capsys, 2, arguments).startswith(message)


@pytest.mark.parametrize(
    ("status", "option", "message"),
    [
        (2, "--trainer.max_epochs=two", "trainer.max_epochs is 'two': it must be of type int"),
        (
            2,
            "--trainer.callbacks=EarlyStoping",
            "trainer.callbacks is 'EarlyStoping': did you mean",
        ),
        (1, "--trainer.accelerator=cup", "trainer: You selected an invalid accelerator name: "),
        (1, "--trainer.strategy=dpd", "trainer: You selected an invalid strategy name: "),
        (1, "--trainer.devices=0", "`Trainer(devices='0')` value is not a valid input"),
        (1, "--ckpt_path=", "--ckpt_path is '': give the path of a file"),
        (1, "--ckpt_path=best", "--ckpt_path is 'best': give the path of a file"),
    ],
)
def test_a_mistake_in_what_the_trainer_is_given_is_one_line(
    capsys: pytest.CaptureFixture[str], status: int, option: str, message: str
) -> None:
    arguments = ["fit", "--config", str(CONFIGS / "dummy.yaml"), option]
    assert error_of(capsys, status, arguments).startswith(message)


def test_an_option_of_a_class_that_is_not_named_lists_those_to_choose_from(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = (CONFIGS / "dummy.yaml").read_text()
    split = "    split:\n      class_path: btc_datamodule.FractionSplit\n"
    split += "      init_args:\n        val: 0.15\n        test: 0.15\n"
    assert split in text
    Path("short.yaml").write_text(text.replace(split, ""))
    said = error_of(capsys, 2, ["fit", "--config", "short.yaml", "--data.split.val", "0.2"])
    assert said.startswith("split has no class: choose one of CombinatorialPurged, DateSplit, ")


def test_a_config_without_what_is_needed_is_told_what_that_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert error_of(capsys, 2, ["fit"]).startswith("there is no data and no model: give --config")
    Path("empty.yaml").touch()
    for command in ("fit", "prepare"):
        said = error_of(capsys, 2, [command, "--config", "empty.yaml"])
        assert said.startswith("empty.yaml has no keys: it must have `data:`")


def test_commands_of_the_data_pass_over_what_a_model_or_trainer_is_given() -> None:
    model = ["--model", "no.such.Model", "--model.init_args.width", "3"]
    assert run("prepare", "dummy.yaml", *model, "--trainer.callbacks", "NoSuch") == 0


def test_an_exchange_that_does_not_know_the_product_is_quoted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Exchange(CoinbaseAnswers(ex.random_walk("2020-01-01", bars=10, interval=HOUR))) as server:
        there = ["--data.source.init_args.base_url", server.url]
        wrong = ["--data.source.init_args.product", "BTC-USB"]
        config = ["prepare", "--config", str(CONFIGS / "coinbase_1h.yaml")]
        said = error_of(capsys, 1, [*config, *there, *wrong])
        assert "BTC-USB" in said
        assert "NotFound" in said or "no product" in said
        said = error_of(capsys, 1, [*config, *there, "--data.interval", "90s"])
        assert said.startswith("coinbase has no bars of 90s: set `interval` to one of 1m, 5m, 15m,")


def test_files_that_cannot_be_read_are_named_with_row_and_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def prepare(text: str | None, name: str = "candles.csv") -> str:
        if text is not None:
            Path(name).write_text(text)
        path = ["--data.source.init_args.path", name]
        config = str(CONFIGS / "file.yaml")
        return error_of(capsys, 1, ["prepare", "--config", config, *path])

    good = "1577836800,7000,7100,6900,7050,10,3\n"
    assert "missing.csv" in prepare(None, "missing.csv")
    broken = prepare(good + "1577840400,7050,oops,6900,7050,10,3\n")
    assert "candles.csv" in broken
    assert "2" in broken
    assert "oops" in broken
    nan = prepare(good + "1577840400,7050,nan,6900,7050,10,3\n")
    assert "candles.csv, row 2: some of open, high, low and close are not known" in nan
    upside = prepare(good + "1577840400,7050,6000,6900,7050,10,3\n")
    assert "row 2 (2020-01-01T01:00:00Z): high is below low (high 6000, low 6900)" in upside
    assert "not" in prepare("this is no HDF5 file", "candles.h5")


def test_a_damaged_or_foreign_candle_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("prepare", "dummy.yaml") == 0
    (path,) = Path("data").rglob("candles.h5")
    config = ["info", "--config", str(CONFIGS / "dummy.yaml")]
    whole = path.read_bytes()
    path.write_bytes(b"not HDF5 at all")
    capsys.readouterr()
    said = error_of(capsys, 1, config)
    assert f"{path} is not an HDF5 file: move it away and run `btc-datamodule prepare`" in said
    path.write_bytes(whole[: len(whole) // 2])
    assert f"{path} is not a whole HDF5 file" in error_of(capsys, 1, config)


def test_a_data_dir_that_cannot_be_made_is_no_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("afile").write_text("")
    config = ["prepare", "--config", str(CONFIGS / "dummy.yaml")]
    said = error_of(capsys, 1, [*config, "--data.data_dir", "afile"])
    assert "cannot be made" in said
    assert said.endswith("change `data_dir`")


def test_a_checkpoint_that_is_missing_or_of_another_model_is_no_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = edited("dummy.yaml", ("  logger: false\n  enable_checkpointing: false\n", ""))
    quiet = ["--trainer.enable_progress_bar", "false"]
    assert main(["fit", "--config", config, *quiet]) == 0
    test = ["test", "--config", config, *quiet, "--ckpt_path"]
    assert "nope.ckpt" in error_of(capsys, 1, [*test, "nope.ckpt"])
    checkpoint = str(next(Path("lightning_logs").rglob("*.ckpt")))
    said = error_of(capsys, 1, [*test, checkpoint, "--data.init_args.lookback", "96"])
    assert said.startswith("the model in the checkpoint has other sizes than this one: were `look")
    assert main([*test, checkpoint]) == 0


def test_a_fit_without_logger_leaves_nothing_in_the_current_folder() -> None:
    assert run("fit", "dummy.yaml", "--trainer.enable_progress_bar", "false") == 0
    assert [path.name for path in Path().iterdir()] == ["data"]


def test_prepare_finds_settings_that_leave_nothing_to_train_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = ["prepare", "--config", str(CONFIGS / "dummy.yaml"), "--data.lookback", "50000"]
    assert error_of(capsys, 1, config).startswith(
        "candles and features are stored, but a sample needs 50027 bars"
    )


def test_csv_with_other_separators_is_read_and_contradicting_rows_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = ["prepare", "--config", str(CONFIGS / "file.yaml")]
    config += ["--data.source.init_args.path", "c.csv"]
    row = "1577836800,7000,7100,6900,7050,10,3\n"
    for separator in (";", "\t"):
        Path("c.csv").write_text((row * 3).replace(",", separator))
        assert "and there are 1 bars" in error_of(capsys, 1, config)
    Path("c.csv").write_text(row + "1577836800,7000,9100,6900,9050,10,3\n")
    said = error_of(capsys, 1, config)
    assert "two rows for 2020-01-01T00:00:00Z, 2 and 1, close at 9050 and 7050: remove" in said


def test_an_interrupt_is_one_line_and_its_own_status(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("btc_datamodule.preparing.update", interrupted)
    assert main(["prepare", "--config", str(CONFIGS / "dummy.yaml")]) == 130
    said = capsys.readouterr().err
    assert said == "btc-datamodule: interrupted: what came is kept, run it again to go on\n"


def test_info_shows_the_candles_where_there_are_no_features_for_the_settings(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = ["--config", str(CONFIGS / "dummy.yaml"), "--data.data_dir", str(tmp_path)]
    assert main(["prepare", *config]) == 0
    capsys.readouterr()
    assert main(["info", *config, "--data.features", "[momentum]"]) == 1
    said = capsys.readouterr()
    assert "17,520 rows, 2020-01-01T00:00:00Z to 2022-01-01T00:00:00Z" in said.out
    assert "there is no feature file for these settings" in said.err


def test_candles_and_features_of_another_series_are_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = ["--config", str(CONFIGS / "dummy.yaml"), "--data.data_dir", str(tmp_path)]
    other = [*config, "--data.source.seed", "3"]
    assert main(["prepare", *config]) == main(["prepare", *other]) == 0
    mine, theirs = sorted(tmp_path.rglob("candles.h5"))
    (features,) = mine.parent.glob("features-*.h5")
    (foreign,) = theirs.parent.glob("features-*.h5")
    shutil.copy(foreign, features)
    for command in ("verify", "info"):
        assert "is another feature file under this name" in error_of(capsys, 1, [command, *config])
    features.unlink()
    shutil.copy(theirs, mine)
    for command in ("prepare", "info", "verify"):
        assert "holds simulator BTC-SIM-3" in error_of(capsys, 1, [command, *config])


def test_a_data_dir_that_is_no_text_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    config = ["prepare", "--config", str(CONFIGS / "dummy.yaml"), "--data.data_dir", "null"]
    assert "data_dir is None: name a folder" in error_of(capsys, 1, config)
