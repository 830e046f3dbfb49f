"""Pictures of cells, read back by another library."""

import base64
import io

import numpy as np
from PIL import Image

from btc_datamodule.report.png import encode_png, make_url, mix, spread


def test_each_cell_is_a_pixel_of_its_colour() -> None:
    cells = np.array([[0, 1, 2], [2, 1, 0]], dtype=np.uint8)
    made = encode_png(cells, ["#ff0000", "#00ff0080", "#0000ff00"])
    picture = np.asarray(Image.open(io.BytesIO(made)).convert("RGBA"))
    assert picture.shape == (2, 3, 4)
    assert picture[0].tolist() == [[255, 0, 0, 255], [0, 255, 0, 128], [0, 0, 255, 0]]
    assert picture[1].tolist() == picture[0][::-1].tolist()


def test_an_address_holds_the_picture() -> None:
    cells = np.zeros((1, 1), dtype=np.uint8)
    head, _, content = make_url(cells, ["#123456"]).partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(content) == encode_png(cells, ["#123456"])


def test_colours_are_mixed_by_equal_steps() -> None:
    assert mix("#000000", "#ff8000", 0.5) == "#804000"
    assert spread(["#000000", "#ffffff"], 3) == ["#000000", "#808080", "#ffffff"]
    assert spread(["#000000", "#ff0000", "#ffffff"], 5)[2] == "#ff0000"
