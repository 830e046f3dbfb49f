"""Candles in frames of polars and pandas: the same bars as the same rows in a file."""

import pickle
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from lightning.pytorch import Trainer

from btc_datamodule import (
    BTCDataModule,
    CandleError,
    CandleFile,
    CandleFrame,
    Candles,
    ConfigError,
    SourceError,
)
from btc_datamodule.sources.base import Block
from tests.factories import candles_of, make_datamodule, make_model, make_trainer
from tests.helpers import assert_same
from tests.sources.files.helpers import EVER, HOUR, T0, TIME, VALUES, expect_bars


def read(frame: Any, end: int = EVER[1], **fields: Any) -> Block:
    (block,) = CandleFrame(frame, **fields).blocks(HOUR, (0, end))
    return block


def make_pandas(**columns: Any) -> pd.DataFrame:
    index = pd.to_datetime(TIME, unit="s").rename("date")
    return pd.DataFrame({**VALUES, **columns}, index=index)


POLARS = pl.DataFrame({"open_time": TIME, **VALUES})
WALK = candles_of(np.arange(400) % 37 != 0, optional=("quote_volume", "trades"))


# --- the same bars, whatever holds them -----------------------------------------------------------


@pytest.mark.parametrize(
    "frame",
    [
        POLARS,
        POLARS.lazy(),
        POLARS.with_columns(pl.from_epoch("open_time")),
        POLARS.with_columns(pl.from_epoch("open_time").dt.replace_time_zone("UTC")),
        POLARS.with_columns(pl.from_epoch("open_time").dt.to_string()),
        make_pandas(),
        make_pandas().rename_axis(None),
        make_pandas().tz_localize("UTC").tz_convert("Asia/Tokyo"),
        make_pandas().reset_index(),
        make_pandas().reset_index().astype({"date": "datetime64[ns]"}),
        make_pandas().reset_index().astype({"date": str}),
        make_pandas().astype("Float64"),
        make_pandas().map(str),
        make_pandas().map(lambda value: Decimal(str(value))),
        make_pandas().reset_index().assign(date=pd.array(TIME, dtype="Int64")),
        make_pandas().set_index(pd.PeriodIndex(pd.to_datetime(TIME, unit="s"), freq="h")),
        make_pandas().set_axis(pd.MultiIndex.from_product([[*VALUES], ["BTC-USD"]]), axis=1),
    ],
    ids=lambda frame: f"{type(frame).__module__.partition('.')[0]}",
)
def test_a_frame_has_the_bars_that_stand_in_it(frame: Any) -> None:
    expect_bars(read(frame).candles)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_frame_is_read_as_a_file_of_the_same_rows_is(suffix: str, tmp_path: Path) -> None:
    frame, path = WALK.to_polars(), tmp_path / f"candles{suffix}"
    frame.write_csv(path) if suffix == ".csv" else frame.write_parquet(path)
    (of_file,) = CandleFile(path).blocks(HOUR, EVER)
    of_frame = read(frame)
    assert_same(of_frame.candles, of_file.candles)
    assert_same(read(pd.DataFrame(frame.to_dict(as_series=False))).candles, of_file.candles)
    assert of_frame.span == of_file.span
    assert (of_frame.origin, of_frame.notes) == ("frame", ())


ODD = {
    "unsorted": pl.concat([WALK.to_polars()[200:], WALK.to_polars()[:200]]),
    "repeated": pl.concat([WALK.to_polars(), WALK.to_polars()[5:9]]),
    "blank": WALK.to_polars().with_columns(
        pl.when(pl.int_range(pl.len()) != 7).then(pl.col("open", "high", "low", "close"))
    ),
    "not a number": WALK.to_polars().with_columns(
        pl.when(pl.int_range(pl.len()) != 7).then(pl.col("high")).otherwise(float("nan"))
    ),
    "contradictory": pl.concat(
        [WALK.to_polars(), WALK.to_polars()[5:6].with_columns(pl.col("close") * 1.001)]
    ),
    "high below low": WALK.to_polars().with_columns(
        pl.when(pl.int_range(pl.len()) != 7).then(pl.col("high")).otherwise(1.0)
    ),
}


@pytest.mark.parametrize("drop_invalid", [False, True])
@pytest.mark.parametrize("kind", ODD)
def test_odd_rows_are_settled_or_refused_as_those_of_a_file(
    kind: str, drop_invalid: bool, tmp_path: Path
) -> None:
    def tell(source: Any) -> tuple[Candles | None, str]:
        try:
            (block,) = source.blocks(HOUR, EVER)
        except CandleError as error:
            return None, str(error)
        return block.candles, "; ".join(block.notes)

    path = tmp_path / "candles.json"
    ODD[kind].write_json(path)
    of_file, told = tell(CandleFile(path, drop_invalid=drop_invalid))
    of_frame, told_of_frame = tell(CandleFrame(ODD[kind], drop_invalid=drop_invalid))
    assert told_of_frame == told.replace("candles.json", "frame").replace(str(path), "frame")
    assert told or kind == "unsorted"
    if of_file is None or of_frame is None:
        assert of_file is of_frame
    else:
        assert_same(of_frame, of_file)


