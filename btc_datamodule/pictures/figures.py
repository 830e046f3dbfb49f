"""What all pictures share: figures and axes, dates and prices along them, words that fit.

A picture is drawn into the axes or the figure that it is given. Where it is given none it makes a
figure, by pyplot if that is in use, so that ``plt.show()`` knows it; but not where a notebook shows
figures inline, which would show it twice: there, and wherever nobody has imported pyplot, it is a
figure by itself, which a notebook shows as the value of a cell. Nothing global is changed.

Colours are those for a dark ground where the axes are dark.
"""

import sys
from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import dates as untyped_dates
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure, SubFigure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, Locator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from btc_datamodule.candles.timeline import Span
from btc_datamodule.checks import name_type
from btc_datamodule.errors import ConfigError
from btc_datamodule.escaping import shorten
from btc_datamodule.overview.colours import Colour
from btc_datamodule.overview.spans import widen_spans

dates: Any = untyped_dates

DAY = 86_400

HAIRLINE = 1.0
"""Points by which a span is drawn wider, so that the shortest one can be seen in any size."""

MOST_SPANS = 2000
"""That are drawn by themselves: of more, those that touch at this many steps are joined."""

DOLLARS = ("USD", "USDT", "USDC", "BUSD", "TUSD", "FDUSD")

MARGINS = ("left", "right", "bottom", "top", "wspace", "hspace")

TITLE: dict[str, Any] = {"loc": "left", "fontsize": "medium", "parse_math": False}

DIGITS = 10
"""Of a price, at most: a mark of an axis is round, but for the error of its floats."""

SMALL_PRICE = 1e-4
"""Below which a price is written with a power of ten."""

WIDE_RANGE = 4.0
"""Times the lowest price, from which on prices are shown on a scale of logarithms."""


Numbers = NDArray[np.float64]
Area = Figure | SubFigure


class Picture(Figure):
    """A figure that belongs to no window, which a notebook shows as the value of a cell."""

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


def make_figure(width: float, height: float) -> Figure:
    """A new figure of so many inches; see the module for who shows it."""
    pyplot: Any = sys.modules.get("matplotlib.pyplot")
    if pyplot is None or "inline" in str(mpl.get_backend()).lower():
        figure = Picture(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        return figure
    made: Figure = pyplot.figure(figsize=(width, height), layout="constrained")
    return made


def choose_axes(ax: Axes | None, width: float, height: float) -> tuple[Figure, Axes]:
    """The axes that are given and their figure, or new ones."""
    if ax is None:
        figure = make_figure(width, height)
        return figure, figure.add_subplot()
    if not isinstance(ax, Axes) or ax.name != "rectilinear":
        kind = f"{ax.name} axes" if isinstance(ax, Axes) else name_type(ax)
        raise ConfigError(f"ax is of type {kind}: give plain axes, such as plt.subplots()[1]")
    figure = find_root(ax.figure)
    lay_out(figure)
    return figure, ax


def choose_figure(fig: Area | None, width: float, height: float) -> Area:
    """The figure that is given, or a part of one; or a new one."""
    if fig is None:
        return make_figure(width, height)
    if not isinstance(fig, Figure | SubFigure):
        raise ConfigError(
            f"fig is of type {name_type(fig)}: give a figure, such as plt.figure(), or a subfigure"
        )
    lay_out(find_root(fig))
    return fig


def find_root(figure: Any) -> Figure:
    """The figure that a part of one lies in."""
    while not isinstance(figure, Figure):
        figure = figure.figure
    return figure


def get_size(figure: Area) -> tuple[float, float]:
    """Inches of the width and the height of a figure, or of a part of one."""
    return figure.bbox.width / figure.dpi, figure.bbox.height / figure.dpi


def lay_out(figure: Figure) -> None:
    """Let a figure make room for its words, unless its owner has laid it out."""
    settings: Any = mpl.rcParams
    usual = [settings[f"figure.subplot.{name}"] for name in MARGINS]
    margins = [getattr(figure.subplotpars, name) for name in MARGINS]
    if figure.get_layout_engine() is None and margins == usual:
        figure.set_layout_engine("constrained")


def pick(colour: Colour, axes: Axes) -> str:
    """The value of a colour for the ground of some axes."""
    red, green, blue = to_rgb(axes.get_facecolor())
    return colour.dark if 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else colour.light


def to_days(seconds: Any) -> Numbers:
    """Epoch seconds as matplotlib counts dates."""
    start: float = dates.date2num(np.datetime64("1970-01-01"))
    found: Numbers = np.asarray(seconds, dtype=np.float64) / DAY + start
    return found


def show_dates(axes: Axes, span: Span) -> None:
    """Let the axis of x be time in UTC, from the start of a span to its end."""
    axes.xaxis_date(tz="UTC")
    locator = dates.AutoDateLocator(tz="UTC", minticks=3, maxticks=max(3, int(measure(axes) / 0.9)))
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator, tz="UTC"))
    low, high = to_days(span).tolist()
    axes.set_xlim(low, high)
    axes.set_xlabel("time (UTC)")


