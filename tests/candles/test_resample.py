"""Longer bars from shorter ones, and candles handed to other libraries."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btc_datamodule import CandleFile, Candles, ConfigError
from btc_datamodule.candles.series import OPTIONAL
from tests.factories import HOUR, START, candles_of, hourly, random_hourly


def read(path: Path | str, interval: int) -> Candles:
    (block,) = CandleFile(str(path)).blocks(interval, (0, 2_000_000_000))
    return block.candles


def test_a_long_bar_joins_its_short_ones() -> None:
    long, count = hourly([100, 90, 120, 110, 105, 130]).resample(3 * HOUR)
    assert count.tolist() == [3, 3]
    assert long.open_time.tolist() == [START, START + 3 * HOUR]
    assert long["open"].tolist() == [100, 120]
    assert long["close"].tolist() == [120, 130]
    assert long["high"].tolist() == [120 * 1.01, 130 * 1.01]
    assert long["low"].tolist() == [90 * 0.99, 105 * 0.99]
    assert long["volume"].tolist() == [1 + 2 + 3, 4 + 5 + 6]


def test_absent_bars_are_counted_and_wholly_absent_ones_stay_absent() -> None:
    short = hourly([100, None, 120, None, None, None, None, 90, 80, 70])
    long, count = short.resample(3 * HOUR)
    assert long.open_time.tolist() == [START, START + 6 * HOUR]
    assert count.tolist() == [2, 2]
    assert long["open"].tolist() == [100, 120]
    # The bar from row 9 on is not closed: rows 10 and 11 are still to come.
    assert long["close"].tolist() == [120, 80]


@given(
    st.lists(st.booleans(), min_size=1, max_size=80),
    st.sampled_from([1, 2, 3, 4, 24]),
    st.integers(0, 30),
)
@settings(max_examples=80)
def test_resampling_is_what_one_would_do_by_hand(
    present: list[bool], factor: int, offset: int
) -> None:
    times = START + HOUR * (offset + np.flatnonzero(present))
    short = candles_of(times.tolist(), optional=OPTIONAL)
    long, count = short.resample(factor * HOUR)
    expected = []
    for edge in range(START, short.span[1], factor * HOUR):
        bar = short.slice(edge, edge + factor * HOUR)
        if len(bar) and short.span[0] <= edge and edge + factor * HOUR <= short.span[1]:
            sums = [bar[name].sum() for name in OPTIONAL]
            prices = [bar["open"][0], bar["high"].max(), bar["low"].min(), bar["close"][-1]]
            expected.append([edge, *prices, *sums, len(bar)])
    got = np.column_stack([*(long[name] for name in long.columns), count])
    np.testing.assert_allclose(got, np.array(expected).reshape(-1, 10), rtol=1e-12)
    Candles(long.interval, long.columns)  # valid, whatever was joined


def test_a_length_that_is_no_multiple_is_refused() -> None:
    with pytest.raises(ConfigError, match="bars of 1h cannot be joined to bars of 90m"):
        random_hourly([True] * 9, seed=0).resample(90 * 60)


@pytest.mark.parametrize("month", ["2023-03", "2024-12", "2025-01"])
def test_half_hours_of_freqtrade_agree_with_hours_of_binance(real_data: Path, month: str) -> None:
    hours = read(real_data / f"binance_spot_1h/BTCUSDT-1h-{month}.csv", HOUR)
    halves = read(real_data / "freqtrade/BTC_USDT-30m_2020-2025.feather", HOUR // 2)
    joined, count = halves.slice(*hours.span).resample(HOUR)
    assert joined.open_time.tolist() == hours.open_time.tolist()
    for name in ("open", "high", "low", "close"):
        np.testing.assert_array_equal(joined[name][count == 2], hours[name][count == 2])
    np.testing.assert_allclose(joined["volume"], hours["volume"], rtol=1e-9, atol=1e-6)
    assert (count == 2).sum() >= len(hours) - 1


def test_frames_hold_the_columns_by_name() -> None:
    candles = hourly([100, 110])
    assert candles.to_polars()["close"].to_list() == [100, 110]
    frame = candles.to_pandas()
    assert list(frame["close"]) == [100, 110]
    assert str(frame.index[0]) == "2020-01-01 00:00:00+00:00"
