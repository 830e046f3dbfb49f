"""``Beside``: a series beside the candles, as features may name it."""

from dataclasses import dataclass

from btc_datamodule.candles.timeline import Interval


@dataclass(frozen=True)
class Beside:
    """What is known of a covariate before anything of it is read.

    Attributes:
        name: by which features name it: ``eth`` in ``eth.log_return``.
        interval: seconds from one row to the next, and its grid; None where there is none, as of
            funding, whose rows are its records in order.
        columns: that its rows have, in order.
        is_candles: whether its rows are candles, of which the built-in features can be made.
        max_age: seconds after which a value of it is too old to stand for the present; None for
            never.
        covers: seconds before its time that a row tells of.
    """

    name: str
    interval: Interval | None
    columns: tuple[str, ...]
    is_candles: bool
    max_age: int | None
    covers: int = 0
