"""``CandleFile``: candles that already lie in files, as exchanges and data shops hand them out.

Owns which files there are, and what identifies them. Receives columns from ``tables`` and their
meaning from ``values``, gives back one checked series, sorted, each bar once. It promises that
nothing is settled in silence: what was left out or repaired is counted in the block's notes, and a
row that makes no sense is an error with the file and the row's number (in a text file, its line).

    CandleFile("data/XBTUSD_60.csv", columns="kraken")
    CandleFile("data/BTCUSDT-1h-*.csv")                     # several files, one series
    CandleFile("data/candles.h5", dataset="BTC-USD/1h")
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from btc_datamodule.candles.series import COLUMNS, REQUIRED, Candles, tidy
from btc_datamodule.candles.timeline import Span, format_interval
from btc_datamodule.errors import ConfigError, SourceError
from btc_datamodule.public import public
from btc_datamodule.sources.base import Block, Source, check_path_part
from btc_datamodule.sources.columns import LAYOUTS, LEFT_OUT
from btc_datamodule.sources.files.tables import HDF5_SUFFIXES, SUFFIXES, has_suffix, read_table
from btc_datamodule.sources.files.values import read_candle_columns

_ENOUGH_TO_JUDGE = 100
"""Bars from which on their common spacing is the file's interval, not chance."""


@public
@dataclass(frozen=True)
class CandleFile(Source):
    """Candles from CSV (also gzipped), Feather, Arrow, Parquet or HDF5 files.

    Attributes:
        path: one file, a glob pattern, or several of them, read together as one series.
        columns: order of the columns where the file does not name them: a list of names from
            ``candles.series.COLUMNS``, "ignore" for a column to leave out, or the layout of an
            exchange: kraken, bitfinex, coinbase or binance.
        dataset: path of the dataset or group inside HDF5 files, such as "BTC-USD/1h".
        product: name of the folder for this series; by default the file's name and a digest of
            path, columns and dataset, so that two files never mix.

    Raises:
        ConfigError: if an argument is wrong.
    """

    path: str | list[str]
    columns: str | list[str] | None = None
    dataset: str | None = None
    product: str | None = None

    name: ClassVar[str] = "file"

    def __post_init__(self) -> None:
        if not self._patterns or not all(self._patterns):
            raise ConfigError("`path` is empty: name a file, a pattern such as data/*.csv, or both")
        for pattern in self._patterns:
            if Path(pattern).expanduser().is_dir():
                raise ConfigError(f"path {pattern!r} is a folder: write {pattern}/*.csv or so")
            if not has_suffix(pattern) and not _is_glob(pattern):
                raise ConfigError(
                    f"path {pattern!r} is no file that can be read: it must end in "
                    f"{', '.join(SUFFIXES)}"
                )
        _parse_columns(self.columns)
        if self.dataset is not None and not any(
            has_suffix(pattern, HDF5_SUFFIXES) or not has_suffix(pattern)
            for pattern in self._patterns
        ):
            raise ConfigError(
                f"`dataset` {self.dataset!r} is for HDF5 files, and `path` names none: leave it out"
            )
        if self.product is not None:
            check_path_part(self.product, "product")

    @property
    def series(self) -> str:
        """``product``, or the file's name and eight digits that tell the settings apart."""
        if self.product is not None:
            return self.product
        stem = Path(self._patterns[0]).name
        for suffix in sorted(SUFFIXES, key=len, reverse=True):
            if has_suffix(stem, (suffix,)):
                stem = stem[: -len(suffix)]
                break
        stem = re.sub(r"[^A-Za-z0-9_.-]+", "_", stem).strip("._-")[:80] or "file"
        # The patterns, not what they match: one more file must not become another series.
        paths = [str(Path(pattern).expanduser().resolve()) for pattern in self._patterns]
        return f"{stem}-{hashlib.sha256(self._encode_settings(paths)).hexdigest()[:8]}"

    @property
    def revision(self) -> str:
        """SHA-256 over the content of all files and the settings that they are read with."""
        digests = [_hash_file(path) for path in self._find_files()]
        return hashlib.sha256(self._encode_settings(digests)).hexdigest()

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        """Yield one block with every closed bar of all files; its span is theirs.

        Args:
            interval: seconds.
            span: bars that open at or after its end are not closed yet, and left out.

        Raises:
            SourceError: if a file is missing or damaged, or its columns cannot be told.
            CandleError: naming the first row that is no candle.
        """
        columns = _parse_columns(self.columns)
        parts: list[Candles] = []
        checksums: list[str] = []
        notes: list[str] = []
        for path in self._find_files():
            table = read_table(path, columns, self.dataset)
            values, rows, said = read_candle_columns(table, path.name, span[1])
            candles, repaired = tidy(values, interval, path.name, rows)
            parts.append(candles)
            checksums.append(f"sha256:{_hash_file(path)}")
            notes += [*said, *repaired]
        candles, repaired = _merge_parts(parts, interval)
        if not len(candles):
            raise SourceError(
                f"{self._label}: holds no closed bar: {'; '.join(notes) or 'no rows'}"
            )
        _check_spacing(candles, self._label)
        origin = ", ".join(f"file {path.name}" for path in self._find_files())
        yield Block(candles.span, candles, origin, (*notes, *repaired), ", ".join(checksums))

    @property
    def _patterns(self) -> list[str]:
        return [self.path] if isinstance(self.path, str) else list(self.path)

    @property
    def _label(self) -> str:
        return ", ".join(self._patterns)

    def _encode_settings(self, files: list[str]) -> bytes:
        return json.dumps([files, _parse_columns(self.columns), self.dataset]).encode()

    def _find_files(self) -> list[Path]:
        """Find the files that exist for ``path``, each once, those of a pattern sorted by name."""
        files: dict[Path, Path] = {}
        for pattern in self._patterns:
            path = Path(pattern).expanduser()
            matches = [path]
            if _is_glob(pattern) and not path.exists():
                relative = str(path.relative_to(path.anchor))
                matches = sorted(p for p in Path(path.anchor).glob(relative) if p.is_file())
            if not matches:
                raise SourceError(f"{pattern}: no file matches this pattern, check `path`")
            for match in matches:
                files.setdefault(match.resolve(), match)
        return list(files.values())


