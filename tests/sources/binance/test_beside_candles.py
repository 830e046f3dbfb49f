"""From the archive's files to the rows that are trained on: which value enters which bar.

Three days of five minutes around 2026-06-25, when labels of open interest began to mean something
else, and the interval of funding becomes four hours. Every number stands in a file as it is stated
here.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from btc_datamodule import (
    BinanceArchive,
    BinanceFunding,
    BinanceKlines,
    BinanceMetrics,
    BTCDataModule,
    ConfigError,
    RecordError,
    Resampled,
    SourceError,
)
from btc_datamodule.candles.records import RecordSet, make_empty
from btc_datamodule.candles.series import PRICES, Candles
from btc_datamodule.candles.timeline import Interval, parse_instant
from btc_datamodule.covariates import parse_covariates
from btc_datamodule.testing.exchange import (
    FUNDING_HEADER,
    METRICS_HEADER,
    BinanceArchiveAnswers,
    Exchange,
    first_found,
    zipped,
)
from tests.factories import HOUR
from tests.sources.binance.helpers import QUICK

FIVE = 300
DAY = 86_400
START, CHANGE, END = (f"2026-06-{day}T00:00" for day in (24, 25, 27))
FEATURES = [
    "log_return",
    "hour.close",
    "hour_return = hour.close.log().diff()",
    "oi.sum_open_interest",
    "oi.count_long_short_ratio",
    "oi_change = oi.sum_open_interest.diff()",
    "oi_age = age(oi)",
    "funding.rate",
    "funding.interval_hours",
    "funding_age = age(funding)",
    "rate_before = funding.rate.shift(1)",
    "premium.close",
    "premium_hour.close",
    "basis = mark.close - close",
]


def number(instant: str | int) -> int:
    """How many five minutes an instant lies after the start."""
    return (parse_instant(instant) - parse_instant(START)) // FIVE


def serve_files(type: str, texts: dict[str, str]) -> BinanceArchiveAnswers:
    """An archive with these lines by the date that is in the file's name."""
    answers = BinanceArchiveAnswers(make_empty(()), market="um", type=type)
    for date, text in texts.items():
        name = f"BTCUSDT-{type}-{date}"
        answers.files[f"{name}.zip"] = zipped(f"{name}.csv", text.encode())
    return answers


def metrics_line(label: int, interest: float, ratio: float) -> str:
    text = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(label))
    return f"{text},BTCUSDT,{interest},1,1,1,{ratio},1\n"


def serve_metrics() -> BinanceArchiveAnswers:
    """In the five minutes n the open interest is 1000 + n, a ratio 500 + n, whatever the label.

    Of 2026-06-25 the rows of 01:00 to 01:15 are not there, and at 02:00 the open interest is 0.
    """
    texts: dict[str, str] = {}
    for date in ("2026-06-23", "2026-06-24", "2026-06-25", "2026-06-26"):
        lines = [METRICS_HEADER]
        for begin in range(parse_instant(date), parse_instant(date) + DAY, FIVE):
            n = number(begin)
            if number("2026-06-25T01:00") <= n < number("2026-06-25T01:15"):
                continue
            label = begin + FIVE if date < "2026-06-25" else begin  # as the archive writes it
            interest = 0 if n == number("2026-06-25T02:00") else 1000 + n
            lines.append(metrics_line(label, interest, 500 + n))
        texts[date] = "".join(lines)
    assert "2026-06-25 00:00:00,BTCUSDT,1287," in texts["2026-06-24"]
    assert "2026-06-25 00:00:00,BTCUSDT,1288," in texts["2026-06-25"]
    return serve_files("metrics", texts)


def serve_funding() -> BinanceArchiveAnswers:
    """Every eight hours to 2026-06-25T00:00, then every four; a few milliseconds late."""
    times = [
        *range(parse_instant("2026-06-01"), parse_instant(CHANGE), 8 * HOUR),
        *range(parse_instant(CHANGE), parse_instant("2026-07-01"), 4 * HOUR),
    ]
    lines = [FUNDING_HEADER]
    for at in times:
        hours = 8 if at <= parse_instant(CHANGE) else 4
        lines.append(f"{at}003,{hours},{(at - parse_instant(START)) / HOUR / 1e4:.4f}\n")
    return serve_files("fundingRate", {"2026-06": "".join(lines)})


