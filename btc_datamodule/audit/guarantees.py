"""The guarantees, one check each, for the audit.

A check looks at a ``Piece``, gives back counts of what it looked at, and raises a ``BTCDataError``
that says where the guarantee breaks. The first ones run the real way on candles with other values
in bars that must not matter; the others count again, by other code than that under audit.
"""

from collections import Counter
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.audit.twins import (
    EVALUATED,
    ROUNDING,
    LeakError,
    Piece,
    Twin,
    choose_samples,
    compare,
    list_arrays,
    sample_windows,
)
from btc_datamodule.candles.runs import Mask, mark_intervals
from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.evaluation.scaling import NORMAL_IQR, Scaler, Scaling
from btc_datamodule.evaluation.splits import Stage
from btc_datamodule.features.causality import MILD, STRONG, check_every_row
from btc_datamodule.features.feature import Feature

ROUNDS = 2
"""How often other samples are taken out of their surroundings."""

ALONE = 32
"""How many of them are also taken out of their batch."""

TARGETS_AT_ONCE = 1 << 15


# --- unchanged when other bars change -------------------------------------------------------------


def check_train_is_blind(piece: Piece) -> Counter[str]:
    """Nothing that train sees depends on the bars of val and test, nor on later ones."""
    fold, times = piece.fold, piece.candles.open_time
    end = fold.train[-1][1]
    others = times >= end
    for start, stop in (*fold.val, *fold.test):
        others |= (times >= start) & (times < stop)
    return _compare_blind(piece, "train", others, exact=not others[times < end].any())


def check_val_is_blind(piece: Piece) -> Counter[str]:
    """Nothing that val sees depends on the bars after it."""
    if not piece.fold.val:
        return Counter()
    return _compare_blind(
        piece, "val", piece.candles.open_time >= piece.fold.val[-1][1], exact=True
    )


def _compare_blind(piece: Piece, stage: Stage, others: Mask, *, exact: bool) -> Counter[str]:
    """Nothing that a stage sees depends on the bars ``others``: a twin without them agrees."""
    clean = piece.clean
    count = Counter(bars=int(others.sum()), rounded=int(not exact))
    with piece.open_twin(others, STRONG if exact else MILD) as twin:
        for span in piece.fold.spans(stage):
            low, high = map(piece.find_row, span)
            low += 0 if exact else piece.table.warm_up
            for name in ("observed", "x"):
                ours, theirs = (each.stages.table.array(name)[low:high] for each in (clean, twin))
                when = piece.times[low:high]
                compare(f"{name} in the rows of {stage}", ours, theirs, when, exact=exact)
            count["rows"] += max(0, high - low)
        tolerance = 0 if exact else ROUNDING
        before, after = clean.stages.fitted, twin.stages.fitted
        _compare_statistics("scaler", before.scaler, after.scaler, tolerance)
        _compare_statistics("target_scaler", before.target_scaler, after.target_scaler, tolerance)
        if exact and before.train_digest != after.train_digest:
            raise LeakError("the digest of the train rows changes")
        seen: set[int] = set()
        for one, other in zip_longest(sample_windows(clean, stage), sample_windows(twin, stage)):
            if one is None or other is None or one.keys() != other.keys():
                raise LeakError(f"the number of {stage} windows, or what they hold, changes")
            for name in one:
                what = f"{name} of {stage} windows"
                compare(what, one[name], other[name], one.get("origin_time"), exact=exact)
            seen.update(one.get("origin_time", np.zeros(0, dtype=np.int64)).tolist())
    count["windows"] = len(seen)
    return count


