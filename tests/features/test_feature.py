"""Features: each formula recomputed in numpy, and the check that catches whoever sees too far."""

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from btc_datamodule.candles.series import COLUMNS, OPTIONAL, Candles, concatenate
from btc_datamodule.candles.timeline import parse_instant
from btc_datamodule.errors import ConfigError, LookAheadError
from btc_datamodule.features.build import Recipe, build
from btc_datamodule.features.builtin import FEATURES, resolve
from btc_datamodule.features.causality import check_lookback
from btc_datamodule.features.feature import Compute, Feature, frame, warm_up
from btc_datamodule.features.grid import Grid
from btc_datamodule.features.table import Table
from btc_datamodule.sources.files.source import CandleFile
from btc_datamodule.sources.simulator import Simulator
from btc_datamodule.store.candle_file import CandleReader
from tests.helpers import HOUR, T0, candles_of, changed, write

EVER = (0, 2**40)
ROWS = 2000
MAX_FILL = 3
Floats = NDArray[np.float64]
CLOSE = pl.col("close")


@cache
def simulated() -> Candles:
    source = Simulator(seed=11, no_trade=0.04, outages_per_year=60)
    return concatenate([b.candles for b in source.blocks(HOUR, (T0, T0 + ROWS * HOUR))])


@cache
def real_grid() -> tuple[NDArray[np.int64], dict[str, Floats]]:
    """Open times and bars of the simulated series with its holes."""
    with TemporaryDirectory() as folder:
        path = write(Path(folder, "candles.h5"), simulated())
        with CandleReader(path) as reader:
            grid = Grid.of(reader, EVER, MAX_FILL)
            return grid.times(0, grid.rows), grid.bars(reader, 0, grid.rows)


# --- formulas -----------------------------------------------------------------------------------


def lagged(values: Floats) -> Floats:
    return np.concatenate([[np.nan], values[:-1]])


def trailing_mean(values: Floats, bars: int) -> Floats:
    means = [values[row - bars + 1 : row + 1].mean() for row in range(bars - 1, len(values))]
    return np.concatenate([np.full(bars - 1, np.nan), means])


def ago(values: Floats, bars: int) -> Floats:
    return np.concatenate([np.full(bars, np.nan), values[:-bars]])


def angle(times: NDArray[np.int64], weekly: bool) -> Floats:
    moments = [datetime.fromtimestamp(int(t), UTC) for t in times]
    hours = [m.hour + m.minute / 60 + 24 * m.weekday() * weekly for m in moments]
    return 2 * math.pi * np.array(hours) / (168 if weekly else 24)


def references(times: NDArray[np.int64], bars: dict[str, Floats]) -> dict[str, Floats]:
    """Every built-in feature in plain numpy."""
    o, h, l, c, v = (bars[name] for name in ("open", "high", "low", "close", "volume"))  # noqa: E741
    back = np.log(c) - np.log(lagged(c))
    with np.errstate(invalid="ignore"):
        share = np.where(v == 0, 0.5, bars["taker_buy_volume"] / v)
    return {
        "log_return": back,
        "log_open": np.log(o) - np.log(lagged(c)),
        "log_high": np.log(h) - np.log(c),
        "log_low": np.log(l) - np.log(c),
        "log_range": np.log(h) - np.log(l),
        "log_volume": np.log(1 + v),
        "relative_volume": np.log(1 + v) - trailing_mean(np.log(1 + v), 24),
        "parkinson": (np.log(h) - np.log(l)) ** 2 / (4 * np.log(2)),
        "garman_klass": 0.5 * np.log(h / l) ** 2 - (2 * np.log(2) - 1) * np.log(c / o) ** 2,
        "rogers_satchell": np.log(h / c) * np.log(h / o) + np.log(l / c) * np.log(l / o),
        "volatility": np.sqrt(trailing_mean(back**2, 24)),
        "momentum": np.log(c) - np.log(ago(c, 24)),
        "taker_share": share,
        "day_sin": np.sin(angle(times, weekly=False)),
        "day_cos": np.cos(angle(times, weekly=False)),
        "week_sin": np.sin(angle(times, weekly=True)),
        "week_cos": np.cos(angle(times, weekly=True)),
    }


