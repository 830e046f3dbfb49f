"""What files are packed in: each way gives the same bars, and nothing is trusted."""

import bz2
import gzip
import json
import lzma
import struct
import sys
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import polars as pl
import pytest

from btc_datamodule.errors import SourceError
from btc_datamodule.sources.files.containers import FREE, unpack_stream, unzip
from tests.sources.files.helpers import HEADER, TIME, VALUES, csv_text, expect_bars, read

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TEXT = (HEADER + csv_text()).encode()
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda raw: zstd.compress(raw, options={zstd.CompressionParameter.checksum_flag: 1}),
}


def pack(**members: bytes) -> bytes:
    """A zip of these files; "__" in a name stands for a point, "___" for a slash."""
    raw = BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("___", "/").replace("__", "."), content)
    return raw.getvalue()


def put(path: Path, raw: bytes) -> Path:
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("kind", list(PACKERS))
@pytest.mark.parametrize("plain", ["csv", "txt", "tsv", "json"])
def test_every_packing_of_every_text_gives_the_same_bars(
    tmp_path: Path, kind: str, plain: str
) -> None:
    text = TEXT.replace(b",", b"\t") if plain == "tsv" else TEXT
    if plain == "json":
        rows = [[float(value) for value in line.split(",")] for line in csv_text().splitlines()]
        text = json.dumps([HEADER.strip().split(","), *rows]).encode()
    packed = PACKERS[kind](text)
    expect_bars(read(put(tmp_path / f"a.{plain}.{kind}", packed)).candles)
    expect_bars(read(put(tmp_path / f"A.{plain.upper()}.{kind.upper()}", packed)).candles)


@pytest.mark.parametrize("kind", list(PACKERS))
def test_a_packed_file_is_known_by_its_content_whatever_its_name(tmp_path: Path, kind: str) -> None:
    expect_bars(read(put(tmp_path / "a.csv", PACKERS[kind](TEXT))).candles)
    expect_bars(read(put(tmp_path / f"a.csv.{kind}", TEXT)).candles)


def test_parquet_in_a_zip_is_read_or_named_as_held(tmp_path: Path) -> None:
    raw = BytesIO()
    pl.DataFrame({"time": TIME, **VALUES}).write_parquet(raw)
    path = put(tmp_path / "a.zip", pack(a__parquet=raw.getvalue()))
    try:
        block = read(path)
    except SourceError as error:
        told = str(error)
    else:
        expect_bars(block.candles)
        return
    assert "(a.parquet)" in told


# ------------------------------------------------------------------------------------------ zip


def test_the_files_of_a_zip_are_one_series_in_order_of_time(tmp_path: Path) -> None:
    lines = csv_text().splitlines()
    later, early = (f"{HEADER}{chr(10).join(part)}".encode() for part in (lines[2:], lines[:2]))
    path = put(tmp_path / "a.zip", pack(deep___b__csv=early, a__csv=later))
    expect_bars(read(path).candles)


def test_errors_in_a_zip_name_the_file_in_it(tmp_path: Path) -> None:
    path = put(tmp_path / "a.zip", pack(good__csv=TEXT, x__csv=TEXT.replace(b"7001.5", b"what")))
    with pytest.raises(Exception, match=r"a\.zip: x\.csv, row 3: high is 'what'"):
        read(path)


def test_what_macos_and_others_add_to_a_zip_is_not_read(tmp_path: Path) -> None:
    junk = {
        "__MACOSX/._a.csv": b"\0junk", ".DS_Store": b"\0", "._a.csv": b"\0",
        "readme.md": b"read me", "a.csv.CHECKSUM": b"0" * 64, "notes.doc": b"\0",
    }  # fmt: skip
    raw = BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        archive.mkdir("data")
        archive.writestr("data/a.csv", TEXT)
        for name, content in junk.items():
            archive.writestr(name, content)
    expect_bars(read(put(tmp_path / "a.zip", raw.getvalue())).candles)


def test_a_packed_file_in_a_zip_is_unpacked_too(tmp_path: Path) -> None:
    expect_bars(read(put(tmp_path / "a.zip", pack(a__csv__gz=gzip.compress(TEXT)))).candles)


