"""Leaks inside the package, in its files and in checkpoints."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from btc_datamodule import Batch, BTCDataModule, CombinatorialPurged, Fold, Split, eligible
from btc_datamodule import stages as wiring
from btc_datamodule.audit import report as audit
from btc_datamodule.candles.timeline import Span
from btc_datamodule.evaluation.fitted import ObservedRows
from btc_datamodule.evaluation.origins import FoundOrigins, Origins, find_origins
from btc_datamodule.evaluation.splits import Stage
from btc_datamodule.evaluation.walls import find_train_runs, find_wall
from btc_datamodule.features import grid, segment, table
from btc_datamodule.features.layout import SMALL, combine_digests, hash_array
from btc_datamodule.features.table import Table
from btc_datamodule.features.undefined import JudgedRows, judge_rows
from btc_datamodule.settings import Settings
from btc_datamodule.windows.dataset import WindowDataset
from btc_datamodule.windows.sampler import WindowSampler
from tests.audit.planted.leak import (
    ALLOWED,
    APART,
    FIRST_VAL_ROW,
    INPUTS,
    STATISTICS,
    TABLE,
    TARGETS,
    TRAIN_BLIND,
    VAL_BLIND,
    Leak,
    Plant,
    make_candles,
)
from tests.factories import InMemory


def scaler_sees_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        wiring, "find_train_runs", lambda table, *_, **__: [(table.warm_up, table.rows)]
    )


def scaler_sees_val(monkeypatch: pytest.MonkeyPatch) -> None:
    def runs(table: Table, fold: Fold, **_: int) -> list[tuple[int, int]]:
        return [(table.warm_up, table.find_row(fold.val[-1][1]))]

    monkeypatch.setattr(wiring, "find_train_runs", runs)


def scaler_sees_purged_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_train_runs
    monkeypatch.setattr(
        wiring,
        "find_train_runs",
        lambda table, fold, embargo, purge: found(table, fold, embargo=embargo, purge=0),
    )


def rows_but_not_digest_see_val(monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(table: Table, runs: Any) -> Any:
        return ObservedRows(table, [(low, high + 1) for low, high in runs])

    monkeypatch.setattr(wiring, "ObservedRows", rows)


def target_scaler_sees_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = WindowDataset.stream_targets

    def of_all(self: WindowDataset) -> Iterator[NDArray[np.float32]]:
        every = np.array([[40, self.table.rows - 20]], dtype=np.int64)
        known = WindowDataset(
            self.table, Origins.of(every, 1), self.shape, self.target, self.scaler
        )
        return blocks(known)

    monkeypatch.setattr(WindowDataset, "stream_targets", of_all)


def target_one_bar_late(monkeypatch: pytest.MonkeyPatch) -> None:
    future = WindowDataset._gather_bars

    def late(self: WindowDataset, columns: Any, origins: NDArray[np.int64]) -> Any:
        last = self.table.rows - self.shape.reach
        return future(self, columns, np.minimum(origins + 1, max(last, 0)))

    monkeypatch.setattr(WindowDataset, "_gather_bars", late)


def lookback_runs_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    gather = WindowDataset._gather

    def ahead(self: WindowDataset, origins: NDArray[np.int64], count: int) -> Iterator[Batch]:
        there = np.minimum(origins + 1, self.origins.span[1] - 1)
        pairs = zip(gather(self, there, count), gather(self, origins, count), strict=True)
        for batch, due in pairs:
            yield batch._replace(y=due.y, origin_time=due.origin_time)

    monkeypatch.setattr(WindowDataset, "_gather", ahead)


def windows_say_another_time(monkeypatch: pytest.MonkeyPatch) -> None:
    gather = WindowDataset._gather

    def mislabelled(self: WindowDataset, origins: NDArray[np.int64], count: int) -> Iterator[Batch]:
        for batch in gather(self, origins, count):
            yield batch._replace(origin_time=batch.origin_time + self.table.interval)

    monkeypatch.setattr(WindowDataset, "_gather", mislabelled)


def eligible_with(**other: Any) -> Plant:
    """The rules of origins with some arguments changed; a function gets all of them."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        def loose(shape: Any, **arguments: Any) -> FoundOrigins:
            for name, value in other.items():
                arguments[name] = value(arguments) if callable(value) else value
            return find_origins(shape, **arguments)

        monkeypatch.setattr(eligible, "find_origins", loose)

    return plant


