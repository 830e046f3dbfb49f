"""What a source of records is: funding, open interest and whatever else is known beside candles.

``RecordSource`` is to records what ``Source`` (``base``) is to candles: it answers for a time span
with blocks. Only covariates of a datamodule can be such a source.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from btc_datamodule.candles.records import RecordSet
from btc_datamodule.candles.timeline import Span
from btc_datamodule.public import public
from btc_datamodule.sources.base import StoredSeries, check_content, to_span


@public
@dataclass(frozen=True)
class RecordBlock:
    """The answer of a source of records for one span.

    Attributes:
        span: the half-open span (epoch seconds) that this block settles: there are no records whose
            time is in it but these.
        records: those whose time is in ``span``.
        origin: where they came from: a URL, or a file.
        notes: what had to be repaired, one sentence each, for the user to read.
        checksum: of the bytes that they came in, such as "sha256:..."; "" where there is none.
        received: bytes that came over the network for it, for the progress bar.
        answered: False where the source has no answer for ``span`` yet; see ``Block.answered``.
    """

    span: Span
    records: RecordSet
    origin: str
    notes: tuple[str, ...] = ()
    checksum: str = ""
    received: int = 0
    answered: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "span", to_span(self.span))
        check_content(self.records, RecordSet, self.origin)

    @property
    def content(self) -> RecordSet:
        """What is in it, by the name that blocks of candles have for it too."""
        return self.records


@public
class RecordSource(ABC):
    """Somewhere records come from.

    Subclasses are frozen dataclasses whose fields are what a user can set in YAML.

    Attributes:
        name: folder of the source under ``data_dir``.
        first: epoch seconds before which it has nothing.
        covers: seconds before its time that a record tells of: 8 hours for the funding of 8 hours.
    """

    name: ClassVar[str]
    first: ClassVar[int] = 0
    covers: ClassVar[int] = 0

    @property
    @abstractmethod
    def series(self) -> str:
        """Folder of this series under the source: the product, and whatever else tells it apart."""

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Names of the values of a record."""

    @property
    def interval(self) -> int | None:
        """Seconds from one record to the next, whose times lie on its grid; None if they do not."""
        return None

    @property
    def revision(self) -> str | None:
        """Identity of a source that answers everything at once; see ``Source.revision``."""
        return None

    @abstractmethod
    def blocks(self, span: Span) -> Iterator[RecordBlock]:
        """Yield answers for ``span``, in order of time, the spans together covering it.

        Args:
            span: of the times of the records, in the past. A source with a ``revision`` answers
                instead with the span that it has.

        Raises:
            SourceError: if it cannot answer. Blocks yielded before stay valid.
        """

    def hurry(self) -> Self:
        """This source with little patience; see ``Source.hurry``. By default itself."""
        return self

    def recognise(self, stored: Iterable[StoredSeries]) -> "RecordSource":
        """This source under the name of a stored series that is its own; see ``Source.recognise``.

        By default itself.
        """
        return self
