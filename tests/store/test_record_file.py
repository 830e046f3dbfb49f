"""The file of records: what is written reads back, replaced whole or not, damage is named."""

import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btc_datamodule.audit.verify import verify_records
from btc_datamodule.candles.records import INSTANTS, RecordSet, make_empty
from btc_datamodule.candles.timeline import Interval, ceil_to
from btc_datamodule.errors import StoreError
from btc_datamodule.store.export import export_records
from btc_datamodule.store.record_file import (
    SCHEMA,
    RecordHeader,
    RecordReader,
    check_record_series,
    read_record_header,
    read_records,
    write_record_set,
    write_records,
)
from btc_datamodule.store.series_file import CHUNK_ROWS, Provenance
from tests.factories import HOUR, T0
from tests.store.records import COLUMNS, HELD, assert_same, digest_of, hours, records_of, write

COVERED = (hours(0, 21), hours(22, 61))
PROVENANCE = (Provenance("https://example.org/ü?a=1", COVERED[0], 19, "2024-05-01T12:00:00Z"),)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "records.h5", HELD, covered=COVERED, provenance=PROVENANCE)


def one_line(error: BaseException, path: Path) -> None:
    assert str(path) in str(error)
    assert "\n" not in str(error)


# --- round trip ---------------------------------------------------------------------------------


def test_what_is_written_reads_back_bit_for_bit(path: Path) -> None:
    assert_same(read_records(path), HELD)
    assert np.isnan(read_records(path)["premium"][:2]).tolist() == [True, False]


def test_the_header_tells_everything_but_the_records(path: Path) -> None:
    header = read_record_header(path)
    assert header == RecordHeader(
        source="scripted",
        series="funding",
        interval=None,
        columns=(*INSTANTS, *COLUMNS),
        rows=56,
        span=(T0, T0 + 59 * HOUR + 1),
        covered=COVERED,
        digest=digest_of(HELD),
        revision="",
        provenance=PROVENANCE,
        longest_delay=7800,
        pending=0,
    )
    assert header.values == COLUMNS


@pytest.mark.parametrize("interval", [HOUR, Interval(HOUR, 600), Interval(7 * 86_400)])
def test_an_interval_keeps_its_grid(tmp_path: Path, interval: int) -> None:
    time = ceil_to(T0, interval) + interval * np.arange(5)
    records = RecordSet({"time": time, "known_at": time + interval, "rate": np.ones(5)})
    path = write(tmp_path / "records.h5", records, interval=interval, columns=["rate"])
    assert read_record_header(path).interval == interval
    assert_same(read_records(path), records)


def test_a_file_may_be_empty(tmp_path: Path) -> None:
    path = write(tmp_path / "new" / "records.h5", make_empty(COLUMNS), covered=[hours(0, 1)])
    header = read_record_header(path)
    assert (header.rows, header.span, header.longest_delay) == (0, (0, 0), 0)
    assert header.covered == (hours(0, 1),)
    assert_same(read_records(path), make_empty(COLUMNS))
    with RecordReader(path) as reader:
        assert len(reader.slice(0, 2**40)) == len(reader.rows(0, 5)) == reader.find(T0) == 0
        assert (list(reader.chunks()), reader.marks()) == ([], [])


def test_chunks_of_any_size_make_the_same_file(tmp_path: Path) -> None:
    cuts = [T0 + row * HOUR for row in (0, 1, 1, 20, 60)]
    chunks = [HELD.slice(a, b) for a, b in pairwise(cuts)]
    one = write(tmp_path / "one.h5", HELD)
    many = write(tmp_path / "many.h5", *chunks)
    assert_same(read_records(many), HELD)
    assert read_record_header(many) == read_record_header(one)


def test_a_chunk_without_a_column_has_no_values_there(tmp_path: Path) -> None:
    early, late = records_of([0]), records_of([1])
    narrow = RecordSet({name: early[name] for name in (*INSTANTS, "rate")})
    premium = read_records(write(tmp_path / "records.h5", narrow, late))["premium"]
    np.testing.assert_array_equal(premium, [np.nan, late["premium"][0]])


