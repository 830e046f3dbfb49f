"""What lies under ``data_dir``, and which of it may go: ``btc-datamodule clean``.

Candles, records and what a source has answered of an interrupted update are what a source was asked
for: they never go. Feature files are made of them, and are made again by ``prepare``. What is in
use by a process of this machine stays, and so does whatever bears no name of ours.
"""

import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.disk.atomic import explain_write_errors, follow_link
from btc_datamodule.disk.hdf5 import is_feature_file, open_hdf5
from btc_datamodule.disk.in_use import claim_unused, leave_unused
from btc_datamodule.disk.lock import LockedError, hold_lock
from btc_datamodule.errors import NotPreparedError, StoreError
from btc_datamodule.features.rows_file import is_rows_file, list_claims, list_rows_files
from btc_datamodule.features.stale import is_stale
from btc_datamodule.features.table import is_outdated, list_tables
from btc_datamodule.opening import find_table
from btc_datamodule.settings import Settings
from btc_datamodule.store.candle_file import read_header
from btc_datamodule.store.series_file import Header
from btc_datamodule.store.stray import describe_stray

LEFTOVER_SECONDS = 600
"""How long nothing was written to a half-written file before it counts as left behind."""

Goes = Literal["never", "stale", "all"]

_SERIES = ("candles", "records")
_OF_PART = re.compile(r"(candles|records)\.parts")
_LEFTOVER = re.compile(
    r"(candles(\.tail)?|records|features-[0-9a-f]{16}(\.rows)?)\.h5\.[0-9]+\.tmp"
)
_LEFTOVER_OF_PART = re.compile(r"[0-9]{6,18}\.h5\.[0-9]+\.tmp")


@dataclass(frozen=True)
class Found:
    """A file that is stored.

    Attributes:
        path: where it lies.
        size: bytes.
        what: it is, in words.
        goes: never; as stale, being of no use to anybody; or as one of all that can be made again.
    """

    path: Path
    size: int
    what: str
    goes: Goes = "never"


def list_stored(settings: Settings) -> list[Found]:
    """All files of ours under the ``data_dir`` of some settings, by their paths."""
    try:
        own = find_table(settings).path
    except (NotPreparedError, StoreError):
        own = None
    found: list[Found] = []
    for name, folders, files in os.walk(settings.data_dir):
        folders.sort()
        folder = Path(name)
        features = [*_list_features(folder, own)]
        found += [*features, *_list_rows(folder, features)]
        for file in sorted(files):
            with suppress(FileNotFoundError):  # gone since
                found += _judge(folder / file)
    return found


def clean(found: Iterable[Found], *, every: bool) -> list[Found]:
    """Remove the stale of some files.

    Args:
        found: the files.
        every: also remove what can be made again.

    Returns:
        Those that were removed; the others are in use by now, or locked by who writes.

    Raises:
        StoreError: if the disk does not allow it.
    """
    goes = ("stale", "all") if every else ("stale",)
    may = [each for each in found if each.goes in goes]
    heads_first = sorted(may, key=lambda each: is_rows_file(each.path))
    return [each for each in heads_first if _remove(each.path)]


def tell_stored(data_dir: Path, found: Iterable[Found], removed: Iterable[Found]) -> str:
    """A table of files and of what has become of them, and what else may go."""
    found, gone = [*found], {each.path for each in removed}
    left = [each for each in found if each.path not in gone]
    width = max((len(str(each.path.relative_to(data_dir))) for each in found), default=0)
    lines = [
        f"{each.path.relative_to(data_dir)!s:{width}}  {each.size / 1e6:10,.1f} MB  {each.what}"
        + (": removed" if each.path in gone else "")
        for each in found
    ]
    lines.append(f"{data_dir}: {_sum_up(left)}")
    if gone:
        lines[-1] += f"; removed: {_sum_up(each for each in found if each.path in gone)}"
    for goes, option in (("stale", "--yes"), ("all", "--yes --all")):
        may = [each for each in left if each.goes == goes]
        if may:
            lines.append(f"{option} removes {_sum_up(may)}{' more' * (goes == 'all')}")
    return "\n".join(lines)


def _sum_up(found: Iterable[Found]) -> str:
    sizes = [each.size for each in found]
    return f"{len(sizes):,} file{'s' * (len(sizes) != 1)}, {sum(sizes) / 1e6:,.1f} MB"