def shuffled_then_split(monkeypatch: pytest.MonkeyPatch) -> None:
    made = eligible.make_windows

    def pooled(
        settings: Settings, table: Table, fold: Fold, stage: Stage, scaler: Any
    ) -> WindowDataset:
        dataset = made(settings, table, fold, stage, scaler)
        span = (fold.train[0][0], fold.test[-1][1])
        whole = replace(fold, train=(span,))
        rows = made(settings, table, whole, "train", scaler).origins
        order = np.random.default_rng(0).permutation(len(rows))
        low, high = {"train": (0.0, 0.6), "val": (0.6, 0.8)}.get(stage, (0.8, 1.0))
        mine = np.sort(rows[order[int(low * len(rows)) : int(high * len(rows))]])
        dataset.origins = Origins.of(np.stack([mine, mine + 1], axis=1), 1)
        return dataset

    monkeypatch.setattr(wiring, "make_windows", pooled)


def last_batch_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    made = WindowSampler.__init__

    def dropping(self: WindowSampler, *arguments: Any, **named: Any) -> None:
        made(self, *arguments, **{**named, "drop_last": True})

    monkeypatch.setattr(WindowSampler, "__init__", dropping)


def holes_are_judged_by_their_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """As before version 0.2: filled as a whole or not at all, once their length is known."""

    def whole(holes: NDArray[np.int64], max_fill: int) -> NDArray[np.int64]:
        longer: NDArray[np.int64] = holes[holes[:, 1] - holes[:, 0] > max_fill]
        return longer

    monkeypatch.setattr(grid, "find_outages", whole)
    monkeypatch.setattr(table, "find_outages", whole)


def fills_cross_walls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Table, "find_present", lambda _, row: row)


