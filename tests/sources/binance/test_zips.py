"""A file of Binance's archive, from bytes to candles: units, headers, known damage, unsafe zips."""

import re
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btc_datamodule.errors import BTCDataError, CandleError, SourceError
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import BinanceArchiveAnswers, Exchange
from tests.factories import HOUR
from tests.helpers import assert_same
from tests.sources.binance.helpers import (
    CSV,
    DAY_5,
    HELD,
    JANUARY_5,
    ZIP,
    bars,
    candles_in,
    fetch,
    notes_of,
    serve_lines,
)

# --- what is in a file --------------------------------------------------------------------------


def test_milliseconds_until_2024_and_microseconds_from_2025_are_told_apart() -> None:
    held = bars("2024-12-01", "2025-02-01")
    answers = BinanceArchiveAnswers(held)
    with Exchange(answers) as exchange:
        assert_same(candles_in(fetch(exchange, held.span)), held)
    assert answers.csv("BTCUSDT-1h-2024-12.zip").startswith(b"1733011200000,")
    assert answers.csv("BTCUSDT-1h-2025-01.zip").startswith(b"1735689600000000,")


def test_both_units_may_stand_in_one_file(
    exchange: Exchange, answers: BinanceArchiveAnswers
) -> None:
    def some_in_micros(lines: list[bytes]) -> list[bytes]:
        return [re.sub(rb"(15\d{11})", rb"\g<1>000", line) for line in lines[:9]] + lines[9:]

    serve_lines(answers, some_in_micros)
    blocks = fetch(exchange, DAY_5)
    assert_same(candles_in(blocks), HELD.slice(*DAY_5))
    assert notes_of(blocks) == []


@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("market", ["spot", "um"])
def test_files_come_with_a_header_or_without(market: Literal["spot", "um"], header: bool) -> None:
    answers = BinanceArchiveAnswers(HELD, market=market, header=header)
    with Exchange(answers) as exchange:
        assert_same(candles_in(fetch(exchange, market=market)), HELD)
    assert answers.csv("BTCUSDT-1h-2020-01.zip").startswith(b"open_time" if header else b"157")


def test_a_file_of_many_chunks_is_read_as_a_whole() -> None:
    held = bars("2020-01-05", "2020-01-06", 1)  # 86,400 rows of some 150 bytes: two chunks
    answers = BinanceArchiveAnswers(held, header=True)
    name = "BTCUSDT-1s-2020-01-05.zip"
    text = answers.csv(name)
    assert len(text) > 8 * 2**20
    answers.files[name] = ex.zipped("a.csv", text)
    with Exchange(answers) as exchange:
        assert_same(candles_in(fetch(exchange, held.span, 1)), held)
        lines = text.splitlines(keepends=True)[:80_001]
        lines[80_000] = b"x" + lines[80_000]
        answers.files[name] = ex.zipped("a.csv", b"".join(lines))
        with pytest.raises(SourceError, match=r"2020-01-05.zip, row 80001: open_time is 'x157"):
            fetch(exchange, held.span, 1)


# --- known damage -------------------------------------------------------------------------------


def test_rows_off_the_grid_are_left_out_and_counted(
    exchange: Exchange, answers: BinanceArchiveAnswers
) -> None:
    def shifted(lines: list[bytes]) -> list[bytes]:
        return [*lines[:4], *(b"1578197" + line[7:] for line in lines[4:6]), *lines[6:]]

    serve_lines(answers, shifted)
    blocks = fetch(exchange, DAY_5)
    lost = (DAY_5[0] + 4 * HOUR, DAY_5[0] + 6 * HOUR)
    assert_same(candles_in(blocks), ex.without(HELD.slice(*DAY_5), lost))
    assert notes_of(blocks) == [
        f"binance {JANUARY_5}: 2 of 24 rows open off the grid and were left out, the first at "
        "2020-01-05T04:16:40Z"
    ]


def test_rows_outside_the_files_period_are_left_out_and_counted(
    exchange: Exchange, answers: BinanceArchiveAnswers
) -> None:
    others = answers.csv("BTCUSDT-1h-2020-01-06.zip").splitlines(keepends=True)
    serve_lines(answers, lambda lines: [*others[:3], *lines])
    blocks = fetch(exchange, DAY_5)
    assert_same(candles_in(blocks), HELD.slice(*DAY_5))
    assert notes_of(blocks) == [
        f"binance {JANUARY_5}: 3 of 27 rows open outside its period and were left out, the first "
        "at 2020-01-06T00:00:00Z"
    ]


@pytest.mark.parametrize("digits", [b"", b"000000"])
def test_a_file_with_no_row_of_its_period_is_an_error(
    exchange: Exchange, answers: BinanceArchiveAnswers, digits: bytes
) -> None:
    def in_another_unit(lines: list[bytes]) -> list[bytes]:
        return [line[:10] + digits + line[13 if not digits else 10 :] for line in lines]

    serve_lines(answers, in_another_unit)
    with pytest.raises(SourceError, match=r"24 of 24 rows open outside its period.*another file"):
        fetch(exchange, DAY_5)


