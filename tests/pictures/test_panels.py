"""Panels of one figure."""

import pytest
from matplotlib.lines import Line2D

from btc_datamodule.pictures.panels import (
    count_panels,
    fit_titles,
    head_figure,
    make_panels,
    place_legend_below,
)
from tests.pictures.words import assert_readable, make_figure


@pytest.mark.parametrize(
    ("size", "panels"), [((6, 3.5), (2, 2)), ((12, 6), (4, 4)), ((1, 1), (1, 1))]
)
def test_a_figure_has_as_many_panels_as_it_has_room_for(
    size: tuple[float, float], panels: tuple[int, int]
) -> None:
    assert count_panels(make_figure(size), 2.9, 1.3) == panels


def test_panels_stand_row_by_row_and_may_share_their_axes() -> None:
    alone = make_panels(make_figure(), 3, 2)
    places = [axes.get_subplotspec() for axes in alone]
    assert [(p.rowspan.start, p.colspan.start) for p in places if p] == [(0, 0), (0, 1), (1, 0)]
    alone[0].set_xlim(0, 5)
    assert alone[1].get_xlim() == (0, 1)
    same = make_panels(make_figure(), 3, 2, same=True)
    same[2].set_xlim(0, 5)
    assert same[1].get_xlim() == (0, 5)
    ticks = [axes.xaxis.get_major_ticks() for axes in same]
    labelled = [any(tick.label1.get_visible() for tick in each) for each in ticks]
    assert labelled == [False, True, True]


def test_long_words_take_more_lines() -> None:
    figure = make_figure()
    panels = make_panels(figure, 3, 3)
    for axes in panels:
        axes.set_title("a long title of a narrow panel " * 2)
    head_figure(figure, "a title over all of the panels of a figure " * 3)
    names = [f"a line with a long name, number {number}" for number in range(7)]
    place_legend_below(figure, [Line2D([], [], label=name) for name in names])
    fit_titles(figure, panels)
    assert_readable(figure)
