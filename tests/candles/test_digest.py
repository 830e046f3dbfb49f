"""The digest of candles: of what they say, not of how they came."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btc_datamodule.candles import digest
from btc_datamodule.candles.digest import ContentDigest
from btc_datamodule.candles.series import COLUMNS, OPTIONAL, Candles
from btc_datamodule.candles.timeline import Interval
from btc_datamodule.store.candle_file import CandleReader
from tests.factories import HOUR, T0, candles_of
from tests.helpers import digest_of, write

BARS = 60


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "DIGEST_ROWS", 7)


def series() -> Candles:
    """Bars with holes, one of which is a segment and more."""
    there = np.ones(BARS, dtype=bool)
    there[[3, 4, 50]] = there[20:36] = False
    return candles_of(there, optional=OPTIONAL)


def changed(candles: Candles, name: str, rows: slice, value: float) -> Candles:
    columns = {each: values.copy() for each, values in candles.columns.items()}
    columns[name][rows] = value
    return Candles(candles.interval, columns)


@settings(max_examples=25)
@given(st.lists(st.integers(0, BARS), max_size=12))
def test_the_digest_does_not_depend_on_chunks(cuts: list[int]) -> None:
    whole = series()
    times = [T0 + at * HOUR for at in [0, *sorted(cuts), BARS]]
    assert digest_of(*(whole.slice(*span) for span in pairwise(times))) == digest_of(whole)


def test_the_digest_depends_on_every_value_the_interval_and_the_grid() -> None:
    whole = series()
    found = [digest_of(whole), digest_of(whole.slice(T0, T0 + 59 * HOUR))]
    found += [digest_of(changed(whole, name, slice(30, 31), 8000.0)) for name in OPTIONAL]
    later = dict(whole.columns, open_time=whole.open_time + HOUR)
    found.append(digest_of(Candles(HOUR, later)))
    halved = dict(whole.columns, open_time=whole.open_time // 2)
    found.append(digest_of(Candles(HOUR // 2, halved)))
    shifted = dict(whole.columns, open_time=whole.open_time + 600)
    found.append(digest_of(Candles(Interval(HOUR, 600), shifted)))
    assert len(set(found)) == len(found)


def test_a_column_that_is_nowhere_known_counts_as_absent_and_a_zero_has_no_sign() -> None:
    whole = series()
    without = Candles(HOUR, {name: v for name, v in whole.columns.items() if name != "trades"})
    unknown = changed(whole, "trades", slice(None), np.nan)
    assert digest_of(unknown) == digest_of(without)
    known_once = changed(unknown, "trades", slice(40, 41), 0.0)
    assert digest_of(known_once) != digest_of(without)
    assert digest_of(changed(unknown, "trades", slice(40, 41), -0.0)) == digest_of(known_once)


def test_segments_without_bars_have_no_digest() -> None:
    made = ContentDigest(HOUR)
    made.update(series())
    found = made.get_segments()
    first = T0 // HOUR // 7
    by_clock = np.unique(series().open_time // HOUR // 7)
    assert found.numbers.tolist() == by_clock.tolist()
    assert found.digests.shape == (len(by_clock), len(COLUMNS), 32)
    assert not {first + 3, first + 4} <= {*found.numbers.tolist()}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digest, "DIGEST_ROWS", 7)
        return write(tmp_path_factory.mktemp("digest") / "candles.h5", series())


@settings(max_examples=25)
@given(at=st.integers(-3, BARS + 3), past=st.integers(-1, 1))
def test_the_digest_before_an_instant_is_that_of_a_file_of_its_own(
    path: Path, at: int, past: int
) -> None:
    instant = T0 + at * HOUR + past
    with CandleReader(path) as reader:
        assert reader.digest_before(instant) == digest_of(series().slice(0, instant))
