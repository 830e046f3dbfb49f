"""Features of the series beside the candles, computed for bars of the candles.

Opens the series of a recipe and gives, for any bars, what each feature that sees them is worth
there: one on the clock of a series by ``join_feature``, one that sees several by frames of
``join_rows``. Bars are taken few enough at a time that the rows of a finer series fit in memory.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.runs import Mask
from btc_datamodule.features.asof import NEVER, Joined, JoinedRows, join_feature, join_rows
from btc_datamodule.features.causality import check_lookback
from btc_datamodule.features.clocks import Clock, GridClock, Rows, StoredBeside, stack_rows
from btc_datamodule.features.feature import Feature, make_frame
from btc_datamodule.features.language import Expression
from btc_datamodule.features.memory import capture_state, check_memory
from btc_datamodule.features.states import Compute
from btc_datamodule.store.candle_file import CandleReader
from btc_datamodule.store.record_file import RecordReader

if TYPE_CHECKING:
    import polars as pl

BLOCK_ROWS = 1 << 18
"""Rows of a series that are computed at once, beside those that the lookback needs."""

CHECKED_ROWS = 32
"""Rows of a series on which a feature is tested for look-ahead, of those computed at once."""


class Values(NamedTuple):
    """What a feature is worth in some bars.

    Attributes:
        values: (n,) float64, NaN where it has none.
        known: (n,) where everything that it is made of, beside the candles, is known.
        since: (n,) int64, the earliest instant of a series that it, or that there is none, hangs
            on; ``NEVER`` for none.
    """

    values: NDArray[np.float64]
    known: Mask
    since: NDArray[np.int64]


class Frames(NamedTuple):
    """Frames that a feature is given after the first one, a row for each row of that.

    Attributes:
        frames: one for each series.
        known: (n,) where what the feature takes of all of them is known.
        since: (n,) int64, the earliest instant that any row hangs on; ``NEVER`` for none.
    """

    frames: tuple["pl.DataFrame", ...]
    known: Mask
    since: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class JoinedSeries:
    """The series of a recipe, open to be read.

    Attributes:
        clocks: by name.
    """

    clocks: Mapping[str, Clock]

    def compute(
        self, feature: Feature, closes: NDArray[np.int64], *, check: bool = False
    ) -> Values:
        """The values of a feature on the clock of a series that enter bars.

        Args:
            feature: whose ``series`` is one of these.
            closes: (n,) closes of the bars, in order.
            check: whether to test the feature for look-ahead.

        Raises:
            LookAheadError: if it reads other rows than it says.
        """
        clock = self.clocks[feature.series]
        parts = [
            join_feature(
                clock,
                part,
                feature.lookback,
                self._make_compute(feature, clock, check=check),
                feature.list_columns(feature.series),
            )
            for part in _cut(clock, closes)
        ]
        joined = Joined(*(np.concatenate(each) for each in zip(*parts, strict=True)))
        since = self._find_since_beside(feature, joined.since)
        return Values(joined.values, np.isfinite(joined.values), since)

    def _find_since_beside(self, feature: Feature, since: NDArray[np.int64]) -> NDArray[np.int64]:
        """The earliest instant that values hang on whose own series reach back to ``since``.

        No later than what was known of the series beside at the very beginning.
        """
        if not feature.beside:
            return since
        instants, number = np.unique(since, return_inverse=True)
        known = instants[instants < NEVER]
        least = instants.copy()
        for name in feature.beside if len(known) else ():
            parts = [join_rows(self.clocks[name], part) for part in _cut(self.clocks[name], known)]
            beside = np.concatenate([part.rows.since for part in parts])
            least[: len(known)] = np.minimum(least[: len(known)], beside)
        return least[number]

    def join(self, name: str, closes: NDArray[np.int64]) -> JoinedRows:
        """The newest row of a series that was known at each of some closes, in order."""
        clock = self.clocks[name]
        return _concatenate([join_rows(clock, part) for part in _cut(clock, closes)])

    def make_frames(self, feature: Feature, closes: NDArray[np.int64], interval: int) -> Frames:
        """The frames beside the first one that a feature is given.

        Args:
            feature: which.
            closes: (n,) closes of the rows of the first frame, in order.
            interval: seconds of a bar of the first frame.
        """
        known = np.ones(len(closes), dtype=np.bool_)
        since = np.full(len(closes), NEVER)
        frames = []
        for name in feature.beside:
            joined = self.join(name, closes)
            frames.append(_make_beside_frame(joined, interval))
            some = joined.some & (joined.age == 0) if _meets(feature, name) else joined.some
            known &= some
            since = np.minimum(since, joined.rows.since)
        return Frames(tuple(frames), known, since)

    def _make_compute(self, feature: Feature, clock: Clock, *, check: bool) -> Compute:
        interval = clock.beside.interval

        def compute(rows: Rows) -> NDArray[np.float64]:
            frame = make_series_frame(clock, rows)
            others: tuple[pl.DataFrame, ...] = ()
            if feature.beside:
                assert interval is not None
                others = self.make_frames(feature, rows.time + interval, interval).frames
            before = capture_state(feature.compute)
            values = feature(frame, *others)
            check_memory(feature, before)
            if check:
                check_lookback(feature, frame, values, _choose_rows(feature, values), others)
            return values

        return compute


def make_series_frame(clock: Clock, rows: Rows) -> "pl.DataFrame":
    """The polars frame of rows of a series, as features of it are given it."""
    import polars as pl

    if isinstance(clock, GridClock):
        return make_frame(rows.time, rows.columns)
    frame = pl.DataFrame({"time": rows.time, "known_at": rows.known_at, **rows.columns})
    return frame.with_columns(pl.col(pl.Float64).fill_nan(None))


def join_series(
    stored: Sequence[StoredBeside], readers: Sequence[CandleReader | RecordReader], end: int
) -> JoinedSeries:
    """The series of a recipe, as far as they are known at ``end``.

    Args:
        stored: the series.
        readers: their files, open.
        end: an instant.
    """
    pairs = zip(stored, readers, strict=True)
    return JoinedSeries({each.beside.name: each.make_clock(file, end) for each, file in pairs})


@contextmanager
def open_series(stored: Sequence[StoredBeside], end: int) -> Iterator[JoinedSeries]:
    """``join_series`` of files that are opened, and closed again."""
    with ExitStack() as stack:
        readers: list[CandleReader | RecordReader] = [
            stack.enter_context(each.open_reader()) for each in stored
        ]
        yield join_series(stored, readers, end)


def _meets(feature: Feature, name: str) -> bool:
    """Whether a feature takes bars of another series where they are those of the same time."""
    return isinstance(feature.compute, Expression) and bool(feature.list_columns(name))


def _make_beside_frame(joined: JoinedRows, interval: int) -> "pl.DataFrame":
    import polars as pl

    rows, some = joined.rows, pl.Series(joined.some)
    frame = pl.DataFrame(
        {
            "time": rows.time,
            "known_at": rows.known_at,
            "age": joined.age / interval,
            **rows.columns,
        }
    )
    known = pl.when(some).then(pl.col("time", "known_at"))
    return frame.with_columns(known, pl.col(pl.Float64).fill_nan(None))


def _cut(clock: Clock, closes: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Bars, few enough at a time that the rows of a series up to them are ``BLOCK_ROWS``."""
    rows = clock.count_rows(int(closes[0]), int(closes[-1])) if len(closes) else 0
    step = max(1, len(closes) * BLOCK_ROWS // max(rows, BLOCK_ROWS))
    for low in range(0, len(closes), step):
        yield closes[low : low + step]


def _concatenate(parts: Sequence[JoinedRows]) -> JoinedRows:
    if len(parts) == 1:
        return parts[0]
    rows = stack_rows([part.rows for part in parts])
    some, age = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("some", "age")
    )
    return JoinedRows(rows, some, age)


def _choose_rows(feature: Feature, values: NDArray[np.float64]) -> list[int]:
    """Rows to test for look-ahead: random ones, and those of the largest and least values."""
    count = len(values)
    if count < feature.lookback:
        return []
    rng = np.random.default_rng(count)
    rows = [rng.integers(feature.lookback - 1, count, CHECKED_ROWS), np.array([count - 1])]
    if np.isfinite(values).any():
        unusual = np.abs(values - np.nanmedian(values))
        few = min(CHECKED_ROWS // 2, count)
        rows.append(np.argpartition(np.nan_to_num(unusual, nan=-np.inf), -few)[-few:])
    found = np.unique(np.concatenate(rows))
    return [int(row) for row in found if row >= feature.lookback - 1]
