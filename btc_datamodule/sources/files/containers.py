"""What files are packed in: gzip, bzip2, xz, Zstandard, zip; unpacked in memory, never on disk.

Nothing is trusted: a file that unpacks to absurdly more than its size is refused before it has
filled the memory.
"""

import bz2
import gzip
import lzma
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Any

from btc_datamodule.errors import SourceError, get_first_line

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STREAMS = (".gz", ".bz2", ".xz", ".zst")
"""Endings of one packed file."""

MOST = 100
"""Times its size that a packed file may unpack to. Candles in text reach about 15 with xz."""

FREE = 16 * 2**20
"""Bytes that any file may unpack to."""

_OPENERS: dict[bytes, tuple[str, Callable[[IO[bytes]], Any]]] = {
    b"\x1f\x8b": ("gzip", gzip.open),
    b"BZh": ("bzip2", bz2.open),
    b"\xfd7zXZ\x00": ("xz", lzma.open),
    b"\x28\xb5\x2f\xfd": ("Zstandard", zstd.open),
}
_DAMAGE = (
    *(OSError, EOFError, ValueError, RuntimeError, NotImplementedError),
    *(zlib.error, lzma.LZMAError, zstd.ZstdError, zipfile.BadZipFile, struct.error),
)


def read_bytes(path: Path) -> bytes:
    """Read a file, unpacked if its content is a packed stream, whatever its name.

    Raises:
        SourceError: if it cannot be read, is damaged, or unpacks to absurdly much.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from None
    return unpack_stream(raw, str(path))


def unpack_stream(raw: bytes, where: str) -> bytes:
    """Unpack bytes that are a packed stream; give others back as they are."""
    for magic, (kind, opener) in _OPENERS.items():
        if raw.startswith(magic):
            try:
                with opener(BytesIO(raw)) as file:
                    return _read_limited(file, FREE + MOST * len(raw), where)
            except _DAMAGE as error:
                raise SourceError(
                    f"{where}: the {kind} data is damaged or cut short "
                    f"({get_first_line(error)}): get the file again"
                ) from None
    return raw


def unzip(raw: bytes, where: str, wanted: Callable[[str], bool]) -> list[tuple[str, bytes]]:
    """Unpack the files of a zip whose names are wanted: name and bytes, in order of name.

    Raises:
        SourceError: if the zip is damaged or encrypted, holds no such file, or unpacks to
            absurdly much.
    """
    try:
        with zipfile.ZipFile(BytesIO(raw)) as archive:
            members = [info for info in archive.infolist() if _is_plain(info, wanted)]
            files, room = [], FREE + MOST * len(raw)
            for info in sorted(members, key=lambda info: info.filename):
                if info.flag_bits & 1:
                    raise SourceError(
                        f"{where}: {info.filename} in it is encrypted: unpack it, and name what "
                        "comes out"
                    )
                with archive.open(info) as file:
                    data = _read_limited(file, room, where)
                room -= len(data)
                files.append((info.filename, unpack_stream(data, f"{where}: {info.filename}")))
            names = [info.filename for info in archive.infolist()]
    except _DAMAGE as error:
        raise SourceError(
            f"{where}: the zip is damaged or cut short ({get_first_line(error)}): get the file "
            "again"
        ) from None
    if not files:
        held = ", ".join(names[:5]) or "nothing"
        raise SourceError(f"{where}: the zip holds no table of candles that can be read ({held})")
    return files


def _is_plain(info: zipfile.ZipInfo, wanted: Callable[[str], bool]) -> bool:
    """Whether a member is a file that is wanted; what macOS adds is not."""
    parts = PurePosixPath(info.filename).parts
    hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
    return not info.is_dir() and not hidden and wanted(info.filename)


def _read_limited(file: IO[bytes], limit: int, where: str) -> bytes:
    """Read a stream to its end, if that comes within ``limit`` bytes."""
    data = file.read(limit + 1)
    if len(data) > limit:
        raise SourceError(
            f"{where}: it unpacks to more than {MOST} times its size, which no candles do: if it "
            "is what you think, unpack it, and name what comes out"
        )
    return data
