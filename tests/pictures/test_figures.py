"""Figures, ticks and words that all pictures share."""

import sys
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from btc_datamodule.errors import ConfigError
from btc_datamodule.overview.colours import PRICE
from btc_datamodule.overview.spans import widen_spans
from btc_datamodule.pictures import figures
from btc_datamodule.pictures.figures import (
    MOST_SPANS,
    Picture,
    PriceLocator,
    choose_axes,
    choose_figure,
    draw_spans,
    get_size,
    measure,
    pick,
    show_prices,
    to_days,
    write_price,
)
from tests.factories import HOUR
from tests.pictures.words import make_axes, make_figure


def test_a_figure_shows_once_wherever_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    alone, _ = choose_axes(None, 4, 3)
    assert isinstance(alone, Picture)
    assert alone._repr_png_().startswith(b"\x89PNG")
    assert "matplotlib.pyplot" not in sys.modules
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    known, _ = choose_axes(None, 4, 3)
    assert not isinstance(known, Picture)
    assert plt.figure(known.number) is known
    plt.close(known)
    monkeypatch.setattr(mpl, "get_backend", lambda: "module://matplotlib_inline.backend_inline")
    inline, _ = choose_axes(
        None, 4, 3
    )  # which shows all figures of pyplot, and the value of a cell
    assert isinstance(inline, Picture)
    assert plt.get_fignums() == before


def test_axes_that_are_given_are_drawn_into_whatever_they_lie_in() -> None:
    figure = Figure()
    parts: Any = figure.subfigures(1, 2)
    inner = parts[0].subplots()
    assert choose_axes(inner, 4, 3) == (figure, inner)


def test_what_is_no_plain_axes_and_no_figure_is_refused() -> None:
    figure = Figure()
    solid: Any = figure.add_subplot(projection="3d")
    for wrong in (figure, np.array([figure.add_subplot()]), solid, "ax"):
        with pytest.raises(ConfigError, match=r"ax is of type .*: give plain axes"):
            choose_axes(wrong, 4, 3)  # type: ignore[arg-type]
    others: tuple[Any, ...] = (solid, 3, "fig")
    for other in others:
        with pytest.raises(ConfigError, match=r"fig is of type .*: give a figure"):
            choose_figure(other, 4, 3)


def test_the_size_of_a_part_of_a_figure_is_its_own() -> None:
    figure = make_figure((12, 6))
    parts: Any = figure.subfigures(1, 3)
    assert choose_figure(parts[1], 4, 3) is parts[1]
    np.testing.assert_allclose(get_size(parts[1]), (4, 6))
    axes = parts[1].add_axes((0.25, 0.5, 0.5, 0.5))
    np.testing.assert_allclose((measure(axes), measure(axes, tall=True)), (2, 3))


def test_a_figure_makes_room_for_its_words_unless_its_owner_has_laid_it_out() -> None:
    plain, laid = Figure(), Figure()
    laid.subplots_adjust(left=0.3)
    for figure in (plain, laid):
        choose_axes(figure.add_subplot(), 4, 3)
    assert isinstance(plain.get_layout_engine(), ConstrainedLayoutEngine)
    assert laid.get_layout_engine() is None


@pytest.mark.parametrize(
    ("price", "text"),
    [
        (10_000, "$10,000"),
        (65_432.1, "$65,432.1"),
        (1250, "$1,250"),
        (1250.5, "$1,250.5"),
        (12.5, "$12.5"),
        (0.06, "$0.06"),
        (0.1 + 0.2, "$0.3"),
        (0.00012, "$0.00012"),
        (0.00002, "$2e-5"),
        (6.95e-9, "$6.95e-9"),
        (10e-9, "$1e-8"),
        (1.2e9, "$1,200,000,000"),
        (0.0, "$0"),
    ],
)
def test_prices_are_written_as_people_write_them(price: float, text: str) -> None:
    assert write_price(price) == text


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (3000, 70_000, [3000, 5000, 10_000, 20_000, 30_000, 50_000]),
        (0.05, 70_000, [0.1, 1, 10, 100, 1000, 10_000]),
        (9_600, 10_400, [9_600, 9_800, 10_000, 10_200, 10_400]),
        (0, 5, []),
    ],
)
def test_ticks_of_prices_are_round(low: float, high: float, ticks: list[float]) -> None:
    np.testing.assert_allclose(PriceLocator().tick_values(low, high), ticks)


@pytest.mark.parametrize("quote", ["USD", "EUR"])
def test_a_wide_range_of_prices_has_a_scale_of_logarithms(quote: str) -> None:
    axes = make_axes()
    axes.set_ylim(900, 80_000)
    show_prices(axes, 1000, 70_000, quote, "price")
    assert axes.get_yscale() == "log"
    axes.figure.canvas.draw()
    texts = [label.get_text() for label in axes.get_yticklabels()]
    assert ("$10,000" if quote == "USD" else "10,000") in texts
    narrow = make_axes()
    show_prices(narrow, 1000, 2000, quote, "price")
    assert narrow.get_yscale() == "linear"


def test_colours_suit_the_ground() -> None:
    axes = make_axes()
    assert pick(PRICE, axes) == PRICE.light
    axes.set_facecolor("black")
    assert pick(PRICE, axes) == PRICE.dark


def test_of_very_many_spans_neighbours_are_drawn_as_one() -> None:
    spans = [(n * HOUR, n * HOUR + 60) for n in range(3 * MOST_SPANS)]
    axes = make_figure().add_subplot()
    draw_spans(axes, spans, (0, 3 * MOST_SPANS * HOUR), (0, 1), facecolor="red")
    least = 3 * HOUR
    assert len(axes.collections[0].get_paths()) == len(widen_spans(spans, least))
    assert len(axes.collections[0].get_paths()) < MOST_SPANS


def test_dates_are_those_of_matplotlib() -> None:
    assert to_days(86_400 * 3) == pytest.approx(figures.dates.date2num(np.datetime64("1970-01-04")))
