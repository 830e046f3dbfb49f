"""The archive on this machine: files in the shapes of the real one."""

import numpy as np

from btc_datamodule.candles.records import RecordSet
from btc_datamodule.candles.timeline import parse_instant
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import BinanceArchiveAnswers, Request

METRICS = ("sum_open_interest", "sum_open_interest_value", "a", "b", "c", "d")


def records(start: str, step: int, count: int, values: dict[str, float]) -> RecordSet:
    time = parse_instant(start) + step * np.arange(count)
    columns = {name: np.full(count, value) for name, value in values.items()}
    return RecordSet({"time": time, "known_at": time + step, **columns})


def get(answer: ex.Answer, path: str) -> ex.Reply:
    return answer(Request(f"/data/futures/um/{path}", {}, {}, 0.0))


def test_funding_rates_come_as_the_archive_writes_them() -> None:
    values = {"rate": 0.0001, "interval_hours": 8.0, "calc_time": 1577836800007.0}
    held = records("2020-01-01", 8 * 3600, 1, values)
    answers = BinanceArchiveAnswers(held, market="um", type="fundingRate")
    assert answers.csv("BTCUSDT-fundingRate-2020-01.zip").decode() == (
        "calc_time,funding_interval_hours,last_funding_rate\n1577836800007,8,0.0001\n"
    )


def test_labels_of_metrics_are_ends_before_the_change_and_beginnings_since() -> None:
    held = records("2026-06-24T23:55", 300, 2, dict.fromkeys(METRICS, 2.5) | {"b": np.nan})
    answers = BinanceArchiveAnswers(held, market="um", type="metrics", header=False)
    cells = "BTCUSDT,2.5,2.5,2.5,,2.5,2.5\n"
    before, since = (answers.csv(f"BTCUSDT-metrics-2026-06-{day}.zip").decode() for day in (24, 25))
    assert before == since == f"2026-06-25 00:00:00,{cells}"
    answers.market = "cm"
    assert answers.csv("BTCUSDT-metrics-2026-06-24.zip").decode() == f"2026-06-24 23:55:00,{cells}"


def test_of_funding_there_are_months_alone_and_of_metrics_days() -> None:
    rates = records("2020-01-01", 8 * 3600, 3, {"rate": 0, "interval_hours": 8, "calc_time": 0})
    metrics = records("2020-01-01", 300, 3, dict.fromkeys(METRICS, 1.0))
    funding = BinanceArchiveAnswers(rates, market="um", type="fundingRate")
    both = ex.first_found(funding, BinanceArchiveAnswers(metrics, market="um", type="metrics"))
    status = {
        path: get(both, path).status
        for path in (
            "monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2020-01.zip",
            "daily/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2020-01-01.zip",
            "monthly/metrics/BTCUSDT/BTCUSDT-metrics-2020-01.zip",
            "daily/metrics/BTCUSDT/BTCUSDT-metrics-2020-01-01.zip.CHECKSUM",
            "daily/metrics/ETHUSDT/ETHUSDT-metrics-2020-01-01.zip",
        )
    }
    assert list(status.values()) == [200, 404, 404, 200, 404]
