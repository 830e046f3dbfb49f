"""A notebook as a page of Markdown, with the outputs that are stored in it; nothing is executed."""

import base64
import json
import re
from pathlib import Path
from typing import Any

ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
WIDGET = "application/vnd.jupyter.widget-view+json"


def render_notebook(path: Path) -> str:
    """The Markdown of a notebook in version 4 of the format; pictures are in the page itself."""
    parts: list[str] = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"]).strip("\n")
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif cell["cell_type"] == "code" and source:
            parts.append(fence(source, "python"))
            parts += filter(None, map(render_output, cell["outputs"]))
    return "\n\n".join(parts) + "\n"


def render_output(output: dict[str, Any]) -> str:
    """What a cell drew, printed or gave, or its error; a live widget leaves nothing."""
    data = {kind: "".join(text) for kind, text in output.get("data", {}).items()}
    if WIDGET in data:
        return ""
    if "image/png" in data:
        return draw("image/png", data["image/png"].replace("\n", ""))
    if "image/svg+xml" in data:
        return draw("image/svg+xml", base64.b64encode(data["image/svg+xml"].encode()).decode())
    if "text/html" in data:
        lines = filter(str.strip, data["text/html"].split("\n"))  # a blank one would end the block
        return "\n".join(['<div class="output">', *lines, "</div>"])
    if output["output_type"] == "error":
        text = "\n".join(output["traceback"])
    else:
        text = data.get("text/plain", "".join(output.get("text", "")))
    shown = "\n".join(finish_line(line) for line in text.split("\n")).strip("\n")
    return fence(shown, "text") if shown else ""


def draw(kind: str, encoded: str) -> str:
    """A picture within the page."""
    picture = f'<img alt="What the cell above draws" src="data:{kind};base64,{encoded}">'
    return f'<div class="output">{picture}</div>'


def finish_line(line: str) -> str:
    """A line as a terminal leaves it: what was written over, as progress is, and colours gone."""
    return ESCAPES.sub("", line.rstrip("\r").rsplit("\r", maxsplit=1)[-1]).rstrip()


def fence(text: str, language: str) -> str:
    """A block of code that no fence within it ends."""
    ticks = "`" * max(3, *(len(each) + 1 for each in re.findall("`{3,}", text)), 0)
    return f"{ticks}{language}\n{text}\n{ticks}"
