"""``SplitContract``: what stages rely on when they ask a split."""

from dataclasses import fields, replace
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import pytest

from btc_datamodule.candles.timeline import Span, format_instant, format_interval, parse_instant
from btc_datamodule.errors import ConfigError
from btc_datamodule.evaluation.splits import END_OF_TIME, Fold, Spans, Split, Stage
from btc_datamodule.testing.contracts.values import (
    ValueContract,
    catch,
    format_span,
    is_on_grid,
    to_seconds,
)

OWNERS: tuple[Stage, ...] = ("train", "val", "test")
"""The stages that own instants of the candles; predict is test once more."""


class SplitContract(ValueContract[Split]):
    """Tests of a ``Split``: derive a class whose name begins with Test, and say what to test.

        class TestMySplit(SplitContract):
            span = ("2020-01-01", "2022-01-01")

            def make(self):
                return MySplit(months=3)

    Attributes:
        interval: bar length, such as "1h", or in seconds.
        span: from the first bar's opening to the last bar's close, ISO 8601, UTC, or epoch
            seconds; on the interval's grid, long enough for at least one fold.
        in_order: whether it promises that train comes before val, and val before test.
        anchored: whether it promises that boundaries stay where they are as candles arrive.
    """

    argument: ClassVar[str] = "split"
    kind: ClassVar[type] = Split

    interval: ClassVar[str | int] = "1h"
    span: ClassVar[tuple[str | int, str | int]] = ("2020-01-01", "2022-01-01")
    in_order: ClassVar[bool] = True
    anchored: ClassVar[bool] = False

    def observe(self, made: Split) -> Any:
        """All its folds, and which is chosen."""
        return made.folds(self._span, self._step), made.select_fold(self._span, self._step)

    # --- its folds ------------------------------------------------------------------------------

    def test_it_has_folds_that_train_and_test(self) -> None:
        """Validation may be left out."""
        folds = self._folds()
        typed = isinstance(folds, tuple) and all(isinstance(fold, Fold) for fold in folds)
        assert typed, f"folds() gave {folds!r}: give a tuple of Fold"
        assert folds, f"{self._where} has no fold: raise a ConfigError that says what to change"
        for number, fold in enumerate(folds):
            for stage in ("train", "test"):
                spans = getattr(fold, stage)
                assert any(start < end for start, end in spans), (
                    f"fold {number} has nothing in {stage}: {spans}"
                )

    def test_its_spans_are_half_open_on_the_grid_and_inside(self) -> None:
        """Boundaries are instants at which a bar opens, as plain whole numbers."""
        for number, fold in enumerate(self._folds()):
            self._check_spans(fold, f"fold {number}", self._span)

    def test_no_instant_belongs_to_two_stages(self) -> None:
        """The wall between what is trained on and what is scored."""
        for number, fold in enumerate(self._folds()):
            owned = sorted((span, stage) for stage in OWNERS for span in fold.spans(stage))
            for (one, first), (other, second) in pairwise(owned):
                assert one[1] <= other[0], (
                    f"fold {number}: {first} {format_span(one)} and {second} {format_span(other)} "
                    "share instants: a sample would be trained on and scored"
                )

    def test_predict_is_test_and_goes_on_where_test_reaches_the_end(self) -> None:
        """The newest forecasts have a target that nobody knows yet."""
        end = self._span[1]
        for number, fold in enumerate(self._folds()):
            due = tuple((a, END_OF_TIME if b >= end else b) for a, b in fold.test)
            assert fold.predict == due, (
                f"fold {number}: predict is {fold.predict}, and should be {due}: as test, without "
                "an end where test ends with the candles; Fold.of does so"
            )

    def test_train_comes_before_val_and_val_before_test(self) -> None:
        """For splits that promise it."""
        if not self.in_order:
            pytest.skip("it does not promise so: in_order is False")
        for number, fold in enumerate(self._folds()):
            stages = [(stage, fold.spans(stage)) for stage in OWNERS if fold.spans(stage)]
            for (before, earlier), (after, later) in pairwise(stages):
                assert earlier[-1][1] <= later[0][0], (
                    f"fold {number}: {before} lasts until {format_instant(earlier[-1][1])}, and "
                    f"{after} begins at {format_instant(later[0][0])}, before that; if it is "
                    "meant so, set in_order = False"
                )

    # --- what they depend on --------------------------------------------------------------------

    def test_the_same_question_has_the_same_answer(self) -> None:
        """Folds are a pure function of the span."""
        split = self.make()
        first = split.folds(self._span, self._step)
        start, end = self._span
        split.folds((start + self._step, end), self._step)
        for again in (split, self.make()):
            assert again.folds(self._span, self._step) == first, (
                f"asked again about {self._where} it has other folds"
            )

    def test_boundaries_stay_as_candles_arrive(self) -> None:
        """For splits that promise it: what was tested on is never trained on later."""
        if not self.anchored:
            pytest.skip("it does not promise so: anchored is False")
        split, (start, end) = self.make(), self._span
        bars = (end - start) // self._step
        folds = split.folds((start, end), self._step)
        for more in (1, bars // 10 + 1, bars):
            later = end + more * self._step
            grown = split.folds((start, later), self._step)
            assert len(grown) >= len(folds), (
                f"with candles until {format_instant(later)} it has {len(grown)} folds, fewer "
                f"than the {len(folds)} it has until {format_instant(end)}"
            )
            for number, (old, new) in enumerate(zip(folds, grown, strict=False)):
                for stage in OWNERS:
                    before, after = (
                        list_edges(fold.spans(stage), until=end) for fold in (old, new)
                    )
                    assert after == before, (
                        f"fold {number}: {stage} has its boundaries at {before}, and at {after} "
                        f"once there are {more} bars more: what was scored would be trained on"
                    )

    # --- which of them --------------------------------------------------------------------------

    def test_each_fold_can_be_chosen_from_either_end_and_no_other(self) -> None:
        """``fold`` counts from 0, or from -1 backwards."""
        split = self.make()
        folds = split.folds(self._span, self._step)
        if not any(field.name == "fold" for field in fields(split)):  # type: ignore[arg-type]
            assert split.select_fold(self._span, self._step) == folds[split.fold]
            return
        count = len(folds)
        for fold in sorted({0, count // 2, count - 1, -1, -count}):
            other = replace(split, fold=fold)  # type: ignore[type-var]
            assert other.folds(self._span, self._step) == folds, (
                f"with fold={fold} it has other folds: `fold` says which, not what they are"
            )
            assert other.select_fold(self._span, self._step) == folds[fold], (
                f"with fold={fold} the fold that is chosen is another one of the {count}"
            )
        for fold in (count, -count - 1):
            other = replace(split, fold=fold)  # type: ignore[type-var]
            error = catch(ConfigError, partial(other.select_fold, self._span, self._step))
            assert error, f"fold={fold} is taken, of {count} folds"
            assert str(count) in str(error), (
                f"the error for fold={fold} does not say that there are {count} folds: {error}"
            )

    def test_of_too_few_bars_it_says_so_or_leaves_stages_empty(self) -> None:
        """A stage without windows is an error of its own."""
        split, (start, _) = self.make(), self._span
        for bars in range(1, 13):
            short = (start, start + bars * self._step)
            try:
                folds = split.folds(short, self._step)
            except ConfigError:
                continue
            except Exception as error:
                raise AssertionError(
                    f"of {bars} bars it fails with {type(error).__name__}: {error}; raise a "
                    "ConfigError that says what to change"
                ) from error
            assert folds, f"of {bars} bars it has no fold: raise a ConfigError"
            for number, fold in enumerate(folds):
                self._check_spans(fold, f"of {bars} bars, fold {number}", short)

    # --- the question ---------------------------------------------------------------------------

    @property
    def _step(self) -> int:
        """Seconds of ``interval``."""
        return to_seconds(self.interval)

    @property
    def _span(self) -> Span:
        """``span`` in epoch seconds."""
        start, end = (parse_instant(edge, "span") for edge in self.span)
        usable = start < end and is_on_grid((start, end), self._step)
        assert usable, (
            f"span {self.span}: set it to one on the grid of {format_interval(self._step)}"
        )
        return start, end

    @property
    def _where(self) -> str:
        return format_span(self._span)

    def _folds(self) -> tuple[Fold, ...]:
        return self.make().folds(self._span, self._step)

    def _check_spans(self, fold: Fold, where: str, inside: Span) -> None:
        for stage in OWNERS:
            at = inside[0]
            for span in fold.spans(stage):
                called = f"{where}: {stage} {span}"
                plain = type(span) is tuple and all(type(edge) is int for edge in span)
                assert plain, (
                    f"{called} is no pair of whole numbers, which a checkpoint can hold: use int()"
                )
                assert is_on_grid(span, self._step), (
                    f"{called} is off the grid of {format_interval(self._step)}"
                )
                assert at <= span[0] <= span[1] <= inside[1], (
                    f"{called} ends before it begins, overlaps the span before it, or leaves "
                    f"{format_span(inside)}"
                )
                at = span[1]


def list_edges(spans: Spans, until: int) -> list[str]:
    """The instants at which spans begin and end, but for those at ``until`` or after."""
    return [format_instant(edge) for edge in sorted(sum(spans, ())) if edge < until]
