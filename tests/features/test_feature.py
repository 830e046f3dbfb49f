"""A feature of one's own: what it must be and give, and when it counts as another."""

import math
import re
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from btc_datamodule.errors import ConfigError
from btc_datamodule.features.builtin import FEATURES
from btc_datamodule.features.feature import Compute, Feature, make_frame
from btc_datamodule.features.fingerprint import fingerprint
from tests.features.markets import real_grid

CLOSE = pl.col("close")


@pytest.mark.parametrize("lookback", [0, -1])
def test_a_lookback_below_one_bar_is_refused(lookback: int) -> None:
    with pytest.raises(ConfigError, match=r"'mine': lookback must be at least 1 bar"):
        Feature("mine", lookback, lambda bars: bars["close"])


def test_a_feature_that_loses_rows_is_refused() -> None:
    short = Feature("short", 1, lambda bars: bars["close"].head(bars.height // 2))
    with pytest.raises(ConfigError, match="feature 'short' gave 1000 values for 2000 bars"):
        short(make_frame(*real_grid()))


def test_null_nan_and_infinity_read_as_undefined_or_stay() -> None:
    values = pl.Series([1.0, None, math.nan, math.inf])
    found = Feature("mine", 1, lambda _: values)(make_frame(np.arange(4), {"close": np.ones(4)}))
    np.testing.assert_array_equal(found, [1.0, math.nan, math.nan, math.inf])


def test_a_polars_expression_is_a_feature() -> None:
    bars = make_frame(*real_grid())
    mine = Feature("mine", 3, CLOSE.rolling_mean(3) / pl.col("trades"))
    wanted = bars["close"].rolling_mean(3) / bars["trades"]
    np.testing.assert_array_equal(mine(bars), wanted.to_numpy())
    assert mine.needs == ("trades",)
    assert mine.text == "mine"
    assert mine == mine  # noqa: PLR0124  # polars expressions refuse to be compared
    assert mine != Feature("mine", 3, CLOSE.rolling_mean(3))


def test_a_polars_expression_that_gives_one_number_is_refused() -> None:
    with pytest.raises(ConfigError, match="feature 'mine' gave 1 values for 2000 bars"):
        Feature("mine", 1, CLOSE.mean())(make_frame(*real_grid()))


def test_a_polars_expression_of_unknown_columns_fails_by_name() -> None:
    with pytest.raises(ConfigError, match="feature 'mine' failed: ColumnNotFoundError: "):
        Feature("mine", 1, pl.col("colse"))(make_frame(*real_grid()))


RATES = pl.DataFrame({"time": [0], "known_at": [0], "age": [0.0], "rate": [0.5]})
ABSENT = {
    "a slip": (
        lambda bars, funding: funding["rte"],
        "there is no column 'rte' of the candles or 'funding': did you mean 'rate' of 'funding'? "
        "there are of the candles open_time, close; of 'funding' time, known_at, age, rate",
    ),
    "a column of the other frame": (
        lambda bars, funding: bars.select("known_at").to_series(),
        "there is no column 'known_at' of the candles; there are of the candles open_time, close",
    ),
    "a column of a frame that it made": (
        lambda bars, funding: funding.select(b=pl.col("rate") * pl.col("clos")).to_series(),
        "'clos' of the candles or 'funding': did you mean 'close' of the candles? there are of",
    ),
}


@pytest.mark.parametrize("case", ABSENT)
def test_a_column_that_a_frame_lacks_is_told_with_those_that_there_are(case: str) -> None:
    compute, said = ABSENT[case]
    bars = make_frame(np.arange(1), {"close": np.ones(1)})
    mine = Feature("mine", 1, compute, beside=("funding",))
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        mine(bars, RATES)
    assert str(caught.value).startswith("feature 'mine' failed: ColumnNotFoundError: there is no")
    assert "\n" not in str(caught.value)


def test_what_computes_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="feature 'mine': compute is 'close': it must be a funct"):
        Feature("mine", 1, "close")  # type: ignore[arg-type]


# --- definitions --------------------------------------------------------------------------------


def typed(text: str) -> Compute:
    """A function as typed into an interpreter or notebook: its source is in no file."""
    scope: dict[str, Compute] = {}
    exec(compile(f"compute = {text}", "<stdin>", "exec"), scope)  # the case under test
    return scope["compute"]


def mean_of(bars: int) -> Compute:
    return lambda frame: frame["close"].rolling_mean(bars)


def defaulted(bars: int) -> Compute:
    def compute(frame: pl.DataFrame, bars: int = bars) -> pl.Series:
        return frame["close"].rolling_mean(bars)

    return compute


class Shifted:
    def __init__(self, bars: int) -> None:
        self.bars = bars

    def __call__(self, frame: pl.DataFrame) -> pl.Series:
        return frame["close"].shift(self.bars)


Pair = tuple[Callable[[], Compute | pl.Expr], Callable[[], Compute | pl.Expr]]
DIFFERENT: dict[str, Pair] = {
    "built in": (lambda: FEATURES["log_high"].compute, lambda: typed("lambda b: b['close']")),
    "typed constants": (
        lambda: typed("lambda b: b['close'].shift(1)"),
        lambda: typed("lambda b: b['close'].shift(2)"),
    ),
    "typed methods": (
        lambda: typed("lambda b: b['close'].rolling_max(5)"),
        lambda: typed("lambda b: b['close'].rolling_min(5)"),
    ),
    "closures": (lambda: mean_of(5), lambda: mean_of(10)),
    "defaults": (lambda: defaulted(5), lambda: defaulted(10)),
    "callable objects": (lambda: Shifted(1), lambda: Shifted(2)),
    "polars expressions": (lambda: CLOSE.shift(1), lambda: CLOSE.shift(2)),
    "polars columns": (lambda: CLOSE.shift(1), lambda: pl.col("open").shift(1)),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_features_that_compute_something_else_have_another_definition(what: str) -> None:
    computes = [make() for make in DIFFERENT[what]]  # both alive, so at different addresses
    one, other = (Feature("mine", 10, compute).definition() for compute in computes)
    assert one != other


@pytest.mark.parametrize("what", DIFFERENT)
def test_a_feature_made_again_has_the_same_definition(what: str) -> None:
    for make in DIFFERENT[what]:
        keep = make()  # so that the second cannot take the first one's place in memory
        assert Feature("mine", 10, make()).definition() == Feature("mine", 10, keep).definition()


def test_name_and_lookback_are_in_the_definition() -> None:
    compute = mean_of(5)
    texts = {Feature(n, b, compute).definition() for n in ("a", "b") for b in (5, 6)}
    assert len(texts) == 4


# --- series ---------------------------------------------------------------------------------------


def of_two(bars: pl.DataFrame, other: pl.DataFrame) -> pl.Series:
    return bars["close"] - other["close"]


def test_a_function_is_given_a_frame_for_each_series_beside_the_first() -> None:
    mine = Feature("mine", 1, of_two, beside=("eth",))
    one, other = (pl.DataFrame({"close": values}) for values in ([3.0, 4.0], [1.0, None]))
    np.testing.assert_array_equal(mine(one, other), [2.0, math.nan])
    for given in ((one,), (one, other, other)):
        with pytest.raises(
            ConfigError, match=rf"'mine' needs frames beside .* eth: given {len(given) - 1}$"
        ):
            mine(*given)
    with pytest.raises(ConfigError, match="'mine' needs frames beside the first of none: given 1"):
        Feature("mine", 1, of_two)(one, other)


def test_names_of_series_are_taken_as_lists_too() -> None:
    assert Feature("mine", 1, of_two, beside=["eth"]).beside == ("eth",)  # type: ignore[arg-type]
    assert Feature("mine", 1, of_two, beside="eth").beside == ("eth",)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("series", "beside", "problem"),
    [
        ("eth", ("eth",), "names a series twice"),
        ("", ("eth", "eth"), "names a series twice"),
        ("", ("",), "give names of covariates"),
        (None, (), "series and beside are None and .*: give names of covariates"),
        ("", (3,), "give names of covariates"),
    ],
)
def test_series_that_are_none_are_refused(
    series: str, beside: tuple[str, ...], problem: str
) -> None:
    with pytest.raises(ConfigError, match=f"^feature 'mine'.* {problem}"):
        Feature("mine", 1, of_two, (), series, beside)


def test_a_polars_expression_sees_one_frame() -> None:
    mine = Feature("mine", 1, pl.col("rate") * pl.col("rate").shift(1), series="funding")
    assert mine.list_columns("funding") == ("rate",)
    assert mine.list_columns("") == mine.list_columns("eth") == ()
    assert Feature("mine", 1, pl.col("time") % 60 + pl.col("close")).list_columns("") == ("close",)
    with pytest.raises(ConfigError, match=r"'mine': a polars expression is of one frame: .* eth "):
        Feature("mine", 1, pl.col("rate"), beside=("eth",))


def test_what_a_function_reads_is_not_known() -> None:
    mine = Feature("mine", 1, of_two, series="day", beside=("eth",))
    assert [mine.list_columns(name) for name in ("day", "eth", "", "oi")] == [None, None, (), ()]


def test_series_are_in_the_definition_where_there_are_some() -> None:
    plain = Feature("mine", 3, of_two).definition()
    assert plain == f"mine:3:{fingerprint(of_two)}"
    others = {
        Feature("mine", 3, of_two, (), series, beside).definition()
        for series, beside in (("day", ()), ("", ("day",)), ("", ("day", "eth")), ("day", ("eth",)))
    }
    assert len(others | {plain}) == 5
