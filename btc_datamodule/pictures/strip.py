"""The strip of a notebook: whose time it is, as a line of inline SVG, without matplotlib."""

from html import escape

from btc_datamodule.candles.timeline import Span, format_span
from btc_datamodule.escaping import escape_lines
from btc_datamodule.overview.colours import EMBARGO, OUTAGE, PURGE, STAGE_COLOURS, Colour
from btc_datamodule.overview.market import title_of
from btc_datamodule.overview.spans import list_outages, list_ribbons, widen_spans
from btc_datamodule.stages import Stages

WIDTH, HEIGHT, FOOT = 1000, 26, 7
"""Units of the drawing; it is as wide as there is room for."""

GROUND = Colour("#88888833", "#88888833")
"""Of time that is no stage's, on a page of any colour."""

LEAST = 2
"""Units that the shortest span takes."""

MOST = 800
"""Outages that are drawn; of more neighbours are joined."""


def write_html(text: str, stages: Stages | None) -> str:
    """What a notebook shows of a datamodule.

    Args:
        text: its ``repr``.
        stages: what it has after ``setup``; None before.
    """
    told = f"<pre>{escape(escape_lines(text))}</pre>"
    return told if stages is None else f"<div>{draw_strip(stages)}{told}</div>"


def draw_strip(stages: Stages) -> str:
    """The stages of a fold, what is left out of them, and outages at the foot, as inline SVG."""
    table = stages.table
    whole = table.span
    boxes = [_draw_box(whole, whole, (0, HEIGHT - FOOT), GROUND, "in no stage")]
    for ribbon in list_ribbons(stages):
        colour = {"purge": PURGE, "embargo": EMBARGO}.get(ribbon.kind, STAGE_COLOURS[ribbon.stage])
        name = ribbon.stage if ribbon.kind == "stage" else f"{ribbon.kind} of {ribbon.stage}"
        told = f"{name}: {format_span(ribbon.span)}"
        boxes.append(_draw_box(ribbon.span, whole, (0, HEIGHT - FOOT), colour, told))
    outages = list_outages(table)
    least = (whole[1] - whole[0]) / (WIDTH if len(outages) <= MOST else MOST)
    for low, high in widen_spans(outages, least):
        boxes.append(_draw_box((low, high), whole, (HEIGHT - FOOT + 1, FOOT - 1), OUTAGE, "outage"))
    title = escape(title_of(stages.settings, whole))
    legend = ", ".join(
        f'<span style="color:{STAGE_COLOURS[stage].light}">&#9632;</span> {stage}'
        for stage in dict.fromkeys(each.stage for each in list_ribbons(stages))
    )
    if outages:
        many = "outage" if len(outages) == 1 else f"{len(outages):,} outages"
        legend += f', <span style="color:{OUTAGE.light}">&#9632;</span> {many}'
    return (
        f"<div>{title}<br>{legend}</div>"
        f'<svg role="img" aria-label="{title}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'preserveAspectRatio="none" style="width:100%;height:{HEIGHT}px">{"".join(boxes)}</svg>'
    )


def _draw_box(
    span: tuple[float, float], whole: Span, level: tuple[int, int], colour: Colour, told: str
) -> str:
    scale = WIDTH / (whole[1] - whole[0])
    left, width = (span[0] - whole[0]) * scale, max((span[1] - span[0]) * scale, LEAST)
    return (
        f'<rect x="{min(left, WIDTH - width):.1f}" y="{level[0]}" width="{width:.1f}" '
        f'height="{level[1]}" fill="{colour.light}"><title>{escape(told)}</title></rect>'
    )
