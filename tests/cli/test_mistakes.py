"""The mistakes that people make most, each answered with one line that names what mends it.

Status 2 for what is typed wrong, 1 for what is wrong with the data; never a traceback.
"""

from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest
import torch

from btc_datamodule import BTCDataModule, ConfigError, Feature
from btc_datamodule.cli.commands import main
from btc_datamodule.features.builtin import resolve

CONFIG = Path(__file__).parents[2] / "configs" / "dummy.yaml"
TEXT = CONFIG.read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.yaml").write_text(TEXT, encoding="utf-8")


class Mistake(NamedTuple):
    """What is typed after a command, or a file given to it, and what the answer must say."""

    arguments: str
    status: int
    message: str
    text: str | bytes | None = None
    only: str = ""
    """The one command that it is tried with; else prepare, and fit if that can do more with it."""


GOOD = "--config good.yaml"
MISTAKES = {
    # the file
    "a file that is not there": Mistake(
        "--config god.yaml", 2, "no file god.yaml: did you mean good"
    ),
    "a file of another folder": Mistake(
        "--config no/a.yaml", 2, "there is no file no/a.yaml: give one"
    ),
    "a folder for a file": Mistake("--config .", 2, ". is a folder: give a YAML file for --config"),
    "a file without its option": Mistake("good.yaml", 2, "stands alone: write --config good.yaml"),
    "an option without a value": Mistake(
        "--config", 2, "--config stands without a value: write it"
    ),
    "a tab": Mistake(
        "--config bad.yaml",
        2,
        "bad.yaml, line 2, column 1: found character '\\t' that cannot start "
        "any token: indent with spaces, there is a tab",
        "data:\n\tclass_path: x\n",
    ),
    "no space after a colon": Mistake(
        "--config bad.yaml",
        2,
        "bad.yaml, line 23, column 5: could not find expected ':': write `key:"
        " value`, with a space after the colon",
        TEXT.replace("lookback: 48", "lookback:48"),
    ),
    "an indentation that is off": Mistake(
        "--config bad.yaml",
        2,
        "bad.yaml, line 3, column 13: mapping values are not allowed here: chec",
        "data:\n  class_path: x\n   init_args: {}\n",
    ),
    "an open bracket": Mistake(
        "--config bad.yaml",
        2,
        "a bracket, a brace or a quote may not be closed",
        "data: {a: [1, 2}\n",
    ),
    "a list in place of keys": Mistake(
        "--config bad.yaml", 2, "bad.yaml has no keys: it must have `data:`", "- data\n- model\n"
    ),
    "a key that is there twice": Mistake(
        "--config bad.yaml",
        2,
        "bad.yaml, line 24: `lookback` is there already, in line 23: keep one",
        TEXT.replace("    lookback: 48\n", "    lookback: 48\n    lookback: 96\n"),
    ),
    "a part that is there twice": Mistake(
        "--config bad.yaml",
        2,
        "`data` is there already, in line 11: keep one",
        TEXT + "\ndata: {}\n",
    ),
    "anchors within anchors": Mistake(
        "--config bad.yaml",
        2,
        "bad.yaml stands for more than 100,000 values, as its anchors (`&name`) are repeated",
        "a0: &a0 [x]\n"
        + "".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(30))
        + TEXT,
    ),
    "another encoding": Mistake(
        "--config bad.yaml",
        2,
        "bad.yaml is no text in UTF-8 (byte 0): save it so",
        b"\xff\xfed\x00",
    ),
    "a whole config as the data": Mistake(
        "--data good.yaml",
        2,
        "good.yaml has `data:` in it: give it with --config, or what is under",
    ),
    "a number for a split": Mistake(
        f"{GOOD} --data.split 0.2",
        2,
        "split is 0.2: give a class, such as FractionSplit, and its numbers as --data.split.val",
        only="prepare",
    ),
    "a number for a target": Mistake(
        f"{GOOD} --data.target 0.1",
        2,
        "target is 0.1: give a class, such as LogReturn",
        only="prepare",
    ),
    "a file for a model": Mistake(
        f"{GOOD} --model patch.py",
        2,
        "'patch.py' is a file: write its class, such as patch.MyModel",
        only="fit",
    ),
    "a file for a source": Mistake(
        f"{GOOD} --data.source btc.csv",
        2,
        "'btc.csv' is a file: write --data.source CandleFile --data.source.path btc.csv",
        only="prepare",
    ),
    "a column for features": Mistake(
        f"{GOOD} --data.features close",
        2,
        'such as ["close = close", ',
        only="prepare",
    ),
    "init_arg for init_args": Mistake(
        "--config bad.yaml",
        2,
        "has no option 'init_arg': write `init_args:`",
        TEXT.replace("init_args:", "init_arg:"),
        only="prepare",
    ),
    # names
    "a key with a slip": Mistake(
        "--config bad.yaml",
        2,
        "no option 'lokback': did you mean 'lookback'? It has: source, interv",
        TEXT.replace("lookback:", "lokback:"),
    ),
    "an option with a slip": Mistake(
        f"{GOOD} --data.lokback 3",
        2,
        "BTCDataModule has no option 'lokback': did you mean 'lookback'",
    ),
    "a class with a slip": Mistake(
        f"{GOOD} --data.source btc_datamodule.Simulatr",
        2,
        "did you mean 'btc_datamodule.Simulator'?",
    ),
    "a package with a slip": Mistake(
        f"{GOOD} --data.source btc_datamodul.Simulator",
        2,
        "did you mean 'btc_datamodule.Simulator'?",
    ),
    "a class of another kind": Mistake(
        f"{GOOD} --data.source btc_datamodule.LogReturn",
        2,
        "source is 'btc_datamodule.LogReturn', which is no Source. There are: BinanceArchive, ",
    ),
    "a covariate in the place of the candles": Mistake(
        f"{GOOD} --data.source btc_datamodule.SimulatedFunding",
        2,
        "source is 'btc_datamodule.SimulatedFunding', which stands beside candles: give it in `cov",
        only="prepare",
    ),
    "a covariate by its class path": Mistake(
        f'{GOOD} --data.source={{"class_path":"btc_datamodule.SimulatedFunding"}}',
        2,
        "source is 'btc_datamodule.SimulatedFunding', which stands beside candles: give it in `cov",
        only="prepare",
    ),
    "longer bars in the place of the candles": Mistake(
        f"{GOOD} --data.source Resampled",
        2,
        "source is 'Resampled', which stands beside candles: give it in `covariates`, under a name",
        only="prepare",
    ),
    "arguments beside their class": Mistake(
        "--config bad.yaml",
        2,
        "source: arguments of Simulator stand below `init_args`: write {class_path: Simulator, "
        "init_args: {seed: 2}}",
        "data: {class_path: BTCDataModule, init_args: {source: {class_path: Simulator, seed: 2}}}",
        only="prepare",
    ),
    "a model that is nowhere": Mistake(
        f"{GOOD} --model my_net.Net",
        2,
        "No module named 'my_net'): is my_net.py in the folder where",
        only="fit",
    ),
    "an own option with a slip": Mistake(
        f"{GOOD} --outptu=x.csv",
        2,
        "no option --outptu: did you mean --output? There are: ",
        only="export",
    ),
    "an option of folds with a slip": Mistake(
        f"{GOOD} --outt x", 2, "no option --outt: did you mean --out?", only="folds"
    ),
    "a setting without its path": Mistake(
        f"{GOOD} --lookback 3", 2, "--lookback: did you mean --data.lookback?"
    ),
    "the config with a slip": Mistake("--confg good.yaml", 2, "did you mean --config?"),
    "the manner with a slip": Mistake(f"{GOOD} --qiet", 2, "did you mean --quiet?"),
    "all for the folds": Mistake(
        f"{GOOD} --folds all", 2, "or leave it out for all folds", only="folds"
    ),
    "an empty config": Mistake("--config=", 2, "the value of --config is empty"),
    "no datamodule": Mistake("--data Foo", 2, "data is 'Foo'. There are: BTCDataModule"),
    "minutes that YAML counts": Mistake(
        "--config bad.yaml",
        2,
        "interval is '60', a number: give it with its unit, such as 1h (YAML reads 1:00 as 60)",
        TEXT.replace("interval: 1h", "interval: 1:00"),
    ),
    "a picture of no forecasts": Mistake(
        f"{GOOD} --kind forecasts", 1, "--kind forecasts has no files: give", only="plot"
    ),
    # values
    "a text for a number": Mistake(
        f"{GOOD} --data.lookback long", 2, "lookback is 'long': it must be of type int"
    ),
    "a broken number": Mistake(
        f"{GOOD} --data.lookback 4.5", 2, "lookback is '4.5': it must be of type int"
    ),
    "no batch at all": Mistake(
        f"{GOOD} --data.batch_size 0", 1, "batch_size is 0: it must be a whole number from 1 up"
    ),
    "a date of another order": Mistake(
        f"{GOOD} --data.start 01/02/2020",
        1,
        "start '01/02/2020' is not an ISO 8601 time: write 2020-",
    ),
    "a batch for the whole history": Mistake(
        f"{GOOD} --data.batch_size 99999",
        1,
        "lower `batch_size` or `stride`, or widen `start` and `end",
    ),
    "one feature in place of a list": Mistake(
        f"{GOOD} --data.features log_return",
        2,
        "features is 'log_return': give a list of names, or l"
        'ines with a name, such as [log_return, "momentum_10 = close / close.shift(10) - 1"]',
    ),
    "a number as a feature": Mistake(
        f"{GOOD} --data.features [5]",
        2,
        "features is '5': give a list of names, or lines with a name",
    ),
    "no features": Mistake(
        f"{GOOD} --data.features null",
        1,
        "features is None: give a list of names, lines of text such",
    ),
    "an expression without a name": Mistake(
        f"{GOOD} --data.features [close.pct_change(1)]",
        1,
        "'close.pct_change(1)' has no name: write"
        " it with one of your own, 'my_feature = close.pct_change(1)'",
    ),
    "a feature of the future": Mistake(
        f"{GOOD} --data.features ['x=close.shift(-1)']",
        1,
        "shift",
    ),
    # the Trainer
    "a precision that there is not": Mistake(
        f"{GOOD} --trainer.precision 17",
        2,
        "trainer.precision is '17': choose one of 64, 32, 16, 't",
        only="fit",
    ),
    "an accelerator that there is not": Mistake(
        f"{GOOD} --trainer.accelerator gpuu",
        1,
        "`accelerator='gpuu'`. Available names are: ",
        only="fit",
    ),
    "devices by the name of their kind": Mistake(
        f"{GOOD} --trainer.devices gpu",
        1,
        "trainer: `devices` selected with `CPUAccelerator` should",
        only="fit",
    ),
    "a checkpoint that is not there": Mistake(
        f"{GOOD} --ckpt_path best.ckpt",
        1,
        "there is no file best.ckpt. A fit keeps its checkpoints un",
        only="test",
    ),
    "no model": Mistake(
        "--data data.yaml", 2, "there is no model: give --config FILE.yaml with it", only="fit"
    ),
}
TRIED = [
    pytest.param(command, mistake, id=f"{name}-{command}")
    for name, mistake in MISTAKES.items()
    for command in (
        [mistake.only] if mistake.only else ["prepare", *["fit"] * (GOOD in mistake[0])]
    )
]