def test_the_simulated_bars_have_holes_of_both_kinds() -> None:
    _, bars = real_grid()
    assert np.isnan(bars["close"]).sum() > 20
    assert (bars["volume"] == 0).sum() > 20


def test_every_built_in_feature_has_a_reference() -> None:
    assert set(references(*real_grid())) == set(FEATURES)


@pytest.mark.parametrize("name", FEATURES)
def test_a_built_in_feature_is_its_formula(name: str) -> None:
    found, wanted = FEATURES[name](frame(*real_grid())), references(*real_grid())[name]
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    # Values near 0 are differences of logarithms near 9: their error is relative to the spread.
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9 * float(np.nanstd(wanted)))


@pytest.mark.parametrize("name", FEATURES)
def test_a_built_in_feature_needs_exactly_the_bars_that_it_declares(name: str) -> None:
    feature, bars = FEATURES[name], frame(*real_grid())
    row = 500 + int(np.argmax(np.isfinite(references(*real_grid())["volatility"][500:])))
    enough = feature(bars[row - feature.lookback + 1 : row + 1])[-1]
    assert enough == pytest.approx(feature(bars)[row], rel=1e-9)
    if feature.lookback > 1:
        assert math.isnan(feature(bars[row - feature.lookback + 2 : row + 1])[-1])


class Market(NamedTuple):
    """Candles with holes, as a file, and as bars filled in by hand."""

    candles: Path
    max_fill: int
    times: NDArray[np.int64]
    bars: dict[str, Floats]


def by_hand(candles: Candles, max_fill: int) -> tuple[NDArray[np.int64], dict[str, Floats]]:
    """The regular grid, one bar after the other: short holes flat at the close before."""
    opens, interval = candles.open_time.tolist(), candles.interval
    known = [name for name in COLUMNS[1:] if name in candles.columns]
    row_of = {time: row for row, time in enumerate(opens)}
    times = list(range(opens[0], opens[-1] + interval, interval))
    bars = {name: np.full(len(times), np.nan) for name in COLUMNS[1:]}
    at = 0
    while at < len(times):
        if times[at] in row_of:
            for name in known:
                bars[name][at] = candles[name][row_of[times[at]]]
            at += 1
            continue
        hole = next(n for n in range(1, len(times)) if times[at + n] in row_of)
        if hole <= max_fill:
            for name in known:
                price = name in ("open", "high", "low", "close")
                bars[name][at : at + hole] = bars["close"][at - 1] if price else 0.0
        at += hole
    return np.array(times), bars


REAL: dict[str, tuple[str, str | None, int, str, int]] = {
    # file, columns, interval, first instant, max_fill
    "kraken hours": ("kraken/XBTUSD_60.csv", "kraken", HOUR, "2013-10-01", 3),
    "binance hours": ("binance_spot_1h/BTCUSDT-1h-2023-03.csv", None, HOUR, "2023-03-01", 0),
    "bitfinex minutes": ("bitfinex_1m/BTCUSD_1m_2019.csv.gz", "bitfinex", 60, "2019-03-03", 2),
}


