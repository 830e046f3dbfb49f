"""Targets as functions of the future window: by hand, by law, and against plain loops."""

import csv
import doctest
import gzip
import math
import tempfile
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jsonargparse import ArgumentParser
from numpy.typing import NDArray

import btc_datamodule.evaluation.targets
from btc_datamodule import BTCDataModule, CandleFile, Candles, ConfigError, Target
from btc_datamodule.candles.timeline import parse_instant
from btc_datamodule.evaluation.targets import (
    ClosePath,
    CumulativeReturn,
    Direction,
    LogReturn,
    OHLCPath,
    RealisedVolatility,
    TripleBarrier,
)
from btc_datamodule.features.layout import BAR_COLUMNS
from tests.factories import HOUR, START, InMemory, random_hourly
from tests.marks import law

NAN = math.nan
MAX_FILL = 3
EXTENTS = [(1, 0), (5, 2), (24, 0), (3, 7)]
"""Horizon and gap."""


@dataclass(frozen=True)
class Variance(Target):
    """A person's own target: says only its shape and its value."""

    def shape(self, horizon: int) -> tuple[int, ...]:
        return (1,)

    def __call__(self, bars: NDArray[np.float64]) -> NDArray[np.floating]:
        return np.asarray(np.sum(np.diff(np.log(bars), axis=1) ** 2, axis=1))


@dataclass(frozen=True)
class Gain(Variance):
    """One that is measured from further back, told by a plain number."""

    reference_bars: ClassVar[int] = 5


@dataclass(frozen=True)
class Crooked(Target):
    """One that gives something else than it says."""

    gives: str

    def shape(self, horizon: int) -> tuple[int, ...]:
        return (horizon,)

    def __call__(self, bars: NDArray[np.float64]) -> NDArray[np.floating]:
        given: dict[str, NDArray[Any]] = {
            "flat": bars[:, 0, 0],
            "texts": bars[:, 1:, 0].astype(str),
        }
        return given[self.gives]


TARGETS: list[Target] = [
    LogReturn(),
    CumulativeReturn(),
    Direction(),
    Direction(0.002),
    RealisedVolatility(),
    TripleBarrier(),
    TripleBarrier(up=1.3, down=0.7, volatility_bars=3),
    OHLCPath(),
    ClosePath(),
]
ALL = pytest.mark.parametrize("target", TARGETS, ids=repr)


def bars(*closes: list[float]) -> NDArray[np.float64]:
    return np.array(closes, dtype=np.float64)[:, :, np.newaxis]


def test_the_examples_in_the_module_hold() -> None:
    result = doctest.testmod(btc_datamodule.evaluation.targets)
    assert result.attempted > 0
    assert result.failed == 0


# By hand.


def test_log_return_is_the_path_of_one_bar_returns() -> None:
    y = LogReturn()(bars([100, 110, 99], [50, 50, 100]))
    assert y.shape == (2, *LogReturn().shape(2))
    np.testing.assert_allclose(y[0, :, 0], [np.log(1.1), np.log(0.9)])
    np.testing.assert_allclose(y[1, :, 0], [0, np.log(2)])


def test_the_path_of_closes_is_the_closes_themselves() -> None:
    closes = bars([100, 110, 99], [50, np.nan, 100], [np.nan, 7, 8])
    y = ClosePath()(closes)
    np.testing.assert_array_equal(y[:, :, 0], [[110, 99], [np.nan, 100], [np.nan] * 2])
    np.testing.assert_array_equal(ClosePath().prices(y, closes[:, 0, 0]), y)
    np.testing.assert_array_equal(
        ClosePath().prices(closes[:, 1:], closes[:, 0, 0])[2], [[np.nan]] * 2
    )


def test_cumulative_return_is_that_from_the_reference_close_to_the_last() -> None:
    y = CumulativeReturn()(bars([100, 1, 110], [50, 70, 25]))
    np.testing.assert_allclose(y, [[np.log(1.1)], [-np.log(2)]])


