"""The guarantees, one check each, for the audit.

A check looks at a ``Piece``, gives back counts of what it looked at, and raises a ``BTCDataError``
that says where the guarantee breaks. The first ones run the real way on candles with other values
in bars that must not matter; the others count again, by other code than that under audit.
"""

from collections import Counter
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.audit.twins import (
    EVALUATED,
    ROUNDING,
    LeakError,
    Piece,
    apart,
    same,
    some_windows,
)
from btc_datamodule.candles.runs import Mask, marked
from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.evaluation.fitted import Fitted
from btc_datamodule.evaluation.scaling import NORMAL_IQR, Scaler, Scaling
from btc_datamodule.evaluation.splits import Stage
from btc_datamodule.features.causality import MILD, STRONG, check_every_row
from btc_datamodule.features.feature import Feature
from btc_datamodule.windows.dataset import Batch

if TYPE_CHECKING:
    from btc_datamodule.datamodule import BTCDataModule


ROUNDS = 2
"""How often other samples are taken out of their surroundings."""

ALONE = 32
"""How many of them are also taken out of their batch."""

TARGETS_AT_ONCE = 1 << 15


# --- unchanged when other bars change -------------------------------------------------------------


def train_is_blind(piece: Piece) -> Counter[str]:
    """Nothing that train sees depends on the bars of val and test, nor on later ones."""
    fold, times = piece.fold, piece.candles.open_time
    end = fold.train[-1][1]
    others = times >= end
    for start, stop in (*fold.val, *fold.test):
        others |= (times >= start) & (times < stop)
    return _blind(piece, "train", others, exact=not others[times < end].any())


def val_is_blind(piece: Piece) -> Counter[str]:
    """Nothing that val sees depends on the bars after it."""
    if not piece.fold.val:
        return Counter()
    return _blind(piece, "val", piece.candles.open_time >= piece.fold.val[-1][1], exact=True)


def _blind(piece: Piece, stage: Stage, others: Mask, *, exact: bool) -> Counter[str]:
    """Nothing that a stage sees depends on the bars ``others``: a twin without them agrees."""
    clean = piece.clean
    count = Counter(bars=int(others.sum()), rounded=int(not exact))
    with piece.twin(others, STRONG if exact else MILD) as twin:
        for span in piece.fold.spans(stage):
            low, high = map(piece.row_of, span)
            low += 0 if exact else clean.table.warm_up
            for name in ("observed", "x"):
                ours, theirs = (getattr(each.table, name)[low:high] for each in (clean, twin))
                when = piece.times[low:high]
                same(f"{name} in the rows of {stage}", ours, theirs, when, exact=exact)
            count["rows"] += max(0, high - low)
        tolerance = 0 if exact else ROUNDING
        _same_statistics("scaler", clean.scaler, twin.scaler, tolerance)
        _same_statistics("target_scaler", clean.target_scaler, twin.target_scaler, tolerance)
        if exact and clean.state_dict()["train_digest"] != twin.state_dict()["train_digest"]:
            raise LeakError("the digest of the train rows changes")
        seen = [np.zeros(0, dtype=np.int64)]
        for ours, theirs in zip_longest(some_windows(clean, stage), some_windows(twin, stage)):
            if ours is None or theirs is None:
                raise LeakError(f"the number of {stage} windows changes")
            when = ours.origin_time.numpy()
            for name, one, other in zip(Batch._fields, ours, theirs, strict=True):
                what = f"{name} of {stage} windows"
                same(what, one.numpy(), other.numpy(), when, exact=exact)
            seen.append(when)
    count["windows"] = len(np.unique(np.concatenate(seen)))
    return count


