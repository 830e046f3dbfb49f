"""Leaks through series beside the candles: joins, labels, revisions, clocks, scalers, fills."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from btc_datamodule import (
    Candles,
    CombinatorialPurged,
    Feature,
    RecordBlock,
    RecordSource,
    Resampled,
    eligible,
)
from btc_datamodule.candles.records import RecordSet
from btc_datamodule.candles.timeline import Span
from btc_datamodule.evaluation import walls
from btc_datamodule.features.clocks import (
    BarClock,
    GridClock,
    LongBarClock,
    RecordClock,
    Rows,
)
from tests.audit import peeks
from tests.audit.planted.features import unchecked
from tests.audit.planted.given import Altered, interpolate, leave
from tests.audit.planted.inside import scaler_sees_everything
from tests.audit.planted.leak import (
    AHEAD,
    ALLOWED,
    BUILD,
    FUNCTIONS,
    KNOWN,
    ROWS,
    STATISTICS,
    TRAIN_BLIND,
    Leak,
    make_candles,
    of_source,
    reads_later,
)
from tests.factories import HOUR, START, InMemory


def make_eth(*holes: tuple[int, int], shift: int = 0) -> Candles:
    """Another coin's candles, which move with ours; told ``shift`` seconds too early."""
    ours = make_candles()
    rows = (ours.open_time - START) // HOUR
    kept = ~np.isin(rows, [row for first, bars in holes for row in range(first, first + bars)])
    noise = 0.003 * np.random.default_rng(7).normal(size=(4, ROWS))
    columns = {name: 0.03 * ours[name] ** 1.1 for name in ("open", "high", "low", "close")} | {
        "volume": ours["volume"] + 5
    }
    columns["close"] = columns["close"] * np.exp(noise[0, rows])
    columns["high"] = np.maximum(columns["high"], columns["close"])
    columns["low"] = np.minimum(columns["low"], columns["close"])
    columns = {name: values[kept] for name, values in columns.items()}
    return Candles(HOUR, {"open_time": ours.open_time[kept] - shift, **columns})


ETH = InMemory(make_eth((150, 5), (380, 4)), "eth")

Alter = Callable[[RecordSet, Span], RecordSet]


def tell(records: RecordSet, _: Span) -> RecordSet:
    return records


@dataclass(frozen=True, eq=False)
class Told(RecordSource):
    """Tells records that it holds, after ``alter`` has had them and the span that was asked for."""

    records: RecordSet
    alter: Alter = tell
    step: int | None = None
    label: str = "told"

    name: ClassVar[str] = "told"

    @property
    def series(self) -> str:
        return self.label

    @property
    def columns(self) -> tuple[str, ...]:
        return self.records.values

    @property
    def interval(self) -> int | None:
        return self.step

    def blocks(self, span: Span) -> Any:
        yield RecordBlock(span, self.alter(self.records, span).slice(*span), "memory")


def make_interest(revised: int | None = 5) -> RecordSet:
    """Open interest of every hour; every ``revised``-th is revised three hours after its hour."""
    rng = np.random.default_rng(3)
    time = START + HOUR * np.arange(ROWS - 8)
    value = 1000 + np.cumsum(rng.normal(size=len(time)))
    known_at, again = time + HOUR, slice(0, len(time) if revised else 0, revised)
    columns = {
        "time": np.concatenate([time, time[again]]),
        "known_at": np.concatenate([known_at, known_at[again] + 3 * HOUR]),
        "interest": np.concatenate([value, value[again] + 5]),
    }
    order = np.lexsort((columns["known_at"], columns["time"]))
    return RecordSet({name: each[order] for name, each in columns.items()})


def make_prices(known_after: int) -> RecordSet:
    """The other coin's closes as records, said to be known some time after the bar opens."""
    eth = make_eth()
    return RecordSet(
        {"time": eth.open_time, "known_at": eth.open_time + known_after, "close": eth["close"]}
    )


def tell_flow_by_its_label(records: RecordSet, span: Span) -> RecordSet:
    """The change over the hour that begins at a record's time, said to be known at that time.

    Where the hour has not been asked for, what there is of it.
    """
    asked = records.slice(0, span[1])
    level = np.append(asked["interest"], asked["interest"][-1:])
    columns = {**asked.columns, "known_at": asked.time, "interest": np.diff(level)}
    return RecordSet(columns)


def tell_revised_first(records: RecordSet, span: Span) -> RecordSet:
    """Each figure as it stood at the end of what is asked for, as if it had been so at once."""
    known = records.take(records.known_at <= span[1])
    last = np.append(np.diff(known.time) > 0, True)[: len(known)]
    first = np.append(True, np.diff(known.time) > 0)[: len(known)]
    columns = {name: values[last] for name, values in known.columns.items()}
    return RecordSet({**columns, "known_at": known.known_at[first]})


SINGLE = make_interest(revised=None)


# --- inside the package ---------------------------------------------------------------------------


