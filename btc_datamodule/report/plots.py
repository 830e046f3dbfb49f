"""Pictures as inline SVG that fits any width: lines are stretched, words are not.

A ``Plot`` is a box of ``WIDTH`` by ``HEIGHT`` units that is stretched to the page, with the words
of its axes as HTML around it. So a picture that fills a screen can be read on a phone.
Colours are classes, which the style sheet gives a colour in light and in dark.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.report.html import Child, Html, element
from btc_datamodule.report.ticks import Tick

WIDTH, HEIGHT = 1000.0, 300.0

SCREEN, PHONE = 62.0, 34.0
"""Letters beside each other, at least, that a picture has room for."""

LETTERS = 8
"""Of a mark beside a picture, that there is room for; for longer ones room is made."""

EDGE = 0.1
"""Share of the width within which a mark may stand to the right of where it is."""

Numbers = NDArray[np.float64]
Given = NDArray[np.floating]


@dataclass
class Plot:
    """A picture in the making.

    Attributes:
        x: ends of the horizontal axis.
        y: of the vertical one.
        label: what is seen, for who does not see it.
        log: whether the vertical axis is logarithmic.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    label: str
    log: bool = False
    parts: list[Html] = field(default_factory=list)

    def place_x(self, x: Given | float) -> Numbers:
        """Where on the box some x are."""
        low, high = self.x
        placed: Numbers = (np.asarray(x, dtype=np.float64) - low) / ((high - low) or 1) * WIDTH
        return placed

    def place_y(self, y: Given | float) -> Numbers:
        """Where on the box some y are, counted from above."""
        low, high = (np.log(each) if self.log else each for each in self.y)
        values = np.asarray(y, dtype=np.float64)
        values = np.log(values) if self.log else values
        placed: Numbers = HEIGHT - (values - low) / ((high - low) or 1) * HEIGHT
        return placed

    def add_line(self, x: Given, y: Given, class_: str) -> None:
        """A line through points; NaN breaks it."""
        self._add_path(_draw_line(self.place_x(x), self.place_y(y)), f"line {class_}")

    def add_steps(self, edges: Given, y: Given, class_: str) -> None:
        """A line that is level from each edge to the next: (n + 1,) edges and (n,) values."""
        x, y = np.repeat(edges, 2)[1:-1], np.repeat(y, 2)
        base = np.full(1, self.y[0])
        x, y = np.concatenate([x[:1], x, x[-1:]]), np.concatenate([base, y, base])
        self._add_path(_draw_line(self.place_x(x), self.place_y(y)), f"steps {class_}")

    def add_band(self, x: Given, low: Given, high: Given, class_: str) -> None:
        """The area between two lines over the same x; NaN leaves a gap."""
        x, low, high = self.place_x(x), self.place_y(low), self.place_y(high)
        known = np.isfinite(low) & np.isfinite(high)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(np.int8)))
        parts = [
            _draw_line(
                np.concatenate([x[a:b], x[a:b][::-1]]), np.concatenate([high[a:b], low[a:b][::-1]])
            )
            + "z"
            for a, b in edges.reshape(-1, 2).tolist()
        ]
        self._add_path("".join(parts), f"band {class_}")

    def add_boxes(
        self, spans: Iterable[tuple[float, float]], class_: str, y: tuple[float, float] = (0, 1)
    ) -> None:
        """Boxes over spans of x.

        Args:
            spans: of x.
            class_: of all.
            y: from which share of the height to which, from below.
        """
        top, bottom = HEIGHT * (1 - y[1]), HEIGHT * (1 - y[0])
        low, high = self.x
        parts = []
        for start, end in spans:
            a, b = self.place_x(np.array([max(start, low), min(end, high)])).tolist()
            if b > a or low <= start <= high:
                b = max(b, a + 0.5)
                parts.append(
                    f"M{_write(a)} {_write(top)}H{_write(b)}V{_write(bottom)}H{_write(a)}z"
                )
        self._add_path("".join(parts), f"box {class_}")

    def add_candles(self, x: Given, prices: Given, width: float) -> None:
        """Bars of open, high, low and close.

        Args:
            x: (n,) of their middles.
            prices: (4, n).
            width: of a bar, in the unit of x.
        """
        known = np.isfinite(prices).all(axis=0)
        at, half = self.place_x(x), (self.place_x(width) - self.place_x(0.0)) * 0.35
        opened, high, low, close = self.place_y(prices)
        for class_, chosen in (
            ("up", known & (prices[3] >= prices[0])),
            ("down", known & (prices[3] < prices[0])),
        ):
            wicks, bodies = [], []
            for i in np.flatnonzero(chosen).tolist():
                middle = _write(at[i])
                wicks.append(f"M{middle} {_write(high[i])}V{_write(low[i])}")
                top, bottom = sorted((opened[i], close[i]))
                left, right = _write(at[i] - half), _write(at[i] + half)
                bodies.append(
                    f"M{left} {_write(top)}H{right}V{_write(max(bottom, top + 1))}H{left}z"
                )
            self._add_path("".join(wicks), f"wick {class_}")
            self._add_path("".join(bodies), f"body {class_}")

    def add_hatch(self, name: str, *, rising: bool) -> None:
        """Make hatching, by which boxes of the class ``hatched`` and this name are filled."""
        d = "M-1 7L7 -1" if rising else "M-1 -1L7 7"
        pattern = element(
            "pattern",
            element("path", d=d, class_=f"line {name}"),
            id=f"hatch-{name}",
            width="6",
            height="6",
            patternUnits="userSpaceOnUse",
        )
        self.parts.append(element("defs", pattern))

    def add_image(self, url: str, x: tuple[float, float] | None = None) -> None:
        """A picture that fills the box from one x to another, or all of it."""
        left, right = self.place_x(np.array(self.x if x is None else x)).tolist()
        self.parts.append(
            element(
                "image",
                href=url,
                x=_write(left),
                width=_write(right - left),
                height=f"{HEIGHT:g}",
                preserveAspectRatio="none",
            )
        )

    def add_upright(self, x: float, class_: str) -> None:
        """A vertical line."""
        at = _write(float(self.place_x(x)))
        self._add_path(f"M{at} 0V{HEIGHT:g}", f"line {class_}")

    def render(
        self,
        x_ticks: Sequence[Tick] = (),
        y_ticks: Sequence[Tick] = (),
        *,
        class_: str = "",
        x_title: str = "",
        y_title: str = "",
        over: Child = None,
    ) -> Html:
        """The picture with its axes.

        Args:
            x_ticks: marks of the horizontal axis.
            y_ticks: of the vertical one.
            class_: of the whole.
            x_title: what is on the horizontal axis, with its unit.
            y_title: on the vertical one.
            over: what lies over the picture.
        """
        at = [(float(self.place_x(tick.at)) / WIDTH, tick.text) for tick in x_ticks]
        at = [each for each in at if -0.001 <= each[0] <= 1.001]
        up = [(float(self.place_y(tick.at)) / HEIGHT, tick.text) for tick in y_ticks]
        up = [each for each in up if -0.001 <= each[0] <= 1.001]
        longest = (
            0 if {"names", "bare"} & {*class_.split()} else max((len(t) for _, t in up), default=0)
        )
        grid = "".join(f"M0 {_write(HEIGHT * y)}H{WIDTH:g}" for y, _ in up)
        drawing = element(
            "svg",
            element("path", d=grid, class_="grid") if grid else None,
            self.parts,
            viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
            preserveAspectRatio="none",
            role="img",
            aria_label=self.label,
        )
        return element(
            "div",
            element("div", y_title, class_="y-title") if y_title else None,
            element(
                "div",
                [_place_y_tick(*each) for each in up],
                class_="y-ticks",
                style=f"min-width:{0.6 * longest + 0.8:.1f}em" if longest > LETTERS else None,
            ),
            element("div", drawing, over, class_="area"),
            element(
                "div",
                _place_x_ticks(at),
                class_="x-ticks",
            ),
            element("div", x_title, class_="x-title") if x_title else None,
            class_=f"plot {class_}".strip(),
        )

    def _add_path(self, d: str, class_: str) -> None:
        if d:
            self.parts.append(element("path", d=d, class_=class_))


