"""What a person is told of an update."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from btc_datamodule import RecordBlock
from btc_datamodule.candles.timeline import Span
from btc_datamodule.store.notes import gather_alike
from btc_datamodule.store.update import update_records
from tests.store.records import Scripted, hours


@dataclass(frozen=True)
class Short(Scripted):
    """Each block of which has a note, and the second another."""

    def blocks(self, span: Span) -> Iterator[RecordBlock]:
        for number, block in enumerate(super().blocks(span)):
            notes = ("script 1: something else",) * (number == 1)
            said = f"script {number}.zip: holds {9 - number} of 10 hours"
            yield replace(block, notes=(*notes, said))


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (
            30,
            (
                "script 0.zip: holds 9 of 10 hours",
                "script 1.zip: holds 8 of 10 hours",
                "script 2.zip: holds 7 of 10 hours",
                "script 1: something else",
            ),
        ),
        (
            60,
            (
                "script 0.zip: holds 9 of 10 hours (and 5 notes alike: script 1.zip, script 2.zip, "
                "script 3.zip, script 4.zip, script 5.zip)",
                "script 1: something else",
            ),
        ),
    ],
)
def test_what_many_files_have_in_common_is_one_line(
    tmp_path: Path, end: int, told: tuple[str, ...]
) -> None:
    assert update_records(tmp_path / "records.h5", Short(), *hours(0, end)).notes == told


def test_of_many_days_with_gaps_the_first_are_named_and_the_rest_counted() -> None:
    notes = [
        f"binance BTCUSDT-metrics-2021-{month:02}-{day:02}.zip: holds {280 + day % 8} of 288 five "
        f"minutes, the last that from 2021-{month:02}-{day:02}T23:50:00Z on"
        for month in range(1, 13)
        for day in range(1, 29)
    ]
    (told,) = gather_alike(notes)
    assert told == (
        f"{notes[0]} (and 335 notes alike: binance BTCUSDT-metrics-2021-01-02.zip, binance BTCUSDT-"
        "metrics-2021-01-03.zip, binance BTCUSDT-metrics-2021-01-04.zip, binance BTCUSDT-metrics-20"
        "21-01-05.zip, binance BTCUSDT-metrics-2021-01-06.zip, binance BTCUSDT-metrics-2021-01-07."
        "zip and 329 more)"
    )
    assert gather_alike([]) == []
