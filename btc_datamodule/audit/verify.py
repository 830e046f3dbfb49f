"""Verification: whether what lies on disk is what was written, and agrees with itself.

Reads every byte that can be read through the package. ``btc-datamodule verify`` prints what is
found; an empty list means that nothing is wrong.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from btc_datamodule.candles.timeline import format_instant, unite
from btc_datamodule.disk.hdf5 import advise_repair
from btc_datamodule.errors import StoreError
from btc_datamodule.features.table import Table, is_outdated, list_tables, locate_table
from btc_datamodule.progress import show_step
from btc_datamodule.settings import Settings
from btc_datamodule.store.forms import CANDLES, RECORDS, Content, Form
from btc_datamodule.store.parts import list_parts
from btc_datamodule.store.record_file import RecordHeader
from btc_datamodule.store.stray import describe_stray


class Checked(NamedTuple):
    """A segment of those arrays of a feature file that lie in one file.

    Attributes:
        path: of that file.
        low: its first row.
        high: the row past its last.
        digests: of these arrays.
    """

    path: Path
    low: int
    high: int
    digests: bytes


def verify_series(candle_path: Path) -> list[str]:
    """What is wrong with a candle file, its parts and its feature files, one sentence each."""
    problems, fine = _verify_with_parts(candle_path, CANDLES), set[Checked]()
    for path in list_tables(candle_path):
        if not is_outdated(path):
            problems += verify_table(path, fine)
    return problems


def verify_covariates(settings: Settings) -> list[str]:
    """What is wrong with the files of the series beside the candles, one sentence each."""
    checked, problems = {settings.candle_path}, list[str]()
    for covariate in settings.covariates:
        path = covariate.locate(settings.data_dir, settings.candle_path)
        if path not in checked:
            checked.add(path)
            found = _verify_with_parts(path, CANDLES if covariate.beside.is_candles else RECORDS)
            problems += [f"covariate {covariate.name!r}: {problem}" for problem in found]
    return problems


def _verify_with_parts(path: Path, form: Form) -> list[str]:
    """What is wrong with a file, its tail, and the answers beside it that wait to be merged."""
    problems = _verify(path, form)
    with suppress(StoreError):  # of the file itself, which is among the problems
        problems += describe_stray(path) if form is CANDLES else []
    try:
        parts = list_parts(path)
    except StoreError as error:
        return [*problems, str(error)]
    for part in parts:
        found = _verify(part, form)
        problems += found if part.exists() else []  # a run that goes on may have merged it
    return problems


def verify_candles(path: Path) -> list[str]:
    """What is wrong with a candle file.

    Checked are: chunk checksums, schema, the candle contract (finite, low <= open, close <= high,
    on the grid, in order, each once), the number of rows, the content digest, that every candle
    lies in a span that was asked for, and that none of these ends in the future.
    """
    return _verify(path, CANDLES)


def verify_records(path: Path) -> list[str]:
    """What is wrong with a file of records.

    Checked is what is of candles, the contract being that of records: each known at its time or
    later, in order, each once; and that none was known later than the file says at most.
    """
    return _verify(path, RECORDS)


def _verify(path: Path, form: Form) -> list[str]:
    problems: list[str] = []
    content = f"{form.content}s"
    try:
        with form.open(path) as reader:
            header = reader.header
            check = reader.make_check()
            covered = unite(header.covered)
            starts, ends = np.array(covered, dtype=np.int64).reshape(-1, 2).T
            outside, longest, last = 0, 0, None
            for chunk in _show_chunks(reader, form):
                keys = form.get_keys(chunk)
                times, known_at = keys[0], keys[-1]
                if last is not None and tuple(int(key[0]) for key in keys) <= last:
                    problems.append(
                        f"{path}: {content} are out of order at "
                        f"{format_instant(int(times[0]))}: {advise_repair(path)}"
                    )
                check.update(chunk)
                last = tuple(int(key[-1]) for key in keys)
                longest = max(longest, int((known_at - times).max()))
                begun, ended = (np.searchsorted(edges, times, "right") for edges in (starts, ends))
                outside += int((begun == ended).sum())
            try:
                check.require()
            except StoreError as error:
                problems.append(str(error))
            if isinstance(header, RecordHeader) and header.longest_delay != longest:
                problems.append(
                    f"{path}: {content} were known up to {longest} seconds after their time, not "
                    f"up to {header.longest_delay} as it says: {advise_repair(path)}"
                )
            if list(header.covered) != covered:
                problems.append(
                    f"{path}: the covered spans overlap or are out of order: {advise_repair(path)}"
                )
            if covered and covered[-1][1] > time.time():
                problems.append(
                    f"{path}: it says to be complete until {format_instant(covered[-1][1])}, which "
                    "is yet to come: set the clock of this machine, or if it is right now and was "
                    f"fast before, {advise_repair(path)}"
                )
            if outside:
                problems.append(
                    f"{path}: {outside} {content} lie outside the spans asked for: "
                    f"{advise_repair(path)}"
                )
    except StoreError as error:
        problems.append(str(error))
    return problems


def _show_chunks(reader: Any, form: Form) -> Iterator[Content]:
    """The chunks of a file, with a bar of how many rows are checked."""
    with show_step(f"checking {reader.path.name}", reader.header.rows, f" {form.row}s") as step:
        for chunk in reader.chunks():
            yield chunk
            step.advance(len(chunk))


def verify_table(path: Path, fine: set[Checked] | None = None) -> list[str]:
    """What is wrong with a feature file: its layout, or any byte of its arrays.

    Args:
        path: the file.
        fine: segments that are known to be as written, and those that are found so: several files
            may have their rows in one.
    """
    fine = set() if fine is None else fine
    try:
        table = Table.open(path)
        if locate_table(path, table.key) != path:
            return [f"{path} is another feature file under this name: {advise_repair(path)}"]
        checks = table.checks
        with show_step(f"checking {path.name}"):
            for segment, (low, high) in enumerate(pairwise(checks.edges.tolist())):
                for place in checks.places:
                    inside = [name in place.extents for name in checks.names]
                    digests = checks.digests[segment, inside].tobytes()
                    part = Checked(place.path, low, high, digests)
                    if part not in fine:
                        checks.require(tuple(place.extents), low, high)
                        fine.add(part)
    except StoreError as error:
        return [str(error)]
    return []
