"""The check that catches whoever sees too far in a series beside the first, or in records."""

import numpy as np
import polars as pl
import pytest

from btc_datamodule import Feature, LookAheadError
from btc_datamodule.candles.records import RecordSet
from btc_datamodule.features.builtin import resolve
from btc_datamodule.features.causality import check_every_row, check_frames, check_lookback
from btc_datamodule.features.feature import Compute
from btc_datamodule.features.memory import capture_state, check_memory
from tests.factories import HOUR, T0
from tests.features.markets import real_grid
from tests.features.series import BESIDE, NAN, frame_beside

TIMES, BARS = real_grid()
ROWS = len(TIMES)
KEPT: list[float] = []


def make_beside(seed: int = 0) -> pl.DataFrame:
    """A series of candles beside the bars, now and then late, and not known at all at first."""
    rng = np.random.default_rng(seed)
    ages = np.where(rng.random(ROWS) < 0.98, 0, rng.integers(1, 4, ROWS)).astype(float)
    ages[:30] = NAN
    close = np.exp(np.cumsum(rng.normal(0, 0.01, ROWS)))
    columns = {"open": close * 1.01, "high": close * 1.02, "low": close * 0.99, "close": close}
    return frame_beside(ages.tolist(), **{name: each.tolist() for name, each in columns.items()})


def make_frames() -> list[pl.DataFrame]:
    bars = pl.DataFrame({"open_time": TIMES, **BARS}).with_columns(
        pl.col(pl.Float64).fill_nan(None)
    )
    return [bars, make_beside(1), make_beside(2)]


def next_close(bars: pl.DataFrame, eth: pl.DataFrame) -> pl.Series:
    return eth["close"].shift(-1) / bars["close"]


def whole_mean(bars: pl.DataFrame, eth: pl.DataFrame) -> pl.Series:
    return bars["close"] / eth["close"].mean()


def further_back(bars: pl.DataFrame, eth: pl.DataFrame) -> pl.Series:
    return eth["close"] / eth["close"].shift(5) + 0 * bars["close"].fill_null(1)


def back_filled(bars: pl.DataFrame, eth: pl.DataFrame) -> pl.Series:
    return eth["close"].fill_null(strategy="backward") + 0 * bars["close"].fill_null(1)


def next_age(_: pl.DataFrame, eth: pl.DataFrame) -> pl.Series:
    return eth["age"].shift(-1).fill_null(-1)


def next_known(_: pl.DataFrame, eth: pl.DataFrame) -> pl.Series:
    return eth["known_at"].is_null().shift(-1).fill_null(False)


def when_known(bars: pl.DataFrame, eth: pl.DataFrame) -> pl.Series:
    return (bars["open_time"] - eth["known_at"].shift(-1)).fill_null(0)


def weigh(bars: pl.DataFrame, eth: pl.DataFrame) -> pl.Series:
    fresh = (eth["age"] == 0).fill_null(False)
    return (eth["close"] / bars["close"]).zip_with(fresh, eth["close"].shift(2))


OFFENDERS: dict[str, tuple[Compute, str]] = {
    "the next close of another": (next_close, "it looks ahead"),
    "a mean of all of another": (whole_mean, "it looks ahead"),
    "a close of another from further back": (further_back, "further back than its lookback of 3"),
    "another filled backwards": (back_filled, "it looks ahead"),
    "the next age": (next_age, "it looks ahead"),
    "whether another is known next": (next_known, "it looks ahead"),
    "when another is known next": (when_known, "it looks ahead"),
}


@pytest.mark.parametrize("name", OFFENDERS)
def test_a_feature_that_sees_too_far_beside_its_rows_is_named(name: str) -> None:
    compute, problem = OFFENDERS[name]
    feature = Feature("mine", 3, compute, beside=("eth",))
    bars, eth, _ = make_frames()
    with pytest.raises(LookAheadError, match=problem):
        check_lookback(feature, bars, feature(bars, eth), range(10, ROWS - 10), [eth])
    with pytest.raises(LookAheadError, match=problem):
        check_every_row(feature, TIMES, BARS, others=[eth])


