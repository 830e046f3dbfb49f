"""Asking a source for bars of any length: where it has none, shorter ones are asked for and joined.

``ask`` is how everybody asks a source. One that offers the interval answers itself. Of another the
longest bars are asked for that fill those that are wanted, length and grid, and joined: closed bars
only, and holes stay what they are. A long bar is answered for once all of its short ones are; it is
absent if all of them are, and else made of those that there are. One that touches a block which is
not answered is not answered either. Memory holds one answer of the
source and what is left of a long bar from the one before.
"""

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace

from btc_datamodule.candles.joining import can_join
from btc_datamodule.candles.series import concatenate, join_bars, make_empty
from btc_datamodule.candles.timeline import Span, ceil_to, floor_to, format_interval
from btc_datamodule.errors import SourceError
from btc_datamodule.sources.answering import explain_failure, list_answers
from btc_datamodule.sources.base import Block, Source

DAY = 86_400
"""Longest bars to join: beyond a day each exchange has a grid of its own."""

LENGTHS = (DAY, *(hours * 3600 for hours in (12, 8, 6, 4, 2, 1)), 1800, 900, 300, 60, 1)
"""Bars to try of a source that offers lengths by a rule and not by a list."""


def choose_base(source: Source, interval: int, offered: tuple[int, ...] | None) -> int:
    """The bars to ask a source for: of ``interval``, or the longest that they can be joined from.

    Args:
        source: whom to ask.
        interval: seconds, and the grid.
        offered: bar lengths that it is known to have; None for any that its ``check_interval``
            lets pass.

    Raises:
        SourceError: of the source, if there are none.
    """
    if (offered is None or interval in offered) and _offers(source, interval):
        return interval
    for base in sorted(LENGTHS if offered is None else offered, reverse=True):
        if base <= min(interval, DAY) and can_join(base, interval) and _offers(source, base):
            return base
    source.check_interval(interval)
    return interval  # so that the source says, when it is asked, what it has


def ask(source: Source, interval: int, span: Span) -> Generator[Block, None, None]:
    """Yield a source's answers for ``span`` in bars of ``interval``, as ``Source.blocks`` does.

    Args:
        source: whom to ask.
        interval: seconds, and the grid.
        span: on that grid, in the past.

    Raises:
        SourceError: if the source cannot answer, has no bars that can be joined, or fails.
        CandleError: if its answers are no candles.
    """
    with explain_failure(source, "list_intervals"):
        offered = source.list_intervals()
    base = choose_base(source, interval, offered)
    with closing(list_answers(source, lambda: source.blocks(base, span), Block)) as blocks:
        yield from blocks if base == interval else _join(blocks, source, base, interval)


def _offers(source: Source, interval: int) -> bool:
    try:
        source.check_interval(interval)
    except SourceError:
        return False
    return True


def _join(blocks: Iterator[Block], source: Source, base: int, interval: int) -> Iterator[Block]:
    """Yield blocks of short bars as blocks of long ones, each with the edges of long bars."""
    short, long = format_interval(base), format_interval(interval)
    notes: tuple[str, ...] = (
        f"{source.name} {source.series}: bars of {long} are joined from its bars of {short}",
    )
    held: list[Block] = []
    at: int | None = None
    for block in blocks:
        if block.candles.interval != base:
            raise SourceError(
                f"{source.name} broke its contract: asked for bars of {short} it gave bars of "
                f"{format_interval(block.candles.interval)}"
            )
        if at is None:  # what came before lies in a bar that is not whole
            at = ceil_to(block.span[0], interval)
        if not block.answered:  # nor is any bar that it touches
            end = max(at, ceil_to(block.span[1], interval))
            told = (*notes, *(note for each in (*held, block) for note in each.notes))
            yield replace(block, span=(at, end), candles=make_empty(interval), notes=told)
            held, notes, at = [], (), end
            continue
        held.append(block)
        end = floor_to(block.span[1], interval)
        if end <= at:
            continue
        candles, _ = join_bars(
            concatenate([each.candles for each in held]).slice(at, end), interval
        )
        yield Block(
            (at, end),
            candles,
            ", ".join(dict.fromkeys(each.origin for each in held)),
            (*notes, *(note for each in held for note in each.notes)),
            ", ".join(dict.fromkeys(each.checksum for each in held if each.checksum)),
            sum(each.received for each in held),
        )
        # Blocks before this one end before the first bar that is left.
        rest = block.candles.slice(end, block.span[1])
        left = replace(block, span=(end, block.span[1]), candles=rest, notes=(), received=0)
        held, notes, at = [left] if end < block.span[1] else [], (), end