def draw_spans(
    axes: Axes,
    spans: Iterable[Span],
    within: Span,
    level: tuple[float, float],
    *,
    in_axes: bool = True,
    **style: Any,
) -> None:
    """Draw spans of time as boxes that can be seen however short they are.

    Args:
        axes: with time as x.
        spans: in order.
        within: the whole of the time that is shown.
        level: bottom and height of the boxes.
        in_axes: whether these are shares of the axes, and not values of y.
        style: of the boxes; ``facecolor`` and so on.
    """
    spans = list(spans)
    least = (within[1] - within[0]) / MOST_SPANS if len(spans) > MOST_SPANS else 0.0
    boxes = [
        (float(low), float(high - low)) for low, high in map(to_days, widen_spans(spans, least))
    ]
    transform = axes.get_xaxis_transform() if in_axes else axes.transData
    colour = style.get("facecolor", "none")
    style = {"linewidth": HAIRLINE, "edgecolor": colour, "transform": transform} | style
    axes.broken_barh(boxes, level, **style)


class PriceLocator(Locator):
    """Round prices on a scale of logarithms: 1, 2 and 5 times a power of ten, or all in between."""

    def __init__(self, most: int = 7) -> None:
        self.most = most

    def __call__(self) -> Sequence[float]:
        """Ticks of what the axis shows."""
        return self.tick_values(*sorted(self.axis.get_view_interval()))  # type: ignore[union-attr]

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        """Ticks from one price to another."""
        if not 0 < vmin < vmax:
            return []
        low, high = np.log10([vmin, vmax])
        powers: Numbers = 10.0 ** np.arange(np.floor(low), np.ceil(high) + 1)
        for steps in ((1, 1.5, 2, 3, 4, 5, 7), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
            ticks = np.outer(powers, steps).ravel()
            ticks = ticks[(ticks >= vmin) & (ticks <= vmax)]
            if len(ticks) <= self.most:
                break
        if len(ticks) >= 3 or vmax / vmin > WIDE_RANGE:
            return list(ticks[:: max(1, -(-len(ticks) // self.most))].tolist())
        even = MaxNLocator(self.most - 2, steps=[1, 2, 2.5, 5, 10]).tick_values(vmin, vmax)
        return [float(each) for each in even if vmin <= each <= vmax]


def show_prices(axes: Axes, low: float, high: float, quote: str, label: str) -> None:
    """Let the axis of y be prices, with ticks as people write them, such as $10,000.

    Args:
        axes: whose.
        low: lowest price that is shown.
        high: highest.
        quote: the currency; "" if nobody says.
        label: of the axis.
    """
    if high > WIDE_RANGE * low > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(PriceLocator(max(3, int(measure(axes, tall=True) / 0.4))))
        axes.yaxis.set_minor_locator(NullLocator())
    sign = "$" if quote in DOLLARS else ""
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: write_price(value, sign)))
    axes.set_ylabel(label, parse_math=False)


def write_price(value: float, sign: str = "$") -> str:
    """``$10,000``, ``$1,250.5``, ``$0.06``, ``$7e-9``: a round price with all of its digits."""
    if 0 < abs(value) < SMALL_PRICE:
        factor, _, power = f"{value:.{DIGITS - 1}e}".partition("e")
        return f"{sign}{factor.rstrip('0').rstrip('.')}e{int(power)}"
    text = f"{float(f'{value:.{DIGITS}g}'):,.{DIGITS}f}"
    return sign + text.rstrip("0").rstrip(".")


def set_title(axes: Axes, text: str) -> None:
    """Write a title over some axes, at their left edge, on as many lines as it needs."""
    fit_text(axes.set_title(text, **TITLE), measure(axes))


def write_name(name: str, longest: int = 40) -> str:
    """A name of others as the label of a line: short, and shown though it begins with "_"."""
    short = shorten(name, longest)
    return f" {short}" if short.startswith("_") else short


def fit_text(text: Text, inches: float) -> None:
    """Break a text into lines of at most so many inches, at its blanks."""
    lines: list[str] = []
    for word in text.get_text().split(" "):
        longer = f"{lines[-1]} {word}" if lines else word
        text.set_text(longer)
        if lines and _measure_text(text) <= inches:
            lines[-1] = longer
        else:
            lines.append(word)
    text.set_text("\n".join(lines))


def place_legend(axes: Axes, handles: Sequence[Artist]) -> None:
    """Put a legend over some axes, between them and their title, in as few rows as fit."""
    if not handles:
        return
    style: dict[str, Any] = {"frameon": False, "fontsize": "small", "borderpad": 0.2}
    style |= {"borderaxespad": 0.2, "handlelength": 1.4, "columnspacing": 1.2}
    for columns in range(len(handles), 0, -1):
        legend = axes.legend(
            handles=list(handles),
            loc="lower left",
            bbox_to_anchor=(0, 1.0),
            ncols=columns,
            **style,
        )
        forgo_math(legend)
        extent = legend.get_window_extent()
        if extent.width / axes.figure.dpi <= measure(axes):
            break
    title = axes.get_title(loc="left")
    if title:  # over the legend
        points = 72 * extent.height / axes.figure.dpi
        axes.set_title(title, pad=points + 4, **TITLE)


def forgo_math(legend: Legend) -> None:
    """Take the words of a legend as they are: a "$" in a name is no formula."""
    for text in legend.get_texts():
        text.set_parse_math(False)


def measure(axes: Axes, *, tall: bool = False) -> float:
    """Inches of the width of some axes, about, before they are laid out; or of their height."""
    box = axes.get_position()
    width, height = get_size(axes.figure)
    return float(height * box.height if tall else width * box.width)


def _measure_text(text: Text) -> float:
    """Inches of the width of a text."""
    figure = text.get_figure()
    assert figure is not None
    return float(text.get_window_extent().width / figure.dpi)
