"""The search makes every file once, and its score knows how many were tried."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from btc_datamodule import Block, Simulator
from btc_datamodule.candles.timeline import Span


class Counted(Simulator):
    """Counts how often it is asked for candles."""

    asked = 0

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        type(self).asked += 1
        return super().blocks(interval, span)


def test_candles_are_asked_for_once_and_each_set_of_features_is_built_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna", reason="optuna is in the extra examples")
    pytest.importorskip("scipy", reason="scipy is in the extra score")
    from examples.search import search

    made: list[tuple[str, int]] = []
    make = search.make

    def note(*given: Any) -> Any:
        dm = make(*given)
        dm.prepare_data()
        made.extend((each.name, each.stat().st_mtime_ns) for each in tmp_path.rglob("features-*"))
        return dm

    monkeypatch.setattr(search, "make", note)
    study, card = search.search(Counted(), tmp_path, trials=5, epochs=1, batches=1)
    sets = {trial.params["features"] for trial in study.trials}
    settings = {(trial.params["features"], trial.params["lookback"]) for trial in study.trials}
    assert Counted.asked == 1
    assert 1 < len(sets) < len(settings) <= 5
    assert len(set(made)) == len(list(tmp_path.rglob("features-*.h5"))) == len(sets)
    assert card.measures["forecast"][0] == "forecast"
    assert ", 5 tried" in str(card)
