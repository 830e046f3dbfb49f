"""Nothing of the future leaks through series beside the candles.

Of every series there are two, made independently: one that is there, and another one. From a
boundary on, and in the test spans amid train, all candles and records are those of the other:
their values, which there are, when they became known, and which are revised. What train sees stays
what it was.
"""

import tempfile
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from btc_datamodule import (
    Batch,
    BTCDataModule,
    Candles,
    CombinatorialPurged,
    ConfigError,
    DateSplit,
    Feature,
    RecordBlock,
    RecordSource,
    Resampled,
    Split,
)
from btc_datamodule import eligible as wiring
from btc_datamodule.candles.records import RecordSet
from btc_datamodule.candles.timeline import Span, format_instant
from btc_datamodule.evaluation import walls
from btc_datamodule.evaluation.splits import STAGES
from tests.factories import HOUR, START, InMemory
from tests.test_leakage import batches, same

ROWS = 260
BEFORE = 100
"""Hours of the series before the candles begin."""

FIRST, END = START - BEFORE * HOUR, START + ROWS * HOUR
EIGHT = 8 * HOUR


@dataclass(frozen=True, eq=False)
class Told(RecordSource):
    """Tells records that it holds."""

    records: RecordSet
    label: str
    step: int | None = None

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
        yield RecordBlock(span, self.records.slice(*span), "memory")


class Paid(Told):
    """Records that tell of the eight hours before them."""

    covers: ClassVar[int] = EIGHT


class World(NamedTuple):
    """All that there is: candles, those of another coin, records of three kinds."""

    btc: Candles
    eth: Candles
    funding: RecordSet
    interest: RecordSet
    news: RecordSet


def make_candles(rng: np.random.Generator, first: int, rows: int, absent: float) -> Candles:
    """Hours on a random walk, some absent, alone and in outages; neither the first nor the last."""
    close = 100 * np.exp(np.cumsum(0.01 * rng.normal(size=rows)))
    opened = np.append(close[:1], close[:-1])
    kept = rng.uniform(size=rows) >= absent
    for start in rng.integers(1, rows, 3):
        kept[start : start + rng.integers(1, 9)] = False
    kept[[0, -1]] = True
    columns = {
        "open_time": first + HOUR * np.arange(rows),
        "open": opened,
        "high": np.maximum(opened, close) * 1.01,
        "low": np.minimum(opened, close) * 0.99,
        "close": close,
        "volume": rng.uniform(1, 2, rows),
    }
    return Candles(HOUR, {name: values[kept] for name, values in columns.items()})


def make_records(
    rng: np.random.Generator, step: int, *, of_period: bool, untold: float, messy: bool
) -> RecordSet:
    """Records of which some are not there, late or revised, and some are blank."""
    time = np.arange(FIRST, END, step)
    if not of_period and messy:
        time = np.sort(rng.choice(np.arange(FIRST, END, 60), len(time), replace=False))
        time[0] = FIRST
    known_at = time + step * of_period
    if messy:
        known_at = known_at + np.where(rng.uniform(size=len(time)) < 0.2, rng.integers(0, 9000), 0)
    again = np.flatnonzero(rng.uniform(size=len(time)) < 0.3 * messy)
    there = rng.uniform(size=len(time)) >= untold
    there[0] = True
    value = np.exp(0.1 * rng.normal(size=len(time)))
    value[1:][rng.uniform(size=len(time) - 1) < 0.05 * messy] = np.nan
    later = known_at[again] + rng.integers(1, 40_000, len(again))
    columns = {
        "time": np.append(time[there], time[again]),
        "known_at": np.append(known_at[there], later),
        "value": np.append(value[there], np.exp(0.1 * rng.normal(size=len(again)))),
    }
    order = np.lexsort((columns["known_at"], columns["time"]))
    return RecordSet({name: each[order] for name, each in columns.items()})


def make_world(seed: int, absent: float, untold: float) -> World:
    rng = np.random.default_rng(seed)
    return World(
        make_candles(rng, START, ROWS, absent),
        make_candles(rng, FIRST, BEFORE + ROWS, absent),
        make_records(rng, EIGHT, of_period=False, untold=untold / 2, messy=False),
        make_records(rng, HOUR, of_period=True, untold=untold, messy=True),
        make_records(rng, 5 * HOUR, of_period=False, untold=untold, messy=True),
    )


