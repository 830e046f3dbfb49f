"""Guarantees that are counted again, from the rows and by other code than that under audit.

A check looks at a ``Piece`` or at ``Stages``, gives back counts of what it looked at, and raises a
``BTCDataError`` that says where the guarantee breaks.
"""

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.audit.compare import LeakError
from btc_datamodule.audit.twins import EVALUATED, Extent, Piece
from btc_datamodule.candles.runs import Mask, mark_intervals
from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.evaluation.origins import Dropped
from btc_datamodule.evaluation.scaling import NORMAL_IQR, Scaler, Scaling
from btc_datamodule.evaluation.splits import Stage
from btc_datamodule.features.layout import REACH
from btc_datamodule.features.table import Table
from btc_datamodule.stages import Stages
from btc_datamodule.store.candle_file import CandleReader

TARGETS_AT_ONCE = 1 << 15
SEARCHED = 1000
"""Bars that are read at once in search of the first after a wall."""


def find_first_rows(stages: Stages, stage: Stage) -> list[int]:
    """The first row of each span that samples walled off at its start may be made of.

    It has a candle of its own; train also keeps the embargo after each val and test span.
    """
    settings, fold = stages.settings, stages.fold
    firsts = []
    for start, _ in fold.spans(stage):
        row = _find_candle(stages, start)
        for _, end in (*fold.val, *fold.test):
            if stage == "train" and end <= start:
                row = max(row, _find_candle(stages, end) + settings.embargo)
        firsts.append(row)
    return firsts


def _find_candle(stages: Stages, instant: int) -> int:
    """The row of the first candle at or after an instant; the instant's own if there is none."""
    table = stages.table
    with CandleReader(stages.settings.candle_path) as reader:
        for low in range(max(instant, table.first), table.span[1], SEARCHED * table.interval):
            times = reader.slice(low, low + SEARCHED * table.interval).open_time
            if len(times):
                return int(times[0] - table.first) // table.interval
    return max(0, table.find_row(instant))


def reaches_over(table: Table, rows: NDArray[np.int64], wall: int) -> Mask:
    """(n,) which rows hang on anything of another series from before the row ``wall``."""
    if not table.has_reach or wall <= 0:
        return np.zeros(len(rows), dtype=np.bool_)
    over: Mask = table.pick(REACH, rows) < table.find_time(wall)
    return over


def check_stages_are_apart(piece: Piece) -> Counter[str]:
    """No val or test target is anything to train, and none of test is one of val."""
    shape = piece.settings.shape
    size = piece.table.rows
    origins = {stage: list_origins(piece, stage) for stage in EVALUATED}
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
    of_series = Extent(1 - shape.lookback, 1, beside=True).find_rows(
        piece.clean.stages, origins["train"]
    )
    edges = np.zeros(size + 1, dtype=np.int64)
    for column, step in ((0, 1), (1, -1)):
        np.add.at(edges, of_series[:, column].clip(0, size), step)
    seen["row that a train input's covariates tell of"] = np.cumsum(edges[:-1]) > 0
    repeats = np.maximum.accumulate(np.where(piece.present, np.arange(size), 0))
    for name, mask in seen.items():
        evaluated = targets["val"] | targets["test"]
        _refuse(piece, mask & evaluated, f"a {name} is a val or test target")
        copies = np.flatnonzero(mask & ~piece.present)
        repeated = np.zeros(size, dtype=np.bool_)
        repeated[copies[evaluated[repeats[copies]]]] = True
        _refuse(piece, repeated, f"a {name} is filled with a val or test target")
    _refuse(piece, targets["val"] & targets["test"], "a val target is a test target")
    return Counter(targets=int((targets["val"] | targets["test"]).sum()))


