"""Leaks in features: peeks, memories and side files."""

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from btc_datamodule import Feature
from btc_datamodule.audit import report as audit
from btc_datamodule.features import joined, segment
from tests.audit import peeks
from tests.audit.planted.leak import (
    BUILD,
    FIRST_VAL_ROW,
    FUNCTIONS,
    TRAIN_BLIND,
    Leak,
    Plant,
    make_candles,
    reads_later,
)


def write_side_file(folder: Path) -> str:
    """A file that knows the next return of every bar."""
    candles = make_candles()
    ahead = np.log(np.append(candles["close"][1:], np.nan) / candles["close"])
    path = folder / "side.csv"
    pl.DataFrame({"open_time": candles.open_time, "ahead": ahead}).write_csv(path)
    return str(path)


def of_file(compute: Callable[..., pl.Series]) -> Leak:
    """A feature that reads a file that the test has to write."""
    return Leak((FUNCTIONS,), {"features": compute}, {"features": ["log_range"]})


def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build without its look-ahead check on some rows, so that the audit has to find it."""
    for module in (segment, joined):
        monkeypatch.setattr(module, "check_lookback", lambda *_: None)


def unchecked_interior(monkeypatch: pytest.MonkeyPatch) -> None:
    unchecked(monkeypatch)
    monkeypatch.setattr(audit, "BARS", 250)


def of_feature(
    leak: Feature, twin: Feature | str, *also: str, plant: Plant | None = unchecked
) -> Leak:
    by = (BUILD,) if plant is None else (reads_later(leak.name), *also)
    return Leak(by, {"features": [leak, "log_range"]}, {"features": [twin, "log_range"]}, plant)


def rare(row: int) -> Leak:
    leak, twin = (Feature("rare", 1, functools.partial(peeks.peek, row=at)) for at in (row, -1))
    return of_feature(leak, twin)


def marked(sentinel: float) -> Leak:
    leak, twin = (
        Feature("marked", 2, functools.partial(peeks.mark, sentinel=sentinel, ahead=ahead))
        for ahead in (1, -1)
    )
    return of_feature(leak, twin, TRAIN_BLIND)


PEEKS = {
    "centred mean": (Feature("mean", 6, peeks.centred), Feature("mean", 6, peeks.trailing)),
    "next return": (Feature("other", 2, peeks.following), Feature("other", 2, peeks.previous)),
    "back-filled": (
        Feature("filled", 6, peeks.back_filled),
        Feature("filled", 6, peeks.forward_filled),
    ),
    "standardised by the whole": (
        Feature("z", 24, peeks.standardised),
        Feature("z", 6, peeks.trailing),
    ),
    "whether the next bar trades": (
        Feature("quiet", 1, peeks.quiet_ahead),
        Feature("quiet", 1, peeks.volume),
    ),
    "whether the next bar is known": (
        Feature("absent", 1, peeks.absent_ahead),
        Feature("absent", 1, peeks.volume),
    ),
    "further back than declared": (
        Feature("back", 2, functools.partial(peeks.look_back, bars_back=9)),
        Feature("back", 10, functools.partial(peeks.look_back, bars_back=9)),
    ),
}

FEATURES: dict[str, Leak] = {
    f"{name}, in the build": of_feature(*each, plant=None) for name, each in PEEKS.items()
}
FEATURES |= {f"{name}, in the audit": of_feature(*each) for name, each in PEEKS.items()}
FEATURES |= {
    "a peek in one bar of val": rare(400),
    "a peek in the last bar of train": rare(FIRST_VAL_ROW - 1),
    "a peek in the interior of a long history": replace(rare(240), plant=unchecked_interior),
    "a peek beside -999": marked(-999.0),
    "a peek beside -1e6": marked(-1e6),
    "a peek beside 1e12": marked(1e12),
    "a memory in a global": Leak(
        (BUILD,),
        {"features": [Feature("kept", 2, peeks.remember)]},
        {"features": [Feature("kept", 2, peeks.previous)]},
    ),
    "a memory in a cache": Leak(
        (FUNCTIONS,),
        {"features": [Feature("kept", 2, peeks.remember_in_cache)]},
        {"features": [Feature("kept", 4, peeks.weigh)]},
    ),
    "a side file": of_file(peeks.read_by_python),
    "a side file read by a library": of_file(peeks.read_by_polars),
}
