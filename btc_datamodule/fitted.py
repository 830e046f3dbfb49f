"""What training fixes: the spans of the stages, the scaler, and a digest of the train rows.

Evaluation must find all three as training left them. They travel in checkpoints as plain lists,
numbers and texts, and are checked against the feature file before they are used.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.errors import StoreError
from btc_datamodule.scaling import Scaler
from btc_datamodule.splits import Fold, Split
from btc_datamodule.store import BLOCK_ROWS
from btc_datamodule.table import Table
from btc_datamodule.timeline import format_instant


@dataclass(frozen=True)
class Fitted:
    """What training has fixed.

    Attributes:
        fold: spans of the stages.
        scaler: statistics of the train rows.
        train_digest: SHA-256 of the train rows of the feature file.
    """

    fold: Fold
    scaler: Scaler
    train_digest: str

    def state(self) -> dict[str, Any]:
        """As plain values, for a checkpoint."""
        return {
            "fold": {name: list(span) for name, span in asdict(self.fold).items()},
            "mean": list(self.scaler.mean),
            "std": list(self.scaler.std),
            "train_digest": self.train_digest,
        }

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> "Fitted":
        """From what ``state`` gave."""
        spans = {name: (int(start), int(end)) for name, (start, end) in state["fold"].items()}
        scaler = Scaler(tuple(state["mean"]), tuple(state["std"]))
        return cls(Fold(**spans), scaler, state["train_digest"])

    def verify(self, table: Table) -> None:
        """Raise ``StoreError`` unless the table's train rows are those that were fitted on."""
        if _digest(table, self.fold) != self.train_digest:
            start, end = (format_instant(when) for when in self.fold.train)
            raise StoreError(
                f"the train rows ({start} to {end}) in {table.path} are not those that the "
                "statistics were fitted on: candles, `start`, `max_fill` or a feature has "
                "changed since; train again, or restore what it was trained on"
            )


def fit(table: Table, split: Split, *, scale: bool) -> Fitted:
    """Split the table's time, and fit the scaler on observed rows of the train span only."""
    fold = split.folds((table.first, table.time_of(table.rows)), table.interval)[0]
    n_features = len(table.features)
    if scale:
        scaler = Scaler.fit((x[seen] for x, seen in _train_rows(table, fold)), n_features)
    else:
        scaler = Scaler.identity(n_features)
    return Fitted(fold, scaler, _digest(table, fold))


def _train_rows(
    table: Table, fold: Fold
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """The train rows of a table with their mask of observed ones, in blocks."""
    start, end = (min(max(table.row_of(when), 0), table.rows) for when in fold.train)
    for low in range(start, end, BLOCK_ROWS):
        rows = slice(low, min(low + BLOCK_ROWS, end))
        yield table.x[rows], table.observed[rows].view(np.bool_)


def _digest(table: Table, fold: Fold) -> str:
    digest = hashlib.sha256()
    for x, observed in _train_rows(table, fold):
        digest.update(np.ascontiguousarray(x).data)
        digest.update(np.ascontiguousarray(observed).data)
    return digest.hexdigest()