def fields_are_own(fields: tuple[str, ...], extent: tuple[int, int], piece: Piece) -> Counter[str]:
    """Fields of samples depend on no bar but those at ``extent``, counted from their origin."""
    clean, count = piece.clean, Counter[str]()
    rows = (piece.candles.open_time - clean.table.first) // clean.interval
    fitted = Fitted.of_state(clean.state_dict())
    for seed in range(ROUNDS):
        chosen = apart(clean, extent, seed)
        kept = np.zeros(clean.table.rows, dtype=np.bool_)
        for stage, positions in chosen.items():
            first = clean.dataset(stage).origins[positions] + extent[0]
            kept |= marked(len(kept), first, extent[1] - extent[0])
        with piece.twin(~kept[rows], MILD, fitted) as twin:
            for stage, positions in chosen.items():
                ours, theirs = clean.dataset(stage), twin.dataset(stage)
                theirs.origins = ours.origins
                batches = ours[positions], theirs[positions]
                when = piece.times[ours.origins[positions]]
                same(f"origin_time of {stage} samples", batches[0].origin_time.numpy(), when, when)
                few = [ours[position] for position in positions[:ALONE].tolist()]
                for name in fields:
                    one, other = (getattr(batch, name).numpy() for batch in batches)
                    same(f"{name} of {stage} samples", one, other, when, exact=name == "y")
                    alone = np.stack([getattr(sample, name).numpy() for sample in few])
                    what = f"{name} of {stage} samples, each without the rest of its batch,"
                    same(what, one[:ALONE], alone, when, exact=False)
                count["samples"] += len(positions)
    return count


def reads_no_later_bar(feature: Feature, piece: Piece) -> Counter[str]:
    """A feature, at every row; of a long lookback at some, those before boundaries among them."""
    ends = [piece.row_of(start) - 1 for stage in EVALUATED for start, _ in piece.fold.spans(stage)]
    return Counter(rows=check_every_row(feature, piece.times, piece.bars, ends))


# --- counted again --------------------------------------------------------------------------------


def stages_are_apart(piece: Piece) -> Counter[str]:
    """No val or test target is anything to train, and none of test is one of val."""
    clean, shape = piece.clean, piece.data.shape
    size = clean.table.rows
    origins = {stage: _origins(clean, stage) for stage in EVALUATED}
    targets = {
        stage: marked(size, rows + 1 + shape.gap, shape.horizon) for stage, rows in origins.items()
    }
    reach = shape.lookback + clean.table.warm_up
    seen = {
        "train target": targets["train"],
        "train input": marked(size, origins["train"] - reach + 1, reach),
        "train target's reference": marked(
            size, origins["train"] + 1 + shape.gap - shape.context, shape.context
        ),
    }
    for name, mask in seen.items():
        _none(piece, mask & (targets["val"] | targets["test"]), f"a {name} is a val or test target")
    _none(piece, targets["val"] & targets["test"], "a val target is a test target")
    return Counter(targets=int((targets["val"] | targets["test"]).sum()))


def windows_are_those_allowed(piece: Piece) -> Counter[str]:
    """Origins are those that the rules allow, each once, and all bars that can be are targets."""
    data, shape, count = piece.clean, piece.data.shape, Counter[str]()
    told = data.describe()
    for stage in EVALUATED:
        allowed, origins = _allowed(piece, stage), _origins(data, stage)
        taken = np.bincount(origins, minlength=len(allowed))
        _none(piece, (taken > 0) & ~allowed, f"a {stage} window breaks the rules")
        _none(piece, taken > 1, f"a {stage} window comes twice")
        part = told.filter(told["stage"] == stage)
        if int(allowed.sum()) != part["eligible"].sum() or len(origins) != part["windows"].sum():
            raise LeakError(f"describe() does not count the {stage} windows that there are")
        if part["bars"].sum() != sum(part[name].sum() for name in part.columns[5:]):
            raise LeakError(f"describe() does not account for every bar of {stage}")
        count["windows"] += len(origins)
        if stage != "train":
            scored, due = (
                marked(len(allowed), rows + 1 + shape.gap, shape.horizon)
                for rows in (origins, np.flatnonzero(allowed))
            )
            if data.eval_stride <= shape.horizon:
                _none(piece, due & ~scored, f"a {stage} bar that can be a target is none")
            count.update(scored=int(scored.sum()), bars=int(part["bars"].sum()))
    return count


def _allowed(piece: Piece, stage: Stage) -> Mask:
    """(T,) whether a stage may have its origin at each row, from the rows themselves."""
    data, fold, shape, table = piece.clean, piece.fold, piece.data.shape, piece.clean.table
    origin = np.arange(table.rows)
    target = origin + 1 + shape.gap
    first = np.minimum(origin - shape.lookback + 1 - table.warm_up, target - shape.context)
    allowed = np.zeros(table.rows, dtype=np.bool_)
    for start, end in fold.spans(stage):
        low, high = piece.row_of(start), piece.row_of(end)
        follows = stage == "train" and start in (stop for _, stop in (*fold.val, *fold.test))
        inside = stage == "train" or data.context == "strict"
        oldest = low + data.embargo * follows if inside else 0
        latest = high - (data.purge if stage != "test" else 0)
        allowed |= (target >= low) & (target + shape.horizon <= latest) & (first >= oldest)
    unknown = np.append(0, np.cumsum(np.isnan(table.bars("close"))))
    unseen = np.append(0, np.cumsum(table.observed == 0))
    at = np.flatnonzero(allowed)
    known = unknown[target[at] + shape.horizon] == unknown[target[at] - shape.context]
    absent = unseen[at + 1] - unseen[at - shape.lookback + 1]
    enough = absent <= (1 - data.min_observed) * shape.lookback + 1e-9
    allowed[at] = known & enough & (table.observed[at] == 1)
    return allowed


