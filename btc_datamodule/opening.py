"""Opening the feature file of some settings: that of the candles as they are, or one chosen before.

A feature file is named after the candles that it was made of, so the name follows from the candle
file. Where another process has made more of the candles since, whoever chose a file before names
it: what was prepared is what is opened, and all ranks open the same.
"""

from pathlib import Path
from typing import NamedTuple

from btc_datamodule.disk.hdf5 import advise_repair
from btc_datamodule.errors import NotPreparedError, StoreError
from btc_datamodule.features.table import Table, locate_table
from btc_datamodule.settings import Settings
from btc_datamodule.store.series_file import Header


class Choice(NamedTuple):
    """A feature file that is chosen.

    Attributes:
        path: where it lies.
        candles: digest of the candles that it was made of.
    """

    path: Path
    candles: str


def find_table(settings: Settings) -> Choice:
    """The feature file of some settings and of the candles as they are.

    Raises:
        NotPreparedError: if the candle file or the feature file is not there.
        StoreError: if the candle file is damaged.
    """
    return _find_table(settings, settings.read_candle_header())


def _find_table(settings: Settings, header: Header) -> Choice:
    path = locate_table(settings.candle_path, settings.recipe.compute_key(header))
    if not path.exists():
        raise NotPreparedError(
            f"there is no feature file for these settings beside {settings.candle_path}: "
            "run `btc-datamodule prepare`, or prepare_data(), first"
        )
    return Choice(path, header.digest)


def open_table(settings: Settings, chosen: Choice | None = None) -> Table:
    """Open the feature file of some settings.

    Args:
        settings: which features of which candles.
        chosen: the file, of these settings and of the candles as they were when it was chosen;
            None for that of the candles as they are.

    Raises:
        NotPreparedError: if the candle file or the feature file is not there.
        StoreError: if a file is damaged, or another one has this name.
    """
    header = settings.read_candle_header()
    path, candles = chosen or _find_table(settings, header)
    if not path.exists():
        raise NotPreparedError(
            f"there is no {path}, which the first rank has opened: give all nodes one `data_dir`, "
            "or the same `end`, so that they prepare the same"
        )
    table, recipe = Table.open(path), settings.recipe
    if candles == header.digest:
        fits = recipe.describes(table, header)
    else:
        fits = recipe.says(table) and table.candles == candles
    if locate_table(settings.candle_path, table.key) != path or not fits:
        raise StoreError(f"{path} is another feature file under this name: {advise_repair(path)}")
    return table