def test_direction_is_the_sign_over_the_whole_horizon() -> None:
    y = Direction()(bars([100, 50, 101], [100, 200, 99], [100, 1, 100]))
    assert y.shape == (3, *Direction().shape(2))
    assert y[:, 0].tolist() == [1, -1, 0]


def test_the_dead_zone_counts_as_no_direction() -> None:
    y = Direction(dead_zone=0.01)(bars([100, 100.9], [100, 101.1], [100, 99.1], [100, 98.9]))
    assert y[:, 0].tolist() == [0, 1, 0, -1]


def test_realised_volatility_is_the_root_of_the_sum_of_squared_returns() -> None:
    y = RealisedVolatility()(bars([100, 200, 100, 100], [100, 100, 100, 100], [1, 1, 1, 0.25]))
    np.testing.assert_allclose(y[:, 0], [np.sqrt(2) * np.log(2), 0, 2 * np.log(2)])


def test_ohlc_path_measures_every_price_from_the_reference_close() -> None:
    reference = [1, 1, 1, 100]  # open, high, low, close
    y = OHLCPath()(np.array([[reference, [100, 200, 50, 110], [110, 400, 25, 100]]], np.float64))
    np.testing.assert_allclose(
        np.exp(y), [[[1.0, 2.0, 0.5, 1.1], [1.1, 4.0, 0.25, 1.0]]], rtol=1e-12
    )


# The triple barrier by hand. Closes of 50 and 100 make one sigma of ln 2 around 100.


def label(
    *future: tuple[float, float],
    up: float = 1,
    down: float = 1,
    closes: tuple[float, ...] = (50, 100),
) -> float:
    """The label of a sample with these closes, and these (high, low) of its target bars.

    What a triple barrier should not look at is NaN: high and low of the past, close of the future.
    """
    rows = [(NAN, NAN, close) for close in closes] + [(high, low, NAN) for high, low in future]
    target = TripleBarrier(up, down, volatility_bars=len(closes) - 1)
    assert target.columns == ("high", "low", "close")
    y = target(np.array([rows], dtype=np.float64))
    assert y.shape == (1, *target.shape(len(future)))
    return float(y[0, 0])


CALM = (101.0, 99.0)


def test_the_barrier_that_is_reached_first_is_the_label() -> None:
    assert label(CALM, (250, 99), (101, 10)) == 1
    assert label(CALM, (101, 40), (900, 99)) == -1


def test_a_barrier_that_is_touched_exactly_is_reached() -> None:
    assert label(CALM, (200, 99)) == 1
    assert label(CALM, (101, 50)) == -1
    assert label(CALM, (199.99, 50.01)) == 0


def test_a_bar_that_reaches_both_barriers_counts_as_the_lower() -> None:
    assert label(CALM, (200, 50), CALM) == -1
    assert label((200, 99), (200, 50)) == 1, "the upper one had been reached before"


def test_no_barrier_reached_within_the_horizon_is_0() -> None:
    assert label(CALM, CALM, CALM) == 0


def test_each_barrier_lies_at_its_own_multiple_of_sigma() -> None:
    assert label((399, 99), up=2) == 0
    assert label((400, 99), up=2) == 1
    assert label((101, 25.1), down=2) == 0
    assert label((101, 25), down=2) == -1


def test_sigma_is_the_root_mean_square_of_returns_up_to_the_reference_bar() -> None:
    closes = (100.0, 200.0, 200.0, 200.0, 200.0)  # ln 2, 0, 0, 0: sigma is ln 2 / 2
    assert label((399, 199), closes=closes, up=2) == 0
    assert label((400, 199), closes=closes, up=2) == 1
    assert label((290, 142), closes=closes) == 1
    assert label((280, 141), closes=closes) == -1


def test_sigma_does_not_grow_with_the_horizon() -> None:
    assert label(*[CALM] * 98, (200, 99)) == 1


