"""Guarantees of what must not change: the real way again, with other bars where none may matter.

A check looks at a ``Piece``, gives back counts of what it looked at, and raises a ``BTCDataError``
that says where the guarantee breaks.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import islice, zip_longest

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.audit.compare import (
    ROUNDING,
    Arrays,
    LeakError,
    compare,
    find_differences,
    is_target,
)
from btc_datamodule.audit.handing import Twin
from btc_datamodule.audit.recount import compare_statistics, find_first_rows, reaches_over
from btc_datamodule.audit.twins import EVALUATED, Extent, Piece, choose_samples
from btc_datamodule.candles.runs import Mask
from btc_datamodule.evaluation.splits import Stage
from btc_datamodule.evaluation.targets import to_numbers
from btc_datamodule.features.memory import capture_state

COUNTED_AT_ONCE = 1 << 13

ROUNDS = 2
"""How often other samples are taken out of their surroundings."""

ALONE = 32
"""How many of them are also taken out of their batch."""

WINDOW_BYTES = 1 << 28
"""Windows of a stage that are compared, in bytes; those at the ends of runs come on top."""

FEWEST = 8
"""Samples of which one at least must have a target that what follows the origin decides."""

LEAST_MOVE = 1e-4
"""Share of the variance of a target that what follows the origin must decide, at least."""

HANDED: tuple[Stage, ...] = (*EVALUATED, "predict")


def check_train_is_blind(piece: Piece) -> Counter[str]:
    """Nothing that train sees depends on the bars of val and test, nor on later ones."""
    fold, times = piece.fold, piece.times
    others = times >= fold.train[-1][1]
    for start, stop in (*fold.val, *fold.test):
        others |= (times >= start) & (times < stop)
    return _compare_blind(piece, "train", others)


def check_val_is_blind(piece: Piece) -> Counter[str]:
    """Nothing that val sees depends on the bars after it."""
    if not piece.fold.val:
        return Counter()
    others = piece.times >= piece.fold.val[-1][1]
    for start, stop in piece.fold.train:  # whose statistics scale val, wherever it lies
        others &= (piece.times < start) | (piece.times >= stop)
    return _compare_blind(piece, "val", others)


def _compare_blind(piece: Piece, stage: Stage, others: Mask) -> Counter[str]:
    """Nothing that a stage sees depends on the bars ``others``: a twin without them agrees."""
    clean, spans = piece.clean, piece.fold.spans(stage)
    # With all that is earlier as it was, even a running sum is the same, bit for bit.
    later = not others[: piece.find_row(spans[-1][1])].any()
    exact = piece.exact | later
    walls, warm_up = [piece.find_row(start) for start, _ in spans], 0
    if not later:
        walls, warm_up = find_first_rows(clean.stages, stage), piece.table.warm_up
    count = Counter(bars=int((others & piece.present).sum()), rounded=int(not exact.all()))
    with piece.open_twin(others) as twin:
        ours, theirs = (each.stages.table for each in (clean, twin))
        for wall, (_, stop) in zip(walls, spans, strict=True):
            rows = np.arange(wall + warm_up, max(wall + warm_up, piece.find_row(stop)))
            if not later and ours.has_reach:
                over, now = (reaches_over(table, rows, wall) for table in (ours, theirs))
                what = f"which rows of {stage} reach over the wall before them"
                compare(what, over, now, piece.times[rows])
                rows = rows[~over]
            when = piece.times[rows]
            compare(
                f"observed in the rows of {stage}", ours.observed[rows], theirs.observed[rows], when
            )
            for column, name in enumerate(ours.features):
                what = f"{name} in the rows of {stage}"
                one, other = (table.x[rows, column] for table in (ours, theirs))
                compare(what, one, other, when, exact=bool(exact[column]))
            count["rows"] += len(when)
        tolerance = 0 if exact.all() else ROUNDING
        before, after = clean.stages.fitted, twin.stages.fitted
        compare_statistics("scaler", before.scaler, after.scaler, tolerance)
        compare_statistics("target_scaler", before.target_scaler, after.target_scaler, tolerance)
        if exact.all() and before.train_digest != after.train_digest:
            raise LeakError("the digest of the train rows changes")
        count["windows"] = _compare_windows(clean, twin, stage, exact=bool(exact.all()))
    return count


def _compare_windows(clean: Twin, twin: Twin, stage: Stage, *, exact: bool) -> int:
    """What a stage hands out is the same, batch by batch; how many samples were looked at."""
    seen: set[int] = set()
    for one, other in zip_longest(_sample_windows(clean, stage), _sample_windows(twin, stage)):
        if one is None or other is None or one.keys() != other.keys():
            raise LeakError(f"the number of {stage} windows, or what they hold, changes")
        for name in one:
            what = f"{name} of {stage} windows"
            compare(what, one[name], other[name], one.get("origin_time"), exact=exact)
        seen.update(one.get("origin_time", np.zeros(0, dtype=np.int64)).tolist())
    return len(seen)


def _sample_windows(twin: Twin, stage: Stage) -> Iterator[Arrays]:
    """Batches of a stage's loader, ``WINDOW_BYTES`` of them, then the windows at ends of runs."""
    windows, settings = twin.stages.windows(stage), twin.stages.settings
    seen = 1 if settings.mask == "bar" else settings.n_features
    size = settings.shape.lookback * (4 * settings.n_features + seen) + 8
    batch = twin.server.batch_size
    most = max(1, WINDOW_BYTES // (batch * size))
    yield from (handed.arrays for handed in islice(twin.hand_batches(stage), most))
    starts = windows.origins.starts
    edges = np.concatenate([starts + shift for shift in range(-4, 4)])
    edges = np.unique(edges[(edges >= 0) & (edges < len(windows))])
    for low in range(0, min(len(edges), most * batch), batch):
        yield twin.hand_samples(stage, windows.origins[edges[low : low + batch]])


def check_fields_are_own(of_target: bool, extent: Extent, piece: Piece) -> Counter[str]:
    """Inputs, or targets, of samples depend on no bar but those of their own sample.

    Args:
        of_target: whether the targets are meant; else all that is handed out beside them.
        extent: the rows of a sample that they are made of.
        piece: what to look at.
    """
    clean, stages, found = piece.clean, piece.clean.stages, Counter[str]()
    exact = of_target or bool(piece.exact.all())
    for seed in range(ROUNDS):
        chosen = choose_samples(stages, extent, seed, EVALUATED if of_target else HANDED)
        others = ~_mark_own(piece, chosen, extent)
        with piece.open_twin(others, stages.fitted) as twin:
            for stage, origins in chosen.items():
                ours = _hand_repeatable(clean, stage, origins)
                theirs = twin.hand_samples(stage, origins)
                when = piece.times[origins]
                if "origin_time" in ours:
                    what = f"origin_time of {stage} samples"
                    compare(what, ours["origin_time"], when, when)
                if ours.keys() != theirs.keys():
                    raise LeakError(f"what {stage} samples hold changes")
                names = _choose_fields(ours, of_target)
                for name in names:
                    what = _name_field(name, stage)
                    compare(what, ours[name], theirs[name], when, exact=exact)
                if seed == 0:
                    _compare_alone(clean, stage, origins[:ALONE], names, when)
                found["samples"] += len(origins)
    for stage in filter(clean.overrides_loader, HANDED):
        chosen = choose_samples(stages, extent, 0, (stage,))
        if chosen:
            others = ~_mark_own(piece, chosen, extent)
            with piece.open_twin(others, stages.fitted, holes=False) as twin:
                _compare_loaders(clean, twin, stage, chosen[stage], of_target, exact=exact)
    return found


def check_targets_are_unknown(extent: Extent, piece: Piece) -> Counter[str]:
    """No number of a target is a function of the bars of the inputs alone, or nearly so.

    Args:
        extent: the rows that the inputs of a sample are made of.
        piece: what to look at.
    """
    clean, count = piece.clean, Counter[str]()
    chosen = choose_samples(clean.stages, extent, 0)
    with piece.open_twin(~_mark_own(piece, chosen, extent), clean.stages.fitted) as twin:
        pairs = [
            [each.hand_samples(stage, origins) for each in (clean, twin)]
            for stage, origins in chosen.items()
        ]
    names = _choose_fields(pairs[0][0], of_target=True) if pairs else []
    for name in names:
        one, other = (
            to_numbers(
                np.concatenate(
                    [pair[side][name].reshape(len(pair[side][name]), -1) for pair in pairs]
                )
            )
            for side in (0, 1)
        )
        fixed = (one == one[:1]).all(axis=0)  # a label that is always the same tells nothing
        with np.errstate(invalid="ignore"):
            moved = np.nanmean((other - one) ** 2, axis=0) > LEAST_MOVE * np.nanvar(one, axis=0)
        known = ~fixed & ~moved & ~np.isnan(other).any(axis=0)
        if len(one) >= FEWEST and known.any():
            which = ", ".join(map(str, np.flatnonzero(known)[:FEWEST].tolist()))
            raise LeakError(
                f"{name} is known at the origin: of {len(one):,} samples none has a target worth "
                f"mentioning that differs (number {which} of {one.shape[1]}) when every bar after "
                "its origin does. A target must be made of bars after the reference bars"
            )
        count.update(samples=len(one), numbers=one.shape[1], fixed=int(fixed.sum()))
    return count


def _mark_own(piece: Piece, chosen: dict[Stage, NDArray[np.int64]], extent: Extent) -> Mask:
    """(T,) the rows that samples with these origins are made of."""
    own = np.zeros(piece.table.rows, dtype=np.bool_)
    for origins in chosen.values():
        for low, high in extent.find_rows(piece.clean.stages, origins).clip(0).tolist():
            own[low:high] = True
    return own


def _choose_fields(arrays: Arrays, of_target: bool) -> list[str]:
    return [name for name in arrays if name != "origin_time" and is_target(name) == of_target]


def _name_field(name: str, stage: Stage, beside: str = "") -> str:
    """How a message calls a field, and for inputs what would make it a target."""
    hint = "" if is_target(name) else " (an input, as it is not called y, target or label)"
    return f"{name} of {stage} samples{beside}{'' if name in ('x', 'observed') else hint}"


def _hand_repeatable(twin: Twin, stage: Stage, origins: NDArray[np.int64]) -> Arrays:
    """Some samples as the model would get them, which must be the same for the same seed."""
    before = capture_state(twin.server.transform)
    one, other = (twin.hand_samples(stage, origins) for _ in range(2))
    if capture_state(twin.server.transform) != before:
        raise LeakError(
            "transform keeps something from one batch to the next: bars of a later batch could "
            "come back in an earlier one, an epoch later. Make it a function of its batch alone"
        )
    for name, values in one.items():
        if not np.array_equal(values, other[name], equal_nan=values.dtype.kind == "f"):
            raise LeakError(
                f"{name} of {stage} samples comes out different each time, whatever the seed of "
                "torch, numpy and random: chance cannot be told from a leak. Draw from those"
            )
    return one


def _compare_alone(
    twin: Twin, stage: Stage, origins: NDArray[np.int64], names: list[str], when: NDArray[np.int64]
) -> None:
    """Fields of samples are the same whatever batch they are in, unless chance decides them."""
    together, again = (twin.hand_samples(stage, origins, seed) for seed in (0, 1))
    each = list(twin.hand_one_by_one(stage, origins))
    for name in names:
        one = together[name]
        if np.array_equal(one, again[name], equal_nan=one.dtype.kind == "f"):
            alone = np.concatenate([arrays[name] for arrays in each])
            what = _name_field(name, stage, ", each without the rest of its batch,")
            compare(what, one, alone, when[: len(alone)], exact=False)


def _compare_loaders(
    clean: Twin,
    twin: Twin,
    stage: Stage,
    origins: NDArray[np.int64],
    of_target: bool,
    *,
    exact: bool,
) -> None:
    """Samples come out of a loader of the user's own the same, with other bars around them.

    Where its batches do not say which samples they hold, as many of them must come out unchanged
    as were left their own bars.
    """
    handed = unchanged = 0
    for one, other in zip_longest(clean.hand_batches(stage), twin.hand_batches(stage)):
        if one is None or other is None or one.arrays.keys() != other.arrays.keys():
            raise LeakError(f"what the loader of {stage} hands out changes")
        same: list[Mask] = []
        for name in _choose_fields(one.arrays, of_target):
            ours, theirs, what = one.arrays[name], other.arrays[name], _name_field(name, stage)
            if one.origins is not None and len(ours) == len(one.origins):
                mine = np.isin(one.origins, origins)
                compare(what, ours[mine], theirs[mine], None, exact=exact)
            elif ours.shape == theirs.shape and ours.ndim:
                same.append(~find_differences(ours, theirs, exact=exact))
        if one.origins is None and same:
            fewest = min(map(len, same))
            handed += fewest
            unchanged += int(np.logical_and.reduce([each[:fewest] for each in same]).sum())
    due = _count_unchanged(clean, twin, stage, of_target, exact=exact)
    missing = len(clean.stages.windows(stage)) - handed
    if handed and unchanged < due - max(0, missing):
        raise LeakError(
            f"what the loader of {stage} hands out: {due:,} samples have their own bars as "
            f"they were, and only {unchanged:,} come out the same, batch by batch. Something "
            "else is in them, or bars of other samples decide which are chosen. Hand out "
            "origin_time as well to have samples compared one by one"
        )


def _count_unchanged(clean: Twin, twin: Twin, stage: Stage, of_target: bool, *, exact: bool) -> int:
    """How many samples of a stage the dataset itself gives the same, with other bars."""
    windows = [each.stages.windows(stage) for each in (clean, twin)]
    count = 0
    for low in range(0, len(windows[0]), COUNTED_AT_ONCE):
        rows = np.arange(low, min(low + COUNTED_AT_ONCE, len(windows[0])), dtype=np.int64)
        batches = [each[rows] for each in windows]
        one, other = ((b.y if of_target else b.x).numpy() for b in batches)
        count += int((~find_differences(one, other, exact=exact)).sum())
    return count
