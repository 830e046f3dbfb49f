"""Covariates on the command line: the shipped config, every command, and what is answered."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import polars as pl
import pytest
import yaml

from btc_datamodule import (
    Resampled,
    SimulatedFunding,
    SimulatedOpenInterest,
    SimulatedPremium,
    Simulator,
    read_candles,
)
from btc_datamodule.candles.records import RecordSet
from btc_datamodule.candles.records import concatenate as join_records
from btc_datamodule.candles.series import Candles, concatenate
from btc_datamodule.candles.timeline import Span, parse_instant
from btc_datamodule.cli.commands import main
from btc_datamodule.data import Data
from btc_datamodule.sources.records import RecordSource
from btc_datamodule.testing.exchange import BinanceArchiveAnswers, Exchange, first_found

CONFIGS = Path(__file__).parents[2] / "configs"
TEXT = """\
model: {class_path: DummyModule}
data:
  class_path: BTCDataModule
  init_args:
    source: {class_path: Simulator, init_args: {seed: 2}}
    interval: 1h
    start: "2020-01-01"
    end: "2020-02-01"
    covariates:
      four: {class_path: Resampled, init_args: {interval: 4h}}
      eth: {class_path: Simulator, init_args: {seed: 2, coin: ETH}}
      funding: {class_path: SimulatedFunding, init_args: {seed: 2}}
    max_age: {funding: 9h}
    features: [log_return, four.log_return, eth.log_return, funding.rate]
    batch_size: 16
"""
BARE = TEXT[: TEXT.index("    covariates:")] + "    features: [log_return]\n"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.yaml").write_text(TEXT, encoding="utf-8")
    Path("bare.yaml").write_text(BARE, encoding="utf-8")


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
    return status, lines[0].removeprefix("btc-datamodule: error: ")


def read_config(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The arguments of the datamodule as a command sees them."""
    capsys.readouterr()
    with pytest.raises(SystemExit, match="0"):
        main([*arguments, "--print_config"])
    found: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]
    return found


# --- mistakes -------------------------------------------------------------------------------------