def _list_features(folder: Path, own: Path | None) -> Iterator[Found]:
    """The feature files of a folder, each with what it is of."""
    candle_path = folder / "candles.h5"
    try:
        header = read_header(candle_path)
    except StoreError:
        header = None
    for path in list_tables(candle_path):
        if os.path.isfile(path):  # noqa: PTH113 (which is False for any link to nowhere)
            status = path.stat()
            opened = f"last opened {format_instant(int(status.st_atime))}"
            with leave_unused(path):
                what, goes = _judge_features(path, header, own, opened)
            yield Found(path, status.st_size, what, goes)


def _judge_features(
    path: Path, header: Header | None, own: Path | None, opened: str
) -> tuple[str, Goes]:
    """What a file with the name of a feature file is, and when it goes."""
    with claim_unused(path) as unused:
        pass
    if not unused:
        return "features, in use", "never"
    if not _may_be_ours(path):
        return "no feature file, though it has the name of one", "never"
    if is_outdated(path):
        return "features as an earlier version wrote them", "stale"
    if header is not None and is_stale(path, header):
        return f"features of candles as they were, or damaged, {opened}", "stale"
    if path == own:
        return f"features of these settings, {opened}", "all"
    return f"features of other settings, {opened}", "all"


def _may_be_ours(path: Path) -> bool:
    """Whether a file that is named as a feature file says to be one, or is HDF5 that is damaged."""
    import h5py

    if not h5py.is_hdf5(path):
        return False
    try:
        with open_hdf5(path) as file:
            return "schema" in file.attrs
    except StoreError:
        return True


def _list_rows(folder: Path, features: Iterable[Found]) -> Iterator[Found]:
    """The rows files of a folder, which go with the last of the feature files that claim them."""
    claims = list_claims(list_tables(folder / "candles.h5"))
    goes = {each.path: each.goes for each in features}
    for path in list_rows_files(folder):
        status = path.stat()
        blocks = getattr(status, "st_blocks", status.st_size)  # of 512 bytes; Windows has no count
        size = min(status.st_size, blocks * 512)  # the room for rows to come takes none
        heads = {goes.get(claim.head, "never") for claim in claims or [] if claim.file == path}
        if claims is None or "never" in heads:
            yield Found(path, size, "rows of feature files")
        elif "all" in heads:
            yield Found(path, size, "rows of feature files", "all")
        else:
            yield Found(path, size, "rows of feature files that are stale or gone", "stale")


def _judge(path: Path) -> Iterator[Found]:
    """What a file is, unless it is a feature file, or none of ours."""
    status = path.lstat()
    in_parts = _OF_PART.fullmatch(path.parent.name) is not None
    leftover = _LEFTOVER_OF_PART if in_parts else _LEFTOVER
    if path.suffix == ".h5" and path.stem.split(".")[0] in _SERIES:
        yield Found(path, status.st_size, _name_series(path))
    elif leftover.fullmatch(path.name):
        if time.time() - status.st_mtime < LEFTOVER_SECONDS:
            yield Found(path, status.st_size, "being written")
        else:
            yield Found(path, status.st_size, "left by a process that was ended", "stale")
    elif in_parts and path.suffix == ".h5":
        yield Found(path, status.st_size, "answers, which `prepare` will join")


def _name_series(path: Path) -> str:
    """What a file of candles or records is."""
    name, *more = path.stem.split(".")
    if more[:1] == ["tail"] and len(more) > 1:
        return "candles set aside, which nothing reads"
    with suppress(StoreError):
        if more == ["tail"] and describe_stray(path.with_name("candles.h5")):
            return "candles that follow another file than `candles.h5`: not read"
    return name


def _remove(path: Path) -> bool:
    """Remove a file, unless it is in use, being written, or has rows of a feature file."""
    folder = path.parent.parent if _OF_PART.fullmatch(path.parent.name) else path.parent
    inside = path.parent if folder != path.parent else path
    name = "features" if is_feature_file(path) else inside.name.split(".")[0]
    lock = follow_link(folder / f"{name}.h5").with_suffix(".lock")
    try:
        with hold_lock(lock, 0), claim_unused(path) as unused:
            goes = unused and not (is_rows_file(path) and _is_claimed(path))
            if goes:
                with explain_write_errors(path):
                    path.unlink()
            return goes
    except LockedError:
        return False


def _is_claimed(path: Path) -> bool:
    """Whether a feature file has rows of a rows file, or might have."""
    claims = list_claims(list_tables(path.with_name("candles.h5")))
    return claims is None or any(claim.file == path for claim in claims)