def _is_glob(pattern: str) -> bool:
    return any(sign in pattern for sign in "*?[")


def _parse_columns(columns: str | list[str] | None) -> tuple[str, ...] | None:
    """Parse ``columns`` into a name per column, ``LEFT_OUT`` for those to ignore."""
    if columns is None:
        return None
    if isinstance(columns, str):
        if columns not in LAYOUTS:
            raise ConfigError(
                f"columns {columns!r} is no known layout: use one of {', '.join(LAYOUTS)}, or a "
                "list of the names of the columns in order"
            )
        return LAYOUTS[columns]
    order = tuple(LEFT_OUT if name in {"", "ignore"} else name for name in columns)
    named = [name for name in order if name != LEFT_OUT]
    unknown = [name for name in named if name not in COLUMNS]
    if unknown:
        raise ConfigError(
            f"columns: {unknown[0]!r} is no column of a candle: use {', '.join(COLUMNS)}, "
            "or 'ignore'"
        )
    repeated = [name for name in named if named.count(name) > 1]
    if repeated:
        raise ConfigError(f"columns: {repeated[0]!r} stands there more than once")
    missing = [name for name in REQUIRED if name not in named]
    if missing:
        raise ConfigError(f"columns: {', '.join(missing)} is missing from the list")
    return order


def _hash_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file, check `path`") from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from None


def _merge_parts(parts: list[Candles], interval: int) -> tuple[Candles, tuple[str, ...]]:
    """Merge several series into one; where they overlap the most complete bar stays, and a note."""
    if len(parts) == 1:
        return parts[0], ()
    names = [name for name in COLUMNS if any(name in part.columns for part in parts)]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in names}
    return tidy(columns, interval, f"{len(parts)} files together")


def _check_spacing(candles: Candles, where: str) -> None:
    """Raise if the bars are longer than asked for: hourly bars are minute bars full of holes."""
    if len(candles) < _ENOUGH_TO_JUDGE:
        return
    spacing = int(np.gcd.reduce(np.diff(candles.open_time)))
    if spacing > candles.interval:
        raise SourceError(
            f"{where}: its bars are {format_interval(spacing)} apart, not "
            f"{format_interval(candles.interval)}: set `interval` to {format_interval(spacing)}"
        )
