"""A forecast for each bar as it closes: those of ``predict``, in order, each once."""

import gc
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from btc_datamodule import BTCDataModule, ConfigError, DummyModule, StoreError, follow
from btc_datamodule.candles.timeline import Interval
from btc_datamodule.live.clock import Pace
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import Exchange
from tests.factories import HOUR, make_trainer
from tests.live.markets import (
    TRAINED,
    Market,
    TestClock,
    make_candles,
    make_data,
    predict,
    serve,
    train,
)

ABSENT = tuple(TRAINED + hour * HOUR for hour in (4, 7, 8))
LATE = {TRAINED + 2 * HOUR: 9.0, TRAINED + 10 * HOUR: 80.0}


class Live:
    """A market, a model and what follows it in a folder."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, exchange: Exchange) -> None:
        self.folder, self.exchange = folder, exchange
        self.clock = exchange.answer.clock  # type: ignore[attr-defined]
        self.model, self.state = train(folder / "train", exchange, end=TRAINED)
        self.trainer = make_trainer(folder)

    def make_data(self, **arguments: Any) -> BTCDataModule:
        dm = make_data(self.folder, self.exchange, **arguments)
        dm.load_state_dict(self.state)
        return dm

    def follow(self, name: str = "forecasts.csv", **options: Any) -> Iterator[Any]:
        given: dict[str, Any] = {"trainer": self.trainer, "clock": self.clock, "prices": True}
        given |= {"since": TRAINED, "delay": 1.0}
        dm = options.pop("dm", None) or self.make_data()
        return follow(dm, options.pop("model", self.model), self.folder / name, **given | options)

    def predict(self, since: int = TRAINED) -> Any:
        return predict(self.folder, self.exchange, self.model, self.state, since)

    def assert_done(self, path: Path) -> None:
        """The file has what ``predict`` gives, bit for bit."""
        times, values, prices = self.predict()
        found = read(path)
        np.testing.assert_array_equal(found["origin_time"], times)
        np.testing.assert_array_equal(found["forecast"], values)
        np.testing.assert_array_equal(found["forecast_price"], prices)


def read(path: Path) -> dict[str, NDArray[Any]]:
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return {name: item[()] for name, item in file.items()}
    frame = pl.read_csv(path, try_parse_dates=True) if path.suffix == ".csv" else None
    frame = pl.read_parquet(path) if frame is None else frame
    parts = {
        name: frame.select(f"{name}_0_0", f"{name}_1_0").to_numpy()[:, :, np.newaxis]
        for name in ("forecast", "forecast_price")
    }
    return {"origin_time": frame["origin_time"].dt.epoch("s").to_numpy(), **parts}


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    market = Market(make_candles(ABSENT), TestClock(), LATE, shows_open=True)
    with serve(market, monkeypatch) as exchange:
        yield Live(tmp_path, monkeypatch, exchange)


def test_every_bar_is_forecast_once_as_predict_does_whatever_the_network_does(live: Live) -> None:
    trouble = random.Random(3)
    seen: list[int] = []
    for forecast in live.follow():
        seen.append(forecast.origin_time)
        close = forecast.origin_time + HOUR
        assert live.clock.now() >= close + LATE.get(forecast.origin_time, 0.5)
        if trouble.random() < 0.3:
            faults = (ex.CUT, ex.SERVER_ERROR, ex.CUT_SHORT, ex.HTML_PAGE, ex.UNAVAILABLE)
            live.exchange.faults += [trouble.choice(faults)] * trouble.randint(1, 5)
    assert seen == sorted({*seen})
    assert len(seen) > 5
    assert not {*seen} & {*ABSENT}
    live.exchange.faults.clear()
    live.assert_done(live.folder / "forecasts.csv")


def test_who_is_stopped_anywhere_goes_on_without_a_gap_or_a_repeat(live: Live) -> None:
    chance, path = random.Random(5), live.folder / "forecasts.csv"
    while True:
        following, count = live.follow(), chance.randint(1, 4)
        taken = [forecast for _, forecast in zip(range(count), following, strict=False)]
        following.close()  # type: ignore[attr-defined]
        if len(taken) < count:
            break
        if chance.random() < 0.6:  # half a line, as a kill leaves it
            with path.open("ab") as file:
                file.write(b"2021-03-08T23:00:00Z,0.12"[: chance.randint(1, 25)])
    live.assert_done(path)


@pytest.mark.parametrize("name", ["forecasts.h5", "forecasts.parquet"])
def test_whole_files_have_the_same(live: Live, name: str) -> None:
    assert len([*live.follow(name, bars=2)]) == 2
    assert len([*live.follow(name, bars=1)]) == 1
    live.assert_done(live.folder / name)


def test_a_kill_at_any_time_leaves_what_can_be_gone_on_with(live: Live) -> None:
    """Forks are killed as they write and fetch; each sees the clock of its own."""
    path, chance = live.folder / "forecasts.csv", random.Random(11)
    for attempt in range(5):
        child = os.fork()
        if not child:
            with suppress(BaseException):
                for forecast in live.follow():
                    assert forecast
            os._exit(0)
        time.sleep(chance.uniform(0.2, 1.5))
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        live.clock.time += 3 * HOUR * (attempt % 3)
    [*live.follow()]
    live.assert_done(path)


def test_without_a_file_it_begins_with_the_newest_bar(live: Live) -> None:
    found = [*live.follow(since=None, bars=2)]
    assert [each.origin_time for each in found] == [TRAINED - HOUR, TRAINED]
    assert str(found[0]).startswith("2021-03-05T11:00:00Z  forecast_0_0 ")
    assert list(found[0].values) == ["forecast", "forecast_price"]


def test_the_newest_bars_alone_give_the_same(live: Live) -> None:
    start = TRAINED - live.make_data().bars_needed * HOUR
    dm = make_data(live.folder / "short", live.exchange, start=start)
    dm.load_state_dict(live.state)
    found = [*live.follow("short.csv", dm=dm, bars=3)]
    times, values, _ = live.predict()
    for forecast in found:
        at = times.tolist().index(forecast.origin_time)
        np.testing.assert_array_equal(forecast.values["forecast"], values[at])


def test_a_spell_without_an_answer_is_told_once_and_waited_for_with_growing_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    market = Market(make_candles(), TestClock())
    with serve(market, monkeypatch) as exchange:
        live = Live(tmp_path, monkeypatch, exchange)
        live.exchange.faults += [ex.CUT] * 12
        caplog.clear()
        with caplog.at_level("INFO", "btc_datamodule"):
            first = next(live.follow())
        assert first.origin_time == TRAINED
        told = [record.getMessage() for record in caplog.records if record.name == "btc_datamodule"]
        assert len([line for line in told if "it is asked again until it answers" in line]) == 1
        assert told.count("the source answers again") == 1
        assert live.clock.waits[:5] == [1.0, 2.0, 4.0, 8.0, 16.0]


def test_waits_are_for_the_next_bar_and_shorter_only_while_one_is_late() -> None:
    pace, close = Pace(Interval(60), 2.0), 6000
    assert pace.choose_wait(close + 5.0, close) == 57.0
    waits = [pace.choose_wait(close + 2.0, close - 60) for _ in range(8)]
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert Pace(Interval(3600), 2.0).choose_wait(7200 + 600.0, 3600) == 3602.0 - 600.0
    assert pace.choose_wait(close + 50.0, close - 60) == 12.0
    assert pace.choose_wait(close + 61.0, close) == 1.0
    assert pace.choose_wait(close + 62.0, close) == 1.0


def test_files_of_another_model_of_other_columns_or_of_nobody_are_refused(live: Live) -> None:
    path = live.folder / "forecasts.csv"
    next(live.follow())
    other = DummyModule(3, 6, 2, (2,))
    with pytest.raises(ConfigError, match=r"has forecasts of another model \(DummyModule \w+, not"):
        next(live.follow(model=other))
    with pytest.raises(ConfigError, match=r"has the columns origin_time, forecast_0_0, .*`prices`"):
        next(live.follow(prices=False))
    (live.folder / "forecasts.csv.json").unlink()
    with pytest.raises(ConfigError, match="is no file that follow has begun"):
        next(live.follow())
    assert len(path.read_text().splitlines()) == 2


def test_two_do_not_write_to_one_file(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("btc_datamodule.live.follow.PATIENCE_SECONDS", 0.0)
    first = live.follow()
    next(first)
    with pytest.raises(StoreError, match=r"forecasts\.csv\.lock has been held"):
        next(live.follow())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"name": "forecasts.txt"}, "must end in one of .csv, .parquet, .h5"),
        ({"bars": 0}, "bars"),
        ({"delay": -1}, "delay is -1: give seconds from 0 up"),
    ],
)
def test_arguments_that_will_not_do_are_named(
    live: Live, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        live.follow(**options)
    with pytest.raises(ConfigError, match="needs the spans and statistics of training"):
        live.follow(dm=make_data(live.folder, live.exchange))
    with pytest.raises(ConfigError, match="leave `offline` out"):
        live.follow(dm=live.make_data(offline=True))


@pytest.mark.skipif(sys.platform != "linux", reason="counts what /proc tells")
def test_files_and_maps_do_not_grow_with_the_bars(live: Live) -> None:
    counts = []
    for number, _ in enumerate(live.follow(bars=6)):
        if number % 2 == 1:
            gc.collect()
            maps = Path("/proc/self/maps").read_text()
            counts.append((len([*Path("/proc/self/fd").iterdir()]), maps.count("features-")))
    assert len(counts) == 3
    assert max(fd for fd, _ in counts[1:]) <= counts[0][0] + 2
    assert max(maps for _, maps in counts[1:]) <= max(counts[0][1], 12)


def test_prices_across_a_gap_are_refused_before_anything_is_made(live: Live) -> None:
    dm = make_data(live.folder, live.exchange, gap=2, end=TRAINED)
    dm.prepare_data()
    dm.setup()
    with pytest.raises(ConfigError, match=r"prices: with a gap of 2 the close .* is not known yet"):
        follow(dm, live.model, live.folder / "forecasts.csv", prices=True)


@pytest.mark.parametrize("name", ["P(up, down)", 'the "best"', "two\nlines"])
def test_a_name_that_csv_would_quote_is_refused(live: Live, name: str) -> None:
    class Named(DummyModule):
        def predict_step(self, batch: Any, batch_idx: int) -> Any:
            return {name: batch.origin_time.float()}

    model = Named(**live.model.hparams)
    model.load_state_dict(live.model.state_dict())
    with pytest.raises(ConfigError, match="a name that would need quotes in CSV"):
        next(live.follow(model=model, prices=False))
