"""Opening the feature file of some settings: that of the candles as they are, or one chosen before.

A feature file is named after the candles that it was made of, so the name follows from the candle
file. Where another process has made more of the candles since, whoever chose a file before names
it: what was prepared is what is opened, and all ranks open the same.
"""

from pathlib import Path

from btc_datamodule.disk.hdf5 import advise_repair
from btc_datamodule.errors import NotPreparedError, StoreError
from btc_datamodule.features.table import Table, locate_table
from btc_datamodule.settings import Settings


def find_table(settings: Settings) -> Path:
    """Where the feature file of some settings and of the candles as they are lies.

    Raises:
        NotPreparedError: if the candle file or the feature file is not there.
        StoreError: if the candle file is damaged.
    """
    key = settings.recipe.compute_key(settings.read_candle_header())
    path = locate_table(settings.candle_path, key)
    if not path.exists():
        raise NotPreparedError(
            f"there is no feature file for these settings beside {settings.candle_path}: "
            "run `btc-datamodule prepare`, or prepare_data(), first"
        )
    return path


def open_table(settings: Settings, chosen: Path | None = None) -> Table:
    """Open the feature file of some settings.

    Args:
        settings: which features of which candles.
        chosen: the file, of these settings and of the candles as they were when it was chosen;
            None for that of the candles as they are.

    Raises:
        NotPreparedError: if the candle file or the feature file is not there.
        StoreError: if a file is damaged, or another one has this name.
    """
    path = chosen or find_table(settings)
    if not path.exists():
        raise NotPreparedError(
            f"there is no {path}, which the first rank has opened: give all nodes one `data_dir`, "
            "or the same `end`, so that they prepare the same"
        )
    table, recipe = Table.open(path), settings.recipe
    fits = recipe.says(table) if chosen else recipe.describes(table, settings.read_candle_header())
    if locate_table(settings.candle_path, table.key) != path or not fits:
        raise StoreError(f"{path} is another feature file under this name: {advise_repair(path)}")
    return table
