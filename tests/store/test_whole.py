"""Sources that are read whole: what they say now replaces what came from them."""

import os
import signal
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btc_datamodule import BTCDataModule, CandleFile
from btc_datamodule.candles.series import Candles
from btc_datamodule.errors import SourceError
from btc_datamodule.store import candle_file
from btc_datamodule.store.candle_file import read_candles, read_header
from btc_datamodule.store.update import Update, update
from tests.factories import HOUR, T0, candles_of, changed
from tests.helpers import assert_same, digest_of
from tests.store.test_crash import FORKED
from tests.store.test_update import HOLED, Scripted, revised, rows, run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scripted" / "BTC" / "1h" / "candles.h5"


def read(path: Path, candles: Candles, token: str, refresh: bool = False) -> Update:
    return run(path, Scripted(candles, token=token), 0, 60, refresh)


SAYS = "scripted BTC: it says something else than when it was last read: "
TAKEN = ": what it says now replaces what was stored"


@pytest.mark.parametrize("refresh", [False, True])
def test_what_has_changed_is_taken_and_told(path: Path, refresh: bool) -> None:
    read(path, Scripted().candles, "a")
    found = read(path, revised(), "b", refresh)
    assert_same(read_candles(path), revised())
    assert found.notes == (f"{SAYS}2 candles differ, the first at 2020-01-01T12:00:00Z{TAKEN}",)
    assert (found.added, found.header.digest) == (0, digest_of(revised()))


def test_what_is_gone_is_gone_and_what_is_new_is_there(path: Path) -> None:
    read(path, Scripted().candles, "a")
    other = HOLED.copy()
    other[[7, 8]] = True
    other[[30, 31, 32, 59]] = False
    now = candles_of(other, optional=["trades"])
    found = read(path, now, "b")
    assert_same(read_candles(path), now)
    assert found.notes == (
        f"{SAYS}4 candles are gone, the first at 2020-01-02T06:00:00Z; 2 candles are new before "
        f"the end of what was stored, the first at 2020-01-01T07:00:00Z{TAKEN}",
    )
    assert found.added == 2


def test_a_file_that_grows_at_its_end_has_not_changed(path: Path) -> None:
    series = Scripted().candles
    read(path, series.slice(*rows(0, 40)), "a")
    found = read(path, series, "b")
    assert found.notes == ()
    assert found.added == len(series.slice(*rows(40, 60)))


def test_provenance_and_answered_spans_are_those_of_the_last_reading(path: Path) -> None:
    read(path, Scripted().candles, "a")
    found = read(path, Scripted().candles.slice(*rows(10, 30)), "b").header
    (record,) = found.provenance
    assert (record.span, record.rows) == (rows(10, 30), found.rows)
    assert (found.covered, found.revision, found.span) == ((rows(10, 30),), "b", rows(10, 30))


def test_refresh_reads_again_though_nothing_seems_to_have_changed(path: Path) -> None:
    read(path, Scripted().candles, "a")
    assert read(path, revised(), "a").notes == ()
    assert_same(read_candles(path), Scripted().candles)
    assert "2 candles differ" in read(path, revised(), "a", refresh=True).notes[0]
    assert_same(read_candles(path), revised())


def test_a_source_that_has_nothing_any_more_leaves_nothing(path: Path) -> None:
    read(path, Scripted().candles, "a")
    found = read(path, candles_of(np.zeros(1, dtype=bool)), "b")
    assert (found.header.rows, found.header.revision) == (0, "b")
    assert f"{HOLED.sum()} candles are gone" in found.notes[0]
    assert read(path, Scripted().candles, "c").added == HOLED.sum()


def test_a_column_that_comes_or_goes_is_no_other_candle(path: Path) -> None:
    read(path, candles_of(HOLED), "a")
    assert read(path, candles_of(HOLED, optional=["trades"]), "b").notes == ()
    assert read_header(path).columns[-1] == "trades"
    read(path, candles_of(HOLED), "c")
    assert "trades" not in read_header(path).columns


