"""Which rows of a table are of the series that is wanted, where columns tell several."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.errors import SourceError
from btc_datamodule.sources.columns import normalise
from btc_datamodule.sources.files.naming import Roles, name_column
from btc_datamodule.sources.files.raw import RawTable

if TYPE_CHECKING:
    import polars as pl


class AbsentSymbolError(SourceError):
    """No row of a table is of the market that is wanted."""


def choose_series(
    frame: "pl.DataFrame", table: RawTable, roles: Roles, symbol: str | None, where: str
) -> tuple[NDArray[np.bool_] | None, str]:
    """Which rows are of the series that is wanted, None for all of them; and its market.

    Raises:
        SourceError: if there are several series and none was chosen.
    """
    import polars as pl

    chosen: NDArray[np.bool_] | None = None
    market = ""
    for label, place in roles.labels.items():
        told = frame[f"{place}"].cast(pl.String, strict=False).fill_null("")
        spelled = told.unique(maintain_order=True).to_list()
        kinds = {normalise(text): text for text in reversed(spelled) if text}
        if len(kinds) > max(10, frame.height / 2):  # it tells rows apart, not series
            continue
        market = next(iter(kinds.values()), "") if label == "symbol" else market
        if label == "symbol" and symbol is not None:
            if normalise(symbol) not in kinds:
                raise AbsentSymbolError(
                    f"{where}: no row is of `symbol` {symbol!r}: there are "
                    f"{', '.join(list(kinds.values())[:10])}"
                )
            chosen = told.is_in(
                [t for t in spelled if normalise(t) == normalise(symbol)]
            ).to_numpy()
        elif len(kinds) > 1:
            shown = ", ".join(list(reversed(kinds.values()))[:5])
            advice = f"choose one, such as `symbol: {next(reversed(kinds.values()))}`"
            if label != "symbol":
                advice = "make a file of each, and name one"
            raise SourceError(
                f"{where}: it holds rows of several series, {shown} in column "
                f"{name_column(table, place)}: {advice}"
            )
    if symbol is not None and chosen is None and table.names is not None and not table.market:
        known = {normalise(part) for name in table.names for part in name.split()}
        if "symbol" not in roles.labels and not any(normalise(symbol) in name for name in known):
            raise SourceError(f"{where}: it has no column of symbols: leave `symbol` out")
    if chosen is None or chosen.all():
        return None, market
    return chosen, symbol or market
