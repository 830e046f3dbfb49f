"""Forecasts as people hold them become prices, and targets in their own units."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from numpy.typing import NDArray

from btc_datamodule import (
    Batch,
    BTCDataModule,
    ConfigError,
    CumulativeReturn,
    LogReturn,
    OHLCPath,
    read_candles,
)
from btc_datamodule.evaluation.forecasts import UNKNOWN_TIME, invert, read_forecasts, read_times
from btc_datamodule.evaluation.scaling import Scaler
from tests.factories import HOUR, make_datamodule

N = 6


@pytest.fixture(scope="module")
def dm(tmp_path_factory: pytest.TempPathFactory) -> BTCDataModule:
    return make_datamodule(
        tmp_path_factory.mktemp("data"), target_scaling="train", horizon=11, gap=1
    )


@pytest.fixture(scope="module")
def batch(dm: BTCDataModule) -> Batch:
    return dm.dataset("test")[np.arange(N)]


@pytest.fixture(scope="module")
def closes(dm: BTCDataModule, batch: Batch) -> NDArray[np.float64]:
    """(N, 11) the closes that came, by the candle file; forward filled where there is none."""
    candles = read_candles(dm.candle_path)
    times = batch.origin_time.numpy()[:, np.newaxis] + HOUR * np.arange(2, 13)
    at = np.searchsorted(candles.open_time, times, side="right") - 1
    found: NDArray[np.float64] = candles["close"][at]
    return found


def columns(y: torch.Tensor) -> pl.DataFrame:
    """As ``PredictionWriter`` has them in Parquet."""
    flat = y.reshape(len(y), -1).numpy()
    return pl.DataFrame({f"forecast_{i}_0": flat[:, i] for i in range(flat.shape[1])})


FORMS: dict[str, Callable[[torch.Tensor], Any]] = {
    "tensor": lambda y: y,
    "float64": lambda y: y.double(),
    "bf16": lambda y: y.bfloat16(),
    "fp16": lambda y: y.half(),
    "with a gradient": lambda y: y.clone().requires_grad_() * 1,
    "parameter": torch.nn.Parameter,
    "numpy": lambda y: y.numpy(),
    "numpy fp16": lambda y: y.half().numpy(),
    "(B, H)": lambda y: y[:, :, 0],
    "not contiguous": lambda y: y[:, :, 0].T.contiguous().T,
    "list": lambda y: y.tolist(),
    "list of samples": list,
    "list of batches": lambda y: [y[:2], y[2:]],
    "polars": columns,
    "polars, sorted as texts": lambda y: columns(y).select(sorted(columns(y).columns)),
    "polars with other columns": lambda y: columns(y).with_columns(origin_time=pl.lit(1)),
    "pandas": lambda y: pd.DataFrame(columns(y).to_dict(as_series=False)),
    "pandas that knows absent": lambda y: pd.DataFrame(
        columns(y).to_dict(as_series=False), dtype="Float64"
    ),
    "sparse": lambda y: y.to_sparse(),
    "sparse rows": lambda y: y[:, :, 0].to_sparse_csr(),
    "polars lists": lambda y: pl.Series(y[:, :, 0].tolist()),
    "polars arrays": lambda y: pl.Series(y[:, :, 0].numpy()),
    "masked": lambda y: np.ma.masked_array(y.numpy(), False),
}


@pytest.mark.parametrize("form", FORMS)
def test_forecasts_of_any_kind_become_the_prices_that_came(
    dm: BTCDataModule, batch: Batch, closes: NDArray[np.float64], form: str
) -> None:
    prices = dm.to_prices(FORMS[form](batch.y), batch.origin_time)
    assert prices.dtype == np.float64
    assert prices.shape == (N, 11, 1)
    coarse = form in ("bf16", "fp16", "numpy fp16")
    np.testing.assert_allclose(prices[:, :, 0], closes, rtol=2e-3 if coarse else 1e-6)


def frame_of(times: torch.Tensor) -> pl.Series:
    return pl.from_epoch(pl.Series("origin_time", times.numpy()))


def new_york(times: torch.Tensor) -> Any:
    return pd.to_datetime(times.numpy(), unit="s", utc=True).tz_convert("America/New_York")


TIMES: dict[str, Callable[[torch.Tensor], Any]] = {
    "tensor": lambda t: t,
    "int32": lambda t: t.int(),
    "unsigned": lambda t: t.numpy().astype(np.uint64),
    "list": lambda t: t.tolist(),
    "list of tensors": list,
    "list of batches": lambda t: [t[:2], t[2:]],
    "datetime64[s]": lambda t: t.numpy().astype("datetime64[s]"),
    "datetime64[ns]": lambda t: t.numpy().astype("datetime64[s]").astype("datetime64[ns]"),
    "datetime64[h]": lambda t: t.numpy().astype("datetime64[s]").astype("datetime64[h]"),
    "polars integers": lambda t: pl.Series(t.numpy()),
    "polars": frame_of,
    "polars ms": lambda t: frame_of(t).cast(pl.Datetime("ms")),
    "polars UTC": lambda t: frame_of(t).dt.replace_time_zone("UTC"),
    "polars elsewhere": lambda t: (
        frame_of(t).dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo")
    ),
    "polars frame": lambda t: frame_of(t).to_frame(),
    "pandas": lambda t: pd.Series(t.numpy()).astype("datetime64[s]"),
    "pandas elsewhere": new_york,
    "pandas series elsewhere": lambda t: pd.Series(new_york(t)),
    "pandas frame": lambda t: pd.DataFrame({"at": new_york(t)}),
    "Python": lambda t: [datetime.fromtimestamp(each, UTC) for each in t.tolist()],
    "texts": lambda t: [
        f"{datetime.fromtimestamp(each, UTC):%Y-%m-%d %H:%M}" for each in t.tolist()
    ],
}


@pytest.mark.parametrize("form", TIMES)
def test_times_of_origins_may_be_of_any_kind(
    dm: BTCDataModule, batch: Batch, closes: NDArray[np.float64], form: str
) -> None:
    times = TIMES[form](batch.origin_time)
    assert read_times(times).tolist() == batch.origin_time.tolist()
    np.testing.assert_allclose(dm.to_prices(batch.y, times)[:, :, 0], closes, rtol=1e-6)


def test_one_sample_without_an_axis_of_the_batch_gives_its_prices(
    dm: BTCDataModule, batch: Batch, closes: NDArray[np.float64]
) -> None:
    sample = dm.dataset("test")[0]
    for y in (sample.y, sample.y[:, 0]):
        prices = dm.to_prices(y, sample.origin_time)
        assert prices.shape == (11, 1)
        np.testing.assert_allclose(prices[:, 0], closes[0], rtol=1e-6)


def test_no_forecasts_give_no_prices(dm: BTCDataModule, batch: Batch) -> None:
    assert dm.to_prices(batch.y[:0], batch.origin_time[:0]).shape == (0, 11, 1)
    assert dm.to_prices(batch.y[:0], []).shape == (0, 11, 1)


def test_numbers_of_one_a_sample_may_lack_their_axis(tmp_path: Path) -> None:
    data = make_datamodule(tmp_path, target=CumulativeReturn(), target_scaling="robust")
    whole = data.dataset("test")[np.arange(N)]
    due = data.to_prices(whole.y, whole.origin_time)
    assert due.shape == (N, 1)
    for y in (whole.y[:, 0], pl.Series("forecast", whole.y[:, 0].numpy()), whole.y[:, 0].tolist()):
        assert np.array_equal(data.to_prices(y, whole.origin_time), due)
        found = np.asarray(data.inverse_transform(y)).reshape(N, 1)
        np.testing.assert_allclose(found, data.inverse_transform(whole.y), rtol=1e-5)


def test_a_row_of_numbers_a_sample_is_put_in_shape(tmp_path: Path) -> None:
    data = make_datamodule(tmp_path, target=OHLCPath(), target_scaling="train")
    whole = data.dataset("test")[np.arange(N)]
    row, due = whole.y.reshape(N, 12), data.to_prices(whole.y, whole.origin_time)
    assert np.array_equal(data.to_prices(row, whole.origin_time), due)
    assert torch.equal(data.inverse_transform(row), data.inverse_transform(whole.y).reshape(N, 12))
    names = [f"forecast_{bar}_{price}" for bar in range(3) for price in range(4)]
    frame = pl.DataFrame(row.numpy(), schema=names)
    mixed = frame.select(sorted(names, reverse=True))
    assert np.array_equal(data.to_prices(mixed, whole.origin_time), due)
    assert data.inverse_transform(mixed).equals(data.inverse_transform(frame).select(mixed.columns))
    with pytest.raises(ConfigError, match=r"y has shape \(6, 3\), for a target of shape \(3, 4\)"):
        data.inverse_transform(row[:, :3])


# --- the kind that was given --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_tensor_keeps_its_type_and_its_gradient(
    dm: BTCDataModule, batch: Batch, dtype: torch.dtype
) -> None:
    y = batch.y.clone().to(dtype).requires_grad_()
    found = dm.inverse_transform(y)
    assert found.dtype == dtype
    (scale,), (center,) = dm.target_scaler.scale, dm.target_scaler.center
    due = (y.detach().double() * scale + center).to(dtype)
    torch.testing.assert_close(found.detach(), due)
    found.float().sum().backward()
    assert y.grad is not None
    assert y.grad.float().mean().item() == pytest.approx(scale, rel=1e-2)


def test_a_tensor_stays_on_its_device(dm: BTCDataModule, batch: Batch) -> None:
    assert dm.inverse_transform(batch.y.to("meta")).device.type == "meta"


def test_arrays_and_tables_stay_what_they_are(dm: BTCDataModule, batch: Batch) -> None:
    due = dm.inverse_transform(batch.y)
    for dtype in (np.float64, np.float32, np.float16):
        found = dm.inverse_transform(batch.y.numpy().astype(dtype))
        assert (type(found), found.dtype) == (np.ndarray, dtype)
        np.testing.assert_allclose(
            found, due, rtol=1e-2 if dtype == np.float16 else 1e-6, atol=1e-5
        )
    frame = columns(batch.y)
    table = dm.inverse_transform(frame.with_columns(at=pl.lit(7)))
    assert table.columns == [*frame.columns, "at"]
    np.testing.assert_allclose(table.select(frame.columns).to_numpy(), due[:, :, 0], rtol=1e-6)
    column = dm.inverse_transform(frame["forecast_3_0"])
    assert column.name == "forecast_3_0"
    np.testing.assert_allclose(column.to_numpy(), due[:, 3, 0], rtol=1e-6)


def test_the_numbers_given_stay_as_they_are(
    tmp_path: Path, dm: BTCDataModule, batch: Batch
) -> None:
    plain = make_datamodule(tmp_path, target=LogReturn())
    for data in (dm, plain):
        y = batch.y.clone()
        found = data.inverse_transform(y)
        found += 1
        assert torch.equal(y, batch.y)


# --- what does not fit --------------------------------------------------------------------------


def test_an_origin_that_is_no_bar_has_no_price(dm: BTCDataModule, batch: Batch) -> None:
    shift = torch.tensor([0, 7, -10 * 365 * 24 * HOUR, 10 * 365 * 24 * HOUR, 0, HOUR // 2])
    prices = dm.to_prices(batch.y, batch.origin_time + shift)
    due = dm.to_prices(batch.y, batch.origin_time)
    for sample, fits in enumerate([True, False, False, False, True, False]):
        assert np.array_equal(prices[sample], due[sample]) == fits
        assert np.isnan(prices[sample]).all() != fits
    times = batch.origin_time.numpy().astype("datetime64[s]").astype("datetime64[ms]")
    times[0], times[1] = np.datetime64("NaT"), times[1] + np.timedelta64(5, "ms")
    assert (
        np.isnan(dm.to_prices(batch.y, times)).all(axis=(1, 2)).tolist() == [True] * 2 + [False] * 4
    )
    absent = [None, *batch.origin_time.tolist()[1:]]
    assert np.isnan(dm.to_prices(batch.y, absent)).all(axis=(1, 2)).tolist() == [True] + [False] * 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t * 1000,
            r"origin_time \d+ looks like milliseconds, and whole numbers are epoch s",
        ),
        (
            lambda t: t + 7,
            r"origin_time 2021-03-\S+:07Z is no bar of .*candles.h5 \(1h from 2021-03-",
        ),
        (
            lambda t: t + 10**8,
            r"and none of the others is: give times of its bars, or run `btc-data",
        ),
        (lambda t: t.float(), "origin_time is float32: give whole epoch seconds"),
        (lambda t: t[None], r"origin_time has shape \(1, 6\): give \(B,\)"),
        (lambda t: ["noon"] * 6, "origin_time 'noon' is not an ISO 8601 time"),
        (lambda t: t.to("meta"), "origin_time is on the device meta, which holds no numbers"),
    ],
)
def test_times_that_fit_nothing_are_told_so(
    dm: BTCDataModule, batch: Batch, change: Callable[[Any], Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        dm.to_prices(batch.y, change(batch.origin_time))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda y: y[:3],
            r"\(3, 11, 1\), for 6 origins and a target of shape \(11, 1\): give \(6, 11,",
        ),
        (lambda y: y[:, :5], r"y has shape \(6, 5, 1\)"),
        (
            lambda y: y[:, 0, 0],
            r"y has shape \(6,\), for 6 origins .*give \(6, 11, 1\) or \(6, 11\)",
        ),
        (lambda y: y[None], r"y has shape \(1, 6, 11, 1\)"),
        (lambda y: y.numpy().astype(str), "y is <U32: give numbers alone"),
        (lambda y: y.to(torch.complex64), "y is complex64: give numbers alone"),
        (lambda y: [[1.0], [1.0, 2.0]], "y makes no array"),
        (
            lambda y: [{"forecast": y}],
            r"made of dicts with forecast: give one of these.*torch\.cat",
        ),
        (lambda y: {"forecast": y}, r"made of dicts with forecast"),
    ],
)
def test_forecasts_that_fit_nothing_are_told_what_would(
    dm: BTCDataModule, batch: Batch, change: Callable[[Any], Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        dm.to_prices(change(batch.y), batch.origin_time)


def test_numbers_of_few_bits_are_read_as_what_they_stand_for() -> None:
    y = torch.tensor([[0.5, -1.0], [2.0, 0.25]])
    packed = (y.to(torch.float8_e4m3fn), torch.quantize_per_tensor(y, 0.25, 4, torch.qint8))
    for each in packed:
        np.testing.assert_array_equal(read_forecasts(each, (2,), (2,)), y.numpy())
        assert torch.equal(invert(Scaler.identity(1), each, (2,)), y)


def test_numbers_of_pandas_that_are_absent_are_nan() -> None:
    frame = pd.DataFrame({"y_0": [1.0, None], "y_1": [2.0, 3.0]}, dtype="Float64")
    np.testing.assert_array_equal(
        read_forecasts(frame, (2,), (2,)), np.array([[1.0, 2.0], [np.nan, 3.0]])
    )


def test_columns_of_two_predictions_are_not_taken_for_one() -> None:
    names = [f"{name}_{bar}" for name in ("low", "high") for bar in range(2)]
    frame = pl.DataFrame({name: [1.0] for name in names})
    with pytest.raises(ConfigError, match=r"y has shape \(1, 4\), for 1 origins"):
        read_forecasts(frame, (1,), (2,))


def test_no_time_is_a_value_of_its_own() -> None:
    assert read_times([None, "2021-01-01"]).tolist() == [UNKNOWN_TIME, 1_609_459_200]
    assert read_times(pl.Series([None, datetime(2021, 1, 1)])).tolist()[0] == UNKNOWN_TIME
