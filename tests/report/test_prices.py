"""What the chart is given: prices that can be read back, and no more bytes than there is room."""

import base64
import json
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.report.facts import Facts
from btc_datamodule.report.prices import NONE, STEPS, _list_marks, make_prices


def read(html: str) -> Any:
    """The data of the chart in a section."""
    (text,) = re.findall(r'<script type="application/json" id="prices-data">(.*?)</script>', html)
    return json.loads(text)


def unpack(text: str, ends: list[float]) -> NDArray[np.float64]:
    """Prices as the page reads them."""
    numbers = np.frombuffer(base64.b64decode(text), "<u2").astype(np.float64)
    prices = np.exp(ends[0] + numbers / STEPS * (ends[1] - ends[0]))
    return np.where(numbers == NONE, np.nan, prices)


def test_all_bars_of_a_short_history_are_in_the_page(facts: Facts) -> None:
    data, table = read(make_prices(facts, 600_000)), facts.stages.table
    (piece,) = data["pieces"]
    assert (piece["first"], piece["seconds"]) == (table.first, 3600)
    prices = unpack(piece["prices"], piece["range"]).reshape(4, -1)
    for number, name in enumerate(("open", "high", "low", "close")):
        np.testing.assert_allclose(prices[number], table.bars(name), rtol=2e-5)
    low = unpack(data["low"], data["range"])
    np.testing.assert_allclose(low, table.bars("low"), rtol=2e-5)


def test_where_there_is_no_room_for_all_bars_the_places_are_there(facts: Facts) -> None:
    html = make_prices(facts, 20_000)
    data = read(html)
    assert len(data["pieces"]) > 1
    spans = [(each["first"], each["first"] + 720 * 3600) for each in data["pieces"]]
    assert data["places"] == sorted(data["places"])
    assert all(any(low <= at <= high for low, high in spans) for at in data["places"])
    assert "to single bars" in html


def test_the_stages_and_outages_are_as_they_are(facts: Facts) -> None:
    html = make_prices(facts, 100_000)
    data = read(html)
    kinds = {(kind, stage) for kind, stage, _, _ in data["ribbons"]}
    assert {("stage", "train"), ("stage", "test"), ("purge", "train")} <= kinds
    assert data["outages"] == [list(map(int, each)) for each in facts.outages]
    assert html.count("<option") == len(data["places"]) + 1
    for what in ("test begins", "the last bars", "outage of"):
        assert what in html


def test_places_to_go_to_are_bars(facts: Facts) -> None:
    first, interval = facts.stages.table.first, int(facts.stages.table.interval)
    marks = _list_marks(facts)
    assert {"along the way", "the last bars"} <= {label for label, _ in marks}
    assert {(at - first) % interval for _, at in marks} == {0}
