"""Windows to step through: the bars of each, what the model is given of them, and when it knew."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.overview.colours import SCALE
from btc_datamodule.overview.window import NEVER, Known, Window
from btc_datamodule.report.facts import Facts, Sample
from btc_datamodule.report.html import Child, Html, element, table
from btc_datamodule.report.plots import Plot
from btc_datamodule.report.png import make_url, spread
from btc_datamodule.report.ticks import (
    Tick,
    list_numbers,
    list_times,
    write_count,
    write_length,
    write_number,
    write_time,
)

MOST_CANDLES = 240
"""A window of more bars is drawn as a band."""

MOST_COLUMNS = 360
MOST_ROWS = 48
"""Cells of x that are drawn."""

MOST_TARGETS = 12
"""Numbers of a target that are listed."""

SHADES = 40
WIDEST = 3.0
"""Scaled values of this size and beyond have the strongest colour."""

UNOBSERVED = "#8c8c8c"


def make_samples(facts: Facts) -> Html:
    """The section."""
    if not facts.samples:
        told = "No stage has a window to show."
        return element("section", element("h2", "Windows"), element("p", told), id="samples")
    options = [
        element("option", f"{each.label}, {write_time(each.window.origin_time)}", value=str(number))
        for number, each in enumerate(facts.samples)
    ]
    bar = element(
        "div",
        element("button", "← Previous", type="button", id="sample-back"),
        element("button", "Next →", type="button", id="sample-on"),
        element("select", options, id="sample-choice", aria_label="Window"),
        element("span", id="sample-count", class_="dim", aria_live="polite"),
        class_="bar js-only",
    )
    return element(
        "section",
        element("h2", "One window at a time"),
        element("p", _explain(facts), class_="dim"),
        bar,
        [_make_sample(facts, each, opened=not number) for number, each in enumerate(facts.samples)],
        id="samples",
    )


def _explain(facts: Facts) -> str:
    shape, settings = facts.stages.settings.shape, facts.stages.settings
    told = (
        f"{write_count(shape.lookback, 'input bar')}, of which the last is the origin; the "
        f"forecast is made at its close. x is scaled ({settings.scaling}), and 0 where not "
        "observed."
    )
    if not facts.has_transform:
        return told
    if all(each.window.is_transformed for each in facts.samples):
        return f"{told} x, observed and y are what `transform` makes of them."
    return f"{told} `transform` changes their shape: they are shown before it."


def _make_sample(facts: Facts, sample: Sample, *, opened: bool) -> Html:
    window, interval = sample.window, int(facts.stages.table.interval)
    origin = write_time(window.origin_time)
    close = write_time(window.origin_time + interval)
    return element(
        "details",
        element("summary", f"{sample.label} · origin {origin}, forecast made at {close} UTC"),
        _draw_bars(window, interval, facts),
        _draw_inputs(window, facts),
        element("div", _list_targets(window, facts), _list_known(window, interval), class_="cards"),
        class_="sample",
        open=opened,
    )


def _draw_bars(window: Window, interval: int, facts: Facts) -> Html:
    """The bars, those of the target and of the gap on a ground of their own."""
    shape, count = facts.stages.settings.shape, window.prices.shape[1]
    end = window.first + count * interval
    known = window.prices[np.isfinite(window.prices)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    more = (high - low) * 0.06 or abs(high) * 0.01
    label = f"Bars of the window whose origin is {write_time(window.origin_time)}"
    plot = Plot((window.first, end), (low - more, high + more), label)
    first_target = window.origin_time + (1 + shape.gap) * interval
    plot.add_boxes([(first_target, end)], f"tint {window.stage}")
    plot.add_upright(window.origin_time + interval, "dashed faint")
    times = np.arange(count) * float(interval) + (window.first + interval / 2)
    if count <= MOST_CANDLES:
        plot.add_candles(times, window.prices, interval)
    else:
        step = -(-count // MOST_CANDLES)
        edges = np.arange(0, count, step)
        lows = np.fmin.reduceat(window.prices[2], edges)
        highs = np.fmax.reduceat(window.prices[1], edges)
        plot.add_band(times[edges], lows, highs, "price")
    return plot.render(
        list_times((window.first, end)),
        list_numbers(low - more, high + more),
        class_="mid names",
        y_title=facts.market.price,
        over=element("span", "target", class_=f"mark {window.stage}"),
    )


def _draw_inputs(window: Window, facts: Facts) -> Html:
    """Draw x as a heat map: a row for each feature, a column for each input bar."""
    names = facts.stages.table.features[:MOST_ROWS]
    cells = shade_inputs(window)[: len(names), :]
    lookback, count = window.x.shape[0], len(names)
    bars = max(lookback, window.prices.shape[1])
    palette = [*spread([each.light for each in SCALE], SHADES), UNOBSERVED]
    plot = Plot((0, bars), (count, 0), "x, a row for each feature and a column for each bar")
    plot.add_image(make_url(cells, palette), (0, lookback))
    ends = [Tick(0.5, f"{write_count(lookback - 1, 'bar')} before"), Tick(lookback - 0.5, "origin")]
    rows = [Tick(number + 0.5, name) for number, name in enumerate(names)]
    shades = [palette[0], palette[SHADES // 2], palette[SHADES - 1], UNOBSERVED]
    words = (f"-{WIDEST:g} or less", "0", f"{WIDEST:g} or more", "not observed")
    legend = [
        element("span", element("i", style=f"background:{shade}"), word)
        for shade, word in zip(shades, words, strict=True)
    ]
    more = len(facts.stages.table.features) - count
    height = max(60, min(24 * count, 620))
    return element(
        "div",
        element("div", element("span", "x as the model is given it:"), legend, class_="legend"),
        element(
            "div",
            plot.render(
                ends if lookback > 1 else ends[1:], rows, class_="names nogrid", y_title="feature"
            ),
            style=f"--rows:{height}px",
            class_="inputs",
        ),
        element("p", f"And {write_count(more, 'feature')} more.", class_="dim")
        if more > 0
        else None,
    )


def shade_inputs(window: Window) -> NDArray[np.uint8]:
    """(F, columns) numbers of colours, of x as it is scaled; of long windows some columns."""
    x, observed = window.x.astype(np.float64), window.observed
    if len(x) > MOST_COLUMNS:
        places = np.linspace(0, len(x) - 1, MOST_COLUMNS).round().astype(np.int64)
        x, observed = x[places], observed[places]
    place = np.clip((np.nan_to_num(x) + WIDEST) / (2 * WIDEST), 0, 1) * (SHADES - 1)
    return np.where(observed, np.round(place), SHADES).astype(np.uint8).T


def _list_targets(window: Window, facts: Facts) -> Html:
    names = facts.labels.classes
    given, truth = np.ravel(window.y), np.ravel(window.truth)
    first = 0 if facts.stages.settings.n_classes else -1

    def tell(value: float) -> str:
        if not np.isfinite(value):
            return "not known"
        place = int(value) - first
        if names and 0 <= place < len(names):
            return names[place]
        return write_number(value, 5)

    rows: Sequence[Sequence[Child]] = [
        (str(number), write_number(float(y), 5), tell(float(true)))
        for number, (y, true) in enumerate(zip(given, truth, strict=False))
    ][:MOST_TARGETS]
    more = len(given) - len(rows)
    return element(
        "article",
        element("h3", "y"),
        table(["", "as given", "in its unit"], rows),
        element("p", f"And {write_count(more, 'number')} more.", class_="dim")
        if more > 0
        else None,
        class_="card",
    )


def _list_known(window: Window, interval: int) -> Html | None:
    if not window.known:
        return None
    places = dict.fromkeys((0, len(window.known[0].time) - 1))
    words = {0: "first input bar", len(window.known[0].time) - 1: "origin"}
    rows = [
        [each.name, words[place], *_tell_known(each, place)]
        for each in window.known
        for place in places
    ]
    head = ["covariate", "at the close of the", "newest row is of", "known since", "age"]
    ages = [_draw_ages(each, interval) for each in window.known]
    return element(
        "article",
        element("h3", "Covariates: when each value became known"),
        table(head, rows),
        element("div", ages, class_="ages"),
        class_="card wide",
    )


def _tell_known(known: Known, place: int) -> list[str]:
    if known.time[place] == NEVER:
        return ["nothing", "-", "-"]
    times = [write_time(int(each[place])) for each in (known.time, known.known_at)]
    return [*times, write_length(float(known.age[place])) if known.age[place] else "0"]


def _draw_ages(known: Known, interval: int) -> Html:
    """How old the newest value was at the close of each input bar."""
    ages = known.age / 3600
    top = float(np.nanmax(ages)) if np.isfinite(ages).any() else 1.0
    plot = Plot((0, len(ages)), (0, (top or 1) * 1.1), f"Age of {known.name} at each input bar")
    plot.add_steps(np.arange(len(ages) + 1.0), np.nan_to_num(ages), "s0")
    ends = [Tick(0.5, "first input bar"), Tick(len(ages) - 0.5, "origin")]
    return element(
        "div",
        element("div", f"age of {known.name}, hours", class_="dim"),
        plot.render(ends, list_numbers(0, top or 1, 2), class_="small"),
    )
