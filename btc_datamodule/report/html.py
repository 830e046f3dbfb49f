"""HTML as values: text is escaped where it enters, and only what is made here counts as markup.

``element`` is the one way to make markup of text. A plain ``str`` among its children or attributes
came from outside, or may have: names, paths, texts of features. It is escaped, as a terminal would
be spared its control characters (``escaping``) and as HTML is its brackets.
"""

import base64
import html
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.escaping import escape_lines

VOID = frozenset({"br", "hr", "img", "input", "meta", "path", "rect", "line", "image", "circle"})
"""Elements that have no content, and are written without an end."""


class Html(str):
    """Markup: a text that is not escaped again."""

    __slots__ = ()


Child = Html | str | int | None | Iterable["Child"]


def escape_text(text: str) -> Html:
    """Text of anybody as markup that shows it."""
    return Html(html.escape(escape_lines(text), quote=True))


def prose(text: str) -> Html:
    """A sentence of ours, in which `code` stands between backticks."""
    parts = text.split("`")
    return join([element("code", part) if n % 2 else part for n, part in enumerate(parts)])


def join(children: Child) -> Html:
    """Markup of children that follow each other; None is nothing."""
    if children is None:
        return Html()
    if isinstance(children, Html):
        return children
    if isinstance(children, str | int):
        return escape_text(str(children))
    return Html("".join(map(join, children)))


def element(name: str, /, *children: Child, **attributes: str | float | bool | None) -> Html:
    """An element.

    Args:
        name: of it.
        children: its content.
        attributes: by name; an underscore at the end is left out, others are hyphens. True stands
            for an attribute without a value, False and None for none.
    """
    told = "".join(
        f" {key.rstrip('_').replace('_', '-')}"
        + ("" if value is True else f'="{escape_text(_write(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in VOID:
        return Html(f"<{name}{told}/>")
    return Html(f"<{name}{told}>{join(children)}</{name}>")


def table(
    head: Sequence[Child], rows: Iterable[Sequence[Child]], *, class_: str = "", caption: str = ""
) -> Html:
    """A table that can be scrolled by itself; its first column is a heading of each row."""
    cells = [
        element("tr", element("th", row[0], scope="row"), [element("td", each) for each in row[1:]])
        for row in rows
    ]
    return element(
        "div",
        element(
            "table",
            element("caption", caption) if caption else None,
            element("thead", element("tr", [element("th", each, scope="col") for each in head])),
            element("tbody", cells),
            class_=class_ or None,
        ),
        class_="scroll",
        tabindex=0,
    )


def dump_json(value: Any) -> Html:
    """A value as JSON that may stand in a script element: nothing in it can end that."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), sort_keys=True)
    return Html(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def pack(numbers: NDArray[Any], dtype: str) -> str:
    """Numbers as base64 of their bytes, little-endian."""
    return base64.b64encode(np.ascontiguousarray(numbers, dtype=dtype).tobytes()).decode("ascii")


def _write(value: str | float) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
