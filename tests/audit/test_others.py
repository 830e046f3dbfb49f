"""Other candles and records: what may be another in a twin, and what stays."""

import numpy as np
import pytest
from numpy.typing import NDArray

from btc_datamodule.audit.others import Region, vary_candles_beside, vary_records
from btc_datamodule.candles.records import RecordSet, check_grid
from btc_datamodule.candles.series import Candles
from tests.factories import HOUR, START, candles_of

ROWS = 400
BLIND = np.zeros(ROWS, dtype=np.bool_)
BLIND[100:200] = BLIND[300:] = True
REGION = Region.of(BLIND, START, HOUR)
EDGES = [START + row * HOUR for row in (100, 200, 300)]
STEP = 1800


def make_records(*, on_grid: bool, covers: int = 0) -> RecordSet:
    """Half-hourly records from a day before the rows on, some late, some revised."""
    rng = np.random.default_rng(1)
    time = np.arange(START - 24 * HOUR, START + ROWS * HOUR, STEP)
    if not on_grid:
        time = time + rng.integers(0, STEP, len(time))
    late = np.where(rng.uniform(size=len(time)) < 0.2, rng.integers(0, 5 * HOUR, len(time)), 0)
    known_at = time + STEP * on_grid + late
    again = rng.choice(len(time), 100, replace=False)
    value = np.append(rng.normal(size=len(time)), rng.normal(size=100))
    columns = {
        "time": np.append(time, time[again]),
        "known_at": np.append(known_at, known_at[again] + rng.integers(1, 30 * HOUR, 100)),
        "value": value,
        "count": np.where(rng.uniform(size=len(value)) < 0.1, np.nan, np.round(50 + 9 * value)),
    }
    order = np.lexsort((columns["known_at"], columns["time"]))
    return RecordSet({name: each[order] for name, each in columns.items()})


def is_own(since: int, known_at: int) -> bool:
    """Whether rows that stay may be made of it, block by block."""
    blocks = [(-(2**62), EDGES[0]), (EDGES[1], EDGES[2])]
    return any(low <= since and known_at <= high for low, high in blocks)


def is_known_in_blind_row(known_at: int) -> bool:
    return EDGES[0] < known_at <= EDGES[1] or EDGES[2] < known_at <= START + ROWS * HOUR


def list_rows(records: RecordSet) -> dict[tuple[int, int], tuple[float, ...]]:
    columns = [np.nan_to_num(records[name], nan=-1).tolist() for name in records.columns]
    return {(each[0], each[1]): tuple(each[2:]) for each in zip(*columns, strict=True)}


def test_a_region_is_told_by_when_something_became_known_and_what_it_is_about() -> None:
    instants = np.arange(START - 2 * HOUR, START + ROWS * HOUR, 1700)
    rng = np.random.default_rng(0)
    since, known_at = instants, instants + rng.choice([0, 60, 7 * HOUR, 150 * HOUR], len(instants))
    own = [is_own(*each) for each in zip(since.tolist(), known_at.tolist(), strict=True)]
    changes, goes = REGION.may_change(since, known_at), REGION.may_go(since, known_at)
    assert (changes == ~np.array(own)).all()
    known = np.array([is_known_in_blind_row(each) for each in known_at.tolist()])
    assert (goes == changes & known).all()
    at_edges = np.array(EDGES)
    assert REGION.may_change(at_edges, at_edges).tolist() == [False] * 3
    drawn = REGION.draw(rng, 5000, START, START + ROWS * HOUR)
    assert all(map(is_known_in_blind_row, drawn.tolist()))
    assert {EDGES[0] + 1, EDGES[1]} <= set(REGION.draw(rng, 50, EDGES[0] - 9, EDGES[0] + 3)) | set(
        REGION.draw(rng, 50, EDGES[1] - 3, EDGES[1])
    )


def test_where_all_rows_stay_or_none_does() -> None:
    instants = np.arange(START, START + 9 * HOUR, HOUR)
    nothing, everything = (Region.of(np.full(9, each), START, HOUR) for each in (False, True))
    assert not nothing.may_change(instants, instants + HOUR).any()
    assert not nothing.may_go(instants, instants + HOUR).any()
    assert everything.may_go(instants, instants + HOUR).all()
    assert len(nothing.draw(np.random.default_rng(0), 5, START, START + HOUR)) == 0


