"""Plans: what a file is to hold, what of it is lacking, and which of that is needed."""

from dataclasses import dataclass, replace

import numpy as np

from btc_datamodule.candles.timeline import Span, subtract
from btc_datamodule.sources.records import RecordBlock
from btc_datamodule.store.forms import AnyBlock
from btc_datamodule.store.record_file import RecordHeader
from btc_datamodule.store.series_file import Header


@dataclass(frozen=True)
class Wanted:
    """What a file is to hold.

    Attributes:
        span: of the times of its rows, closed bars only.
        needed: the instant from which on rows are welcome and not needed, open as the end may be.
        open_start: whether it begins as early as the source has.
        open_end: whether it ends with the latest closed bar, whenever that is.
        refresh: whether all of it is to be asked for again.
        whole: whether the source has a revision: it is read whole, or not at all.
        now: epoch seconds: what is not known yet then is not stored.
    """

    span: Span
    needed: int
    open_start: bool
    open_end: bool
    refresh: bool
    whole: bool
    now: float

    def list_kept(self, stored: Header | None, revision: str) -> list[Span]:
        """The spans that a file settles.

        Args:
            stored: its header; None if there is none.
            revision: ``Source.revision``, "" if the source has none.
        """
        if stored is None:
            return []
        if self.whole:
            is_due = isinstance(stored, RecordHeader) and 0 < stored.pending <= self.now
            return [self.span] if stored.revision == revision and not is_due else []
        return [*stored.covered] if stored.rows else []  # without a row nothing is settled

    def list_lacking(self, known: list[Span]) -> list[Span]:
        """The spans that are to be asked for where ``known`` are settled."""
        if self.refresh:
            return [self.span] if self.span[0] < self.span[1] else []
        return subtract(self.span, known)

    def is_welcome(self, missing: Span, known: list[Span]) -> bool:
        """Whether a missing span is one of latest rows, which nobody needs where others are known.

        Args:
            missing: the span.
            known: spans that are not missing.
        """
        within = [end for start, end in known if start < self.span[1] and end > self.span[0]]
        is_last = self.open_end or missing[0] >= self.needed
        return is_last and not self.refresh and bool(within) and missing[0] >= max(within)

    def can_wait(self, stored: Header, revision: str) -> bool:
        """Whether nothing that a file lacks is needed.

        Records of a source that is read whole which are known by now, and were not then, are not.
        """
        if self.whole:
            return not self.refresh and stored.revision == revision
        kept = self.list_kept(stored, revision)
        return all(self.is_welcome(span, kept) for span in self.list_lacking(kept))


@dataclass(frozen=True)
class Plan:
    """What there is to do.

    Attributes:
        stored: header of the file; None if there is none.
        missing: the spans to ask for, and whether each is needed.
    """

    stored: Header | None
    missing: tuple[tuple[Span, bool], ...]


def leave_out_late(block: AnyBlock, wanted: Wanted) -> tuple[AnyBlock, list[int]]:
    """A block as far as it is known by now, and since when each record left out will be known.

    Of a source that is read whole single records are left out. Of another one nothing is settled
    from the first of them on: the block ends there.
    """
    if not isinstance(block, RecordBlock):  # its bars are closed
        return block, []
    records = block.records
    late = records.known_at > wanted.now
    if not late.any():
        return block, []
    start, end = block.span
    if not wanted.whole:
        end = int(records.time[np.argmax(late)])
    known = replace(block, span=(start, end), records=records.take(~late).slice(start, end))
    return known, records.known_at[late].tolist()