def test_after_a_market_that_stood_still_the_first_move_decides() -> None:
    still = (100.0, 100.0, 100.0)
    assert label((100, 100), (100, 100), closes=still) == 0
    assert label((100, 100), (100.01, 100), (100, 1), closes=still) == 1
    assert label((100, 100), (100, 99.99), (900, 100), closes=still) == -1
    assert label((100.01, 99.99), closes=still) == -1
    assert label((np.nextafter(100, 101), 100), closes=still) == 1
    assert label((100, np.nextafter(100, 99)), closes=still) == -1


def test_a_label_is_nan_where_any_bar_that_it_depends_on_is_unknown() -> None:
    assert math.isnan(label(CALM, (NAN, 99), CALM))
    assert math.isnan(label(CALM, (101, NAN), CALM))
    assert math.isnan(label((300, 99), (NAN, NAN))), "even after a barrier was reached"
    for closes in ((NAN, 100.0, 100.0), (100.0, NAN, 100.0), (100.0, 100.0, NAN)):
        assert math.isnan(label((300, 10), closes=closes))


# Laws.


@ALL
@pytest.mark.parametrize("horizon", [1, 7])
def test_a_target_knows_its_shape_without_data(target: Target, horizon: int) -> None:
    assert set(target.columns) <= set(BAR_COLUMNS)
    for count in (0, 3):
        y = target(np.ones((count, target.reference_bars + horizon, len(target.columns))))
        assert y.shape == (count, *target.shape(horizon))
        assert y.dtype == np.float64


@ALL
def test_an_unknown_future_is_nan(target: Target) -> None:
    known = np.ones((1, target.reference_bars + 4, len(target.columns)))
    assert np.isfinite(target(known)).all()
    known[:, target.reference_bars :] = NAN
    assert np.isnan(target(known)).all()


@ALL
def test_an_unknown_reference_close_is_nan(target: Target) -> None:
    known = np.ones((1, target.reference_bars + 1, len(target.columns)))
    known[:, target.reference_bars - 1] = NAN
    assert np.isnan(target(known)).all()


def test_a_path_is_nan_only_where_its_own_bars_are_unknown() -> None:
    y = LogReturn()(bars([100, NAN, 100, 100]))
    assert np.isnan(y[0, :, 0]).tolist() == [True, True, False]
    assert np.isnan(RealisedVolatility()(bars([100, NAN, 100, 100]))).all()
    ohlc = np.ones((1, 4, 4))
    ohlc[0, 2] = NAN
    assert np.isnan(OHLCPath()(ohlc)).all(axis=2).tolist() == [[False, True, False]]


HORIZONS = st.shared(st.integers(1, 6), key="horizon")


@given(
    HORIZONS.flatmap(lambda h: arrays(np.float64, (3, 1 + h, 4), elements=st.floats(0.01, 1e6))),
    st.sampled_from([np.float64, np.float32]),
)
def test_prices_gives_back_the_prices_that_a_target_was_made_of(
    ohlc: NDArray[np.float64], dtype: type[np.floating]
) -> None:
    # A float32 return of up to ln(1e8) = 18 is known to 1e-6, and so are six in a row to 6e-6.
    close, rtol = ohlc[:, :, 3:], 1e-12 if dtype is np.float64 else 2e-5
    made: list[tuple[Target, NDArray[np.float64], NDArray[np.float64]]] = [
        (LogReturn(), close, close[:, 1:]),
        (CumulativeReturn(), close, close[:, -1]),
        (OHLCPath(), ohlc, ohlc[:, 1:]),
        (ClosePath(), close, close[:, 1:]),
    ]
    for target, seen, expected in made:
        prices = target.prices(target(seen).astype(dtype), close[:, 0, 0])
        assert prices.dtype == np.float64
        assert prices.shape == expected.shape
        np.testing.assert_allclose(prices, expected, rtol=rtol)


@pytest.mark.parametrize(
    "target", [Direction(), RealisedVolatility(), TripleBarrier(), Variance()], ids=repr
)
def test_a_target_that_is_not_one_of_prices_says_so(target: Target) -> None:
    with pytest.raises(ConfigError, match=f"no prices can be told from .* {type(target).__name__}"):
        target.prices(np.zeros((2, 1)), np.ones(2))


