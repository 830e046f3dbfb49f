"""Records of the archive on their way to disk: months later, with trouble, and where nobody asks.

The clock of these tests stands where they set it: a file of the archive is there once its day or
month is over.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from btc_datamodule import BinanceFunding, BinanceKlines, BinanceMetrics
from btc_datamodule.audit.verify import verify_records
from btc_datamodule.candles.records import RecordSet
from btc_datamodule.candles.timeline import Span, parse_instant
from btc_datamodule.errors import SourceError, StoreError
from btc_datamodule.sources.binance.metrics import COLUMNS
from btc_datamodule.sources.records import RecordSource
from btc_datamodule.store.record_file import RecordHeader, read_record_header, read_records
from btc_datamodule.store.update import RecordUpdate, update_records, use_stored
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import BinanceArchiveAnswers, Exchange, zipped
from tests.factories import HOUR
from tests.sources.binance.helpers import BROKEN_FILES, QUICK, asked, rows_of

NOTHING_YET = (
    "binance BTCUSDT-um-funding: the archive has no fundingRate file for {} yet: no answer for it, "
    "nor for what comes after it, which is asked for again by the next run"
)
NOT_ANSWERED = (
    "binance BTCUSDT-um-{}: not answered yet: {} between {} and {}: neither records nor holes, and "
    "asked for again by the next run"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "binance" / "BTCUSDT-um-metrics" / "records.h5"


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets the clock."""
    return lambda text: monkeypatch.setattr(time, "time", lambda: float(parse_instant(text)))


def metrics(start: str, end: str, first: float = 1.0) -> BinanceArchiveAnswers:
    """An archive whose open interest of each five minutes is one more than that before it."""
    times = np.arange(parse_instant(start), parse_instant(end), 300)
    values = {name: first + column + np.arange(len(times)) for column, name in enumerate(COLUMNS)}
    held = RecordSet({"time": times, "known_at": times + 300, **values})
    return BinanceArchiveAnswers(held, market="um", type="metrics")


def funding(start: str, end: str) -> BinanceArchiveAnswers:
    times = np.arange(parse_instant(start), parse_instant(end), 8 * HOUR)
    values = {"rate": 1e-4 * np.arange(len(times)), "interval_hours": 0 * times + 8}
    held = {"time": times, "known_at": times, **values, "calc_time": 1000 * times}
    return BinanceArchiveAnswers(RecordSet(held), market="um", type="fundingRate")


def premium(start: str, end: str) -> BinanceArchiveAnswers:
    times = np.arange(parse_instant(start), parse_instant(end), HOUR)
    middle = 1e-3 * np.sin(times / 7e4)
    bars = {"open": middle, "high": middle + 1e-4, "low": middle - 1e-4, "close": middle - 5e-5}
    held = RecordSet({"time": times, "known_at": times + HOUR, **bars})
    return BinanceArchiveAnswers(held, market="um", type="premiumIndexKlines", interval=HOUR)


def ask(exchange: Exchange, made: type[Any] = BinanceMetrics, **changes: Any) -> Any:
    """A source at the test server, with one download at a time: in an order that is known."""
    return made(base_url=exchange.url, **{**QUICK, "downloads": 1, **changes})


def run(
    path: Path, source: RecordSource, start: str, end: str | None, *, refresh: bool = False
) -> RecordUpdate:
    until = None if end is None else parse_instant(end)
    return update_records(path, source, parse_instant(start), until, refresh=refresh)


def span_of(start: str, end: str) -> Span:
    return parse_instant(start), parse_instant(end)


def assert_holds(path: Path, held: RecordSet | Any) -> None:
    """The file has these records and no others, agrees with itself, and nothing lies about."""
    stored = read_records(path)
    assert set(stored.columns) == set(held.columns)
    for name in held.columns:
        np.testing.assert_array_equal(stored[name], held[name], err_msg=name)
    assert verify_records(path) == []
    assert {file.name for file in path.parent.iterdir()} <= {"records.h5", "records.lock"}


def facts(header: RecordHeader) -> RecordHeader:
    """A header without the times of retrieval."""
    provenance = tuple(replace(each, retrieved="") for each in header.provenance)
    return replace(header, provenance=provenance)


def take_names(exchange: Exchange) -> list[str]:
    """The dates of the zips that were asked for since this was asked last."""
    dates = asked(exchange)
    exchange.requests.clear()
    return dates


# --- first, and later -----------------------------------------------------------------------------


