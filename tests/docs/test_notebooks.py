"""The notebooks run, say what is stored in them, and stay small."""

import json
import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
sys.path.append(str(DOCS))

from renew_notebooks import METADATA, execute, finish_text, list_code, list_texts  # noqa: E402

NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]\d+)?")
REAL = "freqtrade/BTC_USDT-30m_2020-2025.feather"


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def split_numbers(outputs: list[dict[str, str]]) -> tuple[str, list[float]]:
    """The words of outputs, and their numbers, which another processor rounds otherwise."""
    text = json.dumps(outputs, ensure_ascii=False, sort_keys=True)
    numbers = [float(each) for each in NUMBER.findall(text)]
    return re.sub(r"[\s─]+", " ", NUMBER.sub("#", text)), numbers


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_says_what_is_stored_in_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("nbclient", "ipykernel"):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install {module}")
    import nbformat

    real = (Path(os.environ.get("BTC_DATAMODULE_REAL_DATA", "")) / REAL).is_file()
    if path.stem != "honest_rerun":
        monkeypatch.delenv("BTC_DATAMODULE_REAL_DATA", raising=False)
    stored, run = nbformat.read(path, as_version=4), execute(path)
    if path.stem == "honest_rerun" and not real:
        assert "SIMULATED" in str(list_texts(run.cells[3].outputs))
        return  # what is stored is of real candles
    for was, now in zip(list_code(stored), list_code(run), strict=True):
        words, numbers = split_numbers(list_texts(was.outputs))
        says, counts = split_numbers(list_texts(now.outputs))
        assert says == words, was.source
        assert counts == pytest.approx(numbers, rel=0.02, abs=0.002), was.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_stored_is_small_and_of_no_machine(path: Path) -> None:
    notebook = read(path)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(code) <= 15
    assert path.stat().st_size <= 100_000
    assert notebook["metadata"] == METADATA
    for number, cell in enumerate(code, start=1):
        assert (cell["execution_count"], cell["metadata"]) == (number, {})
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "execute_result"}
    said = json.dumps([[{**output.get("data", {}), "image/png": ""}, output.get("text")]
                       for output in outputs])  # fmt: skip
    assert not re.search(r"/(?:home|tmp|work|root|Users)/|\\u001b|\\r|widget", said)


def test_a_published_table_is_stored_with_its_digits() -> None:
    stored = (DOCS / "notebooks" / "honest_rerun.ipynb").read_text(encoding="utf-8")
    for figure in ("260.50", "396.97", "0.5373", "+53.5 %"):
        row = rf"│ [\w (),]+ ┆ {re.escape(figure)} +┆ {re.escape(figure)} +│"
        assert re.search(row, stored), figure


def test_a_stream_is_stored_as_a_terminal_leaves_it() -> None:
    fit = "\rEpoch 0:  50%\rEpoch 0: 100%\n\rval:  0%\x1b[A\n\rval: 100%\x1b[A\n\r         \x1b[A"
    assert finish_text(f"{fit}\rEpoch 0: 100%, loss 2\n") == "Epoch 0: 100%, loss 2\n"
    assert finish_text("a\n\nb\n") == "a\n\nb\n"


def test_how_fast_it_went_is_no_difference() -> None:
    bars = [
        {"output_type": "stream", "name": "stdout", "text": f"100%|###| 62/62 [{speed}, loss=2.0]"}
        for speed in ("00:05<00:00, 11.26it/s", "01:02<00:00,  1.02s/it")
    ]
    assert list_texts(bars[:1]) == list_texts(bars[1:])
    other = bars[0] | {"text": bars[0]["text"].replace("2.0", "2.1")}
    assert list_texts([other]) != list_texts(bars[:1])
