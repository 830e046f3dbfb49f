"""Which volume is which: coins, the quote currency, contracts; told by the price of each bar.

What was paid for what was traded is the price: where a file has two volumes, quote_volume / volume
must lie between a bar's low and high. So swapped columns, swapped rows and contracts show. Where it
has one, its header may say that it is in dollars, or its size: no market trades a tenth of all
bitcoins a day.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.series import PRICES
from btc_datamodule.errors import SourceError
from btc_datamodule.sources.columns import normalise
from btc_datamodule.sources.files.naming import Roles
from btc_datamodule.sources.files.raw import RawTable

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

TOLERANCE = 0.02
"""By how much a ratio may lie beyond low and high: some files round, some leave trades out."""

ENOUGH = 0.9
"""The share of bars that two columns must fit to be taken for the volumes."""

MOST_COINS, MOST_WORTH = 2e6, 1e11
"""Coins a day, and their worth, that the usual volume of no market is above both: a tenth of all
bitcoins that will ever be, a hundred billion dollars."""

LEAST_DOLLARS = 1e5
"""Dollars a day that a market's usual volume in dollars stays above."""


_WEAK = (
    *("value", "cost", "sum", "notional", "amount", "quantity", "qty", "volccy", "bv", "volumeto"),
    *("basevolume", "volumefrom", "totalvolume"),
)
"""Names that may stand for something else than a volume."""


class _Match(NamedTuple):
    """How two columns fit the prices as (volume, quote volume): (N,) bool each."""

    volume: int
    quote: int
    right: Mask
    swapped: Mask
    judged: Mask

    @property
    def share(self) -> float:
        """The share of the bars judged that fit, as they stand or swapped."""
        return float((self.right | self.swapped).sum() / max(1, self.judged.sum()))


def settle_volumes(
    found: Mapping[int, Floats],
    names: Mapping[int, str],
    roles: Roles,
    bars: Mapping[str, Floats],
    interval: int,
    where: str,
) -> tuple[dict[str, Floats], tuple[str, ...]]:
    """Tell what the volumes of a file are.

    Args:
        found: what may be a volume by its place in the file, NaN where it is not known.
        names: of these columns.
        roles: which columns they may be.
        bars: open, high, low and close.
        interval: seconds of a bar.
        where: the file, for errors and notes.

    Returns:
        ``volume`` in coins and ``quote_volume``, as far as there are any, and notes.

    Raises:
        SourceError: if two volumes contradict the prices.
    """
    known = [place for place, values in found.items() if not np.isnan(values).all()]
    volumes = [place for place in roles.volumes if place in known]
    quotes = [place for place in roles.quotes if place in known]
    if len({*volumes, *quotes}) < 2:
        return _settle_one(volumes, quotes, found, names, roles, bars, interval, where)
    matches: list[_Match] = []
    for volume in dict.fromkeys((*volumes, *quotes)):
        for quote in dict.fromkeys((*quotes, *volumes)):
            if volume != quote and not (matches and matches[0].share > ENOUGH):
                matches.append(_match(found, bars, volume, quote))
    best = max(matches, key=lambda match: round(match.share, 2))  # of equals, the first
    if not any(match.judged.any() for match in matches):  # nothing was traded
        best = matches[0]
    elif best.share < ENOUGH:
        first = matches[0]
        weak = all(normalise(names[place]) in _WEAK for place in (*volumes[1:], *quotes))
        if roles.said:
            best = first
        elif weak and not _is_in_proportion(first, found, bars):
            left = ", ".join(names[place] for place in (*volumes[1:], *quotes))
            note = f"{where}: volume is {names[volumes[0]]}; {left} was not read"
            return {"volume": found[volumes[0]]}, (note,)
        else:
            raise SourceError(_describe_contradiction(first, found, names, bars, where))
    return _order(best, found, names, roles, where)


