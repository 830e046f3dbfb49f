"""``unpack``: the content of an answer, whatever it was packed in, a bounded piece at a time.

Some bytes of gzip may stand for gigabytes, or for nothing: a name in its header, empty blocks. So
no piece is larger than ``PIECE``, and between two of them, with content or not, the caller's
``step`` is called, which ends what goes on for too long.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator

ACCEPTED = "gzip, deflate"
"""What a client may announce, in ``Accept-Encoding``."""

PIECE = 2**16
"""Bytes of content that are unpacked at a time."""


class PackingError(Exception):
    """The bytes of an answer are not packed as it says, or in a way that nobody asked for.

    Attributes:
        may_pass: whether another attempt may bring better ones.
    """

    def __init__(self, problem: str, *, may_pass: bool) -> None:
        super().__init__(problem)
        self.may_pass = may_pass


def unpack(chunks: Iterable[bytes], encoding: str, step: Callable[[], object]) -> Iterator[bytes]:
    """Yield the content of an answer in pieces.

    Args:
        chunks: its bytes as they came.
        encoding: its ``Content-Encoding``; "" where it has none.
        step: called before each piece.

    Raises:
        PackingError: if it is packed in another way than ``ACCEPTED``, such as twice, or damaged
            or cut short.
    """
    names = [name.strip().lower() for name in encoding.split(",")]
    layers = [name for name in names if name not in ("", "identity")]
    if not layers:
        for chunk in chunks:
            step()
            yield chunk
    elif layers in (["gzip"], ["x-gzip"], ["deflate"]):
        yield from _inflate(chunks, step)
    else:
        problem = f"packed as {encoding[:80]!r}, and only {ACCEPTED} was asked for"
        raise PackingError(problem, may_pass=False)


def _inflate(chunks: Iterable[bytes], step: Callable[[], object]) -> Iterator[bytes]:
    """Unpack one layer of gzip or zlib, of one member or of several in a row."""
    machine = _start()
    begun = False  # an answer without content need not be packed
    try:
        for chunk in chunks:
            rest = chunk
            while rest:
                step()
                if machine.eof:
                    machine = _start()
                begun = True
                if piece := machine.decompress(rest, PIECE):
                    yield piece
                rest = machine.unused_data if machine.eof else machine.unconsumed_tail
    except zlib.error as error:
        problem = f"damaged on the way: it cannot be unpacked ({error})"
        raise PackingError(problem, may_pass=True) from None
    if begun and not machine.eof:
        raise PackingError("cut short: what it is packed in has no end", may_pass=True)


def _start() -> "zlib._Decompress":
    return zlib.decompressobj(zlib.MAX_WBITS | 32)  # 32: the header says which of the two it is
