"""Checkers of look-ahead, each asked by the call that its manual names; ``leaks.py`` compares them.

A checker is a function of what is planted that tells whether a leak is reported; where it gives
no answer, a word says so. ``every`` is for those that take cuts: one at every bar.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

LOOKBACK, HORIZON = 48, 24
"""Bars of the inputs and of the target of a sample."""

Said = bool | str
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """Samples of train and test, by the number of their last input bar.

    Attributes:
        fault: what is wrong with it; nothing with a clean one.
        embargo: bars of train wanted out after test.
    """

    train: Rows
    test: Rows
    fault: str = ""
    embargo: int = 0


@dataclass(frozen=True)
class Tool:
    """A checker: its name, its package, and what it can be asked about."""

    name: str
    package: str
    feature: Callable[[Any, pd.DataFrame, bool], Said] | None = None
    scaler: Callable[[Any, pd.DataFrame, Rows, Rows], Said] | None = None
    split: Callable[[Fold, pd.DataFrame], Said] | None = None


def compiled(source: str, names: dict[str, Any]) -> Any:
    """The function of a text. It keeps both, for those who read text or ask another process."""
    scope = {"np": np, **names}
    exec(source, scope)
    made: Any = scope[source.removeprefix("def ").partition("(")[0]]
    made.source, made.names = source, names
    return made


def on_bars(source: str, names: dict[str, Any], bars: Any) -> Any:
    """A feature of ours: the function of a text, of a polars frame of bars."""
    frame = pd.DataFrame({name: bars[name].to_numpy() for name in bars.columns})
    frame["open_time"] = pd.to_datetime(frame["open_time"], unit="s", utc=True)
    values = compiled(source, names)(frame).to_numpy(dtype=np.float64)
    return import_module("polars").Series(values)


def tabled(function: Any) -> Any:
    """A feature as a function from frame to frame, with the time kept."""
    return lambda frame: frame[["open_time"]].assign(feature=function(frame))


# --- tools that run features ----------------------------------------------------------------------

UNDER_TEST: dict[str, Any] = {}
"""What the strategy of freqtrade computes."""

PAIR = "BTC/USDT"
STRATEGY = """
from freqtrade.strategy import IStrategy
from leaks_tools import UNDER_TEST

class Probe(IStrategy):
    timeframe, minimal_roi, stoploss = "1h", {"0": 100}, -0.99

    def populate_indicators(self, frame, _):
        frame["feature"] = UNDER_TEST["function"](frame.rename(columns={"date": "open_time"}))
        frame["level"] = frame["feature"].rolling(50, min_periods=1).median()
        return frame

    def populate_entry_trend(self, frame, _):
        return frame.assign(enter_long=1 * (frame["feature"] > frame["level"]))

    def populate_exit_trend(self, frame, _):
        return frame.assign(exit_long=1 * (frame["feature"] <= frame["level"]))
