"""What a notebook shows of a datamodule."""

import re
from dataclasses import replace
from xml.etree import ElementTree

from btc_datamodule import BTCDataModule, CandleFile
from btc_datamodule.overview.spans import list_outages, list_ribbons
from btc_datamodule.pictures.strip import HEIGHT, WIDTH, draw_strip
from tests.pictures.conftest import Make


def test_before_setup_it_is_the_text() -> None:
    dm = BTCDataModule(source=CandleFile("x.csv"), features=["up = 0 < close"])
    shown = dm._repr_html_()
    assert shown.startswith("<pre>")
    assert "0 &lt; close" in shown


def test_the_strip_has_a_box_for_each_span_and_outage(make: Make) -> None:
    dm = make("once")
    shown = dm._repr_html_()
    (svg,) = re.findall("<svg.*</svg>", shown)
    boxes = [box.attrib for box in ElementTree.fromstring(svg)]
    assert len(boxes) == 1 + len(list_ribbons(dm.stages)) + len(list_outages(dm.table))
    for box in boxes:
        left, top, width, height = (float(box[name]) for name in ("x", "y", "width", "height"))
        assert width >= 1.5
        assert 0 <= left <= left + width <= WIDTH + 0.1
        assert 0 <= top <= top + height <= HEIGHT
    assert "train: 2021-03-01T00:00:00Z to " in svg
    assert "BTC simulated (seed 1), 1 h bars" in shown
    assert "windows" in shown


def test_names_of_others_are_escaped(make: Make) -> None:
    stages = make("once").stages
    source = CandleFile("x.csv", symbol='"><script>alert(1)</script>')
    shown = draw_strip(replace(stages, settings=replace(stages.settings, source=source)))
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