def is_own(
    blind: NDArray[np.bool_], since: NDArray[np.int64], known_at: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether no blind row lies between what something is about and when it becomes known."""
    first = ((since - START) // HOUR).clip(0, ROWS)
    past = (-((START - known_at) // HOUR)).clip(0, ROWS)
    before = np.append(0, np.cumsum(blind))
    own: NDArray[np.bool_] = before[past] == before[np.minimum(first, past)]
    return own


def becomes_known_blind(blind: NDArray[np.bool_], known_at: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the first row that closes at an instant or later is blind."""
    row = -((START - known_at) // HOUR) - 1
    becomes: NDArray[np.bool_] = blind[row.clip(0, ROWS - 1)] & (row < ROWS)
    return becomes


def mix_candles(one: Candles, other: Candles, blind: NDArray[np.bool_]) -> Candles:
    own = [is_own(blind, each.open_time, each.open_time + HOUR) for each in (one, other)]
    kept = [own[0], ~own[1]]
    kept[0][0], kept[1][0] = True, False  # so that both begin alike
    columns = {name: np.append(one[name][kept[0]], other[name][kept[1]]) for name in one.columns}
    order = np.argsort(columns["open_time"], kind="stable")
    new = np.append(True, np.diff(columns["open_time"][order]) > 0)
    return Candles(HOUR, {name: each[order][new] for name, each in columns.items()})


def mix_records(
    one: RecordSet, other: RecordSet, blind: NDArray[np.bool_], covers: int
) -> RecordSet:
    """Those of ``one`` that are train's own; in blind rows those of ``other`` become known.

    What is about a blind row's time and became known in a later row of train is there in both, with
    another value.
    """
    own = is_own(blind, one.time - covers, one.known_at)
    late = ~own & ~becomes_known_blind(blind, one.known_at)
    columns = {name: each.copy() for name, each in one.columns.items()}
    columns["value"][late] *= 3.0
    own[0] = True
    there = becomes_known_blind(blind, other.known_at)
    there &= ~is_own(blind, other.time - covers, other.known_at)
    mixed = {
        name: np.append(each[own | late], other[name][there]) for name, each in columns.items()
    }
    order = np.lexsort((mixed["known_at"], mixed["time"]))
    new = np.append(
        True, (np.diff(mixed["time"][order]) > 0) | (np.diff(mixed["known_at"][order]) > 0)
    )
    return RecordSet({name: each[order][new] for name, each in mixed.items()})


def mix(one: World, other: World, blind: NDArray[np.bool_]) -> World:
    return World(
        mix_candles(one.btc, other.btc, blind),
        mix_candles(one.eth, other.eth, blind),
        mix_records(one.funding, other.funding, blind, EIGHT),
        mix_records(one.interest, other.interest, blind, 0),
        mix_records(one.news, other.news, blind, 0),
    )


def blend(bars: Any, interest: Any, news: Any) -> Any:
    return interest["value"].fill_null(0.0).rolling_max(3) + news["value"].fill_null(7.0)


def lean(day: Any, funding: Any) -> Any:
    return day["close"].log().diff().fill_null(0.0) + funding["value"].fill_null(3.0)


def hold(interest: Any) -> Any:
    return interest["value"].fill_null(0.5).rolling_max(3)


FEATURES: dict[str, Any] = {
    "four.volatility": None,
    "four.log_return": None,
    "eth.log_return": None,
    "eth.momentum": None,
    "three.log_range": None,
    "funding.value": None,
    "mean": "mean = funding.value.rolling_mean(3)",
    "change": "change = interest.value.log().diff(2)",
    "news.value": None,
    "ratio": "ratio = (eth.close / close).log().diff()",
    "beta": "beta = eth.close.rolling_cov(close, 6)",
    "since": "since = age(news) / 8",
    "late": "late = age(interest)",
    "blend": Feature("blend", 4, blend, beside=("interest", "news")),
    "lean": Feature("lean", 2, lean, series="four", beside=("funding",)),
    "held": Feature(
        "held", 3, lambda rows: rows["value"].fill_null(0.5).rolling_max(3), series="interest"
    ),
}


def build(world: World, folder: str, arguments: dict[str, Any], *, blind: bool) -> BTCDataModule:
    """A datamodule of a world. With blind rows val and test may be left without any window."""
    dm = BTCDataModule(
        source=InMemory(world.btc),
        covariates={
            "four": Resampled("4h"),
            "eth": InMemory(world.eth, "eth"),
            "three": Resampled("3h", of="eth"),
            "funding": Paid(world.funding, "funding"),
            "interest": Told(world.interest, "interest", HOUR),
            "news": Told(world.news, "news"),
        },
        data_dir=folder,
        **arguments,
    )
    dm.prepare_data()
    try:
        dm.setup()
    except ConfigError as error:
        if not blind or "a stage without windows" not in str(error):
            raise
    return dm


@st.composite
def splits(draw: st.DrawFn) -> Split:
    if draw(st.booleans()):
        groups = draw(st.integers(3, 6))
        tested = draw(st.integers(1, 2))
        split = CombinatorialPurged(groups, tested)
        return CombinatorialPurged(groups, tested, fold=draw(st.integers(0, split.n_folds - 1)))
    val = draw(st.integers(120, 160))
    test = draw(st.integers(val + 10, 220))
    return DateSplit(*(format_instant(START + row * HOUR) for row in (val, test)))


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(sorted(FEATURES)), min_size=1, max_size=4, unique=True))
    return {
        "blind": draw(st.sampled_from(["train", "val"])),
        "seed": draw(st.integers(0, 1000)),
        "absent": draw(st.sampled_from([0.0, 0.05, 0.3])),
        "untold": draw(st.sampled_from([0.0, 0.1, 0.6])),
        "arguments": {
            "features": ["log_return", *(FEATURES[name] or name for name in names)],
            "split": draw(splits()),
            "max_age": draw(
                st.sampled_from([None, {"interest": "90m"}, {"news": "6h"}, {"eth": None}])
            ),
            "mask": draw(st.sampled_from(["bar", "feature"])),
            "min_observed": draw(st.sampled_from([1.0, 0.6, 0.2])),
            "max_fill": draw(st.integers(0, 3)),
            "lookback": draw(st.integers(1, 6)),
            "horizon": draw(st.integers(1, 3)),
            "embargo": draw(st.sampled_from([0, 4])),
            "purge": draw(st.sampled_from([0, 2])),
            "scaling": draw(st.sampled_from(["train", "robust"])),
            "target_scaling": draw(st.sampled_from(["none", "train"])),
            "batch_size": 4,
        },
    }