def statistics_are_those_of_train(piece: Piece) -> Counter[str]:
    """Both scalers again, from the train rows and windows."""
    clean, fold, shape, table = piece.clean, piece.fold, piece.data.shape, piece.clean.table
    rows = np.zeros(table.rows, dtype=np.bool_)
    for start, end in fold.train:
        follows = start in (stop for _, stop in (*fold.val, *fold.test))
        low = piece.row_of(start) + table.warm_up + clean.embargo * follows
        rows[low : piece.row_of(end)] = True
    rows &= table.observed == 1
    _same_statistics("scaler", clean.scaler, _statistics(clean.scaling, table.x[rows]), 1e-7)
    if table.rows == piece.data.table.rows:
        _same_statistics("scaler in use", piece.data.scaler, clean.scaler, 1e-7)
    count = Counter(rows=int(rows.sum()))
    if clean.target_scaling != "none":
        target = clean.target
        length = target.context + shape.horizon
        columns = [table.bars(name) for name in target.columns]
        values = []
        train = _origins(clean, "train")
        for low in range(0, len(train), TARGETS_AT_ONCE):
            first = train[low : low + TARGETS_AT_ONCE] + 1 + shape.gap - target.context
            bars = np.stack([column[first[:, None] + np.arange(length)] for column in columns], 2)
            y = np.asarray(target(bars), dtype=np.float32)
            values.append(y.reshape(-1, y.shape[-1]))
        due = _statistics(clean.target_scaling, np.concatenate(values))
        _same_statistics("target_scaler", clean.target_scaler, due, 1e-7)
        count["targets"] += len(train)
    return count


def _statistics(method: Scaling, values: NDArray[np.float32]) -> Scaler:
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


def table_is_that_of_the_candles(piece: Piece) -> Counter[str]:
    """The feature file in use has the rows that the stored candles give when built again."""
    ours, theirs = piece.clean.table, piece.data.table
    low = theirs.row_of(ours.first)
    exact = ours.rows == theirs.rows
    skipped = 0 if exact else ours.warm_up
    when = piece.times[skipped:]
    for name in ("x", "observed", *piece.data.target.columns):
        one, other = (
            getattr(table, name) if name in ("x", "observed") else table.bars(name)
            for table in (ours, theirs)
        )
        built, used = one[skipped:], other[low + skipped : low + ours.rows]
        same(f"{name} in the feature file", built, used, when, exact=exact or name != "x")
    return Counter(rows=len(when))


def _origins(data: "BTCDataModule", stage: Stage) -> NDArray[np.int64]:
    """Rows of a stage's origins, for val and test as its loader says."""
    dataset = data.dataset(stage)
    if stage == "train":
        return dataset.origins[np.arange(len(dataset), dtype=np.int64)]
    batches = getattr(data, f"{stage}_dataloader")()
    times = np.concatenate([[], *(batch.origin_time.numpy() for batch in batches)])
    return (times.astype(np.int64) - data.table.first) // data.interval


def _same_statistics(name: str, one: Scaler, other: Scaler, tolerance: float) -> None:
    pairs = zip(one.scale, one.center, other.center, other.scale, strict=True)
    for i, (scale, center, center_now, scale_now) in enumerate(pairs):
        if max(abs(center - center_now), abs(scale - scale_now)) > tolerance * scale:
            raise LeakError(
                f"the {name}, column {i}: {center:.8g} and {scale:.8g} become "
                f"{center_now:.8g} and {scale_now:.8g}"
            )


def _none(piece: Piece, rows: Mask, what: str) -> None:
    at = np.flatnonzero(rows)
    if len(at):
        raise LeakError(f"{what}: {len(at):,} times, first at {format_instant(piece.times[at[0]])}")