def describe_unread(
    told: dict[str, Floats],
    bars: dict[str, Floats],
    table: RawTable,
    roles: Roles,
    where: str,
) -> tuple[str, ...]:
    """A note where there is no volume though a column may be one, or one of noughts."""
    volume = told.get("volume")
    close = bars["close"]
    moving = len(close) > 2 and bool((close[1:] != close[:-1]).any())
    if volume is not None and moving and not np.nan_to_num(volume).any():
        return (f"{where}: volume is 0 in every row, though prices move: was it recorded?",)
    used = {*roles.time, *roles.prices.values(), *roles.others.values(), *roles.labels.values()}
    names = enumerate(table.names or [])
    left = [name for place, name in names if place not in used and "vol" in name.lower()]
    if volume is not None or roles.volumes or roles.quotes or not left:
        return ()
    return (
        f"{where}: volume is not known: none of {', '.join(left)} was taken for it "
        f'(`columns: {{"{left[0]}": volume}}` takes that one)',
    )


def _settle_one(
    volumes: list[int],
    quotes: list[int],
    found: Mapping[int, Floats],
    names: Mapping[int, str],
    roles: Roles,
    bars: Mapping[str, Floats],
    interval: int,
    where: str,
) -> tuple[dict[str, Floats], tuple[str, ...]]:
    """Tell what a file's only volume is, by its name, the header and its size."""
    if quotes:
        return _convert(found[quotes[0]], bars, f"{where}: volume is {names[quotes[0]]}")
    if not volumes:
        return {}, ()
    volume, name = found[volumes[0]], names[volumes[0]]
    if roles.said:
        return {"volume": volume}, ()
    odd = "" if roles.in_dollars else _check_unit(volume, bars, interval)
    if odd:
        raise SourceError(
            f"{where}: {name}: {odd}. Say what it is, such as `columns: "
            f'{{"{name}": quote_volume}}` for dollars, or `ignore`'
        )
    why = _find_dollars(volume, roles, bars, interval)
    if not why:
        return {"volume": volume}, ()
    said = f"{where}: {name} is in dollars, not coins ({why}): volume is it"
    told, notes = _convert(volume, bars, said)
    return told, (f'{notes[0]}; `columns: {{"{name}": volume}}` takes it for coins',)


def _order(
    match: _Match,
    found: Mapping[int, Floats],
    names: Mapping[int, str],
    roles: Roles,
    where: str,
) -> tuple[dict[str, Floats], tuple[str, ...]]:
    """The two columns as volume and quote volume, put right where they are swapped."""
    volume, quote = found[match.volume], found[match.quote]
    places = (match.volume, match.quote)
    notes: list[str] = []
    if match.swapped.any() and not match.right.any():
        volume, quote, places = quote, volume, places[::-1]
    elif match.swapped.any():
        swapped = match.swapped
        volume, quote = np.where(swapped, quote, volume), np.where(swapped, volume, quote)
        first = int(np.argmax(swapped))
        notes.append(
            f"{where}: {names[places[0]]} and {names[places[1]]} were swapped in "
            f"{int(swapped.sum())} of {len(swapped)} rows, the first bar {first + 1}: their ratio "
            "is the price only the other way round"
        )
    named = (match.volume in roles.volumes[:1], match.quote in roles.quotes)
    if places != (match.volume, match.quote) or not all(named):
        notes.append(
            f"{where}: volume is {names[places[0]]} and quote_volume {names[places[1]]}, as their "
            "ratio is the price of each bar"
        )
    odd = match.judged & ~match.right & ~match.swapped
    if odd.any():
        notes.append(
            f"{where}: in {int(odd.sum())} of {len(odd)} rows quote_volume / volume is not the "
            f"price, the first bar {int(np.argmax(odd)) + 1}: kept as they stand"
        )
    return {"volume": volume, "quote_volume": quote}, tuple(notes)


