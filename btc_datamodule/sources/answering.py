"""What a source of anybody's own raises and yields, held against what a source may.

``list_answers`` stands between a source and all who ask it. An error that is none of the package's
is told in one line that says whose it is, and what is no block is an error: a ``None`` too, after
which there may be others.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from typing import Any, TypeVar

from btc_datamodule.candles.records import is_column_name
from btc_datamodule.checks import is_whole_number, name_type
from btc_datamodule.errors import (
    BrokenError,
    BTCDataError,
    SourceError,
    get_first_line,
)
from btc_datamodule.sources.base import NO_PATH_PART, Source, is_path_part
from btc_datamodule.sources.records import RecordSource

_B = TypeVar("_B")

_Due = tuple[Callable[[Any], bool], Callable[[Any], str]]


def list_answers(
    source: Any, call: Callable[[], Iterable[_B]], kind: type[_B]
) -> Generator[_B, None, None]:
    """Yield the blocks that a source answers with; once nobody wants more, end its own generator.

    Args:
        source: whose ``name`` errors say.
        call: asks it.
        kind: that its blocks are of.

    Raises:
        SourceError: if it raises an ``OSError``.
        BrokenError: if it raises another error that is no ``BTCDataError``, or gives no blocks.
    """
    with explain_failure(source, "blocks"):
        blocks = call()
    if not isinstance(blocks, Iterable):
        raise BrokenError(
            f"{_name(source)} broke its contract: `blocks` gave {_tell(blocks)}: it must yield "
            f"a {kind.__name__} for each part of the span"
        )
    answers = iter(blocks)
    try:
        while True:
            with explain_failure(source, "blocks"):
                try:
                    block = next(answers)
                except StopIteration:
                    return
            if not isinstance(block, kind):
                raise BrokenError(
                    f"{_name(source)} broke its contract: `blocks` yielded {_tell(block)} and no "
                    f"{kind.__name__}: for a time that it has nothing of yield one without rows, "
                    "or with `answered=False` to be asked again"
                )
            yield block
    finally:  # no download goes on after an error
        if isinstance(answers, Generator):
            answers.close()


def read_revision(source: Any) -> str | None:
    """What a source says as its ``revision``.

    Raises:
        SourceError: if it fails; a ``BrokenError`` if by its own fault.
    """
    with explain_failure(source, "revision"):
        revision: str | None = source.revision
    if not isinstance(revision, str | None):
        raise BrokenError(
            f"{_name(source)}: its `revision` is {revision!r:.80}: give a text, or None"
        )
    return revision


def check_declaration(source: Source | RecordSource) -> None:
    """Hold what a source says of itself against what it may say, before anything is asked.

    Raises:
        SourceError: naming the attribute that is something else, or fails.
    """
    of_records = _OF_RECORDS if isinstance(source, RecordSource) else {}
    for what, (fits, explain) in (_OF_ALL | of_records).items():
        with explain_failure(source, what):
            value = getattr(source, what)
        if not fits(value):
            raise BrokenError(f"{_name(source)}: its `{what}` is {value!r:.80}{explain(value)}")


def _can_name_folder(value: Any) -> bool:
    return isinstance(value, str) and is_path_part(value)


def _explain_folder(value: Any) -> str:
    if isinstance(value, str):
        return f", which {NO_PATH_PART}"
    return ": give a text that can name a folder"


def _can_name_values(value: Any) -> bool:
    names = value if isinstance(value, tuple | list) else ()
    fits = all(isinstance(each, str) and is_column_name(each) for each in names)
    return fits and 0 < len(names) == len({*names})


_OF_RECORDS: dict[str, _Due] = {
    "columns": (_can_name_values, lambda _: ": give names of values, such as ('rate',)"),
    "interval": (
        lambda value: value is None or (is_whole_number(value) and value > 0),
        lambda _: ": give seconds, 1 or more, or None",
    ),
    "covers": (
        lambda value: is_whole_number(value) and value >= 0,
        lambda _: ": give seconds, 0 or more",
    ),
}
"""What a source of records says of itself beside ``_OF_ALL``."""

_OF_ALL: dict[str, _Due] = {
    "name": (_can_name_folder, _explain_folder),
    "series": (_can_name_folder, _explain_folder),
}
"""What every source says of itself: whether it may be so, and the end of an error if not."""


@contextmanager
def explain_failure(source: Any, what: str) -> Iterator[None]:
    """Turn an exception of a source's own code into a ``SourceError`` that says whose it is.

    Into a ``BrokenError`` unless it is an ``OSError``: without a network a source does not answer.

    Args:
        source: whose code runs in the body.
        what: which part of it, such as "blocks".
    """
    try:
        yield
    except BTCDataError:
        raise
    except Exception as error:
        said, name = get_first_line(error), type(error).__name__
        told = name if said in ("", name) else f"{name}: {said}"
        *_, (frame, line) = walk_tb(error.__traceback__)
        where = f"line {line} of {Path(frame.f_code.co_filename).name}"
        kind = SourceError if isinstance(error, OSError) else BrokenError  # of a disk, a network
        raise kind(f"{_name(source)}: its `{what}` failed: {told} ({where})") from error


def _name(source: Any) -> str:
    return str(getattr(source, "name", type(source).__name__))


def _tell(thing: Any) -> str:
    return "None" if thing is None else f"something of type {name_type(thing)}"
