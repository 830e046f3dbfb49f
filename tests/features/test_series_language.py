"""Features of series as text: what a line means, whose rows it has, and what it refuses."""

import pickle
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btc_datamodule import ConfigError, LookAheadError
from btc_datamodule.candles.timeline import Interval
from btc_datamodule.features.beside import Beside
from btc_datamodule.features.builtin import FEATURES, resolve
from btc_datamodule.features.feature import Feature
from btc_datamodule.features.language import Expression
from tests.factories import HOUR, T0
from tests.features.series import (
    BESIDE,
    NAN,
    frame_beside,
    frame_of,
    of_candles,
    of_records,
    values_of,
)


def one(text: str | Feature, interval: int | None = HOUR) -> Feature:
    (found,) = resolve([text], BESIDE, interval)
    return found


# --- a feature, a column ------------------------------------------------------------------------


@pytest.mark.parametrize("name", FEATURES)
def test_a_built_in_feature_of_a_series_is_that_of_its_candles(name: str) -> None:
    found, own = one(f"eth.{name}"), FEATURES[name]
    assert (found.name, found.series, found.beside) == (f"eth.{name}", "eth", ())
    assert (found.lookback, found.needs) == (own.lookback, own.needs)
    assert found.compute is own.compute
    assert found.text == f"eth.{name}"
    assert one(found.text) == found
    assert found.definition() == f"eth.{own.definition()}:eth"
    assert found.list_columns("eth") is None


def test_a_column_of_a_series_is_a_feature_as_it_is() -> None:
    rate = one(" funding.rate ")
    assert (rate.name, rate.text, rate.series) == ("funding.rate", "funding.rate", "funding")
    assert (rate.lookback, rate.needs, rate.beside) == (1, (), ())
    assert one(rate.text) == rate
    assert one(rate.text).definition() == rate.definition()
    records = pl.DataFrame({"time": [T0, T0 + 5], "known_at": [T0, T0 + 9], "rate": [0.5, None]})
    assert values_of(rate, records) == [0.5, None]
    assert rate.list_columns("funding") == ("rate",)
    assert rate.list_columns("") == rate.list_columns("eth") == ()


def test_a_column_of_candles_needs_what_not_all_candles_have() -> None:
    assert one("eth.close").needs == ()
    assert one("eth.trades").needs == ("trades",)
    assert one("x = eth.trades / eth.volume").needs == ("volume", "trades")
    beside = {"own": of_records("own", None, "volume")}
    assert resolve(["own.volume"], beside)[0].needs == ()


def test_features_of_several_series_stand_beside_each_other() -> None:
    texts = ["log_return", "eth.log_return", "day.log_return", "funding.rate", "x = eth.close"]
    assert [each.text for each in resolve(texts, BESIDE, HOUR)] == texts
    with pytest.raises(ConfigError, match=r"^features names eth.close more than once$"):
        resolve(["eth.close", "eth.close"], BESIDE, HOUR)


# --- whose rows ---------------------------------------------------------------------------------

CLOCKS: dict[str, tuple[str, tuple[str, ...], int]] = {
    # right-hand side: the clock, the series beside it, the lookback
    "oi.sum_open_interest.log().diff()": ("oi", (), 2),
    "oi.ratio - oi.sum_open_interest.rolling_mean(12)": ("oi", (), 12),
    "funding.rate.rolling_mean(3)": ("funding", (), 3),
    "day.close / day.open": ("day", (), 1),
    "(perp.close / close).log()": ("", ("perp",), 1),
    "(close / perp.close).log()": ("", ("perp",), 1),
    "close + perp.close + eth.close.shift(2) + perp.open": ("", ("perp", "eth"), 3),
    "close / hourly.value": ("", ("hourly",), 1),
    "perp.close / eth.close": ("perp", ("eth",), 1),
    "eth.close / perp.close.shift(3)": ("eth", ("perp",), 4),
    "day.close / sol.close": ("day", ("sol",), 1),
    "oi.ratio * premium.close": ("oi", ("premium",), 1),
    "max(eth.close, perp.close, hourly.value)": ("eth", ("perp", "hourly"), 1),
    "perp.close.rolling_corr(eth.close, 24)": ("perp", ("eth",), 24),
    "perp.close.rolling_corr(bars=24, other=eth.close)": ("perp", ("eth",), 24),
    "eth.close.log().diff().rolling_cov(close.log().diff(), 24)": ("", ("eth",), 25),
    "age(funding) / 96": ("", ("funding",), 1),
    "age(funding).diff(3)": ("", ("funding",), 4),
    "age(funding) - age(day)": ("", ("funding", "day"), 1),
    "age(shifted) * eth.close": ("", ("shifted", "eth"), 1),
    "age(eth) * eth.close": ("", ("eth",), 1),
    "close * (age(oi) == 0)": ("", ("oi",), 1),
}


