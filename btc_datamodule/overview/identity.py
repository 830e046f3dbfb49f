"""Which data some stages are of, in words, so that two can be told apart.

``identify`` gives a text for each thing that decides what is in a window, a fold or a scaler. What
was found on some stages holds for others only where all of these are the same.
"""

from collections.abc import Mapping

from btc_datamodule.candles.timeline import format_span
from btc_datamodule.checks import list_first
from btc_datamodule.evaluation.splits import Stage
from btc_datamodule.settings import Settings
from btc_datamodule.stages import Stages

Identity = Mapping[str, str]
"""Texts by the name of the setting, or of the part of the data."""

OF_A_FOLD = ("train", "val", "test", "train rows")
"""What differs between the folds of one split."""

CONSEQUENCES = ("train", "val", "test", "feature file", "train rows")
"""What differs wherever other things do: the first is told where nothing else differs."""

NAMED: tuple[Stage, ...] = ("train", "val", "test")


def identify_settings(settings: Settings, key: str) -> Identity:
    """What is known without a fold: the settings, and the key of the feature file."""
    own = {name: value for name, value in settings.comparable.items() if name != "split"}
    own |= {
        "context": settings.context,
        "stride": settings.stride,
        "eval_stride": settings.eval_stride,
        "min_observed": settings.min_observed,
        "max_fill": settings.max_fill,
        "feature file": key,
    }
    return {name: str(value) for name, value in own.items()}


def identify(stages: Stages) -> Identity:
    """The settings, the feature file, the spans of the stages and the digest of the train rows.

    The number of the fold is not among them: the spans say which it is, also where one is counted
    from the last.
    """
    spans = {name: list_first([*map(format_span, stages.fold.spans(name))], 3) for name in NAMED}
    return {
        **identify_settings(stages.settings, stages.table.key),
        **{name: told or "none" for name, told in spans.items()},
        "train rows": stages.fitted.train_digest[:16],
    }


def list_differences(theirs: Identity, ours: Identity) -> list[str]:
    """What differs of two, of all that both tell: ``lookback 48, here 24``."""
    found = {
        name: f"{name} {theirs[name]}, here {ours[name]}"
        for name in theirs
        if name in ours and theirs[name] != ours[name]
    }
    causes = [found[name] for name in found if name not in CONSEQUENCES]
    return causes or [found[name] for name in CONSEQUENCES if name in found][:1]