def test_a_feature_that_keeps_the_law_passes_in_every_row() -> None:
    feature = Feature("mine", 3, weigh, beside=("eth",))
    bars, eth, _ = make_frames()
    check_lookback(feature, bars, feature(bars, eth), range(ROWS), [eth])
    assert check_every_row(feature, TIMES, BARS, others=[eth]).all()


TEXTS = [
    "x = perp.close / close",
    "x = perp.close / close.shift(3) + eth.open",
    "x = close.log().diff().rolling_corr(perp.close.log().diff(), 12)",
    "x = (perp.close / close).log().rolling_mean(24) * (age(eth) < 2)",
    "x = perp.close.rolling_cov(close, 5) / close.rolling_var(5) - age(eth).shift(2)",
]


@pytest.mark.parametrize("text", TEXTS)
def test_lines_of_text_give_the_same_bits_whatever_stands_in_other_rows(text: str) -> None:
    (feature,) = resolve([text], BESIDE, HOUR)
    bars, *others = make_frames()
    others = others[: len(feature.beside)]
    assert check_every_row(feature, TIMES, BARS, others=others, exact=True).all()
    assert check_frames(feature, [bars, *others], exact=True).all()
    values = feature(bars, *others)
    assert np.isfinite(values).mean() > 0.2
    check_lookback(feature, bars, values, range(0, ROWS, 7), others)


def make_records() -> pl.DataFrame:
    """Funding, some records later than they are about, of no interval."""
    rng = np.random.default_rng(3)
    times = T0 + np.cumsum(rng.integers(1, 5, 600)) * HOUR
    rate = rng.normal(0, 1e-4, 600)
    rate[rng.random(600) < 0.05] = NAN
    columns = {"time": times, "known_at": times + rng.integers(0, 60, 600), "rate": rate}
    return pl.DataFrame(RecordSet(columns).columns).with_columns(pl.col("rate").fill_nan(None))


@pytest.mark.parametrize(
    "text", ["funding.rate", "x = funding.rate.diff(2)", "x = funding.rate.rolling_std(8)"]
)
def test_features_of_records_are_checked_on_the_rows_of_these(text: str) -> None:
    (feature,) = resolve([text], BESIDE)
    records = make_records()
    assert check_frames(feature, [records], exact=True).all()
    check_lookback(feature, records, feature(records), range(600))


def test_a_peek_at_the_next_record_is_told_with_the_time_of_its_own() -> None:
    records = make_records()
    peek = Feature("peek", 2, pl.col("rate").shift(-1), series="funding")
    when = f"'peek' at {np.datetime64(int(records['time'][100]), 's')}Z: "
    with pytest.raises(LookAheadError, match=rf"{when}.* it looks ahead"):
        check_lookback(peek, records, peek(records), [100])
    with pytest.raises(LookAheadError, match="it looks ahead"):
        check_frames(peek, [records])
    short = Feature("short", 2, pl.col("rate").diff(2), series="funding")
    with pytest.raises(LookAheadError, match="further back than its lookback of 2"):
        check_frames(short, [records])


def running_sum(bars: pl.DataFrame, eth: pl.DataFrame) -> pl.Series:
    total = eth["close"].fill_null(0).cum_sum()
    late = eth["age"] > 0
    return (total - total.shift(24)) / 24 - late.fill_null(False) + 0 * bars["open_time"]


def test_a_running_sum_over_another_series_only_rounds() -> None:
    feature = Feature("mine", 25, running_sum, beside=("eth",))
    assert check_every_row(feature, TIMES, BARS, others=[make_beside()]).all()


def keep(bars: pl.DataFrame, eth: pl.DataFrame) -> pl.Series:
    KEPT.append(bars.height)
    return eth["close"]


def test_a_memory_of_a_feature_with_two_frames_is_found() -> None:
    bars, eth, _ = make_frames()
    kept, pure = (Feature("mine", 3, each, beside=("eth",)) for each in (keep, weigh))
    for feature in (pure, resolve([TEXTS[0].replace("perp", "eth")], BESIDE, HOUR)[0]):
        before = capture_state(feature.compute)
        feature(bars, eth)
        check_memory(feature, before)
    with pytest.raises(LookAheadError, match="'mine' keeps something from one call to the next"):
        check_every_row(kept, TIMES, BARS, others=[eth])
