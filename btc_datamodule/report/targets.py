"""The targets: how often each class in each stage, how wide the values, and the extremes."""

import numpy as np

from btc_datamodule.overview.labels import Labels, Targets
from btc_datamodule.report.facts import Facts
from btc_datamodule.report.features import make_stage_legend
from btc_datamodule.report.html import Html, element, table
from btc_datamodule.report.plots import Plot
from btc_datamodule.report.ticks import (
    list_numbers,
    write_count,
    write_number,
    write_share,
    write_time,
)


def make_targets(facts: Facts) -> Html:
    """The section."""
    labels, shape = facts.labels, facts.stages.settings.shape
    bars = f"{write_count(shape.horizon, 'bar')} ahead"
    gap = f" after a gap of {write_count(shape.gap, 'bar')}" if shape.gap else ""
    every = max((each.every for each in labels.stages), default=1)
    return element(
        "section",
        element("h2", "Targets"),
        element(
            "p", element("code", repr(labels.target)), f", {bars}{gap}; as they are before scaling."
        ),
        make_stage_legend([each.stage for each in labels.stages]),
        _make_classes(labels) if labels.classes else _make_values(labels),
        element("p", f"Of train one window in {every:,} is counted.", class_="dim")
        if every > 1
        else None,
        id="targets",
    )


def _make_classes(labels: Labels) -> Html:
    head = ["class", *(each.stage for each in labels.stages)]
    rows = [
        [name, *(f"{write_share(each.share[k])} ({each.counts[k]:,})" for each in labels.stages)]
        for k, name in enumerate(labels.classes)
    ]
    return element("div", _draw_classes(labels), table(head, rows))


def _draw_classes(labels: Labels) -> Html:
    """Shares of the classes, the stages beside each other."""
    from btc_datamodule.report.ticks import Tick

    count = max(1, len(labels.stages))
    top = max((float(each.share.max()) for each in labels.stages), default=1.0) or 1.0
    plot = Plot((0, len(labels.classes)), (0, top * 1.05), "Share of each class, by stage")
    for number, each in enumerate(labels.stages):
        for k, share in enumerate(each.share.tolist()):
            left = k + 0.15 + 0.7 * number / count
            box = [(left, left + 0.7 / count * 0.92)]
            plot.add_boxes(box, each.stage, y=(0, share / (top * 1.05)))
    ticks = [Tick(k + 0.5, name) for k, name in enumerate(labels.classes)]
    marks = [Tick(t.at, write_share(t.at)) for t in list_numbers(0, top, 4)]
    return plot.render(ticks, marks, class_="mid words-below", y_title="share of windows")


def _make_values(labels: Labels) -> Html:
    head = ["stage", "windows", "mean", "deviation", "values below the picture", "above it"]
    rows = [
        [
            each.stage,
            f"{each.windows:,}",
            write_number(each.mean, 3),
            write_number(each.deviation, 3),
            f"{each.below:,}",
            f"{each.above:,}",
        ]
        for each in labels.stages
    ]
    extremes = [
        [write_number(each.value), each.stage, f"{write_time(each.origin_time)} UTC"]
        for each in sorted(labels.extremes, key=lambda each: (-each.value, each.origin_time))
    ]
    return element(
        "div",
        _draw_values(labels),
        table(head, rows),
        element(
            "details",
            element("summary", "The largest and the smallest, by stage"),
            table(["value", "stage", "origin"], extremes),
        ),
    )


def _draw_values(labels: Labels) -> Html:
    low, high = float(labels.edges[0]), float(labels.edges[-1])
    densities = [(each, _measure_density(each, labels.edges)) for each in labels.stages]
    top = max((float(density.max()) for _, density in densities), default=0.0)
    plot = Plot((low, high), (0, top * 1.05 or 1), "Distribution of the targets, by stage")
    for each, density in densities:
        plot.add_steps(labels.edges, density, each.stage)
    return plot.render(list_numbers(low, high, 6), class_="mid bare", x_title="target")


def _measure_density(targets: Targets, edges: np.ndarray) -> np.ndarray:
    return targets.share / np.diff(edges)