def prepared(folder: Path, source: Any, target: Target, **arguments: Any) -> BTCDataModule:
    settings = {"lookback": 2, "features": ["log_return"], "max_fill": MAX_FILL, **arguments}
    dm = BTCDataModule(source=source, target=target, data_dir=str(folder), **settings)
    if not dm.candle_path.exists():
        dm.prepare_data()
    dm.setup()
    return dm


def corrupted(candles: Candles, rows: NDArray[np.bool_]) -> Candles:
    """The same bars, but those in some rows of the grid have other values."""
    chosen = rows[(candles.open_time - START) // HOUR]
    columns = {name: values.copy() for name, values in candles.columns.items()}
    for name in BAR_COLUMNS:
        columns[name][chosen] *= np.random.default_rng(1).uniform(2, 9, chosen.sum())
    for name, extreme in (("high", np.maximum), ("low", np.minimum)):
        prices = [columns[other] for other in ("open", "high", "low", "close")]
        columns[name] = extreme.reduce(prices)
    return Candles(candles.interval, columns)


@law(
    st.sampled_from([*TARGETS, Gain()]),
    st.lists(st.booleans(), min_size=90, max_size=90),
    st.integers(1, 6),
    st.integers(0, 9),
    st.floats(0, 1, exclude_max=True),
    examples=10,
    many=200,
)
def test_a_target_depends_on_its_context_and_its_own_bars_only(
    target: Target, present: list[bool], horizon: int, gap: int, where: float
) -> None:
    # Thin enough for holes, not so thin that there are outages everywhere.
    kept = [here or row % 2 == 0 for row, here in enumerate(present * 2)]
    candles = random_hourly(kept, seed=3)
    extent = {"horizon": horizon, "gap": gap, "batch_size": 1}
    with tempfile.TemporaryDirectory() as folder:
        dm = prepared(Path(folder, "clean"), InMemory(candles), target, **extent)
        assert dm.shape.reference_bars == target.reference_bars
        dataset = dm.dataset("train")
        position = int(where * len(dataset))
        clean = dataset[position]
        first = (int(clean.origin_time) - START) // HOUR + 1 + gap
        inside = np.zeros(len(kept), dtype=np.bool_)
        inside[first - target.reference_bars : first + horizon] = True
        # A bar that nobody traded in shows the close before it, which may lie further back.
        filled_from = first - target.reference_bars
        while not kept[filled_from]:
            filled_from -= 1
            inside[filled_from] = True

        other = prepared(
            Path(folder, "other"), InMemory(corrupted(candles, ~inside)), target, **extent
        )
        same = other.dataset("train")[position]
        assert int(same.origin_time) == int(clean.origin_time)
        assert same.y.numpy().tobytes() == clean.y.numpy().tobytes()
        assert other.table.bars("close").tobytes() != dm.table.bars("close").tobytes()


def test_the_same_probe_sees_a_change_of_every_bar_inside(tmp_path: Path) -> None:
    """Else it could not find anything."""
    candles = random_hourly([True] * 180, seed=3)
    target, extent = RealisedVolatility(), {"horizon": 3, "gap": 1, "batch_size": 1}
    clean = prepared(tmp_path / "clean", InMemory(candles), target, **extent).dataset("train")[9]
    first = (int(clean.origin_time) - START) // HOUR + 2
    for row in range(first - 1, first + 3):
        changed = corrupted(candles, np.arange(180) == row)
        dm = prepared(tmp_path / str(row), InMemory(changed), target, **extent)
        assert dm.dataset("train")[9].y != clean.y


# What a person sets, and writes.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Direction(-0.1), r"target.dead_zone -0.1 must be 0 or more"),
        (lambda: Direction(NAN), r"target.dead_zone nan must be 0 or more"),
        (lambda: TripleBarrier(up=0), r"target.up 0 must be a finite number above 0"),
        (lambda: TripleBarrier(up=math.inf), r"target.up inf must be a finite number above 0"),
        (lambda: TripleBarrier(down=-1.0), r"target.down -1.0 must be a finite number above 0"),
        (lambda: TripleBarrier(down=NAN), r"target.down nan must be a finite number above 0"),
        (
            lambda: TripleBarrier(volatility_bars=0),
            r"target.volatility_bars is 0: it must be a whole",
        ),
        (
            lambda: TripleBarrier(volatility_bars=True),
            r"target.volatility_bars is True: it must be a",
        ),
        (
            lambda: TripleBarrier(volatility_bars=1.5),  # type: ignore[arg-type]
            r"target.volatility_bars is 1.5: it must be a",
        ),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(
    make: Callable[[], Target], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_target_cannot_be_changed_once_made() -> None:
    with pytest.raises(FrozenInstanceError):
        TripleBarrier().up = 3  # type: ignore[misc]


@pytest.mark.parametrize("target", [*TARGETS, Variance(), Gain()], ids=repr)
def test_a_target_is_made_from_its_class_path_and_its_fields(target: Target) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--target", type=Target)
    path = f"{type(target).__module__}.{type(target).__qualname__}"
    given = parser.parse_object({"target": {"class_path": path, "init_args": vars(target)}})
    assert parser.instantiate(given).target == target


def test_a_target_of_ones_own_needs_no_more_than_shape_and_value(tmp_path: Path) -> None:
    dm = prepared(tmp_path, InMemory(random_hourly([True] * 200, 1)), Variance(), batch_size=8)
    assert dm.shape.reference_bars == 1
    assert dm.dataset("val")[np.arange(3)].y.shape == (3, 1)


@pytest.mark.parametrize(
    ("gives", "what"), [("flat", r"float64 of shape \(3,\)"), ("texts", r"<U32 of shape \(3, 2\)")]
)
def test_a_target_that_gives_something_else_than_it_says_is_refused(
    tmp_path: Path, gives: str, what: str
) -> None:
    candles = random_hourly([True] * 200, 1)
    dm = prepared(tmp_path, InMemory(candles), Crooked(gives), batch_size=8, horizon=2)
    with pytest.raises(ConfigError, match=f"Crooked gave {what} for 3 samples.* shape \\(3, 2\\)"):
        dm.dataset("val")[np.arange(3)]


def test_a_target_with_the_name_of_0_1_for_its_reference_bars_is_an_error_that_names_the_new() -> (
    None
):
    with pytest.raises(ConfigError, match="Old defines `context`, which is `reference_bars`"):

        class Old(LogReturn):
            context = 3


# Against plain loops over real candles, the whole way from the file to the batch.

Bar = tuple[float, float, float, float]
"""Open, high, low, close."""


@dataclass(frozen=True)
class Real:
    """Part of a real file, and where its columns stand."""

    path: str
    layout: str
    interval: str
    start: str
    end: str
    unit: int
    ohlc: tuple[int, int, int, int]


REAL = [
    Real("kraken/XBTUSD_60.csv", "kraken", "1h", "2015-06-01", "2017-01-01", 1, (1, 2, 3, 4)),
    Real(
        "bitfinex_1m/BTCUSD_1m_2019.csv.gz",
        "bitfinex",
        "1m",
        "2019-01-07",
        "2019-01-14",
        1000,
        (1, 3, 4, 2),
    ),
]


def grid_of(path: Path, real: Real, step: int) -> dict[int, Bar]:
    """The bars of a file by their time, the first of each hole flat; read with the csv module."""
    start, end = parse_instant(real.start), parse_instant(real.end)
    found: dict[int, Bar] = {}
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        for line in csv.reader(file):
            when = int(line[0]) // real.unit
            if start <= when < end:
                o, h, low, c = (float(line[column]) for column in real.ohlc)
                found[when] = (o, h, low, c)
    for before, after in pairwise(sorted(found)):
        for when in range(before + step, min(after, before + step * (MAX_FILL + 1)), step):
            found[when] = (found[before][3],) * 4
    return found


def log_ratio(price: float, base: float) -> float:
    return math.log(price / base)


def expected(target: Target, past: list[Bar], future: list[Bar]) -> list[float]:
    """The values of a sample, in plain loops; unknown bars are NaN."""
    reference = past[-1][3]
    closes = [reference, *(bar[3] for bar in future)]
    returns = [log_ratio(now, before) for before, now in pairwise(closes)]
    whole = log_ratio(closes[-1], reference)
    match target:
        case LogReturn():
            values = returns
        case CumulativeReturn():
            values = [whole]
        case Direction(dead_zone) if abs(whole) <= dead_zone:
            values = [0.0]
        case Direction():
            values = [NAN if math.isnan(whole) else math.copysign(1.0, whole)]
        case RealisedVolatility():
            values = [math.sqrt(sum(r * r for r in returns))]
        case ClosePath():
            values = [bar[3] for bar in future]
        case OHLCPath():
            values = [log_ratio(price, reference) for bar in future for price in bar]
        case TripleBarrier(up, down, count):
            values = [expected_label(up, down, past[-count - 1 :], future)]
        case _:
            raise AssertionError(target)
    return values


def expected_label(up: float, down: float, past: list[Bar], future: list[Bar]) -> float:
    if any(math.isnan(price) for bar in past + future for price in bar):
        return NAN
    squares = [log_ratio(now[3], before[3]) ** 2 for before, now in pairwise(past)]
    sigma = math.sqrt(sum(squares) / len(squares))
    reference = past[-1][3]
    upper, lower = reference * math.exp(up * sigma), reference * math.exp(-down * sigma)
    for _, high, low, _ in future:
        if low < reference if sigma == 0 else low <= lower:
            return -1
        if high > reference if sigma == 0 else high >= upper:
            return 1
    return 0


@pytest.mark.parametrize("real", REAL, ids=lambda real: real.layout)
def test_targets_of_real_candles_are_those_of_plain_loops(
    real_data: Path, tmp_path: Path, real: Real
) -> None:
    path = real_data / real.path
    if not path.is_file():
        pytest.skip(f"the real candle file {path} is absent")
    source = CandleFile(str(path), columns=real.layout)
    span = {"interval": real.interval, "start": real.start, "end": real.end}
    unknown: Bar = (NAN, NAN, NAN, NAN)
    known: dict[int, Bar] = {}
    labels: set[float] = set()
    for target in TARGETS:
        for horizon, gap in EXTENTS:
            extent = {"horizon": horizon, "gap": gap, "stride": 13, "eval_stride": 9}
            dm = prepared(tmp_path, source, target, batch_size=8, **span, **extent)
            step = dm.interval
            known = known or grid_of(path, real, step)
            assert len(dm.table.holes) > 100
            assert len(dm.table.outages) > 3
            assert dm.table.filled > 100
            for stage in ("train", "val", "predict"):
                dataset = dm.dataset(stage)
                stride = 11 if stage == "predict" else 1
                batch = dataset[np.arange(0, len(dataset), stride)]
                assert batch.y.dtype == torch.float32
                assert stage == "predict" or bool(batch.y.isfinite().all())
                rows = []
                for origin in batch.origin_time.tolist():
                    first = origin + step * (1 + gap)
                    past, future = (
                        [known.get(first + step * bar, unknown) for bar in range(*reach)]
                        for reach in ((-target.reference_bars, 0), (0, horizon))
                    )
                    rows.append(expected(target, past, future))
                made = batch.y.numpy().reshape(len(rows), -1)
                np.testing.assert_allclose(made, rows, rtol=1e-6, atol=1e-14)
                if isinstance(target, TripleBarrier):
                    labels.update(made[np.isfinite(made)].tolist())
                    assert np.isin(made[np.isfinite(made)], [-1, 0, 1]).all()
    assert labels == {-1, 0, 1}