def test_a_file_with_no_row_on_the_grid_is_an_error(
    exchange: Exchange, answers: BinanceArchiveAnswers
) -> None:
    serve_lines(answers, lambda lines: [line[:8] + b"11" + line[10:] for line in lines])
    with pytest.raises(SourceError, match=r"24 of 24 rows open off the grid.*another file"):
        fetch(exchange, DAY_5)


def test_a_file_of_longer_bars_is_an_error_and_one_such_bar_is_left_out(
    exchange: Exchange, answers: BinanceArchiveAnswers
) -> None:
    def longer(line: bytes) -> bytes:
        opened, close = int(line.split(b",")[0]), line.split(b",")[6]
        return line.replace(close, str(opened + 6 * HOUR * 1000 - 1).encode())

    serve_lines(answers, lambda lines: [longer(line) for line in lines[::6]])
    with pytest.raises(SourceError, match=r"4 of 4 rows close too late for bars of this length"):
        fetch(exchange, DAY_5)
    serve_lines(answers, lambda lines: [longer(lines[0]), *lines[1:]])
    blocks = fetch(exchange, DAY_5)
    assert_same(candles_in(blocks), HELD.slice(DAY_5[0] + HOUR, DAY_5[1]))
    assert "1 of 24 rows close too late" in notes_of(blocks)[0]


def test_a_bar_that_closes_early_is_kept_and_counted(
    exchange: Exchange, answers: BinanceArchiveAnswers
) -> None:
    def cut(lines: list[bytes]) -> list[bytes]:
        fields = lines[7].split(b",")
        fields[6] = b"1578209581646"
        return [*lines[:7], b",".join(fields), *lines[8:]]

    serve_lines(answers, cut)
    blocks = fetch(exchange, DAY_5)
    assert_same(candles_in(blocks), HELD.slice(*DAY_5))
    assert notes_of(blocks) == [
        f"binance {JANUARY_5}: 1 of 24 rows close too early and were kept, the first at "
        "2020-01-05T07:00:00Z"
    ]


def test_duplicated_and_shuffled_rows_are_stored_once_in_order(
    exchange: Exchange, answers: BinanceArchiveAnswers
) -> None:
    serve_lines(answers, lambda lines: [*lines[10:], *lines[:12]])
    blocks = fetch(exchange, DAY_5)
    assert_same(candles_in(blocks), HELD.slice(*DAY_5))
    [note] = notes_of(blocks)
    assert note.startswith(f"binance {JANUARY_5}: 2 rows repeat an open time")


BROKEN = {
    "a word": (lambda row: row.replace(b",", b",abc", 1), "open is 'abc"),
    "a field too few": (lambda row: row.rsplit(b",", 1)[0] + b"\n", "11 fields instead of 12"),
    "a field too many": (lambda row: b"1," + row, "13 fields instead of 12: '1,15"),
    "cut off": (lambda row: row[:30] + b"\n", "2 fields instead of 12"),
    "an empty field": (lambda row: b",".join([row[:13], b"", row.split(b",", 2)[2]]), "open is ''"),
    "a broken time": (lambda row: b"2020-01-05" + row[13:], "open_time is '2020-01-05'"),
    "a blank line": (lambda row: b"\n", "1 fields instead of 12: ''"),
    "no text": (lambda row: b"\xff\xfe\x00" + row[13:], "open_time is '\ufffd\ufffd"),
}