def serve_bars(type: str, interval: int, base: float, step: float) -> BinanceArchiveAnswers:
    """Bars whose prices are all ``base``, and ``step`` more with each five minutes."""
    begin = np.arange(parse_instant(START) - DAY, parse_instant(END), interval)
    price = base + step * ((begin - parse_instant(START)) // FIVE)
    prices = dict.fromkeys(PRICES, price)
    held = RecordSet({"time": begin, "known_at": begin + interval, **prices})
    return BinanceArchiveAnswers(held, market="um", type=type, interval=interval)


def serve_candles() -> BinanceArchiveAnswers:
    """Candles whose prices are all 60000 + n."""
    begin = np.arange(parse_instant(START), parse_instant(END), FIVE)
    price = 60_000.0 + np.arange(len(begin))
    prices = dict.fromkeys((*PRICES, "volume", "trades", "quote_volume", "taker_buy_volume"), price)
    return BinanceArchiveAnswers(Candles(FIVE, {"open_time": begin, **prices}), market="um")


@pytest.fixture(scope="module")
def dm(tmp_path_factory: pytest.TempPathFactory) -> BTCDataModule:
    archive = first_found(
        serve_candles(),
        serve_funding(),
        serve_metrics(),
        serve_bars("premiumIndexKlines", FIVE, -0.0005, 1e-6),
        serve_bars("premiumIndexKlines", HOUR, -0.0005, 1e-6),
        serve_bars("markPriceKlines", FIVE, 60_000.25, 1.0),
    )
    with Exchange(archive) as exchange:
        at = {**QUICK, "base_url": exchange.url}
        made = BTCDataModule(
            source=BinanceArchive("BTCUSDT", "um", **at),
            interval="5m",
            start=START,
            end=END,
            covariates={
                "hour": Resampled("1h"),
                "oi": BinanceMetrics(**at),
                "funding": BinanceFunding(**at),
                "premium": BinanceKlines(kind="premium", interval="5m", **at),
                "premium_hour": BinanceKlines(kind="premium", interval="1h", **at),
                "mark": BinanceKlines(kind="mark", interval="5m", **at),
            },
            features=FEATURES,
            mask="feature",
            min_observed=0.5,
            scaling="none",
            lookback=12,
            horizon=3,
            batch_size=32,
            data_dir=tmp_path_factory.mktemp("archive"),
        )
        made.prepare_data()
        asked = [request.path for request in exchange.requests]
        made.prepare_data()
        assert [request.path for request in exchange.requests] == asked  # each file once
        zips = [path for path in asked if path.endswith(".zip")]
        assert len(zips) == len({*zips})
    made.setup()
    return made


def look(dm: BTCDataModule, feature: str, opens: str) -> float:
    """What the bar that opens then says, rounded as float32 is; NaN where it is not observed."""
    row, column = dm.table.find_row(parse_instant(opens)), dm.table.features.index(feature)
    seen = dm.table.observed[row, column]
    return float(dm.table.x[row, column]) if seen else np.nan


def check(dm: BTCDataModule, feature: str, wanted: dict[str, float]) -> None:
    found = {opens: look(dm, feature, opens) for opens in wanted}
    assert found == pytest.approx(wanted, rel=1e-6, abs=1e-9, nan_ok=True)


def test_open_interest_enters_the_bar_at_whose_close_it_is_known(dm: BTCDataModule) -> None:
    """Each bar has that of its own five minutes, before the change of labels and after it."""
    check(
        dm,
        "oi.sum_open_interest",
        {
            "2026-06-24T00:05": 1001.0,  # labelled 00:10 of the 24th
            "2026-06-24T12:00": 1144.0,
            "2026-06-24T23:50": 1286.0,  # 23:55
            "2026-06-24T23:55": 1287.0,  # 00:00 of the 25th, in the file of the 24th
            "2026-06-25T00:00": 1288.0,  # 00:00 of the 25th, in the file of the 25th
            "2026-06-25T00:05": 1289.0,  # 00:05
            "2026-06-26T23:55": 1863.0,  # 23:55
        },
    )
    check(dm, "oi_change", {"2026-06-24T23:55": 1.0, "2026-06-25T00:00": 1.0})


def test_a_gap_is_bridged_for_two_bars_and_age_says_so(dm: BTCDataModule) -> None:
    wanted = {
        "2026-06-25T00:55": (1299.0, 0.0),
        "2026-06-25T01:00": (1299.0, 1.0),
        "2026-06-25T01:05": (1299.0, 2.0),
        "2026-06-25T01:10": (np.nan, np.nan),  # older than twice five minutes
        "2026-06-25T01:15": (1303.0, 0.0),
    }
    check(dm, "oi.sum_open_interest", {opens: value for opens, (value, _) in wanted.items()})
    check(dm, "oi_age", {opens: age for opens, (_, age) in wanted.items()})
    # A change needs two records that follow each other.
    check(dm, "oi_change", {"2026-06-25T01:05": 1.0, "2026-06-25T01:15": np.nan})
    check(dm, "oi_change", {"2026-06-25T01:20": 1.0})


def test_an_open_interest_of_zero_is_none_and_the_ratios_beside_it_are_there(
    dm: BTCDataModule,
) -> None:
    check(
        dm,
        "oi.sum_open_interest",
        {"2026-06-25T01:55": 1311.0, "2026-06-25T02:00": 1311.0, "2026-06-25T02:05": 1313.0},
    )
    check(dm, "oi.count_long_short_ratio", {"2026-06-25T02:00": 812.0})
    check(dm, "oi_age", {"2026-06-25T02:00": 0.0})


def test_a_rate_enters_the_bar_that_closes_when_it_is_paid(dm: BTCDataModule) -> None:
    check(
        dm,
        "funding.rate",
        {
            "2026-06-24T00:05": 0.0,
            "2026-06-24T07:50": 0.0,
            "2026-06-24T07:55": 0.0008,  # closes at 08:00
            "2026-06-24T08:00": 0.0008,
            "2026-06-24T23:50": 0.0016,
            "2026-06-24T23:55": 0.0024,
            "2026-06-25T03:50": 0.0024,
            "2026-06-25T03:55": 0.0028,  # four hours later
            "2026-06-25T07:55": 0.0032,
        },
    )
    check(
        dm,
        "funding.interval_hours",
        {"2026-06-24T23:55": 8.0, "2026-06-25T03:50": 8.0, "2026-06-25T03:55": 4.0},
    )
    check(dm, "rate_before", {"2026-06-25T03:50": 0.0016, "2026-06-25T03:55": 0.0024})
    check(
        dm,
        "funding_age",
        {
            "2026-06-24T00:05": 2.0,
            "2026-06-24T07:50": 95.0,
            "2026-06-24T07:55": 0.0,
            "2026-06-25T03:50": 47.0,
            "2026-06-25T03:55": 0.0,
        },
    )


def test_a_premium_below_zero_enters_its_own_bar_and_an_hour_of_it_when_it_is_over(
    dm: BTCDataModule,
) -> None:
    check(
        dm,
        "premium.close",
        {
            "2026-06-24T00:05": -0.000499,
            "2026-06-24T07:55": -0.000405,
            "2026-06-26T00:00": 0.000076,
        },
    )
    check(
        dm,
        "premium_hour.close",
        {
            "2026-06-24T00:05": -0.000512,  # the hour from 23:00 on
            "2026-06-24T07:50": -0.000428,  # from 06:00
            "2026-06-24T07:55": -0.000416,  # from 07:00
            "2026-06-24T08:50": -0.000416,
            "2026-06-24T08:55": -0.000404,
        },
    )
    check(dm, "basis", {"2026-06-24T00:05": 0.25, "2026-06-25T00:00": 0.25})


def test_an_hour_of_the_candles_enters_the_bar_with_which_it_closes(dm: BTCDataModule) -> None:
    check(
        dm,
        "hour.close",
        {
            "2026-06-24T00:50": np.nan,
            "2026-06-24T00:55": 60_011.0,
            "2026-06-24T01:50": 60_011.0,
            "2026-06-24T01:55": 60_023.0,
        },
    )
    before = {"2026-06-24T01:50": np.nan, "2026-06-24T01:55": np.log(60_023 / 60_011)}
    check(dm, "hour_return", before)


def test_windows_have_what_the_rows_say(dm: BTCDataModule) -> None:
    batch = next(iter(dm.val_dataloader()))
    assert batch.x.shape[1:] == batch.observed.shape[1:] == (12, len(FEATURES))
    row = dm.table.find_row(int(batch.origin_time[0]))
    seen = dm.table.observed[row - 11 : row + 1] != 0
    np.testing.assert_array_equal(batch.observed[0], seen)
    np.testing.assert_array_equal(batch.x[0], np.where(seen, dm.table.x[row - 11 : row + 1], 0))


# --- what is wrong is told with the name of the covariate -----------------------------------------


def prepare(folder: Path, exchange: Exchange, source: Any) -> None:
    made = BTCDataModule(
        source=BinanceArchive("BTCUSDT", "um", base_url=exchange.url, **QUICK),
        interval="5m",
        start=START,
        end=CHANGE,
        covariates={"other": source},
        features=["log_return", "late = age(other)"],
        data_dir=folder,
    )
    made.prepare_data()


def test_of_a_product_that_there_is_not_the_argument_is_named(tmp_path: Path) -> None:
    with Exchange(first_found(serve_candles(), serve_funding())) as exchange:
        source = BinanceFunding("BTCUSDC", base_url=exchange.url, **QUICK)
        with pytest.raises(
            SourceError,
            match=r"^covariate 'other': http\S* has no fundingRate files of BTCUSDC \(um\), .*: "
            "check `covariates.other.product`, `covariates.other.market` and `covariates.other",
        ):
            prepare(tmp_path, exchange, source)


@pytest.mark.parametrize("resampled", [False, True])
def test_candles_that_cannot_be_read_are_one_line(tmp_path: Path, resampled: bool) -> None:
    eth = replace(serve_candles(), product="ETHUSDT", files={})
    name = "ETHUSDT-5m-2026-06-24.zip"
    eth.files[name] = zipped("a.csv", eth.csv(name))[:-30]
    with Exchange(first_found(serve_candles(), eth)) as exchange:
        source: Any = BinanceArchive("ETHUSDT", "um", base_url=exchange.url, **QUICK)
        told = rf"^covariate 'other': http.*/{name}: the zip is damaged or cut"
        with pytest.raises(SourceError, match=told):
            prepare(tmp_path, exchange, Resampled("5m", of=source) if resampled else source)


def test_of_bars_that_cannot_be_the_argument_is_named(tmp_path: Path) -> None:
    bad = serve_bars("premiumIndexKlines", FIVE, -0.0005, 1e-6)
    name = "BTCUSDT-5m-2026-06-24.zip"
    rows = bad.csv(name).decode().splitlines(keepends=True)
    rows[7] = rows[7].replace("-0.000494", "-0.5", 1).replace("-0.000494", "-0.9", 1)
    bad.files[name] = zipped("a.csv", "".join(rows).encode())
    with Exchange(first_found(serve_candles(), bad)) as exchange:
        source = BinanceKlines(kind="premium", interval="5m", base_url=exchange.url, **QUICK)
        with pytest.raises(
            RecordError,
            match=rf"^covariate 'other': binance {name}, row 8 .*: high is below open, low or close"
            ": set `covariates.other.drop_invalid: true` to leave such rows out$",
        ):
            prepare(tmp_path, exchange, source)


@pytest.mark.parametrize(
    ("given", "argument"),
    [
        (BinanceFunding(), "covariates.x"),
        (Resampled("1h"), "covariates.x"),
        (Resampled("1h", of="y"), "covariates.y"),
        (Resampled("1h", of=BinanceArchive()), "covariates.x.of"),
    ],
)
def test_a_covariate_knows_which_argument_its_source_is(given: Any, argument: str) -> None:
    beside = {"x": given, "y": BinanceArchive()}
    found, _ = parse_covariates(beside, None, interval=Interval(FIVE), max_fill=0)
    assert found.argument == argument


def test_a_covariate_of_which_no_file_could_be_used_is_told_by_what_is_stored(
    tmp_path: Path,
) -> None:
    metrics = serve_metrics()
    for name in [*metrics.files]:
        metrics.files[f"{name}.CHECKSUM"] = b"<html></html>"
    with Exchange(first_found(serve_candles(), metrics)) as exchange:
        at = {**QUICK, "base_url": exchange.url, "attempts": 1}
        made = BTCDataModule(
            source=BinanceArchive("BTCUSDT", "um", **at),
            interval="5m",
            start=START,
            end=CHANGE,
            covariates={"oi": BinanceMetrics(**at)},
            features=["log_return", "oi.sum_open_interest"],
            data_dir=tmp_path,
        )
        made.prepare_data()
    told = r"^oi.sum_open_interest has no value .*: it is made of 'oi', of which nothing is stored"
    with pytest.raises(ConfigError, match=told):
        made.setup()