@pytest.fixture(scope="module", params=["simulated", *REAL])
def market(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Market:
    """Up to 3,000 bars with holes of both kinds."""
    path = tmp_path_factory.mktemp("market") / "candles.h5"
    if request.param == "simulated":
        return Market(write(path, simulated()), MAX_FILL, *by_hand(simulated(), MAX_FILL))
    folder: Path = request.getfixturevalue("real_data")
    name, columns, interval, first, max_fill = REAL[request.param]
    start = parse_instant(first)
    span = (start, start + 3000 * interval)
    source = CandleFile(str(folder / name), columns=columns)
    candles = concatenate([b.candles for b in source.blocks(interval, span)]).slice(*span)
    return Market(write(path, candles), max_fill, *by_hand(candles, max_fill))


def test_the_markets_have_outages_and_bars_without_trades(market: Market) -> None:
    assert np.isnan(market.bars["close"]).any()
    assert (market.bars["volume"] == 0).any()


@pytest.mark.parametrize("name", FEATURES)
def test_a_built_in_feature_in_the_table_is_its_formula_and_masked_by_its_holes(
    market: Market, name: str
) -> None:
    if any(np.isnan(market.bars[column]).all() for column in FEATURES[name].needs):
        pytest.skip("these candles do not have the column")
    recipe = Recipe((FEATURES[name],), market.max_fill, EVER)
    table = Table.open(build(market.candles, recipe))
    wanted = references(market.times, market.bars)[name]
    seen = np.isfinite(wanted) & np.isfinite(market.bars["close"])
    seen[: FEATURES[name].lookback - 1] = False
    np.testing.assert_array_equal(table.observed[:], seen)
    # Differences of logarithms near 9 are exact to 1e-15, whatever little is left of them.
    np.testing.assert_allclose(table.x[:, 0][seen], wanted[seen], rtol=1e-6, atol=1e-12)
    assert (table.x[:, 0][~seen] == 0).all()
    returns = np.flatnonzero(np.isnan(market.bars["close"][:-1])) + 1
    if name in ("log_return", "log_open"):
        assert not table.observed[:][returns].any(), "the first one spans the outage"


def test_known_bars_give_known_values() -> None:
    bars = frame(
        np.array([T0, T0 + 6 * HOUR]),  # a Wednesday, 00:00 and 06:00
        {
            "open": np.array([100.0, 110.0]),
            "high": np.array([120.0, 140.0]),
            "low": np.array([90.0, 100.0]),
            "close": np.array([110.0, 121.0]),
            "volume": np.array([math.e - 1, 0.0]),
            "taker_buy_volume": np.array([(math.e - 1) / 4, 0.0]),
        },
    )
    assert FEATURES["log_return"](bars)[1] == pytest.approx(math.log(1.1))
    assert FEATURES["log_open"](bars)[1] == pytest.approx(0.0)
    assert FEATURES["log_range"](bars)[1] == pytest.approx(math.log(1.4))
    assert FEATURES["log_volume"](bars).tolist() == pytest.approx([1.0, 0.0])
    assert FEATURES["taker_share"](bars).tolist() == pytest.approx([0.25, 0.5])
    assert FEATURES["day_sin"](bars).tolist() == pytest.approx([0.0, 1.0])
    assert FEATURES["day_cos"](bars).tolist() == pytest.approx([1.0, 0.0])
    assert FEATURES["week_cos"](bars)[0] == pytest.approx(math.cos(4 * math.pi / 7))


# --- naming features ----------------------------------------------------------------------------


def test_names_and_features_resolve_in_the_order_given() -> None:
    mine = Feature("mine", 3, lambda bars: bars["close"])
    resolved = resolve(["volatility", mine, "log_return"])
    assert resolved == (FEATURES["volatility"], mine, FEATURES["log_return"])
    assert warm_up(resolved) == 24
    assert warm_up((mine,)) == 2


def test_an_unknown_feature_gets_a_suggestion_and_the_list() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(["log_retrun"])
    known = ", ".join(FEATURES)
    assert str(caught.value) == (
        f"unknown feature 'log_retrun': did you mean 'log_return'? known features: {known}"
    )
    with pytest.raises(
        ConfigError, match=r"^unknown feature 'xyzzy': known features: log_return, "
    ):
        resolve(["xyzzy"])


def test_repeated_features_are_named() -> None:
    mine = Feature("log_return", 1, lambda bars: bars["close"])
    lists: list[list[str | Feature]] = [
        ["log_return", "log_open", "log_return"],
        ["log_return", mine],
    ]
    for repeated in lists:
        with pytest.raises(ConfigError, match=r"^features names log_return more than once$"):
            resolve(repeated)


def test_no_features_at_all_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"^features is empty: .* such as log_return"):
        resolve([])


@pytest.mark.parametrize("lookback", [0, -1])
def test_a_lookback_below_one_bar_is_refused(lookback: int) -> None:
    with pytest.raises(ConfigError, match=r"'mine': lookback must be at least 1 bar"):
        Feature("mine", lookback, lambda bars: bars["close"])