def test_what_is_there_comes_once_and_what_appears_later_is_added(
    path: Path, at: Callable[[str], None]
) -> None:
    answers = metrics("2024-01-30", "2024-02-05")
    at("2024-02-02T09:00")
    with Exchange(answers) as exchange:
        found = run(path, ask(exchange), "2024-01-30", None)
        assert take_names(exchange) == ["2024-01-30", "2024-01-31", "2024-02-01"]
        assert (found.added, found.notes) == (3 * 288, ())
        assert found.header.covered == (span_of("2024-01-30", "2024-02-02"),)
        assert_holds(path, answers.held.slice(*span_of("2024-01-30", "2024-02-02")))
        before = path.read_bytes()
        assert run(path, ask(exchange), "2024-01-30", None).added == 0
        assert (take_names(exchange), path.read_bytes()) == ([], before)
        at("2024-02-04T09:00")
        found = run(path, ask(exchange), "2024-01-30", None)
        assert take_names(exchange) == ["2024-02-02", "2024-02-03"]
    assert (found.added, found.header.rows, found.notes) == (2 * 288, 5 * 288, ())
    assert found.header.covered == (span_of("2024-01-30", "2024-02-04"),)
    assert found.header.longest_delay == 300
    assert_holds(path, answers.held.slice(*span_of("2024-01-30", "2024-02-04")))


def test_bars_of_a_premium_come_by_the_month_and_then_by_the_day(
    path: Path, at: Callable[[str], None]
) -> None:
    answers = premium("2024-01-01", "2024-04-01")
    at("2024-02-03T09:00")
    with Exchange(answers) as exchange:
        source = ask(exchange, BinanceKlines, kind="premium", interval="1h")
        run(path, source, "2024-01-01", None)
        assert take_names(exchange) == ["2024-01", "2024-02-01", "2024-02-02"]
        at("2024-04-02T09:00")
        found = run(path, source, "2024-01-01", None)
        days = take_names(exchange)
        assert (days[0], days[-1], len(days)) == ("2024-02-03", "2024-04-01", 29)
    assert found.header.interval == HOUR
    assert (read_records(path)["close"] < 0).sum() > 1000
    assert_holds(path, answers.held.slice(*span_of("2024-01-01", "2024-04-01")))


def test_of_funding_the_month_that_is_not_there_is_asked_for_again_and_no_other(
    path: Path, at: Callable[[str], None]
) -> None:
    answers = funding("2024-01-01", "2024-04-01")
    at("2024-03-10T12:00")
    with Exchange(answers) as exchange:
        source = ask(exchange, BinanceFunding)
        for dates in (["2024-01", "2024-02"], []):  # that of March cannot be there yet
            found = run(path, source, "2024-01-01", None)
            assert take_names(exchange) == dates
            assert found.notes[0] == NOTHING_YET.format("2024-03")
            assert found.notes[1] == NOT_ANSWERED.format(
                "funding", "records", "2024-03-01T00:00:00Z", "2024-03-10T12:00:00Z"
            )
        assert_holds(path, answers.held.slice(*span_of("2024-01-01", "2024-03-01")))
        before = path.read_bytes()
        at("2024-04-03T00:00")
        answers.missing.add("BTCUSDT-fundingRate-2024-03.zip")
        for _ in range(2):
            found = run(path, source, "2024-01-01", None)
            assert take_names(exchange) == ["2024-03"]
            assert found.notes[0] == NOTHING_YET.format("2024-03")
            assert (found.added, path.read_bytes()) == (0, before)
        answers.missing.clear()
        found = run(path, source, "2024-01-01", None)
        assert take_names(exchange) == ["2024-03"]
    assert (found.added, found.notes[0]) == (93, NOTHING_YET.format("2024-04"))
    assert found.header.covered == (span_of("2024-01-01", "2024-04-01"),)
    assert_holds(path, answers.held)


def test_the_day_on_which_labels_change_is_stored_without_a_seam(
    path: Path, at: Callable[[str], None]
) -> None:
    answers = metrics("2026-06-24", "2026-06-27")
    at("2026-07-01T00:00")
    with Exchange(answers) as exchange:
        found = run(path, ask(exchange), "2026-06-24", "2026-06-27")
    last, first = (
        answers.csv(f"BTCUSDT-metrics-2026-06-{day}.zip").decode().splitlines() for day in (24, 25)
    )
    assert last[-1].startswith("2026-06-25 00:00:00,BTCUSDT,288.0,")
    assert first[1].startswith("2026-06-25 00:00:00,BTCUSDT,289.0,")
    assert (found.header.rows, found.notes) == (3 * 288, ())
    stored = read_records(path).slice(*span_of("2026-06-24T23:50", "2026-06-25T00:10"))
    assert rows_of(stored, "sum_open_interest") == [
        ("2026-06-24T23:50:00", "2026-06-24T23:55:00", 287.0),
        ("2026-06-24T23:55:00", "2026-06-25T00:00:00", 288.0),
        ("2026-06-25T00:00:00", "2026-06-25T00:05:00", 289.0),
        ("2026-06-25T00:05:00", "2026-06-25T00:10:00", 290.0),
    ]
    assert_holds(path, answers.held)


