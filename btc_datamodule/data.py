"""``Data``: a datamodule without loaders and hooks, and so without Lightning.

The arguments, what brings the files up to date, and what opens them. ``BTCDataModule`` is that with
what a Trainer needs. Commands that have no Trainer are done with this much, and don't wait for
Lightning to be imported, which takes longer than all of their work.
"""

import logging
from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path
from typing import Literal
from warnings import warn

from btc_datamodule.candles.timeline import Instant
from btc_datamodule.checks import unwrap
from btc_datamodule.evaluation.fitted import Fitted
from btc_datamodule.evaluation.scaling import Scaling
from btc_datamodule.evaluation.splits import Split
from btc_datamodule.evaluation.targets import Target
from btc_datamodule.features.feature import Feature
from btc_datamodule.features.layout import MaskOf
from btc_datamodule.features.undefined import Undefined
from btc_datamodule.opening import Choice
from btc_datamodule.options import DType, check_options, list_doubts
from btc_datamodule.preparing import SIMULATES, Prepared, prepare
from btc_datamodule.settings import Settings
from btc_datamodule.sources.base import Source
from btc_datamodule.sources.records import RecordSource
from btc_datamodule.sources.resampled import Resampled
from btc_datamodule.stages import Stages
from btc_datamodule.views import Views
from btc_datamodule.windows.batch import Batch
from btc_datamodule.windows.sampler import Shuffle
from btc_datamodule.windows.sending import StartMethod

log = logging.getLogger("btc_datamodule")


