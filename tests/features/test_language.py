"""Expressions: the language, what it computes, how far it looks back, and what it refuses."""

import inspect
import math
import pickle
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from btc_datamodule import ConfigError, LookAheadError
from btc_datamodule.candles.series import OPTIONAL
from btc_datamodule.features.build import build
from btc_datamodule.features.builtin import resolve
from btc_datamodule.features.compiling import DEEPEST, LONGEST, Compiler
from btc_datamodule.features.feature import Feature, make_frame
from btc_datamodule.features.language import Expression, parse
from btc_datamodule.features.methods import Method
from btc_datamodule.features.recipe import Recipe
from btc_datamodule.features.table import Table
from btc_datamodule.sources.files.source import CandleFile
from btc_datamodule.store.update import update
from tests.factories import HOUR, candles_of, changed
from tests.helpers import write

NAN = math.nan

EVER = (0, 2**40)
Floats = NDArray[np.float64]


def feature(right: str) -> Feature:
    (found,) = resolve([f"x = {right}"])
    return found


# --- how far it looks back ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("right", "lookback"),
    [
        ("close", 1),
        ("close + open.shift(3)", 4),
        ("close.shift(3) + open.shift(5)", 6),
        ("close.shift(0)", 1),
        ("close.diff()", 2),
        ("close.pct_change(10)", 11),
        ("close.rolling_mean(60)", 60),
        ("close.log().diff().rolling_std(60)", 61),
        ("close.rolling_mean(24).shift(24)", 48),
        ("close.ewm_mean(span=20, bars=100)", 100),
        ("min(close, open.shift(2), high.shift(1))", 3),
        ("(close > close.rolling_max(20).shift(1)) - 0.5", 21),
    ],
)
def test_the_lookback_follows_from_the_text(right: str, lookback: int) -> None:
    assert feature(right).lookback == lookback


def test_the_optional_columns_that_are_named_are_needed() -> None:
    assert feature("close / open").needs == ()
    text = "taker_buy_volume / volume + 0 * trades"
    assert feature(text).needs == ("volume", "trades", "taker_buy_volume")


@dataclass
class Bars:
    """Columns read one value at a time; knows the earliest row that anyone has asked for.

    With ``noise``, each value that is read or computed moves in its 12th digit.
    """

    columns: dict[str, list[float]]
    earliest: int = 1 << 30
    noise: np.random.Generator | None = None

    def at(self, name: str, row: int) -> float:
        self.earliest = min(self.earliest, row)
        known = 0 <= row < len(self.columns[name])
        return self.rounded(self.columns[name][row] if known else NAN)

    def rounded(self, value: float) -> float:
        return value if self.noise is None else value * (1 + 1e-12 * self.noise.normal())


@dataclass(frozen=True)
class Tree:
    """An expression twice: as text, and as a function of one row in plain Python."""

    text: str
    at: Callable[[Bars, int], float] = field(repr=False)


def checked(compute: Callable[..., float], *given: float) -> float:
    """A value in plain Python: NaN where an operand is, or where there is none."""
    if any(math.isnan(value) for value in given):
        return NAN
    try:
        value = compute(*given)
    except (ArithmeticError, ValueError):
        return NAN
    return value if isinstance(value, int | float) and math.isfinite(value) else NAN