"""
CONFIG = """{
"exchange": {"name": "binance", "pair_whitelist": ["BTC/USDT"]}, "pairs": ["BTC/USDT"],
"pairlists": [{"method": "StaticPairList"}], "stake_currency": "USDT", "stake_amount": 10000,
"dry_run": true, "dry_run_wallet": 1e9, "max_open_trades": -1, "minimum_trade_amount": 10,
"fee": 0.001, "entry_pricing": {"price_side": "other"}, "exit_pricing": {"price_side": "other"}
}"""
NO_LIMITS = {key: {"min": 0, "max": None} for key in ("amount", "price", "cost", "leverage")}
MARKET = {"base": "BTC", "quote": "USDT", "spot": True, "limits": NO_LIMITS}


def freqtrade(function: Any, frame: pd.DataFrame, every: bool) -> Said:
    """``LookaheadAnalysis`` of a strategy that trades on the feature, without a network."""
    UNDER_TEST["function"] = function
    enums, history = import_module("freqtrade.enums"), import_module("freqtrade.data.history")
    lookahead = import_module("freqtrade.optimize.analysis.lookahead")
    begin, end = (f"{time:%Y%m%d}" for time in frame["open_time"].iloc[[0, -1]])
    with TemporaryDirectory() as name:
        folder, spot = Path(name), enums.CandleType.SPOT
        (folder / "probe.py").write_text(STRATEGY)
        config = json.loads(CONFIG) | {
            **dict.fromkeys(("datadir", "user_data_dir"), folder),
            "strategy_path": name,
            "timerange": f"{begin}-{end}",
            "runmode": enums.RunMode.BACKTEST,
            "candle_type_def": spot,
            "targeted_trade_amount": 500 if every else 20,
        }
        candles = frame.rename(columns={"open_time": "date"})
        history.get_datahandler(folder, "feather").ohlcv_store(PAIR, "1h", candles, spot)
        exchange = import_module("freqtrade.exchange.binance").Binance(config, validate=False)
        exchange._markets = exchange._api.markets = {PAIR: MARKET}
        strategy = {"name": "Probe", "location": folder / "probe.py"}
        analysis = lookahead.LookaheadAnalysis(config, strategy)
        analysis.exchange = exchange
        with import_module("freqtrade.util").get_progress_tracker() as progress:
            progress.disable = True
            analysis.start(progress)
    return "refused" if analysis.failed_bias_check else bool(analysis.current_analysis.has_bias)


def nullcheck(function: Any, frame: pd.DataFrame, every: bool) -> Said:
    """``check`` of raw rows indexed by time; never more than 128 prefixes."""
    module = import_module("nullcheck")
    raw = frame.rename(columns=str.capitalize).set_index("Open_time")

    def feature(rows: pd.DataFrame) -> Any:
        plain = rows.rename_axis("open_time").reset_index().rename(columns=str.lower)
        return function(plain).to_numpy()

    settings = module.Settings(n_cutoffs=len(frame)) if every else module.Settings()
    status = module.check(feature, raw, settings=settings).status
    return "refused" if status == module.NOT_ASSESSED else bool(status == module.DIVERGENCE)


def leakprobe(function: Any, frame: pd.DataFrame, every: bool) -> Said:
    """``check`` of features as of one cutoff, the middle."""
    times = frame["open_time"]

    def leaks(cutoff: pd.Timestamp) -> bool:
        report = import_module("leakprobe").check(
            lambda sources: tabled(function)(sources["candles"]).set_index("open_time"),
            {"candles": frame},
            {"candles": "open_time"},
            {"feature": ["candles"]},
            by=pd.Timedelta(days=5),
            cutoff=cutoff,
        )
        return not report.clean

    return any(map(leaks, times[:-1] if every else [times[len(times) // 2]]))


def nopeek(function: Any, frame: pd.DataFrame, every: bool) -> Said:
    """``verify``: cut off, and poisoned, after five cuts."""
    cuts = len(frame) if every else 5
    return not import_module("nopeek").verify(tabled(function), frame, time="open_time", cuts=cuts)


def nullius(function: Any, frame: pd.DataFrame, every: bool) -> Said:
    """``check_prefix_invariance`` at five times."""
    cuts = frame["open_time"] if every else None
    check = import_module("nullius").check_prefix_invariance
    return not check(tabled(function), frame, cuts, time_col="open_time").passed


def tickbloom(function: Any, frame: pd.DataFrame, every: bool) -> Said:
    """``verify_causal``: the last row at each of five cuts."""
    settings = {"cut_points": len(frame), "warmup": 0} if every else {}
    verify = import_module("tickbloom").verify_causal
    return not verify(frame, tabled(function), columns=["feature"], **settings).ok


def lookahead_guard(function: Any, frame: pd.DataFrame, every: bool) -> Said:
    """``blind_test``: numbers after one row, the last but one, are changed."""
    blind = import_module("lookahead_guard").blind_test
    names = [name for name in frame if name != "open_time"]

    def feature(values: NDArray[np.float64]) -> Any:
        with np.errstate(all="ignore"):
            return function(frame.assign(**dict(zip(names, values.T, strict=True))))

    rows = range(len(frame) - 1) if every else [None]
    return any(not blind(feature, frame[names].to_numpy(), row).future_blind for row in rows)


def monte_neo(function: Any, frame: pd.DataFrame, every: bool) -> Said:
    """``verify_strategy``: its rows on look-ahead; the feature, made small, is the position."""
    report = import_module("monte_neo.verify").verify_strategy(
        frame,
        signal_fn=lambda rows: function(rows.rename(columns={"timestamp": "open_time"})) / 1000,
        positions="weight",
        probe_checks=len(frame) if every else 24,
        repaint="strict" if every else "auto",
    )
    rows = [row["status"] for row in report["checks"] if row["category"] == "lookahead"]
    return bool({"fail", "warn"}.intersection(rows))


# --- tools that read text -------------------------------------------------------------------------


def tickbloom_scan(function: Any, *_: Any) -> Said:
    """``scan_source``."""
    return bool(import_module("tickbloom").scan_source(function.source))


def monte_neo_lint(function: Any, *_: Any) -> Said:
    """``lint_source``."""
    return bool(import_module("monte_neo.verify").lint_source(function.source)["status"] != "pass")


# --- tools for scalers and splits -----------------------------------------------------------------


def nopeek_split(fold: Fold, frame: pd.DataFrame) -> Said:
    """``verify_split``, chronological."""
    sides = frame.iloc[fold.train], frame.iloc[fold.test]
    return not import_module("nopeek").verify_split(*sides, time="open_time", chronological=True)


def nullius_split(fold: Fold, _: pd.DataFrame) -> Said:
    """``check_split_purging``, made for walk-forward."""
    check = import_module("nullius").check_split_purging
    return not check([(fold.train, fold.test)], label_horizon=HORIZON).passed


def leakfence_scaler(fit: Any, frame: pd.DataFrame, train: Rows, test: Rows) -> Said:
    """``guard_fit`` with the fingerprints of test."""
    module, x = import_module("leakfence"), frame[["close", "volume"]]
    prints = module.fingerprint_rows(x.iloc[test])
    scaler = import_module("sklearn.preprocessing").StandardScaler()
    scaler, found = module.guard_fit(scaler, test_fingerprints=prints)
    fit(scaler, x, train)
    return bool(found)


def leakfence_split(fold: Fold, frame: pd.DataFrame) -> Said:
    """``audit_split`` with the bars of each sample, inputs and target."""
    spans = [(row + 1 - LOOKBACK, row + 1 + HORIZON) for row in range(len(frame))]
    return not import_module("leakfence").audit_split(fold.train, fold.test, sample_range=spans).ok


def purgedcv_split(fold: Fold, frame: pd.DataFrame) -> Said:
    """``assert_no_temporal_leakage``, and ``assert_embargo_respected`` where one is wanted."""
    module = import_module("purgedcv.diagnostics")
    hour, asked = pd.Timedelta(hours=1), frame["open_time"]
    given = fold.train, fold.test, asked, asked + HORIZON * hour
    try:
        module.assert_no_temporal_leakage(*given)
        if fold.embargo:
            module.assert_embargo_respected(*given, fold.embargo * hour)
    except (module.TemporalLeakageError, module.EmbargoViolationError):
        return True
    return False


def temporalcv_split(fold: Fold, _: pd.DataFrame) -> Said:
    """``gate_temporal_boundary``, for train before test alone."""
    if fold.embargo:
        return "n/a"
    module = import_module("temporalcv.gates")
    gate = module.gate_temporal_boundary(int(fold.train.max()), int(fold.test.min()), HORIZON)
    return bool(gate.status == module.GateStatus.HALT)


TOOLS = (
    Tool("freqtrade lookahead-analysis", "freqtrade", freqtrade),
    Tool("nullcheck", "nullcheck", nullcheck),
    Tool("leakprobe", "leakprobe", leakprobe),
    Tool("nopeek", "nopeek", nopeek, split=nopeek_split),
    Tool("nullius", "nullius", nullius, split=nullius_split),
    Tool("tickbloom verify_causal", "tickbloom", tickbloom),
    Tool("lookahead-guard", "lookahead_guard", lookahead_guard),
    Tool("monte-neo", "monte_neo", monte_neo),
    Tool("tickbloom scan", "tickbloom", tickbloom_scan, tickbloom_scan),
    Tool("monte-neo lint", "monte_neo", monte_neo_lint, monte_neo_lint),
    Tool("leakfence", "leakfence", None, leakfence_scaler, leakfence_split),
    Tool("purgedcv", "purgedcv", split=purgedcv_split),
    Tool("temporalcv", "temporalcv", split=temporalcv_split),
)
