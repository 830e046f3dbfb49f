"""What sources answer with."""

from typing import Any

import numpy as np
import pytest

from btc_datamodule import Block, RecordBlock, RecordSet, SourceError
from tests.factories import HOUR, START, hourly

TIME = np.array([START])


def make_block(span: Any) -> Block:
    return Block(span, hourly([7, 8]), origin="nowhere")


def make_records(span: Any) -> RecordBlock:
    records = RecordSet({"time": TIME, "known_at": TIME, "value": np.array([1.0])})
    return RecordBlock(span, records, origin="nowhere")


@pytest.mark.parametrize("make", [make_block, make_records])
def test_a_span_is_two_whole_numbers_of_whatever_type(make: Any) -> None:
    for given in ([START, START + 2 * HOUR], np.array([START, START + 2 * HOUR])):
        span = make(given).span
        assert span == (START, START + 2 * HOUR)
        assert {type(each) for each in span} == {int}


@pytest.mark.parametrize("make", [make_block, make_records])
@pytest.mark.parametrize("given", [None, 5, (1, 2, 3), (1.5, 2), "ab"])
def test_a_span_that_is_none_is_an_error(make: Any, given: Any) -> None:
    with pytest.raises(SourceError, match=r"^the span of a block is .*: give two whole numbers"):
        make(given)


def test_a_block_has_what_its_kind_says() -> None:
    problem = "a block has dict in the place of"
    with pytest.raises(SourceError, match=f"^{problem} RecordSet"):
        RecordBlock((0, 1), {}, "nowhere")  # type: ignore[arg-type]
    with pytest.raises(SourceError, match=f"^{problem} Candles"):
        Block((0, 1), {}, "nowhere")  # type: ignore[arg-type]
    with pytest.raises(SourceError, match=r"^the origin of a block is None: give a text"):
        Block((0, 1), hourly([7]), None)  # type: ignore[arg-type]
