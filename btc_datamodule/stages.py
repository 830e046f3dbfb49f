"""``Stages``: what each stage may see, over one feature file.

Joins the settings, the feature file and what training has fixed. Gives the windows of each stage,
counts them and what was left out, and turns forecasts into prices. ``Stages.open`` is all that
``setup`` does: open the file, split its time, fit the scalers on train. The datamodule holds one;
the audit opens others on candles in which some bars are changed.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from btc_datamodule.candles.runs import count_rows
from btc_datamodule.candles.timeline import (
    format_instant,
    format_interval,
    format_span,
    parse_instant,
)
from btc_datamodule.eligible import count_origins, make_windows, take_origins
from btc_datamodule.errors import ConfigError
from btc_datamodule.evaluation.fitted import Fitted, ObservedRows, compute_digest, list_pieces
from btc_datamodule.evaluation.forecasts import UNKNOWN_TIME, invert, read_forecasts, read_times
from btc_datamodule.evaluation.origins import (
    FoundOrigins,
    Origins,
    count_target_bars,
)
from btc_datamodule.evaluation.partial import (
    begins_late,
    describe_part,
    has_history,
    refuse_stage,
    verify_pieces,
)
from btc_datamodule.evaluation.scaling import Scaler
from btc_datamodule.evaluation.splits import STAGES, Fold, Stage
from btc_datamodule.evaluation.targets import check_prices
from btc_datamodule.evaluation.walls import find_train_runs
from btc_datamodule.features.scarce import tell_scarce
from btc_datamodule.features.table import Table
from btc_datamodule.features.undefined import find_features, find_void, tell_undefined
from btc_datamodule.opening import Choice, open_table
from btc_datamodule.settings import Settings
from btc_datamodule.windows.dataset import WindowDataset

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, eq=False, repr=False)
class Stages:
    """The stages of a fold on an open feature file.

    Attributes:
        settings: which windows there are.
        table: the feature file.
        fitted: spans of the stages and statistics of train.
    """

    settings: Settings
    table: Table
    fitted: Fitted

    @classmethod
    def open(
        cls,
        settings: Settings,
        fitted: Fitted | None = None,
        *,
        verified_key: str | None = None,
        table: Choice | None = None,
    ) -> "Stages":
        """Open the feature file of some settings, and fit on its train rows.

        Args:
            settings: which windows there are.
            fitted: what training has fixed before, which stays; None to fit now.
            verified_key: key of a feature file whose train rows are known to be those of
                ``fitted``; those of any other are verified.
            table: the feature file, if it is chosen: of these settings, and of the candles as
                they were then. None for that of the candles as they are.

        Raises:
            NotPreparedError: if the candle file or the feature file is not there.
            ConfigError: if the split does not fit the candles.
            StoreError: if a file is damaged, or the train rows are not those of ``fitted``.
        """
        opened = open_table(settings, table)
        if fitted is None:
            return cls(settings, opened, fit(settings, opened))
        stages = cls(settings, opened, fitted)
        if opened.key != verified_key:
            stages.verify()
        return stages

    def __repr__(self) -> str:
        counts = ", ".join(f"{stage} {len(self.windows(stage)):,}" for stage in STAGES)
        return f"Stages({counts} windows of {self.table!r})"

    @property
    def fold(self) -> Fold:
        """The spans of the stages."""
        return self.fitted.fold

    @property
    def n_folds(self) -> int:
        """How many folds the split makes of the candles."""
        return len(self.settings.split.folds(self.table.span, self.table.interval))

    @cached_property
    def is_partial(self) -> bool:
        """Whether the table begins after the train rows: what it is good for is ``predict``."""
        return begins_late(self.fitted, self.table)

    def verify(self) -> int:
        """Raise ``StoreError`` unless the train rows are those that were fitted on.

        Returns:
            How many of them were verified: all, but for those that a partial table lacks.
        """
        settings, columns = self.settings, tuple(self.settings.target.columns)
        if self.is_partial:
            return verify_pieces(self.fitted, self.table, columns)
        rows = find_train_runs(
            self.table, self.fold, embargo=settings.embargo, purge=settings.purge
        )
        self.fitted.verify(compute_digest(self.table, rows, columns), self.table)
        return sum(high - low for low, high in rows)

    def find_lacking(self, stage: Stage) -> ConfigError | None:
        """The error of who asks a partial table for a stage that it has not all of."""
        walled = stage == "train" or self.settings.context == "strict"
        shape = self.settings.shape
        if self.is_partial and stage != "predict":
            for span in self.fold.spans(stage):
                if not has_history(self.table, shape, span, walled=walled):
                    return refuse_stage(self.table, shape, stage, span)
        return None

    def require(self, stage: Stage) -> None:
        """Raise ``ConfigError`` if the table is partial, and has not all of a stage."""
        if error := self.find_lacking(stage):
            raise error

    def windows(self, stage: Stage) -> WindowDataset:
        """The windows of a stage, inputs and targets scaled.

        Raises:
            ConfigError: if there is no such stage.
        """
        if stage not in STAGES:
            raise ConfigError(f"there is no stage {stage!r}: choose one of {', '.join(STAGES)}")
        windows = make_windows(self.settings, self.table, self.fold, stage, self.fitted.scaler)
        windows.target_scaler = self.fitted.target_scaler
        return windows

    def count_origins(self, stage: Stage) -> tuple[FoundOrigins, ...]:
        """How many origins are eligible, and why not the others, for each span of a stage."""
        return count_origins(self.settings, self.table, self.fold, stage)

    @cached_property
    def class_weights(self) -> tuple[float, ...]:
        """Weight of each class of the target, so that all weigh the same in train.

        n / (C * n_c), where n_c of the n targets of the train windows are of class c, as
        scikit-learn's "balanced" has it; 0 for a class that train does not have. Goes through the
        targets in bounded memory.

        Raises:
            ConfigError: if the target has no classes.
        """
        classes = self.settings.n_classes
        if classes is None:
            raise ConfigError(
                f"target {self.settings.target!r} has no classes to weigh: choose "
                "Direction(classes=True), TripleBarrier(classes=True) or one that has `n_classes`"
            )
        self.require("train")
        counts = self.windows("train").count_classes(classes)
        return tuple(int(counts.sum()) / (classes * n) if n else 0.0 for n in counts.tolist())

    def check(self, batch: int) -> None:
        """Raise ``ConfigError`` if a stage has no window, or train not even one whole batch.

        Of a partial table predict alone must have one.

        Args:
            batch: windows of a batch of all ranks together.
        """
        table, shape = self.table, self.settings.shape
        if self.is_partial:
            self._check_features()
            if not len(self.windows("predict")):
                need = shape.count_before(table.warm_up) + self.settings.max_fill
                raise ConfigError(
                    f"no bar of {format_span(table.span)} can be forecast: a forecast needs {need} "
                    "bars, and lies at the first test bar or after it; set `start` earlier, or run "
                    "`btc-datamodule prepare` for later bars"
                )
            return
        stages = [stage for stage in STAGES if stage != "predict" and self.fold.spans(stage)]
        counts = {stage: len(self.windows(stage)) for stage in stages}
        shown = ", ".join(f"{stage} {count:,}" for stage, count in counts.items())
        need = shape.count_before(table.warm_up) + shape.horizon
        if table.rows < need:
            raise ConfigError(
                f"a sample needs {need} bars (warm-up {table.warm_up}, lookback {shape.lookback}, "
                f"gap {shape.gap}, horizon {shape.horizon}, bars that the target is measured from "
                f"{shape.reference_bars}) and there are {table.rows}: "
                "shorten `lookback`, `gap` or `horizon`, or widen `start` and `end`"
            )
        self._check_features()
        if not all(counts.values()):
            lost = self.count_undefined()
            if all(counts[stage] or lost[stage] for stage in counts):
                raise ConfigError(
                    f"features leave a stage without windows ({shown}): they have no value "
                    f"{tell_undefined(table)}"
                )
            raise ConfigError(
                f"the split leaves a stage without windows ({shown}, of {table.rows:,} bars, "
                f"{count_rows(table.unobserved):,} of them not observed): give it more time in "
                "`split`, shorten `lookback`, `gap`, `horizon` or what `target` is measured from, "
                "or, if holes are the cause, raise `max_fill` or lower `min_observed`"
                f"{tell_scarce(table, self.settings.features)}"
            )
        if counts["train"] < batch:
            raise ConfigError(
                f"train has fewer windows than one batch ({shown}, batch {batch}): "
                "lower `batch_size` or `stride`, or widen `start` and `end`"
            )

    def count_undefined(self) -> dict[Stage, int]:
        """Windows of each stage that are left out since features have no value for known bars."""
        settings, table = self.settings, self.table
        lost: dict[Stage, int] = {}
        for stage in STAGES:
            if not len(table.undefined) or settings.undefined == "flag":
                lost[stage] = 0
                continue
            found = count_origins(settings, table, self.fold, stage, ignore_undefined=True)
            have = take_origins(settings, stage, self.count_origins(stage))
            lost[stage] = len(take_origins(settings, stage, found)) - len(have)
        return lost

    def list_doubts(self) -> list[str]:
        """What a person should know of the samples before trusting a figure, a sentence each."""
        lost = self.count_undefined()
        if not any(lost.values()):
            return []
        counts = ", ".join(f"{stage} {count:,}" for stage, count in lost.items())
        told = tell_undefined(self.table)
        return [f"windows are left out ({counts}), as features have no value {told}"]

    def _check_features(self) -> None:
        """Raise ``ConfigError`` if a feature has no value in any bar, or none where it must."""
        void = find_void(self.table)
        for feature in self.settings.features:
            if feature.name in void and (feature.series or feature.beside):
                raise ConfigError(
                    f"{feature.name} has no value in any bar, {format_span(self.table.span)}: "
                    f"{self.settings.tell_stored(feature)}"
                )
        if void:
            has_volume = "volume" in self.settings.read_candle_header().columns
            lacking = "" if has_volume else " (the candles have no volume)"
            holes = "" if {*void} <= {*find_features(self.table)} else ", or raise `max_fill`"
            raise ConfigError(
                f"{', '.join(void)} has no value in any bar{lacking}: mend it, or take it out of "
                f"`features`{holes}"
            )
        if self.settings.undefined == "fail" and len(self.table.undefined):
            raise ConfigError(f"features have no value {tell_undefined(self.table)}")

    def describe(self) -> "pl.DataFrame":
        """The stages span by span: see ``BTCDataModule.describe``."""
        import polars as pl

        from btc_datamodule.evaluation.stage_table import StageTable

        rows: list[dict[str, Any]] = []
        horizon = self.settings.shape.horizon
        for stage in STAGES:
            for span, found in zip(self.fold.spans(stage), self.count_origins(stage), strict=True):
                start, end = (max(self.table.first, span[0]), min(span[1], self.table.span[1]))
                bars = max(0, end - start) // self.table.interval
                taken = take_origins(self.settings, stage, [found])
                scored = unscored = None
                if stage in ("val", "test"):
                    scored = count_target_bars(taken, horizon)
                    unscored = count_target_bars(Origins.of(found.runs, 1), horizon) - scored
                rows.append(
                    {
                        "stage": stage,
                        "from": start if bars else span[0],  # a partial table may have none
                        "to": end if bars else span[1],
                        "bars": bars,
                        "windows": len(taken),
                        "eligible": count_rows(found.runs),
                        **found.dropped._asdict(),
                        "scored": scored,
                        "unscored": unscored,
                    }
                )
        instants = pl.from_epoch(pl.col("from", "to")).dt.replace_time_zone("UTC")
        # Of all rows: by default polars takes the types of the first 100, train's `scored` is null.
        frame = pl.DataFrame(rows, infer_schema_length=None).with_columns(instants)
        return StageTable(frame)

    def describe_part(self) -> str:
        """What a person should know of a partial table."""
        return describe_part(self.fitted, self.table, self.verify())

    def inverse_transform(self, y: Any) -> Any:
        """Targets or forecasts in the units of the target: see ``evaluation.forecasts.invert``."""
        return invert(self.fitted.target_scaler, y, self.settings.target_shape)

    def to_prices(self, y: Any, origin_time: Any) -> NDArray[np.float64]:
        """Prices that targets or forecasts stand for: see ``BTCDataModule.to_prices``."""
        settings = self.settings
        check_prices(settings.target)
        times = read_times(origin_time)
        if times.ndim > 1:
            raise ConfigError(f"origin_time has shape {times.shape}: give (B,), one of each sample")
        y = read_forecasts(y, times.shape, settings.target_shape)
        y = self.fitted.target_scaler.invert(torch.from_numpy(y)).numpy()
        close = self._find_reference_closes(times.reshape(-1))
        prices = settings.target.prices(y.reshape(-1, *settings.target_shape), close)
        return prices if times.ndim else prices[0]

    def _find_reference_closes(self, times: NDArray[np.int64]) -> NDArray[np.float64]:
        """Closes of the bars before the first target bars of origins, NaN where not known.

        Raises:
            ConfigError: if none of the times is that of a bar.
        """
        table = self.table
        rows, past = np.divmod(times - table.first, table.interval)
        is_bar = (times != UNKNOWN_TIME) & (past == 0) & (rows >= 0) & (rows < table.rows)
        if len(times) and not is_bar.any():
            parse_instant(int(times[0]), "origin_time")  # which knows other units
            start, end = map(format_instant, table.span)
            raise ConfigError(
                f"origin_time {format_instant(times[0])} is no bar of {self.settings.candle_path} "
                f"({format_interval(table.interval)} from {start} to {end}), and none of the "
                "others is: give times of its bars, or run `btc-datamodule prepare` for later ones"
            )
        rows += self.settings.shape.gap
        known = is_bar & (rows < table.rows)
        return np.where(known, table.pick("close", np.where(known, rows, 0)), np.nan)


def fit(settings: Settings, table: Table) -> Fitted:
    """Split the time of a feature file, and take the statistics of what train may see."""
    fold = settings.split.select_fold(table.span, table.interval)
    rows = find_train_runs(table, fold, embargo=settings.embargo, purge=settings.purge)
    scaler = Scaler.fit(settings.scaling, lambda: ObservedRows(table, rows), settings.n_features)
    windows = make_windows(settings, table, fold, "train", scaler)
    method = "none" if settings.target.is_label else settings.target_scaling
    targets = Scaler.fit(method, windows.stream_targets, (settings.target_shape or (1,))[-1])
    columns = settings.target.columns
    digest, pieces = compute_digest(table, rows, columns), list_pieces(table, rows, columns)
    return Fitted(fold, scaler, targets, digest, table.first, pieces)