MISTAKES: dict[str, tuple[str, int, str]] = {
    # the class
    "a class with a slip": (
        "{h: {class_path: Resampld, init_args: {interval: 1h}}}",
        2,
        "covariate 'h' is 'Resampld': did you mean 'Resampled'? There are: BinanceArchive, ",
    ),
    "a class path with a slip": (
        "{eth: {class_path: btc_datamodule.Simulatr}}",
        2,
        "covariate 'eth': there is no class 'btc_datamodule.Simulatr' to use here (module 'btc_",
    ),
    "a module that is nowhere": (
        "{eth: {class_path: my_sources.Mine}}",
        2,
        "covariate 'eth': there is no class 'my_sources.Mine' to use here (No module named 'my_",
    ),
    "a class of another kind": (
        "{eth: {class_path: btc_datamodule.LogReturn}}",
        2,
        "covariate 'eth' is 'LogReturn', which is no source of candles or records. There are: Bin",
    ),
    "a class that is none to use": (
        "{eth: {class_path: btc_datamodule.Source}}",
        2,
        "covariate 'eth' is 'Source', which is no source of candles or records. There are: Binan",
    ),
    "an interval in place of a class": (
        "{h: 1h}",
        2,
        "covariate 'h' is '1h': for bars of 1h write {class_path: Resampled, init_args: {interval",
    ),
    "a file in place of a class": (
        "{eth: eth.csv}",
        2,
        "covariate 'eth' is 'eth.csv': for a file write {class_path: CandleFile, init_args: {path",
    ),
    "a number in place of a class": (
        "{eth: 5}",
        2,
        "covariate 'eth' is '5': give a class with its arguments, such as {class_path: Coinbase, ",
    ),
    "nothing in place of a class": ("{eth: null}", 2, "covariate 'eth' is 'None': give a class wi"),
    "a list in place of a class": ("{eth: [1, 2]}", 2, "covariate 'eth' is [1, 2]: give a class "),
    # its arguments
    "an option with a slip": (
        "{eth: {class_path: Simulator, init_args: {coin: ETH, sed: 2}}}",
        2,
        "covariate 'eth': Simulator has no option 'sed': did you mean 'seed'? It has: seed, no_tra",
    ),
    "an option of records with a slip": (
        "{f: {class_path: BinanceFunding, init_args: {produkt: BTCUSDT}}}",
        2,
        "covariate 'f': BinanceFunding has no option 'produkt': did you mean 'product'? It has: ",
    ),
    "init_arg for init_args": (
        "{h: {class_path: Resampled, init_arg: {interval: 1h}}}",
        2,
        "covariate 'h': Resampled has no option 'init_arg': write `init_args:`",
    ),
    "arguments beside their class": (
        "{h: {class_path: Resampled, interval: 4h}}",
        2,
        "covariate 'h': arguments of Resampled stand below `init_args`: write {class_path: "
        "Resampled, init_args: {interval: 4h}}",
    ),
    "arguments of a source beside it": (
        "{eth: {class_path: Simulator, coin: ETH, seed: 2}}",
        2,
        "covariate 'eth': arguments of Simulator stand below `init_args`: write {class_path: Sim"
        "ulator, init_args: {coin: ETH, seed: 2}}",
    ),
    "a name that begins a line of what is printed": (
        "{candles: Simulator}",
        1,
        "covariate 'candles': a line of what commands print is called that: give it another name",
    ),
    "a choice that there is not": (
        "{f: {class_path: BinanceFunding, init_args: {market: spot}}}",
        2,
        "covariate 'f': market is 'spot': choose one of 'um', 'cm'",
    ),
    "a value of another type": (
        "{eth: {class_path: Simulator, init_args: {seed: x}}}",
        2,
        "covariate 'eth': seed is 'x': it must be of type int",
    ),
    "an interval without a unit": (
        "{h: {class_path: Resampled, init_args: {interval: 1}}}",
        2,
        "covariate 'h': interval is '1', a number: give it with its unit",
    ),
    "an argument that is needed": (
        "{h: Resampled}",
        2,
        "covariate 'h': Resampled needs `interval`",
    ),
    "an interval that is none": (
        "{h: {class_path: Resampled, init_args: {interval: 7q}}}",
        1,
        "covariate 'h': interval '7q' is not understood: write a number and a unit, such as 1s",
    ),
    "a value out of bounds": (
        "{a: {interval: 4h}, eth: {class_path: Simulator, init_args: {no_trade: 3}}}",
        1,
        "covariate 'eth': no_trade 3.0: give a share, 0 <= no_trade < 1",
    ),
    # what is resampled
    "a source with a slip to resample": (
        "{h: {interval: 4h, of: {class_path: Coinbas}}}",
        2,
        "covariate 'h': `of` is 'Coinbas': did you mean 'Coinbase'? There are: BinanceArchive, ",
    ),
    "records to resample": (
        "{h: {interval: 4h, of: {class_path: BinanceFunding}}}",
        2,
        "covariate 'h': `of` is 'BinanceFunding', which is no source of candles. There are: Binanc",
    ),
    "an option of the source to resample": (
        "{h: {interval: 4h, of: {class_path: Simulator, init_args: {sed: 2}}}}",
        2,
        "covariate 'h': Simulator has no option 'sed': did you mean 'seed'?",
    ),
    "a value of the source to resample": (
        "{h: {interval: 4h, of: {class_path: Simulator, init_args: {no_trade: 3}}}}",
        1,
        "covariate 'h': no_trade 3.0: give a share, 0 <= no_trade < 1",
    ),
    "another covariate that there is not": (
        "{h: {interval: 4h, of: et}, eth: Simulator}",
        1,
        "covariate 'h' is resampled of 'et', and there is no such covariate: there are eth",
    ),
    "bars that cannot be joined": (
        "{h: {interval: 30m}}",
        1,
        "covariate 'h': bars of 30m cannot be joined from those of the candles, which are of 1h",
    ),
    # the mapping
    "a list in place of a mapping": (
        "[{class_path: Simulator}]",
        2,
        "covariates is [{'class_path': 'Simulator'}]: give a mapping from names to sources, such ",
    ),
    "a name in place of a mapping": (
        "eth",
        2,
        "covariates is 'eth': give a mapping from names to sources, such as {eth: {class_path: C",
    ),
    "a name with a dash": (
        "{e-h: Simulator}",
        1,
        "covariate 'e-h': begin its name with a letter and go on with letters, digits and under",
    ),
    "a number for a name": ("{1: Simulator}", 1, "covariate '1': begin its name with a letter"),
    "the name of a column": (
        "{close: Simulator}",
        1,
        "covariate 'close': a column of candles or records is called that: give it another name",
    ),
}


