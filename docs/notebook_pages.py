"""A notebook as a page of Markdown, with the outputs that are stored in it; nothing is executed."""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
PICTURES = {"image/png": "png", "image/svg+xml": "svg"}
WIDGET = "application/vnd.jupyter.widget-view+json"


def render_notebook(path: Path, page: Path) -> str:
    """The Markdown of a notebook; the pictures in it are written beside the page.

    Args:
        path: the notebook, in version 4 of the format.
        page: where the page will lie: pictures are its name, a number and their ending.
    """
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts: list[str] = []
    pictures = 0
    for cell in cells:
        source = "".join(cell["source"]).strip("\n")
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif cell["cell_type"] == "code" and source:
            parts.append(fence(source, "python"))
            for output in cell["outputs"]:
                kind = next((kind for kind in PICTURES if kind in output.get("data", {})), None)
                if kind is None:
                    parts.extend(render_text(output))
                    continue
                file = page.with_name(f"{page.stem}_{pictures}.{PICTURES[kind]}")
                file.write_bytes(read_picture(output["data"][kind], kind))
                parts.append(f"![What the cell above draws]({file.name})")
                pictures += 1
    return "\n\n".join(parts) + "\n"


def read_picture(data: Any, kind: str) -> bytes:
    """The bytes of a picture, as a file has them."""
    text = "".join(data)
    return base64.b64decode(text) if kind == "image/png" else text.encode()


def render_text(output: dict[str, Any]) -> Iterator[str]:
    """What a cell printed, its value, or its error; a live widget leaves nothing."""
    data = output.get("data", {})
    if "text/html" in data and WIDGET not in data:
        lines = "".join(data["text/html"]).splitlines()
        # A blank line would end the block of HTML.
        yield "\n".join(['<div class="output">', *filter(str.strip, lines), "</div>"])
        return
    if output["output_type"] == "stream":
        text = "".join(output["text"])
    elif output["output_type"] == "error":
        text = "\n".join(output["traceback"])
    else:
        text = "" if WIDGET in data else "".join(data.get("text/plain", ""))
    if shown := "\n".join(finish_line(line) for line in text.split("\n")).strip("\n"):
        yield fence(shown, "text")


def finish_line(line: str) -> str:
    """A line as a terminal leaves it: what was written over, as progress is, and colours gone."""
    return ESCAPES.sub("", line.rstrip("\r").rsplit("\r", maxsplit=1)[-1]).rstrip()


def fence(text: str, language: str) -> str:
    """A block of code that no fence within it ends."""
    ticks = "`" * max(3, *(len(each) + 1 for each in re.findall("`{3,}", text)), 0)
    return f"{ticks}{language}\n{text}\n{ticks}"