def test_a_day_without_a_file_is_settled_with_a_note_until_refresh_asks_again(
    path: Path, at: Callable[[str], None]
) -> None:
    answers, name = metrics("2024-01-01", "2024-01-04"), "BTCUSDT-metrics-2024-01-02.zip"
    answers.missing.add(name)
    at("2024-02-01T00:00")
    with Exchange(answers) as exchange:
        source = ask(exchange)
        found = run(path, source, "2024-01-01", "2024-01-04")
        assert found.notes[0] == (
            "binance BTCUSDT-um-metrics: the archive has no metrics file for 2024-01-02: taken as "
            "without records (`refresh: true` asks again)"
        )
        assert found.header.covered == (span_of("2024-01-01", "2024-01-04"),)
        assert found.header.rows == 2 * 288
        answers.missing.clear()
        exchange.requests.clear()
        run(path, source, "2024-01-01", "2024-01-04")
        assert exchange.requests == []
        found = run(path, source, "2024-01-01", "2024-01-04", refresh=True)
    assert (found.added, found.notes) == (288, ())
    assert_holds(path, answers.held)


# --- files that are wrong, and files that are issued again ----------------------------------------


@pytest.mark.parametrize("said", ["its sha256 is", "the zip is damaged or cut short"])
def test_a_file_that_is_wrong_is_set_aside_and_comes_when_it_is_right(
    path: Path, at: Callable[[str], None], said: str
) -> None:
    answers, name = metrics("2024-01-01", "2024-01-04"), "BTCUSDT-metrics-2024-01-02.zip"
    right = zipped(name.replace(".zip", ".csv"), answers.csv(name))
    answers.files |= BROKEN_FILES[said](name, right)
    at("2024-02-01T00:00")
    with Exchange(answers) as exchange:
        source = ask(exchange)
        found = run(path, source, "2024-01-01", "2024-01-04")
        assert found.notes[0].startswith(f"binance {name}: {said}")
        assert found.notes[1] == NOT_ANSWERED.format(
            "metrics", "288 records", "2024-01-02T00:00:00Z", "2024-01-03T00:00:00Z"
        )
        assert found.header.covered == (
            span_of("2024-01-01", "2024-01-02"),
            span_of("2024-01-03", "2024-01-04"),
        )
        assert found.header.rows == 2 * 288
        take_names(exchange)
        before = path.read_bytes()
        found = run(path, source, "2024-01-01", "2024-01-04")  # still wrong
        assert {*take_names(exchange)} == {"2024-01-02"}
        assert (len(found.notes), path.read_bytes()) == (2, before)
        answers.files.clear()
        found = run(path, source, "2024-01-01", "2024-01-04")
        assert take_names(exchange) == ["2024-01-02"]
    assert (found.added, found.notes) == (288, ())
    assert_holds(path, answers.held)


def test_where_every_file_is_wrong_that_is_told_and_nothing_is_settled(
    path: Path, at: Callable[[str], None]
) -> None:
    answers, name = metrics("2024-01-01", "2024-01-02"), "BTCUSDT-metrics-2024-01-01.zip"
    answers.files |= BROKEN_FILES["its sha256 is"](name, answers.csv(name))
    at("2024-02-01T00:00")
    with Exchange(answers) as exchange:
        found = run(path, ask(exchange), "2024-01-01", "2024-01-02")
        assert found.notes[0].startswith(f"binance {name}: its sha256 is")
        assert found.header.covered == ()
        answers.files.clear()
        run(path, ask(exchange), "2024-01-01", "2024-01-02")
    assert_holds(path, answers.held)


