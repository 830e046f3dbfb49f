"""Why bars know little of covariates, for a person who has no windows to read."""

from collections.abc import Sequence

import numpy as np

from btc_datamodule.candles.runs import count_rows
from btc_datamodule.candles.timeline import ceil_to, format_interval
from btc_datamodule.checks import list_first
from btc_datamodule.escaping import escape
from btc_datamodule.features.feature import Feature
from btc_datamodule.features.layout import REACH
from btc_datamodule.features.table import Table

HOUR = 3600


def tell_scarce(table: Table, features: Sequence[Feature]) -> str:
    """Sentences on features of covariates that lack values, and on how far back others reach.

    Args:
        table: the feature file.
        features: the columns of its ``x``.

    Returns:
        The end of an error; "" where no feature is of a covariate.
    """
    of_series = [bool(feature.series or feature.beside) for feature in features]
    if not any(of_series):
        return ""
    most = table.rows - table.warm_up - count_rows(table.outages)
    scarce = [
        f"{escape(feature.name)} in {valued:,}"
        for feature, valued, named in zip(features, table.valued.tolist(), of_series, strict=True)
        if named and valued < most
    ]
    told = ""
    if scarce:
        told = (
            f". Features of covariates have a value in fewer of these bars, {list_first(scarce)}: "
            "widen what they are made of, raise `max_age`, or leave them out"
        )
    back = ceil_to(measure_reach(table), HOUR)
    return (
        f"{told}. What bars know of covariates is up to {format_interval(back)} old, and none of "
        "it may be from before the start of train"
    )


def measure_reach(table: Table) -> int:
    """Seconds before the opening of a bar that anything in its row is made of, at most."""
    longest = 0
    if table.has_reach:
        for rows in table.segments(0, table.rows):
            opened = table.first + table.interval * np.arange(rows.start, rows.stop)
            longest = max(longest, int((opened - table.read(REACH, rows)).max(initial=0)))
    return longest
