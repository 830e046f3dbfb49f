"""``RecordSourceContract``: what the file of records relies on when it asks a source."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from btc_datamodule.candles.records import (
    INSTANTS,
    RecordSet,
    check_grid,
    concatenate,
    is_column_name,
    make_empty,
)
from btc_datamodule.candles.timeline import Span, format_instant
from btc_datamodule.errors import RecordError
from btc_datamodule.plain import to_plain
from btc_datamodule.sources.records import RecordBlock, RecordSource
from btc_datamodule.store.record_file import read_records
from btc_datamodule.store.update import update_records
from btc_datamodule.testing.contracts.answers import AnswerContract, Words
from btc_datamodule.testing.contracts.values import check_equal, format_span


class RecordSourceContract(AnswerContract[RecordSource]):
    """Tests of a ``RecordSource``: derive a class named Test..., and say what to test.

        class TestMyFunding(RecordSourceContract):
            span = ("2021-01-01", "2021-02-01")

            def make(self):
                return MyFunding("BTCUSDT")

    Attributes:
        span: from the first time asked for to the instant past the last, ISO 8601, UTC, or epoch
            seconds; in the past, and on the grid of records that follow one.
        records: those that it must answer ``span`` with; None where they are not known.
    """

    argument: ClassVar[str] = "records"
    kind: ClassVar[type] = RecordSource

    records: ClassVar[RecordSet | None] = None

    _words: ClassVar[Words] = Words("records", "records", "file of records", RecordBlock)

    def keep(self, made: RecordSource) -> Any:
        """What a checkpoint holds of the source."""
        return to_plain(made)

    def test_its_columns_are_names_that_stay(self) -> None:
        """Features name them before anything is read."""
        columns, again = self.make().columns, self.make().columns
        told = isinstance(columns, tuple) and all(isinstance(name, str) for name in columns)
        assert told, f"columns is {columns!r}: give a tuple of names"
        for name in columns:
            assert is_column_name(name), f"columns: values cannot be called {name!r}"
        assert len(set(columns)) == len(columns) > 0, f"columns is {columns!r}: name each once"
        assert again == columns, f"columns is {columns!r} once and {again!r} the next time"

    def test_its_records_are_known_by_time_inside_their_blocks(self) -> None:
        """A record that is stored never changes: a revision is another one, known later."""
        source, held = self.make(), 0
        for number, block in enumerate(source.blocks(self._asked)):
            where, records = f"block {number}, {format_span(block.span)},", block.records
            try:
                RecordSet(records.columns)
                if source.interval is not None:
                    check_grid(records, source.interval, "records")
            except RecordError as error:
                raise AssertionError(f"{where} has rows that are no records: {error}") from None
            assert set(records.values) <= set(source.columns), (
                f"{where} has columns {', '.join(records.values)}, and `columns` names "
                f"{', '.join(source.columns)}"
            )
            inside = records.slice(*block.span)
            assert len(inside) == len(records), f"{where} has records whose time is outside it"
            assert block.answered or not len(records), (
                f"{where} has records, and is not `answered`: they would not be stored"
            )
            assert not len(records) or records.span[0] >= source.first, (
                f"{where} has a record before `first`, {format_instant(source.first)}: records "
                "there are never asked for"
            )
            held += len(records)
        assert held, f"it has no records in {format_span(self._asked)}: set `span` to where it has"

    def test_its_records_are_those_that_it_must_have(self) -> None:
        """Times, since when each was known, and values."""
        if self.records is None:
            pytest.skip("no `records` say which it must answer with")
        check_equal(
            self._collect_columns(self._ask(self.make(), self._asked)),
            self._collect_columns(self.records.slice(*self._asked)),
            f"the records of {format_span(self._asked)} are not those of `records`",
        )

    # --- what a kind of source says of itself ---------------------------------------------------

    @property
    def _step(self) -> int:
        """Seconds of the source's interval; a second where it has none."""
        return self.make().interval or 1

    def _iterate_blocks(self, source: RecordSource, span: Span) -> Iterator[RecordBlock]:
        return source.blocks(span)

    def _join_parts(self, parts: Sequence[RecordSet]) -> RecordSet:
        try:
            return concatenate([make_empty(()), *parts])
        except RecordError as error:
            raise AssertionError(f"its blocks make no series of records: {error}") from None

    def _collect_columns(self, content: RecordSet) -> dict[str, Any]:
        """Times, and columns that hold anything."""
        return {
            name: content[name]
            for name in (*INSTANTS, *sorted(content.values))
            if name in INSTANTS or not np.isnan(content[name]).all()
        }

    def _fill_file(self, path: Path, source: RecordSource, span: Span) -> int:
        return update_records(path, source, *span).added

    def _read_file(self, path: Path) -> RecordSet:
        return read_records(path)