def test_columns_keep_their_order_and_any_name_that_can_be_read_back(tmp_path: Path) -> None:
    names = ("z", "a", "Fear & Greed", "ü.x")
    columns = {name: np.arange(3.0) for name in names}
    records = RecordSet({**{name: T0 + np.arange(3) for name in INSTANTS}, **columns})
    path = tmp_path / "records.h5"
    write_record_set(path, records, source="a", series="b", interval=None)
    assert read_record_header(path).values == names
    assert_same(read_records(path), records)


@pytest.mark.parametrize("name", ["", "a/b", ".", "a\nb"])
def test_a_column_that_could_not_be_read_back_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "records.h5"
    with pytest.raises(StoreError, match="no column can be called"):
        write(path, HELD, columns=["rate", name])
    assert list(tmp_path.iterdir()) == []


def test_long_files_are_read_in_chunks_that_marks_part(tmp_path: Path) -> None:
    rows = CHUNK_ROWS + 10
    time = np.arange(rows) // 2
    whole = RecordSet({"time": time, "known_at": np.arange(rows), "rate": np.zeros(rows)})
    path = tmp_path / "records.h5"
    write_record_set(path, whole, source="a", series="b", interval=None)
    with RecordReader(path) as reader:
        assert [len(chunk) for chunk in reader.chunks()] == [CHUNK_ROWS, 10]
        assert reader.marks() == [0, CHUNK_ROWS // 2]
        assert reader.find(CHUNK_ROWS // 2 + 1) == CHUNK_ROWS + 2
        assert reader.header.longest_delay == rows - 1 - (rows - 1) // 2
    assert verify_records(path) == []


@settings(max_examples=30)
@given(st.data())
def test_records_are_found_by_time_and_read_by_time_or_number(data: st.DataObject) -> None:
    picked = data.draw(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3)), unique=True))
    picked.sort()
    time = np.array([T0 + hour * HOUR for hour, _ in picked], dtype=np.int64)
    delay = np.array([wait for _, wait in picked], dtype=np.int64)
    whole = RecordSet({"time": time, "known_at": time + delay, "rate": np.arange(len(picked))})
    edge = st.integers(T0 - 2 * HOUR, T0 + 22 * HOUR) | st.sampled_from([T0, T0 + HOUR])
    row = st.integers(-2, len(picked) + 2)
    with TemporaryDirectory() as folder:
        path = Path(folder, "records.h5")
        write_record_set(path, whole, source="a", series="b", interval=None)
        with RecordReader(path) as reader:
            for _ in range(4):
                start, end = data.draw(edge), data.draw(edge)
                assert_same(reader.slice(start, end), whole.take((time >= start) & (time < end)))
                assert reader.find(start) == int((time < start).sum())
                low, high = data.draw(row), data.draw(row)
                number = np.arange(len(picked))
                assert_same(reader.rows(low, high), whole.take((number >= low) & (number < high)))


# --- layout -------------------------------------------------------------------------------------


def test_every_column_is_compressed_and_checksummed_and_inside_the_file(path: Path) -> None:
    with h5py.File(path) as file:
        assert dict(file.attrs) == {
            "schema": SCHEMA,
            "source": "scripted",
            "series": "funding",
            "interval": 0,
            "rows": 56,
            "digest": digest_of(HELD),
            "revision": "",
            "columns": '["rate", "premium"]',
            "longest_delay": 7800,
            "pending": 0,
        }
        assert set(file) == {"records", "covered", "provenance"}
        assert set(file["records"]) == {*INSTANTS, *COLUMNS}
        for name, data in file["records"].items():
            assert data.compression == "gzip"
            assert data.shuffle == (name in INSTANTS)
            assert data.fletcher32
            assert data.dtype.str == ("<i8" if name in INSTANTS else "<f8")