def test_what_is_said_of_columns_and_times_counts() -> None:
    named = make_pandas().rename(columns={"volume": "Vol"})
    assert read(named, columns={"Vol": "quote_volume"}).candles.columns.keys() >= {"quote_volume"}
    berlin = read(make_pandas(), timezone="Europe/Berlin").candles
    np.testing.assert_array_equal(berlin.open_time, np.array(TIME) - HOUR)
    closing = read(WALK.to_polars(), stamp="close").candles
    np.testing.assert_array_equal(closing.open_time, WALK.open_time - HOUR)
    assert read(POLARS, end=T0 + HOUR).candles.open_time.tolist() == [T0]


# --- what is no frame of candles ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            "candles.csv",
            r'^frame is \'candles.csv\': give a DataFrame of polars.*CandleFile\("PATH',
        ),
        ({"close": [1.0]}, r"^frame is of type dict: give a DataFrame of polars or pandas"),
        (POLARS.head(0), r"^frame is empty: give one with a row for each candle"),
        (pd.DataFrame(), r"^frame is empty"),
        (
            POLARS.with_columns(pl.lit([1]).alias("book")),
            r"^frame: column 'book' holds List\(Int64\): leave it out",
        ),
    ],
)
def test_what_is_no_frame_of_candles_is_named(frame: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CandleFrame(frame)


def fail_on_purpose(_: Any) -> Any:
    raise KeyError("mine")


def panic(_: Any) -> Any:
    raise pl.exceptions.PanicException("the engine gave up")


@pytest.mark.filterwarnings("ignore::polars.exceptions.PolarsInefficientMapWarning")
@pytest.mark.parametrize(
    ("frame", "cause"),
    [
        (pl.scan_csv("no.csv"), "FileNotFoundError: No such file or directory"),
        (POLARS.lazy().select("nope"), 'ColumnNotFoundError: unable to find column "nope"'),
        (
            POLARS.lazy().with_columns(open=pl.lit("x").cast(pl.Float64)),
            "InvalidOperationError: conversion from `str` to `f64` failed",
        ),
        (
            POLARS.lazy().with_columns(
                pl.col("open").map_elements(fail_on_purpose, return_dtype=pl.Float64)
            ),
            "mine",
        ),
        (POLARS.lazy().map_batches(fail_on_purpose), "mine"),
        (POLARS.lazy().map_batches(panic), "PanicException: the engine gave up"),
    ],
    ids=["file", "column", "cast", "function", "batches", "panic"],
)
def test_a_lazy_frame_that_cannot_be_collected_is_one_line_with_the_cause(
    frame: pl.LazyFrame, cause: str
) -> None:
    with pytest.raises(ConfigError, match=r"^frame cannot be collected \(") as caught:
        CandleFrame(frame)
    assert cause in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "kind",
    [
        pl.Categorical(),
        pl.Enum(pl.concat(POLARS[name].cast(pl.String) for name in VALUES).unique()),
    ],
    ids=["categorical", "enum"],
)
def test_categories_of_number_texts_are_read_as_those_texts(kind: Any) -> None:
    texts = POLARS.with_columns(pl.col(*VALUES).cast(pl.String))
    block = read(texts.with_columns(pl.col(*VALUES).cast(kind)))
    assert_same(block.candles, read(texts).candles)
    assert_same(block.candles, read(POLARS).candles)


@pytest.mark.parametrize("kind", ["Int128", "UInt128"])
def test_integers_of_128_bits_are_read_as_others_are(kind: str) -> None:
    wide = getattr(pl, kind, pl.Int128)  # UInt128 came later
    block = read(POLARS.with_columns(pl.col("open_time", "volume").cast(pl.Int64).cast(wide)))
    short = read(POLARS.with_columns(pl.col("open_time", "volume").cast(pl.Int64)))
    assert_same(block.candles, short.candles)
    with pytest.raises(
        CandleError, match=r"^frame, row 1: open_time 12676506.* is not on a whole seco"
    ):
        read(POLARS.with_columns(open_time=pl.Series([2**100] * 3, dtype=pl.Int128)))


def test_a_column_that_is_missing_and_a_row_that_is_none_are_named() -> None:
    with pytest.raises(SourceError, match=r"^frame: .*close"):
        read(POLARS.drop("close"))
    with pytest.raises(CandleError, match=r"^frame, row 2 .*low is above .*drop_invalid"):
        read(POLARS.with_columns(low=pl.Series([6990.0, 7001.2, 7000.0])))
    with pytest.raises(CandleError, match=r"^frame, row 3: .*'much'"):
        read(POLARS.with_columns(close=pl.Series(["7001.0", "7000.3", "much"])))
    with pytest.raises(ConfigError, match="stamp is 'middle'"):
        CandleFrame(POLARS, stamp="middle")  # type: ignore[arg-type]


