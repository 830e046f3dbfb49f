"""The built-in features, and what a name or a line of text in ``features`` stands for.

Sources of the volatility estimators: Parkinson (1980), Garman and Klass (1980), Rogers and
Satchell (1991), each the one-bar estimate of variance.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

from btc_datamodule.errors import ConfigError
from btc_datamodule.features.beside import AGE, NONE_BESIDE, Beside, explain_absent, suggest
from btc_datamodule.features.compiling import NAMES
from btc_datamodule.features.feature import Compute, Feature
from btc_datamodule.features.language import Expression, is_expression, make_expression, parse
from btc_datamodule.features.methods import compute_rolling_mean

if TYPE_CHECKING:
    import polars as pl


DAY = 86_400


WEEK = 7 * DAY


MONDAY = 4 * DAY  # 1970-01-05, the first Monday after the epoch


TRAILING_BARS = 24


FEATURES: dict[str, Feature] = {}
"""The built-in features by name."""


def _register(lookback: int, *needs: str) -> Callable[[Compute], Compute]:
    def register(compute: Compute) -> Compute:
        FEATURES[compute.__name__] = Feature(compute.__name__, lookback, compute, needs)
        return compute

    return register


def _log_ratio(upper: "pl.Series", lower: "pl.Series") -> "pl.Series":
    return (upper / lower).log()


def _average(values: "pl.Series") -> "pl.Series":
    """Mean of the last 24 values, NaN where one is missing.

    Not polars' own, a running sum whose rounding depends on all that came before.
    """
    import polars as pl

    return pl.Series(compute_rolling_mean(values.to_numpy(), TRAILING_BARS))


@_register(2)
def log_return(bars: "pl.DataFrame") -> "pl.Series":
    """ln(close / previous close)."""
    return _log_ratio(bars["close"], bars["close"].shift(1))


@_register(2)
def log_open(bars: "pl.DataFrame") -> "pl.Series":
    """ln(open / previous close)."""
    return _log_ratio(bars["open"], bars["close"].shift(1))


@_register(1)
def log_high(bars: "pl.DataFrame") -> "pl.Series":
    """ln(high / close)."""
    return _log_ratio(bars["high"], bars["close"])


@_register(1)
def log_low(bars: "pl.DataFrame") -> "pl.Series":
    """ln(low / close)."""
    return _log_ratio(bars["low"], bars["close"])


@_register(1)
def log_range(bars: "pl.DataFrame") -> "pl.Series":
    """ln(high / low)."""
    return _log_ratio(bars["high"], bars["low"])


@_register(1, "volume")
def log_volume(bars: "pl.DataFrame") -> "pl.Series":
    """ln(1 + volume)."""
    return bars["volume"].log1p()


@_register(TRAILING_BARS, "volume")
def relative_volume(bars: "pl.DataFrame") -> "pl.Series":
    """ln(1 + volume) less its mean over the last 24 bars."""
    volume = bars["volume"].log1p()
    return volume - _average(volume)


@_register(1)
def parkinson(bars: "pl.DataFrame") -> "pl.Series":
    """Variance of the bar from its range: ln(high / low)^2 / (4 ln 2)."""
    return _log_ratio(bars["high"], bars["low"]) ** 2 / (4 * math.log(2))


@_register(1)
def garman_klass(bars: "pl.DataFrame") -> "pl.Series":
    """Variance of the bar: ln(high / low)^2 / 2 - (2 ln 2 - 1) ln(close / open)^2."""
    spread = _log_ratio(bars["high"], bars["low"]) ** 2 / 2
    return spread - (2 * math.log(2) - 1) * _log_ratio(bars["close"], bars["open"]) ** 2


@_register(1)
def rogers_satchell(bars: "pl.DataFrame") -> "pl.Series":
    """Variance of the bar: ln(H/C) ln(H/O) + ln(L/C) ln(L/O)."""
    opened, high, low, close = (bars[name] for name in ("open", "high", "low", "close"))
    above = _log_ratio(high, close) * _log_ratio(high, opened)
    return above + _log_ratio(low, close) * _log_ratio(low, opened)


@_register(TRAILING_BARS + 1)
def volatility(bars: "pl.DataFrame") -> "pl.Series":
    """Root mean square of the last 24 log returns."""
    return _average(log_return(bars) ** 2).sqrt()


@_register(TRAILING_BARS + 1)
def momentum(bars: "pl.DataFrame") -> "pl.Series":
    """Log return over the last 24 bars: ln(close / close 24 bars ago)."""
    return _log_ratio(bars["close"], bars["close"].shift(TRAILING_BARS))


@_register(1, "taker_buy_volume", "volume")
def taker_share(bars: "pl.DataFrame") -> "pl.Series":
    """Share of the volume that takers bought; 0.5 where nothing traded."""
    return (bars["taker_buy_volume"] / bars["volume"]).fill_nan(0.5)


def _phase(bars: "pl.DataFrame", period: int, origin: int = 0) -> "pl.Series":
    return (bars["open_time"] - origin) % period * (2 * math.pi / period)


@_register(1)
def day_sin(bars: "pl.DataFrame") -> "pl.Series":
    """Sine of the time of day, UTC."""
    return _phase(bars, DAY).sin()


@_register(1)
def day_cos(bars: "pl.DataFrame") -> "pl.Series":
    """Cosine of the time of day, UTC."""
    return _phase(bars, DAY).cos()


@_register(1)
def week_sin(bars: "pl.DataFrame") -> "pl.Series":
    """Sine of the time of week, UTC, from Monday."""
    return _phase(bars, WEEK, MONDAY).sin()


@_register(1)
def week_cos(bars: "pl.DataFrame") -> "pl.Series":
    """Cosine of the time of week, UTC, from Monday."""
    return _phase(bars, WEEK, MONDAY).cos()


def resolve(
    features: Sequence[str | Feature],
    beside: Mapping[str, Beside] = NONE_BESIDE,
    interval: int | None = None,
) -> tuple[Feature, ...]:
    """The features that names and expressions stand for.

    Args:
        features: names, lines of text and features.
        beside: the series beside the candles by name.
        interval: of the candles, with its grid; None if that is not known.

    Raises:
        ConfigError: for an unknown name (listing the known ones), an expression that is not in
            the language or has the name of a built-in feature, a series that there is not, series
            that do not meet, a name given twice, or no features at all.
        LookAheadError: for an expression that reads later bars.
    """
    if isinstance(features, str):
        unnamed = is_expression(features) and "=" not in features
        bare = unnamed and not _OF_SERIES(features) and not _AGE_OF(features)
        named = _name_it(features) if bare or features in NAMES else features
        _resolve_one(named, beside, interval)  # so that what is told works
        raise ConfigError(f"features is the text {features!r}: give a list, [{named!r}]")
    if features is None or not isinstance(features, Iterable) or isinstance(features, Mapping):
        raise ConfigError(
            f"features is {_shorten(features)}: give a list of names, lines of text such as "
            "'momentum_10 = close / close.shift(10) - 1' and Feature objects"
        )
    given = list(features)
    if not given:
        raise ConfigError("features is empty: name at least one, such as log_return")
    resolved = tuple(_resolve_one(each, beside, interval) for each in given)
    names = [feature.name for feature in resolved]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ConfigError(f"features names {', '.join(repeated)} more than once")
    return resolved


_OF_SERIES = re.compile(
    rf"\s*(?!({'|'.join(NAMES)})\.)([A-Za-z]\w*)\.([A-Za-z_]\w*)\s*", re.ASCII
).fullmatch
"""Matches a series and the name of a feature or column of it."""

_AGE_OF = re.compile(rf"\s*{AGE}\(\s*([A-Za-z]\w*)\s*\)\s*", re.ASCII).fullmatch
"""Matches the age of a series, without a name."""


def _name_it(text: str) -> str:
    """The line of text that makes a feature of a column, or of an expression without a name."""
    return f"{text} = {text}" if text in NAMES else f"my_feature = {text}"


def _resolve_one(text: object, beside: Mapping[str, Beside], interval: int | None) -> Feature:
    """The feature that a name or an expression stands for."""
    if isinstance(text, Feature):
        _check_series(text, beside)
        return text
    if not isinstance(text, str):
        raise ConfigError(_explain_unnamed(text))
    if text in FEATURES:
        return FEATURES[text]
    if of_series := _OF_SERIES(text):
        return _resolve_of_series(of_series[2], of_series[3], beside)
    if of_series := _AGE_OF(text):
        text = f"{of_series[1]}_{AGE} = {text.strip()}"
    if is_expression(text):
        name, expression = parse(text, beside, interval)
        if name in FEATURES:
            raise ConfigError(f"feature {name!r} is built in: give yours another name")
        return _make_feature(name, expression)
    close = get_close_matches(text, FEATURES, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    owner = next((each.name for each in beside.values() if text in each.values), None)
    if text in NAMES:
        hint = f"for the column as it is write {_name_it(text)!r}; "
    elif text in beside:
        hint = f"it is a series: name a feature of it, such as '{text}.{_list_of(beside[text])[0]}'"
        hint += "; "
    elif owner is not None:
        hint = f"did you mean '{owner}.{text}'? "
    raise ConfigError(f"unknown feature {text!r}: {hint}known features: {', '.join(FEATURES)}")


def _make_feature(name: str, made: Expression) -> Feature:
    return Feature(name, made.lookback, made, made.needs, made.clock, made.beside)


def _resolve_of_series(series: str, what: str, beside: Mapping[str, Beside]) -> Feature:
    """A built-in feature of a series, or a column of it as it is: ``eth.log_return``."""
    name = f"{series}.{what}"
    if series not in beside:
        raise ConfigError(f"feature {name!r}: {explain_absent(series, beside)}")
    known = _list_of(beside[series])
    if what not in known:
        if what in FEATURES:
            raise ConfigError(
                f"feature {name!r}: {what} is made of candles, and {series} is none: it has "
                f"{', '.join(known)}"
            )
        raise ConfigError(
            f"feature {name!r}: there is no feature or column {what!r} of {series}"
            f"{suggest(what, known)}"
        )
    if what in beside[series].values:
        return _make_feature(name, make_expression(name, beside))
    return replace(FEATURES[what], name=name, series=series)


def _list_of(series: Beside) -> list[str]:
    """What features there are of a series: built-in ones of candles, columns as they are."""
    return [*(FEATURES if series.is_candles else ()), *series.values]


def _check_series(feature: Feature, beside: Mapping[str, Beside]) -> None:
    """Raise ``ConfigError`` unless the series that a feature asks for are there."""
    for name in (feature.series, *feature.beside):
        if name and name not in beside:
            raise ConfigError(f"feature {feature.name!r}: {explain_absent(name, beside)}")
    if feature.series and feature.beside and beside[feature.series].interval is None:
        raise ConfigError(
            f"feature {feature.name!r}: {feature.series!r} has no interval, its rows are no bars "
            f"beside which {', '.join(feature.beside)} could stand: leave out series or beside"
        )


def _explain_unnamed(given: object) -> str:
    """What to write for something in ``features`` that is neither a text nor a Feature."""
    is_expression = type(given).__module__.startswith("polars") and hasattr(given, "meta")
    if not callable(given) and not is_expression:
        return (
            f"features has {_shorten(given)} in it: give the name of a feature, a line of text "
            "such as 'momentum_10 = close / close.shift(10) - 1', or a Feature"
        )
    if isinstance(given, type):
        return (
            f"features has the class {given.__name__} in it: give an object, such as "
            "Feature('body', lookback=1, compute=lambda bars: bars['close'] / bars['open'])"
        )
    function = getattr(given, "__name__", "")
    name = function if function.isidentifier() else "my_feature"
    what = "a polars expression" if is_expression else f"the function {function}".rstrip()
    compute = "..." if is_expression or name == "my_feature" else name
    return (
        f"features has {what} without a name and a lookback in it: write Feature({name!r}, "
        f"lookback=N, compute={compute}), with N the bars that a value depends on, its own included"
    )


def _shorten(thing: object) -> str:
    text = repr(thing)
    return text if len(text) <= 60 else f"{text[:57]}..."
