"""Tables that begin after the train rows: enough to forecast the newest bars from a checkpoint.

Statistics and spans are those of the checkpoint. What of the train rows is there is verified piece
by piece, where the checkpoint keeps a digest of each. A stage whose first windows would need bars
from before such a table is not served: its windows would be others than in training. ``predict``
is, from the first origin on whose inputs are there.
"""

from btc_datamodule.candles.timeline import Span, format_instant, format_span
from btc_datamodule.errors import ConfigError
from btc_datamodule.evaluation.fitted import Fitted, hash_piece
from btc_datamodule.evaluation.origins import SampleShape
from btc_datamodule.features.table import Table


def begins_late(fitted: Fitted, table: Table) -> bool:
    """Whether a table begins after the one that was fitted on."""
    first = fitted.fold.train[0][0] if fitted.first is None else fitted.first
    return table.first > first


def verify_pieces(fitted: Fitted, table: Table, columns: tuple[str, ...]) -> int:
    """Verify the pieces of the train rows that a table has whole; give how many rows these have.

    None where features see other series: how far these reach back may differ at the beginning.

    Raises:
        StoreError: if one is not what was fitted on.
    """
    verified = 0
    if table.has_reach:
        return verified
    for piece in fitted.pieces:
        rows = slice(table.find_row(piece.start), table.find_row(piece.end))
        if table.warm_up <= rows.start and rows.stop <= table.rows:
            found = hash_piece(table, rows, columns).hex()
            fitted.refuse_unless(found == piece.digest, (piece.start, piece.end), table)
            verified += rows.stop - rows.start
    return verified


def has_history(table: Table, shape: SampleShape, span: Span, *, walled: bool) -> bool:
    """Whether a table has all bars that the samples of a span may be made of.

    Args:
        table: the feature file.
        shape: extent of a sample.
        span: of a stage.
        walled: whether nothing from before the span may be used.
    """
    first = table.find_row(span[0])
    return first >= (0 if walled else shape.count_before(table.warm_up))


def refuse_stage(table: Table, shape: SampleShape, stage: str, span: Span) -> ConfigError:
    """The error where a stage is asked for that a table has only a part of, or nothing."""
    before = shape.count_before(table.warm_up)
    needed = format_instant(span[0] - before * table.interval)
    return ConfigError(
        f"{table.path} begins at {format_instant(table.first)}, and {stage} ("
        f"{format_span(span)}) needs bars from {needed} on: set `start` to what the checkpoint "
        "was trained with; with the newest bars alone there is only `predict`"
    )


def describe_part(fitted: Fitted, table: Table, verified: int) -> str:
    """What a person should know of a table that begins after the train rows."""
    trained = format_span((fitted.fold.train[0][0], fitted.fold.train[-1][1]))
    checked = f"only {verified:,} of them are" if verified else "they are not"
    return (
        f"the candles begin at {format_instant(table.first)}, after the first of the train rows "
        f"({trained}), so {checked} verified; statistics and spans are the checkpoint's"
    )