def test_a_feature_that_loses_rows_is_refused() -> None:
    short = Feature("short", 1, lambda bars: bars["close"].head(bars.height // 2))
    with pytest.raises(ConfigError, match="feature 'short' gave 1000 values for 2000 bars"):
        short(frame(*real_grid()))


def test_null_nan_and_infinity_read_as_undefined_or_stay() -> None:
    values = pl.Series([1.0, None, math.nan, math.inf])
    found = Feature("mine", 1, lambda _: values)(frame(np.arange(4), {"close": np.ones(4)}))
    np.testing.assert_array_equal(found, [1.0, math.nan, math.nan, math.inf])


def test_a_polars_expression_is_a_feature() -> None:
    bars = frame(*real_grid())
    mine = Feature("mine", 3, CLOSE.rolling_mean(3) / pl.col("trades"))
    wanted = bars["close"].rolling_mean(3) / bars["trades"]
    np.testing.assert_array_equal(mine(bars), wanted.to_numpy())
    assert mine.needs == ("trades",)
    assert mine.text == "mine"
    assert mine == mine  # noqa: PLR0124  # polars expressions refuse to be compared
    assert mine != Feature("mine", 3, CLOSE.rolling_mean(3))


def test_a_polars_expression_that_gives_one_number_is_refused() -> None:
    with pytest.raises(ConfigError, match="feature 'mine' gave 1 values for 2000 bars"):
        Feature("mine", 1, CLOSE.mean())(frame(*real_grid()))


def test_a_polars_expression_of_unknown_columns_fails_by_name() -> None:
    with pytest.raises(ConfigError, match="feature 'mine' failed: ColumnNotFoundError: "):
        Feature("mine", 1, pl.col("colse"))(frame(*real_grid()))


def test_what_computes_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="feature 'mine': compute is 'close': it must be a funct"):
        Feature("mine", 1, "close")  # type: ignore[arg-type]


# --- the law ------------------------------------------------------------------------------------


def ewm(bars: pl.DataFrame) -> pl.Series:
    return bars["close"].ewm_mean(span=12, adjust=False)


def truncated_ewm(bars: pl.DataFrame) -> pl.Series:
    close = bars["close"]
    terms = [close.shift(lag) * 0.8**lag for lag in range(12)]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def centred(bars: pl.DataFrame) -> pl.Series:
    return bars["close"].rolling_mean(5, center=True)


def back_filled(bars: pl.DataFrame) -> pl.Series:
    return bars["close"].fill_null(strategy="backward").log()


def forward_filled(bars: pl.DataFrame) -> pl.Series:
    return bars["close"].fill_null(strategy="forward", limit=6).log()


def less_mean(bars: pl.DataFrame) -> pl.Series:
    close = bars["close"]
    return close - close.mean()


def z_score(bars: pl.DataFrame) -> pl.Series:
    close = bars["close"]
    return (close - close.mean()) / close.std()


def interpolated(bars: pl.DataFrame) -> pl.Series:
    return bars["close"].interpolate()


def ranked(bars: pl.DataFrame) -> pl.Series:
    return bars["volume"].rank() / bars.height


def next_high(bars: pl.DataFrame) -> pl.Series:
    """Right but on Mondays, when it takes the high of the next bar."""
    monday = (bars["open_time"] // 86400 + 3) % 7 == 0
    return bars["high"].shift(-1).zip_with(monday, bars["high"])


OFFENDERS: dict[str, tuple[int, Compute | pl.Expr, str]] = {
    "next_close": (5, lambda bars: bars["close"].shift(-1), "it looks ahead"),
    "centred": (5, centred, "it looks ahead"),
    "back_filled": (1, back_filled, "it looks ahead"),
    "interpolated": (30, interpolated, "it looks ahead"),
    "less_mean": (50, less_mean, "it looks ahead"),
    "z_score": (50, z_score, "it looks ahead"),
    "next_close_as_expression": (5, CLOSE.shift(-1), "it looks ahead"),
    "centred_as_expression": (5, CLOSE.rolling_mean(5, center=True), "it looks ahead"),
    "back_filled_as_expression": (1, CLOSE.backward_fill(), "it looks ahead"),
    "interpolated_as_expression": (30, CLOSE.interpolate(), "it looks ahead"),
    "z_score_as_expression": (50, (CLOSE - CLOSE.mean()) / CLOSE.std(), "it looks ahead"),
    "ewm_as_expression": (
        24,
        CLOSE.ewm_mean(span=12),
        "it reads further back than its lookback of 24: raise it",
    ),
    "short_as_expression": (
        10,
        CLOSE / CLOSE.shift(10) - 1,
        "it reads further back than its lookback of 10: raise it",
    ),
    "ranked": (50, ranked, "it looks ahead"),
    "next_high": (1, next_high, "it looks ahead"),
    "reversed": (1, lambda bars: bars["close"].reverse(), "it looks ahead"),
    "short": (
        3,
        lambda bars: bars["close"].rolling_mean(4, min_samples=1),
        "it reads further back than its lookback of 3: raise it",
    ),
    "undefined": (
        3,
        lambda bars: bars["close"].rolling_mean(4),
        "it reads further back than its lookback of 3: raise it",
    ),
    "ewm": (24, ewm, "it reads further back than its lookback of 24: raise it"),
    "running": (
        100,
        lambda bars: bars["volume"].cum_sum(),
        "it reads further back than its lookback of 100: raise it",
    ),
}
CLEAN: dict[str, tuple[int, Compute | pl.Expr]] = {
    "momentum_as_expression": (11, CLOSE / CLOSE.shift(10) - 1),
    "deviation_as_expression": (61, CLOSE.log().diff().rolling_std(60)),
    "previous_close": (2, lambda bars: bars["close"].shift(1)),
    "trailing": (5, lambda bars: bars["close"].rolling_mean(5)),
    "forward_filled": (7, forward_filled),
    "less_trailing_mean": (50, lambda bars: bars["close"] - bars["close"].rolling_mean(50)),
    "long_enough": (4, lambda bars: bars["close"].rolling_mean(4, min_samples=1)),
    "longer_than_needed": (40, lambda bars: bars["close"].rolling_mean(4)),
    "truncated_ewm": (12, truncated_ewm),
    "deviation": (24, lambda bars: bars["close"].rolling_std(24)),
    "deviation_of_volume": (24, lambda bars: bars["volume"].rolling_std(24)),
    "trailing_sum": (100, lambda bars: bars["volume"].rolling_sum(100)),
    "trailing_rank": (10, lambda bars: bars["close"] / bars["close"].rolling_max(10)),
}


@pytest.fixture(scope="module")
def candle_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("law") / "candles.h5", simulated())


@pytest.mark.parametrize("name", OFFENDERS)
def test_a_feature_that_breaks_the_law_is_named_with_time_and_size(
    market: Market, name: str
) -> None:
    lookback, compute, problem = OFFENDERS[name]
    both = (FEATURES["log_return"], Feature(name, lookback, compute))
    before = set(market.candles.parent.iterdir())
    with pytest.raises(LookAheadError) as caught:
        build(market.candles, Recipe(both, market.max_fill, EVER))
    number = r"(-?[\d.]+(e[-+]\d+)?|nan)"
    found = re.fullmatch(
        rf"feature '{name}' at (?P<when>\S+Z): (?P<all>{number}) with all bars, (?P<alone>{number})"
        rf" from its last {lookback} alone \(difference (?P<size>{number})\): (?P<problem>.*)",
        str(caught.value),
    )
    assert found is not None, str(caught.value)
    assert found["problem"] == problem
    when = int(datetime.fromisoformat(found["when"]).timestamp())
    row = market.times.tolist().index(when)
    bars = frame(market.times, market.bars)
    whole = Feature(name, lookback, compute)
    alone = whole(bars[max(0, row - lookback + 1) : row + 1])[-1]
    shown = [float(found[key]) for key in ("all", "alone", "size")]
    true = [whole(bars)[row], alone, abs(whole(bars)[row] - alone)]
    assert shown == pytest.approx(true, rel=1e-2, nan_ok=True)
    assert set(market.candles.parent.glob("features-*.h5")) <= before


def test_one_outlier_does_not_hide_a_look_ahead(tmp_path: Path) -> None:
    series = candles_of(np.ones(500, dtype=bool))
    volume = 10 + series["volume"]
    volume[200] = 1e-8  # the least that can be traded
    path = write(tmp_path / "candles.h5", changed(series, volume=volume))

    def growth(bars: pl.DataFrame) -> pl.Series:
        ratio = (bars["volume"] / bars["volume"].shift(1)).fill_null(1)
        return ratio.rolling_mean(3, center=True, min_samples=1)

    coming = Feature("coming", 3, growth)
    with pytest.raises(LookAheadError, match=r"'coming' .* it looks ahead"):
        build(path, Recipe((coming,), MAX_FILL, EVER))


@pytest.mark.parametrize("name", CLEAN)
def test_a_feature_that_keeps_the_law_passes(market: Market, name: str) -> None:
    lookback, compute = CLEAN[name]
    feature = Feature(name, lookback, compute)
    path = build(market.candles, Recipe((feature,), market.max_fill, EVER))
    table, values = Table.open(path), feature(frame(market.times, market.bars))
    seen = table.observed[:].astype(bool)
    assert seen.sum() > 20
    np.testing.assert_allclose(table.x[seen, 0], values[seen], rtol=1e-6, atol=1e-9)
    path.unlink()


def test_all_built_in_features_keep_the_law_on_a_market_that_stands_still_but_once(
    tmp_path: Path,
) -> None:
    present = np.ones(600, dtype=bool)
    present[[100, 200, 201, 202, 203, 204, 205]] = False
    series = candles_of(present, optional=OPTIONAL)
    flat = np.full(len(series), 7000.0)
    flat[300] = 21000.0
    still = changed(
        series,
        **dict.fromkeys(("open", "high", "low", "close"), flat),
        volume=np.zeros(len(series)),
        taker_buy_volume=np.zeros(len(series)),
    )
    path = write(tmp_path / "candles.h5", still)
    table = Table.open(build(path, Recipe(resolve(list(FEATURES)), MAX_FILL, EVER)))
    moved = np.flatnonzero(table.x[:, table.features.index("log_return")])
    assert moved.tolist() == [307, 308]
    assert (table.x[:, table.features.index("taker_share")][table.observed == 1] == 0.5).all()


@pytest.mark.parametrize(
    "wrong", [lambda bars: bars["close"].head(3), lambda bars: bars["close"].append(bars["open"])]
)
def test_building_with_a_feature_of_another_length_fails(candle_file: Path, wrong: Compute) -> None:
    with pytest.raises(ConfigError, match=r"feature 'wrong' gave \d+ values for 2000 bars"):
        build(candle_file, Recipe((Feature("wrong", 1, wrong),), MAX_FILL, EVER))


def test_the_check_looks_at_the_rows_it_is_told() -> None:
    bars = frame(*real_grid())
    row = int(np.flatnonzero(np.isfinite(references(*real_grid())["log_return"]))[700])
    once = pl.Series(np.arange(bars.height) == row)

    def peek(given: pl.DataFrame) -> pl.Series:
        late = given["close"].shift(-1)
        return (
            late.zip_with(once.head(given.height), given["close"])
            if given.height > row
            else (given["close"])
        )

    feature = Feature("peek", 1, peek)
    values = feature(bars)
    check_lookback(feature, bars, values, [row - 1, row + 1])
    with pytest.raises(LookAheadError, match="'peek'"):
        check_lookback(feature, bars, values, [row])


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


@pytest.mark.parametrize("size", [3e-5, 3e-6, 1e-2])
def test_a_leak_that_is_small_beside_a_constant_level_is_found(size: float) -> None:
    level = 1000.0 if size > 1e-3 else 1.0

    def peek(bars: pl.DataFrame) -> pl.Series:
        coming = (bars["close"].shift(-1) / bars["close"]).log().fill_null(0.0)
        return level + size * coming

    times = T0 + HOUR * np.arange(500)
    candles = candles_of(times)
    bars = frame(times, {n: candles[n] for n in ("open", "high", "low", "close", "volume")})
    feature = Feature("peek", 2, peek)
    with pytest.raises(LookAheadError, match="it looks ahead"):
        check_lookback(feature, bars, feature(bars), range(10, 490, 40))