class Seen(NamedTuple):
    """A datamodule, and the batches of each stage."""

    dm: BTCDataModule
    train: list[Batch]
    val: list[Batch]
    test: list[Batch]


def compare(case: dict[str, Any]) -> tuple[Seen, Seen] | None:
    """What is seen of a world, and of one that is another where a stage is to be blind.

    None where what is absent has left a stage without windows, or no val comes after train.
    """
    one, other = (
        make_world(case["seed"] + more, case["absent"], case["untold"]) for more in (0, 5000)
    )
    with tempfile.TemporaryDirectory() as folder:
        try:
            clean = build(one, f"{folder}/clean", case["arguments"], blind=False)
        except ConfigError:
            return None
        fold, times = clean.fold, START + HOUR * np.arange(ROWS)
        if case["blind"] == "train":
            blind = times >= fold.train[-1][1]
            for start, end in (*fold.val, *fold.test):
                blind |= (times >= start) & (times < end)
        elif fold.val and fold.train[-1][1] <= fold.val[0][0]:
            blind = times >= fold.val[-1][1]
        else:
            return None
        changed = build(mix(one, other, blind), f"{folder}/blind", case["arguments"], blind=True)
        seen = [Seen(dm, *(batches(dm, stage) for stage in STAGES[:3])) for dm in (clean, changed)]
    return seen[0], seen[1]


@given(cases())
@settings(max_examples=12)
def test_another_world_from_a_boundary_on_changes_nothing_that_train_or_val_sees(
    case: dict[str, Any],
) -> None:
    found = compare(case)
    if found is None:
        return
    clean, changed = found
    assert same(clean.train, changed.train), "x, y and observed of train"
    assert clean.dm.scaler == changed.dm.scaler
    assert clean.dm.target_scaler == changed.dm.target_scaler
    digests = [each.dm.state_dict()["train_digest"] for each in found]
    assert digests[0] == digests[1]
    counts = [each.dm.describe().filter(stage="train") for each in found]
    assert counts[0].equals(counts[1])
    if case["blind"] == "val":
        assert same(clean.val, changed.val), "x, y and observed of val"
    assert not same(clean.test, changed.test), "the probe works"


CASE = {
    "blind": "train",
    "seed": 3,
    "absent": 0.05,
    "untold": 0.1,
    "arguments": {
        "features": ["log_return", "four.log_return", "eth.momentum", "funding.value"],
        "split": CombinatorialPurged(5, 1, fold=2),
        "lookback": 2,
        "horizon": 1,
        "min_observed": 0.6,
        "batch_size": 4,
    },
}


def test_the_probe_finds_a_leak_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same comparison fails where only candles are kept from crossing a wall."""
    found = compare(CASE)
    assert found is not None
    assert same(found[0].train, found[1].train)

    def nothing(*_: Any) -> NDArray[np.int64]:
        return np.zeros((0, 2), dtype=np.int64)

    monkeypatch.setattr(wiring, "find_crossing", nothing)
    monkeypatch.setattr(walls, "find_crossing", nothing)
    found = compare(CASE)
    assert found is not None
    assert not same(found[0].train, found[1].train)
    assert found[0].dm.scaler != found[1].dm.scaler
