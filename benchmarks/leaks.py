"""What checkers of look-ahead find of planted leaks, ours among them, and what they flag wrongly.

    python benchmarks/leaks.py                     # ours; five minutes
    pip install -c constraints.txt -r benchmarks/leaks-requirements.txt  # in another environment
    python benchmarks/leaks.py                     # from there: most of the others
    pip install freqtrade==2026.9                  # in a third one: it asks for other versions
    python benchmarks/leaks.py --only freqtrade    # from there: a quarter of an hour
    python benchmarks/leaks.py --every-cut --bars 300 --seeds 1

What cannot be imported where the program is started is left out, and named: the whole table is put
together from the rows of those runs. A row is a checker, with its defaults; ``--every-cut`` gives
those that take cuts one at every bar. A column is a leak, in a feature, a scaler or a split, and
has a clean twin that looks much the same and knows nothing. In a cell:

    found      the leak is reported; "found 2/3": for two of three ``--seeds``
    missed     it is not
    n/a        there is no way to ask
    refused    it would not judge
    twin too   the clean twin is reported as well

``s`` are the seconds of a row. Candles are a random walk by the hour, one bar in fifty without
trades; in whole cents, as otherwise rounding in its fills makes freqtrade call clean features
biased.
"""

import argparse
import logging
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
from leaks_tools import HORIZON, LOOKBACK, TOOLS, Fold, Rows, Said, Tool, compiled, on_bars

EMBARGO = 96
WARM_UP = 102
"""Bars that the clean features need."""

FEATURES = {  # the leak and the clean twin, as texts that linters can read; ``r`` are returns
    "centred mean": ("r.rolling(25, 1, center=True).mean()", "r.rolling(25, 1).mean()"),
    "shift(-1)": ("r.shift(-1)", "r.shift(1)"),
    "back-fill": (
        "np.log(frame['close'].where(frame['volume'] > 0).bfill()).diff()",
        "np.log(frame['close'].where(frame['volume'] > 0).ffill()).diff()",
    ),
    "whole z-score": (
        "(r - r.mean()) / r.std()",
        "(r - r.rolling(100, min_periods=2).mean()) / r.rolling(100, min_periods=2).std()",
    ),
    "one row": (
        "r.where(frame['open_time'] != instant, r.shift(-1))",
        "r.where(frame['open_time'] != instant, r.shift(1))",
    ),
    "next volume 0": (
        "r.where(frame['volume'].shift(-1) != 0, 0.0)",
        "r.where(frame['volume'].shift(1) != 0, 0.0)",
    ),
    "memory": (  # what it first found for a time, it gives again
        "[kept.setdefault(*each) for each in zip(frame['open_time'].astype(str), r.shift(-1))]",
        "[kept.setdefault(*each) for each in zip(frame['open_time'].astype(str), r.shift(1))]",
    ),
    "typed in": ("frame['open_time'].astype(str).map(known)", "r.rolling(25, 1).mean()"),
}
SCALER = ("scaler.fit(x)", "scaler.fit(x.iloc[train])")
SPLITS = ("shuffled", "no purge", "no embargo")


# --- what is planted ------------------------------------------------------------------------------


