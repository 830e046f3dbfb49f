"""The candle file: what is written reads back, replaced whole or not at all, damage is named."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from btc_datamodule.candles.series import COLUMNS, OPTIONAL, REQUIRED, Candles
from btc_datamodule.candles.timeline import Interval
from btc_datamodule.errors import StoreError
from btc_datamodule.store.candle_file import (
    CandleReader,
    read_candles,
    read_header,
    write_candles,
)
from btc_datamodule.store.candle_layout import SCHEMA, SHUFFLED
from btc_datamodule.store.series_file import CHUNK_ROWS, Header, Provenance
from tests.factories import HOUR, T0, candles_of
from tests.helpers import assert_same, digest_of, write

ROWS = 400
COVERED = ((T0, T0 + 300 * HOUR), (T0 + 310 * HOUR, T0 + 500 * HOUR))
PROVENANCE = (
    Provenance("https://example.org/ü?a=1", COVERED[0], 290, "2024-05-01T12:00:00Z"),
    Provenance("file.csv sha256=00", COVERED[1], 90, "2024-05-02T12:00:00Z"),
)


def series() -> Candles:
    present = np.ones(ROWS, dtype=bool)
    present[300:310] = False
    whole = candles_of(present, optional=OPTIONAL)
    trades = whole["trades"].copy()
    trades[::3] = np.nan
    return Candles(HOUR, {**whole.columns, "trades": trades})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "candles.h5", series(), covered=COVERED, provenance=PROVENANCE)


def one_line(error: BaseException, path: Path) -> None:
    assert str(path) in str(error)
    assert "\n" not in str(error)


# --- round trip ---------------------------------------------------------------------------------


def test_what_is_written_reads_back_bit_for_bit(path: Path) -> None:
    assert_same(read_candles(path), series())
    assert np.isnan(read_candles(path)["trades"][:4]).tolist() == [True, False, False, True]


def test_the_header_tells_everything_but_the_candles(path: Path) -> None:
    assert read_header(path) == Header(
        source="test",
        series="BTC",
        interval=Interval(HOUR),
        columns=COLUMNS,
        rows=ROWS - 10,
        span=(T0, T0 + ROWS * HOUR),
        covered=COVERED,
        digest=digest_of(series()),
        revision="",
        provenance=PROVENANCE,
    )


def test_a_file_may_be_empty(tmp_path: Path) -> None:
    none = candles_of(np.zeros(3, dtype=bool))
    path = write(tmp_path / "new" / "candles.h5", none, covered=[(T0, T0 + HOUR)])
    header = read_header(path)
    assert (header.rows, header.span, header.columns) == (0, (0, 0), (*REQUIRED, "volume"))
    assert (header.covered, header.provenance) == (((T0, T0 + HOUR),), ())
    assert header.digest == digest_of(none)
    assert_same(read_candles(path), none)
    with CandleReader(path) as reader:
        assert len(reader.slice(0, 2**40)) == 0
        assert list(reader.chunks()) == []


def test_chunks_of_any_size_make_the_same_file(tmp_path: Path) -> None:
    whole = candles_of(np.ones(50, dtype=bool), optional=["trades"])
    cuts = [T0 + row * HOUR for row in (0, 1, 1, 20, 50)]
    chunks = [whole.slice(a, b) for a, b in pairwise(cuts)]
    one = write(tmp_path / "one.h5", whole)
    many = write(tmp_path / "many.h5", *chunks)
    assert_same(read_candles(many), whole)
    assert read_header(many) == read_header(one)


def test_a_chunk_without_an_optional_column_is_nan_there(tmp_path: Path) -> None:
    early, late = candles_of([T0]), candles_of([T0 + HOUR], optional=["trades"])
    trades = read_candles(write(tmp_path / "candles.h5", early, late))["trades"]
    np.testing.assert_array_equal(trades, [np.nan, late["trades"][0]])


def test_long_files_are_read_in_chunks(tmp_path: Path) -> None:
    rows = CHUNK_ROWS + 10
    flat = {name: np.full(rows, 100.0) for name in REQUIRED[1:]}
    whole = Candles(1, {"open_time": np.arange(rows), **flat})
    with CandleReader(write(tmp_path / "candles.h5", whole)) as reader:
        chunks = list(reader.chunks())
    assert [len(chunk) for chunk in chunks] == [CHUNK_ROWS, 10]
    assert np.concatenate([chunk.open_time for chunk in chunks]).tolist() == list(range(rows))


@settings(max_examples=30)
@given(st.data())
def test_a_slice_by_time_holds_the_bars_that_open_inside(data: st.DataObject) -> None:
    mask = np.array(data.draw(st.lists(st.booleans(), max_size=20)), dtype=bool)
    whole = candles_of(mask)
    edge = st.integers(T0 - 2 * HOUR, T0 + 22 * HOUR) | st.integers(-1, 21).map(
        lambda row: T0 + row * HOUR
    )
    with TemporaryDirectory() as folder:
        path = write(Path(folder, "candles.h5"), whole)
        with CandleReader(path) as reader:
            for _ in range(4):
                start, end = data.draw(edge), data.draw(edge)
                wanted = (whole.open_time >= start) & (whole.open_time < end)
                part = {name: values[wanted] for name, values in whole.columns.items()}
                assert_same(reader.slice(start, end), Candles(HOUR, part))


# --- layout -------------------------------------------------------------------------------------


def test_every_column_is_compressed_and_checksummed_and_inside_the_file(path: Path) -> None:
    with h5py.File(path) as file:
        assert dict(file.attrs) == {
            "schema": SCHEMA,
            "source": "test",
            "series": "BTC",
            "interval": HOUR,
            "rows": ROWS - 10,
            "digest": digest_of(series()),
            "revision": "",
        }
        assert set(file) == {"candles", "covered", "provenance", "segments", "digests"}
        assert set(file["candles"]) == set(COLUMNS)
        for name in COLUMNS:
            data = file["candles"][name]
            assert isinstance(file["candles"].get(name, getlink=True), h5py.HardLink)
            assert data.compression == "gzip"
            assert data.shuffle == (name in SHUFFLED)
            assert data.fletcher32
            assert data.dtype.str == ("<i8" if name == "open_time" else "<f8")
            assert data.external is None
            assert not data.is_virtual


def test_without_compression_the_checksums_stay(tmp_path: Path) -> None:
    path = write(tmp_path / "candles.h5", series(), compress=False)
    assert_same(read_candles(path), series())
    with h5py.File(path) as file:
        assert [file["candles"][n].compression for n in COLUMNS] == [None] * len(COLUMNS)
        assert all(file["candles"][name].fletcher32 for name in COLUMNS)


# --- replacing ----------------------------------------------------------------------------------


def test_a_write_that_fails_midway_leaves_the_old_file_and_nothing_else(path: Path) -> None:
    def broken() -> Iterator[Candles]:
        yield candles_of([T0 + 900 * HOUR])
        raise RuntimeError("the wire was cut")

    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="the wire was cut"):
        write_candles(
            path,
            broken(),
            source="other",
            series="BTC",
            interval=HOUR,
            columns=(),
            covered=(),
            revision="",
            provenance=(),
        )
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_while_a_file_is_being_written_the_old_one_is_read(path: Path) -> None:
    seen: list[Candles] = []

    def watching() -> Iterator[Candles]:
        yield candles_of([T0])
        seen.append(read_candles(path))

    write_candles(
        path,
        watching(),
        source="test",
        series="BTC",
        interval=HOUR,
        columns=("volume",),
        covered=(),
        revision="",
        provenance=(),
    )
    assert_same(seen[0], series())
    assert_same(read_candles(path), candles_of([T0]))


def test_an_open_reader_keeps_what_it_opened(path: Path) -> None:
    with CandleReader(path) as reader:
        write(path, candles_of([T0]))
        assert_same(reader.slice(0, 2**40), series())
        (chunk,) = reader.chunks()
        assert_same(chunk, series())
    assert read_header(path).rows == 1


# --- damage -------------------------------------------------------------------------------------


def test_a_missing_file_says_what_to_run(tmp_path: Path) -> None:
    path = tmp_path / "candles.h5"
    with pytest.raises(StoreError) as caught:
        read_candles(path)
    assert str(caught.value) == f"{path} does not exist: run `btc-datamodule prepare`"


@pytest.mark.parametrize("content", [b"", b"time,open\n1,2\n", b"\x89HDF\r\n\x1a\n", b"\0" * 5000])
def test_a_file_that_is_no_hdf5_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "candles.h5"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="HDF5 file: move it away and run") as caught:
        read_candles(path)
    one_line(caught.value, path)


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        read_candles(tmp_path)
    one_line(caught.value, tmp_path)


@pytest.mark.parametrize("share", [0.0005, 0.01, 0.1, 0.3, 0.5, 0.9, 0.999, None])
def test_a_file_cut_short_is_refused(path: Path, share: float | None) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: -1 if share is None else int(share * len(whole))])
    with pytest.raises(StoreError) as caught:
        read_candles(path)
    one_line(caught.value, path)


Spoil = Callable[["h5py.File", Path], None]


def put(name: str, **how: Any) -> Spoil:
    """Put another dataset in the place of a column."""

    def spoil(file: h5py.File, _: Path) -> None:
        del file["candles"][name]
        file["candles"].create_dataset(name, **how)

    return spoil


def attribute(name: str, value: Any) -> Spoil:
    def spoil(file: h5py.File, _: Path) -> None:
        file.attrs[name] = value

    return spoil


def without(name: str) -> Spoil:
    def spoil(file: h5py.File, _: Path) -> None:
        del file[name]

    return spoil


def without_attribute(name: str) -> Spoil:
    def spoil(file: h5py.File, _: Path) -> None:
        del file.attrs[name]

    return spoil


def instead(name: str, value: Any) -> Spoil:
    def spoil(file: h5py.File, _: Path) -> None:
        del file[name]
        file[name] = value

    return spoil


def other_file(folder: Path) -> Path:
    with h5py.File(folder / "other.h5", "w") as file:
        file["close"] = series()["close"]
    return folder / "other.h5"


def soft_link(file: h5py.File, _: Path) -> None:
    file.move("candles/close", "elsewhere")
    file["candles/close"] = h5py.SoftLink("/elsewhere")


def external_link(file: h5py.File, folder: Path) -> None:
    del file["candles/close"]
    file["candles/close"] = h5py.ExternalLink(str(other_file(folder)), "close")


def external_group(file: h5py.File, folder: Path) -> None:
    write(folder / "other.h5", series())
    del file["candles"]
    file["candles"] = h5py.ExternalLink(str(folder / "other.h5"), "candles")


def external_storage(file: h5py.File, folder: Path) -> None:
    raw = folder / "close.bin"
    raw.write_bytes(series()["close"].tobytes())
    shape = (ROWS - 10,)
    put("close", shape=shape, dtype="<f8", external=[(str(raw), 0, raw.stat().st_size)])(
        file, folder
    )


def virtual(file: h5py.File, folder: Path) -> None:
    layout = h5py.VirtualLayout(shape=(ROWS - 10,), dtype="<f8")
    layout[:] = h5py.VirtualSource(str(other_file(folder)), "close", shape=(ROWS - 10,))
    del file["candles/close"]
    file["candles"].create_virtual_dataset("close", layout)


def group(file: h5py.File, _: Path) -> None:
    del file["candles/close"]
    file["candles"].create_group("close")


SPOILS: dict[str, tuple[Spoil, str]] = {
    "another schema": (attribute("schema", 99), r"no.* candle file of schema 2 \(it has 99\)"),
    "no schema": (without_attribute("schema"), r"schema 2 \(it has none\)"),
    "schema of another program": (attribute("schema", "v2.1"), "schema"),
    "schema of many numbers": (attribute("schema", [1, 2]), "schema|damaged"),
    "no candles": (without("candles"), "no group 'candles'"),
    "candles as a dataset": (instead("candles", [1.0]), "no group 'candles'"),
    "no close": (without("candles/close"), "lacks the column close"),
    "no open_time": (without("candles/open_time"), "lacks the column open_time"),
    "no interval": (without_attribute("interval"), "no attribute 'interval'"),
    "interval as text": (attribute("interval", "1h"), "no attribute 'interval'"),
    "no digest": (without_attribute("digest"), "no attribute 'digest'"),
    "no covered": (without("covered"), "no dataset 'covered'"),
    "covered in threes": (instead("covered", np.ones((2, 3), dtype="<i8")), "covered|damaged"),
    "covered in a row": (instead("covered", np.ones(4, dtype="<i8")), "covered|damaged"),
    "no provenance": (without("provenance"), "no dataset 'provenance'"),
    "provenance that is no JSON": (instead("provenance", np.array([b"{"])), "damaged"),
    "provenance that is no text": (
        instead("provenance", np.array([b'"\xff\xfe\xfa"'])),
        "damaged",
    ),
    "provenance of another kind": (instead("provenance", np.array([b'{"a": 1}'])), "damaged"),
    "provenance of any length": (instead("provenance", [b"{}"]), "'provenance' holds no texts"),
    "texts for close": (put("close", data=[b"7000"] * (ROWS - 10)), "column 'close'"),
    "complex close": (put("close", data=np.ones(ROWS - 10, dtype=complex)), "column 'close'"),
    "float32 close": (put("close", data=series()["close"].astype("f4")), "'close'"),
    "float open_time": (put("open_time", data=series().open_time + 0.5), "'open_time'"),
    "short close": (
        put("close", data=series()["close"][:-1]),
        "column 'close' does not hold 390 numbers",
    ),
    "close in pairs": (
        put("close", data=np.ones((195, 2))),
        "column 'close' does not hold 390 numbers",
    ),
    "scalar close": (put("close", data=7000.0), "column 'close' does not hold 390 numbers"),
    "other rows": (attribute("rows", 100), "does not hold 100 numbers"),
    "unsorted times": (put("open_time", data=series().open_time[::-1]), "damaged"),
    "impossible close": (put("close", data=np.ones(ROWS - 10)), "damaged.*low is above"),
    "another grid": (attribute("interval", 7), "digest is not that of its segments"),
    "another digest": (attribute("digest", "0" * 64), "digest is not that of its segments"),
    "other digests": (instead("digests", np.ones((1, 9, 32), "u1")), "digest is not that of its"),
    "fewer digests": (instead("digests", np.ones((1, 8, 32), "u1")), "'digests' holds no digests"),
    "digests of another type": (
        instead("digests", np.ones((1, 9, 32), "<f8")),
        "'digests' holds no digests",
    ),
    "no digests": (without("digests"), "no dataset 'digests'"),
    "another segment": (instead("segments", np.array([5])), "digest is not that of its segments"),
    "segments in pairs": (instead("segments", np.ones((1, 2), "<i8")), "'digests' holds no dig"),
    "group for close": (group, "'candles/close' is not a dataset"),
    "soft link": (soft_link, "lacks the column close"),
    "external link": (external_link, "lacks the column close"),
    "external link to the group": (external_group, "has no group .candles."),
    "external storage": (external_storage, "'candles/close' is not a dataset with its data in"),
    "virtual dataset": (virtual, "'candles/close' is not a dataset with its data in"),
}


@pytest.mark.parametrize("what", SPOILS)
def test_a_file_that_is_not_as_written_is_refused(path: Path, what: str) -> None:
    spoil, problem = SPOILS[what]
    with h5py.File(path, "r+") as file:
        spoil(file, path.parent)
    with pytest.raises(StoreError, match=problem) as caught:
        read_candles(path)
    one_line(caught.value, path)


def chunk_regions(path: Path) -> list[tuple[int, int]]:
    with h5py.File(path) as file:
        chunks = [file["candles"][name].id.get_chunk_info(0) for name in COLUMNS]
    return [(chunk.byte_offset, chunk.size) for chunk in chunks]


def flip(content: bytes, at: int, bits: int) -> bytes:
    return content[:at] + bytes([content[at] ^ bits]) + content[at + 1 :]


def never_garbage(path: Path, whole: bytes, at: int, bits: int, header: Header) -> bool:
    """Read with one byte changed; whether that was noticed. What is read must be unchanged."""
    path.write_bytes(flip(whole, at, bits))
    try:
        found, candles = read_header(path), read_candles(path)
    except StoreError as error:
        one_line(error, path)
        return True
    assert found == header, f"byte {at} changed by {bits:#x} was not noticed"
    assert_same(candles, series())
    return False


@pytest.mark.parametrize("compress", [True, False])
def test_a_flipped_byte_among_the_candles_is_noticed(tmp_path: Path, compress: bool) -> None:
    path = write(tmp_path / "candles.h5", series(), compress=compress)
    whole, header, regions = path.read_bytes(), read_header(path), chunk_regions(path)
    rng = np.random.default_rng(0)
    noticed = 0
    for _ in range(30):
        offset, size = regions[rng.integers(len(regions))]
        at, bits = offset + int(rng.integers(size)), int(rng.integers(1, 256))
        noticed += never_garbage(path, whole, at, bits, header)
    assert noticed == 30


def test_a_flipped_byte_anywhere_is_never_silent_garbage(path: Path) -> None:
    whole, header = path.read_bytes(), read_header(path)
    rng = np.random.default_rng(1)
    for at in rng.integers(0, len(whole), 60):
        never_garbage(path, whole, int(at), int(rng.integers(1, 256)), header)


@pytest.mark.parametrize("name", ["covered", "provenance"])
def test_a_flipped_byte_in_what_the_file_says_of_itself_is_noticed(path: Path, name: str) -> None:
    whole, header = path.read_bytes(), read_header(path)
    known = np.array(COVERED, dtype="<i8").tobytes() if name == "covered" else b'{"origin": "https'
    (at,) = (found.start() for found in re.finditer(re.escape(known), whole))
    for byte in range(0, 12, 2):
        for bits in (0x01, 0x80):
            never_garbage(path, whole, at + byte, bits, header)


def test_a_reader_of_a_damaged_file_fails_in_every_way_of_reading(path: Path) -> None:
    offset, size = chunk_regions(path)[4]
    path.write_bytes(flip(path.read_bytes(), offset + size // 2, 0x10))
    reads: list[Callable[[CandleReader], Any]] = [
        lambda reader: reader.slice(T0, T0 + HOUR),
        lambda reader: list(reader.chunks()),
    ]
    for read in reads:
        with CandleReader(path) as reader, pytest.raises(StoreError, match="is damaged") as caught:
            read(reader)
        one_line(caught.value, path)


def test_records_of_any_length_and_number_read_back(tmp_path: Path) -> None:
    records = [replace(PROVENANCE[0], origin="x" * n, rows=n) for n in (0, 1, 5000)]
    path = write(tmp_path / "candles.h5", series(), provenance=records)
    assert read_header(path).provenance == tuple(records)


def test_spans_read_back_as_plain_numbers(path: Path) -> None:
    def kinds(value: Any) -> Any:
        return [kinds(item) for item in value] if isinstance(value, tuple) else type(value)

    header = read_header(path)
    assert kinds(header.covered) == [[int, int], [int, int]]
    assert kinds(header.span) == [int, int]
    assert (type(header.interval), type(header.rows)) == (Interval, int)


def values_of(candles: Candles) -> dict[str, NDArray[np.float64]]:
    return {name: candles[name] for name in COLUMNS}


def test_reading_twice_gives_arrays_of_one_s_own(path: Path) -> None:
    first = values_of(read_candles(path))
    first["close"][:] = -1
    assert read_candles(path)["close"].tolist() == series()["close"].tolist()