def check_fields_are_own(of_target: bool, extent: tuple[int, int], piece: Piece) -> Counter[str]:
    """Inputs, or targets, of samples depend on no bar but those of their own sample.

    Args:
        of_target: whether the targets are meant; else all that is handed out beside them.
        extent: the bars of a sample that they are made of, counted from its origin.
        piece: what to look at.
    """
    clean, stages, found = piece.clean, piece.clean.stages, Counter[str]()
    rows = (piece.candles.open_time - piece.table.first) // piece.table.interval
    for seed in range(ROUNDS):
        chosen = choose_samples(stages, extent, seed)
        kept = np.zeros(piece.table.rows, dtype=np.bool_)
        for origins in chosen.values():
            kept |= mark_intervals(len(kept), origins + extent[0], extent[1] - extent[0])
        with piece.open_twin(~kept[rows], MILD, stages.fitted) as twin:
            for stage, origins in chosen.items():
                ours = _hand_repeatable(clean, stage, origins)
                theirs = list_arrays(twin.hand_samples(stage, origins))
                when = piece.times[origins]
                if "origin_time" in ours:
                    what = f"origin_time of {stage} samples"
                    compare(what, ours["origin_time"], when, when)
                if ours.keys() != theirs.keys():
                    raise LeakError(f"what {stage} samples hold changes")
                names = [name for name in ours if name != "origin_time"]
                names = [name for name in names if _is_target(name) == of_target]
                for name in names:
                    what = f"{name} of {stage} samples"
                    compare(what, ours[name], theirs[name], when, exact=of_target)
                if seed == 0:
                    _compare_alone(clean, stage, origins[:ALONE], names, when)
                found["samples"] += len(origins)
    return found


def _hand_repeatable(
    twin: Twin, stage: Stage, origins: NDArray[np.int64]
) -> dict[str, NDArray[np.generic]]:
    """Some samples as the model would get them, which must be the same for the same seed."""
    one, other = (list_arrays(twin.hand_samples(stage, origins)) for _ in range(2))
    for name, values in one.items():
        if not np.array_equal(values, other[name], equal_nan=values.dtype.kind == "f"):
            raise LeakError(
                f"{name} of {stage} samples comes out different each time, whatever the seed of "
                "torch, numpy and random: chance cannot be told from a leak. Draw from those"
            )
    return one


def _is_target(name: str) -> bool:
    """Whether a field of what a model is handed is what it is to forecast, by its name.

    In a plain tuple or list it is the second: (inputs, targets), as most have it.
    """
    return name.split(".", maxsplit=1)[0] in ("y", "target", "targets", "label", "labels", "1")


def _compare_alone(
    twin: Twin, stage: Stage, origins: NDArray[np.int64], names: list[str], when: NDArray[np.int64]
) -> None:
    """Fields of samples are the same whatever batch they are in, unless chance decides them."""
    drawn = (twin.hand_samples(stage, origins, seed) for seed in (0, 1))
    together, again = map(list_arrays, drawn)
    each = [list_arrays(batch) for batch in twin.hand_one_by_one(stage, origins)]
    for name in names:
        one = together[name]
        if np.array_equal(one, again[name], equal_nan=one.dtype.kind == "f"):
            alone = np.concatenate([arrays[name] for arrays in each])
            what = f"{name} of {stage} samples, each without the rest of its batch,"
            compare(what, one, alone, when[: len(alone)], exact=False)


def check_feature(feature: Feature, piece: Piece) -> Counter[str]:
    """A feature, at every row; of a long lookback at some, those before boundaries among them."""
    ends = [
        piece.find_row(start) - 1 for stage in EVALUATED for start, _ in piece.fold.spans(stage)
    ]
    return Counter(rows=check_every_row(feature, piece.times, piece.bars, ends))


# --- counted again --------------------------------------------------------------------------------


def check_stages_are_apart(piece: Piece) -> Counter[str]:
    """No val or test target is anything to train, and none of test is one of val."""
    shape = piece.settings.shape
    size = piece.table.rows
    origins = {stage: _list_origins(piece, stage) for stage in EVALUATED}
    targets = {
        stage: mark_intervals(size, rows + 1 + shape.gap, shape.horizon)
        for stage, rows in origins.items()
    }
    reach = shape.lookback + piece.table.warm_up
    seen = {
        "train target": targets["train"],
        "train input": mark_intervals(size, origins["train"] - reach + 1, reach),
        "train target's reference": mark_intervals(
            size, origins["train"] + 1 + shape.gap - shape.reference_bars, shape.reference_bars
        ),
    }
    for name, mask in seen.items():
        _refuse(
            piece, mask & (targets["val"] | targets["test"]), f"a {name} is a val or test target"
        )
    _refuse(piece, targets["val"] & targets["test"], "a val target is a test target")
    return Counter(targets=int((targets["val"] | targets["test"]).sum()))


