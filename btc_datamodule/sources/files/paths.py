"""Which files a user names, what identifies them, and how they are known again elsewhere."""

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from btc_datamodule.checks import name_type
from btc_datamodule.errors import AbsentError, ConfigError, SourceError
from btc_datamodule.sources.base import StoredSeries
from btc_datamodule.sources.files.tables import (
    HDF5_SUFFIXES,
    SHOWN,
    SUFFIXES,
    has_suffix,
    list_folder,
)


@dataclass(frozen=True)
class Paths:
    """The argument ``path`` of a source of files: one file, a folder, a pattern, or several.

    Attributes:
        patterns: as they were given.
        folder: where relative ones begin; None where there is none.
    """

    patterns: tuple[str, ...]
    folder: Path | None

    @classmethod
    def of(cls, path: Any) -> "Paths":
        """What a user gave.

        Raises:
            ConfigError: if it is nothing that can name files.
        """
        listed = [path] if isinstance(path, str | os.PathLike) else path
        if not isinstance(listed, list | tuple) or not all(
            isinstance(one, str | os.PathLike) for one in listed
        ):
            plain = isinstance(path, str | int | float | list | tuple)
            what = f"{path!r:.200}" if plain else f"of type {name_type(path)}"
            raise ConfigError(
                f"path is {what}: name a file, a folder, a pattern, or several"
                f"{'' if plain else '; a frame is for CandleFrame'}"
            )
        patterns = tuple(os.fspath(one) for one in listed)
        if not patterns or not all(patterns):
            raise ConfigError("`path` is empty: name a file, a pattern such as data/*.csv, or both")
        paths = [Path(pattern).expanduser() for pattern in patterns]
        for pattern, each in zip(patterns, paths, strict=True):
            # One that is gone may still be stored: what it says is told when it is read.
            folder = each.is_dir() or (not each.suffix and not os.path.lexists(each))
            if not has_suffix(pattern) and not _is_glob(pattern) and not folder:
                raise ConfigError(
                    f"path {pattern!r} is no file that can be read: it must end in {SHOWN}, or be "
                    "a folder"
                )
        return cls(patterns, None if all(each.is_absolute() for each in paths) else Path.cwd())

    @property
    def label(self) -> str:
        """All of them, for errors."""
        return ", ".join(self.patterns)

    @property
    def stem(self) -> str:
        """The first name without its ending, safe as part of the name of a folder."""
        stem = Path(self.patterns[0]).name
        for suffix in sorted(SUFFIXES, key=len, reverse=True):
            if has_suffix(stem, (suffix,)):
                stem = stem[: -len(suffix)]
                break
        return re.sub(r"[^A-Za-z0-9_.-]+", "_", stem).strip("._-")[:80] or "file"

    def resolve(self) -> list[str]:
        """The patterns from the root of the disk on.

        Not what they match: one more file must not become another series.
        """
        return [os.path.realpath(self._locate(pattern)) for pattern in self.patterns]

    def find(self) -> list[Path]:
        """The files that exist, each once, those of a pattern sorted by name.

        A candle file of this package has its newest bars in another beside it, which is read too.

        Raises:
            AbsentError: if there is none of a pattern.
            SourceError: if what is there is no file.
        """
        files: dict[str, Path] = {}
        for pattern in self.patterns:
            path = self._locate(pattern)
            matches = [path]
            if not has_suffix(pattern) and not _is_glob(pattern) and not os.path.lexists(path):
                raise AbsentError(
                    f"{path}: there is no such folder, and a file must end in {SHOWN}, check `path`"
                )
            if path.is_dir():
                matches = list_folder(path)
            elif _is_glob(pattern) and not path.exists():
                given = Path(pattern).expanduser()  # signs of the working directory are no pattern
                found = self._locate(given.anchor).glob(str(given.relative_to(given.anchor)))
                matches = sorted(p for p in found if p.is_file() and not p.name.startswith("._"))
            if not matches:
                what = "no file matches this pattern"
                if path.is_dir():
                    what = f"no file in this folder can be read (it must end in {SHOWN})"
                raise AbsentError(f"{pattern}: {what}, check `path`")
            for match in matches:
                if os.path.lexists(match) and not match.is_file():
                    raise SourceError(f"{match}: this is no file that can be read, check `path`")
                real = os.path.realpath(match)
                files.setdefault(real, match)
                tail = Path(real).with_suffix(".tail.h5")
                if has_suffix(real, HDF5_SUFFIXES) and tail.is_file():
                    files.setdefault(os.path.realpath(tail), tail)
        return list(files.values())

    def hash(self) -> list[str]:
        """SHA-256 of each file that exists.

        Raises:
            AbsentError: if one is not there.
            SourceError: if one cannot be read.
        """
        return [hash_file(path) for path in self.find()]

    def list_gone(self, stored: list[str], origin: str) -> list[str]:
        """The names of files that are gone, if all that are left are among those that were stored.

        Args:
            stored: SHA-256 of each file that was stored.
            origin: of the block that they were stored from, which names them in order.
        """
        now = set(self.hash())
        if not now < set(stored):
            return []
        names = re.split(r", (?=file )", origin)
        if len(names) != len(stored):  # a name that has such words in it
            return [f"{len(set(stored) - now)} of its files"]
        pairs = zip(names, stored, strict=True)
        return [name.removeprefix("file ") for name, digest in pairs if digest not in now]

    def _locate(self, pattern: str) -> Path:
        """A pattern as it was meant when it was given, whatever the working directory is now."""
        path = Path(pattern).expanduser()
        return path if self.folder is None else self.folder / path