def test_a_write_that_fails_midway_leaves_the_old_file_and_nothing_else(path: Path) -> None:
    def broken() -> Iterator[RecordSet]:
        yield records_of([90])
        raise RuntimeError("the wire was cut")

    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="the wire was cut"):
        write_records(
            path,
            broken(),
            source="other",
            series="funding",
            interval=None,
            columns=COLUMNS,
            covered=(),
            revision="",
            provenance=(),
        )
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_records_of_another_series_are_told(path: Path) -> None:
    header = read_record_header(path)
    check_record_series(path, header, "scripted", "funding", None)
    with pytest.raises(StoreError, match="holds scripted funding records, not scripted rates: put"):
        check_record_series(path, header, "scripted", "rates", None)
    with pytest.raises(StoreError, match="holds scripted funding records, not scripted funding 1h"):
        check_record_series(path, header, "scripted", "funding", HOUR)


# --- damage -------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"time,rate\n1,2\n", b"\x89HDF\r\n\x1a\n", b"\0" * 5000])
def test_a_file_that_is_no_hdf5_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "records.h5"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="HDF5 file: move it away and run") as caught:
        read_records(path)
    one_line(caught.value, path)


@pytest.mark.parametrize("share", [0.0005, 0.01, 0.1, 0.3, 0.5, 0.9, 0.999, None])
def test_a_file_cut_short_is_refused(path: Path, share: float | None) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: -1 if share is None else int(share * len(whole))])
    with pytest.raises(StoreError) as caught:
        read_records(path)
    one_line(caught.value, path)
    assert verify_records(path) == [str(caught.value)]


def test_a_flipped_byte_is_noticed_or_changes_nothing_that_can_be_read(path: Path) -> None:
    whole, header = path.read_bytes(), read_record_header(path)
    rng = np.random.default_rng(3)
    found = 0
    for at in rng.integers(0, len(whole), 150).tolist():
        spoiled = bytearray(whole)
        spoiled[at] ^= int(rng.integers(1, 256))
        path.write_bytes(spoiled)
        problems = verify_records(path)
        assert all(str(path) in problem and "\n" not in problem for problem in problems)
        found += bool(problems)
        if not problems:
            assert read_record_header(path) == header, f"byte {at} changes the header, unnoticed"
            assert_same(read_records(path), HELD)
    assert found > 40


Spoil = Callable[["h5py.File"], None]


def put(name: str, **how: Any) -> Spoil:
    """Put another dataset in the place of one."""

    def spoil(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, **how)

    return spoil


def attribute(name: str, value: Any) -> Spoil:
    def spoil(file: h5py.File) -> None:
        file.attrs[name] = value

    return spoil


def without(name: str) -> Spoil:
    def spoil(file: h5py.File) -> None:
        del file[name]

    return spoil


def without_attribute(name: str) -> Spoil:
    def spoil(file: h5py.File) -> None:
        del file.attrs[name]

    return spoil


def external_link(file: h5py.File) -> None:
    del file["records/rate"]
    file["records/rate"] = h5py.ExternalLink("other.h5", "rate")


def nudge(name: str, by: float) -> Spoil:
    def spoil(file: h5py.File) -> None:
        file["records"][name][7] += by

    return spoil


SPOILS: dict[str, tuple[Spoil, str]] = {
    "another schema": (attribute("schema", 9), r"no.* file of records of schema 1 \(it has 9\)"),
    "no records": (without("records"), "no group 'records'"),
    "no time": (without("records/time"), "no dataset 'records/time'"),
    "no rate": (without("records/rate"), "no dataset 'records/rate'"),
    "no columns": (without_attribute("columns"), "no attribute 'columns'"),
    "columns that are no JSON": (attribute("columns", "[rate"), "damaged"),
    "columns that are no list": (attribute("columns", '{"rate": 1}'), "'columns' is no list"),
    "columns that are numbers": (attribute("columns", "[1]"), "'columns' is no list"),
    "a column twice": (attribute("columns", '["rate", "rate"]'), "'columns' is no list"),
    "known_at as a value": (attribute("columns", '["known_at"]'), "'columns' is no list"),
    "a path for a column": (attribute("columns", '["../covered"]'), "'columns' is no list"),
    "other columns": (attribute("columns", '["rate"]'), "not those that were written"),
    "no delay": (without_attribute("longest_delay"), "no attribute 'longest_delay'"),
    "no interval": (without_attribute("interval"), "no attribute 'interval'"),
    "a negative interval": (attribute("interval", -5), "interval is -5"),
    "another grid": (attribute("interval", 7), "damaged.* not on the grid of 7s"),
    "an interval longer than the delay": (attribute("interval", HOUR), "known before its 1h are"),
    "no covered": (without("covered"), "no dataset 'covered'"),
    "other rows": (attribute("rows", 30), "does not hold 30 numbers"),
    "texts for rate": (put("records/rate", data=[b"1"] * 56), "column 'rate'"),
    "float time": (put("records/time", data=HELD.time + 0.5), "'time'"),
    "unsorted times": (put("records/time", data=HELD.time[::-1]), "damaged"),
    "a far time": (put("records/time", data=HELD.time * 1000), "damaged"),
    "an infinite rate": (nudge("rate", np.inf), "damaged.*rate is infinite"),
    "known before its time": (nudge("known_at", -5000), "damaged.*known before the time that"),
    "external link": (external_link, "no dataset 'records/rate'"),
    "another value": (nudge("rate", 1.0), "the records are not those that were written"),
    "known a second earlier": (nudge("known_at", -1), "the records are not those that were"),
}


