"""Sources of records that break the contract, each caught by the test that should, in words."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, ClassVar

import numpy as np
import pytest

from btc_datamodule import RecordBlock, RecordSource, SourceError
from btc_datamodule.candles.records import RecordSet, trust
from btc_datamodule.candles.timeline import Span
from btc_datamodule.testing import RecordSourceContract
from tests.factories import HOUR, T0
from tests.store.records import COLUMNS, HELD, hours, records_of
from tests.testing.contracts import assert_caught, find_failures, list_tests

FLOW = count()
"""Another number whenever it is asked: what a function that is not pure depends on."""

EVERY_HOUR = records_of(np.delete(np.arange(60), [7, 8, 30]), delay=HOUR)


@dataclass(frozen=True)
class Sound(RecordSource):
    """Pages of ten hours of ``HELD``."""

    product: str = "funding"

    name: ClassVar[str] = "sound"

    @property
    def series(self) -> str:
        return self.product

    @property
    def columns(self) -> tuple[str, ...]:
        return COLUMNS

    def find(self, span: Span) -> RecordSet:
        return HELD.slice(*span)

    def blocks(self, span: Span) -> Iterator[RecordBlock]:
        for start in range(*span, 10 * HOUR):
            page = (start, min(start + 10 * HOUR, span[1]))
            yield RecordBlock(page, self.find(page), "memory")


@dataclass(frozen=True)
class ReadWhole(Sound):
    """All of ``HELD`` up to the end asked for, as files are read."""

    @property
    def revision(self) -> str | None:
        return "1"

    def blocks(self, span: Span) -> Iterator[RecordBlock]:
        records = HELD.slice(0, span[1])
        if not len(records):
            raise SourceError("no record")
        yield RecordBlock(records.span, records, "memory")


@dataclass(frozen=True)
class OfHours(Sound):
    """Records of an interval."""

    @property
    def interval(self) -> int | None:
        return HOUR

    def find(self, span: Span) -> RecordSet:
        return EVERY_HOUR.slice(*span)


class Contract(RecordSourceContract):
    """The contract of a source that is given, whatever the class."""

    span = (T0, T0 + 60 * HOUR)
    records = HELD

    def __init__(self, make: Callable[[], RecordSource], records: RecordSet = HELD) -> None:
        self._make = make
        self.records = records  # type: ignore[misc]  # of this one

    def make(self) -> RecordSource:
        return self._make()


@pytest.mark.parametrize(
    ("kind", "held"), [(Sound, HELD), (ReadWhole, HELD), (OfHours, EVERY_HOUR)]
)
def test_sound_sources_pass(kind: type[Sound], held: RecordSet) -> None:
    assert find_failures(Contract(kind, held)) == {}


BROKEN: list[tuple[type, str, str]] = []


def caught_by(test: str, words: str) -> Callable[[type], type]:
    """Note which test must catch a class, and what it must say."""

    def note(broken: type) -> type:
        BROKEN.append((broken, test, words))
        return broken

    return note


@caught_by("test_its_columns_are_names_that_stay", "give a tuple of names")
@dataclass(frozen=True)
class AListOfNames(Sound):
    @property
    def columns(self) -> Any:
        return list(COLUMNS)


@caught_by("test_its_columns_are_names_that_stay", "values cannot be called 'time'")
@dataclass(frozen=True)
class NamesTimes(Sound):
    @property
    def columns(self) -> tuple[str, ...]:
        return ("time", *COLUMNS)


@caught_by("test_its_columns_are_names_that_stay", "the next time")
@dataclass(frozen=True)
class NamesAnew(Sound):
    @property
    def columns(self) -> tuple[str, ...]:
        return (*COLUMNS, f"column{next(FLOW)}")


INSIDE = "test_its_records_are_known_by_time_inside_their_blocks"


@caught_by(INSIDE, "it would be known before the time that it is about")
@dataclass(frozen=True)
class KnowsTheFuture(Sound):
    def find(self, span: Span) -> RecordSet:
        records = super().find(span)
        return trust({**records.columns, "known_at": records.time - 1})


@caught_by(INSIDE, "it would be known before its 1h are over")
@dataclass(frozen=True)
class KnowsTheHour(OfHours):
    def find(self, span: Span) -> RecordSet:
        records = super().find(span)
        return RecordSet({**records.columns, "known_at": records.time + 60})


@caught_by(INSIDE, "has columns rate, premium, volume, and `columns` names rate, premium")
@dataclass(frozen=True)
class HasMore(Sound):
    def find(self, span: Span) -> RecordSet:
        records = super().find(span)
        return RecordSet({**records.columns, "volume": records["rate"]})


@caught_by(INSIDE, "has records whose time is outside it")
@dataclass(frozen=True)
class Overlapping(Sound):
    def find(self, span: Span) -> RecordSet:
        return HELD.slice(span[0], span[1] + HOUR)


@caught_by(INSIDE, "they would not be stored")
@dataclass(frozen=True)
class NotAnswered(Sound):
    def blocks(self, span: Span) -> Iterator[RecordBlock]:
        yield from (replace(block, answered=False) for block in super().blocks(span))


@caught_by(INSIDE, "has a record before `first`")
@dataclass(frozen=True)
class BeginsBefore(Sound):
    first: ClassVar[int] = T0 + 20 * HOUR


@caught_by(INSIDE, "has no records in")
@dataclass(frozen=True)
class Nothing(Sound):
    def find(self, span: Span) -> RecordSet:
        return HELD.slice(0, 0)


@caught_by("test_its_records_are_those_that_it_must_have", "are not those of `records`")
@dataclass(frozen=True)
class Revised(Sound):
    def find(self, span: Span) -> RecordSet:
        records = super().find(span)
        return RecordSet({**records.columns, "known_at": records.known_at + 1})


@caught_by("test_asking_again_gives_the_same_answer", "gives other records the second time")
@dataclass(frozen=True)
class Drifting(Sound):
    def find(self, span: Span) -> RecordSet:
        records = super().find(span)
        return RecordSet({**records.columns, "rate": records["rate"] + next(FLOW)})


@caught_by("test_a_file_holds_its_answer_whether_filled_at_once_or_twice", "broke its contract")
@dataclass(frozen=True)
class FallsBehindInTheMiddle(Sound):
    """Its second half, asked for alone, has times before it."""

    def blocks(self, span: Span) -> Iterator[RecordBlock]:
        late = span[0] != T0
        for block in super().blocks(span):
            yield replace(block, records=HELD.slice(*hours(0, 9))) if late else block


@pytest.mark.parametrize(
    ("broken", "test", "words"), BROKEN, ids=[f"{kind.__name__}-{test}" for kind, test, _ in BROKEN]
)
def test_a_broken_source_is_caught(broken: type[RecordSource], test: str, words: str) -> None:
    if words == "broke its contract":
        with pytest.raises(SourceError, match=words):
            getattr(Contract(broken), test)()
        return
    assert_caught(Contract(broken), test, words)


def test_what_is_said_of_records_alone_catches_something() -> None:
    own = set(list_tests(RecordSourceContract)) & set(vars(RecordSourceContract))
    assert own <= {test for _, test, _ in BROKEN}