def bars_are_known_when_they_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar that has not closed counts as known, and is there: the file has it."""

    def count(self: GridClock, instant: int) -> int:
        return max(0, -((self.first - instant) // self.interval))

    def read_early(kind: type[GridClock]) -> Callable[[Any, int, int], Rows]:
        read = kind.read

        def early(self: Any, low: int, high: int) -> Rows:
            rows = read(self, low, high)
            opened = rows._replace(known_at=rows.time, heard_at=rows.time)
            return opened if type(self) is kind else rows

        return early

    monkeypatch.setattr(GridClock, "count_known", count)
    for kind in (BarClock, LongBarClock):
        monkeypatch.setattr(kind, "read", read_early(kind))


def revisions_are_known_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The join takes the last value of each time from when the first one became known."""

    def known(self: RecordClock, low: int, instant: int) -> RecordSet:
        records = self.reader.rows(low, self.reader.find(instant + 1))
        first = np.append(True, np.diff(records.time) > 0)[: len(records)]
        last = np.append(np.diff(records.time) > 0, True)[: len(records)]
        known_at = records.known_at[first]
        final = records.take(last)
        told = RecordSet({**final.columns, "known_at": known_at})
        return told.take(told.known_at <= instant)

    monkeypatch.setattr(RecordClock, "read_known", known)


def walls_are_for_candles_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: Any) -> Any:
        return np.zeros((0, 2), dtype=np.int64)

    monkeypatch.setattr(eligible, "find_crossing", nothing)
    monkeypatch.setattr(walls, "find_crossing", nothing)


def of_eth(leak: Callable[..., Any], twin: Callable[..., Any], *found_by: str, **more: Any) -> Leak:
    """A feature of the candles and of eth."""
    leaking, clean = (Feature("f", 6, each, beside=("eth",)) for each in (leak, twin))
    covariates = {"covariates": {"eth": ETH}}
    return Leak(
        found_by,
        {"features": [leaking], **covariates},
        {"features": [clean]},
        **more,
    )


def of_records(
    leak: RecordSource,
    twin: RecordSource,
    *found_by: str,
    feature: str = "r = told.interest.diff()",
) -> Leak:
    """A source of records."""
    return Leak(
        found_by,
        {"features": ["log_return", feature], "covariates": {"told": leak}},
        {"covariates": {"told": twin}},
    )


EVERY = {
    "covariates": {"four": Resampled("4h"), "eth": ETH, "told": Told(make_interest(), step=HOUR)},
    "features": [
        "log_return",
        "four.log_return",
        "eth.momentum",
        "ratio = (eth.close / close).log()",
        "change = told.interest.diff(3)",
    ],
}
PURGED = EVERY | {"split": CombinatorialPurged(n_groups=5, n_test_groups=2, fold=3)}
OUTAGE = replace(ETH, candles=make_eth((350, 20), (470, 20)))

BESIDE: dict[str, Leak] = {
    "a longer bar before it closes, by a feature": Leak(
        (BUILD,),
        {"features": [Feature("four", 8, peeks.resample)]},
        {"features": [Feature("four", 8, peeks.resample_closed)]},
    ),
    "a longer bar before it closes, by the join": Leak(
        (KNOWN,), EVERY, plant=bars_are_known_when_they_open
    ),
    "a longer bar before it closes, by its source": of_records(
        Told(make_prices(0)), Told(make_prices(HOUR)), AHEAD, feature="r = told.close.log().diff()"
    ),
    "a label taken for known_at": of_records(
        Told(SINGLE, tell_flow_by_its_label), Told(SINGLE), of_source("told")
    ),
    "a revision before its publication, by the join": Leak(
        (KNOWN,), EVERY, plant=revisions_are_known_at_once
    ),
    "a revision before its publication, by the source": of_records(
        Told(make_interest(), tell_revised_first), Told(make_interest()), of_source("told")
    ),
    "a shifted time zone": Leak(
        (AHEAD,),
        {
            "features": ["log_return", "eth.log_return"],
            "covariates": {"eth": InMemory(make_eth(shift=2 * HOUR), "early")},
        },
        {"covariates": {"eth": ETH}},
    ),
    "a covariate's scaler fitted on everything": Leak(
        (TRAIN_BLIND, STATISTICS), EVERY, plant=scaler_sees_everything
    ),
    "a covariate standardised by the whole": of_eth(
        peeks.standardise_beside, peeks.compare_beside, BUILD
    ),
    "an outage filled from after it, in the build": of_eth(
        peeks.back_fill_beside, peeks.compare_beside, BUILD
    ),
    "an outage filled from after it, in the audit": of_eth(
        peeks.back_fill_beside, peeks.compare_beside, reads_later("f"), plant=unchecked
    ),
    "an outage filled from after it, by the source": Leak(
        (of_source("eth"),),
        {
            "features": ["log_return", "eth.log_return"],
            "covariates": {"eth": Altered(interpolate, OUTAGE)},
        },
        {"covariates": {"eth": Altered(leave, OUTAGE)}},
    ),
    "a ratio of two series one bar ahead": of_eth(
        peeks.shift_ratio, peeks.compare_beside, reads_later("f"), plant=unchecked
    ),
    "a memory of a covariate in a cache": Leak(
        (FUNCTIONS,),
        {
            "covariates": {"eth": ETH},
            "features": [Feature("kept", 2, peeks.remember_in_cache, series="eth")],
        },
        {"features": [Feature("kept", 4, peeks.weigh, series="eth")]},
    ),
    "what a covariate says crosses a wall": Leak(
        (TRAIN_BLIND, ALLOWED, STATISTICS), PURGED, plant=walls_are_for_candles_alone
    ),
}
