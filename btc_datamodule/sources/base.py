"""What a source of candles is: the small protocol between the world and the candle file.

A source answers for a time span with ``Block``s. It knows nothing of HDF5 or torch. To add one:
subclass ``Source``, give ``name``, ``product`` and ``blocks``, and point a YAML at it by class
path.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import Field, dataclass, fields, is_dataclass
from operator import index
from typing import Any, ClassVar, Self, TypeVar

from btc_datamodule.candles.series import Candles
from btc_datamodule.candles.timeline import Span, format_interval, get_offset
from btc_datamodule.checks import name_type
from btc_datamodule.errors import CandleError, ConfigError, RecordError, SourceError, retell
from btc_datamodule.public import public

_T = TypeVar("_T")


def to_span(given: Any) -> Span:
    """The span of a block, of whatever whole numbers a source has made it.

    Raises:
        SourceError: if it is none.
    """
    try:
        start, end = map(index, given)
    except (TypeError, ValueError):
        raise SourceError(
            f"the span of a block is {given!r:.80}: give two whole numbers, epoch seconds"
        ) from None
    return start, end


def check_content(content: Any, kind: type, origin: Any) -> None:
    """Raise ``SourceError`` unless what a source makes a block of is what it must be."""
    if not isinstance(content, kind):
        raise SourceError(f"a block has {name_type(content)} in the place of {kind.__name__}")
    if not isinstance(origin, str):
        raise SourceError(f"the origin of a block is {origin!r:.80}: give a text, such as a URL")


@public
@dataclass(frozen=True)
class Block:
    """The answer of a source for one span.

    Attributes:
        span: the half-open span (epoch seconds) that this block settles: a bar of it that is
            not in ``candles`` is known to be absent.
        candles: closed bars that open inside ``span``.
        origin: where they came from: a URL, or a file.
        notes: what had to be repaired, one sentence each, for the user to read.
        checksum: of the bytes that they came in, such as "sha256:..."; "" where there is none.
        received: bytes that came over the network for it, for the progress bar.
        answered: False where the source has no answer for ``span`` yet, such as a file that is
            there in part. Such a block has no candles and settles nothing: the next run asks for
            its span again. Its notes say why.
    """

    span: Span
    candles: Candles
    origin: str
    notes: tuple[str, ...] = ()
    checksum: str = ""
    received: int = 0
    answered: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "span", to_span(self.span))
        check_content(self.candles, Candles, self.origin)

    @property
    def content(self) -> Candles:
        """What is in it, by the name that blocks of records have for it too."""
        return self.candles


@dataclass(frozen=True)
class StoredSeries:
    """A series that is stored, as a source may know it again.

    Attributes:
        series: name of its folder.
        revision: ``Source.revision`` when it was read; "" if its source has none.
        checksums: ``Block.checksum`` of each answer that it is made of.
        origin: where its candles came from, and when.
    """

    series: str
    revision: str
    checksums: tuple[str, ...]
    origin: str


@public
class Source(ABC):
    """Somewhere candles come from.

    Subclasses are frozen dataclasses whose fields are what a user can set in YAML.

    Attributes:
        name: folder of the source under ``data_dir``.
        intervals: bar lengths in seconds that it offers; None for any.
        first: epoch seconds before which it has nothing.
    """

    name: ClassVar[str]
    intervals: ClassVar[tuple[int, ...] | None] = None
    first: ClassVar[int] = 0

    @property
    @abstractmethod
    def series(self) -> str:
        """Folder of this series under the source: the product, and whatever else tells it apart."""

    @property
    def revision(self) -> str | None:
        """Identity of a source that answers everything at once (a file's digest), else None.

        A source with a revision is asked once for all it has, and again when the revision
        changes; one without is asked for the spans that are missing.
        """
        return None

    @abstractmethod
    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        """Yield answers for ``span``, in order of time, the spans together covering it.

        Args:
            interval: seconds, one that ``check_interval`` has passed; an ``Interval``, if bars
                open elsewhere than usual.
            span: on the interval's grid, in the past: every bar in it is closed. A source with
                a ``revision`` answers instead with the span that it has.

        Raises:
            SourceError: if it cannot answer. Blocks yielded before stay valid.
        """

    def check_interval(self, interval: int) -> None:
        """Raise ``SourceError`` if the source does not offer bars of this length and grid.

        Whether they can be joined from shorter ones is not asked here; see ``resampling``.
        """
        if self.intervals is not None and interval not in self.intervals:
            offered = ", ".join(format_interval(seconds) for seconds in self.intervals)
            shifted = get_offset(interval) != get_offset(int(interval))
            raise SourceError(
                f"{self.name} has no bars of {format_interval(interval)}: "
                f"set `interval` to one of {offered}, or to a multiple of one"
                f"{', and `offset` to a multiple too' if shifted else ''}"
            )

    def hurry(self) -> Self:
        """This source with little patience, for bars that are welcome and not needed.

        It tells within seconds that it cannot answer. By default itself; a dataclass that holds
        other sources holds these in a hurry.
        """
        parts: tuple[Field[Any], ...] = fields(self) if is_dataclass(self) else ()
        names = [each.name for each in parts if each.init]
        held = {name: getattr(self, name) for name in names}
        hurried = {name: one.hurry() for name, one in held.items() if isinstance(one, Source)}
        changed = {name: one for name, one in hurried.items() if one is not held[name]}
        make: Any = type(self)  # of a dataclass, by its fields
        result: Self = make(**held | changed) if changed else self
        return result

    def recognise(self, stored: Iterable[StoredSeries]) -> "Source":
        """This source under the name of a stored series that is its own; else itself.

        Asked where nothing is stored under ``series``. By default a series is known by its name
        alone; a file may have been renamed, or its folder moved.

        Args:
            stored: all series of sources of this ``name`` that are stored in bars of the interval
                that is wanted, read one by one.

        Raises:
            ConfigError: if several may be, and are not the same.
        """
        return self

    def list_intervals(self) -> tuple[int, ...] | None:
        """Bar lengths that it offers, found out when it is about to be asked; None for any.

        By default ``intervals``. Bars of a length that is not listed are joined from shorter ones.
        """
        return self.intervals


def read_or_advise(read: Callable[[bool], _T], drop_invalid: bool) -> _T:
    """Return ``read(drop_invalid)``; if leaving bars out would mend its error, say so in it.

    Args:
        read: makes candles, or records, of what a source has; given True it leaves out what is
            none.
        drop_invalid: as the user set it.

    Raises:
        CandleError, RecordError: of ``read``, with the advice to set ``source.drop_invalid`` where
            ``read(True)`` raises none.
    """
    try:
        return read(drop_invalid)
    except (CandleError, RecordError) as error:
        try:
            read(True)
        except (CandleError, RecordError):  # rows that contradict each other, for instance
            raise error from None
        what = "bars" if isinstance(error, CandleError) else "rows"
        advice = f"set `source.drop_invalid: true` to leave such {what} out"
        raise retell(error, f"{error}: {advice}") from None


NO_PATH_PART = "cannot name a folder: use letters, digits, '.', '_' and '-'"
"""The end of an error on a text that is no ``is_path_part``."""


def is_path_part(text: str) -> bool:
    """Whether a text is safe as the name of one folder."""
    return re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", text) is not None


def check_path_part(text: str, argument: str) -> None:
    """Raise ``ConfigError`` unless ``text`` is safe as the name of one folder."""
    if not is_path_part(text):
        raise ConfigError(f"{argument} {text!r} {NO_PATH_PART}")
