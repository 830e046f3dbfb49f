"""Chunks packed here are those of HDF5: read by it, with its filters and its checksums."""

import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from btc_datamodule.disk.chunks import compute_fletcher32, write_packed

CHUNK = 64
RNG = np.random.default_rng(5)
LONG = 300
COLUMNS: dict[str, NDArray[Any]] = {
    "open_time": np.arange(LONG) * 60,
    "close": np.round(1e4 + RNG.normal(size=LONG).cumsum(), 2),
    "trades": RNG.integers(1, 900, LONG).astype(float),
    "noise": RNG.integers(0, 1 << 63, LONG).view("f8"),
}
SHUFFLED = ("open_time", "trades")


class Table:
    """Rows [low, high) of the columns."""

    def __init__(self, low: int, high: int) -> None:
        self.rows = slice(low, high)

    def __len__(self) -> int:
        return self.rows.stop - self.rows.start

    def __getitem__(self, name: str) -> NDArray[Any]:
        return COLUMNS[name][self.rows]


def create(file: h5py.File) -> dict[str, h5py.Dataset]:
    return {
        name: file.create_dataset(
            name,
            shape=(0,),
            maxshape=(None,),
            chunks=(CHUNK,),
            dtype=values.dtype,
            shuffle=name in SHUFFLED,
            compression="gzip",
            compression_opts=4,
            fletcher32=True,
        )
        for name, values in COLUMNS.items()
    }


def write(path: Path, *cuts: int) -> int:
    """All rows up to the last cut, a table from each cut to the next."""
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        tables = (Table(*each) for each in zip((0, *cuts), cuts, strict=False))
        return write_packed(create(file), tables, lambda: None)


def read_raw(data: h5py.Dataset) -> Iterator[tuple[int, bytes]]:
    """Of each chunk which filters were left out, and its bytes."""
    for number in range(data.id.get_num_chunks()):
        mask, raw = data.id.read_direct_chunk(data.id.get_chunk_info(number).chunk_offset)
        yield mask, bytes(raw)


@pytest.mark.parametrize(
    "cuts",
    [(), (0,), (1,), (CHUNK,), (256,), (LONG,), (10, 63, 64, 65, 200, 200, LONG)],
    ids=lambda cuts: "-".join(map(str, cuts)) or "none",
)
def test_hdf5_reads_what_was_written_whatever_the_tables(
    tmp_path: Path, cuts: tuple[int, ...]
) -> None:
    rows = write(tmp_path / "a.h5", *cuts)
    assert rows == (cuts[-1] if cuts else 0)
    with h5py.File(tmp_path / "a.h5") as file:
        for name, values in COLUMNS.items():
            np.testing.assert_array_equal(file[name][:].view("i8"), values[:rows].view("i8"))
            assert file[name].id.get_num_chunks() == -(-rows // CHUNK)
            assert (file[name].shuffle, file[name].compression_opts) == (name in SHUFFLED, 4)
            assert all(mask == 0 for mask, _ in read_raw(file[name]))


def test_the_bytes_are_those_of_hdf5_before_deflate_and_after_it(tmp_path: Path) -> None:
    write(tmp_path / "ours.h5", LONG)
    with h5py.File(tmp_path / "theirs.h5", "w", libver=("v110", "v110")) as file:
        for name, data in create(file).items():
            data.resize((LONG,))
            data[:] = COLUMNS[name]
    with h5py.File(tmp_path / "ours.h5") as ours, h5py.File(tmp_path / "theirs.h5") as theirs:
        for name in COLUMNS:
            found, wanted = ([*read_raw(file[name])] for file in (ours, theirs))
            assert len(found) == len(wanted) == 5
            for (_, mine), (mask, its) in zip(found, wanted, strict=True):
                assert mask == 0
                # The last chunk is filled with zeros, and noise grows, in both alike.
                assert zlib.decompress(mine[:-4]) == zlib.decompress(its[:-4])
                assert compute_fletcher32(its[:-4]).to_bytes(4, "little") == its[-4:]


@pytest.mark.parametrize(
    "data",
    [b"\0" * 8, b"\xff" * 16, b"\xff\xff" * 65_535, b"\1\2\3\4\5\6\7", bytes(range(256)) * 9],
    ids=["zeros", "ones", "a sum of 0", "odd", "many"],
)
def test_the_checksum_is_hdf5s(tmp_path: Path, data: bytes) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        stored = file.create_dataset(
            "a", data=np.frombuffer(data, "u1"), chunks=(len(data),), fletcher32=True
        )
        file.flush()
        ((_, raw),) = read_raw(stored)
    assert raw == data + compute_fletcher32(data).to_bytes(4, "little")


def test_a_bit_that_flips_is_found_by_hdf5(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", LONG)
    with h5py.File(tmp_path / "a.h5") as file:
        chunk = file["close"].id.get_chunk_info(2)
    with (tmp_path / "a.h5").open("r+b") as raw:
        raw.seek(chunk.byte_offset + 20)
        (byte,) = raw.read(1)
        raw.seek(-1, 1)
        raw.write(bytes([byte ^ 4]))
    with (
        h5py.File(tmp_path / "a.h5") as file,
        pytest.raises(OSError, match="filter returned failure"),
    ):
        file["close"][:]


def test_an_error_between_two_tables_ends_the_threads(tmp_path: Path) -> None:
    def fail() -> Iterator[Table]:
        yield Table(0, 200)
        raise KeyboardInterrupt

    with h5py.File(tmp_path / "a.h5", "w") as file, pytest.raises(KeyboardInterrupt):
        write_packed(create(file), fail(), lambda: None)
    assert not [each for each in threading.enumerate() if each.name.startswith("pack")]


def test_a_write_that_has_failed_is_told_after_the_table(tmp_path: Path) -> None:
    def check() -> None:
        raise OSError("no room")

    with h5py.File(tmp_path / "a.h5", "w") as file, pytest.raises(OSError, match="no room"):
        write_packed(create(file), [Table(0, 10), Table(10, 20)], check)