@pytest.mark.parametrize("right", CLOCKS)
def test_the_clock_follows_from_what_is_named(right: str) -> None:
    found, (clock, beside, lookback) = one(f"x = {right}"), CLOCKS[right]
    assert (found.series, found.beside, found.lookback) == (clock, beside, lookback)
    assert isinstance(found.compute, Expression)
    assert (found.compute.clock, found.compute.beside) == (clock, beside)
    assert one(found.text) == found
    assert one(found.text).definition() == found.definition()
    assert pickle.loads(pickle.dumps(found)) == found


def test_a_feature_tells_which_columns_of_a_series_it_reads() -> None:
    found = one("x = close + eth.close * eth.open.diff() + age(funding) + eth.close")
    assert found.list_columns("") == ("close",)
    assert found.list_columns("eth") == ("close", "open")
    assert found.list_columns("funding") == ()
    assert found.list_columns("perp") == ()
    assert isinstance(found.compute, Expression)
    assert found.compute.columns == (("", "close"), ("eth", "close"), ("eth", "open"))


def test_the_lines_of_the_readme_are_in_the_language() -> None:
    page = Path(__file__).parents[2] / "README.md"
    about = page.read_text(encoding="utf-8").split("one that `covariates` names: ")[1]
    lines = re.findall(r'"(\w+\s=\s[^"]+)"', about.split("A function asks")[0])
    texts = [" ".join(line.split()) for line in lines]
    assert len(texts) == 3
    found = resolve([*texts, "eth.log_return", "funding.rate"], BESIDE, HOUR)
    assert [each.text for each in found[:3]] == texts
    assert [each.series for each in found] == ["oi", "", "", "eth", "funding"]


# --- what it computes ---------------------------------------------------------------------------


def test_on_its_own_clock_a_series_goes_from_record_to_record() -> None:
    records = pl.DataFrame(
        {"time": [0, 1, 2, 3], "known_at": [9, 9, 9, 9], "sum_open_interest": [1.0, 3.0, None, 4.0]}
    )
    assert values_of(one("x = oi.sum_open_interest.diff()"), records) == [None, 2.0, None, None]


def test_series_meet_where_each_is_known_at_the_close() -> None:
    bars = frame_of(6, close=[1, 2, 4, NAN, 5, 8])
    perp = frame_beside([0, 1, 0, 0, NAN, 0], close=[2, 2, 6, 7, NAN, NAN])
    assert values_of(one("x = perp.close / close"), bars, perp) == [2, None, 1.5, *[None] * 3]
    mean = one("x = (perp.close - close).rolling_mean(2)")
    bars, perp = frame_of(4, close=[1] * 4), frame_beside([0, 0, 1, 0], close=[2] * 4)
    assert values_of(mean, bars, perp) == [None, 1, None, None]


@pytest.mark.parametrize("age", [1e-9, -1e-9, 1.0, 1 / 3])
def test_what_is_not_known_at_the_very_close_does_not_meet(age: float) -> None:
    bars, perp = frame_of(2, close=[1, 1]), frame_beside([0, 0], close=[3, 3])
    late = perp.with_columns(age=pl.Series([0.0, age]))
    assert values_of(one("x = perp.close - close"), bars, late) == [2, None]