OPERATIONS: dict[str, Callable[[float, float], float]] = {
    "({} + {})": lambda a, b: a + b,
    "({} - {})": lambda a, b: a - b,
    "({} * {})": lambda a, b: a * b,
    "({} / {})": lambda a, b: a / b,
    "({} ** {})": lambda a, b: a**b,
    "({} < {})": lambda a, b: float(a < b),
    "({} >= {})": lambda a, b: float(a >= b),
    "max({}, {})": max,
    "min({}, {})": min,
}
OF_ONE: dict[str, Callable[[float], float]] = {
    "(-{})": lambda a: -a,
    "{}.log()": math.log,
    "{}.log1p()": math.log1p,
    "{}.exp()": math.exp,
    "{}.abs()": abs,
    "{}.sqrt()": math.sqrt,
    "{}.sign()": lambda a: float((a > 0) - (a < 0)),
    "{}.sin()": math.sin,
    "{}.cos()": math.cos,
    "{}.tanh()": math.tanh,
    "{}.clip(-1, 2.5)": lambda a: min(max(a, -1), 2.5),
}
OF_WINDOWS: dict[str, Callable[..., float]] = {
    "rolling_mean({n})": lambda *w: math.fsum(w) / len(w),
    "rolling_sum({n})": lambda *w: math.fsum(w),
    "rolling_var({n})": lambda *w: statistics.variance(w),
    "rolling_std({n})": lambda *w: statistics.stdev(w),
    "rolling_min({n})": lambda *w: min(w),
    "rolling_max({n})": lambda *w: max(w),
    "rolling_median({n})": lambda *w: statistics.median(w),
    "ewm_mean(span=4, bars={n})": lambda *w: (
        sum(v * 0.6**age for age, v in enumerate(reversed(w))) / sum(0.6**a for a in range(len(w)))
    ),
}


def leaf(name: str) -> Tree:
    return Tree(name, lambda bars, row: bars.at(name, row))


def number(value: float) -> Tree:
    return Tree(f"({value})", lambda bars, row: value)


def of_two(text: str, a: Tree, b: Tree) -> Tree:
    def at(bars: Bars, row: int) -> float:
        return bars.rounded(checked(OPERATIONS[text], a.at(bars, row), b.at(bars, row)))

    return Tree(text.format(a.text, b.text), at)


def of_one(text: str, a: Tree) -> Tree:
    def at(bars: Bars, row: int) -> float:
        return bars.rounded(checked(OF_ONE[text], a.at(bars, row)))

    return Tree(text.format(a.text), at)


def of_window(text: str, n: int, a: Tree) -> Tree:
    def at(bars: Bars, row: int) -> float:
        window = [a.at(bars, row - age) for age in range(n - 1, -1, -1)]
        return bars.rounded(checked(OF_WINDOWS[text], *window))

    return Tree(f"{a.text}.{text.format(n=n)}", at)


def lagged(text: str, n: int, a: Tree) -> Tree:
    def at(bars: Bars, row: int) -> float:
        before = a.at(bars, row - n)
        if text == "shift":
            return before
        now = a.at(bars, row)
        change = checked(lambda x, y: x - y if text == "diff" else x / y - 1, now, before)
        return bars.rounded(change)

    return Tree(f"{a.text}.{text}({n})", at)


