"""Sources that break the contract, each caught by the test that should catch it, in words."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count, pairwise
from typing import Any, ClassVar

import numpy as np
import pytest

from btc_datamodule import Block, Candles, ConfigError, Source, SourceError
from btc_datamodule.candles.series import PRICES, make_empty
from btc_datamodule.candles.timeline import Span
from btc_datamodule.testing import SourceContract
from btc_datamodule.testing.series import without
from tests.factories import HOUR, T0, candles_of, changed
from tests.testing.contracts import assert_caught, find_failures, list_tests

HELD = candles_of(np.delete(T0 + HOUR * np.arange(60), [7, 8, 30]))
END = T0 + 60 * HOUR
FLOW = count()
"""Another number whenever it is asked: what a function that is not pure depends on."""


@dataclass(frozen=True)
class Sound(Source):
    """Pages of a day of ``HELD``."""

    product: str = "BTC"

    name: ClassVar[str] = "sound"
    intervals: ClassVar[tuple[int, ...] | None] = (60, HOUR)

    @property
    def series(self) -> str:
        return self.product

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        for start in range(*span, 24 * HOUR):
            page = (start, min(start + 24 * HOUR, span[1]))
            yield Block(page, HELD.slice(*page), "memory")


@dataclass(frozen=True)
class ReadWhole(Sound):
    """All of ``HELD`` up to the end asked for, as files are read."""

    @property
    def revision(self) -> str | None:
        return "1"

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        bars = HELD.slice(0, span[1])
        if not len(bars):
            raise SourceError("no closed bar")
        yield Block(bars.span, bars, "memory")


@dataclass(frozen=True)
class OfAnyInterval(Sound):
    intervals: ClassVar[tuple[int, ...] | None] = None


NOT_YET = (T0 + 24 * HOUR, T0 + 48 * HOUR)


@dataclass(frozen=True)
class SetsAside(Sound):
    """Its second page is there in part, and is no answer yet."""

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        edges = [span[0], *(edge for edge in NOT_YET if span[0] < edge < span[1]), span[1]]
        for part in pairwise(edges):
            if part[0] == part[1]:
                continue
            known = part[1] <= NOT_YET[0] or part[0] >= NOT_YET[1]
            bars = HELD.slice(*part) if known else make_empty(HOUR)
            yield Block(part, bars, "memory", () if known else ("half a file",), answered=known)


class Contract(SourceContract):
    """The contract of a source that is given, whatever the class."""

    span = (T0, END)
    bars = HELD

    def __init__(self, make: Callable[[], Source]) -> None:
        self._make = make

    def make(self) -> Source:
        return self._make()


@pytest.mark.parametrize("kind", [Sound, ReadWhole, OfAnyInterval])
def test_sound_sources_pass(kind: type[Sound]) -> None:
    assert find_failures(Contract(kind)) == {}


def test_a_source_that_sets_a_page_aside_passes() -> None:
    contract = Contract(SetsAside)
    contract.bars = without(HELD, NOT_YET)  # type: ignore[misc]  # of this one
    assert find_failures(contract) == {}


# --- broken ones ----------------------------------------------------------------------------------

BROKEN: list[tuple[type, str, str]] = []


def caught_by(test: str, words: str) -> Callable[[type], type]:
    """Note which test must catch a class, and what it must say."""

    def note(broken: type) -> type:
        BROKEN.append((broken, test, words))
        return broken

    return note


@caught_by("test_it_is_a_frozen_dataclass", "Loose is no frozen dataclass: write @dataclass")
class Loose(Source):
    name = "loose"
    series = "BTC"
    blocks = Sound.blocks


@caught_by("test_two_made_alike_are_equal", "are not equal: leave __eq__ to the dataclass")
@dataclass(frozen=True, eq=False)
class Unequal(Sound):
    __eq__ = object.__eq__
    __hash__ = object.__hash__


class Serial:
    """Equal to any other, whatever its number."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Serial)

    def __hash__(self) -> int:
        return 0


@caught_by("test_two_made_alike_are_equal", "it would fit neither")
@dataclass(frozen=True)
class WithASerialNumber(Sound):
    number: Serial = field(default_factory=lambda: Serial(next(FLOW)))


@caught_by("test_two_made_alike_are_equal", "read=<unknown>")
@caught_by("test_a_copy_in_another_process_behaves_alike", "cannot be pickled")
@dataclass(frozen=True)
class WithAFunction(Sound):
    read: Callable[[], None] = lambda: None


@caught_by("test_a_copy_in_another_process_behaves_alike", "a pickled copy of Forgetful behaves")
@dataclass(frozen=True)
class Forgetful(Sound):
    product: str = "ETH"

    def __reduce__(self) -> Any:
        return Forgetful, ("BTC",)