@pytest.mark.parametrize(("spoil", "message"), BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("header", [False, True])
def test_a_broken_row_is_named_by_file_row_and_what_is_wrong(
    exchange: Exchange,
    answers: BinanceArchiveAnswers,
    header: bool,
    spoil: Callable[[bytes], bytes],
    message: str,
) -> None:
    answers.header = header
    at = 5 + header
    serve_lines(answers, lambda lines: [*lines[:at], spoil(lines[at]), *lines[at + 1 :]])
    with pytest.raises(SourceError) as caught:
        fetch(exchange, DAY_5)
    said = str(caught.value)
    assert f"{JANUARY_5}, row {at + 1}: {message}" in said
    assert said.startswith(f"{exchange.url}/data/spot/daily/")
    assert "set `end` before it or `start` after it" in said
    assert "\n" not in said


def test_a_first_line_that_is_no_header_of_klines_is_quoted(
    exchange: Exchange, answers: BinanceArchiveAnswers
) -> None:
    serve_lines(answers, lambda lines: [b"time,close,open\n", *lines])
    with pytest.raises(SourceError, match=r"row 1: no row of a candle and no header, but 'time,cl"):
        fetch(exchange, DAY_5)


def test_a_row_that_is_no_candle_is_named_by_file_row_and_time(
    exchange: Exchange, answers: BinanceArchiveAnswers
) -> None:
    def crossed(lines: list[bytes]) -> list[bytes]:
        fields = lines[3].split(b",")
        fields[2], fields[3] = fields[3], fields[2]
        return [*lines[:3], b",".join(fields), *lines[4:]]

    serve_lines(answers, crossed)
    with pytest.raises(
        CandleError,
        match=rf"{JANUARY_5}, row 4 \(2020-01-05T03:00:00Z\): high is below low .*: "
        "set `source.drop_invalid: true` to leave such bars out$",
    ):
        fetch(exchange, DAY_5)
    [block] = fetch(exchange, DAY_5, drop_invalid=True)
    lost = (DAY_5[0] + 3 * HOUR, DAY_5[0] + 4 * HOUR)
    assert_same(block.candles, ex.without(HELD.slice(*DAY_5), lost))
    [note] = block.notes
    assert "1 rows that are no candles were left out, such as" in note
    assert f"{JANUARY_5}, row 4 (2020-01-05T03:00:00Z): high is below low" in note


def test_what_dropping_rows_would_not_mend_is_told_without_that_remedy(
    exchange: Exchange, answers: BinanceArchiveAnswers
) -> None:
    def contradictory(lines: list[bytes]) -> list[bytes]:
        fields = lines[3].split(b",")
        fields[1:5] = [b"1000"] * 4
        return [*lines, b",".join(fields)]

    serve_lines(answers, contradictory)
    for drop_invalid in (False, True):
        with pytest.raises(CandleError, match=r"two rows for 2020-01-05T03:00:00Z") as caught:
            fetch(exchange, DAY_5, drop_invalid=drop_invalid)
        assert "drop_invalid" not in str(caught.value)


# --- zips ---------------------------------------------------------------------------------------


def flagged(body: bytes, offset: int, kind: str, value: int) -> bytes:
    """A zip with one number of its file's two headers replaced; the second has it 2 bytes later."""
    changed_body = bytearray(body)
    for magic, shift in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
        struct.pack_into(kind, changed_body, body.index(magic) + offset + shift, value)
    return bytes(changed_body)


BOMB = ex.zipped("BTCUSDT-1h-2020-01-05.csv", bytes(30 * 2**20))
ZIPS = {
    "truncated": (ZIP[: len(ZIP) // 2], r"the zip is damaged or cut short \(File is not a zip"),
    "no zip at all": (b"<html>hello</html>", r"the zip is damaged or cut short \(File is not a"),
    "empty": (b"", r"the zip is damaged or cut short"),
    "a bit flipped": (
        ZIP[:200] + bytes([ZIP[200] ^ 1]) + ZIP[201:],
        r"the zip is damaged or cut short \((Error -3|Bad CRC-32)",
    ),
    "two files": (ex.zipped("a.csv", CSV, ("b.csv", CSV)), r"refused: it holds 2 files instead of"),
    "no file": (b"PK\x05\x06" + bytes(18), r"refused: it holds 0 files instead of one"),
    "a path upwards": (ex.zipped("../evil.csv", CSV), r"refused: .* called '\.\./evil\.csv'"),
    "an absolute path": (ex.zipped("/etc/evil.csv", CSV), r"refused: .* called '/etc/evil\.csv'"),
    "a path of Windows": (ex.zipped("C:\\evil.csv", CSV), r"refused: .* called 'C:\\\\evil\.csv'"),
    "a folder": (ex.zipped("klines.csv/", b""), r"refused: .* called 'klines.csv/'"),
    "encrypted": (flagged(ZIP, 6, "<H", 1), r"refused: it is encrypted"),
    "packed otherwise": (flagged(ZIP, 8, "<H", 14), r"refused: it is packed by method 14"),
    "a bomb": (BOMB, r"refused: it unpacks to 31,457,280 bytes, more than 75,136"),
    "a bomb that denies it": (flagged(BOMB, 22, "<L", 999), r"damaged or cut short \(Bad CRC-32"),
}


@pytest.mark.parametrize(("body", "message"), ZIPS.values(), ids=ZIPS.keys())
def test_a_zip_that_is_damaged_or_not_safe_is_refused_with_the_reason(
    exchange: Exchange, answers: BinanceArchiveAnswers, body: bytes, message: str
) -> None:
    answers.files[JANUARY_5] = body
    with pytest.raises(SourceError, match=message) as caught:
        fetch(exchange, DAY_5)
    url = f"{exchange.url}/data/spot/daily/klines/BTCUSDT/1h/{JANUARY_5}: "
    assert str(caught.value).startswith(url)
    assert "its checksum is right, so Binance published it like this" in str(caught.value)
    assert len(exchange.requests) == 2  # asking again would bring the same


def test_whatever_bytes_a_zip_has_the_answer_is_candles_or_an_error_of_ours() -> None:
    answers = BinanceArchiveAnswers(HELD)
    with Exchange(answers) as exchange:

        @settings(max_examples=60)  # each example is two requests
        @given(st.lists(st.tuples(st.integers(0, len(ZIP) - 1), st.integers(0, 255)), max_size=4))
        def law(edits: list[tuple[int, int]]) -> None:
            body = bytearray(ZIP)
            for at, value in edits:
                body[at] = value
            answers.files[JANUARY_5] = bytes(body)
            with suppress(BTCDataError):
                assert_same(candles_in(fetch(exchange, DAY_5)), HELD.slice(*DAY_5))

        law()