def _place_x_ticks(ticks: Sequence[tuple[float, str]]) -> list[Html]:
    """Marks of a horizontal axis: those that fit on a screen, and how they stand on a phone."""
    wide, narrow = _fit(ticks, SCREEN), _fit(ticks, PHONE)
    return [
        element(
            "span",
            text,
            style=f"left:{100 * at:.2f}%",
            class_=f"tick {wide[number]} phone-{narrow.get(number, 'none')}",
        )
        for number, (at, text) in enumerate(ticks)
        if number in wide
    ]


def _fit(ticks: Sequence[tuple[float, str]], room: float) -> dict[int, str]:
    """Which marks fit beside each other, from the last on, and to which side of it each stands.

    Args:
        ticks: shares of the width, rising, and words.
        room: the width, in letters.
    """
    found: dict[int, str] = {}
    free = room
    for number in reversed(range(len(ticks))):
        at, text = ticks[number]
        left = at * room - len(text) / 2
        side = "begin" if left < 0 else "end" if left + len(text) > room else "middle"
        left = {"begin": at * room, "end": at * room - len(text)}.get(side, left)
        if left + len(text) <= free and (side != "begin" or at < EDGE):
            found[number] = side
            free = left - 1
    return found


def _place_y_tick(at: float, text: str) -> Html:
    return element("span", text, style=f"top:{100 * at:.2f}%", class_="tick")


def _draw_line(x: Numbers, y: Numbers) -> str:
    """The steps of a path through points; one that is not known breaks the line."""
    known, parts, before = np.isfinite(x) & np.isfinite(y), [], False
    for a, b, there in zip(x.tolist(), y.tolist(), known.tolist(), strict=True):
        if there:
            parts.append(f"{'L' if before else 'M'}{_write(a)} {_write(b)}")
        before = there
    return "".join(parts)


def _write(value: float) -> str:
    """A place on the box, to a tenth of a unit."""
    text = f"{value:.1f}"
    return text.removesuffix(".0")