def test_a_file_that_is_issued_again_is_taken_by_refresh_alone(
    path: Path, at: Callable[[str], None]
) -> None:
    first, again = metrics("2024-01-01", "2024-01-03"), metrics("2024-01-01", "2024-01-03")
    second = "BTCUSDT-metrics-2024-01-02.zip"
    held = {name: values.copy() for name, values in again.held.columns.items()}
    held["sum_open_interest"][300:305] += 0.5
    again.held = RecordSet(held)
    at("2024-02-01T00:00")
    with Exchange(first) as exchange:
        source = ask(exchange)
        before = run(path, source, "2024-01-01", "2024-01-03").header
        exchange.answer = again
        exchange.requests.clear()
        assert run(path, source, "2024-01-01", "2024-01-03").header == before
        assert exchange.requests == []
        found = run(path, source, "2024-01-01", "2024-01-03", refresh=True)
    assert found.notes == (
        "binance BTCUSDT-um-metrics: 5 records came back different from what is stored, the first "
        "at 2024-01-02T01:00:00Z: replaced",
    )
    old, new = ({each.checksum for each in header.provenance} for header in (before, found.header))
    assert len(new) == 3  # of each file as it was, and of the second as it is
    assert old < new
    assert second in found.header.provenance[-1].origin
    assert_holds(path, again.held)


# --- killed, cut off, out of reach ----------------------------------------------------------------

LASTING = ("2024-01-01", "2024-01-06")

PREPARE = """
import sys
from pathlib import Path
from btc_datamodule.sources.binance.metrics import BinanceMetrics
from btc_datamodule.store import parts
from btc_datamodule.store.update import update_records
parts.PART_SECONDS = 0.0  # a part for each file
path, url, start, end = sys.argv[1:]
update_records(Path(path), BinanceMetrics(base_url=url, downloads=1), int(start), int(end))
"""


def test_killed_in_the_middle_it_goes_on_from_there_to_the_same_file(
    path: Path, tmp_path: Path
) -> None:
    answers, came = metrics(*LASTING), 3
    with Exchange(answers) as exchange:
        whole = run(tmp_path / "whole" / "records.h5", ask(exchange), *LASTING).header
        exchange.requests.clear()
        exchange.faults += [*[None] * (2 * came), *[ex.Silence(60)] * 3]
        given = [str(path), exchange.url, *map(str, span_of(*LASTING))]
        with subprocess.Popen([sys.executable, "-c", PREPARE, *given]) as process:
            lying = path.with_suffix(".parts")
            while len([*lying.glob("*.h5")]) < came:
                assert process.poll() is None
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        assert not path.exists()
        exchange.faults.clear()
        exchange.requests.clear()
        found = run(path, ask(exchange), *LASTING)
        assert take_names(exchange) == [f"2024-01-0{day}" for day in range(came + 1, 6)]
    assert found.added == 5 * 288
    assert facts(found.header) == facts(whole)
    assert_holds(path, answers.held)


@pytest.mark.parametrize("fault", [ex.CUT, ex.CUT_SHORT, ex.UNAVAILABLE, ex.TOO_MANY_REQUESTS])
def test_a_connection_that_is_cut_is_tried_again(path: Path, fault: ex.Fault) -> None:
    answers = metrics("2024-01-01", "2024-01-03")
    with Exchange(answers) as exchange:
        exchange.faults += [None, fault, None, fault]
        found = run(path, ask(exchange), "2024-01-01", "2024-01-03")
    assert (found.added, found.notes) == (2 * 288, ())
    assert_holds(path, answers.held)


def test_what_came_before_the_archive_went_down_is_kept_and_not_asked_for_again(
    path: Path,
) -> None:
    answers = metrics("2024-01-01", "2024-01-04")
    with Exchange(answers) as exchange:
        exchange.faults += [*[None] * 4, *[ex.CUT] * 20]
        with pytest.raises(SourceError, match=r"BTCUSDT-metrics-2024-01-03\.zip"):
            run(path, ask(exchange), "2024-01-01", "2024-01-04")
        assert not path.exists()
        exchange.faults.clear()
        exchange.requests.clear()
        found = run(path, ask(exchange), "2024-01-01", "2024-01-04")
        assert take_names(exchange) == ["2024-01-03"]
    assert found.added == 3 * 288
    assert_holds(path, answers.held)


