"""Writing a feature file: arrays that need not be there, files of other series, any segments."""

import hashlib
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from btc_datamodule.audit.verify import verify_table
from btc_datamodule.errors import StoreError
from btc_datamodule.features import build as building
from btc_datamodule.features import layout
from btc_datamodule.features.build import build
from btc_datamodule.features.layout import SMALL, combine_digests
from btc_datamodule.features.segment import compute_segment
from btc_datamodule.features.table import Table
from tests.factories import HOUR, T0
from tests.features.tables import PATCHY, ROWS, recipe

REACH = T0 + HOUR * (np.arange(ROWS) // 7 * 7 - 30)
"""Of rows whose other series has a record every seven hours, and a lookback of 30."""


@pytest.fixture
def reaching(candles: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    """A feature file whose build gives a reach, in segments of 50 rows."""
    monkeypatch.setattr(layout, "SEGMENT_ROWS", 50)
    computed: Any = compute_segment

    def with_reach(*given: Any, **named: Any) -> Any:
        segment = computed(*given, **named)
        return segment._replace(columns={"reach": REACH[given[4]], **segment.columns})

    monkeypatch.setattr(building, "compute_segment", with_reach)
    return Table.open(build(candles, recipe()))


def test_reach_is_there_only_if_the_build_gives_it(table: Table) -> None:
    assert table.reach is None
    assert table.digests.shape[1] == 7
    with h5py.File(table.path) as file:
        assert "reach" not in file


def test_reach_is_mapped_checked_and_part_of_the_digest(reaching: Table) -> None:
    assert reaching.reach is not None
    assert isinstance(reaching.reach, np.memmap)
    assert reaching.reach.dtype.str == "<i8"
    np.testing.assert_array_equal(reaching.reach, REACH)
    assert len(reaching.moments) == 4
    assert reaching.digests.shape == (4, 8, 32)
    last = REACH[slice(*reaching.checks.edges[-2:].tolist())].astype("<i8")
    assert reaching.digests[-1, 7].tobytes() == hashlib.sha256(last.tobytes()).digest()
    assert verify_table(reaching.path) == []
    offset, width = reaching.checks.find_place("reach").extents["reach"]
    raw = bytearray(reaching.path.read_bytes())
    assert raw[offset : offset + ROWS * width] == REACH.astype("<i8").tobytes()
    raw[offset + 60 * width] ^= 1
    reaching.path.write_bytes(raw)
    spoiled = Table.open(reaching.path)
    assert len(spoiled.bars("close")) == ROWS
    with pytest.raises(StoreError, match=r"'reach' between .* is not what was written"):
        _ = spoiled.reach
    assert len(verify_table(reaching.path)) == 1


def test_a_reach_that_was_taken_out_or_is_of_another_kind_is_refused(reaching: Table) -> None:
    whole = reaching.path.read_bytes()
    with h5py.File(reaching.path, "r+", locking=False) as file:
        del file["reach"]
    with pytest.raises(StoreError, match=r"'segment_digest' is not a \(4, 7, 32\) array"):
        Table.open(reaching.path)
    reaching.path.write_bytes(whole)
    with h5py.File(reaching.path, "r+", locking=False) as file:
        del file["reach"]
        file["reach"] = REACH.astype("<i4")
    with pytest.raises(StoreError, match="'reach' is not a contiguous"):
        Table.open(reaching.path)


def test_files_of_other_series_are_told_with_their_digests(table: Table) -> None:
    assert table.beside == ()
    pairs = [["binance/ETH/1h/candles.h5", "a" * 64], ["funding/records.h5", "b" * 64]]
    with h5py.File(table.path, "r+", locking=False) as file:
        file.attrs["beside"] = json.dumps(pairs)
        small = {name: file[name][()] for name in SMALL}
        file.attrs["digest"] = combine_digests(
            small["segment_digest"], file["x"].shape, small, dict(file.attrs)
        )
    again = Table.open(table.path)
    assert again.beside == tuple(map(tuple, pairs))
    assert again.digest != table.digest


@pytest.mark.parametrize("flag", [False, True])
@pytest.mark.parametrize("mask", ["bar", "feature"])
def test_what_is_written_does_not_depend_on_the_segments(
    candles: Path, monkeypatch: pytest.MonkeyPatch, mask: Any, flag: bool
) -> None:
    made = recipe("log_return", PATCHY, "day_sin", mask=mask, flag=flag)

    def tell() -> tuple[list[NDArray[Any]], int]:
        path = build(candles, made)
        table = Table.open(path)
        told: list[NDArray[Any]] = [np.array(table.x), np.array(table.observed)]
        told += [table.unobserved, table.unobserved_cells, table.undefined, table.valued]
        path.unlink()
        return told, len(table.moments)

    (whole, one), _ = tell(), monkeypatch.setattr(layout, "SEGMENT_ROWS", 32)
    parts, many = tell()
    assert (one, many) == (1, 5)
    for ours, theirs in zip(parts, whole, strict=True):
        assert ours.tobytes() == theirs.tobytes()