# --- a series is its content ----------------------------------------------------------------------


def test_the_name_of_a_series_follows_content_and_settings() -> None:
    source = CandleFrame(POLARS)
    assert source.series == f"frame-{source.revision[:8]}"
    assert source == CandleFrame(POLARS.clone()) == pickle.loads(pickle.dumps(source))
    assert source.series == CandleFrame(POLARS.lazy()).series
    others = [
        CandleFrame(POLARS.with_columns(volume=pl.Series([12.5, 0.0, 2e-8]))),
        CandleFrame(POLARS.rename({"volume": "quote_volume"})),
        CandleFrame(POLARS.cast({"open_time": pl.Int32})),
        CandleFrame(POLARS.with_columns(volume=pl.Series([12.5, None, 1e-8]))),
        CandleFrame(POLARS, drop_invalid=True),
        CandleFrame(POLARS, columns={"volume": "quote_volume"}),
        CandleFrame(POLARS, timezone="Europe/Berlin"),
    ]
    assert len({each.series for each in (source, *others)}) == 1 + len(others)
    assert CandleFrame(POLARS, product="mine").series == "mine"


def test_texts_that_run_together_are_told_apart() -> None:
    one = POLARS.with_columns(note=pl.Series(["ab", "c", None]))
    other = POLARS.with_columns(note=pl.Series(["a", "bc", None]))
    third = POLARS.with_columns(note=pl.Series(["ab", "c", ""]))
    assert len({CandleFrame(each).series for each in (one, other, third)}) == 3


def test_a_frame_is_kept_as_it_was_given_and_never_written_to() -> None:
    frame = make_pandas()
    before = frame.copy()
    source = CandleFrame(frame)
    name = source.series
    (block,) = source.blocks(HOUR, EVER)
    pd.testing.assert_frame_equal(frame, before)
    frame.iloc[1, 3] = 7001.25
    assert CandleFrame(frame).series != name
    (again,) = source.blocks(HOUR, EVER)
    assert source.series == name
    assert_same(again.candles, block.candles)
    assert repr(source).startswith("CandleFrame(frame=<frame of 3 rows, sha256:")
    assert len(repr(source)) < 250


# --- through a datamodule -------------------------------------------------------------------------


def test_a_datamodule_of_a_frame_has_the_windows_of_the_file(tmp_path: Path) -> None:
    frame = WALK.to_polars()
    frame.write_csv(tmp_path / "candles.csv")
    of_frame = make_datamodule(tmp_path, source=CandleFrame(frame))
    of_file = make_datamodule(tmp_path, source=CandleFile(tmp_path / "candles.csv"))
    for mine, other in zip(of_frame.dataset("train")[:], of_file.dataset("train")[:], strict=True):
        assert mine.equal(other)
    stored = make_datamodule(
        tmp_path / "more", source=CandleFile(of_frame.candle_path, dataset="candles")
    )
    assert stored.dataset("test")[0].x.equal(of_file.dataset("test")[0].x)


def test_under_one_name_an_edited_frame_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    frame = WALK.to_polars()
    first = make_datamodule(tmp_path, source=CandleFrame(frame, product="mine"))
    edited = frame.with_columns(close=(pl.col("low") + pl.col("high")) / 2)
    other = make_datamodule(tmp_path, source=CandleFrame(edited, product="mine"))
    assert first.candle_path == other.candle_path
    assert not first.dataset("test")[0].y.equal(other.dataset("test")[0].y)


def test_a_frame_stands_beside_the_candles_too(tmp_path: Path) -> None:
    dm = make_datamodule(
        tmp_path,
        source=CandleFrame(WALK.to_polars()),
        covariates={"eth": CandleFrame(candles_of(np.arange(400) % 41 != 0, seed=2).to_polars())},
        features=["log_return", "eth.log_return"],
    )
    assert dm.dataset("train")[:].x.shape[1:] == (12, 2)


def test_a_checkpoint_says_that_a_frame_is_to_be_given_again(tmp_path: Path) -> None:
    dm = make_datamodule(tmp_path, source=CandleFrame(WALK.to_polars()))
    assert dm.hparams["source"]["init_args"]["frame"].startswith("<frame of 389 rows, sha256:")
    trainer: Trainer = make_trainer(tmp_path, max_steps=1)
    trainer.fit(make_model(dm), datamodule=dm)
    trainer.save_checkpoint(tmp_path / "it.ckpt")
    with pytest.raises(ConfigError, match=r"of source \(<frame of 389 .* give source=\.\.\. to"):
        BTCDataModule.load_from_checkpoint(tmp_path / "it.ckpt", weights_only=True)
    again = BTCDataModule.load_from_checkpoint(
        tmp_path / "it.ckpt", weights_only=True, source=CandleFrame(WALK.to_polars())
    )
    again.setup()
    assert again.scaler == dm.scaler