def test_an_archive_that_is_down_is_an_error_until_there_is_something_to_use(
    path: Path, at: Callable[[str], None]
) -> None:
    answers = metrics("2024-01-01", "2024-01-06")
    at("2024-01-03T00:00")
    with Exchange(answers) as exchange:
        source = ask(exchange)
        exchange.faults += [ex.CUT] * 20
        with pytest.raises(SourceError, match=r"2024-01-01\.zip"):
            run(path, source, "2024-01-01", None)
        assert not path.parent.exists()
        exchange.faults.clear()
        run(path, source, "2024-01-01", None)
        at("2024-01-05T00:00")
        exchange.faults += [ex.CUT] * 20
        before = path.read_bytes()
        [note] = run(path, source, "2024-01-01", None).notes
        assert note.startswith("binance BTCUSDT-um-metrics: ")
        assert note.endswith(
            ": what is stored is used, up to 2024-01-02T23:55:00Z; `offline: true` asks nothing"
        )
        assert path.read_bytes() == before
        with pytest.raises(SourceError, match=r"2024-01-03\.zip"):
            run(path, source, "2024-01-01", "2024-01-05")  # these are needed
        exchange.faults.clear()
        assert run(path, source, "2024-01-01", None).notes == ()
    assert_holds(path, answers.held.slice(*span_of("2024-01-01", "2024-01-05")))


def test_a_product_that_there_is_not_leaves_nothing_behind(path: Path) -> None:
    with Exchange(metrics("2024-01-01", "2024-02-01")) as exchange:
        with pytest.raises(SourceError, match=r"no metrics files of BTCUSDC \(um\).*check `source"):
            run(path, ask(exchange, product="BTCUSDC"), "2024-01-01", "2024-02-01")
        assert not path.parent.exists()


def test_the_record_of_the_very_end_is_welcome_and_not_needed(
    path: Path, at: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the first of a month whose file is not there, though all of ``end`` has passed."""
    answers = funding("2024-01-01", "2024-04-01")
    span = span_of("2024-01-01", "2024-03-01")
    at("2024-03-10T00:00")
    with Exchange(answers) as exchange:
        source = ask(exchange, BinanceFunding)
        update = partial(update_records, path, source, *span)
        assert update().notes == ()
        for _ in range(2):
            assert update(with_end=True).notes[0] == NOTHING_YET.format("2024-03")
        assert take_names(exchange) == ["2024-01", "2024-02"]
        at("2024-04-02T00:00")
        before = path.read_bytes()
        exchange.faults += [ex.CUT] * 20
        [note] = update(with_end=True).notes
        assert note.endswith("is used, up to 2024-02-29T16:00:00Z; `offline: true` asks nothing")
        with monkeypatch.context() as shut:
            shut.setattr("os.access", lambda *_: False)
            [note] = update(with_end=True).notes
            assert "cannot be written, so that nothing is added" in note
        assert path.read_bytes() == before
        exchange.faults.clear()
        found = update(with_end=True)
    assert (found.added, found.notes, found.header.covered) == (1, (), ((span[0], span[1] + 1),))
    assert_holds(path, answers.held.slice(span[0], span[1] + 1))


# --- nobody is asked ------------------------------------------------------------------------------


def test_offline_what_is_stored_is_used_and_what_lacks_is_told(
    path: Path, at: Callable[[str], None]
) -> None:
    at("2024-01-03T00:00")
    with Exchange(metrics("2024-01-01", "2024-01-06")) as exchange:
        source = ask(exchange)
        run(path, source, "2024-01-01", None)
        exchange.requests.clear()
        before = path.read_bytes()
        use = partial(use_stored, path, source, name=source.series)
        assert use(parse_instant("2024-01-01"), None).notes == ()
        [note] = use(parse_instant("2024-01-01"), parse_instant("2024-01-05")).notes
        assert exchange.requests == []
    assert path.read_bytes() == before
    assert note == (
        "binance BTCUSDT-um-metrics: stored are records from 2024-01-01T00:00:00Z to "
        "2024-01-02T23:55:00Z, and `offline: true` asks for no others"
    )


def test_a_folder_that_cannot_be_written_is_told_and_its_records_are_used(
    path: Path, at: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    at("2024-01-03T00:00")
    with Exchange(metrics("2024-01-01", "2024-01-06")) as exchange:
        source = ask(exchange)
        run(path, source, "2024-01-01", None)
        before, held = path.read_bytes(), read_record_header(path)
        path.with_suffix(".lock").unlink(missing_ok=True)
        monkeypatch.setattr("os.access", lambda *_: False)
        exchange.requests.clear()
        found = run(path, source, "2024-01-01", None)
        assert (found.header, found.notes) == (held, ())
        at("2024-01-05T00:00")
        found = run(path, source, "2024-01-01", None)
        assert "cannot be written, so that nothing is added: what is stored is" in found.notes[0]
        with pytest.raises(StoreError, match=r"lacks records from 2024-01-03T00:00:00Z to 2024-01"):
            run(path, source, "2024-01-01", "2024-01-05")
        assert exchange.requests == []
    assert path.read_bytes() == before
