"""Feature files of candles as they no longer are: which they are, and when they may go."""

import os
import time
from pathlib import Path

from btc_datamodule.disk.hdf5 import explain_damage, open_hdf5, read_attribute
from btc_datamodule.disk.in_use import claim_unused
from btc_datamodule.errors import StoreError, UnreadableError
from btc_datamodule.features.layout import SCHEMA
from btc_datamodule.features.table import Table, list_tables
from btc_datamodule.store.series_file import Header, read_digest

KEPT_SECONDS = 86_400
"""How long a feature file that is not the one of the candles stays after it was last opened."""


def remove_stale(candle_path: Path, header: Header) -> None:
    """Remove feature files of candles as they no longer are, which nobody uses."""
    for path in list_tables(candle_path):
        if not os.path.isfile(path):  # noqa: PTH113 (which is False for any link to nowhere)
            continue
        if time.time() - path.stat().st_atime >= KEPT_SECONDS and is_stale(path, header):
            with claim_unused(path) as unused:
                if unused:
                    path.unlink()


def is_stale(path: Path, header: Header) -> bool:
    """Whether a feature file is damaged, or of another schema, other candles or other series."""
    try:
        with open_hdf5(path) as file, explain_damage(path):
            if read_attribute(path, file, "schema", int) != SCHEMA:
                return True
            if read_attribute(path, file, "candles", str) != header.digest:
                return True
        return any(
            read_digest((path.parent / name).resolve()) != digest
            for name, digest in Table.open(path).beside
        )
    except UnreadableError:
        return False
    except StoreError:
        return True
