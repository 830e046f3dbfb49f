"""A market whose bars come as a clock of the test goes on, over HTTP from this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from btc_datamodule import (
    BTCDataModule,
    Candles,
    Coinbase,
    DateSplit,
    DummyModule,
    LogReturn,
)
from btc_datamodule.candles.timeline import parse_instant
from btc_datamodule.testing.exchange import CoinbaseAnswers, Exchange, Reply, Request
from tests.factories import HOUR, candles_of, make_datamodule, make_model, make_trainer

FIRST = parse_instant("2021-03-01")
TRAINED = parse_instant("2021-03-05T12:00")
"""Where the candles end that the model was trained on."""

END = TRAINED + 14 * HOUR


@dataclass
class TestClock:
    """Time that passes only while somebody waits, and what was waited."""

    __test__ = False
    time: float = TRAINED + 100.0
    waits: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float) -> None:
        assert seconds >= 0
        self.waits.append(seconds)
        self.time += max(seconds, 0.001)


@dataclass
class Market:
    """What an exchange has of some candles at a time: closed bars, each as late as it is told.

    Attributes:
        candles: all that there will be.
        clock: what time it is.
        late: seconds after its close that the bar that opens at a time is there; 0.5 of others.
        shows_open: whether the bar that is being traded is in each answer, with what it has so far.
    """

    candles: Candles
    clock: TestClock
    late: dict[int, float] = field(default_factory=dict)
    shows_open: bool = False

    def __call__(self, request: Request) -> Reply:
        now, times = self.clock.now(), self.candles.open_time
        there = np.array([t + HOUR + self.late.get(int(t), 0.5) <= now for t in times])
        held = Candles(HOUR, {name: each[there] for name, each in self.candles.columns.items()})
        reply = CoinbaseAnswers(held)(request)
        if self.shows_open and request.path.endswith("/candles"):
            opens = int(now // HOUR * HOUR)
            body = reply.body.replace(b"[[", f"[[{opens}, 1, 1, 1, 1, 1], [".encode(), 1)
            reply = replace(reply, body=body)
        made = format_datetime(datetime.fromtimestamp(int(now), UTC), usegmt=True)
        return replace(reply, headers={**reply.headers, "Date": made})


def make_candles(absent: tuple[int, ...] = ()) -> Candles:
    """Hours of five days, without those that open at some times."""
    times = np.arange(FIRST, END, HOUR)
    return candles_of(times[~np.isin(times, absent)])


@contextmanager
def serve(market: Market, monkeypatch: pytest.MonkeyPatch) -> Iterator[Exchange]:
    """An exchange of a market; the store goes by its clock."""
    monkeypatch.setattr("btc_datamodule.store.update.time", SimpleNamespace(time=market.clock.now))
    monkeypatch.setattr("btc_datamodule.live.clock.LATE_SECONDS", 100.0)  # fewer looks to wait for
    with Exchange(market) as exchange:
        yield exchange


def make_source(exchange: Exchange) -> Coinbase:
    return Coinbase(base_url=exchange.url, requests_per_second=5000.0, retry_wait=0.001, attempts=2)


def make_data(folder: Path, exchange: Exchange, **arguments: Any) -> BTCDataModule:
    settings: dict[str, Any] = {
        "source": make_source(exchange),
        "interval": "1h",
        "start": FIRST,
        "end": END,
        "lookback": 6,
        "horizon": 2,
        "max_fill": 1,
        "target": LogReturn(),
        "target_scaling": "train",
        "split": DateSplit("2021-03-04", "2021-03-05"),
    }
    return make_datamodule(folder, ready=False, **settings | arguments)


def train(folder: Path, exchange: Exchange, **arguments: Any) -> tuple[DummyModule, Any]:
    """A model, and the state of the datamodule that it stands for."""
    dm = make_data(folder, exchange, **arguments)
    dm.prepare_data()
    dm.setup()
    return make_model(dm), dm.state_dict()


def predict(folder: Path, exchange: Exchange, model: DummyModule, state: Any, since: int) -> Any:
    """What one undisturbed ``predict`` gives in the end, by name; origins from a time on."""
    dm = make_data(folder, exchange, batch_size=1)
    dm.load_state_dict(state)
    parts: Any = make_trainer(folder).predict(model, datamodule=dm)
    times = torch.cat([part["origin_time"] for part in parts])
    values = torch.cat([part["forecast"] for part in parts])
    prices = dm.to_prices(values, times)
    late = times >= since
    return times[late].numpy(), values[late].numpy(), prices[late.numpy()]
