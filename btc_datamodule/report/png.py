"""Pictures of cells, each of one of a few colours, as PNG: small, and drawn by any browser.

Format: "Portable Network Graphics (PNG) Specification", W3C, second edition, sections 5 and 11.
"""

import base64
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PALETTE = 3
"""The type of a picture whose pixels are numbers of colours."""


def encode_png(cells: NDArray[np.uint8], palette: Sequence[str]) -> bytes:
    """A PNG with a pixel for each cell.

    Args:
        cells: (height, width), numbers of colours.
        palette: ``#rrggbb`` or ``#rrggbbaa`` of each.
    """
    colours = [bytes.fromhex(f"{each.removeprefix('#'):f<8}") for each in palette]
    height, width = cells.shape
    rows = np.concatenate([np.zeros((height, 1), dtype=np.uint8), cells], axis=1)  # no filter
    return b"".join(
        [
            SIGNATURE,
            _make_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, PALETTE, 0, 0, 0)),
            _make_chunk(b"PLTE", b"".join(each[:3] for each in colours)),
            _make_chunk(b"tRNS", b"".join(each[3:] for each in colours)),
            _make_chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)),
            _make_chunk(b"IEND", b""),
        ]
    )


def make_url(cells: NDArray[np.uint8], palette: Sequence[str]) -> str:
    """The picture as a ``data:`` address."""
    return f"data:image/png;base64,{base64.b64encode(encode_png(cells, palette)).decode('ascii')}"


def mix(low: str, high: str, share: float) -> str:
    """The colour ``share`` of the way from one ``#rrggbb`` to another."""
    ends = [bytes.fromhex(each.removeprefix("#")) for each in (low, high)]
    mixed = (round(a + (b - a) * share) for a, b in zip(*ends, strict=True))
    return f"#{bytes(mixed).hex()}"


def spread(colours: Sequence[str], count: int) -> list[str]:
    """So many colours on the way through some, by equal steps."""
    places = np.linspace(0, len(colours) - 1, count)
    lower = np.minimum(places.astype(np.int64), len(colours) - 2)
    return [
        mix(colours[low], colours[low + 1], float(place - low))
        for low, place in zip(lower.tolist(), places.tolist(), strict=True)
    ]


def _make_chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)