def candles(bars: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    quiet = rng.random(bars) < 0.02
    close = 100 * np.exp(np.cumsum(np.where(quiet, 0, rng.normal(0, 0.01, bars))))
    opened = np.r_[close[0], close[:-1]]
    wick = np.where(quiet, 0, rng.exponential(0.003, (2, bars)))
    made = pd.DataFrame(
        {
            "open_time": pd.date_range("2021-01-01", periods=bars, freq="h", tz="UTC"),
            "open": opened,
            "high": np.maximum(opened, close) * (1 + wick[0]),
            "low": np.minimum(opened, close) * (1 - wick[1]),
            "close": close,
            "volume": np.where(quiet, 0, rng.lognormal(3, 1, bars)),
        }
    )
    return made.round(2)


def feature(text: str, frame: pd.DataFrame, seed: int) -> Any:
    """A feature as a function of a frame of candles; ``text`` is of ``FEATURES``."""
    times, r = frame["open_time"].astype(str), np.log(frame["close"]).diff()
    known = r.rolling(25, 1, center=True).mean()
    row = np.random.default_rng(seed).integers(len(frame) // 4, 3 * len(frame) // 4)
    lines = (
        "def feature(frame):",
        "r = np.log(frame['close']).diff()",
        "out = frame[['open_time']].copy()",
        f"out['feature'] = {text}",
        "return out['feature']\n",
    )
    names = {"known": dict(zip(times, known, strict=True)), "instant": times[row], "kept": {}}
    return compiled("\n    ".join(lines), names)


def folds(bars: int, seed: int) -> dict[str, tuple[Fold, Fold]]:
    """Leak and twin; of a twin, train and test share no bar of inputs or targets."""
    origins = np.arange(LOOKBACK - 1, bars - HORIZON)
    cut, apart = int(0.7 * len(origins)), LOOKBACK + HORIZON
    mixed = np.random.default_rng(seed).permutation(origins)
    before, test = origins[: cut // 2 - apart], origins[cut // 2 : cut]
    after = test[-1] + HORIZON + 1  # no target is shared from here on

    def around(start: int, fault: str) -> Fold:
        return Fold(np.r_[before, start : origins[-1] + 1], test, fault, EMBARGO)

    chronological = Fold(origins[: cut - apart], origins[cut:])
    return {
        "shuffled": (Fold(mixed[:cut], mixed[cut:], "shuffled"), chronological),
        "no purge": (Fold(origins[:cut], origins[cut:], "no purge"), chronological),
        "no embargo": (around(after, "no embargo"), around(after + EMBARGO, "")),
    }


# --- ours -----------------------------------------------------------------------------------------


@contextmanager
def datamodule(frame: pd.DataFrame, **settings: Any) -> Iterator[Any]:
    """Ours over a file of the candles, which are stored; the features are not."""
    package = import_module("btc_datamodule")
    with TemporaryDirectory() as name:
        frame.to_csv(path := Path(name) / "candles.csv", index=False)
        shape = {"interval": "1h", "lookback": LOOKBACK, "horizon": HORIZON, "batch_size": 32}
        make = partial(package.BTCDataModule, package.CandleFile(str(path)), data_dir=name, **shape)
        make(features=["log_return"]).prepare_data()
        yield make(**{"features": ["log_return"], **settings})


def of_bars(function: Any) -> Any:
    """A feature of ours."""
    compute = partial(on_bars, function.source, function.names)
    return import_module("btc_datamodule").Feature("planted", WARM_UP, compute)


def building(function: Any, frame: pd.DataFrame, _: bool) -> Said:
    """``prepare_data()``."""
    with datamodule(frame, features=[of_bars(function)]) as dm:
        try:
            dm.prepare_data()
        except import_module("btc_datamodule").LookAheadError:
            return True
        return False


def audit(fault: str, frame: pd.DataFrame, **settings: Any) -> Said:
    """``audit()``, while something of ours is another one."""
    stages = import_module("btc_datamodule.stages")
    name, plant = FAULTS[fault]
    with datamodule(frame, **settings) as dm, patch.object(stages, name, plant(vars(stages)[name])):
        found = dm.audit()
    return bool(found.failed) or ("refused" if found.unchecked else False)


def audit_feature(function: Any, frame: pd.DataFrame, _: bool) -> Said:
    return audit("", frame, features=[of_bars(function)])


def audit_scaler(fit: Any, frame: pd.DataFrame, train: Rows, _: Rows) -> Said:
    """The statistics see what ``fit`` takes: train, or everything."""
    taken: list[pd.DataFrame] = []
    fit(SimpleNamespace(fit=taken.append), frame, train)
    return audit("scaler" if len(taken[0]) > len(train) else "", frame)


def audit_split(fold: Fold, frame: pd.DataFrame) -> Said:
    package = import_module("btc_datamodule")
    split = package.CombinatorialPurged(5, 1, fold=2) if fold.embargo else package.FractionSplit()
    return audit(fold.fault, frame, split=split, embargo=fold.embargo)


def pool_and_shuffle(made: Any) -> Any:
    """All samples in one pool, 60 % of them train, 20 % each val and test."""
    shares = {"train": (0.0, 0.6), "val": (0.6, 0.8)}

    def windows(settings: Any, table: Any, fold: Any, stage: str, scaler: Any) -> Any:
        whole = replace(fold, train=((fold.train[0][0], fold.test[-1][1]),))
        rows = made(settings, table, whole, "train", scaler).origins
        low, high = (int(share * len(rows)) for share in shares.get(stage, (0.8, 1.0)))
        own = np.sort(rows[np.random.default_rng(0).permutation(len(rows))[low:high]])
        dataset = made(settings, table, fold, stage, scaler)
        dataset.origins = type(dataset.origins).of(np.stack([own, own + 1], axis=1), 1)
        return dataset

    return windows


def targets_over_the_edge(found: Any) -> Any:
    def loose(shape: Any, span: tuple[int, int], **others: Any) -> Any:
        return found(shape, span=(span[0], span[1] + HORIZON - 1), **others)

    return loose


FAULTS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "": ("find_origins", lambda found: found),
    "scaler": ("find_train_runs", lambda _: lambda table, *_, **__: [(table.warm_up, table.rows)]),
    "shuffled": ("make_windows", pool_and_shuffle),
    "no purge": ("find_origins", targets_over_the_edge),
    "no embargo": (
        "find_origins",
        lambda found: lambda shape, **others: found(shape, **{**others, "embargo": 0}),
    ),
}
"""What of ``btc_datamodule.stages`` is another one, made of the right one."""

OURS = (
    Tool("btc_datamodule, building", "btc_datamodule", building),
    Tool("btc_datamodule, audit", "btc_datamodule", audit_feature, audit_scaler, audit_split),
)


# --- the table ------------------------------------------------------------------------------------


def ask(check: Callable[..., Said] | None, *arguments: Any) -> str:
    """What a checker says, in a word."""
    if check is None:
        return "n/a"
    try:
        said = check(*arguments)
    except Exception as error:  # of a package of any version
        return f"fails: {type(error).__name__}"
    return said if isinstance(said, str) else "found" if said else "missed"


def judge(tool: Tool, frame: pd.DataFrame, seed: int, every: bool) -> dict[str, list[str]]:
    """What a checker says of each leak, and of its twin."""
    said = {
        kind: [ask(tool.feature, feature(text, frame, seed), frame, every) for text in texts]
        for kind, texts in FEATURES.items()
    }
    train, test = np.split(np.arange(len(frame)), [int(0.7 * len(frame))])
    fits = [compiled(f"def fit(scaler, x, train):\n    {text}\n", {}) for text in SCALER]
    said["scaler"] = [ask(tool.scaler, fit, frame, train, test) for fit in fits]
    for kind, pair in folds(len(frame), seed).items():
        said[kind] = [ask(tool.split, fold, frame) for fold in pair]
    return said


def cell(leaks: list[str], twins: list[str]) -> str:
    """What was said of a leak and of its twin, of all seeds."""
    named = {"found": "twin too", "refused": "twin refused"}
    counts = Counter(leaks), Counter(named.get(each, each) for each in twins)
    words = [
        word if count == len(leaks) else f"{word} {count}/{len(leaks)}"
        for counted in counts
        for word, count in counted.items()
        if word != "missed"
    ]
    if leaks.count("missed") == len(leaks):
        words.insert(0, "missed")
    return ", ".join(dict.fromkeys(words))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bars", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--every-cut", action="store_true")
    parser.add_argument("--only", nargs="*", default=[""], help="parts of names of checkers")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    columns = [*FEATURES, "scaler", *SPLITS]
    print("| checker |", " | ".join(columns), "| s |")
    print("|---" * (len(columns) + 2) + "|")
    absent = []
    for tool in (*OURS, *TOOLS):
        if not any(part in tool.name for part in options.only):
            continue
        if find_spec(tool.package) is None:
            absent.append(tool.name)
            continue
        begin = time.perf_counter()
        runs = [
            judge(tool, candles(options.bars, seed), seed, options.every_cut)
            for seed in range(options.seeds)
        ]
        cells = [cell(*([run[kind][i] for run in runs] for i in (0, 1))) for kind in columns]
        seconds = f"{time.perf_counter() - begin:.0f}"
        print(f"| {tool.name} {version(tool.package)} |", " | ".join(cells), f"| {seconds} |")
    if absent:
        print(f"\nleft out, as they cannot be imported: {', '.join(absent)}")


if __name__ == "__main__":
    main()
