"""Feature files that lie, digest and all: one line, soon, in little memory; and built again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from btc_datamodule import BTCDataModule, StoreError
from btc_datamodule.audit.verify import verify_table
from btc_datamodule.features import contents
from btc_datamodule.features.layout import ATTRIBUTES, BAR_COLUMNS, SMALL, combine_digests
from btc_datamodule.features.table import Table
from tests.factories import make_datamodule
from tests.store.test_hostile import behind_a_pipe, bounded

Lie = Callable[[h5py.File], Any]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    make_datamodule(folder, ready=False).prepare_data()
    return folder


@pytest.fixture
def dm(prepared: Path, tmp_path: Path) -> BTCDataModule:
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    return make_datamodule(tmp_path, ready=False)


def find(dm: BTCDataModule) -> Path:
    (path,) = dm.candle_path.parent.glob("features-*.h5")
    return path


def sign(file: h5py.File) -> None:
    """The digest that belongs to what a file says of itself now, if there can be one."""
    small = {name: file[name][()] for name in SMALL}
    told = {name: file.attrs[name] for name in ATTRIBUTES}
    file.attrs["digest"] = combine_digests(small["segment_digest"], file["x"].shape, small, told)


def say(name: str, value: Any) -> Lie:
    def lie(file: h5py.File) -> None:
        file.attrs[name] = value
        sign(file)

    return lie


def add(name: str, more: int) -> Lie:
    def lie(file: h5py.File) -> None:
        file.attrs[name] += more
        sign(file)

    return lie


def put(name: str, change: Callable[[Any], Any]) -> Lie:
    """Other values in the place of a small dataset."""

    def lie(file: h5py.File) -> None:
        values = change(file[name][()])
        del file[name]
        file[name] = values
        sign(file)

    return lie


def swap(name: str, **how: Any) -> Lie:
    """Another dataset, that the digest does not count: it would take too long to read."""

    def lie(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, **how)

    return lie


def move(name: str) -> Lie:
    """An array whose place is said to be past the end of the file."""

    def lie(file: h5py.File) -> None:
        shape, kind = file[name].shape, file[name].dtype
        del file[name]
        how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        how.set_layout(h5py.h5d.CONTIGUOUS)
        how.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
        space = h5py.h5s.create_simple(shape)
        h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(kind), space, how)

    return lie


def one_more_row(values: Any) -> Any:
    return np.concatenate([values, values[-1:]])


def nothing(values: Any) -> Any:
    return np.full_like(values, np.nan)


def widen(file: h5py.File, rows: int, features: int) -> None:
    """All arrays of other sizes, and none of them written, which takes no room on a disk."""
    sizes = {
        "x": (rows, features),
        **dict.fromkeys(("observed", *BAR_COLUMNS), (rows,)),
        **dict.fromkeys(("segment_count", "segment_mean", "segment_squares"), (1, features)),
        "valued": (features,),
    }
    for name, shape in sizes.items():
        kind = file[name].dtype
        del file[name]
        how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        how.set_layout(h5py.h5d.CONTIGUOUS)
        how.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        how.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        space = h5py.h5s.create_simple(shape)
        h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(kind), space, how)
    file.attrs["first"] = 0


LIES: dict[str, Lie] = {
    "a hundred million features": lambda file: widen(file, 8, 10**8),
    "an array behind a pipe": behind_a_pipe("close"),
    "runs behind a pipe": behind_a_pipe("holes"),
    "interval 0": say("interval", 0),
    "interval 2**62": say("interval", 2**62),
    "an interval below 0": say("interval", -3600),
    "first far away": say("first", 2**62),
    "first a little later": add("first", 3600),
    "first off the grid": add("first", 1),
    "no warm-up": say("warm_up", 0),
    "a warm-up longer than the table": say("warm_up", 10**6),
    "a warm-up below 0": say("warm_up", -1),
    "one more bar present": add("present", 1),
    "a larger max_fill": add("max_fill", 2),
    "a max_fill below 0": say("max_fill", -1),
    "features that are no list": say("features", '{"a": 1}'),
    "features that are numbers": say("features", "[1, 2, 3]"),
    "no features": say("features", "[]"),
    "one feature too many": say("features", '["a", "b", "c", "d"]'),
    "other features": say("features", '["a", "b", "c"]'),
    "features of many brackets": say("features", "[" * 60_000),
    "another key": say("key", "0" * 16),
    "another mask": say("mask", "feature"),
    "no mask that there is": say("mask", "row"),
    "a flag where there is none": say("flag", 1),
    "many flags": say("flag", 2),
    "files beside it that are no list": say("beside", "{}"),
    "files beside it without a digest": say("beside", '[["eth"]]'),
    "files beside it of many brackets": say("beside", "[" * 60_000),
    "values everywhere": put("valued", lambda values: values + 10**6),
    "values nowhere": put("valued", lambda values: values * 0),
    "values of more": put("valued", one_more_row),
    "cells with a mask of bars": put("unobserved_cells", lambda _: np.array([[0, 0, 1]])),
    "a reach that nobody wrote": lambda file: file.create_dataset("reach", data=file["observed"]),
    "another reach": lambda file: file.create_dataset("reach", data=file["close"][()].view("i8")),
    "other candles under another key": say("candles", "0" * 64),
    "an attribute more": lambda file: file.attrs.update({"more": 1}),
    "an attribute of many": say("schema", np.full(10**5, 4)),
    "a billion holes": swap("holes", shape=(10**9, 2), dtype="<i8", chunks=(4096, 2)),
    "a billion unobserved runs": swap("unobserved", shape=(10**9, 2), dtype="<i8"),
    "runs in a row": swap("unobserved", data=np.arange(6)),
    "runs in threes": swap("holes", data=np.arange(6).reshape(2, 3)),
    "runs as numbers with a point": swap("holes", data=np.ones((2, 2))),
    "runs out of order": put("unobserved", lambda runs: runs[::-1]),
    "runs that overlap": put("unobserved", one_more_row),
    "runs that are empty": put("holes", lambda runs: runs[:, [0, 0]]),
    "runs past the end": put("unobserved", lambda runs: runs + 10**6),
    "runs below 0": put("holes", lambda runs: runs - 10**6),
    "a hole at the beginning": put("holes", lambda runs: np.concatenate([[[0, 1]], runs])),
    "no hole": put("holes", lambda runs: runs[:0]),
    "all is observed": put("unobserved", lambda runs: runs[:0]),
    "a run of no feature": put("undefined", lambda _: np.array([[3, 1, 2]])),
    "a run of a feature past the end": put("undefined", lambda _: np.array([[0, 1, 10**6]])),
    "runs of a feature that overlap": put("undefined", lambda _: np.array([[0, 3, 5], [0, 4, 6]])),
    "features out of order": put("undefined", lambda _: np.array([[1, 3, 5], [0, 7, 8]])),
    "a billion runs of a feature": swap("undefined", shape=(10**9, 3), dtype="<i8"),
    "runs of a feature in pairs": swap("undefined", data=np.arange(4).reshape(2, 2)),
    "means of nothing": put("segment_mean", nothing),
    "deviations of nothing": put("segment_squares", nothing),
    "deviations below 0": put("segment_squares", lambda values: -values - 1),
    "counts of others": put("segment_count", lambda values: values + 1),
    "a segment more": put("segment_count", one_more_row),
    "digests of another length": swap("segment_digest", data=np.ones((1, 7, 20), dtype="u1")),
    "no rows": swap("x", shape=(0, 3), dtype="<f4"),
    "rows without end": swap("x", shape=(2**40, 3), dtype="<f4"),
    "x in chunks": swap("x", shape=(10**9, 3), dtype="<f4", chunks=(1000, 3)),
    "x of records": swap("x", data=np.zeros((3, 3), dtype=[("a", "<f4")])),
    "x of references": swap("x", shape=(3, 3), dtype=h5py.ref_dtype),
    "x of texts": swap("x", shape=(3, 3), dtype=h5py.string_dtype()),
    "bars that lie nowhere": move("close"),
    "a soft link": lambda file: (
        file.move("close", "c"),
        file.update({"close": h5py.SoftLink("c")}),
    ),
    "an external link": lambda file: (
        file.pop("close"),
        file.update({"close": h5py.ExternalLink("other.h5", "close")}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", LIES)
def test_a_lie_ends_setup_and_verify_in_one_line_and_the_advice_works(
    dm: BTCDataModule, what: str
) -> None:
    path = find(dm)
    whole = path.read_bytes()
    with h5py.File(path, "r+") as file:
        LIES[what](file)
    with bounded():
        with pytest.raises(StoreError) as caught:
            dm.setup()
        told = str(caught.value)
        assert str(path) in told
        assert "\n" not in told
        assert len(told) < 400 + len(str(path))
        assert "delete it and run `btc-datamodule prepare`" in told
        path.unlink()
        dm.prepare_data()
    dm.setup()
    assert path.read_bytes() == whole


@pytest.mark.parametrize("what", ["interval 0", "a billion holes", "means of nothing"])
def test_prepare_builds_a_file_again_that_lies(dm: BTCDataModule, what: str) -> None:
    path = find(dm)
    whole = path.read_bytes()
    with h5py.File(path, "r+") as file:
        LIES[what](file)
    assert len(verify_table(path)) == 1
    with bounded():
        dm.prepare_data()
    assert path.read_bytes() == whole
    assert verify_table(path) == []


def test_small_arrays_that_the_disk_does_not_hold_are_not_read(
    dm: BTCDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "SMALL_BYTES", 1 << 12)
    monkeypatch.setattr(contents, "PACKED", 1)
    path = find(dm)
    with h5py.File(path, "r+") as file:
        widen(file, 8, 20_000)
        file.attrs["features"] = json.dumps([""] * 20_000)
    with pytest.raises(StoreError, match="'segment_count' is larger than what the disk holds of"):
        Table.open(path)


def test_bytes_beside_the_arrays_are_refused(dm: BTCDataModule) -> None:
    path = find(dm)
    with h5py.File(path, "r+") as file:
        file.create_dataset("more", data=np.zeros(1 << 24))
        sign(file)
    with pytest.raises(StoreError, match=r"it has 134,[\d,]+ bytes beside its arrays: delete it"):
        Table.open(path)


def test_a_file_that_is_as_it_was_written_is_opened(dm: BTCDataModule) -> None:
    path = find(dm)
    with h5py.File(path, "r+") as file:
        before = file.attrs["digest"]
        sign(file)
        assert file.attrs["digest"] == before
    table = Table.open(path)
    assert json.loads(json.dumps(table.features)) == ["log_return", "log_range", "log_volume"]
    assert table.path == path