def check_windows(piece: Piece) -> Counter[str]:
    """Origins are those that the rules allow, each once, and all bars that can be are targets."""
    shape, count = piece.settings.shape, Counter[str]()
    told = piece.clean.stages.describe()
    for stage in EVALUATED:
        allowed, origins = _find_allowed(piece, stage), _list_origins(piece, stage)
        taken = np.bincount(origins, minlength=len(allowed))
        _refuse(piece, (taken > 0) & ~allowed, f"a {stage} window breaks the rules")
        _refuse(piece, taken > 1, f"a {stage} window comes twice")
        part = told.filter(told["stage"] == stage)
        if int(allowed.sum()) != part["eligible"].sum() or len(origins) != part["windows"].sum():
            raise LeakError(f"describe() does not count the {stage} windows that there are")
        if part["bars"].sum() != sum(part[name].sum() for name in part.columns[5:]):
            raise LeakError(f"describe() does not account for every bar of {stage}")
        count["windows"] += len(origins)
        if stage != "train":
            scored, due = (
                mark_intervals(len(allowed), rows + 1 + shape.gap, shape.horizon)
                for rows in (origins, np.flatnonzero(allowed))
            )
            if piece.settings.eval_stride <= shape.horizon:
                _refuse(piece, due & ~scored, f"a {stage} bar that can be a target is none")
            count.update(scored=int(scored.sum()), bars=int(part["bars"].sum()))
    return count


def _find_allowed(piece: Piece, stage: Stage) -> Mask:
    """(T,) whether a stage may have its origin at each row, from the rows themselves."""
    settings, fold, shape, table = piece.settings, piece.fold, piece.settings.shape, piece.table
    origin = np.arange(table.rows)
    target = origin + 1 + shape.gap
    first = np.minimum(origin - shape.lookback + 1 - table.warm_up, target - shape.reference_bars)
    allowed = np.zeros(table.rows, dtype=np.bool_)
    for start, end in fold.spans(stage):
        low, high = piece.find_row(start), piece.find_row(end)
        follows = stage == "train" and start in (stop for _, stop in (*fold.val, *fold.test))
        inside = stage == "train" or settings.context == "strict"
        oldest = low + settings.embargo * follows if inside else 0
        latest = high - (settings.purge if stage != "test" else 0)
        allowed |= (target >= low) & (target + shape.horizon <= latest) & (first >= oldest)
    unknown = np.append(0, np.cumsum(np.isnan(table.bars("close"))))
    unseen = np.append(0, np.cumsum(table.observed == 0))
    at = np.flatnonzero(allowed)
    known = unknown[target[at] + shape.horizon] == unknown[target[at] - shape.reference_bars]
    absent = unseen[at + 1] - unseen[at - shape.lookback + 1]
    enough = absent <= (1 - settings.min_observed) * shape.lookback + 1e-9
    allowed[at] = known & enough & (table.observed[at] == 1)
    return allowed


