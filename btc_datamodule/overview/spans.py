"""Spans of time to be shown: what each stage owns, what is left out of it, and outages.

All in epoch seconds, UTC, half-open, inside the candles that there are.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from btc_datamodule.candles.timeline import Span
from btc_datamodule.evaluation.splits import STAGES, Fold, Stage
from btc_datamodule.evaluation.walls import find_embargo, find_wall
from btc_datamodule.features.table import Table
from btc_datamodule.settings import Settings
from btc_datamodule.stages import Stages

RibbonKind = Literal["stage", "purge", "embargo"]


class Ribbon(NamedTuple):
    """A span of a stage, or of what is left out of it.

    Attributes:
        kind: ``stage``; ``purge``, the bars at the end of train or val that no target of it may
            touch; ``embargo``, those at the start of a train span that no sample may be made of.
        stage: of which stage.
        start: epoch seconds.
        end: past its last bar.
    """

    kind: RibbonKind
    stage: Stage
    start: int
    end: int

    @property
    def span(self) -> Span:
        """From start to end."""
        return self.start, self.end


def list_ribbons(stages: Stages) -> list[Ribbon]:
    """The ribbons of the fold in use; see ``list_fold_ribbons``."""
    return list_fold_ribbons(stages.settings, stages.table, stages.fold)


def list_fold_ribbons(settings: Settings, table: Table, fold: Fold) -> list[Ribbon]:
    """The spans of the stages of a fold, each followed by what is left out of it.

    Predict is among them only where it is another span than test within the candles that there
    are.

    Args:
        settings: with ``purge`` and ``embargo``.
        table: the feature file.
        fold: one of the split's, of any number.
    """
    ribbons: list[Ribbon] = []
    tested = _cut_spans(fold.test, table.span)
    for stage in STAGES:
        spans = _cut_spans(fold.spans(stage), table.span)
        if stage == "predict" and spans == tested:
            continue
        for start, end in spans:
            ribbons.append(Ribbon("stage", stage, start, end))
            free = start
            if stage == "train" and settings.embargo:
                free = _find_free(table, fold, (start, end), settings.embargo)
            if free > start:
                ribbons.append(Ribbon("embargo", stage, start, min(free, end)))
            last = end - settings.purge * int(table.interval)
            if stage in ("train", "val") and last < end:
                ribbons.append(Ribbon("purge", stage, max(last, start), end))
    return ribbons


def list_outages(table: Table) -> list[Span]:
    """All stretches in which nobody knows the price, in order of time.

    A hole begins with up to ``max_fill`` bars that are filled: these are no outage.
    """
    step = int(table.interval)
    runs = table.outages.tolist()
    return [(table.first + low * step, table.first + high * step) for low, high in runs]


def widen_spans(spans: Iterable[Span], least: float) -> list[tuple[float, float]]:
    """Spans that can be seen: each at least so wide, and those that then overlap as one.

    A short span grows to both sides alike, so that each of them stays where it is, and none is
    lost, however far a picture is zoomed out.

    Args:
        spans: in order of time.
        least: seconds that a pixel stands for.
    """
    wide: list[tuple[float, float]] = []
    for start, end in spans:
        more = max(0.0, least - (end - start)) / 2
        low, high = start - more, end + more
        if wide and low <= wide[-1][1]:
            wide[-1] = (wide[-1][0], max(wide[-1][1], high))
        else:
            wide.append((low, high))
    return wide


def _cut_spans(spans: Sequence[Span], within: Span) -> list[Span]:
    """What lies inside another span."""
    cut = [(max(start, within[0]), min(end, within[1])) for start, end in spans]
    return [(start, end) for start, end in cut if start < end]


def _find_free(table: Table, fold: Fold, span: Span, embargo: int) -> int:
    """When the embargo at the start of a train span is over; its start if there is none."""
    row = find_embargo(table, fold, span, embargo)
    return table.find_time(row) if row > find_wall(table, span) else span[0]
