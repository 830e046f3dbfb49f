"""The price, with the stages, what is left out of them, and outages: static, and to zoom into."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.overview.pyramid import Piece, Pyramid, build_pyramid
from btc_datamodule.overview.spans import widen_spans
from btc_datamodule.report.facts import Facts
from btc_datamodule.report.html import Html, dump_json, element, pack
from btc_datamodule.report.plots import Plot
from btc_datamodule.report.ticks import list_prices, list_times, write_length, write_time

NONE = 65_535
STEPS = 65_000
"""Prices are numbers of two bytes: logarithms, in so many steps from the least to the largest."""

POINT_BYTES = 4 * 4 / 3
BAR_BYTES = 8 * 4 / 3
"""In the page: of a point of a level, and of a bar."""

PIECE_BARS = 720
LEAST_PIECES = 12
MOST_PIECES = 40
MOST_BEGINNINGS = 12
MOST_POINTS = 4000
"""That are drawn at once."""

MOST_OUTAGES = 3000
STATIC_POINTS = 1000

Numbers = NDArray[np.float64]
Place = tuple[str, int]
"""What there is to see, and the instant."""


def make_prices(facts: Facts, room: int) -> Html:
    """The section.

    Args:
        facts: what there is to show.
        room: bytes that it may take, about.
    """
    marks = _list_marks(facts)
    pyramid = _build(facts, marks, room)
    places = _list_places(pyramid, marks)
    packed = _pack(facts, pyramid) | {"places": [int(at) for _, at in places]}
    data = element("script", dump_json(packed), type="application/json", id="prices-data")
    table, level = facts.stages.table, pyramid.finest
    depth = "Zoom goes down to every single bar."
    if len(pyramid.pieces) != 1 or pyramid.pieces[0].prices.shape[1] < table.rows:
        depth = (
            f"Zoom goes down to {write_length(level.seconds)} a point anywhere, and to single bars "
            f"in {len(pyramid.pieces)} places, {PIECE_BARS} bars each: choose one under "
            "“Go to”."
        )
    return element(
        "section",
        element("h2", "Price and stages"),
        _make_legend(facts),
        element("div", _draw(facts, pyramid), class_="no-js-only"),
        element(
            "div",
            _make_bar(places),
            element("div", id="price-chart", tabindex=0, role="group", aria_label=_label(facts)),
            element("div", id="price-scale", class_="dim"),
            element("div", "\u00a0", id="price-told", class_="mono", aria_live="off"),
            class_="js-only",
        ),
        element(
            "p",
            "Each point is the lowest low and the highest high of a stretch; times are UTC. "
            f"{depth} ",
            element(
                "span",
                "Drag to zoom, double-click for all; Ctrl and the wheel; keys + \u2212 ← → Home.",
                class_="js-only",
            ),
            class_="dim",
        ),
        data,
        id="prices",
    )


def _build(facts: Facts, marks: list[Place], room: int) -> Pyramid:
    table = facts.stages.table
    points = int(np.clip(room * 0.45 / POINT_BYTES, MOST_POINTS, 1 << 15))
    pieces = int((room - points * POINT_BYTES) / (PIECE_BARS * BAR_BYTES))
    whole = int(room / (BAR_BYTES + POINT_BYTES))
    marks = marks[: int(np.clip(pieces, LEAST_PIECES, MOST_PIECES))]
    return build_pyramid(table, marks, points=points, whole_bars=whole, piece_bars=PIECE_BARS)


def _list_marks(facts: Facts) -> list[Place]:
    """What is worth seeing bar by bar, the most important first."""
    table = facts.stages.table
    start, end = table.span
    found = [("the last bars", end), ("the first bars", start)]
    begins = [each for each in facts.ribbons if each.kind == "stage" and start < each.start < end]
    found += [(f"{each.stage} begins", each.start) for each in begins[:MOST_BEGINNINGS]]
    found += [
        (f"target {each.value:+.3g}, {each.stage}", each.origin_time)
        for each in facts.labels.extremes
    ]
    for first, last in sorted(facts.outages, key=lambda span: (span[0] - span[1], span[0]))[:10]:
        found.append((f"outage of {write_length(last - first)} begins", first))
    spread = np.linspace(0, table.rows, 12)[1:-1].astype(np.int64) * int(table.interval) + start
    return found + [("along the way", at) for at in spread.tolist()]


def _label(facts: Facts) -> str:
    start, end = facts.stages.table.span
    return f"Price of {facts.market.name} from {write_time(start)} to {write_time(end)}, by stage"


def _make_legend(facts: Facts) -> Html:
    stages = dict.fromkeys(each.stage for each in facts.ribbons if each.kind == "stage")
    marks = [element("span", element("i", class_="price"), f"{facts.market.price}, logarithmic")]
    marks += [element("span", element("i", class_=stage), stage) for stage in stages]
    said = {"purge": "purge: no target", "embargo": "embargo: no sample of train"}
    for kind in dict.fromkeys(each.kind for each in facts.ribbons if each.kind != "stage"):
        marks.append(element("span", element("i", class_=kind), said[kind]))
    if facts.outages:
        told = f"outages: {len(facts.outages):,}"
        marks.append(element("span", element("i", class_="outage"), told))
    return element("div", marks, class_="legend")


def _list_places(pyramid: Pyramid, marks: list[Place]) -> list[Place]:
    """The marks that are seen bar by bar, in order of time."""
    spans = [
        (each.first, each.first + each.prices.shape[1] * each.seconds) for each in pyramid.pieces
    ]
    seen = [each for each in marks if any(low <= each[1] <= high for low, high in spans)]
    return sorted(seen[:MOST_PIECES], key=lambda each: (each[1], each[0]))


def _make_bar(places: list[Place]) -> Html:
    acts = [("in", "+", "zoom in"), ("out", "\u2212", "zoom out"), ("back", "←", "earlier")]
    acts += [("on", "→", "later"), ("all", "All", "all of it")]
    buttons = [
        element("button", text, type="button", data_act=act, title=title, aria_label=title)
        for act, text, title in acts
    ]
    chosen = [element("option", "Go to …", value="")]
    chosen += [
        element("option", f"{write_time(at)[:16]}  {label}", value=str(number))
        for number, (label, at) in enumerate(places)
    ]
    jump = element("select", chosen, id="price-jump", aria_label="Go to")
    return element("div", buttons, jump, class_="bar")


def _draw(facts: Facts, pyramid: Pyramid) -> Html:
    """The whole history as a still picture."""
    level = pyramid.choose_level(STATIC_POINTS)
    low, high = float(np.nanmin(level.low)), float(np.nanmax(level.high))
    ends = (low * (low / high) ** 0.07, high * (high / low) ** 0.04)
    if low == high:
        ends = (low * 0.99, high * 1.01)
    span = facts.stages.table.span
    plot = Plot(span, ends, _label(facts), log=True)
    for kind in ("purge", "embargo"):
        plot.add_hatch(kind, rising=kind == "embargo")
    for ribbon in facts.ribbons:
        if ribbon.kind == "stage":
            plot.add_boxes([ribbon.span], f"tint {ribbon.stage}")
            plot.add_boxes([ribbon.span], ribbon.stage, y=(0, 0.022))
        else:
            plot.add_boxes([ribbon.span], f"hatched {ribbon.kind}")
    plot.add_boxes(widen_spans(facts.outages, (span[1] - span[0]) / 1000), "outage", y=(0.95, 1))
    times = np.arange(len(level.low)) * float(level.seconds) + (level.first + level.seconds / 2)
    plot.add_band(times, level.low, level.high, "price")
    y_ticks = list_prices(low, high)
    return plot.render(list_times(span), y_ticks, y_title=facts.market.price, class_="prices")


def _pack(facts: Facts, pyramid: Pyramid) -> dict[str, Any]:
    level, table = pyramid.finest, facts.stages.table
    low, high = float(np.log(np.nanmin(level.low))), float(np.log(np.nanmax(level.high)))
    least = (table.span[1] - table.span[0]) / MOST_OUTAGES
    outages = widen_spans(facts.outages, least if len(facts.outages) > MOST_OUTAGES else 0)
    return {
        "span": table.span,
        "bar": int(table.interval),
        "most": MOST_POINTS,
        "seconds": level.seconds,
        "range": [low, high],
        "low": _pack_prices(level.low, low, high),
        "high": _pack_prices(level.high, low, high),
        "pieces": [_pack_piece(piece) for piece in pyramid.pieces],
        "ribbons": [[*each[:2], int(each.start), int(each.end)] for each in facts.ribbons],
        "outages": [[int(start), int(end)] for start, end in outages],
    }


def _pack_piece(piece: Piece) -> dict[str, Any]:
    known = piece.prices[np.isfinite(piece.prices)]
    low, high = (float(np.log(each(known))) if len(known) else 0.0 for each in (np.min, np.max))
    return {
        "first": piece.first,
        "seconds": piece.seconds,
        "range": [low, high],
        "prices": _pack_prices(piece.prices.ravel(), low, high),
    }


def _pack_prices(prices: Numbers, low: float, high: float) -> str:
    """Prices as base64 of two bytes each."""
    steps = (np.log(prices) - low) / ((high - low) or 1) * STEPS
    return pack(np.where(np.isfinite(steps), np.round(steps), NONE), "<u2")