@pytest.mark.parametrize("what", SPOILS)
def test_a_file_that_is_not_as_written_is_refused(path: Path, what: str) -> None:
    spoil, problem = SPOILS[what]
    with h5py.File(path, "r+") as file:
        spoil(file)
    with pytest.raises(StoreError, match=problem) as caught:
        read_records(path)
    one_line(caught.value, path)
    assert str(caught.value) in verify_records(path)


def test_verification_finds_what_the_file_says_wrongly_of_itself(path: Path) -> None:
    assert verify_records(path) == []
    with h5py.File(path, "r+") as file:
        file.attrs["longest_delay"] = 600
        del file["covered"]
        file["covered"] = np.array([hours(10, 90), hours(20, 30)], dtype="<i8")
    told = verify_records(path)
    assert [problem.removeprefix(f"{path}: ").partition(":")[0] for problem in told] == [
        "records were known up to 7800 seconds after their time, not up to 600 as it says",
        "the covered spans overlap or are out of order",
        "7 records lie outside the spans asked for",
    ]


def test_chunks_that_do_not_follow_each_other_are_found(tmp_path: Path) -> None:
    """Each is in order by itself, and a record may stand at the end of one and begin the next."""
    rows = CHUNK_ROWS
    one = RecordSet(
        {"time": np.arange(rows), "known_at": np.arange(rows) + 5, "rate": np.ones(rows)}
    )
    twice = one.slice(rows - 1, rows)
    path = write(tmp_path / "records.h5", one, twice, columns=["rate"], covered=[(0, rows + 1)])
    (problem,) = verify_records(path)
    assert "records are out of order at 1970-01-04T00:49:03Z" in problem


# --- export -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out.parquet", "out.csv"])
def test_what_is_exported_reads_back_the_same(path: Path, name: str) -> None:
    from btc_datamodule import Records

    output = export_records(path, hours(0, 100), path.parent / name)
    source = Records(str(output), time="time", known_at="known_at", columns=COLUMNS)
    (block,) = source.blocks((0, T0 + 10**9))
    assert_same(block.records, HELD)
    assert list(path.parent.glob("*.tmp")) == []


def test_instants_are_utc_timestamps_and_what_is_not_there_is_nothing(path: Path) -> None:
    import polars as pl

    frame = pl.read_parquet(export_records(path, hours(0, 2), path.parent / "out.parquet"))
    assert frame.columns == [*INSTANTS, *COLUMNS]
    assert [str(each) for each in frame["known_at"]] == [
        "2020-01-01 00:10:00+00:00",
        "2020-01-01 01:10:00+00:00",
    ]
    assert frame["premium"].to_list()[0] is None
    text = export_records(path, hours(0, 1), path.parent / "out.csv").read_text()
    assert text.splitlines()[1] == "2020-01-01T00:00:00Z,2020-01-01T00:10:00Z,0.0,"


def test_the_provenance_is_plain_json_for_others(path: Path) -> None:
    with h5py.File(path) as file:
        (text,) = file["provenance"][:]
    assert json.loads(text)["origin"] == PROVENANCE[0].origin
