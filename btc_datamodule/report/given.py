"""What is given to a report beside the data: it must be of these very data."""

from typing import Any

from btc_datamodule.errors import ConfigError
from btc_datamodule.overview.identity import OF_A_FOLD, identify, list_differences
from btc_datamodule.scoring.card import ScoreCard
from btc_datamodule.stages import Stages


def check_audit(stages: Stages, audit: Any) -> None:
    """Raise ``ConfigError`` unless an audit is one, and of these stages; None is none."""
    if audit is None:
        return
    from btc_datamodule.audit.report import Audit  # which imports Lightning

    if not isinstance(audit, Audit):
        raise ConfigError(f"audit is {audit!r:.80}: give what `audit` of the datamodule returned")
    differing = list_differences(audit.data, identify(stages))
    if differing:
        raise ConfigError(
            f"audit is of another datamodule ({'; '.join(differing)}): give what `audit` of this "
            "one returns"
        )


def check_card(stages: Stages, card: Any) -> None:
    """Raise ``ConfigError`` unless a score is one, and of these stages; None is none.

    It may have forecasts of other folds of the split too, beside those of this one.
    """
    if card is None:
        return
    if not isinstance(card, ScoreCard):
        raise ConfigError(f"card is {card!r:.80}: give what `score` of the datamodule returned")
    ours = identify(stages)
    least: list[str] | None = None
    for part in card.score.parts:
        theirs = identify(part.samples.stages)
        _refuse(
            list_differences(
                {name: text for name, text in theirs.items() if name not in OF_A_FOLD}, ours
            )
        )
        differing = list_differences(theirs, ours)
        if least is None or len(differing) < len(least):
            least = differing
    _refuse(least or [])


def _refuse(differing: list[str]) -> None:
    if differing:
        raise ConfigError(
            f"card is of another datamodule ({'; '.join(differing)}): give what `score` of this "
            "one returns, or write the report of that one"
        )