def _is_glob(pattern: str) -> bool:
    return any(sign in pattern for sign in "*?[")


def hash_file(path: Path) -> str:
    """SHA-256 of a file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise AbsentError(f"{path}: no such file, check `path`") from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from None


def find_known(
    stored: Iterable[StoredSeries],
    compute_revision: Callable[[], str],
    may_be: Callable[[StoredSeries], bool],
    label: str,
    argument: str,
) -> str | None:
    """The name of a stored series that files were read into before; None if there is none.

    Args:
        stored: all series of such sources.
        compute_revision: gives that of the files as they are.
        may_be: whether a series was read from files of this name, where they are gone.
        label: the files, for errors.
        argument: that chooses one.

    Raises:
        ConfigError: if several may be, and are not the same: which is meant is not to be guessed.
    """
    others = list(stored)
    try:
        revision = compute_revision() if others else ""
        same = [one for one in others if one.revision == revision]
    except AbsentError:
        same = [one for one in others if may_be(one)]
    except SourceError:
        return None  # it is there, and told when it is read
    if len({one.revision for one in same}) > 1:
        listed = "; ".join(f"{one.series} ({one.origin})" for one in same)
        raise ConfigError(
            f"{label}: no such file, and several series that are stored were read from one of "
            f"that name: {listed}: set `{argument}` to the one that is meant"
        )
    return same[0].series if same else None


def list_digests(checksum: str) -> list[str]:
    """The SHA-256 in the checksum of a block."""
    return re.findall(r"sha256:([0-9a-f]{64})", checksum)


def check_timezone(timezone: str) -> None:
    """Raise ``ConfigError`` unless a time zone is known."""
    import polars as pl

    try:
        pl.Series([0]).cast(pl.Datetime("us")).dt.replace_time_zone(timezone)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        raise ConfigError(
            f"timezone {timezone!r} is not known: write one such as Europe/Berlin, "
            "America/New_York or Etc/GMT-8 (eight hours ahead of UTC)"
        ) from None


def check_texts(held: Any, names: Iterable[str]) -> None:
    """Raise ``ConfigError`` for an argument that is there and no text."""
    for name in names:
        value = getattr(held, name)
        if value is not None and (not isinstance(value, str) or not value):
            raise ConfigError(f"{name} is {value!r}: it must be a text, or be left out")


def check_time_format(form: str) -> None:
    """Raise ``ConfigError`` unless a text says how times are written."""
    if "%" not in form:
        raise ConfigError(
            f'time_format {form!r} must be written as of strptime, such as "%d/%m/%Y %H:%M"'
        )
