"""Gaps that look made are found, and those that markets make are not."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from btc_datamodule.candles.gaps import Stretch, find_suspicious
from btc_datamodule.candles.series import find_holes
from btc_datamodule.candles.timeline import format_interval
from tests.factories import HOUR, T0


def find(times: NDArray[np.int64], interval: int = HOUR) -> list[Stretch]:
    span = (int(times[0]), int(times[-1]) + interval)
    return find_suspicious(find_holes(times, interval), interval, span)


def hours(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    return T0 + HOUR * np.flatnonzero(mask).astype(np.int64)


def whole(bars: int = 1000) -> NDArray[np.bool_]:
    return np.ones(bars, dtype=bool)


def span_of(first: int, after: int) -> tuple[int, int]:
    return T0 + first * HOUR, T0 + after * HOUR


def test_bars_that_are_all_there_are_not_suspicious() -> None:
    assert find(hours(whole())) == []
    assert find(np.zeros(1, dtype=np.int64)) == []


@pytest.mark.parametrize("length", [48, 150, 300])
def test_a_long_run_of_absent_bars_amid_complete_ones_is_found(length: int) -> None:
    mask = whole()
    mask[300 : 300 + length] = False
    [stretch] = find(hours(mask))
    assert stretch == Stretch(span_of(300, 300 + length), length, 0)
    assert stretch.describe().startswith("from 2020-01-13T12:00:00Z to 2020-01-")
    assert stretch.describe().endswith(f" no bar of {length}")


def test_a_short_run_and_one_amid_many_absent_bars_are_not_found() -> None:
    mask = whole()
    mask[300:347] = False
    assert find(hours(mask)) == []
    mask = np.random.default_rng(0).random(1000) < 0.9
    mask[300:450] = False
    assert find(hours(mask)) == []


@pytest.mark.parametrize("step", [2, 3, 24])
def test_bars_that_were_thinned_out_amid_complete_ones_are_found(step: int) -> None:
    mask = whole(2000)
    mask[300:600] = False
    mask[300:600:step] = True
    [stretch] = find(hours(mask))
    assert stretch == Stretch(span_of(301, 600), 300 - len(range(300, 600, step)), step * HOUR)
    assert f"one bar every {format_interval(step * HOUR)} (" in stretch.describe()


def test_pages_that_were_all_cut_in_half_are_all_found() -> None:
    mask = (np.arange(3000) // 150) % 2 == 0
    found = find(hours(mask))
    assert [stretch.span for stretch in found] == [
        span_of(start, start + 150) for start in range(150, 2850, 300)
    ]


def test_a_history_that_is_thinned_out_throughout_is_found() -> None:
    mask = whole() & (np.arange(1000) % 2 == 0)
    [stretch] = find(hours(mask))
    assert (stretch.absent, stretch.step) == (499, 2 * HOUR)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.9])
def test_bars_that_are_absent_by_chance_are_not_suspicious(share: float) -> None:
    mask = np.random.default_rng(1).random(200_000) >= share
    mask[[0, -1]] = True
    assert find(hours(mask)) == []


def test_real_hours_of_kraken_and_minutes_of_bitfinex_are_not_suspicious(real_data: Path) -> None:
    def read(path: Path) -> NDArray[np.int64]:
        text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        first = [line.split(b",", 1)[0] for line in text.splitlines()]
        return np.array([int(float(when)) for when in first if when[:1].isdigit()], dtype=np.int64)

    assert find(read(real_data / "kraken" / "XBTUSD_60.csv")) == []
    for year in (2018, 2019):
        times = read(real_data / "bitfinex_1m" / f"BTCUSD_1m_{year}.csv.gz") // 1000
        assert find(np.unique(times), 60) == []
