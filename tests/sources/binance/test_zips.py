"""A zip of Binance's archive that is damaged or not safe."""

import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btc_datamodule.errors import BTCDataError, SourceError
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import BinanceArchiveAnswers, Exchange
from tests.helpers import assert_same
from tests.sources.binance.helpers import CSV, DAY_5, HELD, JANUARY_5, ZIP, candles_in, fetch


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
