"""Execute the notebooks in docs/notebooks and renew what is stored in them: `make notebooks`.

Each runs in an empty folder, with `examples/` where a notebook finds it in the repository. What is
stored is what a page can show: streams as a terminal leaves them, bars as text and not as widgets,
paths from the folder of the notebook on, no versions. Outputs that say what they said before stay
as they are, so that a renewal changes only what has changed.
"""

import argparse
import base64
import os
import re
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "docs" / "notebooks"
BEFORE = """
import sys, warnings
sys.modules["ipywidgets"] = None  # bars of widgets would be stored as nothing that a page can show
warnings.filterwarnings("ignore", "IProgress not found")
from btc_datamodule import progress
progress.DELAY = 3600.0  # whether a step is shown would depend on the machine
"""
"""What runs before a notebook."""

COLOURS = 32
"""Of a picture that is stored."""

UP = "\x1b[A"
SPEED = re.compile(r"\[\d+:\d+.*?(?=, \w+=|\])")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def main() -> int:
    """Renew all notebooks, or those that are named."""
    parser = argparse.ArgumentParser(description="Execute notebooks and store their outputs.")
    parser.add_argument("names", nargs="*", help="without a suffix; all by default")
    names = parser.parse_args().names or sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    import nbformat

    for name in names:
        path = NOTEBOOKS / f"{name}.ipynb"
        old, new = nbformat.read(path, as_version=4), execute(path)
        for was, cell in zip(old.cells, new.cells, strict=True):
            if cell.cell_type == "code" and list_texts(was.outputs) == list_texts(cell.outputs):
                cell.outputs = was.outputs
        nbformat.write(new, path)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")
    return 0


def execute(path: Path) -> Any:
    """A notebook of version 4 with new outputs; the file stays as it is.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell raises.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(BEFORE))
    with TemporaryDirectory() as folder:
        here = Path(folder).resolve() / "docs" / "notebooks"
        here.mkdir(parents=True)
        (here.parents[1] / "examples").symlink_to(ROOT / "examples")
        paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        client = NotebookClient(
            notebook,
            kernel_name="python3",
            timeout=300,
            startup_timeout=300,
            resources={"metadata": {"path": here}},
        )
        client.execute(env={**os.environ, "PYTHONPATH": paths})
        del notebook.cells[0]
        for count, cell in enumerate(list_code(notebook), start=1):
            cell.execution_count, cell.metadata = count, {}
            cell.outputs = join_streams(cell.outputs)
            for output in cell.outputs:
                output.pop("execution_count", None)
                if output.output_type == "execute_result":
                    output.execution_count = count
                if output.output_type == "stream":
                    output.text = finish_text(output.text).replace(f"{here}{os.sep}", "")
                elif "image/png" in output.get("data", {}):
                    output.data["image/png"] = shrink_picture(output.data["image/png"])
    notebook.metadata = nbformat.from_dict(METADATA)
    return notebook


def list_code(notebook: Any) -> Iterator[Any]:
    """The cells of code, in order."""
    return (cell for cell in notebook.cells if cell.cell_type == "code")


def join_streams(outputs: list[Any]) -> list[Any]:
    """Outputs with those of a stream joined to one, where its first one stood."""
    joined: list[Any] = []
    streams: dict[str, Any] = {}
    for output in outputs:
        if output.output_type != "stream":
            joined.append(output)
        elif output.name in streams:
            streams[output.name].text += output.text
        else:
            streams[output.name] = output
            joined.append(output)
    return joined


def finish_text(text: str) -> str:
    """What a terminal shows in the end: lines written over, as progress is, are gone."""
    lines, row = [""], 0
    for part in re.split(r"(\n|\r|\x1b\[A)", text):
        if part == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif part == UP:
            row -= 1
        elif part and part != "\r":
            lines[row] = part
    return "\n".join(line.rstrip() for line in lines).rstrip("\n") + "\n"


def shrink_picture(encoded: str) -> str:
    """A PNG in base64 with few colours, which takes a third of the bytes."""
    from PIL import Image

    file = BytesIO()
    picture = Image.open(BytesIO(base64.b64decode(encoded))).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(file, format="PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def list_texts(outputs: list[Any]) -> list[dict[str, str]]:
    """What outputs say, picture for picture and text for text, but for how fast it went."""
    found = []
    for output in outputs:
        texts = {"stream": output.get("text", "")} | dict(output.get("data", {}))
        said = {kind: SPEED.sub("[", text) for kind, text in texts.items() if kind != "image/png"}
        found.append(said | {"picture": str("image/png" in texts)})
    return found


if __name__ == "__main__":
    sys.exit(main())