def test_series_meet_on_the_clock_of_the_first() -> None:
    perp = frame_of(3, close=[2, 4, 6])
    eth = frame_beside([0, 0, 2], close=[1, 2, 3])
    assert values_of(one("x = perp.close / eth.close"), perp, eth) == [2, 2, None]
    with pytest.raises(ConfigError, match=r"needs frames beside the first of eth: given 0"):
        one("x = perp.close / eth.close")(perp)


def test_the_age_of_a_series_is_in_bars_whatever_it_is_of() -> None:
    bars = frame_of(4)
    funding = frame_beside([NAN, 0, 1, 2.5], rate=[NAN, 1, 1, 1])
    assert values_of(one("x = age(funding) * 2"), bars, funding) == [None, 0, 2, 5]
    assert values_of(one("x = (age(funding) < 2) + 0"), bars, funding) == [None, 1, 1, 0]


def test_an_age_without_a_name_is_called_after_its_series() -> None:
    for text in ("age(funding)", " age( funding ) "):
        found = one(text)
        assert (found.name, found.text) == ("funding_age", "funding_age = age(funding)")
        assert found == one(found.text)
    with pytest.raises(ConfigError, match=r"'fundng_age', column 18: .*'fundng'") as caught:
        resolve(["age(fundng)"], BESIDE, HOUR)
    assert "did you mean 'funding'" in str(caught.value)
    with pytest.raises(ConfigError, match="features names funding_age more than once"):
        resolve(["age(funding)", "funding_age = age(eth)"], BESIDE, HOUR)
    with pytest.raises(ConfigError, match=r"give a list, \['age\(funding\)'\]$"):
        resolve("age(funding)", BESIDE, HOUR)


def test_an_age_and_a_column_of_one_series_meet_as_others_do() -> None:
    bars, eth = frame_of(3), frame_beside([0, 1, 0], close=[5, 6, 7])
    assert values_of(one("x = eth.close + age(eth)"), bars, eth) == [5, None, 7]


def test_the_beta_of_one_series_to_another() -> None:
    rng = np.random.default_rng(0)
    eth = rng.normal(size=60)
    bars = frame_of(60, close=(2 * eth + 1).tolist())
    beside = frame_beside([0] * 60, close=eth.tolist())
    text = "beta = close.rolling_cov(eth.close, 24) / eth.close.rolling_var(24)"
    found = one(text)(bars, beside)
    assert np.isnan(found[:23]).all()
    np.testing.assert_allclose(found[23:], 2, rtol=1e-12)


@given(st.lists(st.sampled_from([0, 0, 0, 1, 2.5, NAN]), min_size=1, max_size=40), st.data())
@settings(max_examples=100)
def test_a_meeting_has_the_same_bits_in_every_frame_that_holds_its_lookback(
    ages: list[float], data: st.DataObject
) -> None:
    rng, rows = np.random.default_rng(len(ages)), len(ages)
    bars = frame_of(rows, close=rng.lognormal(size=rows).tolist())
    eth = frame_beside(ages, close=rng.lognormal(size=rows).tolist())
    right = data.draw(
        st.sampled_from(
            [
                "close.log().diff().rolling_corr(eth.close.log().diff(), 4)",
                "(close / eth.close).rolling_std(3) + age(eth)",
                "close - eth.close.shift(2)",
            ]
        )
    )
    found = one(f"x = {right}")
    row = data.draw(st.integers(0, rows - 1))
    start = max(0, row - found.lookback + 1)
    alone = found(bars[start : row + 1], eth[start : row + 1])[-1:]
    assert alone.tobytes() == found(bars, eth)[row : row + 1].tobytes()


# --- what it refuses ----------------------------------------------------------------------------

CANDLE_COLUMNS = "open, high, low, close, volume, quote_volume, trades, taker_buy_volume"
NAMED = "eth, perp, day, shifted, sol, oi, premium, hourly, funding"