def check_statistics(piece: Piece) -> Counter[str]:
    """Both scalers again, from the train rows and windows."""
    settings, fold, shape, table = piece.settings, piece.fold, piece.settings.shape, piece.table
    fitted = piece.clean.stages.fitted
    rows = np.zeros(table.rows, dtype=np.bool_)
    for start, end in fold.train:
        follows = start in (stop for _, stop in (*fold.val, *fold.test))
        low = piece.find_row(start) + table.warm_up + settings.embargo * follows
        rows[low : piece.find_row(end)] = True
    rows &= table.observed == 1
    due = _compute_statistics(settings.scaling, table.x[rows])
    _compare_statistics("scaler", fitted.scaler, due, 1e-7)
    if table.rows == piece.used.table.rows:
        _compare_statistics("scaler in use", piece.used.fitted.scaler, fitted.scaler, 1e-7)
    count = Counter(rows=int(rows.sum()))
    if settings.target_scaling != "none":
        target = settings.target
        length = target.reference_bars + shape.horizon
        columns = [table.bars(name) for name in target.columns]
        values = []
        train = _list_origins(piece, "train")
        for low in range(0, len(train), TARGETS_AT_ONCE):
            first = train[low : low + TARGETS_AT_ONCE] + 1 + shape.gap - target.reference_bars
            bars = np.stack([column[first[:, None] + np.arange(length)] for column in columns], 2)
            y = np.asarray(target(bars), dtype=np.float32)
            values.append(y.reshape(-1, y.shape[-1]))
        due = _compute_statistics(settings.target_scaling, np.concatenate(values))
        _compare_statistics("target_scaler", fitted.target_scaler, due, 1e-7)
        count["targets"] += len(train)
    return count


def _compute_statistics(method: Scaling, values: NDArray[np.float32]) -> Scaler:
    """What a method's statistics are by definition, column by column."""
    center, scale = [], []
    least = np.finfo(np.float32).eps
    for column in values.T.astype(np.float64):
        middle, spread = column.mean(), column.std()
        spread = spread if spread > least * abs(middle) else 1.0
        if method == "robust":
            low, middle, high = np.quantile(column, [0.25, 0.5, 0.75])
            quartiles = (high - low) / NORMAL_IQR
            spread = quartiles if quartiles > least * abs(middle) else spread
        center.append(0.0 if method in ("window", "none") else float(middle))
        scale.append(1.0 if method == "none" else float(spread))
    return Scaler(method, tuple(center), tuple(scale))


def check_table(piece: Piece) -> Counter[str]:
    """The feature file in use has the rows that the stored candles give when built again."""
    ours, theirs = piece.table, piece.used.table
    low = theirs.find_row(ours.first)
    exact = ours.rows == theirs.rows
    skipped = 0 if exact else ours.warm_up
    when = piece.times[skipped:]
    for name in ("x", "observed", *piece.settings.target.columns):
        one, other = (
            getattr(table, name) if name in ("x", "observed") else table.bars(name)
            for table in (ours, theirs)
        )
        built, used = one[skipped:], other[low + skipped : low + ours.rows]
        compare(f"{name} in the feature file", built, used, when, exact=exact or name != "x")
    return Counter(rows=len(when))


def _list_origins(piece: Piece, stage: Stage) -> NDArray[np.int64]:
    """Rows of a stage's origins, for val and test as its loader says, if it says."""
    windows = piece.clean.stages.windows(stage)
    if stage != "train":
        handed = [list_arrays(batch) for batch in piece.clean.hand_batches(stage)]
        if all("origin_time" in arrays for arrays in handed):
            times = np.concatenate([[], *(arrays["origin_time"] for arrays in handed)])
            return (times.astype(np.int64) - piece.table.first) // piece.table.interval
    return windows.origins[np.arange(len(windows), dtype=np.int64)]


def _compare_statistics(name: str, one: Scaler, other: Scaler, tolerance: float) -> None:
    pairs = zip(one.scale, one.center, other.center, other.scale, strict=True)
    for i, (scale, center, center_now, scale_now) in enumerate(pairs):
        if max(abs(center - center_now), abs(scale - scale_now)) > tolerance * scale:
            raise LeakError(
                f"the {name}, column {i}: {center:.8g} and {scale:.8g} become "
                f"{center_now:.8g} and {scale_now:.8g}"
            )


def _refuse(piece: Piece, rows: Mask, what: str) -> None:
    at = np.flatnonzero(rows)
    if len(at):
        raise LeakError(f"{what}: {len(at):,} times, first at {format_instant(piece.times[at[0]])}")
