"""What an answer was packed in, taken off a bounded piece at a time."""

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btc_datamodule.errors import SourceError
from btc_datamodule.sources.web.unpacking import PIECE, PackingError, unpack
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import Exchange
from tests.helpers import assert_same
from tests.sources.helpers import HELD, candles_of, fetch, source


def cut(body: bytes, size: int) -> list[bytes]:
    return [body[i : i + size] for i in range(0, len(body), size)]


def pass_on() -> None:
    pass


@given(body=st.binary(max_size=3000), size=st.integers(1, 500), members=st.integers(1, 3))
def test_what_was_packed_comes_out_however_it_was_cut_on_its_way(
    body: bytes, size: int, members: int
) -> None:
    packings = {
        "": body * members,
        "identity": body * members,
        "gzip": gzip.compress(body) * members,
        "X-GZIP": gzip.compress(body) * members,
        "deflate": zlib.compress(body * members),
    }
    for encoding, packed in packings.items():
        assert b"".join(unpack(cut(packed, size), encoding, pass_on)) == body * members


def test_pieces_are_bounded_whatever_they_are_made_of() -> None:
    packed = gzip.compress(bytes(20 * 2**20), 9)
    steps: list[None] = []
    tracemalloc.start()
    total = 0
    for piece in unpack([packed], "gzip", lambda: steps.append(None)):
        assert 0 < len(piece) <= PIECE
        total += len(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 20 * 2**20
    assert peak < 2**20
    assert len(steps) >= total // PIECE


def test_the_caller_is_asked_between_pieces_that_hold_nothing() -> None:
    empty = b"\x78\x9c" + b"\0\0\0\xff\xff" * 1000
    steps: list[None] = []
    with pytest.raises(PackingError, match="cut short") as caught:
        list(unpack(cut(empty, 100), "deflate", lambda: steps.append(None)))
    assert len(steps) == 51
    assert caught.value.may_pass


@pytest.mark.parametrize(
    "body",
    [b"no gzip", gzip.compress(b"abc" * 99)[:-9] + bytes(9)],
    ids=["not packed", "a wrong checksum"],
)
def test_bytes_that_are_damaged_may_come_better_at_another_attempt(body: bytes) -> None:
    with pytest.raises(PackingError, match="cannot be unpacked") as caught:
        list(unpack([body], "gzip", pass_on))
    assert caught.value.may_pass


def test_an_answer_without_content_need_not_be_packed() -> None:
    assert list(unpack([], "gzip", pass_on)) == []


@pytest.mark.parametrize("encoding", ["gzip, gzip", "br", "zstd", "gzip, deflate", "x" * 999])
def test_what_nobody_asked_for_is_refused(encoding: str) -> None:
    with pytest.raises(PackingError, match="and only gzip, deflate was asked for") as caught:
        list(unpack([b"x"], encoding, pass_on))
    assert not caught.value.may_pass
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_packed_pages_are_read(exchange: Exchange, encoding: str) -> None:
    exchange.faults.extend([ex.Packed(encoding)] * 3)
    assert_same(candles_of(fetch(source(exchange))), HELD)
    assert exchange.requests[0].headers["Accept-Encoding"] == "gzip, deflate"


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_bomb_is_refused_near_the_limit_however_often_it_is_packed(
    exchange: Exchange, layers: int
) -> None:
    exchange.faults.append(ex.gzip_bomb(20 * 2**20, layers))
    with pytest.raises(SourceError, match=r"larger than 16,777,216 bytes|packed as 'gzip, gzip"):
        fetch(source(exchange))
    assert len(exchange.requests) == 1