def grown(parts: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    numbers = st.sampled_from([-2.0, 0.0, 0.5, 1.0, 3.0]).map(number)
    binary = st.sampled_from(list(OPERATIONS))
    lag, window = st.integers(0, 4), st.integers(2, 5)
    return st.one_of(
        st.builds(of_two, binary, parts, st.one_of(parts, numbers)),
        st.builds(of_one, st.sampled_from(list(OF_ONE)), parts),
        st.builds(of_window, st.sampled_from(list(OF_WINDOWS)), window, parts),
        st.builds(lagged, st.sampled_from(["shift", "diff", "pct_change"]), lag, parts),
    )


NAMES = ("open", "high", "low", "close", "volume")
TREES = st.recursive(st.sampled_from(NAMES).map(leaf), grown, max_leaves=4)
ROWS = 24


@st.composite
def markets(draw: st.DrawFn) -> dict[str, list[float]]:
    """Bars with zeros, repeated values and bars that were not observed."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    columns = np.exp(rng.normal(0, draw(st.sampled_from([0.01, 1, 4])), (len(NAMES), ROWS)))
    columns[4, rng.random(ROWS) < 0.2] = 0
    columns[:, rng.random(ROWS) < draw(st.sampled_from([0, 0.05]))] = NAN
    return dict(zip(NAMES, columns.tolist(), strict=True))


def frame_of(columns: dict[str, list[float]]) -> pl.DataFrame:
    rows = len(columns["close"])
    return make_frame(np.arange(rows) * HOUR, {name: np.array(v) for name, v in columns.items()})


def with_doubt(tree: Tree, columns: dict[str, list[float]]) -> tuple[Floats, Floats]:
    """Values in plain Python, and how far they move when every step moves in its 12th digit."""
    rows = range(len(columns["close"]))
    wanted = np.array([tree.at(Bars(columns), row) for row in rows])
    doubt = np.zeros(len(wanted))
    for seed in range(2):
        noise = np.random.default_rng(seed)
        other = np.array([tree.at(Bars(columns, noise=noise), row) for row in rows])
        unsure = np.isnan(wanted) != np.isnan(other)
        doubt = np.maximum(doubt, np.where(unsure, np.inf, np.nan_to_num(np.abs(wanted - other))))
    return wanted, doubt


def agree(found: Floats, wanted: Floats, doubt: Floats) -> None:
    sure = np.isfinite(doubt)
    np.testing.assert_array_equal(np.isnan(found[sure]), np.isnan(wanted[sure]))
    defined = sure & ~np.isnan(wanted)
    error = np.abs(found - wanted)[defined]
    assert (error <= 1e-9 * np.abs(wanted[defined]) + 1000 * doubt[defined]).all()


@given(TREES, markets())
@settings(max_examples=150)
def test_an_expression_computes_what_plain_python_does(
    tree: Tree, columns: dict[str, list[float]]
) -> None:
    agree(feature(tree.text)(frame_of(columns)), *with_doubt(tree, columns))


@given(TREES)
@settings(max_examples=150)
def test_the_lookback_is_the_earliest_bar_that_plain_python_reads(tree: Tree) -> None:
    bars = Bars({name: [1.0] for name in NAMES})
    tree.at(bars, 1000)
    assert feature(tree.text).lookback == 1000 - bars.earliest + 1


@given(TREES, markets(), st.integers(0, ROWS - 1), st.integers(0, 2**32 - 1))
@settings(max_examples=150)
def test_bars_outside_the_lookback_change_not_one_bit(
    tree: Tree, columns: dict[str, list[float]], row: int, seed: int
) -> None:
    x = feature(tree.text)
    other = np.exp(np.random.default_rng(seed).normal(0, 20, ROWS))
    other[:: 1 + seed % 5] = NAN
    start = max(0, row - x.lookback + 1)
    spoilt = {k: [*other[:start], *v[start : row + 1], *other[row + 1 :]]
              for k, v in columns.items()}  # fmt: skip
    one, two = x(frame_of(columns))[row], x(frame_of(spoilt))[row]
    np.testing.assert_array_equal(one, two)


@given(TREES, markets(), st.integers(0, ROWS - 1))
@settings(max_examples=200)
def test_the_last_lookback_bars_alone_give_the_same_bits(
    tree: Tree, columns: dict[str, list[float]], row: int
) -> None:
    x = feature(tree.text)
    alone = {k: v[max(0, row - x.lookback + 1) : row + 1] for k, v in columns.items()}
    one, two = x(frame_of(columns))[row : row + 1], x(frame_of(alone))[-1:]
    assert one.tobytes() == two.tobytes() or np.isnan([one, two]).all()


@given(TREES)
@settings(max_examples=100)
def test_the_text_of_a_feature_makes_the_same_feature_again(tree: Tree) -> None:
    x = feature(tree.text)
    (again,) = resolve([x.text])
    assert again == x
    assert again.text == x.text
    assert again.definition() == x.definition()
    (spaced,) = resolve([" x= " + tree.text.replace("(", "( ").replace(",", " , ") + "  "])
    assert spaced.definition() == x.definition()


# --- as a feature -------------------------------------------------------------------------------


def test_the_text_is_written_in_one_way() -> None:
    (mine,) = resolve(["momentum_10=close/ close.shift( 10 )-1"])
    assert mine.name == "momentum_10"
    assert mine.text == "momentum_10 = close / close.shift(10) - 1"
    assert resolve(["log_return"])[0].text == "log_return"
    assert Feature("mine", 1, lambda bars: bars["close"]).text == "mine"


def test_another_name_or_expression_is_another_definition() -> None:
    texts = ["a = close.shift(1)", "a = close.shift(2)", "b = close.shift(1)", "a = open.shift(1)"]
    assert len({resolve([text])[0].definition() for text in texts}) == len(texts)


@pytest.mark.parametrize("of", [Expression, Compiler, Method])
def test_another_meaning_of_the_language_is_another_definition(
    of: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, find = feature("close.diff()").definition(), inspect.getfile
    edited = tmp_path / "edited.py"
    edited.write_bytes(Path(find(of)).read_bytes() + b"#")
    monkeypatch.setattr(
        inspect, "getfile", lambda thing: str(edited) if thing is of else find(thing)
    )
    assert feature("close.diff()").definition() != before


def test_a_feature_of_an_expression_travels_to_other_processes() -> None:
    mine = feature("close.diff().rolling_mean(3)")
    mine(frame_of({name: [1.0] * 5 for name in NAMES}))
    assert pickle.loads(pickle.dumps(mine)) == mine


def test_an_expression_in_the_table_has_its_values_and_its_mask(tmp_path: Path) -> None:
    present = np.ones(400, dtype=bool)
    present[[50, 120, 121, 122, 123, 124, 300, 301]] = False
    series = candles_of(present, optional=OPTIONAL)
    path = write(tmp_path / "candles.h5", series)
    features = resolve(["ret_3 = close.log().diff(3)", "buys = taker_buy_volume / volume"])
    table = Table.open(build(path, Recipe(features, 1, EVER)))
    assert table.features == ("ret_3", "buys")
    assert table.warm_up == 3
    close = np.full(400, NAN)
    close[present] = series["close"]
    filled = np.array([50, 120, 300])  # bars without trades, whose share of takers is 0 / 0
    close[filled] = close[filled - 1]
    wanted = np.log(close[3:]) - np.log(close[:-3])
    seen = np.isfinite(wanted)
    seen[filled - 3] = False
    assert (table.observed[3:] == seen).all()
    assert not table.observed[:3].any()
    np.testing.assert_allclose(table.x[3:, 0][seen], wanted[seen], rtol=1e-6)


def test_an_expression_of_columns_that_the_candles_lack_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "candles.h5", candles_of(np.ones(50, dtype=bool)))
    with pytest.raises(ConfigError, match=r"feature 'size' needs trades, which candles from"):
        build(path, Recipe(resolve(["size = volume / trades"]), 1, EVER))


STEEP = [
    "z = (close - close.rolling_mean(60)) / close.rolling_std(60)",
    "skewed = (close / close.rolling_median(30)).log()",
    "surge = volume.log1p() / volume.log1p().ewm_mean(span=20, bars=100)",
    "sharpe = close.log().diff().rolling_mean(24) / close.log().diff().rolling_std(24)",
    "breakout = close >= close.rolling_max(48)",
]


def test_ratios_to_a_deviation_pass_in_a_market_that_mostly_stands_still(tmp_path: Path) -> None:
    series = candles_of(np.ones(3000, dtype=bool))
    level = np.repeat(np.random.default_rng(1).lognormal(9, 2, 30), 100)
    flat = changed(series, open=level, high=level, low=level, close=level)
    path = write(tmp_path / "candles.h5", flat)
    table = Table.open(build(path, Recipe(resolve(STEEP[:1]), 3, EVER)))
    seen = table.observed[:].astype(bool)
    assert (table.bars("close")[:] == level).all()
    assert not seen[60:100].any(), "no deviation, no ratio"
    assert seen[100:159].all()
    assert not seen[159:200].any()


@pytest.mark.parametrize(
    ("path", "columns", "interval"),
    [
        ("kaggle/btcusd_1-min_data_first9999.csv", None, 60),
        ("kraken/XBTUSD_60.csv", "kraken", HOUR),
    ],
)
def test_ratios_to_a_deviation_pass_on_thin_real_markets(
    real_data: Path, tmp_path: Path, path: str, columns: str | None, interval: int
) -> None:
    source = CandleFile(str(real_data / path), columns=columns)
    candles = tmp_path / "candles.h5"
    update(candles, source, interval, None, None)
    for text in STEEP:
        table = Table.open(build(candles, Recipe(resolve([text]), 3, EVER)))
        assert table.observed[:].sum() > 20


# --- what it refuses ----------------------------------------------------------------------------

COLUMNS = "open, high, low, close, volume, quote_volume, trades, taker_buy_volume"
OFFER = "use columns, numbers, + - * / **, a comparison, min, max and methods of columns"

REFUSED: dict[str, str] = {
    # columns
    "x = colse": f"column 5: there is no column 'colse': did you mean 'close'? there are {COLUMNS}",
    "  x  =  1 + vol": "column 13: there is no column 'vol': did you mean 'volume'?",
    "x = open_time": "column 5: there is no column 'open_time'",
    "x = 2 * 3": f"column 5: it names no column; there are {COLUMNS}",
    "x = True": "column 5: 'True' is not on offer",
    "x = 'close'": "column 5: \"'close'\" is not on offer",
    "x = 2j * close": "column 5: '2j' is not on offer",
    # methods
    "x = close.lag(3)": "column 11: there is no method 'lag': did you mean 'log'? there are log",
    "x = close.rolling_maen(3)": "column 11: there is no method 'rolling_maen': did you mean "
    "'rolling_mean'? there are ",
    "x = close - close.mean()": "column 19: there is no method 'mean': of a whole column it looks "
    "ahead; did you mean 'rolling_mean'?",
    "x = volume.cum_sum()": "column 12: there is no method 'cum_sum': it reads back without end",
    "x = close.log": "column 5: log is not called: write close.log()",
    "x = close.rolling_mean": "column 5: rolling_mean is not called: write close.rolling_mean(24)",
    "x = close.clip": "column 5: clip is not called: write close.clip(-1, 1)",
    "x = df.close": "column 8: a column stands alone: write close",
    "x = close.log().values": "column 17: there is no method 'values'",
    "x = log(close)": "column 5: log is a method: write close.log(...)",
    "x = mix(close, open)": "column 5: there is no function 'mix': did you mean 'min'? there are "
    "min, max; the rest are methods",
    "x = max(close)": "column 5: max is of two things or more: max(open, close)",
    "x = max(close, key=open)": "column 5: max is of two things or more",
    "x = close + (2).log()": "column 13: log is called on a number: call it on a column",
    # their numbers
    "x = close.log(10)": "column 15: one number too many: log()",
    "x = close.shift(1, 2)": "column 20: one number too many: shift(n)",
    "x = close.shift(1.5)": "column 17: n of shift is 1.5: it must be whole",
    "x = close.shift(open)": "column 17: n of shift must be a number",
    "x = close.shift(k=1)": "column 17: shift has no option 'k' here: shift(n)",
    "x = close.shift(1, n=1)": "column 20: shift has no option 'n' here: shift(n)",
    "x = close.shift(**open)": "column 17: ** is not on offer: shift(n)",
    "x = close.shift(*open)": "column 17: '*open' is not on offer",
    "x = close.rolling_mean()": "column 5: rolling_mean needs bars: rolling_mean(bars)",
    "x = close.rolling_mean(0)": "column 24: bars of rolling_mean must be at least 1",
    "x = close.rolling_mean(-3)": "column 24: bars of rolling_mean must be at least 1",
    "x = close.rolling_std(1)": "column 23: bars of rolling_std must be at least 2",
    "x = close.rolling_mean(5, min_samples=1)": "column 27: rolling_mean has no option "
    "'min_samples' here: rolling_mean(bars)",
    "x = close.clip(1)": "column 5: clip needs high: clip(low, high)",
    "x = close.clip(2, 1)": "column 5: clip has its lower bound above its upper one",
    "x = close.ewm_mean(0.5, 10)": "column 20: span of ewm_mean is 0.5: it must be at least 1",
    "x = close.ewm_mean(span=20)": "column 5: ewm_mean remembers every bar there ever was: declare "
    "how many it may use, such as ewm_mean(span=20, bars=100)",
    "x = close.ewm_mean(20)": "column 5: ewm_mean remembers every bar there ever was: declare",
    "x = 1 / 0 + close": "column 5: 1 / 0 is no finite number",
    "x = (-8) ** 0.5 * close": "column 5: (-8) ** 0.5 is no finite number",
    "x = 9 ** 9 ** 9 * close": "column 5: 9 ** 9 ** 9 is no finite number",
    f"x = {10**400} * close": "column 5: 1000000000000000000000000000000000000000 is no finite",
    # what else Python has
    "x = close[0]": f"column 5: 'close[0]' is not on offer: {OFFER}",
    "x = close % 2": "column 5: 'close % 2' is not on offer",
    "x = close // 2": "column 5: 'close // 2' is not on offer",
    "x = ~close": "column 5: '~close' is not on offer",
    "x = not close": "column 5: 'not close' is not on offer",
    "x = close > 1 and open > 1": "column 5: 'close > 1 and open > 1' is not on offer",
    "x = low < close < high": "column 5: 'low < close < high' is not on offer",
    "x = close in open": "column 5: 'close in open' is not on offer",
    "x = close if open else low": "column 5: 'close if open else low' is not on offer",
    "x = (close, open)": "column 5: '(close, open)' is not on offer",
    "x = [close for close in open]": "column 5: '[close for close in open]' is not on offer",
    "x = lambda: close": "column 5: 'lambda: close' is not on offer",
    "x = (lambda: close)()": "column 5: '(lambda: close)()' is not on offer",
    "x = (y := close)": "column 6: '(y := close)' is not on offer",
    "x = f'{close}'": "column 5: \"f'{close}'\" is not on offer",
    "x = close.__class__": "column 11: there is no method '__class__'",
    "x = close.log.__globals__": "column 15: there is no method '__globals__'",
    "x = __import__('os').system('true')": "column 22: there is no method 'system'",
    "x = eval('1')": "column 5: there is no function 'eval'",
    # no expression at all
    "x =": f"column 4: nothing follows the =: {OFFER}",
    "x = close +": "column 12: it ends too early",
    "x = (close": "column 5: '(close' cannot stand here ('(' was never closed)",
    "x = close open": "column 11: 'open' cannot stand here (invalid syntax",
    "x = close; open": "column 10: '; open' cannot stand here (invalid syntax)",
    "x = close # open": "column 11: '#' is not part of an expression",
    "x = clöse": "column 7: 'ö' is not part of an expression",
    "x = close\0": "column 10: '\\x00' is not part of an expression",
    "x = " + "-" * DEEPEST + "close": "column 5: nested too deeply",
    "x = close" + " + 1" * (LONGEST // 4): f"column 5: longer than {LONGEST} characters",
    f"x = max(close{',1' * 450})": f"column 5: longer than {LONGEST} characters",  # with spaces
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_not_in_the_language_is_an_error_that_says_where(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve([text])
    assert str(caught.value).startswith(f"feature 'x', {REFUSED[text]}")
    assert "\n" not in str(caught.value)


AHEAD: dict[str, str] = {
    "x = close.shift(-1)": "column 17: it looks ahead: shift(-1) reads later bars",
    "x = close.shift(n=-1)": "column 19: it looks ahead: shift(-1) reads later bars",
    "x = close.diff(1 - 3)": "column 16: it looks ahead: diff(-2) reads later bars",
    "x = close.pct_change(-5) - 1": "column 22: it looks ahead: pct_change(-5) reads later bars",
    "x = close.rolling_mean(5, center=True)": "column 27: it looks ahead: rolling_mean with "
    "center=True reads later bars",
    "x = close.backward_fill()": "column 11: it looks ahead: backward_fill reads later bars",
    "x = close.interpolate().log()": "column 11: it looks ahead: interpolate reads later bars",
}


@pytest.mark.parametrize("text", AHEAD)
def test_what_reads_later_bars_is_an_error_that_says_so(text: str) -> None:
    with pytest.raises(LookAheadError) as caught:
        resolve([text])
    assert str(caught.value).startswith(f"feature 'x', {AHEAD[text]}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("close / open", "the expression 'close / open' has no name: write it with one of you"),
        ("close == open", "the expression 'close == open' has no name: write it with one of you"),
        ("2x = close", "feature '2x = close': '2x' is no name: begin with a letter"),
        ("_x = close", "feature '_x = close': '_x' is no name: begin with a letter"),
        ("x-1 = close", "feature 'x-1 = close': 'x-1' is no name"),
        ("a b = close", "feature 'a b = close': 'a b' is no name"),
        ("close <= open", "feature 'close <= open': 'close <' is no name"),
        ("= close", "feature '= close': '' is no name"),
        ("volatility = close", "feature 'volatility' is built in: give yours another name"),
    ],
)
def test_a_feature_needs_a_name_of_its_own(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve([text])
    assert str(caught.value).startswith(problem)


@pytest.mark.parametrize("around", [("(", ")"), ("-", ""), ("(-", ")"), ("1 + (", ")")])
@pytest.mark.parametrize("levels", [150, 450])
def test_what_is_nested_too_deeply_is_refused(around: tuple[str, str], levels: int) -> None:
    with pytest.raises(ConfigError, match=r"^feature 'x', column \d+: "):
        resolve([f"x = {around[0] * levels}close{around[1] * levels + ' +' * (around[0] == '(')}"])


def test_two_expressions_of_one_name_are_named() -> None:
    with pytest.raises(ConfigError, match=r"^features names a more than once$"):
        resolve(["a = close", "log_return", "a = open"])


@given(st.text(st.characters(codec="utf-8"), max_size=40))
@settings(max_examples=150)
def test_any_text_is_an_expression_or_an_error_of_ours(text: str) -> None:
    try:
        (found,) = resolve([f"x = {text}"])
    except (ConfigError, LookAheadError):
        return
    assert found.lookback >= 1


WORDS = ["close", "open", ".log()", ".shift(", ".rolling_std(", "1", "2", "-", "+", "*", "**", "/"]
WORDS += ["(", ")", ",", "max", "<", "==", "=", " ", ".", "[", "]", "lambda", ":", "if", "e5", "n="]


@given(st.lists(st.sampled_from(WORDS), max_size=12).map("".join))
@settings(max_examples=200)
def test_any_words_of_the_language_are_an_expression_or_an_error_of_ours(text: str) -> None:
    try:
        (found,) = resolve([f"x = {text}"])
    except (ConfigError, LookAheadError):
        return
    values = found(frame_of({name: [1.0, 2.0, NAN, 3.0] for name in NAMES}))
    assert values.shape == (4,)
    assert not np.isinf(values).any()


@pytest.mark.parametrize(
    "text",
    [
        " " * 100_000 + "+",
        "a" + " " * 100_000 + "+",
        "a" + " " * 100_000 + "== close",
        "=" * 100_000,
    ],
    ids=["spaces", "spaces inside", "a comparison", "signs"],
)
def test_a_long_text_that_is_no_expression_is_told_at_once(text: str) -> None:
    """Ran for minutes when the name was looked for by a pattern that goes back."""
    with pytest.raises(ConfigError) as raised:
        parse(text)
    assert len(str(raised.value)) < 1000