class Data(Views):
    """Bitcoin candles as train, validation, test and predict windows.

    Args:
        source: where candles come from: Simulator, Coinbase, BinanceArchive, Ccxt, CandleFile, or
            a Source of yours.
        interval: length of a bar: 1m, 5m, 1h, 1d, 1w and so on.
        start: first instant, ISO 8601, UTC, a date or epoch seconds; none for as early as can be.
        end: instant past the last one; none for up to the latest closed bar.
        features: columns of x: names (see README), expressions such as
            "momentum_10 = close / close.shift(10) - 1", or Feature objects.
        target: what y is: LogReturn, CumulativeReturn, OHLCPath, ClosePath, Direction,
            TripleBarrier, RealisedVolatility, or a Target of yours.
        lookback: input bars of a sample (L).
        horizon: target bars of a sample (H).
        gap: bars between the last input bar and the first target bar.
        split: how time is divided: FractionSplit, DateSplit, WalkForward, CombinatorialPurged,
            or a Split of yours.
        purge: bars to leave out at the end of train and of val, beyond what the target needs.
        embargo: bars after each val or test span that no later train sample may read.
        context: whether inputs of val and test may reach back over the start of their span
            (allow) or not (strict). Those of train never do.
        batch_size: windows in a batch of one device.
        stride: bars from one train sample to the next.
        eval_stride: likewise for val and test; none for the horizon, so that no bar is scored
            twice. What is left over at the end of an unbroken stretch ``describe`` counts.
        shuffle: order of train windows: full (random, anew each epoch), block (so too, within a
            million windows at a time: for files larger than memory) or none (by time).
        seed: of that order.
        scaling: of x: train (z-score with statistics of the train rows), robust (median and
            quartiles of the train rows), window (each sample by itself) or none.
        target_scaling: of y: train or robust, with statistics of the train targets, or none.
        max_fill: absent bars in a row that are taken as time without trades and filled flat;
            those after them are an outage, which no target touches.
        min_observed: least share of a sample's input bars that must be observed, in (0, 1].
        num_workers: processes that load batches; 0, in this process, is the fastest for most. With
            ``gather`` device there are none.
        start_method: how these start: fork, spawn or forkserver; none for the platform's default.
        pin_memory: have batches in pinned memory, for faster transfer to a GPU; none: where a
            Trainer trains on one, with ``gather`` host.
        gather: where windows are put together: host, or device, which holds rows and targets in its
            own memory, if they fit. What the loaders hand out is made a Batch by
            ``transfer_batch_to_device`` then, which a Trainer calls by itself.
        data_dir: folder under which the HDF5 files lie.
        refresh: ask the source again for everything, and let its answers replace what is stored.
        transform: from Batch to Batch, of every batch handed out; on the device if gathered there.
        offset: how long past midnight UTC, or past Monday, bars open, such as 8h; none for 0.
        undefined: what becomes of a bar that is known and for which a feature has no value, such as
            the logarithm of no volume: drop (it counts as not observed, and a warning tells how
            many windows that costs), flag (0 takes the place of the scaled value, and a last
            column of x, ``undefined``, is 1 there) or fail (an error).
        offline: ask no source: use the candles that are stored.
        covariates: series beside the candles, by the names that features call them by: sources of
            candles or records, or ``Resampled``. See docs/beside.md.
        max_age: how old a value of a covariate may be to stand for the present, such as
            {funding: 8h}, by its name; none there for never too old. By default twice the interval
            of the series, and never of records without one.
        mask: what ``Batch.observed`` tells of: bar (a bar counts as observed if all of its features
            do) or feature (each does by itself, and of each at least ``min_observed`` of the input
            bars must).
        dtype: of x: float32, or bfloat16, which is that rounded, for a model in that precision.

    Raises:
        ConfigError: if an argument is wrong on the face of it.
    """

    def __init__(
        self,
        source: Source | None = None,
        interval: str = "1h",
        start: Instant | None = None,
        end: Instant | None = None,
        features: Sequence[str | Feature] = ("log_return", "log_range", "log_volume"),
        target: Target | None = None,
        lookback: int = 48,
        horizon: int = 1,
        gap: int = 0,
        split: Split | None = None,
        purge: int = 0,
        embargo: int = 0,
        context: Literal["allow", "strict"] = "allow",
        batch_size: int = 256,
        stride: int = 1,
        eval_stride: int | None = None,
        shuffle: Shuffle = "full",
        seed: int = 0,
        scaling: Scaling = "train",
        target_scaling: Literal["train", "robust", "none"] = "none",
        max_fill: int = 3,
        min_observed: float = 1.0,
        num_workers: int = 0,
        start_method: StartMethod | None = None,
        pin_memory: bool | None = None,
        gather: Literal["host", "device"] = "host",
        data_dir: str | Path = "data",
        refresh: bool = False,
        transform: Callable[[Batch], Batch] | None = None,
        offset: str | None = None,
        undefined: Undefined = "drop",
        offline: bool = False,
        covariates: dict[str, Source | RecordSource | Resampled] | None = None,
        max_age: dict[str, str | None] | None = None,
        mask: MaskOf = "bar",
        dtype: DType = "float32",
    ) -> None:
        given = locals()
        super().__init__()
        self._given = {name: unwrap(given[name]) for name in ARGUMENTS}
        self.settings = Settings.parse(self._given)
        check_options(self._given)
        self.batch_size, self.num_workers, self.seed = map(int, (batch_size, num_workers, seed))
        self.shuffle: Shuffle = shuffle
        self.start_method, self.pin_memory = start_method, pin_memory
        self.gather, self.transform, self.dtype = gather, transform, dtype
        self.refresh, self.offline = refresh, offline
        self._fitted: Fitted | None = None
        self._verified_key: str | None = None
        self._prepared: Choice | None = None
        self._is_twin = False  # with fewer bars than there are, a stage may have no windows
        for doubt in list_doubts(self._given, self.settings):
            self._warn(doubt)
        self._keep_arguments()

    def prepare_data(self) -> None:
        """Bring the candle file and the feature file up to date, and say where they lie.

        Raises:
            SourceError: if the source cannot answer; what it had answered is kept.
            StoreError: if a file is damaged or locked.
            LookAheadError: if a feature looks ahead.
        """
        for line in self.prepare_quietly().told:
            self._tell(line)

    def prepare_quietly(self) -> Prepared:
        """As ``prepare_data``, which says what this returns: notes, and where the files lie."""
        source, self._given["source"] = self._given["source"], self.settings.source
        said = [] if source is not None else [SIMULATES]  # once: not by its folds again
        prepared = prepare(self.settings, refresh=self.refresh, offline=self.offline)
        self._prepared = prepared.table
        return prepared._replace(told=said + prepared.told)

    def setup(self, stage: str | None = None) -> None:
        """Open the files, split them by time, and fit the scaler on train; the same for any stage.

        Raises:
            NotPreparedError: if the files are not there.
            ConfigError: if a stage would be left without windows.
        """
        self._open(self._prepared, self.batch_size)

    def _open(self, table: Choice | None, batch: int) -> None:
        """Serve the stages of a feature file from here on, of which one batch must have so many."""
        stages = Stages.open(
            self.settings, self._fitted, verified_key=self._verified_key, table=table
        )
        self._take(stages, batch)
        if not self._is_twin:
            for doubt in stages.list_doubts():
                self._warn(doubt)

    def _take(self, stages: Stages, batch: int, *, checks: bool = True) -> None:
        """Serve stages if they are such as can be, and say it once where the table is partial."""
        is_news = self._verified_key is None
        self._use(stages)
        if checks and not self._is_twin:
            stages.check(batch)
        if stages.is_partial and is_news:
            self._tell(f"note:     {stages.describe_part()}")

    def _use(self, stages: Stages) -> None:
        """Serve these stages from here on."""
        self._stages, self._fitted = stages, stages.fitted
        self._verified_key = stages.table.key

    def _keep_arguments(self) -> None:
        """Keep them for checkpoints and loggers, if there are any."""

    def _tell(self, line: str) -> None:
        """Say what was done."""
        log.info(line)

    def _warn(self, doubt: str) -> None:
        """Say what will hardly do as it says."""
        warn(doubt, stacklevel=3)


ARGUMENTS = tuple(signature(Data).parameters)
