"""What is written in a figure, and whether it can be read."""

from itertools import combinations
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

SIZES = [(6.0, 3.5), (12.0, 6.0)]

SLACK = 1.0
"""Pixels by which boxes of letters may touch."""


def make_figure(size: tuple[float, float] = SIZES[0]) -> Any:
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def make_axes(size: tuple[float, float] = SIZES[0]) -> Any:
    return make_figure(size).add_subplot()


def list_texts(figure: Any) -> list[Text]:
    """All words that are shown, once the figure is laid out."""
    figure.draw_without_rendering()
    parts = [figure, *figure.subfigs]
    found = [text for part in parts for text in part.texts]
    found += [part._suptitle for part in parts if part._suptitle not in (None, *part.texts)]
    found += [text for part in parts for each in part.legends for text in each.get_texts()]
    for axes in figure.axes:
        titles = [axes.title, axes._left_title, axes._right_title]
        found += [*titles, *axes.texts, axes.xaxis.label, axes.yaxis.label]
        if axes.get_legend():
            found += axes.get_legend().get_texts()
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            found.append(axis.get_offset_text())
            for tick in axis.get_major_ticks():
                inside = low <= tick.get_loc() <= high
                found += [label for label in (tick.label1, tick.label2) if inside]
    return [text for text in found if text.get_visible() and text.get_text()]


def assert_readable(figure: Any) -> None:
    """No words lie on others, or outside the figure."""
    boxes = [(text.get_text(), text.get_window_extent()) for text in list_texts(figure)]
    assert boxes
    for (one, a), (other, b) in combinations(boxes, 2):
        width = min(a.x1, b.x1) - max(a.x0, b.x0)
        height = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert min(width, height) <= SLACK, f"{one!r} lies on {other!r}"
    whole = figure.bbox
    for text, box in boxes:
        out = (whole.x0 - box.x0, box.x1 - whole.x1, whole.y0 - box.y0, box.y1 - whole.y1)
        assert max(out) <= SLACK, f"{text!r} is cut off"


def words_of(figure: Any) -> str:
    return "\n".join(text.get_text() for text in list_texts(figure))
