"""``Views``: what a datamodule shows of its settings and stages, and makes of forecasts.

Attributes that are read and never set, and the methods for looking around. The datamodule inherits
them, so that it has only the hooks of Lightning and what they need.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from btc_datamodule.candles.timeline import format_instant, format_interval, format_span
from btc_datamodule.checks import list_first
from btc_datamodule.errors import ConfigError, NotPreparedError
from btc_datamodule.evaluation.splits import STAGES, Stage
from btc_datamodule.features.feature import count_warm_up
from btc_datamodule.features.layout import FLAG
from btc_datamodule.options import DTYPES, DType
from btc_datamodule.pictures.needed import check_matplotlib
from btc_datamodule.settings import Settings
from btc_datamodule.stages import Stages
from btc_datamodule.windows.arrays import Arrays
from btc_datamodule.windows.batch import Batch, Transform
from btc_datamodule.windows.collecting import MAX_BYTES, collect_arrays
from btc_datamodule.windows.dataset import WindowDataset

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from btc_datamodule.scoring.card import ScoreCard

T = TypeVar("T")


class View(Generic[T]):
    """An attribute that is read from settings or stages, and never set."""

    def __init__(self, read: Callable[["Views"], T], doc: str) -> None:
        self.read = read
        self.__doc__ = doc

    def __get__(self, owner: "Views | None", kind: type) -> T:
        return cast("T", self) if owner is None else self.read(owner)

    def __set__(self, owner: "Views", value: T) -> None:
        raise AttributeError("the data of a datamodule do not change: make another one")


class Views:
    """What has settings, and after ``setup`` stages; see the module."""

    settings: Settings
    transform: Transform | None
    dtype: DType
    _stages: Stages | None = None
    _refusal: ConfigError | None = None

    def __repr__(self) -> str:
        settings, stages = self.settings, self._stages
        start = "the first bar" if settings.start is None else format_instant(settings.start)
        end = "the last" if settings.end is None else format_instant(settings.end)
        known = f"{start} to {end}" if stages is None else format_span(stages.table.span)
        flag = [FLAG] * (settings.undefined == "flag")
        names = list_first([*(feature.text for feature in settings.features), *flag])
        lines = [
            f"{type(self).__name__}: {settings.source.name} {settings.source.series}, "
            f"{format_interval(settings.interval)}, {known}",
            f"  x  {(settings.shape.lookback, settings.n_features)}  {names}; "
            f"scaling {settings.scaling}",
            f"  y  {settings.target_shape}  {settings.target!r}; scaling {settings.target_scaling}",
        ]
        if settings.covariates:
            beside = [f"{each.name} ({each.clock})" for each in settings.covariates]
            lines.append(f"  beside  {list_first(beside)}")
        if stages is None:
            return "\n".join([*lines, "  not set up: prepare_data() and setup() come next"])
        for stage in STAGES:
            spans = list(map(format_span, stages.fold.spans(stage)))
            count = f"{len(stages.windows(stage)):,} windows"
            lines.append(f"  {stage:<8} {count:>18}  {list_first(spans, 2)}".rstrip())
        if stages.is_partial:
            lines.append(f"  {stages.describe_part()}")
        return "\n".join(lines)

    __str__ = __repr__  # Lightning's would make every loader

    def _repr_html_(self) -> str:
        """The same, for a notebook, with the stages as a strip."""
        from btc_datamodule.pictures.strip import write_html

        return write_html(repr(self), self._stages)

    # What is known without any data.

    source = View(lambda dm: dm.settings.source, "Where candles come from.")
    interval = View(lambda dm: dm.settings.interval, "Length of a bar, seconds.")
    features = View(lambda dm: dm.settings.features, "Columns of ``Batch.x``.")
    target = View(lambda dm: dm.settings.target, "What ``Batch.y`` is.")
    split = View(lambda dm: dm.settings.split, "How time is divided.")
    shape = View(lambda dm: dm.settings.shape, "Extent of a sample, in bars.")
    lookback = View(lambda dm: dm.settings.shape.lookback, "L, input bars.")
    horizon = View(lambda dm: dm.settings.shape.horizon, "H, target bars.")
    n_features = View(lambda dm: dm.settings.n_features, "F, the last axis of ``Batch.x``.")
    target_shape = View(lambda dm: dm.settings.target_shape, "Shape of one sample's target.")
    n_classes = View(
        lambda dm: dm.settings.n_classes, "Classes of the target; None if it has none."
    )
    candle_path = View(lambda dm: dm.settings.candle_path, "The candle file.")
    covariates = View(
        lambda dm: {each.name: each.given for each in dm.settings.covariates},
        "The series beside the candles, as they were given, by name.",
    )
    max_age = View(
        lambda dm: dm.settings.max_age,
        "Seconds after which a value of each covariate is too old; None for never.",
    )

    @property
    def bars_needed(self) -> int:
        """How many of the newest bars a forecast at the newest one is made of, holes allowed for.

        What features, lookback, gap and target reach back, and as many bars more as are filled. A
        checkpoint's datamodule with ``start`` so many bars ago serves ``predict`` from the newest
        origin on; what covariates need before ``start`` is fetched as well.
        """
        of_candles = [feature for feature in self.settings.features if not feature.series]
        warm_up = count_warm_up(of_candles)
        return self.settings.shape.count_before(warm_up) + self.settings.max_fill

    # What is known after ``setup``; NotPreparedError before.

    table = View(lambda dm: dm.stages.table, "The feature file.")
    fold = View(lambda dm: dm.stages.fold, "The spans of the stages.")
    n_folds = View(lambda dm: dm.stages.n_folds, "How many folds the split makes of the candles.")
    scaler = View(lambda dm: dm.stages.fitted.scaler, "Statistics of the train rows.")
    target_scaler = View(lambda dm: dm.stages.fitted.target_scaler, "Those of the train targets.")
    class_weights = View(
        lambda dm: torch.tensor(dm.stages.class_weights),
        "(C,) float32, for a loss: n / (C * n_c), where n_c of n train targets are of class c.",
    )

    @property
    def stages(self) -> Stages:
        """What each stage may see; ``NotPreparedError`` before ``setup()``."""
        if self._stages is None:
            raise self._refusal or NotPreparedError("call prepare_data() and setup() first")
        return self._stages

    def dataset(self, stage: Stage) -> WindowDataset:
        """The windows of a stage: a map-style dataset for any DataLoader.

        Raises:
            NotPreparedError: before ``setup()``.
            ConfigError: if there is no such stage, or the candles begin after what it needs.
        """
        windows = self.stages.windows(stage)
        self.stages.require(stage)
        windows.transform, windows.dtype = self.transform, DTYPES[self.dtype]
        return windows

    def arrays(self, stage: Stage, *, max_bytes: int = MAX_BYTES) -> Arrays:
        """All samples of a stage as numpy arrays, in order of time: for scikit-learn, LightGBM.

        The values are those of the loaders' batches, scaled, and with ``transform`` applied, block
        by block on the host; with ``dtype`` bfloat16 they are these, as float32. Of train there are
        all samples, also those that fill no whole batch.

        Args:
            stage: train, val, test or predict.
            max_bytes: what they may take together; more is an error before anything is read.

        Returns:
            ``x``, ``y``, ``observed`` and ``origin_time``; ``x_table`` is ``x`` with a row for
            each sample, whose ``columns`` have names.

        Raises:
            NotPreparedError: before ``setup()``.
            ConfigError: if there is no such stage, or the arrays would take more.
        """
        return collect_arrays(self.dataset(stage), stage, max_bytes)

    def describe(self) -> "pl.DataFrame":
        """The stages span by span: how many windows there are, and what was left out and why.

        Returns:
            One row for each span: ``stage``, ``from``, ``to`` (UTC), ``bars``, ``windows`` (at
            the stage's stride), ``eligible`` (origins that may be used), and how many were left
            out: ``end``, ``purge``, ``history``, ``embargo``, ``target``, ``origin``, ``inputs``,
            ``undefined`` (see ``evaluation.origins``). What is not known of a covariate counts as
            ``origin`` or ``inputs``, what reaches back over a wall as ``history``. Of val and
            test: ``scored`` bars, which are a target of one window, and ``unscored``, which could
            be and are of none. Printed with a column for each span, so that it can be read whole.
        """
        return self.stages.describe()

    def score(
        self,
        forecasts: Any,
        stage: Stage = "test",
        *,
        cost: float = 10.0,
        trials: int = 1,
        level: float = 0.95,
        seed: int = 0,
        quantiles: Sequence[float] | None = None,
        draws: bool = False,
    ) -> "ScoreCard":
        """How good forecasts are, beside baselines of the very same samples. Needs scipy.

        Args:
            forecasts: a file that ``PredictionWriter`` wrote, what ``Trainer.predict`` returned, a
                frame, or a mapping of arrays, with ``origin_time``, in which forecasts are scaled
                as ``Batch.y`` is; several by name; or of each name several by the number of their
                fold. All are scored on the samples that all are of.
            stage: train, val or test: those count whose target lies in it.
            cost: of one side of a trade, in basis points.
            trials: how many models and settings were tried to come to these.
            level: of intervals.
            seed: of the bootstrap.
            quantiles: levels of forecasts that are quantiles: they have an axis more than the
                target, with one for each level, rising. The median stands for them elsewhere.
            draws: whether such an axis has draws of the forecast.

        Returns:
            A score, which prints as text; as frames ``measures``, ``distributions``, ``money`` and
            ``by(...)``.

        Raises:
            ConfigError: if there are no forecasts of this stage, or an argument is wrong.
        """
        from btc_datamodule.scoring.card import make_card

        return make_card(
            self.stages,
            forecasts,
            stage,
            cost=cost,
            trials=trials,
            level=level,
            seed=seed,
            quantiles=quantiles,
            draws=draws,
        )

    def plot_timeline(self, ax: "Axes | None" = None) -> "Figure":
        """Prices, the stages of the fold with purge and embargo, and all outages.

        Every ``plot_`` method needs matplotlib, draws into what it is given, or else into a new
        figure, and returns the figure: a notebook shows it, ``savefig`` writes it.

        Args:
            ax: axes of a figure of yours.

        Raises:
            NotPreparedError: before ``setup()``.
            ConfigError: if matplotlib is not installed.
        """
        check_matplotlib()
        from btc_datamodule.pictures.timeline import plot_timeline

        return plot_timeline(self.stages, ax)

    def plot_holes(self, ax: "Axes | None" = None) -> "Figure":
        """Which share of the bars there is a candle for, by day and hour of the day.

        Args:
            ax: as of ``plot_timeline``.
        """
        check_matplotlib()
        from btc_datamodule.pictures.calendar import plot_holes

        return plot_holes(self.stages, ax)

    def plot_folds(self, ax: "Axes | None" = None) -> "Figure":
        """All folds of the split; of a combinatorial one with the paths that forecasts join.

        Args:
            ax: as of ``plot_timeline``.
        """
        check_matplotlib()
        from btc_datamodule.pictures.folds import plot_folds

        return plot_folds(self.stages, ax)

    def plot_batch(
        self, batch: Batch | None = None, fig: "Figure | SubFigure | None" = None
    ) -> "Figure":
        """Windows of a batch as a model receives them: inputs, what is not observed, targets.

        Args:
            batch: what a loader gave; None for some windows of train.
            fig: a figure of yours, or a subfigure, which the axes are added to; in a small one
                there are fewer.

        Raises:
            ConfigError: if the batch is none of this datamodule's shape.
        """
        check_matplotlib()
        from btc_datamodule.pictures.batch import plot_batch

        return plot_batch(self.stages, batch, fig)

    def plot_features(
        self, features: Sequence[str] | None = None, fig: "Figure | SubFigure | None" = None
    ) -> "Figure":
        """How the values of features are spread in train, val and test, and how far they drift.

        Args:
            features: names; None for all that the figure has room for.
            fig: as of ``plot_batch``.

        Raises:
            ConfigError: if there is no such feature.
        """
        check_matplotlib()
        from btc_datamodule.pictures.features import plot_features

        return plot_features(self.stages, features, fig)

    def plot_forecasts(
        self,
        forecasts: Any,
        stage: Stage = "test",
        fig: "Figure | SubFigure | None" = None,
        *,
        quantiles: Sequence[float] | None = None,
        draws: bool = False,
    ) -> "Figure":
        """Forecasts beside what came, and their losses against the best baseline, over time.

        Needs scipy too.

        Args:
            forecasts: what ``score`` takes, or what it gave.
            stage: as of ``score``.
            fig: as of ``plot_batch``.
            quantiles: as of ``score``: the median is what is drawn.
            draws: likewise.

        Raises:
            ConfigError: as ``score``.
        """
        check_matplotlib()
        from btc_datamodule.pictures.forecasts import plot_forecasts
        from btc_datamodule.scoring.card import ScoreCard, make_card

        if not isinstance(forecasts, ScoreCard):
            forecasts = make_card(self.stages, forecasts, stage, quantiles=quantiles, draws=draws)
        return plot_forecasts(forecasts, fig)

    def inverse_transform(self, y: Any) -> Any:
        """Targets or forecasts in the units of the target: undo ``target_scaling``.

        Takes what ``to_prices`` does; a tensor stays one, with its type, device and gradient.
        """
        return self.stages.inverse_transform(y)

    def to_prices(self, y: Any, origin_time: Any) -> NDArray[np.float64]:
        """Prices that targets or forecasts stand for.

        Args:
            y: (B, *target shape), or with a row of numbers a sample, scaled as ``Batch.y`` is: a
                tensor of any kind, an array, columns that ``PredictionWriter`` wrote, or a list.
            origin_time: (B,) int64, epoch seconds, of their origins; or times.

        Returns:
            What ``target.prices`` makes of them, in the quote currency, measured from the close
            before the first target bar: NaN where that is not known, or there is no such bar.

        Raises:
            ConfigError: if the target is not one of prices, or ``y`` or ``origin_time`` do not fit.
        """
        return self.stages.to_prices(y, origin_time)
