"""``SourceContract``: what the candle file relies on when it asks a source."""

import math
import time
from collections.abc import Generator
from contextlib import suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
import pytest

from btc_datamodule.candles.series import COLUMNS, Candles, concatenate, make_empty
from btc_datamodule.candles.timeline import (
    Span,
    floor_to,
    format_instant,
    format_interval,
    parse_instant,
)
from btc_datamodule.errors import CandleError, ConfigError, SourceError
from btc_datamodule.sources.base import Block, Source, check_path_part
from btc_datamodule.store.candle_file import CandleReader
from btc_datamodule.store.update import update
from btc_datamodule.testing.contracts.values import (
    ValueContract,
    catch,
    check_equal,
    format_span,
    is_on_grid,
    to_seconds,
)


class SourceContract(ValueContract[Source]):
    """Tests of a ``Source``: derive a class whose name begins with Test, and say what to test.

    ::

        class TestMySource(SourceContract):
            interval = "1h"
            span = ("2021-01-01", "2021-02-01")

            def make(self):
                return MySource("BTC-USD")

    Class attributes:
        interval: bar length, such as "1h", or in seconds.
        span: from the first instant asked for to the one past the last, ISO 8601, UTC, or epoch
            seconds; on the interval's grid, in the past, with at least four bars in it.
        bars: the candles that it must answer ``span`` with; None where they are not known.
        refused: a bar length that it must refuse; None for one that is not in its ``intervals``.

    A source that needs something to ask gets it from a fixture of the class::

            @pytest.fixture(autouse=True)
            def _exchange(self):
                with Exchange(CoinbaseAnswers(held)) as self.exchange:
                    yield
    """

    argument: ClassVar[str] = "source"
    kind: ClassVar[type] = Source

    interval: ClassVar[str | int] = "1h"
    span: ClassVar[tuple[str | int, str | int]]
    bars: ClassVar[Candles | None] = None
    refused: ClassVar[str | int | None] = None

    def arguments(self, made: Source) -> dict[str, Any]:
        """The source, and an interval that it offers."""
        return {"source": made, "interval": format_interval(self._step)}

    def observe(self, made: Source) -> Any:
        """Its folders, its revision and its bars."""
        return made.name, made.series, made.revision, collect_values(self._ask(made, self._asked))

    # --- who it is ------------------------------------------------------------------------------

    def test_its_name_and_series_are_names_of_folders_that_stay(self) -> None:
        """Its candles lie in ``<data_dir>/<name>/<series>/<interval>``."""
        source, again = self.make(), self.make()
        for name in ("name", "series"):
            value = getattr(source, name)
            try:
                check_path_part(value, name)
            except (ConfigError, TypeError) as error:
                raise AssertionError(f"its files cannot be stored: {error}") from None
            assert getattr(again, name) == value, (
                f"{name} is {value!r} once and {getattr(again, name)!r} the next time: candles "
                "that are stored would not be found again"
            )

    def test_it_offers_the_interval_and_refuses_others_by_naming_the_choices(self) -> None:
        """``BTCDataModule`` asks ``check_interval`` before anything is downloaded."""
        source = self.make()
        source.check_interval(self._step)
        refused = self._refused(source)
        if refused is None:
            pytest.skip("it has bars of any length, and no `refused` says otherwise")
        text = format_interval(refused)
        error = catch(SourceError, lambda: source.check_interval(refused))
        assert error, f"check_interval lets bars of {text} pass, which it has not"
        offered = [format_interval(seconds) for seconds in source.intervals or ()]
        for choice in offered or ["interval"]:
            assert choice in str(error), (
                f"the error for bars of {text} does not mention {choice!r}, so nobody learns "
                f"what to set instead: {error}"
            )

    def test_its_revision_stays_while_nothing_changes(self) -> None:
        """A source with a revision is read anew when that changes."""
        source = self.make()
        before = source.revision
        assert before is None or (isinstance(before, str) and before), (
            f"revision is {before!r}: it must be a text that is not empty, or None"
        )
        self._ask(source, self._asked)
        for after in (source.revision, self.make().revision):
            assert after == before, (
                f"revision was {before!r} and is {after!r}, though nothing has changed: "
                "everything would be read again at every run"
            )

    # --- its blocks -----------------------------------------------------------------------------

    def test_its_blocks_follow_each_other_from_the_start_of_the_span(self) -> None:
        """What a block settles is never asked for again; the last may end early.

        One that is not ``answered`` settles nothing: the next run asks for its span again.
        """
        source, (at, end) = self.make(), self._asked
        for number, block in enumerate(source.blocks(self._step, self._asked)):
            if number == 0 and source.revision is not None:
                at = block.span[0]  # it answers with the span that it has
            where = f"block {number}, {format_span(block.span)},"
            assert block.span[0] == at, (
                f"{where} should begin at {format_instant(at)}: what lies between would never be "
                "asked for, or twice"
            )
            assert block.span[0] <= block.span[1] <= end, (
                f"{where} ends before it begins, or after {format_instant(end)}, the end that was "
                "asked for: bars there may not be closed yet"
            )
            assert is_on_grid(block.span, self._step), (
                f"{where} is off the grid of {format_interval(self._step)}"
            )
            at = block.span[1]

    def test_its_bars_are_closed_candles_inside_their_blocks(self) -> None:
        """A bar that is stored never changes."""
        source, held = self.make(), 0
        for number, block in enumerate(source.blocks(self._step, self._asked)):
            where, bars = f"block {number}, {format_span(block.span)},", block.candles
            assert bars.interval == self._step, (
                f"{where} has bars of {format_interval(bars.interval)}, not of "
                f"{format_interval(self._step)}"
            )
            try:
                Candles(bars.interval, bars.columns)
            except CandleError as error:
                raise AssertionError(f"{where} has rows that are no candles: {error}") from None
            inside = bars.slice(*block.span)
            assert len(inside) == len(bars), f"{where} has bars that open outside it"
            assert block.answered or not len(bars), (
                f"{where} has bars, and is not `answered`: they would not be stored"
            )
            closed = min(self._asked[1], math.floor(time.time()))
            assert bars.span[1] <= closed, f"{where} has a bar that was not closed"
            assert not len(bars) or bars.span[0] >= source.first, (
                f"{where} has a bar before `first`, {format_instant(source.first)}: bars there "
                "are never asked for"
            )
            held += len(bars)
        assert held, f"it has no bars in {format_span(self._asked)}: set `span` to where it has"

    def test_its_bars_are_those_that_it_must_have(self) -> None:
        """Values, bar by bar."""
        if self.bars is None:
            pytest.skip("no `bars` say which it must answer with")
        found = self._ask(self.make(), self._asked)
        check_equal(
            collect_values(found),
            collect_values(self.bars.slice(*self._asked)),
            f"the bars of {format_span(self._asked)} are not those of `bars`",
        )

    def test_its_blocks_say_where_they_come_from(self) -> None:
        """The candle file keeps it as the provenance of its bars."""
        for number, block in enumerate(self.make().blocks(self._step, self._asked)):
            assert isinstance(block, Block), f"block {number} is {block!r}, which is no Block"
            named = isinstance(block.origin, str) and block.origin
            assert named, (
                f"block {number} has the origin {block.origin!r}: name an address, or a file"
            )
            texts = isinstance(block.notes, tuple) and all(isinstance(n, str) for n in block.notes)
            assert texts, f"notes of block {number} are {block.notes!r}: give a tuple of sentences"
            assert isinstance(block.checksum, str), f"checksum of block {number} is no text"
            counted = isinstance(block.received, int) and block.received >= 0
            assert counted, (
                f"received of block {number} is {block.received!r}: give a number of bytes"
            )

    # --- the same question, the same answer -----------------------------------------------------

    def test_asking_again_gives_the_same_bars(self) -> None:
        """History is what it is."""
        source = self.make()
        first = self._ask(source, self._asked)
        for again in (source, self.make()):
            check_equal(
                collect_values(self._ask(again, self._asked)),
                collect_values(first),
                "asked twice for the same span, it gives other bars the second time",
            )

    def test_a_span_that_ends_earlier_gives_the_same_bars_up_to_there(self) -> None:
        """Nothing after what is asked for matters."""
        source, (start, end) = self.make(), self._asked
        whole = self._ask(source, self._asked)
        for cut in self._cuts():
            check_equal(
                collect_values(self._ask(source, (start, cut))),
                collect_values(whole.slice(0, cut)),
                f"asked up to {format_instant(cut)}, it gives other bars than asked up to "
                f"{format_instant(end)}: they depend on what comes after",
            )

    def test_a_span_asked_for_in_two_halves_gives_the_same_bars(self) -> None:
        """A download goes on where it was interrupted."""
        source, (start, end) = self.make(), self._asked
        if source.revision is not None:
            pytest.skip("it has a revision: it is asked for all it has at once")
        whole = self._ask(source, self._asked)
        for cut in self._cuts():
            halves = [self._ask(source, half) for half in ((start, cut), (cut, end))]
            check_equal(
                collect_values(concatenate(halves)),
                collect_values(whole),
                f"asked in two halves, cut at {format_instant(cut)}, it gives other bars than "
                "asked once: an interrupted download would end in other candles",
            )

    def test_a_span_of_a_source_with_a_revision_may_begin_anywhere(self) -> None:
        """It is asked for all of time, whatever ``start`` says."""
        source, (start, end) = self.make(), self._asked
        if source.revision is None:
            pytest.skip("it has no revision: it is asked for the spans that are missing")
        check_equal(
            collect_values(self._ask(source, (0, end))),
            collect_values(self._ask(source, (start, end))),
            "it has a revision, so it is asked once, for everything: its answer must not depend "
            "on where the span begins",
        )

    def test_an_empty_span_is_answered_with_nothing(self) -> None:
        """Half-open: nothing opens in it."""
        source, (start, end) = self.make(), self._asked
        if source.revision is not None:
            pytest.skip("it has a revision: it answers with the span that it has")
        for at in (start, end):
            found = self._ask(source, (at, at))
            assert not len(found), f"the empty span at {format_instant(at)} has {len(found)} bars"

    def test_a_reader_may_stop_after_the_first_block(self) -> None:
        """After an error the rest of an answer is not read."""
        source = self.make()
        blocks = iter(source.blocks(self._step, self._asked))
        with suppress(StopIteration):
            next(blocks)
        if isinstance(blocks, Generator):
            blocks.close()
        check_equal(
            collect_values(self._ask(source, self._asked)),
            collect_values(self._ask(self.make(), self._asked)),
            "after an answer that was not read to its end it gives other bars",
        )

    # --- the candle file ------------------------------------------------------------------------

    def test_a_candle_file_holds_its_bars_whether_filled_at_once_or_twice(self) -> None:
        """The whole way to disk, and a second run that has nothing to add."""
        source, (start, end) = self.make(), self._asked
        due = self._ask(source, self._asked)
        if source.revision is not None:
            due = self._ask(source, (0, floor_to(time.time(), self._step)))
        for ends in ([end], [self._cuts()[1], end]):
            with TemporaryDirectory() as folder:
                path = Path(folder) / "candles.h5"
                for until in ends:
                    update(path, source, self._step, start, until)
                with CandleReader(path) as reader:
                    stored = reader.slice(0, due.span[1] + self._step)
                check_equal(
                    collect_values(stored),
                    collect_values(due),
                    f"the candle file, filled in {len(ends)} runs, has other bars than it answers",
                )
                added = update(path, source, self._step, start, end).added
                assert added == 0, f"asked again for what is stored, it adds {added} bars"

    # --- the question ---------------------------------------------------------------------------

    @property
    def _step(self) -> int:
        """Seconds of ``interval``."""
        return to_seconds(self.interval)

    @property
    def _asked(self) -> Span:
        """``span`` in epoch seconds."""
        start, end = (parse_instant(edge, "span") for edge in self.span)
        long = end - start >= 4 * self._step
        usable = long and end <= time.time() and is_on_grid((start, end), self._step)
        assert usable, (
            f"span {self.span}: set it to four bars or more, in the past, on the grid of "
            f"{format_interval(self._step)}"
        )
        return start, end

    def _cuts(self) -> tuple[int, int, int]:
        """Instants on the grid to cut the span at: after the first bar, amid, before the last."""
        start, end = self._asked
        middle = floor_to((start + end) / 2, self._step)
        return start + self._step, middle, end - self._step

    def _refused(self, source: Source) -> int | None:
        if self.refused is not None:
            return to_seconds(self.refused)
        if source.intervals is None:
            return None
        return next(seconds for seconds in count(2) if seconds not in source.intervals)

    def _ask(self, source: Source, span: Span) -> Candles:
        """All bars that a source answers a span with; none where it has a revision and no bar."""
        try:
            parts = [block.candles for block in source.blocks(self._step, span)]
        except SourceError:
            if source.revision is None or span == self._asked:
                raise
            parts = []  # a file without a closed bar is an error, unless the test has cut it
        try:
            return concatenate([make_empty(self._step), *parts])
        except CandleError as error:
            raise AssertionError(f"its blocks make no series of candles: {error}") from None


def collect_values(bars: Candles) -> dict[str, Any]:
    """Columns of candles that hold anything: one that is NaN throughout says as much as none."""
    return {
        name: bars[name]
        for name in COLUMNS
        if name in bars.columns and not np.isnan(bars[name]).all()
    } or {"open_time": bars.open_time}
