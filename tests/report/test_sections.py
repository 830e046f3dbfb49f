"""Sections that are small: holes, targets, folds, audit and provenance."""

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from btc_datamodule import BTCDataModule, CombinatorialPurged, Direction, Simulator
from btc_datamodule.report.calendar import make_holes
from btc_datamodule.report.facts import Facts, gather_facts
from btc_datamodule.report.features import MOST_CARDS, choose_cards, make_features
from btc_datamodule.report.folds import make_folds, make_windows
from btc_datamodule.report.foot import make_audit, make_provenance
from btc_datamodule.report.targets import make_targets
from tests.factories import make_datamodule


def test_the_calendar_has_a_pixel_for_each_hour_and_marks_those_without_bars(
    facts: Facts,
) -> None:
    made = make_holes(facts)
    (content,) = re.findall(r"data:image/png;base64,([^\"]*)", made)
    picture = Image.open(io.BytesIO(base64.b64decode(content)))
    assert picture.size == facts.holes.share.shape
    cells = np.asarray(picture)
    np.testing.assert_array_equal(cells == 0, facts.holes.share.T == 0)
    np.testing.assert_array_equal(cells == 20, facts.holes.share.T == 1)
    table = facts.stages.table
    assert f"{table.rows - table.present:,} of {table.rows:,} bars" in made
    assert made.count("<li>") == len(table.holes)


def test_a_history_without_holes_is_said_to_have_none(tmp_path: Path) -> None:
    source = Simulator(seed=3, outages_per_year=0, no_trade=0)
    found = gather_facts(make_datamodule(tmp_path, source=source).stages)
    assert "No hole: all 744 bars" in make_holes(found)


def test_classes_have_bars_and_shares(tmp_path: Path) -> None:
    dm = make_datamodule(tmp_path, target=Direction(classes=True))
    made = make_targets(gather_facts(dm.stages))
    y = dm.dataset("train")[:].y.numpy()
    assert f"% ({(y == 1).sum()})</td>" in made
    assert 'scope="row">not up</th>' in made
    assert made.count('class="box ') >= 6


def test_values_have_their_extremes_with_dates(facts: Facts) -> None:
    made = make_targets(facts)
    assert made.count(" UTC</td>") == len(facts.labels.extremes) == 18


def test_every_feature_has_a_card_up_to_a_limit(facts: Facts) -> None:
    assert make_features(facts).count("<article") == 3
    many = replace(facts, features=facts.features * 20)
    made = make_features(many)
    assert made.count("<article") == MOST_CARDS
    assert f"And {60 - MOST_CARDS} more" in made


def test_of_too_many_features_the_worst_have_a_card(facts: Facts) -> None:
    plain = replace(facts.features[0], drift={"test": 0.0}, missing={"train": 0.0})
    named = [replace(plain, name=f"plain{number}") for number in range(60)]
    named += [replace(plain, name=f"far{drift}", drift={"test": drift}) for drift in (1.0, 3.0)]
    named += [replace(plain, name="gone", missing={"test": 1.0})]
    chosen = [each.name for each in choose_cards(replace(facts, features=tuple(named)))]
    assert chosen[:4] == ["gone", "far3.0", "far1.0", "plain0"]
    assert len(chosen) == MOST_CARDS
    few = tuple(named[-5:])
    assert choose_cards(replace(facts, features=few)) == [*few]


def test_holes_say_what_is_made_of_them(facts: Facts) -> None:
    made = make_holes(facts)
    assert "The first 3 bars of a hole are taken as time without trades" in made
    outages = f"{len(facts.outages)} outage{'s' * (len(facts.outages) != 1)}"
    assert f"of what comes after, {outages}, no price is known." in made
    one = make_holes(replace(facts, outages=facts.outages[:1]))
    assert "of what comes after, 1 outage, no price" in one


def test_the_map_marks_the_fold_in_use_and_tells_paths(tmp_path: Path, facts: Facts) -> None:
    made = make_folds(facts)
    assert "fold 1 ◂" in made
    assert "folds; ◂ marks the one in use, 1." in made
    dm = make_datamodule(tmp_path, split=CombinatorialPurged(4, 2, fold=3))
    made = make_folds(gather_facts(dm.stages))
    assert "Backtest paths: 3" in made
    assert made.count('scope="row"') == 3


def test_the_stages_are_counted_as_describe_does(facts: Facts) -> None:
    made = make_windows(facts)
    for row in facts.counts:
        assert f"<td>{row['eligible']:,}</td>" in made


def test_the_audit_is_shown_or_said_to_be_missing(facts: Facts) -> None:
    made = make_audit(facts)
    assert made.count("<li>") == 2
    assert ">holds</b>" in made
    assert ">not checked</b>" in made
    assert "was not run" in make_audit(replace(facts, audit=None))


def test_files_are_told_by_their_place_in_the_folder_and_their_digest(
    facts: Facts, dm: BTCDataModule
) -> None:
    made = make_provenance(facts)
    assert "simulator/BTC-SIM-1-out50/1h/candles.h5" in made
    assert dm.settings.read_candle_header().digest in made
    assert "day: 1d, at most 2d old" in made
    assert "5</td>" in made