@pytest.mark.parametrize("on_grid", [True, False])
@pytest.mark.parametrize("covers", [0, 8 * HOUR])
def test_records_that_rows_are_made_of_stay_and_others_are_changed_removed_and_added(
    on_grid: bool, covers: int
) -> None:
    records = make_records(on_grid=on_grid)
    interval = STEP if on_grid else None
    for strength in (0.1, 1.0):
        other = vary_records(records, strength, REGION, 3, interval=interval, covers=covers)
        before, after = list_rows(records), list_rows(other)
        own = {key for key in before if is_own(key[0] - covers, key[1])}
        assert {key: before[key] for key in own} == {key: after.get(key) for key in own}
        for key in before.keys() - own:
            if not is_known_in_blind_row(key[1]):
                assert key in after, "it became known in a row that stays"
                assert after[key][0] != before[key][0]
        more, fewer = after.keys() - before.keys(), before.keys() - after.keys()
        assert all(is_known_in_blind_row(key[1]) for key in more | fewer)
        assert not any(is_own(key[0] - covers, key[1]) for key in more | fewer)
        assert min(len(more), len(fewer)) > 40
        times = {key[0] for key in before}
        assert sum(key[0] in times for key in more) > 20, "revisions and other instants"
        long_ago = {key for key in more if is_own(key[0], key[0] + HOUR)}
        assert long_ago, "revisions of what rows that stay have seen"
        if on_grid:
            check_grid(other, STEP, "records")
        else:
            assert sum(key[0] not in times for key in more) > 20


def test_where_there_may_be_no_holes_the_same_records_have_other_values() -> None:
    records = make_records(on_grid=True)
    other = vary_records(records, 1.0, REGION, 3, interval=STEP, covers=0, holes=False)
    assert list_rows(records).keys() == list_rows(other).keys()
    changed = records["value"] != other["value"]
    assert (changed == REGION.may_change(records.time, records.known_at)).all()


def test_a_series_begins_when_it_did() -> None:
    """Before its first value nothing was known: what a row hangs on then is not known either."""
    records = make_records(on_grid=True)
    records = records.take(records.known_at > EDGES[0] + 20 * HOUR)
    other = vary_records(records, 1.0, REGION, 3, interval=STEP, covers=0)
    for name in records.values:
        first = [int(each.known_at[np.isfinite(each[name])].min()) for each in (records, other)]
        assert first[0] == first[1]
    empty = records.take(np.zeros(0, dtype=np.int64))
    assert len(vary_records(empty, 1.0, REGION, 3, interval=STEP, covers=0)) == 0


def find_rows(candles: Candles) -> NDArray[np.int64]:
    return (candles.open_time - START) // STEP


def test_candles_beside_are_others_by_the_same_rule() -> None:
    present = np.ones(2 * ROWS, dtype=np.bool_)
    present[[250, 251, 260, 450]] = False
    candles = candles_of(present, STEP)
    other = vary_candles_beside(candles, 1.0, REGION, 3, 5, holes=True)
    inside = np.repeat(BLIND, 2)
    ours, theirs = (set(find_rows(each).tolist()) for each in (candles, other))
    moved = np.array(sorted(ours ^ theirs))
    assert inside[moved].all()
    assert len(ours - theirs) > 5
    assert theirs - ours
    both = np.array(sorted(ours & theirs))
    closes = [each["close"][np.isin(find_rows(each), both)] for each in (candles, other)]
    assert ((closes[0] != closes[1]) == inside[both]).all()
    same = vary_candles_beside(candles, 1.0, REGION, 3, 5, holes=False)
    assert (same.open_time == candles.open_time).all()


def test_two_series_are_not_changed_alike() -> None:
    candles = candles_of(np.ones(ROWS, dtype=np.bool_))
    one, other = (
        vary_candles_beside(candles, 1.0, REGION, 3, seed, holes=False) for seed in (1, 2)
    )
    ratio = (one["close"] / other["close"])[BLIND]
    assert np.std(np.log(ratio)) > 0.5