def _match(
    found: Mapping[int, Floats], bars: Mapping[str, Floats], volume: int, quote: int
) -> _Match:
    """Compare the ratio of two columns with the prices, row by row."""
    coins, paid = found[volume], found[quote]
    low, high = bars["low"] * (1 - TOLERANCE), bars["high"] * (1 + TOLERANCE)
    judged = (coins > 0) & (paid > 0) & (low > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        right = judged & _is_between(paid, coins, low, high)
        left = judged & ~right
        swapped = left & _is_between(coins, paid, low, high) if left.any() else left
    return _Match(volume, quote, right, swapped, judged)


def _is_between(above: Floats, below: Floats, low: Floats, high: Floats) -> Mask:
    """Whether a ratio can lie between two bounds, both numbers rounded as the file rounds them."""
    up, down = _find_rounding(above), _find_rounding(below)
    rest = np.maximum(below - down, np.finfo(np.float64).tiny)
    inside: Mask = ((above + up) / rest >= low) & ((above - up) / (below + down) <= high)
    return inside & (below > down)


def _find_rounding(values: Floats) -> float:
    """Half of the last decimal that numbers are given to."""
    some = values[np.isfinite(values)][:2000]
    for digits in range(9):
        if np.allclose(np.round(some, digits), some, rtol=1e-12, atol=0):
            return float(0.5 * 10.0**-digits)
    return 0.0


def _convert(
    quote: Floats, bars: Mapping[str, Floats], said: str
) -> tuple[dict[str, Floats], tuple[str, ...]]:
    """The volume in coins of one in the quote currency, by the mean of each bar's prices."""
    with np.errstate(invalid="ignore", divide="ignore"):
        coins = quote / (sum(bars[name] for name in PRICES) / len(PRICES))
    note = f"{said} / the mean of open, high, low and close"
    return {"volume": np.where(np.isfinite(coins), coins, np.nan), "quote_volume": quote}, (note,)


def _find_dollars(volume: Floats, roles: Roles, bars: Mapping[str, Floats], interval: int) -> str:
    """Why a lone volume must be in dollars; "" if it need not be."""
    some = np.isfinite(volume) & (volume > 0) & np.isfinite(bars["close"]) & (bars["close"] > 0)
    if not some.any():
        return ""
    a_day = float(np.median(volume[some])) * 86_400 / interval
    price = float(np.median(bars["close"][some]))
    if roles.in_dollars and a_day > LEAST_DOLLARS:
        return f"as files with {roles.in_dollars!r} give it"
    if a_day > MOST_COINS and a_day * price > MOST_WORTH and a_day / price < MOST_COINS:
        return f"as coins they were {a_day:,.0f} a day, of 21 million in all"
    return ""


def _check_unit(volume: Floats, bars: Mapping[str, Floats], interval: int) -> str:
    """What is wrong with the unit of a lone volume; "" if nothing is seen."""
    some = np.isfinite(volume) & (volume > 0) & np.isfinite(bars["close"])
    a_day = volume[some] * 86_400 / interval
    price = bars["close"][some]
    beyond = (a_day > MOST_COINS) & (a_day * price > MOST_WORTH)
    if not len(beyond) or not beyond.any():
        return ""
    if 0.02 < beyond.mean() < 0.98:
        i = int(np.flatnonzero(some)[np.argmax(beyond)])
        return (
            f"{int(beyond.sum())} of {len(beyond)} rows cannot be coins, such as {volume[i]:.10g} "
            f"of bar {i + 1}, and the others can: it changes its unit"
        )
    if float(np.median(price)) > 1000 and float(np.median(a_day / price)) > MOST_COINS:
        return f"{float(np.median(volume[some])):.6g} a bar is too much for coins and for dollars"
    return ""


def _is_in_proportion(
    match: _Match, found: Mapping[int, Floats], bars: Mapping[str, Floats]
) -> bool:
    """Whether the ratio of two columns is the price times one number, as of contracts it is."""
    rows = match.judged
    if not rows.any():
        return False
    share = found[match.quote][rows] / found[match.volume][rows] / bars["close"][rows]
    return bool(np.ptp(share) < 0.2 * np.median(share))


def _describe_contradiction(
    match: _Match,
    found: Mapping[int, Floats],
    names: Mapping[int, str],
    bars: Mapping[str, Floats],
    where: str,
) -> str:
    bad = match.judged & ~match.right & ~match.swapped
    i = int(np.argmax(bad))
    coins, paid = names[match.volume], names[match.quote]
    return (
        f"{where}: {paid} / {coins} is not the price in {int(bad.sum())} of {len(bad)} rows (of "
        f"bar {i + 1} it is {found[match.quote][i] / found[match.volume][i]:.6g}, the bar's prices "
        f"{bars['low'][i]:.6g} to {bars['high'][i]:.6g}): one is in other units, contracts for "
        f'instance. Say which is the volume, `columns: {{"{coins}": volume, "{paid}": ignore}}` in '
        f'coins, or `columns: {{"{paid}": quote_volume, "{coins}": ignore}}` in the quote currency'
    )