@pytest.mark.parametrize("given", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_covariates_is_one_line_that_says_which_and_what_would_be_right(
    given: tuple[str, int, str], capsys: pytest.CaptureFixture[str]
) -> None:
    value, status, message = given
    Path("bad.yaml").write_text(f"{BARE}    covariates: {value}\n", encoding="utf-8")
    typed = ["prepare", "--config", "bare.yaml", "--data.covariates", value]
    for arguments in (["prepare", "--config", "bad.yaml"], typed):
        found = answer(arguments, capsys)
        assert found[0] == status
        assert found[1].startswith(message)


@pytest.mark.parametrize(
    ("typed", "status", "message"),
    [
        ("--data.covariates.eth Simulatr", 2, "covariate 'eth' is 'Simulatr': did you mean 'Sim"),
        ("--data.covariates.eth.sed 5", 2, "covariate 'eth': Simulator has no option 'sed': did"),
        ("--data.covariates.eth.init_args.seed x", 2, "covariate 'eth': seed is 'x': it must be "),
        ("--data.covariates.four.interval 7q", 1, "covariate 'four': interval '7q' is not unders"),
        ("--data.covariate.eth.seed 5", 2, "BTCDataModule has no option 'covariate': did you mean"),
        (
            "--data.max_age 8h",
            2,
            "max_age is '8h': give a mapping from names of covariates to ages",
        ),
        (
            "--data.max_age [8h]",
            2,
            "max_age is \"['8h']\": give a mapping from names of covariates",
        ),
        (
            "--data.max_age.funding 8",
            1,
            "max_age of 'funding': interval '8' is not understood: wri",
        ),
        ("--data.max_age {funding:8}", 2, "max_age is '{funding:8}': give a mapping"),
        ("--data.max_age.fundin 8h", 1, "max_age names 'fundin', and there is no such covariate: "),
        ("--data.features [fundin.rate]", 1, "feature 'fundin.rate': there is no series 'fundin':"),
        ("--data.features [funding.rat]", 1, "feature 'funding.rat': there is no feature or colum"),
    ],
)
def test_a_slip_in_an_option_of_a_covariate_is_one_line(
    typed: str, status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("prepare", "fit"):
        found = answer([command, "--config", "good.yaml", *typed.split(" ")], capsys)
        assert found[0] == status
        assert found[1].startswith(message)


def test_an_age_without_a_unit_in_a_file_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.yaml").write_text(TEXT.replace("funding: 9h", "funding: 9"), encoding="utf-8")
    assert answer(["prepare", "--config", "bad.yaml"], capsys) == (
        2,
        "max_age of 'funding' is '9': write a number and a unit, such as 8h, or null for never "
        "too old",
    )


# --- what may be typed ----------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["fit", "prepare"])
def test_covariates_are_added_and_changed_one_by_one(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = read_config(
        capsys,
        command,
        "--config",
        "good.yaml",
        "--data.covariates.day",
        "Resampled",
        "--data.covariates.day.interval",
        "1d",
        "--data.covariates.day.of",
        "Simulator",
        "--data.covariates.day.of.seed",
        "4",
        "--data.covariates.four.interval",
        "2h",
        "--data.covariates.eth.seed",
        "3",
        "--data.max_age.eth",
        "5h",
        "--data.features+=day.close",
    )
    assert list(found["covariates"]) == ["four", "eth", "funding", "day"]
    assert found["covariates"]["four"]["interval"] == "2h"
    assert found["covariates"]["eth"]["init_args"]["seed"] == 3
    assert found["covariates"]["eth"]["init_args"]["coin"] == "ETH"
    assert found["covariates"]["day"]["of"]["init_args"]["seed"] == 4
    assert found["max_age"] == {"funding": "9h", "eth": "5h"}
    assert found["features"][-1] == "day.close"


def test_what_is_printed_as_a_config_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["prepare", "--config", "good.yaml", "--print_config"])
    Path("printed.yaml").write_text(capsys.readouterr().out, encoding="utf-8")
    again = read_config(capsys, "prepare", "--config", "printed.yaml")
    assert again == read_config(capsys, "prepare", "--config", "good.yaml")


def made_by(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Data:
    """The datamodule that a command makes."""
    made: list[Data] = []

    def keep(dm: Data) -> None:
        made.append(dm)

    monkeypatch.setattr(Data, "prepare_data", keep)
    monkeypatch.setattr(Data, "setup", lambda _: None)
    assert main(["prepare", *arguments]) == 0
    return made[0]


def test_null_takes_something_out(monkeypatch: pytest.MonkeyPatch) -> None:
    dm = made_by(monkeypatch, "--config", "good.yaml", "--data.max_age.eth", "null")
    assert dm.max_age == {"four": 8 * 3600, "eth": None, "funding": 9 * 3600}
    dm = made_by(monkeypatch, "--config", "good.yaml", "--data.covariates.four.offset", "null")
    assert dm.covariates["four"] == Resampled("4h")
    given = ["--data.covariates", "null", "--data.max_age", "null", "--data.features=[log_return]"]
    assert made_by(monkeypatch, "--config", "good.yaml", *given).covariates == {}


def test_a_class_may_be_named_short_or_left_out_where_it_has_an_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short = "{four: {interval: 4h}, eth: Simulator, day: {interval: 1d, of: eth}, x: {interval: 2h,"
    dm = made_by(
        monkeypatch,
        "--config",
        "bare.yaml",
        "--data.covariates",
        f"{short} of: Simulator}}}}",
        "--data.features=[four.close, eth.close, day.close, x.close]",
    )
    assert dm.covariates == {
        "four": Resampled("4h"),
        "eth": Simulator(),
        "day": Resampled("1d", of="eth"),
        "x": Resampled("2h", of=Simulator()),
    }


# --- every command --------------------------------------------------------------------------------


def test_every_command_knows_the_covariates(capsys: pytest.CaptureFixture[str]) -> None:
    def run(command: str, *arguments: str) -> str:
        capsys.readouterr()
        assert main([command, "--config", "good.yaml", *arguments]) == 0
        return capsys.readouterr().out

    run("prepare")
    data = Path("data/simulator").resolve()
    eth, funding = data / "ETH-SIM-2/1h/candles.h5", data / "BTC-SIM-2-funding/records.h5"
    told = run("info")
    assert (
        "four      4h bars, joined of the 1h bars of the candles\n"
        "          max_age 8h: known in 744 of 744 bars, 90 min old on average, 3 h at most\n"
        "          four.log_return has a value in 743 of 744 bars\n"
    ) in told
    assert f"eth       {eth}\n          simulator ETH-SIM-2, 1h bars\n" in told
    assert (
        "          max_age 2h: known in 744 of 744 bars, 0 s old on average, 0 s at most\n"
        "          eth.log_return has a value in 743 of 744 bars\n"
    ) in told
    assert (
        f"funding   {funding}\n          simulator BTC-SIM-2-funding, records of rate, interval"
    ) in told
    assert re.search(
        r"digest [0-9a-f]{16}, [\d,]+ bytes\n.* from simulator BTC-SIM-2-funding", told
    )
    assert run("verify").splitlines() == [
        f"{data / 'BTC-SIM-2/1h'}: nothing is wrong",
        f"{eth}, of covariate eth: nothing is wrong",
        f"{funding}, of covariate funding: nothing is wrong",
    ]
    run("export")
    run("export", "--series", "eth", "--output", "eth.csv")
    run("export", "--series", "four", "--output", "four.parquet")
    run("export", "--series", "funding", "--output", "funding.csv")
    assert pl.read_parquet("candles.parquet").height == 744
    assert pl.read_csv("eth.csv")["close"].to_list() == read_candles(eth)["close"].tolist()
    four = pl.read_parquet("four.parquet")
    bars = read_candles(data / "BTC-SIM-2/1h/candles.h5").resample("4h")[0]
    assert four["close"].to_list() == bars["close"].tolist()
    records = pl.read_csv("funding.csv")
    assert records.columns == ["time", "known_at", "rate", "interval_hours"]
    assert records["time"][-1] == "2020-01-31T16:00:00Z"


def test_records_that_follow_no_grid_are_exported_from_the_first_on() -> None:
    """The newest before the start may be of long ago, and stands in the first row."""
    Path("gdp.csv").write_text("quarter,growth\n2019Q2,2.0\n2019Q3,2.1\n2020Q4,9.9\n")
    gdp = "{class_path: Records, init_args: {path: gdp.csv, time: quarter, delay: 30d}}"
    text = BARE.replace("[log_return]", "[log_return, gdp.growth]")
    Path("gdp.yaml").write_text(f"{text}    covariates: {{gdp: {gdp}}}\n")
    assert main(["prepare", "--config", "gdp.yaml"]) == 0
    arguments = ["--config", "gdp.yaml", "--series", "gdp", "--output", "told.csv"]
    assert main(["export", *arguments]) == 0
    assert pl.read_csv("told.csv")["growth"].to_list() == [2.0, 2.1]


def test_info_before_all_is_there_tells_what_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "--config", "good.yaml"]) == 0
    records = next(Path("data").rglob("records.h5")).resolve()
    records.unlink()
    capsys.readouterr()
    assert main(["info", "--config", "good.yaml"]) == 1
    said = capsys.readouterr()
    assert f"funding   {records}\n          not stored yet\n" in said.out
    assert "eth.log_return has a value" not in said.out
    assert f"error: covariate 'funding': {records} does not exist: run `btc-dat" in said.err


def test_verify_names_the_covariate_whose_file_is_damaged(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["prepare", "--config", "good.yaml"]) == 0
    for name, path, column in (
        ("eth", "ETH-SIM-2/1h/candles.h5", "candles/close"),
        ("funding", "BTC-SIM-2-funding/records.h5", "records/rate"),
    ):
        file = Path("data/simulator").resolve() / path
        whole = bytearray(file.read_bytes())
        with h5py.File(file) as opened:
            at = opened[column].id.get_chunk_info(0).byte_offset
        whole[at + 20] ^= 1
        file.write_bytes(whole)
        status, said = answer(["verify", "--config", "good.yaml"], capsys)
        assert status == 1
        assert said.startswith(f"covariate {name!r}: {file} is damaged")
        whole[at + 20] ^= 1
        file.write_bytes(whole)


def test_a_covariate_to_export_that_there_is_not_is_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert answer(["export", "--config", "good.yaml", "--series", "fundin"], capsys) == (
        1,
        "--series fundin: there is no such covariate: did you mean 'funding'? There are: four, "
        "eth, funding",
    )
    assert answer(["export", "--config", "bare.yaml", "--series", "eth"], capsys) == (
        1,
        "--series eth: there is no such covariate, and no other",
    )


# --- the shipped config ---------------------------------------------------------------------------

START, VAL, TEST, END = "2022-01-03", "2022-01-08", "2022-01-10", "2022-01-12"
HELD: Span = (parse_instant("2021-12-20"), parse_instant("2022-02-01"))


def hold(source: Simulator) -> Candles:
    return concatenate([block.candles for block in source.blocks(300, HELD)])


def hold_records(source: RecordSource) -> RecordSet:
    return join_records([block.records for block in source.blocks(HELD)])


def hold_funding() -> RecordSet:
    found = hold_records(SimulatedFunding(seed=2))
    columns = {name: found[name] for name in found.columns}
    return RecordSet({**columns, "calc_time": 1000.0 * found.time})


def hold_metrics() -> RecordSet:
    found = hold_records(SimulatedOpenInterest(seed=2, missing=0.01))
    columns = {name: found[name] for name in found.columns}
    rng = np.random.default_rng(0)
    names = (
        "count_toptrader_long_short_ratio",
        "sum_toptrader_long_short_ratio",
        "count_long_short_ratio",
        "sum_taker_long_short_vol_ratio",
    )
    ratios = {name: np.round(np.exp(rng.normal(0, 0.1, len(found))), 4) for name in names}
    values = ("time", "known_at", "sum_open_interest", "sum_open_interest_value")
    return RecordSet({name: columns[name] for name in values} | ratios)


@pytest.fixture(scope="module")
def archive() -> Iterator[Exchange]:
    """The parts of Binance's archive that the config asks for, six weeks of each."""
    answers = partial(BinanceArchiveAnswers, market="um")
    with Exchange(
        first_found(
            answers(hold(Simulator(seed=2))),
            answers(hold(Simulator(seed=2, coin="ETH")), product="ETHUSDT"),
            answers(hold_funding(), type="fundingRate"),
            answers(hold_metrics(), type="metrics"),
            answers(
                hold_records(SimulatedPremium(seed=2, interval="5m")),
                type="premiumIndexKlines",
                interval=300,
            ),
        )
    ) as server:
        yield server


def test_the_config_with_covariates_goes_the_whole_way(
    archive: Exchange, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (CONFIGS / "covariates.yaml").read_text(encoding="utf-8")
    for old, new in (
        ('start: "2022-01-01"', f'start: "{START}"'),
        ('end: "2024-01-01"', f'end: "{END}"'),
        ('val: "2023-07-01"', f'val: "{VAL}"'),
        ('test: "2023-10-01"', f'test: "{TEST}"'),
        ("batch_size: 1024", "batch_size: 64"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    address = rf"\1base_url: {archive.url}\n\1requests_per_second: 10000\n"
    text, count = re.subn(r"( +)(?=product: )", address + r"\1", text)
    assert count == 5
    Path("covariates.yaml").write_text(text, encoding="utf-8")

    def run(command: str, *arguments: str) -> str:
        capsys.readouterr()
        assert main([command, "--config", "covariates.yaml", *arguments]) == 0
        return capsys.readouterr().out

    assert main(["prepare", "--config", "covariates.yaml"]) == 0
    told = capsys.readouterr().err
    for name in ("candles", "eth", "funding", "oi", "premium"):
        assert re.search(rf"^{name}: +/.*\.h5 \([\d,]+ (bars|records), ", told, re.M), name
    asked = [request.path for request in archive.requests]
    assert len(asked) == len(set(asked))
    # Each file with its checksum: of funding December and January, of open interest each day.
    assert sum("/fundingRate/" in path for path in asked) == 2 * 2
    assert sum("/metrics/" in path for path in asked) == 2 * 10
    run(
        "fit",
        "--trainer.accelerator=cpu",
        "--trainer.limit_train_batches=2",
        "--trainer.limit_val_batches=1",
        "--trainer.logger=false",
        "--trainer.enable_checkpointing=false",
        "--trainer.enable_progress_bar=false",
    )
    assert [request.path for request in archive.requests] == asked  # nothing was missing any more
    assert "FAIL" not in run("audit", "--ask_source=false")
    told = run("info")
    assert "max_age 9h: known in 2,592 of 2,592 bars" in told
    assert "since_funding has a value in 2,304 of 2,592 bars" in told
