"""What tests are made of: one factory each for candles, datamodules and trainers.

A test module that wants other settings names them once:
``make = partial(make_datamodule, lookback=8)``.

torch and Lightning are imported where they are used: processes that tests start import this module,
and most of them need neither.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from btc_datamodule import Block, Candles, Simulator, Source
from btc_datamodule.candles.timeline import Span, parse_instant

if TYPE_CHECKING:
    from lightning.pytorch import Callback, Trainer

    from btc_datamodule import BTCDataModule, DummyModule

HOUR = 3600
T0 = START = parse_instant("2020-01-01")


# --- datamodules and trainers ---------------------------------------------------------------------


def make_datamodule(
    folder: Path | str,
    kind: "type[BTCDataModule] | None" = None,
    *,
    ready: bool = True,
    **arguments: Any,
) -> "BTCDataModule":
    """A datamodule over a month of simulated hours with outages, unless arguments say otherwise.

    Args:
        folder: where its files lie, under ``data``.
        kind: its class; None for ``BTCDataModule``.
        ready: whether its files are to be there, and it set up.
        arguments: its arguments.
    """
    from btc_datamodule import BTCDataModule

    settings: dict[str, Any] = {
        "source": Simulator(seed=1, outages_per_year=50),
        "start": "2021-03-01",
        "end": "2021-04-01",
        "lookback": 12,
        "horizon": 3,
        "batch_size": 32,
        "data_dir": str(Path(folder) / "data"),
    }
    if not isinstance(arguments.get("source", Simulator()), Simulator):
        del settings["start"], settings["end"]  # all that there is
    dm = (kind or BTCDataModule)(**settings | arguments)
    if ready:
        prepare(dm)
        dm.setup()
    return dm


KEPT = TemporaryDirectory(prefix="btc-datamodule-tests-", ignore_cleanup_errors=True)
"""Of this process: simulated candle files, by where they lie and by their span."""


def prepare(dm: "BTCDataModule") -> None:
    """``prepare_data``, with a copy of the candle file where the same was simulated before."""
    settings = dm.settings
    path, span = settings.candle_path, f"{settings.start} to {settings.end}"
    kept = Path(KEPT.name) / span / path.relative_to(settings.data_dir)
    simulated = type(settings.source) is Simulator and settings.end is not None
    if not simulated or path.exists():  # another user may not even look into what is kept
        dm.prepare_data()
    elif kept.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(kept, path)
        dm.prepare_data()
    else:
        dm.prepare_data()
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, kept)


def make_trainer(folder: Path, *callbacks: "Callback", **options: Any) -> "Trainer":
    """A Trainer on the CPU that says nothing; it keeps checkpoints if a callback is to do so."""
    from lightning.pytorch import Trainer
    from lightning.pytorch.callbacks import Checkpoint

    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "default_root_dir": folder,
        "callbacks": list(callbacks),
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": any(isinstance(each, Checkpoint) for each in callbacks),
    }
    return Trainer(**settings | options)


def make_model(dm: "BTCDataModule", kind: "type[DummyModule] | None" = None) -> "DummyModule":
    """A model that fits a datamodule, the same weights each time; a ``DummyModule`` by default."""
    import torch

    from btc_datamodule import DummyModule

    torch.manual_seed(0)
    classes = {} if dm.n_classes is None else {"n_classes": dm.n_classes}
    return (kind or DummyModule)(dm.n_features, dm.lookback, dm.horizon, dm.target_shape, **classes)


# --- candles --------------------------------------------------------------------------------------


def candles_of(
    bars: ArrayLike, interval: int = HOUR, seed: int = 0, optional: Sequence[str] = ()
) -> Candles:
    """Bars at the given open times, or at ``T0 + r * interval`` for each true row r of a mask.

    A bar's values depend on its open time and ``seed`` alone: parts of a series agree with it.
    """
    given = np.asarray(bars)
    time = T0 + interval * np.flatnonzero(given) if given.dtype == bool else given
    time = time.astype(np.int64)
    number = (time - T0) / interval

    def noise(stream: int) -> NDArray[np.float64]:
        return np.sin(number * 12.9898 + stream * 78.233 + seed * 37.719) * 43758.5453 % 1.0

    close = 7000 * np.exp(0.1 * np.sin(number / 40) + 0.01 * noise(0))
    opened = close * np.exp(0.01 * (noise(1) - 0.5))
    columns = {
        "open_time": time,
        "open": opened,
        "high": np.maximum(opened, close) * (1 + 0.005 * noise(2)),
        "low": np.minimum(opened, close) * (1 - 0.005 * noise(3)),
        "close": close,
        "volume": 0.1 + 50 * noise(4),
    }
    more = {
        "volume": columns["volume"],
        "quote_volume": columns["volume"] * close,
        "trades": np.floor(1 + 100 * noise(5)),
        "taker_buy_volume": columns["volume"] * noise(6),
    }
    return Candles(interval, columns | {name: more[name] for name in optional})


def changed(candles: Candles, **columns: Any) -> Candles:
    """The same candles with some columns replaced, or taken out where None."""
    merged = {**candles.columns, **columns}
    return Candles(candles.interval, {k: v for k, v in merged.items() if v is not None})


@dataclass(frozen=True, eq=False)
class InMemory(Source):
    """Serves ``candles``; what they lack is answered to be absent."""

    candles: Candles
    label: str = "memory"

    name: ClassVar[str] = "memory"

    @property
    def series(self) -> str:
        return self.label

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        yield Block(span, self.candles.slice(*span), "memory")


def hourly(closes: Sequence[float | None], start: int = START) -> Candles:
    """Hourly bars with these closes from ``start`` on; None for an absent bar.

    Each opens at the close of the bar before it; high and low lie 1 % outside; the volume of
    the bar in row r is r + 1.
    """
    rows = [row for row, close in enumerate(closes) if close is not None]
    close = np.array([close for close in closes if close is not None], dtype=np.float64)
    opened = np.concatenate([close[:1], close[:-1]])
    return Candles(
        HOUR,
        {
            "open_time": start + HOUR * np.array(rows, dtype=np.int64),
            "open": opened,
            "high": np.maximum(opened, close) * 1.01,
            "low": np.minimum(opened, close) * 0.99,
            "close": close,
            "volume": np.array(rows, dtype=np.float64) + 1,
        },
    )


def random_hourly(present: Sequence[bool], seed: int) -> Candles:
    """Hourly bars on a random walk, with the bars absent where ``present`` is false."""
    steps = np.random.default_rng(seed).normal(0, 0.01, len(present))
    closes = 7000 * np.exp(np.cumsum(steps))
    return hourly([c if p else None for c, p in zip(closes.tolist(), present, strict=True)])
