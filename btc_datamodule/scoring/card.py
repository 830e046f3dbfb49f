"""``ScoreCard``: all that a score says, made of whatever holds forecasts."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from btc_datamodule.checks import check_whole_number
from btc_datamodule.errors import ConfigError
from btc_datamodule.evaluation.forecasts import to_numpy
from btc_datamodule.evaluation.splits import STAGES, Stage
from btc_datamodule.public import public
from btc_datamodule.scoring.forecast_files import TIME, collect, split_folds
from btc_datamodule.scoring.groups import By, score_groups
from btc_datamodule.scoring.ledger import Ledger, make_ledger
from btc_datamodule.scoring.score import Score, score_forecasts
from btc_datamodule.scoring.spreads import read_manner
from btc_datamodule.scoring.text import tell_groups, tell_score
from btc_datamodule.stages import Stages

if TYPE_CHECKING:
    import polars as pl

COST = 10.0
"""Basis points of one side: what taking costs on the large exchanges without a discount."""

LEVEL = 0.95

Given = Mapping[str, Mapping[int, Any]]


@public
@dataclass(frozen=True, eq=False, repr=False)
class ScoreCard:
    """Forecasts held against what came; printed, a text for a person to read.

    Attributes:
        score: samples, forecasts and baselines.
        ledger: what the forecasts would have earned; None where a target has no direction.
    """

    score: Score
    ledger: Ledger | None

    def __repr__(self) -> str:
        return tell_score(self.score, self.ledger)

    @property
    def measures(self) -> "pl.DataFrame":
        """A row for each forecast and baseline; see ``Score.to_polars``."""
        return self.score.to_polars()

    @property
    def distributions(self) -> "pl.DataFrame | None":
        """A row for each that tells a distribution; see ``Score.spread_to_polars``."""
        return self.score.spread_to_polars()

    @property
    def money(self) -> "pl.DataFrame | None":
        """A row for each that has a direction; see ``Ledger.to_polars``."""
        return None if self.ledger is None else self.ledger.to_polars()

    def by(self, kind: By) -> "pl.DataFrame":
        """A row for each group of samples and forecast; see ``groups.score_groups``."""
        return score_groups(self.score, kind, self.ledger)

    def tell(self, kind: By) -> str:
        """``by`` as a table of text."""
        return tell_groups(self.by(kind))


def make_card(
    stages: Stages,
    forecasts: Any,
    stage: Stage = "test",
    *,
    cost: float = COST,
    trials: int = 1,
    level: float = LEVEL,
    seed: int = 0,
    quantiles: Any = None,
    draws: bool = False,
) -> ScoreCard:
    """Score forecasts; see ``BTCDataModule.score``."""
    if find_spec("scipy") is None:
        raise ConfigError("scores need scipy: pip install scipy")
    if stage not in STAGES or stage == "predict":
        raise ConfigError(f"stage is {stage!r}: choose one of train, val, test")
    for needed in ("train", stage):  # of which the baselines are made
        stages.require(needed)
    check_whole_number("seed", seed, 0)
    if not isinstance(level, int | float) or not 0.5 <= level < 1:
        raise ConfigError(f"level is {level!r}: give a share from 0.5 to below 1, such as 0.95")
    own = stages.settings.split.fold
    if own < 0:  # counted from the last
        own += stages.n_folds
    given = {
        name: _split_folds(name, by_fold)
        for name, by_fold in name_forecasts(forecasts, own).items()
    }
    wanted = sorted({fold for by_fold in given.values() for fold in by_fold})
    folds = {fold: stages if fold == own else open_fold(stages, fold) for fold in wanted}
    manner = read_manner(quantiles, draws, stages.settings.target)
    score = score_forecasts(folds, given, stage, level=level, seed=seed, manner=manner)
    return ScoreCard(score, make_ledger(score, cost, trials))


def open_fold(stages: Stages, fold: int) -> Stages:
    """The stages of another fold of the same split."""
    split = stages.settings.split.with_fold(fold)
    split.select_fold(stages.table.span, stages.table.interval)
    return Stages.open(replace(stages.settings, split=split))


def name_forecasts(forecasts: Any, fold: int) -> dict[str, dict[int, Any]]:
    """Forecasts by their name and fold.

    Args:
        forecasts: a file, a frame, a mapping of arrays, or what ``Trainer.predict`` returns; or
            several by name, each one of these or a mapping of them by the number of the fold; or
            texts ``NAME=PATH@FOLD``, of which name
            and fold may be left out.
        fold: of those that name none.

    Raises:
        ConfigError: if there are none, or two for one name and fold.
    """
    forecasts = collect(forecasts)
    if isinstance(forecasts, str | os.PathLike):
        forecasts = [forecasts]
    if isinstance(forecasts, Mapping) and TIME not in forecasts:
        return {
            str(name): {
                number: _join_batches(of_fold)
                for number, of_fold in (each if _is_by_fold(each) else {fold: each}).items()
            }
            for name, each in forecasts.items()
        }
    if isinstance(forecasts, Mapping) or hasattr(forecasts, "columns"):
        return {"forecast": {fold: forecasts}}
    if _is_batches(forecasts):
        return {"forecast": {fold: _join_batches(forecasts)}}
    if not _is_texts(forecasts):
        raise ConfigError(
            f"forecasts is {forecasts!r:.80}: give a file that PredictionWriter wrote, a frame, or "
            "several by name"
        )
    found: dict[str, dict[int, Any]] = {}
    for each in forecasts:
        name, number, path = _read_text(os.fspath(each), fold)
        if number in found.setdefault(name, {}):
            raise ConfigError(
                f"{path}: there are forecasts of fold {number} by {name} already: name the model "
                f"and the fold, such as other={path}@{number}"
            )
        found[name][number] = path
    return found


def _split_folds(name: str, by_fold: Mapping[int, Any]) -> dict[int, Any]:
    """Forecasts by fold, those of a file of several folds by the numbers in it.

    Raises:
        ConfigError: if there are two of one fold.
    """
    found: dict[int, Any] = {}
    for number, each in by_fold.items():
        for fold, part in (split_folds(each) or {number: each}).items():
            if fold in found:
                raise ConfigError(f"forecasts: there are two of fold {fold} by {name}: give one")
            found[fold] = part
    return found


def _is_batches(given: Any) -> bool:
    """Whether something is what ``Trainer.predict`` has returned: a mapping for each batch."""
    return isinstance(given, list) and bool(given) and isinstance(given[0], Mapping)


def _join_batches(batches: Any) -> Any:
    """What ``Trainer.predict`` has returned as one mapping; anything else as it is."""
    if not _is_batches(batches):
        return batches
    names = [*batches[0]]
    if any([*each] != names for each in batches):
        raise ConfigError("forecasts is a list of dicts with different names: give like batches")
    return {
        name: np.concatenate([to_numpy(name, each[name]) for each in batches]) for name in names
    }


def _is_texts(forecasts: Any) -> bool:
    return (
        isinstance(forecasts, Sequence)
        and bool(forecasts)
        and all(isinstance(each, str | os.PathLike) for each in forecasts)
    )


def _is_by_fold(given: Any) -> bool:
    """Whether something is a mapping of forecasts by fold, and no mapping of arrays."""
    if not isinstance(given, Mapping) or TIME in given:
        return False
    for fold in given:
        check_whole_number("the fold of forecasts", fold, 0)
    return True


def _read_text(text: str, fold: int) -> tuple[str, int, str]:
    """Name, fold and path of ``NAME=PATH@FOLD``."""
    name, named, path = text.partition("=")
    if not named or "/" in name:
        name, path = "", text
    head, at, number = path.rpartition("@")
    if at and number.isdigit():
        path, fold = head, int(number)
    return name or Path(path).stem, fold, path