def answer(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The status of a command, and the one line that it is answered with."""
    capsys.readouterr()
    try:
        status = main(arguments)
    except SystemExit as stop:
        status = int(stop.code or 0)
    said = capsys.readouterr().err
    assert "Traceback" not in said
    lines = [line for line in said.splitlines() if line.startswith("btc-datamodule: error: ")]
    assert len(lines) == 1, said
    assert said.rstrip().splitlines()[-1] == lines[0]
    return status, lines[0].removeprefix("btc-datamodule: error: ")


@pytest.mark.each_value
@pytest.mark.parametrize(("command", "mistake"), TRIED)
def test_a_typical_mistake_is_answered_with_one_line_that_mends_it(
    command: str, mistake: Mistake, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("data.yaml").write_text("class_path: btc_datamodule.BTCDataModule\n")
    if isinstance(mistake.text, str):
        Path("bad.yaml").write_text(mistake.text, encoding="utf-8")
    elif mistake.text is not None:
        Path("bad.yaml").write_bytes(mistake.text)
    status, said = answer([command, *mistake.arguments.split(" ")], capsys)
    assert mistake.message in said
    assert status == mistake.status


def test_there_are_more_than_the_26_that_were_asked_for() -> None:
    assert len(MISTAKES) >= 26


# --- what is right ------------------------------------------------------------------------------


def print_config(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit, match="0"):
        main([*arguments, "--print_config"])
    return capsys.readouterr().out


@pytest.mark.parametrize("command", ["fit", "prepare", "info", "audit"])
def test_the_data_may_be_a_file_of_its_own_for_every_command(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("data.yaml").write_text(
        "class_path: btc_datamodule.BTCDataModule\ninit_args: {lookback: 7, horizon: 2}\n"
    )
    model = ["--model", "btc_datamodule.DummyModule"] if command == "fit" else []
    said = print_config(capsys, command, *model, "--data", "data.yaml")
    assert "lookback: 7\n" in said
    said = print_config(
        capsys, command, *model, "--data=data.yaml", "--data.init_args.lookback", "9"
    )
    assert "lookback: 9\n" in said
    assert "horizon: 2\n" in said


@pytest.mark.parametrize("command", ["fit", "prepare"])
def test_a_second_config_goes_before_the_first(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("over.yaml").write_text("data:\n  init_args:\n    lookback: 9\n")
    said = print_config(capsys, command, "--config", "good.yaml", "--config", "over.yaml")
    assert "lookback: 9\n" in said
    assert "horizon: 4\n" in said


def test_every_command_of_the_data_runs_on_a_file_of_its_own() -> None:
    Path("data.yaml").write_text(
        "class_path: btc_datamodule.BTCDataModule\n"
        "init_args: {lookback: 7, start: 2020-01-01, end: 2020-01-20, batch_size: 8}\n"
    )
    for command in ("prepare", "info", "verify", "export"):
        assert main([command, "--data", "data.yaml"]) == 0
    assert Path("candles.parquet").is_file()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that name data which is there already."""
    folder = tmp_path_factory.mktemp("prepared")
    options = ["--config", str(CONFIG), "--data.end", "2020-02-01", "--data.batch_size", "32"]
    options += ["--data.data_dir", str(folder)]
    assert main(["prepare", *options]) == 0
    return options


@pytest.mark.parametrize("command", ["export", "plot"])
@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("x.txt", "output 'x.txt' must end in one of "),
        ("x", "output 'x' must end in one of "),
        ("no/x.", "there is no folder no: make it, or name another"),
        (
            "/proc/x.",
            "the folder /proc cannot be written (No such file or directory): name another",
        ),
        ("folder.", "is a folder: name a file"),
    ],
)
def test_an_output_that_cannot_be_is_told_what_can(
    prepared: list[str],
    command: str,
    output: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if command == "plot":
        pytest.importorskip("matplotlib")
    kind = "png" if command == "plot" else "csv"
    output += kind if output.endswith(".") else ""
    Path(f"folder.{kind}").mkdir()
    status, said = answer([command, *prepared, "--output", output], capsys)
    assert (status, message in said) == (1, True), said
    if message.startswith("output"):
        assert f".{kind}" in said.partition("must end in one of")[2]


@pytest.mark.parametrize("command", ["fit", "prepare"])
def test_null_two_levels_deep_is_null(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = ["--data.source", "CandleFile", "--data.source.path", "no.csv"]
    for option in ("columns", "symbol", "timezone")[:: 3 if command == "fit" else 1]:
        nothing = [f"--data.source.{option}", "null"]
        status, said = answer([command, "--config", "good.yaml", *source, *nothing], capsys)
        assert status == 1
        assert said.endswith("/no.csv: no such file, check `path`")


# --- features in Python -------------------------------------------------------------------------


def test_an_option_before_the_command_is_told_where_to_stand(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["--config", "good.yaml", "fit"])
    told = capsys.readouterr().err
    assert "--config stands before the command: write btc-datamodule fit --config" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("EarlyStopping --trainer.callbacks.monitor val_los", "on metric `val_los` which is not"),
        (
            "EarlyStopping --trainer.callbacks.monitor val_loss --trainer.callbacks.mode maxx",
            "got maxx",
        ),
        ("ModelCheckpoint --trainer.callbacks.save_top_k=-5", "Must be >= -1"),
    ],
)
def test_a_callback_that_refuses_is_answered_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    short = "--data.end 2020-03-01 --trainer.enable_checkpointing true"
    given = f"fit {GOOD} {short} --trainer.callbacks {arguments}"
    assert main(given.split()) == 1
    (told,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert message in told


def gap(bars: pl.DataFrame) -> pl.Series:
    return bars["open"] - bars["close"].shift(1)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (
            [gap],
            r"the function gap without .* write Feature\('gap', lookback=N, compute=gap\), with N",
        ),
        ([lambda bars: bars["open"]], r"write Feature\('my_feature', lookback=N, compute=\.\.\.\)"),
        (
            [pl.col("close").log()],
            r"a polars expression without a name and a lookback in it: write F",
        ),
        (["close.log()"], r"write it with one of your own, 'my_feature = close\.log\(\)'"),
        ([None], "features has None in it: give the name of a feature, a line of text such as"),
        ([1.5], r"features has 1\.5 in it: give the name of a feature"),
        (["log_return", ["log_range"]], r"features has \['log_range'\] in it"),
        ("close", r"features is the text 'close': give a list, \['close = close'\]"),
        ("open / close", r"give a list, \['my_feature = open / close'\]"),
        (["close"], "unknown feature 'close': .*write 'close = close'"),
        ([Feature], r"features has the class Feature in it: give an object, such as Feature\('bo"),
        ("log_return", r"features is the text 'log_return': give a list, \['log_return'\]"),
        (None, "features is None: give a list of names"),
        (7, "features is 7: give a list of names"),
        ({"gap": "open / close"}, r"features is {'gap': 'open / close'}: give a list of names"),
        (Feature("gap", 2, gap), r"features is Feature\('gap', lookback=2\): give a list"),
        ((), "features is empty: name at least one"),
    ],
)
def test_features_that_are_none_are_told_what_to_write(features: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BTCDataModule(features=features)  # type: ignore[arg-type]


def test_features_may_come_one_by_one() -> None:
    names = (each for each in ("log_return", "log_range"))
    assert [each.name for each in resolve(names)] == ["log_return", "log_range"]  # type: ignore[arg-type]


# --- checkpoints of another model ---------------------------------------------------------------

OWN = """\
from btc_datamodule import DummyModule


class Wide(DummyModule):
    def __init__(self, n_features: int, lookback: int, horizon: int, width: int = 3):
        super().__init__(n_features, lookback, horizon)
        self.save_hyperparameters()


class Classes(DummyModule):
    def __init__(self, n_features: int, lookback: int, horizon: int, n_classes: int = 7):
        super().__init__(n_features, lookback, horizon)
        print("n_classes is", n_classes)

    def training_step(self, batch, batch_idx):
        return self(batch.x).sum()

    def validation_step(self, batch, batch_idx):
        pass

    def on_validation_epoch_end(self):
        pass
"""
QUICK = ["--config", "good.yaml", "--data.end", "2020-02-01", "--data.batch_size", "32"]
QUICK += ["--trainer.max_steps", "1", "--trainer.enable_progress_bar", "false"]


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """One of ``own_nets.Wide``, with a width of 5."""
    Path("own_nets.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "own_nets", raising=False)
    keep = ["--trainer.enable_checkpointing", "true", "--trainer.default_root_dir", "runs"]
    model = ["--model", "own_nets.Wide", "--model.width", "5"]
    assert main(["fit", *QUICK, *keep, *model]) == 0
    return str(next(Path("runs").rglob("*.ckpt")))


def test_a_checkpoint_of_another_class_says_so_and_one_of_the_same_goes_on(
    checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    same = ["--model", "own_nets.Wide", "--ckpt_path", checkpoint]
    for command in ("test", "fit"):
        other = [command, *QUICK, "--ckpt_path", checkpoint]
        status, said = answer(other, capsys)
        assert status == 1
        assert said == (
            f"{checkpoint} holds a own_nets.Wide, and --model is btc_datamodule.DummyModule: give "
            "--model own_nets.Wide, or the checkpoint of a DummyModule"
        )
    assert main(["test", *QUICK, *same]) == 0
    with pytest.warns(UserWarning, match="goes before what the model is given: width is 5, not 9"):
        assert main(["test", *QUICK, *same, "--model.width", "9"]) == 0
    saved = torch.load(checkpoint, weights_only=True)
    saved["hyper_parameters"]["_class_path"] = "own_nets.Gone"
    torch.save(saved, "gone.ckpt")
    status, said = answer(["test", *QUICK, *same[:2], "--ckpt_path", "gone.ckpt"], capsys)
    assert (
        "gone.ckpt holds a own_nets.Gone, which is not to be found: module 'own_nets' has" in said
    )


def test_the_classes_of_the_target_reach_a_model_and_none_leave_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("own_nets.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "own_nets", raising=False)
    model = ["--model", "own_nets.Classes", "--model.n_classes", "9"]
    labels = ["--data.target", "TripleBarrier", "--data.target.classes", "true"]
    for given, due in ((labels, 3), ([], 9)):
        capsys.readouterr()
        main(["fit", *QUICK, *model, *given, "--trainer.fast_dev_run", "true"])
        assert f"n_classes is {due}\n" in capsys.readouterr().out
