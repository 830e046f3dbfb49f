"""``SourceContract``: what the candle file relies on when it asks a source."""

import math
import time
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from btc_datamodule.candles.series import COLUMNS, Candles, concatenate, make_empty
from btc_datamodule.candles.timeline import Span, format_instant, format_interval
from btc_datamodule.errors import CandleError, SourceError
from btc_datamodule.sources.base import Block, Source
from btc_datamodule.store.candle_file import read_candles
from btc_datamodule.store.update import update
from btc_datamodule.testing.contracts.answers import AnswerContract, Words
from btc_datamodule.testing.contracts.values import catch, check_equal, format_span, to_seconds


class SourceContract(AnswerContract[Source]):
    """Tests of a ``Source``: derive a class whose name begins with Test, and say what to test.

        class TestMySource(SourceContract):
            interval = "1h"
            span = ("2021-01-01", "2021-02-01")

            def make(self):
                return MySource("BTC-USD")

    Attributes:
        interval: bar length, such as "1h", or in seconds.
        span: from the first instant asked for to the one past the last, ISO 8601, UTC, or epoch
            seconds; on the interval's grid, in the past, with at least four bars in it.
        bars: the candles that it must answer ``span`` with; None where they are not known.
        refused: a bar length that it must refuse; None for one that is not in its ``intervals``.

    A source that needs something to ask gets it from a fixture of the class:

        @pytest.fixture(autouse=True)
        def _exchange(self):
            with Exchange(CoinbaseAnswers(held)) as self.exchange:
                yield
    """

    argument: ClassVar[str] = "source"
    kind: ClassVar[type] = Source

    interval: ClassVar[str | int] = "1h"
    bars: ClassVar[Candles | None] = None
    refused: ClassVar[str | int | None] = None

    _words: ClassVar[Words] = Words("bars", "candles", "candle file", Block)

    def arguments(self, made: Source) -> dict[str, Any]:
        """The source, and an interval that it offers."""
        return {"source": made, "interval": format_interval(self._step)}

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
            self._collect_columns(found),
            self._collect_columns(self.bars.slice(*self._asked)),
            f"the bars of {format_span(self._asked)} are not those of `bars`",
        )

    # --- what a kind of source says of itself ---------------------------------------------------

    @property
    def _step(self) -> int:
        """Seconds of ``interval``."""
        return to_seconds(self.interval)

    def _iterate_blocks(self, source: Source, span: Span) -> Iterator[Block]:
        return source.blocks(self._step, span)

    def _join_parts(self, parts: Sequence[Candles]) -> Candles:
        try:
            return concatenate([make_empty(self._step), *parts])
        except CandleError as error:
            raise AssertionError(f"its blocks make no series of candles: {error}") from None

    def _collect_columns(self, content: Candles) -> dict[str, Any]:
        """Columns that hold anything: one that is NaN throughout says as much as none."""
        return {
            name: content[name]
            for name in COLUMNS
            if name in content.columns and not np.isnan(content[name]).all()
        } or {"open_time": content.open_time}

    def _fill_file(self, path: Path, source: Source, span: Span) -> int:
        return update(path, source, self._step, *span).added

    def _read_file(self, path: Path) -> Candles:
        return read_candles(path)

    def _refused(self, source: Source) -> int | None:
        if self.refused is not None:
            return to_seconds(self.refused)
        if source.intervals is None:
            return None
        return next(seconds for seconds in count(2) if seconds not in source.intervals)