def test_a_reading_that_breaks_off_leaves_what_was_there(path: Path) -> None:
    read(path, Scripted().candles, "a")
    before = path.read_bytes()
    with pytest.raises(SourceError, match="the wire was cut"):
        run(path, replace(Scripted(revised(), token="b"), fail_after=3), 0, 60)
    assert path.read_bytes() == before
    read(path, revised(), "b")
    assert_same(read_candles(path), revised())
    assert {file.name for file in path.parent.iterdir()} <= {"candles.h5", "candles.lock"}


@given(st.lists(st.sampled_from("saxd"), min_size=1, max_size=60), st.integers(1, 30))
@settings(max_examples=15)
def test_whatever_changes_the_file_is_what_a_first_reading_makes(
    fates: list[str], window: int
) -> None:
    """Each bar stays, is added, changes (x) or is dropped."""
    fate = np.array(["s", *fates])
    before = candles_of(fate != "a", optional=["trades"])
    after = candles_of(fate != "d", optional=["trades"])
    altered = T0 + HOUR * np.flatnonzero(fate == "x")
    volume = after["volume"] + np.isin(after.open_time, altered)
    after = changed(after, volume=volume)
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(candle_file, "CHUNK_ROWS", window)
        path, fresh = Path(folder, "a", "candles.h5"), Path(folder, "b", "candles.h5")
        read(path, before, "a")
        found = read(path, after, "b")
        whole = read(fresh, after, "b")
        assert_same(read_candles(path), after)
        for field in ("digest", "covered", "rows", "span", "revision", "columns"):
            assert getattr(found.header, field) == getattr(whole.header, field)
    assert found.added == (fate == "a").sum()
    said = found.notes[0] if found.notes else ""
    last = before.span[1]
    for letter, what in (("x", "differ"), ("d", "are gone"), ("a", "are new before")):
        times = T0 + HOUR * np.flatnonzero(fate == letter)
        times = times[times < last] if letter == "a" else times
        assert (f"{len(times)} candles {what}" in said) == (len(times) > 0), said


def exchange_whole(path: Path) -> None:
    update(path, Scripted(revised(), token="b"), HOUR, *rows(0, 60))


def test_killed_at_any_moment_the_old_file_or_the_new_one_is_there(path: Path) -> None:
    read(path, Scripted().candles, "a")
    old, new = digest_of(Scripted().candles), digest_of(revised())
    for wait in np.linspace(0.0, 0.4, 9).tolist():
        process = FORKED.Process(target=exchange_whole, args=(path,))
        process.start()
        process.join(wait)
        if process.is_alive():
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        found = read_header(path)
        assert found.digest in (old, new)
        assert found.revision == ("a" if found.digest == old else "b")
        assert digest_of(read_candles(path)) == found.digest
        if found.digest == new:
            read(path, Scripted().candles, "a")
    exchange_whole(path)
    assert read_header(path).digest == new
    assert {file.name for file in path.parent.iterdir()} <= {"candles.h5", "candles.lock"}


# --- files ----------------------------------------------------------------------------------------


def test_a_mended_csv_is_what_is_trained_on(tmp_path: Path) -> None:
    """A bad tick is mended, and five rows are deleted."""
    good = candles_of(np.ones(2000, dtype=bool))
    close, high = good["close"].copy(), good["high"].copy()
    close[700] *= 1.55
    high[700] = close[700] * 1.01
    file = tmp_path / "btc.csv"

    def train(candles: Candles, refresh: bool = False) -> BTCDataModule:
        candles.to_polars().write_csv(file)
        dm = BTCDataModule(
            CandleFile(str(file)),
            lookback=8,
            batch_size=16,
            data_dir=tmp_path / "data",
            refresh=refresh,
        )
        dm.prepare_data()
        dm.setup()
        return dm

    assert train(changed(good, close=close, high=high)).table.bars("close")[700] == close[700]
    kept = np.delete(np.arange(2000), slice(900, 905))
    mended = Candles(HOUR, {name: values[kept] for name, values in good.columns.items()})
    for refresh in (False, True):
        dm = train(mended, refresh=refresh)
        assert dm.table.bars("close")[700] == good["close"][700]
        assert dm.table.present == 1995
        assert dm.table.holes.tolist() == [[900, 905]]
        header = read_header(dm.candle_path)
        assert len(header.provenance) == 1
        assert all(one.span != other.span for one, other in pairwise(header.provenance))