@caught_by("test_a_checkpoint_brings_it_back", "is another: Prefixed(product='x-x-BTC')")
@dataclass(frozen=True)
class Prefixed(Sound):
    def __post_init__(self) -> None:
        object.__setattr__(self, "product", f"x-{self.product}")


@caught_by("test_a_checkpoint_brings_it_back", "cannot be built again from what a checkpoint")
@dataclass(frozen=True)
class Renaming(Sound):
    """Takes the short name, keeps the long one, and takes no long one."""

    def __post_init__(self) -> None:
        if self.product != "BTC":
            raise ConfigError(f"no product {self.product}")
        object.__setattr__(self, "product", "BTC-USD")


@caught_by(
    "test_its_name_and_series_are_names_of_folders_that_stay", "series 'BTC/USD' cannot name"
)
@dataclass(frozen=True)
class Slashed(Sound):
    product: str = "BTC/USD"


@caught_by("test_its_name_and_series_are_names_of_folders_that_stay", "would not be found again")
@dataclass(frozen=True)
class Numbered(Sound):
    @property
    def series(self) -> str:
        return f"BTC-{next(FLOW)}"


@caught_by(
    "test_it_offers_the_interval_and_refuses_others_by_naming_the_choices",
    "check_interval lets bars of 2s pass",
)
@dataclass(frozen=True)
class Willing(Sound):
    def check_interval(self, interval: int) -> None:
        pass


@caught_by(
    "test_it_offers_the_interval_and_refuses_others_by_naming_the_choices",
    "does not mention '1m'",
)
@dataclass(frozen=True)
class Curt(Sound):
    def check_interval(self, interval: int) -> None:
        if interval != HOUR:
            raise SourceError("no such bars")


@caught_by("test_its_revision_stays_while_nothing_changes", "though nothing has changed")
@dataclass(frozen=True)
class Restless(ReadWhole):
    @property
    def revision(self) -> str | None:
        return str(next(FLOW))


@caught_by("test_its_blocks_follow_each_other_from_the_start_of_the_span", "should begin at")
@dataclass(frozen=True)
class WithoutItsFirstPage(Sound):
    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        yield from list(super().blocks(interval, span))[1:]


@caught_by("test_its_blocks_follow_each_other_from_the_start_of_the_span", "should begin at")
@dataclass(frozen=True)
class Backwards(Sound):
    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        yield from list(super().blocks(interval, span))[::-1]


@caught_by("test_its_blocks_follow_each_other_from_the_start_of_the_span", "may not be closed yet")
@dataclass(frozen=True)
class WholePages(Sound):
    """Settles each page to its end, also where less was asked for."""

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        for block in super().blocks(interval, span):
            yield Block((block.span[0], block.span[0] + 24 * HOUR), block.candles, "memory")


@caught_by("test_its_blocks_follow_each_other_from_the_start_of_the_span", "is off the grid of 1h")
@dataclass(frozen=True)
class OffTheGrid(Sound):
    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        yield Block((span[0], span[1] - 1), HELD.slice(span[0], span[1] - HOUR), "memory")


@caught_by("test_its_bars_are_closed_candles_inside_their_blocks", "bars that open outside it")
@dataclass(frozen=True)
class Generous(Sound):
    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        yield Block((span[0], span[1] - HOUR), HELD.slice(*span), "memory")


@caught_by("test_its_bars_are_closed_candles_inside_their_blocks", "has bars of 1m, not of 1h")
@dataclass(frozen=True)
class OfMinutes(Sound):
    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        yield Block(span, Candles(60, HELD.slice(*span).columns), "memory")


@caught_by("test_its_bars_are_closed_candles_inside_their_blocks", "has no bars in")
@dataclass(frozen=True)
class Silent(Sound):
    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        yield Block(span, make_empty(interval), "memory")


@caught_by("test_its_bars_are_closed_candles_inside_their_blocks", "has a bar before `first`")
@caught_by(
    "test_a_file_holds_its_answer_whether_filled_at_once_or_twice",
    "has other bars than it answers",
)
@dataclass(frozen=True)
class LateFirst(Sound):
    first: ClassVar[int] = T0 + 20 * HOUR


@caught_by("test_its_bars_are_closed_candles_inside_their_blocks", "rows that are no candles")
@dataclass(frozen=True)
class Careless(Sound):
    """Bars whose high is below their low, written over after they were checked."""

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        bars = changed(HELD.slice(*span), high=HELD.slice(*span)["high"].copy())
        bars.columns["high"][:1] = 1.0
        yield Block(span, bars, "memory")


