"""What training fixes: the spans of the stages, the statistics, and a digest of the train rows.

Evaluation must find all three as training left them. They travel in checkpoints as plain lists,
numbers and texts, and are checked against the feature file before they are used.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.timeline import Span, format_instant
from btc_datamodule.errors import StoreError
from btc_datamodule.evaluation.scaling import Scaler
from btc_datamodule.evaluation.splits import Fold
from btc_datamodule.features.moments import Moments
from btc_datamodule.features.table import Table

PIECE_ROWS = 1 << 12
"""Train rows of which a digest of their own is worth keeping."""


class Piece(NamedTuple):
    """Train rows that lie in one segment of the clock.

    Attributes:
        start: open time of the first, epoch seconds.
        end: where the last one closes.
        digest: SHA-256 of what ``compute_digest`` is made of in them, in hexadecimal.
    """

    start: int
    end: int
    digest: str


@dataclass(frozen=True, repr=False)
class Fitted:
    """What training has fixed.

    Attributes:
        fold: spans of the stages.
        scaler: statistics of the train rows.
        target_scaler: statistics of the targets of the train windows.
        train_digest: SHA-256 of the train rows of the feature file.
        first: open time of the first row of that file; None in checkpoints that do not say it.
        pieces: the train rows cut at the segments, but for short ones; none in such checkpoints.
    """

    fold: Fold
    scaler: Scaler
    target_scaler: Scaler
    train_digest: str
    first: int | None = None
    pieces: tuple[Piece, ...] = ()

    def __repr__(self) -> str:
        return (
            f"Fitted({self.fold!r}, x {self.scaler!r}, y {self.target_scaler!r}, train rows "
            f"{self.train_digest[:16]})"
        )

    def to_state(self) -> dict[str, Any]:
        """As plain values, for a checkpoint."""
        return {
            "fold": {name: [list(s) for s in spans] for name, spans in asdict(self.fold).items()},
            "scaler": _list_scaler(self.scaler),
            "target_scaler": _list_scaler(self.target_scaler),
            "train_digest": self.train_digest,
            "first": self.first,
            "pieces": [list(piece) for piece in self.pieces],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Fitted":
        """From what ``to_state`` gave."""
        fold = {
            name: tuple((int(start), int(end)) for start, end in spans)
            for name, spans in state["fold"].items()
        }
        scaler, target_scaler = (
            Scaler.from_state(kept) for kept in (state["scaler"], state["target_scaler"])
        )
        pieces = tuple(Piece(*each) for each in state.get("pieces", ()))
        first, digest = state.get("first"), state["train_digest"]
        return cls(Fold(**fold), scaler, target_scaler, digest, first, pieces)

    def verify(self, digest: str, table: Table) -> None:
        """Raise ``StoreError`` unless the table's train rows are those that were fitted on."""
        span = self.fold.train[0][0], self.fold.train[-1][1]
        self.refuse_unless(digest == self.train_digest, span, table)

    def refuse_unless(self, same: bool, span: Span, table: Table) -> None:
        """Raise ``StoreError`` unless train rows of a span are the ``same`` as were fitted on."""
        if not same:
            start, end = map(format_instant, span)
            raise StoreError(
                f"the train rows ({start} to {end}) in "
                f"{table.path} are not those that the statistics were fitted on: candles, "
                "covariates, `start`, `max_fill`, `purge`, a feature or how holes are filled (in "
                "0.2) have changed since; train again, or restore what it was trained on"
            )


@dataclass(frozen=True, eq=False)
class ObservedRows:
    """The observed rows of ``x`` in some runs: to go through segment by segment, or as moments."""

    table: Table
    runs: Sequence[tuple[int, int]]

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return map(self.table.observed_rows, _cut_segments(self.table, self.runs))

    def moments(self) -> Moments:
        """Moments of all the rows; only the segments at the ends of the runs are read."""
        parts = map(self.table.get_moments, _cut_segments(self.table, self.runs))
        return Moments.merge(parts, len(self.table.features))


def compute_digest(table: Table, runs: Sequence[tuple[int, int]], columns: Sequence[str]) -> str:
    """SHA-256 of the features, the mask and some columns of the bars in ``runs``.

    It is that of the digests of their segments. As segments are cut by the clock, it depends on the
    rows alone, not on what else the table holds.
    """
    digest = hashlib.sha256()
    for rows in _cut_segments(table, runs):
        for each in _list_digests(table, rows, columns):
            digest.update(each)
    return digest.hexdigest()


def list_pieces(
    table: Table, runs: Sequence[tuple[int, int]], columns: Sequence[str]
) -> tuple[Piece, ...]:
    """The pieces of ``runs`` with a digest each; columns as of ``compute_digest``."""
    cut = _cut_segments(table, runs)
    return tuple(
        Piece(
            table.find_time(rows.start),
            table.find_time(rows.stop),
            hash_piece(table, rows, columns).hex(),
        )
        for rows in cut
        if rows.stop - rows.start >= PIECE_ROWS
    )


def hash_piece(table: Table, rows: slice, columns: Sequence[str]) -> bytes:
    """SHA-256 of what ``compute_digest`` is made of in some rows of one segment."""
    return hashlib.sha256(b"".join(_list_digests(table, rows, columns))).digest()


def _list_digests(table: Table, rows: slice, columns: Sequence[str]) -> Iterator[bytes]:
    return (table.get_digest(name, rows) for name in ("x", "observed", *columns))


def _cut_segments(table: Table, runs: Sequence[tuple[int, int]]) -> Iterator[slice]:
    return chain.from_iterable(table.segments(low, high) for low, high in runs)


def _list_scaler(scaler: Scaler) -> dict[str, Any]:
    return {
        "method": scaler.method,
        "center": list(scaler.center),
        "scale": list(scaler.scale),
    }
