"""Feature files that are of no use any more: which these are, and their removal.

Removed are files of candles as they no longer are which no process of this machine uses, and nobody
has opened for a while; what killed processes left; and rows files whose heads are all gone. Only
who holds the lock of feature files may do so.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from btc_datamodule.disk.hdf5 import explain_damage, open_hdf5, read_attribute
from btc_datamodule.disk.in_use import claim_unused
from btc_datamodule.errors import StoreError, UnreadableError
from btc_datamodule.features.layout import SCHEMA
from btc_datamodule.features.rows_file import Claim, list_rows_files
from btc_datamodule.features.table import Table, list_tables
from btc_datamodule.store.forms import read_digest
from btc_datamodule.store.parts import list_leftovers
from btc_datamodule.store.series_file import Header

KEPT_SECONDS = 86_400
"""For how long a feature file stays that nobody opens."""

GROWN_SECONDS = 3_600
"""For how long one stays whose rows another head has too: whoever prepared it opens it by then."""


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed have left half written."""
    digits = "[0-9a-f]" * 16
    for name in (f"features-{digits}.h5", f"features-{digits}.rows.h5"):
        for leftover in list_leftovers(folder, name):
            leftover.unlink()


def remove_stale(candle_path: Path, header: Header, claims: Sequence[Claim] | None) -> None:
    """Remove feature files of candles as they no longer are, which nobody uses.

    Args:
        candle_path: the candle file.
        header: of it.
        claims: of all feature files beside it; None if they cannot all be told.
    """
    grown = _find_grown(claims or [])
    for path in list_tables(candle_path):
        if not os.path.isfile(path):  # noqa: PTH113 (which is False for any link to nowhere)
            continue
        kept = GROWN_SECONDS if path in grown else KEPT_SECONDS
        old = time.time() - path.stat().st_atime >= kept
        if old and is_stale(path, header):
            _remove_unused(path)
    if claims is not None:
        claimed = {claim.file for claim in claims if claim.head.exists()}
        for path in list_rows_files(candle_path.parent):
            if path not in claimed:
                _remove_unused(path)


def _find_grown(claims: Sequence[Claim]) -> set[Path]:
    """Heads of the rows of whose features another one claims more."""
    most: dict[Path, int] = {}
    own = [claim for claim in claims if "x" in claim.names]
    for claim in own:
        most[claim.file] = max(claim.rows, most.get(claim.file, 0))
    return {claim.head for claim in own if claim.rows < most[claim.file]}


def _remove_unused(path: Path) -> None:
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
