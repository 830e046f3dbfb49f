"""``Facts``: all that a report shows, gathered before anything of it is drawn."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from btc_datamodule.candles.gaps import Stretch, find_suspicious
from btc_datamodule.candles.timeline import Span
from btc_datamodule.evaluation.splits import Stage
from btc_datamodule.overview.distributions import Distribution, measure_distributions
from btc_datamodule.overview.folds import FoldMap, map_folds
from btc_datamodule.overview.holes import Holes, count_holes
from btc_datamodule.overview.labels import Labels, describe_labels
from btc_datamodule.overview.market import Market, name_market
from btc_datamodule.overview.spans import Ribbon, list_outages, list_ribbons
from btc_datamodule.overview.window import Window, find_position, take_apart
from btc_datamodule.progress import show_step
from btc_datamodule.scoring.card import ScoreCard
from btc_datamodule.stages import Stages
from btc_datamodule.windows.batch import Batch

if TYPE_CHECKING:
    from btc_datamodule.audit.report import Audit

SAMPLES = 6
"""Windows of each stage that are spread evenly over it."""

SAMPLE_NUMBERS = 60_000
"""Of all windows that are shown together: of long ones there are fewer."""

PARTS = 5
"""Steps of gathering."""


class Sample(NamedTuple):
    """A window that is shown, and why."""

    label: str
    window: Window


@dataclass(frozen=True, eq=False)
class Facts:
    """What there is to show.

    Attributes:
        stages: of the fold in use.
        market: whose candles they are.
        ribbons: spans of the stages, and what is left out of them.
        outages: stretches in which no price is known.
        suspicious: holes that look made.
        holes: which bars there are.
        folds: all of the split.
        features: distributions of each.
        labels: the targets.
        samples: windows to be looked at.
        counts: rows of ``Stages.describe``, a span each.
        doubts: sentences of ``Stages.list_doubts``.
        audit: what it found; None where it was not run.
        card: of forecasts; None where none were given.
        has_transform: whether batches are changed by a transform of the user's.
    """

    stages: Stages
    market: Market
    ribbons: tuple[Ribbon, ...]
    outages: tuple[Span, ...]
    suspicious: tuple[Stretch, ...]
    holes: Holes
    folds: FoldMap
    features: tuple[Distribution, ...]
    labels: Labels
    samples: tuple[Sample, ...]
    counts: tuple[Mapping[str, Any], ...]
    doubts: tuple[str, ...]
    audit: "Audit | None"
    card: ScoreCard | None
    has_transform: bool


def gather_facts(
    stages: Stages,
    *,
    transform: Callable[[Batch], Batch] | None = None,
    audit: "Audit | None" = None,
    card: ScoreCard | None = None,
) -> Facts:
    """Look at all of a datamodule's data.

    Args:
        stages: of one fold.
        transform: of batches, as the datamodule has it.
        audit: what an audit found.
        card: a score of forecasts.
    """
    table = stages.table
    with show_step("report", PARTS) as step:
        step.advance(0, "features")
        features = tuple(measure_distributions(stages))
        step.advance(1, "targets")
        labels = describe_labels(stages)
        step.advance(1, "holes")
        times = table.first + table.interval * table.holes
        suspicious = tuple(find_suspicious(times, table.interval, table.span))
        holes, folds = count_holes(table), map_folds(stages)
        step.advance(1, "windows")
        chosen = list(_choose_samples(stages, labels))
        samples = tuple(
            Sample(label, take_apart(stages, stage, position, transform))
            for label, stage, position in chosen
        )
        step.advance(1)
        return Facts(
            stages=stages,
            market=name_market(stages.settings),
            ribbons=tuple(list_ribbons(stages)),
            outages=tuple(list_outages(table)),
            suspicious=suspicious,
            holes=holes,
            folds=folds,
            features=features,
            labels=labels,
            samples=samples,
            counts=tuple(stages.describe().to_dicts()),
            doubts=tuple(stages.list_doubts()),
            audit=audit,
            card=card,
            has_transform=transform is not None,
        )


def _choose_samples(stages: Stages, labels: Labels) -> Iterator[tuple[str, Stage, int]]:
    """Windows worth a look, and why: extremes, and some that are spread over each stage."""
    shape, settings = stages.settings.shape, stages.settings
    each = (shape.lookback + shape.reach) * 4 + shape.lookback * settings.n_features
    counts = {found.stage: found.windows for found in labels.stages}
    room = max(1, SAMPLE_NUMBERS // each // max(1, len(counts)))
    for stage, count in counts.items():
        windows, wanted = stages.windows(stage), dict[int, str]()
        own = [extreme for extreme in labels.extremes if extreme.stage == stage]
        for extreme, what in zip(own[:1] + own[-1:], ("largest", "smallest"), strict=False):
            position = find_position(windows, extreme.origin_time)
            wanted.setdefault(position, f"{stage}: {what} target")
        places = np.linspace(0, count - 1, min(SAMPLES, count)).round().astype(np.int64).tolist()
        for place in (places[0], places[-1], *places[1:-1]):
            what = {0: "first", count - 1: "last"}.get(place, f"window {place:,}")
            wanted.setdefault(place, f"{stage}: {what}")
        for position in sorted([*wanted][:room]):
            yield wanted[position], stage, position