@caught_by("test_its_bars_are_closed_candles_inside_their_blocks", "they would not be stored")
@dataclass(frozen=True)
class Undecided(Sound):
    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        for block in super().blocks(interval, span):
            yield replace(block, answered=False)


@caught_by("test_its_bars_are_those_that_it_must_have", "are not those of `bars`")
@dataclass(frozen=True)
class ShiftedByAnHour(Sound):
    """The classic: bars named by their close."""

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        late = changed(HELD, open_time=HELD.open_time + HOUR)
        yield Block(span, late.slice(*span), "memory")


@caught_by("test_its_blocks_say_where_they_come_from", "give a tuple of sentences")
@dataclass(frozen=True)
class WithOneNote(Sound):
    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        for block in super().blocks(interval, span):
            yield Block(block.span, block.candles, "memory", "all is well")  # type: ignore[arg-type]


@caught_by("test_its_blocks_say_where_they_come_from", "has the origin ''")
@dataclass(frozen=True)
class FromNowhere(Sound):
    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        for block in super().blocks(interval, span):
            yield Block(block.span, block.candles, "")


@caught_by("test_asking_again_gives_the_same_answer", "other bars the second time")
@dataclass(frozen=True)
class Noisy(Sound):
    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        bars = HELD.slice(*span)
        volume = bars["volume"] + next(FLOW)
        yield Block(span, changed(bars, volume=volume), "memory")


@caught_by(
    "test_a_span_that_ends_earlier_gives_the_same_answer_up_to_there",
    "they depend on what comes after",
)
@dataclass(frozen=True)
class Adjusted(Sound):
    """Prices divided by the last one asked for, as adjusted series are."""

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        bars = HELD.slice(*span)
        scaled = {name: bars[name] / bars["close"][-1:] for name in PRICES}
        yield Block(span, changed(bars, **scaled), "memory")


@caught_by(
    "test_a_span_asked_for_in_two_halves_gives_the_same_answer",
    "an interrupted download would end in other candles",
)
@dataclass(frozen=True)
class CountedFromItsStart(Sound):
    """Trades since the start of what was asked for."""

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        bars = HELD.slice(*span)
        yield Block(span, Candles(HOUR, {**bars.columns, "trades": np.arange(len(bars))}), "memory")


@caught_by(
    "test_a_span_of_a_source_with_a_revision_may_begin_anywhere",
    "must not depend on where the span begins",
)
@dataclass(frozen=True)
class FromItsStart(ReadWhole):
    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        bars = HELD.slice(max(span[0] + 5 * HOUR, T0 + HOUR), span[1])
        yield Block(bars.span, bars, "memory")


@caught_by("test_an_empty_span_is_answered_with_nothing", "has 1 bars")
@dataclass(frozen=True)
class WithBothEnds(Sound):
    """Takes the end of a span for the last bar, as Coinbase's interface does."""

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        yield Block(span, HELD.slice(span[0], span[1] + 1), "memory")


@caught_by("test_a_reader_may_stop_after_the_first_block", "not read to its end it gives other")
@dataclass(frozen=True)
class WithACursor(Sound):
    """Goes on from where the last reader stopped."""

    skipped: list[int] = field(default_factory=list)

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        for number, block in enumerate(list(super().blocks(interval, span))):
            if number not in self.skipped:
                self.skipped.append(number)
                yield block
        self.skipped.clear()


@pytest.mark.parametrize(
    ("broken", "test", "words"), BROKEN, ids=[f"{kind.__name__}-{test}" for kind, test, _ in BROKEN]
)
def test_a_broken_source_is_caught(broken: type[Source], test: str, words: str) -> None:
    assert_caught(Contract(broken), test, words)


def test_no_test_of_the_contract_is_without_something_that_it_catches() -> None:
    assert {test for _, test, _ in BROKEN} == set(list_tests(SourceContract))


def test_a_source_that_takes_more_than_yaml_can_say_is_not_asked_to_come_back() -> None:
    @dataclass(frozen=True)
    class Holding(Sound):
        bars: Candles = HELD

    contract = Contract(Holding)
    with pytest.raises(pytest.skip.Exception, match="bars is no plain value"):
        contract.test_a_checkpoint_brings_it_back()


@pytest.mark.parametrize(
    "span", [(T0, T0 + 3 * HOUR), (T0 + 1, END), ("2020-01-01", "2999-01-01")], ids=str
)
def test_a_span_that_tests_nothing_is_refused(span: tuple[str | int, str | int]) -> None:
    narrow = type("Narrow", (Contract,), {"span": span})(Sound)
    with pytest.raises(AssertionError, match="set it to four bars or more, in the past"):
        narrow.test_asking_again_gives_the_same_answer()
