"""A checkpoint forecasts the newest bars without the train rows: the same bits, or nothing."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from btc_datamodule import (
    Batch,
    BTCDataModule,
    ConfigError,
    DateSplit,
    Feature,
    FractionSplit,
    RealisedVolatility,
    Records,
    Resampled,
    SimulatedFunding,
    Simulator,
    StoreError,
)
from btc_datamodule.evaluation import fitted as fitting
from tests.factories import HOUR, make_datamodule, make_model, make_trainer

RELEASES = "day,out,cpi\n" + "".join(
    f"2021-{month:02d}-01,2021-{month:02d}-12T13:30:00Z,{month / 10}\n" for month in range(1, 5)
)
CANDLES = ("log_return", "relative_volume", "m = close.rolling_mean(7) / close")


def double(bars: Any) -> Any:
    return (bars["high"] / bars["low"]).log() * 2


def datamodule(folder: Path, **arguments: Any) -> BTCDataModule:
    settings: dict[str, Any] = {
        "source": Simulator(seed=1, outages_per_year=150),
        "start": "2021-02-01",
        "features": CANDLES,
        "split": DateSplit("2021-03-01", "2021-03-10"),
        "target_scaling": "robust",
    }
    return make_datamodule(folder, ready=False, **settings | arguments)


def beside(folder: Path) -> dict[str, Any]:
    (folder / "macro.csv").write_text(RELEASES)
    macro = Records(str(folder / "macro.csv"), time="day", known_at="out", columns=("cpi",))
    return {
        "features": ("log_return", "day.log_return", "eth.log_return", "funding.rate", "macro.cpi"),
        "covariates": {
            "day": Resampled("1d"),
            "eth": Simulator(seed=1, coin="ETH"),
            "funding": SimulatedFunding(seed=1),
            "macro": macro,
        },
        "max_age": {"funding": "9h", "macro": "60d"},
    }


def read(dm: BTCDataModule, since: int = 0) -> Batch:
    """All windows of predict with origins from an instant on."""
    windows = dm.dataset("predict")
    batch = windows[np.arange(len(windows))]
    late = batch.origin_time >= since
    return Batch(*(field[late] for field in batch))


def assert_same(short: Batch, whole: Batch) -> None:
    for name in ("origin_time", "x", "observed"):
        assert torch.equal(getattr(short, name), getattr(whole, name)), name
    known = ~torch.isnan(short.y)  # a target may be measured from bars before the short table
    assert torch.equal(short.y[known], whole.y[known])


def take_part(whole: BTCDataModule, folder: Path, start: int, **arguments: Any) -> BTCDataModule:
    """The datamodule of a checkpoint of ``whole``, with candles from ``start`` on."""
    dm = datamodule(folder, start=start, **arguments)
    dm.load_state_dict(whole.state_dict())
    dm.prepare_data()
    dm.setup("predict")
    return dm


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> BTCDataModule:
    dm = datamodule(tmp_path_factory.mktemp("whole"))
    dm.prepare_data()
    dm.setup()
    return dm


CASES: dict[str, dict[str, Any]] = {
    "train": {},
    "robust": {"scaling": "robust"},
    "window": {"scaling": "window"},
    "none": {"scaling": "none"},
    "own": {"features": ["log_return", Feature("double", 1, double)]},
    "strict": {"context": "strict"},
    "by feature": {"mask": "feature", "min_observed": 0.5},
    "flagged": {"undefined": "flag", "min_observed": 0.7},
    "gap": {"gap": 2, "target": RealisedVolatility(), "target_scaling": "none"},
}


@pytest.mark.parametrize("case", CASES)
def test_windows_of_the_newest_bars_are_those_of_the_whole_history(
    tmp_path: Path, case: str
) -> None:
    whole = datamodule(tmp_path, **CASES[case])
    whole.prepare_data()
    whole.setup()
    start = whole.table.span[1] - 300 * HOUR
    short = take_part(whole, tmp_path / "fresh", start, **CASES[case])
    found = read(short)
    assert len(found.x) > 50
    assert_same(found, read(whole, int(found.origin_time[0])))
    assert int(found.origin_time[-1]) == int(read(whole).origin_time[-1])


def test_covariates_are_fetched_as_far_back_as_the_newest_bars_need(tmp_path: Path) -> None:
    given = beside(tmp_path)
    whole = datamodule(tmp_path, **given)
    whole.prepare_data()
    whole.setup()
    short = take_part(whole, tmp_path / "fresh", whole.table.span[1] - 200 * HOUR, **given)
    found = read(short)
    assert len(found.x) > 50
    assert_same(found, read(whole, int(found.origin_time[0])))


def test_what_is_made_of_bars_before_a_wall_that_is_not_there_is_left_out(tmp_path: Path) -> None:
    given = beside(tmp_path) | {"context": "strict", "features": ("log_return", "day.log_return")}
    whole = datamodule(tmp_path, **given)
    whole.prepare_data()
    whole.setup()
    behind = whole.fold.test[0][0] + 5 * HOUR
    found = read(take_part(whole, tmp_path / "fresh", behind, **given))
    assert int(found.origin_time[0]) > behind + 40 * HOUR
    assert_same(found, read(whole))


def test_wherever_the_newest_bars_begin_none_is_served_that_needs_more(
    whole: BTCDataModule,
) -> None:
    folder = whole.settings.data_dir.parent
    everything, table = read(whole), whole.table
    hole = table.holes[table.holes[:, 0] > table.rows - 400][0]
    for row in (*range(hole[0] - 2, hole[1] + 2), hole[1] + 30):
        short = take_part(whole, folder, table.find_time(int(row)))
        found = read(short)
        before = short.shape.count_before(short.table.warm_up) - 1
        assert int(found.origin_time[0]) >= short.table.find_time(before)
        at = int(found.origin_time[0])
        assert_same(found, Batch(*(field[everything.origin_time >= at] for field in everything)))


def test_bars_needed_are_enough_for_the_newest_forecast_and_fewer_are_not(
    whole: BTCDataModule,
) -> None:
    folder, end = whole.settings.data_dir.parent, whole.table.span[1]
    needed = whole.bars_needed
    assert needed == (24 - 1) + 12 + whole.settings.max_fill
    newest = read(take_part(whole, folder, end - needed * HOUR))
    assert_same(newest, read(whole, int(newest.origin_time[0])))
    assert int(newest.origin_time[-1]) == end - HOUR
    fewer = needed - whole.settings.max_fill - 1
    with pytest.raises(ConfigError, match=r"can be forecast: a forecast needs 38 bars.*`start`"):
        take_part(whole, folder, end - fewer * HOUR)


def test_it_says_once_that_train_rows_are_not_verified_and_shows_what_there_is(
    whole: BTCDataModule, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(BTCDataModule, "_tell", lambda self, line: said.append(line))
    folder = whole.settings.data_dir.parent
    short = take_part(whole, folder, whole.table.span[1] - 100 * HOUR)
    short.setup("predict")
    told = [line for line in said if "train rows" in line]
    assert len(told) == 1
    assert re.search(
        r"the candles begin at 2021-03-2\d.*after the first of the train rows \(2021-02-01.*so "
        "they are not verified; statistics and spans are the checkpoint's",
        told[0],
    )
    assert "are not verified" in repr(short)
    frame = short.describe()
    assert frame["windows"].to_list()[:2] == [0, 0]
    assert frame["bars"].to_list()[:2] == [0, 0]
    assert frame["from"].dt.epoch("s").to_list()[0] == whole.fold.train[0][0]


def test_stages_that_need_more_are_refused_and_so_is_a_fit(
    whole: BTCDataModule, tmp_path: Path
) -> None:
    folder = whole.settings.data_dir.parent
    short = take_part(whole, folder, whole.table.span[1] - 100 * HOUR)
    for make in (short.train_dataloader, short.val_dataloader, short.test_dataloader):
        with pytest.raises(ConfigError, match=r"needs bars from .* on: set `start` to what the"):
            make()
    with pytest.raises(ConfigError, match=r"train .* needs bars from 2021-0"):
        short.report(tmp_path / "report.html")
    with pytest.raises(ConfigError, match=r"train .* needs bars from 2021-0"):
        make_trainer(tmp_path, max_epochs=1).fit(make_model(short), datamodule=short)


def test_a_test_that_has_all_its_bars_is_the_same_without_train(whole: BTCDataModule) -> None:
    folder, begin = whole.settings.data_dir.parent, whole.fold.test[0][0]
    short = take_part(whole, folder, begin - (whole.bars_needed + 5) * HOUR)
    windows, all_windows = short.dataset("test"), whole.dataset("test")
    assert len(windows) == len(all_windows)
    assert_same(windows[np.arange(len(windows))], all_windows[np.arange(len(windows))])


def test_a_trainer_predicts_with_the_spans_of_the_checkpoint(
    whole: BTCDataModule, tmp_path: Path
) -> None:
    """Its split alone would not do: all of the newest bars are test."""
    trainer = make_trainer(tmp_path, max_epochs=1, limit_train_batches=2, limit_val_batches=1)
    folder = whole.settings.data_dir.parent
    dm = datamodule(folder)
    model = make_model(dm)
    trainer.fit(model, datamodule=dm)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    start, path = whole.table.span[1] - 100 * HOUR, str(tmp_path / "model.ckpt")
    short = datamodule(tmp_path, start=start)
    parts: Any = make_trainer(tmp_path).predict(make_model(dm), datamodule=short, ckpt_path=path)
    times = torch.cat([part["origin_time"] for part in parts])
    loaded = BTCDataModule.load_from_checkpoint(path, start=start, data_dir=str(tmp_path / "data"))
    loaded.prepare_data()
    loaded.setup()
    assert short.fold == loaded.fold == whole.fold
    assert torch.equal(times, read(loaded).origin_time)
    with pytest.raises(ConfigError, match="must lie inside the candles"):
        make_trainer(tmp_path).predict(make_model(dm), datamodule=datamodule(tmp_path, start=start))
    with pytest.raises(ConfigError):
        make_trainer(tmp_path, max_epochs=2).fit(
            make_model(dm), datamodule=datamodule(tmp_path, start=start), ckpt_path=path
        )


def test_a_fraction_of_the_newest_bars_is_not_taken_for_the_test_of_training(
    tmp_path: Path,
) -> None:
    split = FractionSplit(0.2, 0.2)
    whole = datamodule(tmp_path, split=split)
    whole.prepare_data()
    whole.setup()
    short = take_part(whole, tmp_path, whole.table.span[1] - 300 * HOUR, split=split)
    assert short.fold == whole.fold
    assert_same(read(short), read(whole, int(read(short).origin_time[0])))


def test_train_rows_that_are_there_are_verified(
    whole: BTCDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "PIECE_ROWS", 1)
    monkeypatch.setattr("btc_datamodule.features.layout.SEGMENT_ROWS", 128)
    folder = whole.settings.data_dir.parent / "pieces"
    dm = datamodule(folder)
    dm.prepare_data()
    dm.setup()
    start = dm.fold.train[0][0] + 200 * HOUR
    assert len(dm.state_dict()["pieces"]) > 4
    short = take_part(dm, folder, start)
    assert 100 < short.stages.verify() < 672 - 200
    other = datamodule(folder / "other", start=start, source=Simulator(seed=2))
    other.load_state_dict(dm.state_dict())
    other.prepare_data()
    with pytest.raises(StoreError, match="are not those that the statistics were fitted on"):
        other.setup()


def test_a_checkpoint_that_keeps_no_pieces_does_too(whole: BTCDataModule) -> None:
    state = {
        key: each for key, each in whole.state_dict().items() if key not in ("first", "pieces")
    }
    start = whole.table.span[1] - 100 * HOUR
    short = datamodule(whole.settings.data_dir.parent, start=start)
    short.load_state_dict(state)
    short.prepare_data()
    short.setup()
    assert short.stages.is_partial
    assert short.stages.fitted == replace(whole.stages.fitted, first=None, pieces=())
