"""``FoldRuns``: what came of all folds, and the one file that their forecasts are joined in."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from btc_datamodule.candles.timeline import format_span
from btc_datamodule.checks import list_first
from btc_datamodule.disk.atomic import replace_file
from btc_datamodule.errors import ConfigError
from btc_datamodule.escaping import escape
from btc_datamodule.evaluation.splits import CombinatorialPurged, Fold, Split
from btc_datamodule.folds.record import FORECASTS, FoldRecord
from btc_datamodule.public import public
from btc_datamodule.scoring.card import ScoreCard
from btc_datamodule.scoring.forecast_files import FOLD
from btc_datamodule.scoring.text import lay_out

if TYPE_CHECKING:
    import polars as pl


@public
@dataclass(frozen=True, eq=False, repr=False)
class FoldRuns:
    """All folds that were asked for; printed, a table of them and the score of them together.

    Attributes:
        forecasts: the file of the joined forecasts, with a column ``fold``; ``score`` reads it.
        split: whose folds they are.
        spans: of each fold, by its number.
        records: what came of each, by its number.
        kept: numbers of those that an earlier run had finished.
        card: the score of all together; None where there is none.
        notes: why there is no score, and what else a person should know.
    """

    forecasts: Path
    split: Split
    spans: Mapping[int, Fold]
    records: Mapping[int, FoldRecord]
    kept: tuple[int, ...] = ()
    card: ScoreCard | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        frame = self.metrics
        rows = [
            [_format(row[name]) for name in frame.columns if name != "checkpoint"]
            for row in frame.to_dicts()
        ]
        head = [name for name in frame.columns if name != "checkpoint"]
        parts = [lay_out(head, rows, line_after=len(rows))]
        if self.card is not None:
            parts += [str(self.card), self.card.tell("fold")]
            if self.has_paths:
                parts.append(self.card.tell("path"))
        if self.kept:
            run = ", ".join(map(str, self.kept))
            parts.append(f"note: finished by an earlier run with the same settings: fold {run}")
        parts += [f"note: {escape(note)}" for note in self.notes]
        parts.append(f"forecasts: {escape(str(self.forecasts))}")
        return "\n\n".join(parts)

    @property
    def has_paths(self) -> bool:
        """Whether forecasts of all folds join to paths, as those of ``CombinatorialPurged`` do."""
        split = self.split
        return isinstance(split, CombinatorialPurged) and len(self.records) == split.n_folds

    @property
    def metrics(self) -> "pl.DataFrame":
        """A row for each fold: ``fold``, ``test``, ``epochs``, ``steps``, ``checkpoint``, metrics.

        ``test`` is its test span, ``checkpoint`` the path of the weights that were tested, or
        "last"; the metrics are those that the test logged, under their names.
        """
        import polars as pl

        rows = [
            {
                "fold": number,
                "test": ", ".join(map(format_span, self.spans[number].test)),
                "epochs": record.epochs,
                "steps": record.steps,
                "checkpoint": record.checkpoint,
                **record.metrics,
            }
            for number, record in self.records.items()
        ]
        return pl.DataFrame(rows, infer_schema_length=None)


def join_forecasts(folders: Mapping[int, Path], output: Path) -> None:
    """Write the forecasts of all folds to one file, with a column ``fold``, fold after fold.

    Args:
        folders: of each fold, by its number.
        output: the file, in Parquet.

    Raises:
        ConfigError: if folds do not have the same columns, or one of them is called ``fold``.
    """
    import polars as pl

    parts = {number: pl.scan_parquet(folder / FORECASTS) for number, folder in folders.items()}
    columns = {number: part.collect_schema() for number, part in parts.items()}
    first = min(columns)
    for number, found in columns.items():
        if FOLD in found:
            raise ConfigError(f"predict_step gave a {FOLD!r}: call it something else")
        if found != columns[first]:
            odd = list_first(sorted(map(str, {*found.items()} ^ {*columns[first].items()})))
            raise ConfigError(
                f"folds {first} and {number} do not have the same forecasts ({odd}): let "
                "predict_step give the same of each"
            )
    labelled = [
        part.select("origin_time", pl.lit(number, pl.Int64).alias(FOLD), pl.exclude("origin_time"))
        for number, part in sorted(parts.items())
    ]
    with replace_file(output) as temporary:
        pl.concat(labelled).sink_parquet(temporary)


def _format(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
