"""What of a feature file is not observed as input: of its bars, or of each feature by itself."""

from btc_datamodule.candles.runs import subtract_runs
from btc_datamodule.evaluation.origins import Unseen
from btc_datamodule.features.cells import split_cells, unite_cells
from btc_datamodule.features.table import Table


def find_unseen(table: Table, *, ignore_undefined: bool = False) -> list[Unseen]:
    """The rows that are not observed: one item with ``mask`` bar, else one for each feature.

    Args:
        table: the feature file.
        ignore_undefined: as if each feature had a value wherever all is known that it is made of.
    """
    if table.mask == "bar":
        found = [Unseen(table.unobserved, unite_cells(table.undefined))]
    else:
        cells = (table.unobserved_cells, table.undefined)
        found = list(map(Unseen, *(split_cells(each, len(table.features)) for each in cells)))
    if ignore_undefined:
        return [Unseen(subtract_runs(*each), each.undefined) for each in found]
    return found