@pytest.mark.parametrize(
    ("members", "held"),
    [({}, "(nothing)"), ({"readme__md": b"x"}, "(readme.md)"), ({"a__exe": b"MZ"}, "(a.exe)")],
)
def test_a_zip_without_a_table_says_what_it_holds(
    tmp_path: Path, members: dict[str, bytes], held: str
) -> None:
    with pytest.raises(SourceError) as caught:
        read(put(tmp_path / "a.zip", pack(**members)))
    assert f"the zip holds no table of candles that can be read {held}" in str(caught.value)


def test_an_encrypted_zip_is_named_as_such(tmp_path: Path) -> None:
    raw = bytearray(pack(a__csv=TEXT))
    entry = raw.index(b"PK\x01\x02")
    for at in (6, entry + 8):  # the flags of the file, and of its entry in the directory
        (flags,) = struct.unpack_from("<H", raw, at)
        struct.pack_into("<H", raw, at, flags | 1)
    with pytest.raises(SourceError, match=r"a\.csv in it is encrypted: unpack it, and name what"):
        read(put(tmp_path / "a.zip", bytes(raw)))


# ------------------------------------------------------------------------------ damage and bombs


@pytest.mark.parametrize("kind", list(PACKERS))
@pytest.mark.parametrize("cut", [0.3, 0.9])
def test_a_packed_file_cut_short_is_one_line(tmp_path: Path, kind: str, cut: float) -> None:
    packed = PACKERS[kind](TEXT * 50)
    path = put(tmp_path / f"a.csv.{kind}", packed[: int(len(packed) * cut)])
    with pytest.raises(SourceError, match=r"data is damaged or cut short .*: get the file again"):
        read(path)


@pytest.mark.parametrize("kind", list(PACKERS))
def test_no_byte_turned_over_in_a_packed_file_is_a_traceback_or_a_wrong_bar(
    tmp_path: Path, kind: str
) -> None:
    packed = PACKERS[kind](TEXT)
    for i in range(0, len(packed), 3):
        raw = packed[:i] + bytes([packed[i] ^ 0x55]) + packed[i + 1 :]
        try:
            block = read(put(tmp_path / "a.csv", raw))
        except SourceError:
            continue
        expect_bars(block.candles)


def test_no_byte_turned_over_in_a_zip_is_a_traceback(tmp_path: Path) -> None:
    packed = pack(a__csv=TEXT)
    for i in range(len(packed)):
        raw = packed[:i] + bytes([packed[i] ^ 0x55]) + packed[i + 1 :]
        try:
            block = read(put(tmp_path / "a.zip", raw))
        except SourceError:
            continue
        expect_bars(block.candles)


@pytest.mark.parametrize("kind", list(PACKERS))
def test_a_bomb_is_refused_before_it_fills_the_memory(kind: str) -> None:
    packed = PACKERS[kind](bytes(4 * FREE))
    assert len(packed) < FREE // 100
    with pytest.raises(SourceError, match=r"a: it unpacks to more than 100 times its size, which"):
        unpack_stream(packed, "a")


def test_a_bomb_in_a_zip_is_refused() -> None:
    with pytest.raises(SourceError, match="unpacks to more than 100 times its size"):
        unzip(pack(a__csv=bytes(4 * FREE)), "a.zip", lambda _: True)
    with pytest.raises(SourceError, match="unpacks to more than 100 times its size"):
        unzip(pack(a__gz=gzip.compress(bytes(4 * FREE))), "a.zip", lambda _: True)


def test_many_small_bombs_in_a_zip_are_one_bomb() -> None:
    several = {f"a{i}__csv": bytes(FREE) for i in range(8)}
    with pytest.raises(SourceError, match="unpacks to more than 100 times its size"):
        unzip(pack(**several), "a.zip", lambda _: True)


def test_bytes_that_are_no_packed_stream_pass_as_they_are() -> None:
    assert unpack_stream(TEXT, "a") == TEXT
    assert unpack_stream(b"", "a") == b""