def check_windows(piece: Piece) -> Counter[str]:
    """Origins are those that the rules give, each once, and each bar is scored at most once."""
    shape, settings, count = piece.settings.shape, piece.settings, Counter[str]()
    told = piece.clean.stages.describe()
    size = piece.table.rows
    _check_filling(piece)
    for stage in (*EVALUATED, "predict"):
        origins = list_origins(piece, stage)
        if not len(origins) and piece.clean.overrides_loader(stage):
            continue  # handed out on purpose: a loader of the user's own without a batch
        allowed = _list_allowed(piece, stage)
        stride = {"train": settings.stride, "predict": 1}.get(stage, settings.eval_stride)
        due = [_take(mask, stride, across=stage != "train") for mask in allowed]
        taken = np.bincount(origins.clip(0, size), minlength=size + 1)[:size]
        expected = np.any([np.zeros(size, dtype=np.bool_), *due], axis=0)
        _refuse(piece, (taken > 0) & ~expected, f"a {stage} window breaks the rules")
        _refuse(piece, taken > 1, f"a {stage} window comes twice")
        _refuse(piece, (taken == 0) & expected, f"a {stage} window is missing")
        part = told.filter(told["stage"] == stage)
        if sum(map(np.sum, allowed)) != part["eligible"].sum() or len(origins) != sum(
            part["windows"]
        ):
            raise LeakError(f"describe() does not count the {stage} windows that there are")
        reasons = ["eligible", *Dropped._fields]
        if stage != "predict" and part["bars"].sum() != sum(part[name].sum() for name in reasons):
            raise LeakError(f"describe() does not account for every bar of {stage}")
        count["windows"] += len(origins)
        if stage in ("val", "test"):
            scored, could = (
                mark_intervals(size, rows + 1 + shape.gap, shape.horizon)
                for rows in (origins, np.flatnonzero(np.any(allowed, axis=0)))
            )
            if (scored.sum(), (could & ~scored).sum()) != (
                part["scored"].sum(),
                part["unscored"].sum(),
            ):
                raise LeakError(f"describe() does not count the {stage} bars that are scored")
            if settings.eval_stride == shape.horizon and scored.sum() != len(origins) * stride:
                raise LeakError(f"a {stage} bar is scored twice")
            count.update(scored=int(scored.sum()), bars=int(part["bars"].sum()))
    return count


def _check_filling(piece: Piece) -> None:
    """Bars are known where there is a candle, and up to ``max_fill`` rows after; flat in those."""
    rows = np.arange(piece.table.rows)
    last = np.maximum.accumulate(np.where(piece.present, rows, 0))
    known = rows - last <= piece.settings.max_fill
    close = piece.table.bars("close")
    _refuse(piece, np.isfinite(close) != known, "a row is filled that may not be, or is not")
    _refuse(piece, known & (close != close[last]), "a row is filled with another close")


def _take(allowed: Mask, stride: int, *, across: bool) -> Mask:
    """Every ``stride``-th allowed row, counted anew in each unbroken run unless ``across``."""
    taken, free, before = np.zeros(len(allowed), dtype=np.bool_), 0, -2
    for row in np.flatnonzero(allowed).tolist():
        if row >= free or (not across and row > before + 1):
            taken[row] = True
            free = row + stride
        before = row
    return taken


def _list_allowed(piece: Piece, stage: Stage) -> list[Mask]:
    """(T,) for each span, whether a stage may have its origin at each row, from the rows."""
    settings, shape, table = piece.settings, piece.settings.shape, piece.table
    walls = find_first_rows(piece.clean.stages, stage)
    origin = np.arange(table.rows)
    target = origin + 1 + shape.gap
    first = origin - shape.lookback + 1 - table.warm_up
    if stage != "predict":
        first = np.minimum(first, target - shape.reference_bars)
    unknown = np.append(0, np.cumsum(np.isnan(table.bars("close"))))
    absent = table.observed.reshape(table.rows, -1) == 0  # in one column, or of each feature
    unseen = np.pad(np.cumsum(absent, axis=0), ((1, 0), (0, 0)))
    each = []
    for (start, end), wall in zip(piece.fold.spans(stage), walls, strict=True):
        low, high = table.find_row(start), table.find_row(end)
        oldest = wall if stage == "train" or settings.context == "strict" else 0
        allowed = (target >= low) & (first >= oldest) & (first >= 0)
        over = np.append(0, np.cumsum(reaches_over(table, origin, oldest)))
        begin = np.maximum(origin - shape.lookback + 1, 0)
        allowed &= over[origin + 1] == over[begin]
        if stage == "predict":
            allowed &= target < high
        else:
            latest = min(high, table.rows) - (settings.purge if stage != "test" else 0)
            allowed &= target + shape.horizon <= latest
        at = np.flatnonzero(allowed)
        fine = piece.present[at]
        if settings.mask == "bar":
            fine &= ~absent[at, 0]
        most = (unseen[at + 1] - unseen[at - shape.lookback + 1]).max(axis=1)
        fine &= most <= (1 - settings.min_observed) * shape.lookback + 1e-9
        if stage != "predict":
            ends = target[at] + shape.horizon
            fine &= unknown[ends] == unknown[target[at] - shape.reference_bars]
        allowed[at] = fine
        each.append(allowed)
    return each