def embargo_of_neighbours_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As before version 0.2: only where train begins at the very instant at which test ends."""

    def adjacent(table: Table, fold: Fold, span: Span, embargo: int) -> int:
        follows = any(end == span[0] for _, end in (*fold.val, *fold.test))
        return find_wall(table, span) + embargo * follows

    monkeypatch.setattr(eligible, "find_embargo", adjacent)


def windows_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eligible, "space_runs", lambda runs, _: runs)


def cells_are_observed_if_the_next_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def early(*given: Any, **named: Any) -> JudgedRows:
        judged = judge_rows(*given, **named)
        judged.observed[:-1] &= judged.observed[1:]
        return judged._replace(
            x=np.where(judged.observed, judged.x, 0), valued=judged.valued & judged.observed
        )

    monkeypatch.setattr(segment, "judge_rows", early)


def statistics_count_what_was_not_observed(monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(table: Table, runs: Any) -> list[NDArray[np.float32]]:
        return [table.x[low:high] for low, high in runs]

    monkeypatch.setattr(wiring, "ObservedRows", rows)


NONE = np.zeros((0, 2), dtype=np.int64)


@dataclass(frozen=True)
class Late(Split):
    """Train goes on one bar after test has ended."""

    def folds(self, span: Span, interval: int) -> tuple[Fold, ...]:
        at = [span[0] + row * interval for row in (0, 240, 360, 361)]
        return (Fold.of([(at[0], at[1]), (at[3], span[1])], [], [(at[1], at[2])], span[1]),)


PURGED = {"split": CombinatorialPurged(n_groups=5, n_test_groups=2, fold=3), "embargo": 6}
ACROSS = {"source": InMemory(make_candles((360, 2))), "split": CombinatorialPurged(5, 1, fold=2)}
BY_FEATURE = {
    "mask": "feature",
    "min_observed": 0.5,
    "features": ["log_return", "up = (close / open - 1).sqrt()"],
}
INSIDE: dict[str, Leak] = {
    "scaler fitted on everything": Leak((TRAIN_BLIND, STATISTICS), plant=scaler_sees_everything),
    "robust scaler fitted on val too": Leak(
        (TRAIN_BLIND, STATISTICS), {"scaling": "robust"}, plant=scaler_sees_val
    ),
    "scaler fitted on one bar of val": Leak(
        (TRAIN_BLIND, STATISTICS), plant=rows_but_not_digest_see_val
    ),
    "scaler fitted on purged rows": Leak(
        (STATISTICS,), {"purge": 4}, plant=scaler_sees_purged_rows
    ),
    "target scaler fitted on everything": Leak(
        (TRAIN_BLIND, STATISTICS), {"target_scaling": "train"}, plant=target_scaler_sees_everything
    ),
    "target one bar too long": Leak((TRAIN_BLIND, TARGETS), plant=target_one_bar_late),
    "lookback runs ahead": Leak((INPUTS,), plant=lookback_runs_ahead),
    "another time is told": Leak((INPUTS, TARGETS), plant=windows_say_another_time),
    "targets of train cross the boundary": Leak(
        (TRAIN_BLIND, VAL_BLIND, APART, ALLOWED),
        plant=eligible_with(span=lambda given: (given["span"][0], given["span"][1] + 2)),
    ),
    "purge is ignored": Leak((ALLOWED,), {"purge": 4}, plant=eligible_with(purge=0)),
    "embargo is ignored": Leak((ALLOWED,), PURGED, plant=eligible_with(embargo=0)),
    "embargo is ignored one bar later": Leak(
        (ALLOWED,), {"split": Late(), "embargo": 48}, plant=embargo_of_neighbours_alone
    ),
    "full-span purge is ignored": Leak(
        (TRAIN_BLIND, APART, ALLOWED), PURGED, plant=eligible_with(wall=0, embargo=0)
    ),
    "strict context is ignored": Leak(
        (ALLOWED,), {"context": "strict"}, plant=eligible_with(wall=0)
    ),
    "outages are forgotten": Leak((ALLOWED,), {"horizon": 5}, plant=eligible_with(outages=NONE)),
    "filled rows are origins": Leak((ALLOWED,), plant=eligible_with(holes=NONE)),
    "holes are judged by their length": Leak(
        (TRAIN_BLIND, ALLOWED),
        {"source": InMemory(make_candles((FIRST_VAL_ROW - 2, 2)))},
        plant=holes_are_judged_by_their_length,
    ),
    "a filled bar carries a test price into train": Leak(
        (TRAIN_BLIND, APART, ALLOWED, STATISTICS), ACROSS, plant=fills_cross_walls
    ),
    "windows shuffled, then split": Leak((TRAIN_BLIND, APART, ALLOWED), plant=shuffled_then_split),
    "the last test batch is dropped": Leak((ALLOWED,), plant=last_batch_is_dropped),
    "bars are scored twice": Leak((ALLOWED,), {"horizon": 5}, plant=windows_overlap),
    "a cell is observed if the next one is": Leak(
        (INPUTS,), BY_FEATURE, plant=cells_are_observed_if_the_next_are
    ),
    "statistics count cells that were not observed": Leak(
        (STATISTICS,), BY_FEATURE, plant=statistics_count_what_was_not_observed
    ),
    "of several features one alone must be observed": Leak(
        (ALLOWED,), BY_FEATURE, plant=eligible_with(unseen=lambda given: given["unseen"][:1])
    ),
}


# --- files and checkpoints ------------------------------------------------------------------------


def edit_table(dm: BTCDataModule) -> BTCDataModule:
    """Change one row of the feature file, and its digests with it, as a wrong build would."""
    table = dm.table
    with h5py.File(table.path, "r+", locking=False) as file:
        file["x"][300] += 0.01
        for number, rows in enumerate(table.segments(0, table.rows)):
            digest = np.frombuffer(hash_array(file["x"][rows]), dtype="u1")
            file["segment_digest"][number, 0] = table.checks.digests[number, 0] = digest
        small = {name: file[name][()] for name in SMALL}
        told = dict(file.attrs)
        file.attrs["digest"] = combine_digests(
            small["segment_digest"], file["x"].shape, small, told
        )
    return dm


def take_statistics_of_all(dm: BTCDataModule) -> BTCDataModule:
    """Go on from a checkpoint whose scaler was fitted on test as well."""
    state = dm.state_dict()
    x = dm.table.x[dm.table.observed == 1].astype(float)
    state["scaler"] |= {"center": x.mean(axis=0).tolist(), "scale": x.std(axis=0).tolist()}
    dm.load_state_dict(state)
    return dm


def short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "BARS", 300)


INSIDE |= {
    "a feature file of other candles": Leak((TABLE,), change=edit_table),
    "a checkpoint's scaler fitted on everything": Leak(
        (STATISTICS,), change=take_statistics_of_all
    ),
    "likewise, on a long history": Leak(
        (STATISTICS,), change=take_statistics_of_all, plant=short_pieces
    ),
}