REFUSED: dict[str, str] = {
    # series and columns
    "x = close - ehth.close": "column 13: there is no series 'ehth': did you mean 'eth'? there are "
    + NAMED,
    "x = spot.clsoe": f"column 5: there is no series 'spot'; there are {NAMED}",
    "x = eth.clsoe.log()": "column 9: there is no column 'clsoe' of eth: did you mean 'close'? "
    f"there are {CANDLE_COLUMNS}",
    "x = 1 + funding.open": "column 17: there is no column 'open' of funding; there are rate, mark",
    "x = premium.age": "column 13: the age of a series is a function of it: age(premium)",
    "x = eth.open_time": "column 9: there is no column 'open_time' of eth",
    "x = eth.log_return": "column 9: there is no column 'log_return' of eth",
    "x = close * eth": "column 13: eth is a series: name a column of it, such as eth.open; there",
    "x = oi.log()": "column 5: oi is a series: name a column of it, such as oi.sum_open_interest; "
    "there are sum_open_interest, ratio",
    "x = oi.mean()": "column 8: oi is a series: name a column of it, such as",
    "x = oi.ratio()": "column 8: ratio is a column: write oi.ratio",
    "x = rate * 2": "column 5: there is no column 'rate' of the candles: did you mean "
    "'funding.rate'?",
    "x = clsoe": "column 5: there is no column 'clsoe': did you mean 'close'? there are "
    f"{CANDLE_COLUMNS}, and the columns of {NAMED}",
    # methods of columns of series
    "x = oi.ratio.lgo()": "column 14: there is no method 'lgo': did you mean 'log'?",
    "x = oi.ratio.log": "column 5: log is not called: write oi.ratio.log()",
    "x = oi.ratio.rolling_corr": "column 5: rolling_corr is not called: write "
    "oi.ratio.rolling_corr(open, 24)",
    "x = oi.ratio.close": "column 14: a column stands alone: write close",
    # two columns
    "x = close.rolling_corr()": "column 5: rolling_corr needs other: rolling_corr(other, bars)",
    "x = close.rolling_corr(24)": "column 24: other of rolling_corr must be made of columns",
    "x = close.rolling_cov(open)": "column 5: rolling_cov needs bars: rolling_cov(other, bars)",
    "x = close.rolling_cov(open, 1)": "column 29: bars of rolling_cov must be at least 2",
    "x = close.rolling_cov(open, 2, 3)": "column 32: one number too many: rolling_cov(other, bars)",
    "x = close.rolling_cov(open, low)": "column 29: bars of rolling_cov must be a number",
    "x = close.rolling_cov(eth.close, other=open, bars=4)": "column 46: rolling_cov has no option "
    "'bars' here: rolling_cov(other, bars)",
    "x = rolling_cov(close, open, 3)": "column 5: rolling_cov is a method: write "
    "close.rolling_cov(...)",
    # ages
    "x = age()": "column 5: age is of a series beside the candles: age(eth)",
    "x = age(close)": "column 5: age is of a series beside the candles: age(eth)",
    "x = age(eth.close)": "column 5: age is of a series beside the candles: age(eth)",
    "x = age(eth, oi)": "column 5: age is of a series beside the candles: age(eth)",
    "x = age(fundign)": "column 9: there is no series 'fundign': did you mean 'funding'? there",
    "x = aeg(funding)": "column 5: there is no function 'aeg': did you mean 'age'? there are min, "
    "max, age; the rest are methods",
    # who does not meet
    "x = close / day.close": "column 13: 'day' and the candles do not meet bar by bar: 'day' is in "
    "bars of 1d, the candles in bars of 1h. Make a feature of each",
    "x = close / shifted.close": "column 13: 'shifted' and the candles do not meet bar by bar: "
    "'shifted' is in bars of 1h+1m, the candles in bars of 1h. Make",
    "x = eth.close / shifted.close": "column 17: 'shifted' and 'eth' do not meet bar by bar: "
    "'shifted' is in bars of 1h+1m, 'eth' in bars of 1h. Make",
    "x = day.close / oi.ratio": "column 17: 'oi' and 'day' do not meet bar by bar: 'oi' is in bars "
    "of 5m, 'day' in bars of 1d",
    "x = eth.close + perp.close + oi.ratio.log()": "column 30: 'oi' and 'eth' do not meet",
    "x = close * funding.rate": "column 13: 'funding' and the candles do not meet bar by bar: "
    "'funding' has no interval, its rows are no bars. Make a feature of each",
    "x = funding.rate * eth.close": "column 20: 'eth' and 'funding' do not meet bar by bar: "
    "'funding' has no interval",
    "x = eth.close * funding.rate": "column 17: 'funding' and 'eth' do not meet bar by bar: "
    "'funding' has no interval",
    "x = age(funding) * funding.rate": "column 9: 'funding' and the candles do not meet bar by "
    "bar: 'funding' has no interval, its rows are no bars. Make a feature of each, which enters a "
    "row once it is known. age(funding) is counted in bars of the candles, so that all beside it "
    "is wanted on their rows; a Feature in Python with beside=('funding',) is given all of it",
    "x = age(eth) * day.close": "column 16: 'day' and the candles do not meet",
    "x = close.rolling_corr(day.close, 5)": "column 24: 'day' and the candles do not meet",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_not_in_the_language_is_an_error_that_says_where(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        one(text)
    assert str(caught.value).startswith(f"feature 'x', {REFUSED[text]}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("eth.log_retrun", "feature 'eth.log_retrun': there is no feature or column 'log_retrun' "
         "of eth: did you mean 'log_return'? there are log_return, log_open, "),
        ("eth.clsoe", "feature 'eth.clsoe': there is no feature or column 'clsoe' of eth: did you"),
        ("funding.log_return", "feature 'funding.log_return': log_return is made of candles, and "
         "funding is none: it has rate, mark_price"),
        ("funding.raet", "feature 'funding.raet': there is no feature or column 'raet' of funding: "
         "did you mean 'rate'? there are rate, mark_price"),
        ("ehth.log_return", "feature 'ehth.log_return': there is no series 'ehth': did you mean "
         f"'eth'? there are {NAMED}"),
        ("rate", "unknown feature 'rate': did you mean 'funding.rate'? known features: log_return"),
        ("eth", "unknown feature 'eth': it is a series: name a feature of it, such as "
         "'eth.log_return'; known features: "),
        ("funding", "unknown feature 'funding': it is a series: name a feature of it, such as "
         "'funding.rate'; "),
        ("eth.close.log()", "the expression 'eth.close.log()' has no name"),
        ("close.log", "the expression 'close.log' has no name"),
        ("funding.rate = close", "feature 'funding.rate = close': 'funding.rate' is no name"),
    ],
)  # fmt: skip
def test_what_names_no_feature_of_a_series_is_told(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        one(text)
    assert str(caught.value).startswith(problem)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("eth.close", "feature 'eth.close': there is no series 'eth': name one so in `covariates`, "
         "as {eth: ...}"),
        ("x = eth.rate", "feature 'x', column 5: there is no series 'eth': name one so in `covar"),
        ("x = close / eth.close", "feature 'x', column 17: a column stands alone: write close, or "
         "name a series 'eth' in `covariates`"),
        ("x = age(eth)", "feature 'x', column 9: there is no series 'eth': name one so in `cov"),
        ("x = close.log().open", "feature 'x', column 17: a column stands alone: write open"),
    ],
)  # fmt: skip
def test_without_covariates_it_is_said_where_they_are_given(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve([text])
    assert str(caught.value).startswith(problem)


def test_a_text_in_the_place_of_a_list_is_told_with_the_list() -> None:
    for text in ("eth.log_return", "x = eth.close"):
        with pytest.raises(ConfigError, match=rf"give a list, \['{text}'\]$"):
            resolve(text, BESIDE, HOUR)


def test_what_reads_later_bars_of_a_series_is_refused() -> None:
    for text in ("x = eth.close.shift(-1)", "x = close.rolling_corr(eth.close, 5, center=True)"):
        with pytest.raises(LookAheadError, match="it looks ahead"):
            one(text)


def test_the_grid_of_the_candles_decides_who_meets_them() -> None:
    late = Interval(HOUR, 60)
    assert one("x = close / shifted.close", late).beside == ("shifted",)
    with pytest.raises(ConfigError, match=r"'eth' is in bars of 1h, the candles in bars of 1h\+1m"):
        one("x = close / eth.close", late)
    assert one("x = close / day.close", Interval(86_400)).beside == ("day",)
    week, plain = Interval(7 * 86_400), 7 * 86_400  # on Mondays, both
    beside = {"eth": of_candles("eth", week)}
    assert resolve(["x = close / eth.close"], beside, plain)[0].beside == ("eth",)
    assert one("x = close / day.close", None).beside == ("day",), "of candles of any interval"


# --- features in Python -------------------------------------------------------------------------


def test_a_feature_in_python_names_series_that_there_are() -> None:
    mine = Feature("mine", 3, lambda bars, *_: bars["close"], series="day", beside=("eth", "oi"))
    assert one(mine) is mine
    for series, beside in (("dya", ()), ("", ("dya",)), ("eth", ("oi", "dya"))):
        wrong = Feature("mine", 3, lambda bars, *_: bars["close"], (), series, beside)
        with pytest.raises(
            ConfigError, match=r"^feature 'mine': there is no series 'dya': did you"
        ):
            one(wrong)
        with pytest.raises(ConfigError, match=r"'mine': there is no series '\w+': name one so"):
            resolve([wrong])


def test_beside_rows_that_are_no_bars_there_is_nothing() -> None:
    mine = Feature("mine", 3, lambda *_: pl.Series([]), series="funding", beside=("eth",))
    with pytest.raises(ConfigError, match=r"^feature 'mine': 'funding' has no interval, .* eth "):
        one(mine)
    assert one(Feature("mine", 3, lambda *_: pl.Series([]), beside=("funding",))).series == ""


# --- any text -----------------------------------------------------------------------------------

WORDS = ["close", "eth", "oi", "funding", "day", ".close", ".ratio", ".rate", ".log()", ".shift("]
WORDS += [
    ".rolling_corr(",
    "age(",
    "1",
    "2",
    "-",
    "/",
    "(",
    ")",
    ",",
    "max(",
    ".",
    "other=",
    "bars=",
]


@given(st.lists(st.sampled_from(WORDS), max_size=9).map("".join))
@settings(max_examples=300)
def test_any_words_of_the_language_are_an_expression_or_an_error_of_ours(text: str) -> None:
    beside = {name: BESIDE[name] for name in ("eth", "oi", "funding", "day")}
    try:
        (found,) = resolve([f"x = {text}"], beside, HOUR)
    except (ConfigError, LookAheadError):
        return
    assert resolve([found.text], beside, HOUR) == (found,)
    columns = {name: [1.0, 2.0, NAN] for name in ("close", "ratio", "rate")}
    others = [frame_beside([0, 1, 0], **columns) for _ in found.beside]
    values = found(frame_of(3, **columns), *others)
    assert values.shape == (3,)
    assert not np.isinf(values).any()


def test_a_series_may_have_columns_that_are_called_like_methods() -> None:
    beside: dict[str, Beside] = {"own": of_records("own", None, "log", "diff", "class_")}
    (found,) = resolve(["x = own.log.log() - own.diff.diff()"], beside)
    assert found.list_columns("own") == ("log", "diff")
    records = pl.DataFrame({"time": [1, 2], "log": [1.0, 1.0], "diff": [3.0, 5.0]})
    assert values_of(found, records) == [None, -2]
    assert resolve(["own.log"], beside)[0].series == "own"
