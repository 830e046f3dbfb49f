"""``AnswerContract``: what the way to disk relies on in the answers of a source of any kind."""

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, NamedTuple, TypeVar

import pytest

from btc_datamodule.candles.timeline import (
    Span,
    floor_to,
    format_instant,
    format_interval,
    parse_instant,
)
from btc_datamodule.errors import ConfigError, SourceError
from btc_datamodule.sources.base import check_path_part
from btc_datamodule.store.forms import AnyBlock, AnySource
from btc_datamodule.testing.contracts.values import (
    ValueContract,
    check_equal,
    format_span,
    is_on_grid,
)

S = TypeVar("S", bound=AnySource)


class Words(NamedTuple):
    """What things of a kind of source are called.

    Attributes:
        rows: what rows are called where they are counted.
        content: what they are called where it is about what they hold.
        file: what the file is called that holds them.
        block: the class of its blocks.
    """

    rows: str
    content: str
    file: str
    block: type


class AnswerContract(ValueContract[S]):
    """Tests of what a source answers.

    Attributes:
        span: from the first instant asked for to the one past the last, ISO 8601, UTC, or epoch
            seconds; on the grid of the rows, in the past, with at least four rows in it.

    What a kind of source says of itself has names that begin with an underscore.
    """

    span: ClassVar[tuple[str | int, str | int]]
    _words: ClassVar[Words]

    @property
    def _step(self) -> int:
        """Seconds on whose grid spans begin and end."""
        raise NotImplementedError

    def _iterate_blocks(self, source: S, span: Span) -> Iterator[AnyBlock]:
        """What the source answers for a span."""
        raise NotImplementedError

    def _join_parts(self, parts: Sequence[Any]) -> Any:
        """The content of blocks that follow each other as one, empty where there are none."""
        raise NotImplementedError

    def _collect_columns(self, content: Any) -> dict[str, Any]:
        """The columns of content that are compared."""
        raise NotImplementedError

    def _fill_file(self, path: Path, source: S, span: Span) -> int:
        """Bring a file up to date for a span; give how many rows were added."""
        raise NotImplementedError

    def _read_file(self, path: Path) -> Any:
        """All that a file holds."""
        raise NotImplementedError

    def observe(self, made: S) -> Any:
        """Its folders, its revision and its rows."""
        answer = self._collect_columns(self._ask(made, self._asked))
        return made.name, made.series, made.revision, answer

    # --- who it is ------------------------------------------------------------------------------

    def test_its_name_and_series_are_names_of_folders_that_stay(self) -> None:
        """Its rows lie in a folder below ``<data_dir>/<name>/<series>``."""
        source, again = self.make(), self.make()
        for name in ("name", "series"):
            value = getattr(source, name)
            try:
                check_path_part(value, name)
            except (ConfigError, TypeError) as error:
                raise AssertionError(f"its files cannot be stored: {error}") from None
            assert getattr(again, name) == value, (
                f"{name} is {value!r} once and {getattr(again, name)!r} the next time: "
                f"{self._words.content} that are stored would not be found again"
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
        rows = self._words.rows
        source, (at, end) = self.make(), self._asked
        for number, block in enumerate(self._iterate_blocks(source, self._asked)):
            if number == 0 and source.revision is not None:
                at = block.span[0]  # it answers with the span that it has
            where = f"block {number}, {format_span(block.span)},"
            assert block.span[0] == at, (
                f"{where} should begin at {format_instant(at)}: what lies between would never be "
                "asked for, or twice"
            )
            assert block.span[0] <= block.span[1] <= end, (
                f"{where} ends before it begins, or after {format_instant(end)}, the end that was "
                f"asked for: {rows} there may not be closed yet"
            )
            assert is_on_grid(block.span, self._step), (
                f"{where} is off the grid of {format_interval(self._step)}"
            )
            at = block.span[1]

    def test_its_blocks_say_where_they_come_from(self) -> None:
        """The file keeps it as the provenance of its rows."""
        for number, block in enumerate(self._iterate_blocks(self.make(), self._asked)):
            assert isinstance(block, self._words.block), (
                f"block {number} is {block!r}, which is no {self._words.block.__name__}"
            )
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

    def test_asking_again_gives_the_same_answer(self) -> None:
        """History is what it is."""
        rows = self._words.rows
        source = self.make()
        first = self._ask(source, self._asked)
        for again in (source, self.make()):
            self._check_same(
                self._ask(again, self._asked),
                first,
                f"asked twice for the same span, it gives other {rows} the second time",
            )

    def test_a_span_that_ends_earlier_gives_the_same_answer_up_to_there(self) -> None:
        """Nothing after what is asked for matters."""
        rows = self._words.rows
        source, (start, end) = self.make(), self._asked
        whole = self._ask(source, self._asked)
        for cut in self._cuts:
            self._check_same(
                self._ask(source, (start, cut)),
                whole.slice(0, cut),
                f"asked up to {format_instant(cut)}, it gives other {rows} than asked up to "
                f"{format_instant(end)}: they depend on what comes after",
            )

    def test_a_span_asked_for_in_two_halves_gives_the_same_answer(self) -> None:
        """A download goes on where it was interrupted."""
        rows, content = self._words[:2]
        source, (start, end) = self.make(), self._asked
        if source.revision is not None:
            pytest.skip("it has a revision: it is asked for all it has at once")
        whole = self._ask(source, self._asked)
        for cut in self._cuts:
            halves = [self._ask(source, half) for half in ((start, cut), (cut, end))]
            self._check_same(
                self._join_parts(halves),
                whole,
                f"asked in two halves, cut at {format_instant(cut)}, it gives other {rows} "
                f"than asked once: an interrupted download would end in other {content}",
            )

    def test_a_span_of_a_source_with_a_revision_may_begin_anywhere(self) -> None:
        """It is asked for all of time, whatever ``start`` says."""
        source, (start, end) = self.make(), self._asked
        if source.revision is None:
            pytest.skip("it has no revision: it is asked for the spans that are missing")
        self._check_same(
            self._ask(source, (0, end)),
            self._ask(source, (start, end)),
            "it has a revision, so it is asked once, for everything: its answer must not depend "
            "on where the span begins",
        )

    def test_an_empty_span_is_answered_with_nothing(self) -> None:
        """Half-open: nothing is in it."""
        rows = self._words.rows
        source = self.make()
        if source.revision is not None:
            pytest.skip("it has a revision: it answers with the span that it has")
        for at in self._asked:
            found = self._ask(source, (at, at))
            assert not len(found), f"the empty span at {format_instant(at)} has {len(found)} {rows}"

    def test_a_reader_may_stop_after_the_first_block(self) -> None:
        """After an error the rest of an answer is not read."""
        rows = self._words.rows
        source = self.make()
        blocks = iter(self._iterate_blocks(source, self._asked))
        with suppress(StopIteration):
            next(blocks)
        if isinstance(blocks, Generator):
            blocks.close()
        self._check_same(
            self._ask(source, self._asked),
            self._ask(self.make(), self._asked),
            f"after an answer that was not read to its end it gives other {rows}",
        )

    # --- the file -------------------------------------------------------------------------------

    def test_a_file_holds_its_answer_whether_filled_at_once_or_twice(self) -> None:
        """The whole way to disk, and a second run that has nothing to add."""
        rows = self._words.rows
        source, (start, end) = self.make(), self._asked
        due = self._ask(source, self._asked)
        if source.revision is not None:
            due = self._ask(source, (0, floor_to(time.time(), self._step)))
        for ends in ([end], [self._cuts[1], end]):
            with TemporaryDirectory() as folder:
                path = Path(folder) / "rows.h5"
                for until in ends:
                    self._fill_file(path, source, (start, until))
                self._check_same(
                    self._read_file(path),
                    due,
                    f"the {self._words.file}, filled in {len(ends)} runs, has other {rows} than it "
                    "answers",
                )
                added = self._fill_file(path, source, self._asked)
                assert added == 0, f"asked again for what is stored, it adds {added} {rows}"

    # --- the question ---------------------------------------------------------------------------

    @property
    def _asked(self) -> Span:
        """``span`` in epoch seconds."""
        rows = self._words.rows
        start, end = (parse_instant(edge, "span") for edge in self.span)
        long = end - start >= 4 * self._step
        usable = long and end <= time.time() and is_on_grid((start, end), self._step)
        assert usable, (
            f"span {self.span}: set it to four {rows} or more, in the past, on the grid of "
            f"{format_interval(self._step)}"
        )
        return start, end

    @property
    def _cuts(self) -> tuple[int, int, int]:
        """Instants on the grid to cut the span at: after the first row, amid, before the last."""
        start, end = self._asked
        middle = floor_to((start + end) / 2, self._step)
        return start + self._step, middle, end - self._step

    def _ask(self, source: S, span: Span) -> Any:
        """All that a source answers a span with; nothing where it has a revision and no row."""
        try:
            parts = [block.content for block in self._iterate_blocks(source, span)]
        except SourceError:
            if source.revision is None or span == self._asked:
                raise
            parts = []  # a file without a row is an error, unless the test has cut it
        return self._join_parts(parts)

    def _check_same(self, found: Any, due: Any, problem: str) -> None:
        check_equal(self._collect_columns(found), self._collect_columns(due), problem)