def check_statistics(stages: Stages) -> Counter[str]:
    """Both scalers again, from the train rows and windows."""
    settings, shape, table = stages.settings, stages.settings.shape, stages.table
    rows = np.zeros(table.rows, dtype=np.bool_)
    spans = zip(find_first_rows(stages, "train"), stages.fold.train, strict=True)
    for first, (_, end) in spans:
        high = max(0, min(table.find_row(end), table.rows) - settings.purge)
        own = np.arange(first + table.warm_up, max(first + table.warm_up, high))
        rows[own[~reaches_over(table, own, first)]] = True
    columns = list(_list_counted(stages, rows))
    due = _compute_statistics(settings.scaling, columns)
    compare_statistics("scaler", stages.fitted.scaler, due, 1e-7)
    count = Counter(rows=max(map(len, columns)))
    target, method = settings.target, settings.target_scaling
    if target.is_label:  # which is scaled only if a checkpoint of 0.1 has it so
        method = stages.fitted.target_scaler.method
    if method != "none":
        length = target.reference_bars + shape.horizon
        bars = [table.bars(name) for name in target.columns]
        values = []
        windows = stages.windows("train")
        train = windows.origins[np.arange(len(windows), dtype=np.int64)]
        for low in range(0, len(train), TARGETS_AT_ONCE):
            begins = train[low : low + TARGETS_AT_ONCE] + 1 + shape.gap - target.reference_bars
            at = begins[:, None] + np.arange(length)
            y = np.asarray(target(np.stack([each[at] for each in bars], 2)), dtype=np.float32)
            values.append(y.reshape(-1, y.shape[-1]))
        due = _compute_statistics(method, list(np.concatenate(values).T))
        compare_statistics("target_scaler", stages.fitted.target_scaler, due, 1e-7)
        count["targets"] += len(train)
    return count


def _list_counted(stages: Stages, rows: Mask) -> Iterator[NDArray[np.float32]]:
    """The values of each column that its statistics are of, among the rows of train."""
    settings, table = stages.settings, stages.table
    of_bars, last = settings.mask == "bar", settings.n_features - 1
    for column in range(settings.n_features):
        counts = rows & ((table.observed if of_bars else table.observed[:, column]) == 1)
        if settings.recipe.flag and (of_bars or column == last):
            counts &= table.x[:, -1] == 0
        values = table.x[counts, column]
        yield values[~np.isnan(values)]


def _compute_statistics(method: Scaling, columns: list[NDArray[np.float32]]) -> Scaler:
    """What a method's statistics are by definition, column by column."""
    center, scale = [], []
    least = np.finfo(np.float32).eps
    for column in (each.astype(np.float64) for each in columns):
        middle, spread = column.mean(), column.std()
        spread = spread if spread > least * abs(middle) else 1.0
        if method == "robust":
            low, middle, high = np.quantile(column, [0.25, 0.5, 0.75])
            quartiles = (high - low) / NORMAL_IQR
            spread = quartiles if quartiles > least * abs(middle) else spread
        center.append(0.0 if method in ("window", "none") else float(middle))
        scale.append(1.0 if method == "none" else float(spread))
    return Scaler(method, tuple(center), tuple(scale))


def list_origins(piece: Piece, stage: Stage) -> NDArray[np.int64]:
    """Rows of a stage's origins, for all but train as its loader says, if it says."""
    if stage not in piece.origins:
        windows = piece.clean.stages.windows(stage)
        origins = windows.origins[np.arange(len(windows), dtype=np.int64)]
        if stage != "train":
            handed = [batch.origins for batch in piece.clean.hand_batches(stage)]
            told = [rows for rows in handed if rows is not None]
            if len(told) == len(handed):
                origins = np.concatenate([np.zeros(0, dtype=np.int64), *told])
        piece.origins[stage] = origins
    return piece.origins[stage]


def compare_statistics(name: str, one: Scaler, other: Scaler, tolerance: float) -> None:
    """Raise ``LeakError`` unless two scalers agree, but for ``tolerance`` of their scales."""
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
