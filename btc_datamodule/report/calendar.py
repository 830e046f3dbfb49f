"""Holes as a calendar: which share of the bars there is, by day and hour."""

import numpy as np

from btc_datamodule.overview.colours import SCALE
from btc_datamodule.overview.holes import DAY
from btc_datamodule.report.facts import Facts
from btc_datamodule.report.html import Html, element
from btc_datamodule.report.plots import Plot
from btc_datamodule.report.png import make_url, spread
from btc_datamodule.report.ticks import (
    Tick,
    list_times,
    write_count,
    write_length,
    write_share,
    write_time,
)

SHADES = 21
"""Colours from nothing to everything."""

NOTHING = "#00000000"
LONGEST = 10
"""Holes that are listed."""


def make_holes(facts: Facts) -> Html:
    """The section."""
    holes, table = facts.holes, facts.stages.table
    if not holes.absent:
        told = f"No hole: all {table.rows:,} bars from first to last are there."
        return element("section", element("h2", "Holes"), element("p", told), id="holes")
    weeks = holes.step // (7 * DAY)
    column = "day" if holes.step == DAY else "week" if weeks == 1 else f"stretch of {weeks} weeks"
    hours = holes.cell // 3600
    row = "an hour" if hours == 1 else f"{hours} hours"
    absent = f"{holes.absent:,} of {table.rows:,} bars ({write_share(holes.absent / table.rows)})"
    return element(
        "section",
        element("h2", "Holes"),
        element(
            "p",
            f"{absent} are absent, in {write_count(holes.count, 'hole')}. {_tell_filled(facts)}",
        ),
        _make_legend(),
        _draw(facts),
        element("p", f"A column is a {column}, a row {row} of the day, UTC.", class_="dim"),
        _list_longest(facts),
        id="holes",
    )


def _tell_filled(facts: Facts) -> str:
    """What is made of holes."""
    table, outages = facts.stages.table, write_count(len(facts.outages), "outage")
    if not table.max_fill:
        return f"None is filled: of all of them, {outages}, no price is known."
    one = table.max_fill == 1
    first = "bar" if one else f"{table.max_fill} bars"
    return (
        f"The first {first} of a hole {'is' if one else 'are'} taken as time without trades and "
        f"filled, {table.filled:,} in all; of what comes after, {outages}, no price is known."
    )


def _make_legend() -> Html:
    shades = spread([each.light for each in SCALE], 5)
    words = ("no bar", "a quarter", "half", "three quarters", "all bars")
    marks = [
        element("span", element("i", style=f"background:{shade}"), word)
        for shade, word in zip(shades, words, strict=True)
    ]
    return element("div", marks, class_="legend")


def _draw(facts: Facts) -> Html:
    holes = facts.holes
    share = holes.share.T
    known = np.isfinite(share)
    # All is all, and nothing nothing: what lies between is never rounded to either.
    shades = np.clip(np.round(np.nan_to_num(share) * (SHADES - 1)), 1, SHADES - 2)
    shades = np.where(share == 0, 0, np.where(share == 1, SHADES - 1, shades))
    cells = np.where(known, shades, SHADES).astype(np.uint8)
    end = holes.first + holes.step * len(holes.share)
    label = f"Share of bars that are there, by day and hour, from {write_time(holes.first)} on"
    plot = Plot((holes.first, end), (24, 0), label)
    plot.add_image(make_url(cells, [*spread([each.light for each in SCALE], SHADES), NOTHING]))
    hours = [Tick(hour, f"{hour:02d}:00") for hour in range(0, 25, 6)]
    return plot.render(
        list_times((holes.first, end)), hours, class_="calendar", y_title="time of day, UTC"
    )


def _list_longest(facts: Facts) -> Html:
    table = facts.stages.table
    lengths = table.holes[:, 1] - table.holes[:, 0]
    order = np.lexsort((table.holes[:, 0], -lengths))[:LONGEST]
    items = [
        f"{write_time(table.find_time(int(table.holes[at, 0])))}: "
        f"{write_count(int(lengths[at]), 'bar')}, "
        f"{write_length(int(lengths[at]) * int(table.interval))}"
        for at in order.tolist()
    ]
    return element(
        "details",
        element("summary", "The longest holes" if len(lengths) > LONGEST else "All holes"),
        element("ul", [element("li", each) for each in items]),
    )
